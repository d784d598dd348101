"""Users over real HTTP, one or many at once, and checks that nothing they do leaves the database inconsistent."""

import os
import secrets
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from functools import partial
from threading import Barrier
from urllib.parse import parse_qs, urlsplit

from django.db import connection

import standin
from tests.tools import processes

PASSWORD = "correct horse"


class RemoteUser:
    """A user with a browser of their own. Calls go to the shop's first process unless `shop` is given."""

    def __init__(self, shops, qq, person=None):
        self.shops, self.qq = shops, qq
        self.person = person or new_person()
        self.visitor = processes.Visitor()

    def start(self):
        """Press the QQ button; return the address of the redirect."""
        return self.visitor.get(f"{self.shops[0].url}/oauth/qq/login/?next=/cart").headers["Location"]

    def sign_in(self):
        """Press the QQ button and sign in at QQ; return the address QQ redirects to."""
        return self.qq.sign_in(self.start(), self.person)

    def come_back(self, address):
        """Follow QQ's redirect; return the parameters of the shop's page."""
        answer = self.visitor.get(address)
        assert answer.status == 302
        return read_page(answer.headers["Location"])

    def arrive(self):
        """Log in up to the shop's page; return its code."""
        return self.come_back(self.sign_in())["code"]

    def redeem_code(self, code, shop=0, **headers):
        return self.visitor.get(f"{self.shops[shop].url}/oauth/qq/users/?code={code}", **headers)

    def get_login(self):
        """Log in; return what the page gets."""
        return self.redeem_code(self.arrive()).json()

    def get_bind_token(self):
        return self.get_login()["access_token"]

    def receive_sms_code(self, mobile):
        return self.shops[0].receive_sms_code(self.visitor, mobile)

    def fill_in(self, mobile, bind_token=None):
        """Return a complete bind form, with an SMS code just received."""
        form = {"mobile": mobile, "password": PASSWORD, "access_token": bind_token or self.get_bind_token()}
        return form | {"sms_code": self.receive_sms_code(mobile)}

    def bind(self, form, shop=0, **headers):
        return self.visitor.post(f"{self.shops[shop].url}/oauth/qq/users/", form, **headers)


def read_page(address):
    """Return the parameters of the shop's callback page at this address."""
    page = urlsplit(address)
    assert page.path == "/oauth_callback.html"
    return {name: values[0] for name, values in parse_qs(page.query).items()}


def new_person():
    return f"小明 {secrets.token_hex(8)}"


def new_mobile():
    return f"13{secrets.randbelow(10**9):09}"


def at_once(*calls):
    """Make the calls at the same moment, each in a thread; return their results."""
    barrier = Barrier(len(calls))
    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(lambda call: (barrier.wait(60), call())[1], calls))


def each_at_once(call, *values):
    """Make the call with each group of values, all at the same moment; return the results."""
    return at_once(*(partial(call, *group) for group in zip(*values, strict=True)))


def a_few_at_a_time(calls):
    """Make many calls that need not be at the same moment; return their results."""
    with ThreadPoolExecutor(4) as pool:
        return list(pool.map(lambda call: call(), calls))


def status_and_code(answer):
    """Return the status and, for an error, its code."""
    return answer.status, answer.json().get("code")


def tally(answers):
    return Counter(map(status_and_code, answers))


@contextmanager
def shop_and_qq(var, **options):
    """Serve a shop and a stand-in for QQ that belong together."""
    listener = processes.listen()
    with (
        standin.running(callbacks=[processes.callback_of(listener)]) as qq,
        processes.shop(var, qq, listener=listener, **options) as shop,
    ):
        yield shop, qq


# Rows that no race and no crash may leave behind.
INCONSISTENCIES = {
    "a binding without its user": "SELECT openid FROM tb_oauth_qq WHERE user_id NOT IN (SELECT id FROM tb_users)",
    "an openid bound twice": "SELECT UPPER(openid) FROM tb_oauth_qq GROUP BY 1 HAVING COUNT(*) > 1",
    "a user created by a bind, without a binding": (
        "SELECT username FROM tb_users WHERE username LIKE 'user\\_%' AND id NOT IN (SELECT user_id FROM tb_oauth_qq)"
    ),
    "a user without a mobile or a password": (
        "SELECT username FROM tb_users WHERE COALESCE(mobile, '') = '' OR password NOT LIKE '%$%$%'"
    ),
    "a mobile with two users": "SELECT mobile FROM tb_users GROUP BY 1 HAVING COUNT(*) > 1",
}


def find_inconsistencies(database_url):
    """Return the rows that must not exist, by what is wrong with them."""
    found = {name: query_database(database_url, query) for name, query in INCONSISTENCIES.items()}
    return {name: rows for name, rows in found.items() if rows}


def database_of_the_tests():
    """Return the DATABASE_URL of pytest-django's database, for a shop that shares it."""
    server = os.environ["DATABASE_URL"].rpartition("/")[0]
    return f"{server}/{connection.settings_dict['NAME']}"


def connect_database(database_url):
    """Return a new connection of the driver's."""
    import MySQLdb  # only installed where MariaDB is

    url = urlsplit(database_url)
    account = {"user": url.username, "password": url.password, "database": url.path[1:]}
    return MySQLdb.connect(host=url.hostname, port=url.port, **account)


def query_database(database_url, query, *values):
    """Return the rows as a new connection sees them; a row of one column is its value."""
    with closing(connect_database(database_url)) as own, own.cursor() as cursor:
        cursor.execute(query, values or None)
        return [row[0] if len(row) == 1 else row for row in cursor.fetchall()]

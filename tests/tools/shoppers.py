"""Shoppers with browsers of their own, over real HTTP, alone or many at once; and what they must never leave behind."""

import os
import secrets
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from threading import Barrier
from urllib.parse import parse_qs, urlsplit

from django.db import connection

import standin
from tests.tools import processes

PASSWORD = "correct horse"


class Shopper:
    """A person with a browser of their own, who goes to the shop's first process unless told otherwise."""

    def __init__(self, shops, qq, person=None):
        self.shops = shops
        self.qq = qq
        self.person = person or new_person()
        self.visitor = processes.Visitor()

    def start(self):
        """Press the button; return the address it leads to, at QQ if all is well."""
        return self.visitor.get(f"{self.shops[0].url}/oauth/qq/login/?next=/cart").headers["Location"]

    def sign_in(self):
        """Press the button and sign in at QQ; return the address QQ sends the browser to."""
        return self.qq.sign_in(self.start(), self.person)

    def come_back(self, address):
        """Follow QQ's redirect; return the parameters the page gets."""
        answer = self.visitor.get(address)
        assert answer.status == 302
        return read_page(answer.headers["Location"])

    def arrive(self):
        return self.come_back(self.sign_in())["code"]

    def collect(self, code, shop=0, **headers):
        return self.visitor.get(f"{self.shops[shop].url}/oauth/qq/users/?code={code}", **headers)

    def get_bind_token(self):
        return self.collect(self.arrive()).json()["access_token"]

    def receive_sms_code(self, mobile):
        return self.shops[0].receive_sms_code(self.visitor, mobile)

    def fill_in(self, mobile, **changes):
        """Return the whole form of somebody new, ready to be sent once."""
        form = {"mobile": mobile, "password": PASSWORD, "access_token": self.get_bind_token()}
        return {**form, "sms_code": self.receive_sms_code(mobile), **changes}

    def bind(self, form, shop=0, **headers):
        return self.visitor.post(f"{self.shops[shop].url}/oauth/qq/users/", form, **headers)


def read_page(address):
    """Return the parameters of the shop's page at this address."""
    page = urlsplit(address)
    assert page.path == "/oauth_callback.html"
    return {name: values[0] for name, values in parse_qs(page.query).items()}


def new_person():
    return f"小明 {secrets.token_hex(8)}"


def new_mobile():
    return f"13{secrets.randbelow(10**9):09}"


def at_once(*calls):
    """Make the calls at the same moment, each in a thread; return what they return."""
    barrier = Barrier(len(calls))

    def wait_and_call(call):
        barrier.wait(60)
        return call()

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(wait_and_call, calls))


def a_few_at_a_time(calls):
    """Make many calls that need not be at the same moment; return what they return."""
    with ThreadPoolExecutor(4) as pool:
        return list(pool.map(lambda call: call(), calls))


def told(answer):
    """What matters of an answer: its status, and the code of an error."""
    return answer.status, answer.json().get("code")


def tally(answers):
    return Counter(map(told, answers))


@contextmanager
def shop_and_qq(var, **options):
    """Serve a shop of its own and the QQ it believes in."""
    listener = processes.listen()
    with (
        standin.running(callbacks=[processes.callback_of(listener)]) as qq,
        processes.shop(var, qq, listener=listener, **options) as shop,
    ):
        yield shop, qq


# What no race and no crash may leave in the database.
WRONGS = {
    "a binding without its user": "SELECT openid FROM tb_oauth_qq WHERE user_id NOT IN (SELECT id FROM tb_users)",
    "an openid bound twice": "SELECT UPPER(openid) FROM tb_oauth_qq GROUP BY 1 HAVING COUNT(*) > 1",
    "a user made by a bind that has no binding": (
        "SELECT username FROM tb_users WHERE username LIKE 'user\\_%' AND id NOT IN (SELECT user_id FROM tb_oauth_qq)"
    ),
    "a user without a mobile or a password": (
        "SELECT username FROM tb_users WHERE COALESCE(mobile, '') = '' OR password NOT LIKE '%$%$%'"
    ),
    "a mobile with two users": "SELECT mobile FROM tb_users GROUP BY 1 HAVING COUNT(*) > 1",
}


def find_wrongs(database_url):
    """Return whatever must not be in the database, by the name of what is wrong with it."""
    wrongs = {name: ask_database(database_url, question) for name, question in WRONGS.items()}
    return {name: rows for name, rows in wrongs.items() if rows}


def database_of_the_tests():
    """Return the DATABASE_URL of the database that pytest-django has made, for a shop that shall share it."""
    server = os.environ["DATABASE_URL"].rpartition("/")[0]
    return f"{server}/{connection.settings_dict['NAME']}"


def ask_database(database_url, question, *values):
    """Return the rows as everybody but an open transaction sees them."""
    with closing(connect(database_url)) as own_connection, own_connection.cursor() as cursor:
        cursor.execute(question, values or None)
        return [row[0] if len(row) == 1 else row for row in cursor.fetchall()]


def connect(database_url):
    import MySQLdb  # compiled, and only where MariaDB is

    url = urlsplit(database_url)
    return MySQLdb.connect(
        host=url.hostname, port=url.port, user=url.username, password=url.password, database=url.path[1:]
    )

"""Two processes of one shop, each at its own node of a database cluster, and what users do at both at once."""

import hashlib
import os
import secrets
import subprocess
import sys
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial

from tests.e2e.stops import BINDING_WRITTEN, UNBOUND, Stop
from tests.tools import processes
from tests.tools.remote_users import (
    PASSWORD,
    RemoteUser,
    at_once,
    each_at_once,
    find_inconsistencies,
    new_mobile,
    new_person,
    read_page,
    shop_and_qq,
    status_and_code,
)

SETTINGS = "tests.cluster.nodes_settings"


@dataclass
class Pair:
    """`shops[0]` is at `nodes[0]`, `shops[1]` at `nodes[1]`."""

    shops: tuple
    nodes: tuple
    qq: object

    def new_user(self):
        return SignedIn(self.shops, self.qq)

    def find_inconsistencies(self):
        return find_inconsistencies(self.nodes[1].url)


@contextmanager
def pair(folder, nodes):
    """Run a shop at each of these two nodes; they share a Redis and a stand-in for QQ."""
    with ExitStack() as stack:
        environ = {
            "CACHE_URL": stack.enter_context(processes.redis(folder)),
            "DJANGO_SETTINGS_MODULE": SETTINGS,
        }
        first, qq = stack.enter_context(shop_and_qq(folder, **environ, DATABASE_URL=nodes[0].url))
        environ["QQ_REDIRECT_URI"] = f"{first.url}/oauth/qq/callback/"
        environ["QQ_CALLBACK_PAGE"] = f"{first.url}/oauth_callback.html"
        second = stack.enter_context(processes.shop(folder, qq, **environ, DATABASE_URL=nodes[1].url))
        yield Pair((first, second), nodes, qq)


class SignedIn(RemoteUser):
    """A user who may sign in with a password, and then add and remove QQs."""

    def create_account(self, node):
        """Create an account at a node. It is not known by an SMS, so that its number may get one now."""
        self.mobile, salt = new_mobile(), secrets.token_hex(4)
        digest = hashlib.md5(f"{salt}{PASSWORD}".encode()).hexdigest()
        node.query(
            "INSERT INTO tb_users (username, mobile, password, is_superuser, first_name, last_name, email, is_staff,"
            " is_active, date_joined, email_active, token_generation)"
            " VALUES (%s, %s, %s, 0, '', '', '', 0, 1, NOW(), 0, 0)",
            f"buyer{self.mobile}", self.mobile, f"md5${salt}${digest}",
        )  # fmt: skip
        ((self.id,),) = node.query("SELECT id FROM tb_users WHERE mobile = %s", self.mobile)

    def log_in(self):
        form = {"username": self.mobile, "password": PASSWORD}
        self.token = self.visitor.post(f"{self.shops[0].url}/authorizations/", form).json()["token"]

    @property
    def headers(self):
        return {"Authorization": f"JWT {self.token}"}

    def read_account(self, shop=0):
        return self.visitor.get(f"{self.shops[shop].url}/user/", **self.headers)

    def prove_qq(self):
        """Log in at QQ to add it; return the bind token."""
        url = self.shops[0].url
        query = "?next=/account&purpose=bind"
        start = self.visitor.get(f"{url}/oauth/qq/authorization/{query}").json()["login_url"]
        callback = self.qq.sign_in(self.visitor.get(start).headers["Location"], self.person)
        code = read_page(self.visitor.get(callback).headers["Location"])["code"]
        return self.redeem_code(code, **self.headers).json()["access_token"]

    def link(self, bind_token, shop=0):
        return self.visitor.post(
            f"{self.shops[shop].url}/oauth/qq/bindings/", {"access_token": bind_token}, **self.headers
        )

    def unlink(self, binding_id, shop=0):
        return self.visitor.delete(f"{self.shops[shop].url}/oauth/qq/bindings/{binding_id}/", {}, **self.headers)

    def reset_password(self, sms_code, shop=0):
        form = {"mobile": self.mobile, "password": "another horse", "sms_code": sms_code}
        return self.visitor.post(f"{self.shops[shop].url}/password/", form)

    def count_bindings(self, node):
        ((number,),) = node.query("SELECT COUNT(*) FROM tb_oauth_qq WHERE user_id = %s", self.id)
        return number


def send_one_form_to_both(pair):
    """Send a new user's form to both shops at the same moment; both answers are the same login."""
    user = pair.new_user()
    form = user.fill_in(new_mobile())
    answers = at_once(partial(user.bind, form, 0), partial(user.bind, form, 1))
    assert [status_and_code(answer) for answer in answers] == [(200, None)] * 2
    assert answers[0].json()["user_id"] == answers[1].json()["user_id"]
    rows = pair.nodes[0].query("SELECT user_id FROM tb_oauth_qq WHERE openid = %s", pair.qq.openid(user.person))
    assert rows == ((answers[0].json()["user_id"],),)


def read_what_the_other_node_has_written(pair):
    """Bind at one node; be known at the other at once."""
    user = pair.new_user()
    code = user.arrive()
    form = {"mobile": new_mobile(), "password": PASSWORD, "access_token": user.redeem_code(code).json()["access_token"]}
    form["sms_code"] = user.receive_sms_code(form["mobile"])
    user.token = user.bind(form).json()["token"]
    assert user.read_account(shop=1).status == 200
    assert user.redeem_code(user.arrive(), shop=1).json().keys() == {"token", "user_id", "username", "next"}


def add_qq_while_the_password_is_reset(pair):
    """A reset at one node unbinds the QQs that it sees, while another is bound at the other node. None stays."""
    user = pair.new_user()
    user.create_account(pair.nodes[0])
    user.log_in()
    assert user.link(user.prove_qq()).status == 201
    user.person = new_person()
    bind_token, sms_code = user.prove_qq(), user.receive_sms_code(user.mobile)
    with Stop(pair.shops[0].var, BINDING_WRITTEN) as linking, Stop(pair.shops[0].var, UNBOUND) as resetting:

        def commit_at_once():
            linking.wait()
            resetting.wait()
            linking.let_go()
            resetting.let_go()

        linked, reset, _ = at_once(
            partial(user.link, bind_token), partial(user.reset_password, sms_code, 1), commit_at_once
        )
    assert linked.status in (201, 401)
    assert (reset.status, user.count_bindings(pair.nodes[1])) == (200, 0)


def remove_both_qqs_at_once(pair):
    """Two QQs are the only ways to log in; each is removed at another node. One stays."""
    user = pair.new_user()
    user.create_account(pair.nodes[0])
    user.log_in()
    user.link(user.prove_qq())
    user.person = new_person()
    user.link(user.prove_qq())
    pair.nodes[0].query("UPDATE tb_users SET password = '!$$' WHERE id = %s", user.id)
    ids = pair.nodes[1].query(
        "SET STATEMENT wsrep_sync_wait = 1 FOR SELECT id FROM tb_oauth_qq WHERE user_id = %s", user.id
    )
    answers = each_at_once(user.unlink, [row[0] for row in ids], (0, 1))
    assert user.count_bindings(pair.nodes[1]) == 1
    assert sorted(answer.status for answer in answers) == [204, 400]


def examine(node):
    """Run the doctor at a node; return what it prints. What it finds beside the cluster does not matter."""
    environ = {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": SETTINGS,
        "DATABASE_URL": node.url,
        "QQ_API_URL": "http://127.0.0.1:9",
        "QQ_CLIENT_ID": "101000001",
        "QQ_CLIENT_SECRET": secrets.token_hex(16),
    }
    command = [sys.executable, "-m", "django", "qq_doctor"]
    return subprocess.run(command, cwd=processes.ROOT, env=environ, capture_output=True, encoding="utf-8").stdout

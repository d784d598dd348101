"""QQ login in a shop with another user model, sessions and hostile defaults; the app is copied or installed."""

import json
import os
import re
import secrets
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import pytest
from playwright.sync_api import expect

import standin
from standin import QQ
from tests.e2e import browsers
from tests.tools import processes
from tests.tools.remote_users import new_person, read_page

SHOPS = processes.ROOT / "tests/shops"
WSGI = "django.core.wsgi:get_wsgi_application()"
chromium = browsers.chromium


@pytest.fixture(scope="module", params=["oauth", "meiduo_qq_login"])
def environ(request, tmp_path_factory):
    """The environment of the other shop, outside this repository, where `apps.oauth` could be imported as well."""
    is_copied = request.param == "oauth"
    folder = processes.ROOT / "apps" if is_copied else request.getfixturevalue("installed_wheel")
    return {
        "DJANGO_SETTINGS_MODULE": "other_shop.settings",
        "PYTHONPATH": os.pathsep.join((str(folder), str(SHOPS))),
        "OTHER_SHOP_OAUTH_APP": request.param,
        "OTHER_SHOP_VAR": str(tmp_path_factory.mktemp("other_shop")),
    }


class OtherShop(NamedTuple):
    url: str
    qq: QQ
    var: Path

    def redeem_code(self, visitor, person, **headers):
        """Sign in at QQ and make the call of the shop's page."""
        at_qq = visitor.get(f"{self.url}/qq/login/?next=/basket").headers["Location"]
        callback = self.qq.sign_in(at_qq, person)
        code = read_page(visitor.get(callback).headers["Location"])["code"]
        return visitor.get(f"{self.url}/qq/users/?code={code}", **headers).json()

    def bind(self, visitor, person, email, email_code=None):
        """Sign in and send the form; return the answer."""
        form = {"email": email, "access_token": self.redeem_code(visitor, person)["access_token"]}
        return visitor.post(
            f"{self.url}/qq/users/", form | {"email_code": email_code or self.receive_code(visitor, email)}
        )

    def receive_code(self, visitor, email):
        assert visitor.get(f"{self.url}/email_codes/{email}/").status == 200
        return self.read_code(email)

    def read_code(self, email):
        """Return the code of the one mail to that address."""
        # Django names mail files by the second, so a file may contain several mails.
        mails = "".join(path.read_text("utf-8") for path in (self.var / "mails").iterdir())
        (code,) = re.findall(rf"^To: {email}$.*?([0-9a-f]+) is your code", mails, re.DOTALL | re.MULTILINE)
        return code

    def logged_in(self, visitor):
        """Return the user's e-mail address, as the shop's own view knows it."""
        return visitor.get(f"{self.url}/basket").json()["email"]


@pytest.fixture(scope="module")
def other_shop(environ, tmp_path_factory):
    listener, home = processes.listen(), tmp_path_factory.mktemp("home")
    url = processes.address_of(listener)
    callback = f"{url}/qq/callback/"
    options = {"listener": listener, "wsgi": WSGI, "database": "people", "cwd": home, "QQ_REDIRECT_URI": callback}
    with standin.running(callbacks=[callback]) as qq, processes.shop(home, qq, **options, **environ):
        yield OtherShop(url, qq, Path(environ["OTHER_SHOP_VAR"]))


@pytest.fixture
def visitor():
    return processes.Visitor()


@pytest.fixture
def person():
    return new_person()


@pytest.fixture
def email():
    return f"{secrets.token_hex(4)}@example.com"


def test_user_without_a_mobile_binds_and_then_logs_in(other_shop, visitor, person, email):
    first = other_shop.redeem_code(visitor, person)
    assert first == {"access_token": first["access_token"], "fields": ["email", "email_code"], "next": "/basket"}
    assert other_shop.logged_in(visitor) is None

    answer = other_shop.bind(visitor, person, email)
    user = answer.json()
    assert answer.status == 200
    assert user == {"user_id": user["id"], "id": user["id"], "username": email, "next": "/basket"}
    assert other_shop.logged_in(visitor) == email

    again = processes.Visitor()
    assert other_shop.redeem_code(again, person) == {name: user[name] for name in ("user_id", "username", "next")}
    assert other_shop.logged_in(again) == email


def test_another_qq_replaces_the_logged_in_user(other_shop, visitor, person, email):
    for name, address in ((person, email), (new_person(), f"2{email}")):
        assert other_shop.bind(visitor, name, address).status == 200
        assert other_shop.logged_in(visitor) == address
    assert other_shop.redeem_code(visitor, person)["username"] == email
    assert other_shop.logged_in(visitor) == email


def test_refused_bind_is_rolled_back_in_the_database_of_the_users(other_shop, visitor, person):
    email = f"{secrets.token_hex(4)}@banned.example"
    refused = other_shop.bind(visitor, person, email)
    assert (refused.status, refused.json()["code"]) == (400, "account_refused")
    with closing(sqlite3.connect(other_shop.var / "people.sqlite3")) as people:
        assert people.execute("SELECT email FROM people_person WHERE email = ?", [email]).fetchall() == []


def test_wrong_field_is_named_and_a_mailed_code_works_once(other_shop, visitor, person, email):
    code = other_shop.receive_code(visitor, email)
    refused = other_shop.bind(visitor, person, "no address", code).json()
    assert refused == {"email": [refused["message"]], "message": refused["message"], "code": "invalid"}
    answers = [other_shop.bind(processes.Visitor(), name, email, code) for name in (person, new_person())]
    assert [answer.status for answer in answers] == [200, 400]


@pytest.mark.browser
def test_pages_bind_at_the_first_login_and_skip_the_form_at_the_second(other_shop, chromium, person, email):
    for is_first in (True, False):
        with chromium.new_context() as context:
            page = context.new_page()
            page.goto(f"{other_shop.url}/login.html")
            page.get_by_text("QQ").click()
            page.get_by_label("或者任何人").fill(person)
            page.get_by_role("button", name="登录 Sign in").click()
            if is_first:
                page.get_by_label("E-mail").fill(email)
                page.get_by_text("Mail me a code").click()
                expect(page.get_by_text("Sent")).to_be_visible()
                page.get_by_label("Code").fill("no code")
                page.get_by_role("button", name="Continue").click()
                expect(page.locator("#error")).to_have_text("Wrong code.")
                page.get_by_label("Code").fill(other_shop.read_code(email))
                page.get_by_role("button", name="Continue").click()
            expect(page).to_have_url(f"{other_shop.url}/basket")
            expect(page.locator("body")).to_have_text(f'{{"email": "{email}"}}')


@pytest.mark.parametrize("authorization", ["Token long-gone", "Token", "JWT a.b.c", "Bearer \xff"])
def test_invalid_authorization_header_does_not_prevent_the_login(other_shop, visitor, person, authorization):
    assert "access_token" in other_shop.redeem_code(visitor, person, Authorization=authorization)


@pytest.mark.parametrize("language", [None, "de", "en"])
def test_errors_are_chinese_unless_english_is_requested_although_the_shop_is_english(other_shop, visitor, language):
    refused = visitor.get(f"{other_shop.url}/qq/users/", **({"Accept_Language": language} if language else {}))
    message = refused.json()["message"]
    assert (refused.status, refused.json()) == (400, {"message": message, "code": "code_missing"})
    assert message.isascii() if language == "en" else message.startswith("没有收到 QQ 的登录凭证，")


@pytest.fixture
def shell(environ):
    """The environment of a shell on the shop's server."""
    urls = {"QQ_API_URL": "http://127.0.0.1:9", "QQ_REDIRECT_URI": "https://shop.example/qq/callback/"}
    settings = urls | {"QQ_CLIENT_SECRET": "secret", "QQ_CALLBACK_PAGE": "https://shop.example/oauth_callback.html"}
    return {**os.environ, **environ, **settings}


def test_support_desk_finds_unbinds_and_erases_by_email(other_shop, shell, visitor, person, email, tmp_path):
    def run(*arguments, **options):
        command = [sys.executable, "-m", "django", "qq_bindings", *arguments]
        done = subprocess.run(
            command, cwd=tmp_path, env=shell, capture_output=True, encoding="utf-8", check=False, **options
        )
        return done.returncode, done.stdout, done.stderr.splitlines()[-1:]

    user_id = other_shop.bind(visitor, person, email).json()["id"]
    openid = other_shop.qq.openid(person)
    code, found, _ = run("find", email)
    assert (code, f": user {user_id} {email}, mobile -, {openid[:6]}…" in found) == (0, True)
    hashed = re.search("in the log ([0-9a-f]{12})", found)[1]
    for key in (openid, f"{openid[:6]}…", hashed):
        assert run("find", key) == (0, found, [])
    assert run("unbind", hashed, "--reason=lost phone", input="y\n")[0] == 0
    assert run("find", email) == (1, "", [f"CommandError: User {user_id} has no QQ."])
    assert "access_token" in other_shop.redeem_code(processes.Visitor(), person)

    other, other_email = new_person(), f"2{email}"
    assert other_shop.bind(processes.Visitor(), other, other_email).status == 200
    assert json.loads(run("export", other_email)[1])["bindings"][0]["openid"] == other_shop.qq.openid(other)
    assert run("erase", other_email, "--yes")[0] == 0
    assert run("erase", other_email, "--yes") == (1, "", ["CommandError: Nothing is stored of this person."])


def test_commands_of_django_find_no_problem(shell, tmp_path):
    outputs = {
        ("check",): "System check identified no issues (0 silenced).\n",
        ("makemigrations", "oauth", "--check", "--dry-run"): "No changes detected in app 'oauth'\n",
    }
    for command, output in outputs.items():
        assert processes.manage(shell, *command, cwd=tmp_path) == output

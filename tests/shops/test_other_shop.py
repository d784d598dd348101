"""The app in another shop: copied or installed, another user model, sessions, hostile settings, its own process."""

import os
import re
import secrets
import sqlite3
from contextlib import closing
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import expect

import standin
from tests.e2e import test_browser
from tests.tools import processes

TESTS = processes.ROOT / "tests/shops"
chromium = test_browser.chromium

ADDRESSES = {"REDIRECT_URI": "qq/callback/", "CALLBACK_PAGE": "oauth_callback.html"}


@pytest.fixture(scope="module", params=["oauth", "meiduo_qq_login"])
def environ(request, tmp_path_factory):
    """The other shop's environment, away from the root of this project, where `apps.oauth` could be imported too."""
    var = tmp_path_factory.mktemp("other_shop")
    is_copied = request.param == "oauth"
    folder = processes.ROOT / "apps" if is_copied else request.getfixturevalue("installed_wheel")
    return {
        "DJANGO_SETTINGS_MODULE": "other_shop.settings",
        "PYTHONPATH": os.pathsep.join((str(folder), str(TESTS))),
        "OTHER_SHOP_OAUTH_APP": request.param,
        "OTHER_SHOP_VAR": str(var),
    }


@pytest.fixture(scope="module")
def manage(environ, tmp_path_factory):
    """Run a command of Django's in the other shop."""
    given = {"QQ_CLIENT_SECRET": "secret", "QQ_API_URL": "http://127.0.0.1:9"}
    given |= {f"QQ_{name}": f"https://shop.example/{path}" for name, path in ADDRESSES.items()}
    home = tmp_path_factory.mktemp("home")
    return lambda *arguments: processes.manage({**os.environ, **environ, **given}, *arguments, cwd=home)


@pytest.fixture(scope="module")
def other_shop(environ, tmp_path_factory):
    listener = processes.listen()
    url = processes.address_of(listener)
    home = tmp_path_factory.mktemp("home")
    given = environ | {f"QQ_{name}": f"{url}/{path}" for name, path in ADDRESSES.items()}
    with (
        standin.running(callbacks=[given["QQ_REDIRECT_URI"]]) as qq,
        processes.shop(home, qq, listener=listener, wsgi="other_shop.wsgi", database="people", cwd=home, **given),
    ):
        yield OtherShop(url, qq, Path(environ["OTHER_SHOP_VAR"]))


class OtherShop:
    def __init__(self, url, qq, var):
        self.url = url
        self.qq = qq
        self.mails = var / "mails"
        self.people = var / "people.sqlite3"

    def arrive(self, visitor, person):
        """Sign in at QQ; return the parameters the shop's page gets."""
        at_qq = visitor.get(f"{self.url}/qq/login/?next=/basket").headers["Location"]
        back = self.qq.sign_in(at_qq, person)
        page = urlsplit(visitor.get(back).headers["Location"])
        assert page.path == "/oauth_callback.html"
        return {name: values[0] for name, values in parse_qs(page.query).items()}

    def collect(self, visitor, person, **headers):
        code = self.arrive(visitor, person)["code"]
        return visitor.get(f"{self.url}/qq/users/?code={code}", **headers).json()

    def bind(self, visitor, **fields):
        return visitor.post(f"{self.url}/qq/users/", fields)

    def receive_code(self, visitor, email):
        assert visitor.get(f"{self.url}/email_codes/{email}/").status == 200
        return self.read_code(email)

    def read_code(self, email):
        """Return the code of the one mail to that address."""
        # Django names a file by the second, so two mails may stand in one.
        mails = "".join(path.read_text("utf-8") for path in self.mails.iterdir())
        (code,) = re.findall(rf"^To: {email}$.*?([0-9a-f]+) is your code", mails, re.DOTALL | re.MULTILINE)
        return code

    def who(self, visitor):
        """Return what the shop's own page says to the visitor."""
        return re.search('id="who">(.*?)<', visitor.get(f"{self.url}/basket").body.decode())[1]


@pytest.fixture
def visitor():
    return processes.Visitor()


@pytest.fixture
def person():
    return f"小明 {secrets.token_hex(8)}"


@pytest.fixture
def email():
    return f"{secrets.token_hex(4)}@example.com"


def test_a_user_without_a_mobile_is_bound_and_then_logged_in(other_shop, visitor, person, email):
    asked = other_shop.collect(visitor, person)
    bind_token = asked["access_token"]
    assert asked == {"access_token": bind_token, "next": "/basket"}
    assert other_shop.who(visitor) == "nobody"

    fields = {"email": email, "email_code": other_shop.receive_code(visitor, email), "access_token": bind_token}
    bound = other_shop.bind(visitor, **fields)
    user = bound.json()
    assert bound.status == 200
    assert user.keys() == {"user_id", "id", "username", "next"}
    assert (user["username"], user["next"]) == (email, "/basket")
    assert other_shop.who(visitor) == email

    again = processes.Visitor()
    assert other_shop.collect(again, person) == {name: user[name] for name in ("user_id", "username", "next")}
    assert other_shop.who(again) == email


def test_another_qq_takes_the_place_of_whoever_was_logged_in(other_shop, visitor, person, email):
    for name, address in ((person, email), (f"{person} 2", f"2{email}")):
        bind_token = other_shop.collect(visitor, name)["access_token"]
        code = other_shop.receive_code(visitor, address)
        assert other_shop.bind(visitor, email=address, email_code=code, access_token=bind_token).status == 200
        assert other_shop.who(visitor) == address
    assert other_shop.collect(visitor, person)["username"] == email
    assert other_shop.who(visitor) == email


def test_a_bind_that_is_refused_leaves_nothing_in_the_database_it_is_written_to(other_shop, visitor, person):
    email = f"{secrets.token_hex(4)}@banned.example"
    bind_token = other_shop.collect(visitor, person)["access_token"]
    code = other_shop.receive_code(visitor, email)
    refused = other_shop.bind(visitor, email=email, email_code=code, access_token=bind_token)
    assert (refused.status, refused.json()["code"]) == (400, "account_refused")
    with closing(sqlite3.connect(other_shop.people)) as people:
        assert people.execute("SELECT email FROM people_person WHERE email = ?", [email]).fetchall() == []


def test_a_mailed_code_is_used_up(other_shop, person, email):
    code = other_shop.receive_code(processes.Visitor(), email)
    statuses = []
    for name in (person, f"{person} 2"):
        visitor = processes.Visitor()
        bind_token = other_shop.collect(visitor, name)["access_token"]
        statuses.append(other_shop.bind(visitor, email=email, email_code=code, access_token=bind_token).status)
    assert statuses == [200, 400]


@pytest.mark.browser
def test_in_a_browser_first_login_binds_and_the_second_goes_straight_in(other_shop, chromium, person, email):
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
            expect(page.locator("#who")).to_have_text(email)
            expect(page).to_have_url(f"{other_shop.url}/basket")


@pytest.mark.parametrize("authorization", ["Token long-gone", "Token", "JWT a.b.c", "Bearer \xff"])
def test_an_authorization_header_that_is_no_good_does_not_break_the_login(other_shop, visitor, person, authorization):
    assert "access_token" in other_shop.collect(visitor, person, Authorization=authorization)


@pytest.mark.parametrize(
    ("headers", "message"),
    [
        ({}, "没有收到 QQ 的登录凭证，请在这个浏览器里再点一次 QQ 登录。"),
        ({"Accept_Language": "de"}, "没有收到 QQ 的登录凭证，请在这个浏览器里再点一次 QQ 登录。"),
        ({"Accept_Language": "en"}, None),
    ],
)
def test_errors_are_chinese_unless_english_is_asked_for_although_the_shop_is_english(
    other_shop, visitor, headers, message
):
    refused = visitor.get(f"{other_shop.url}/qq/users/", **headers)
    told = refused.json()
    assert refused.status == 400
    assert told == {"message": message or told["message"], "code": "code_missing"}
    assert message or told["message"].isascii()


def test_a_wrong_field_is_named_beside_the_message(other_shop, visitor, person):
    bind_token = other_shop.collect(visitor, person)["access_token"]
    refused = other_shop.bind(visitor, email="no address", email_code="0", access_token=bind_token)
    told = refused.json()
    assert refused.status == 400
    assert told.keys() == {"email", "message", "code"}
    assert (told["message"], told["code"]) == (told["email"][0], "invalid")


def test_django_has_nothing_to_say_against_it(manage):
    assert manage("check") == "System check identified no issues (0 silenced).\n"


def test_the_migrations_fit_the_models(manage):
    assert manage("makemigrations", "oauth", "--check", "--dry-run") == "No changes detected in app 'oauth'\n"

"""A shop of the family logs its shoppers in with QQ: its pages as they were, its bindings of before, in Chromium."""

import base64
import json
import os
import secrets
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from shutil import copy, copytree, ignore_patterns
from urllib.parse import urlsplit

import pytest
from django.contrib.auth.hashers import PBKDF2PasswordHasher
from playwright.sync_api import expect
from redis import Redis

import standin
from standin import QQ
from tests.e2e import test_browser
from tests.oauth.contrib.test_meiduo import installed
from tests.tools import processes

pytestmark = [pytest.mark.browser, pytest.mark.servers]

TESTS = processes.ROOT / "tests/shops"
chromium = test_browser.chromium

PASSWORD, CODE = "correct horse", "024680"
ZHANG3, LI4 = "13812345678", "13900000000"  # the first has an account and no QQ, the other had a QQ before
OLD_BINDER = "李四"
NEXT = "/user_center_info.html?from=购物车"


@dataclass(frozen=True)
class FamilyShop:
    api: str
    pages: str
    qq: QQ
    redis: str
    var: Path
    environ: dict[str, str]

    def manage(self, *arguments, **environ):
        return processes.manage(self.environ | environ, *arguments, cwd=TESTS)

    def manage_before(self, *arguments, **environ):
        """Run a command with the code that the shop had before it had this app."""
        return self.manage(*arguments, DJANGO_SETTINGS_MODULE="family_shop.before.settings", **environ)

    def database(self, number):
        """One of the shop's databases in its Redis: 2 has the SMS codes, 4 the carts."""
        return closing(Redis.from_url(f"{self.redis}/{number}", decode_responses=True))


@pytest.fixture(scope="module")
def packages(tmp_path_factory):
    """The app, copied as `oauth`, beside what the shop goes on using: drf-jwt, and an itsdangerous held back."""
    folder = tmp_path_factory.mktemp("packages")
    installed(folder, "drf-jwt>=1.19.2,<1.20", "itsdangerous==2.0.1")
    copytree(processes.ROOT / "apps/oauth", folder / "oauth", ignore=ignore_patterns("__pycache__"))
    return folder


@pytest.fixture(scope="module")
def shop(packages, tmp_path_factory):
    """Takes the place of the settings that tests without a browser have under this name."""
    if not processes.find_redis():
        pytest.skip("there is no Redis")
    var, pages = tmp_path_factory.mktemp("family_shop"), tmp_path_factory.mktemp("pages")
    listener = processes.listen()
    api = processes.address_of(listener)
    for page in (TESTS / "family_shop").glob("*.html"):
        copy(page, pages)
    (pages / "js").mkdir()
    (pages / "js/host.js").write_text(f"var host = '{api}';\n")
    with (
        processes.redis(var) as redis_url,
        test_browser.static_server(pages) as origin,
        standin.running(callbacks=[processes.callback_of(listener)]) as qq,
    ):
        redis = redis_url.rpartition("/")[0]
        added = {
            "DJANGO_SETTINGS_MODULE": "family_shop.settings",
            "PYTHONPATH": os.pathsep.join((str(packages), str(TESTS))),
            "FAMILY_SHOP_DATABASE": str(var / "db.sqlite3"),
            "FAMILY_SHOP_REDIS": redis,
            "FAMILY_SHOP_PAGES": origin,
            "QQ_CLIENT_ID": qq.client_id,
            "QQ_CLIENT_SECRET": qq.client_secret,
            "QQ_API_URL": qq.url,
            "QQ_REDIRECT_URI": processes.callback_of(listener),
            "QQ_CALLBACK_PAGE": f"{origin}/oauth_callback.html",
        }
        family_shop = FamilyShop(api, origin, qq, redis, var, {**os.environ, **added})
        family_shop.manage_before("migrate", "--verbosity=0")
        live_for_years(var / "db.sqlite3", qq)
        copy(var / "db.sqlite3", var / "before.sqlite3")
        with processes.shop(var, qq, listener=listener, wsgi="family_shop.wsgi", cwd=TESTS, **added):
            yield family_shop


def live_for_years(database, qq):
    """Have the users and the bindings that the shop had before it had this app."""
    users = """
        INSERT INTO tb_users (id, username, mobile, password, email, email_active, first_name, last_name, is_superuser,
            is_staff, is_active, date_joined)
        VALUES (?, ?, ?, ?, '', 0, '', '', 0, 0, 1, '2019-04-15')
    """
    password = PBKDF2PasswordHasher().encode(PASSWORD, "salt", iterations=150_000)  # as Django 2.2 did
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute(users, (1, "zhang3", ZHANG3, password))
        connection.execute(users, (2, LI4, LI4, password))
        for _ in range(2):  # a bind token could be used twice
            connection.execute(
                "INSERT INTO tb_oauth_qq VALUES (NULL, '2019-04-15', '2019-04-15', ?, 2)", (qq.openid(OLD_BINDER),)
            )


class Shopper:
    """A person with a browser of their own and something in the cart."""

    def __init__(self, shop, context, person):
        self.shop = shop
        self.context = context
        self.person = person
        self.cart = {str(secrets.randbelow(1000)): "2"}
        cookie = base64.b64encode(json.dumps(self.cart).encode()).decode()
        context.add_cookies([{"name": "cart", "value": cookie, "url": shop.api}])
        self.calls = []  # of the shop's API
        context.on("request", lambda sent: sent.url.startswith(shop.api) and self.calls.append(sent.method))
        self.page = context.new_page()

    def sign_in(self):
        """Press the QQ button of the login page, and say at QQ who one is."""
        self.page.goto(f"{self.shop.pages}/login.html?next={NEXT}")
        self.page.get_by_text("QQ登录").click()
        self.page.get_by_label("或者任何人").fill(self.person)
        self.page.get_by_role("button", name="登录 Sign in").click()

    def receive_code(self, mobile):
        with self.shop.database(2) as codes:
            codes.set(f"sms_{mobile}", CODE, ex=300)

    def bind(self, mobile, password=PASSWORD):
        self.page.get_by_label("手机号").fill(mobile)
        self.page.get_by_label("密码").fill(password)
        self.page.get_by_label("短信验证码").fill(CODE)
        self.page.get_by_role("button", name="保 存").click()

    def is_in(self, user_id, username, mobile):
        """The shopper is where they wanted to go, seen by the shop's own calls, and the cart has gone along."""
        page = self.page
        expect(page.locator("#mobile")).to_have_text(mobile)
        expect(page.locator("#username")).to_have_text(username)
        assert urlsplit(page.url)[:3] == ("http", urlsplit(self.shop.pages).netloc, "/user_center_info.html")
        assert page.evaluate("decodeURI(location.search)") == "?from=购物车"
        assert page.evaluate("[localStorage.user_id, localStorage.username]") == [str(user_id), username]
        assert "cart" not in self.cookies()
        with self.shop.database(4) as carts:
            assert self.cart.items() <= carts.hgetall(f"cart_{user_id}").items()

    def cookies(self):
        return {cookie["name"] for cookie in self.context.cookies()}


@pytest.fixture
def meet(chromium, shop):
    contexts = []

    def meet_shopper(person):
        contexts.append(context := chromium.new_context(locale="zh-CN"))
        return Shopper(shop, context, person)

    yield meet_shopper
    for context in contexts:
        context.close()


def test_first_login_binds_the_account_and_the_second_goes_straight_in(meet):
    shopper = meet("张三")
    shopper.sign_in()
    shopper.receive_code(ZHANG3)
    shopper.bind(ZHANG3, "another horse")
    expect(shopper.page.locator("#error_sms_code")).to_have_text("手机号或密码不正确。")
    assert "cart" in shopper.cookies()
    shopper.bind(ZHANG3)
    shopper.is_in(1, "zhang3", ZHANG3)

    again = meet("张三")
    again.sign_in()
    again.is_in(1, "zhang3", ZHANG3)
    assert "POST" in shopper.calls
    assert "POST" not in again.calls


def test_a_new_number_gets_an_account_of_that_name(meet):
    shopper = meet("王五")
    shopper.sign_in()
    shopper.receive_code("13700000000")
    shopper.bind("13700000000")
    shopper.is_in(3, "13700000000", "13700000000")


def test_a_binding_of_before_goes_straight_in(meet):
    shopper = meet(OLD_BINDER)
    shopper.sign_in()
    shopper.is_in(2, LI4, LI4)
    assert "POST" not in shopper.calls


def test_what_nobody_has_signed_is_no_code_though_the_signer_is_of_before(shop):
    """Its itsdangerous reads the time of a value before it knows who signed it, and this is none there is."""
    for time in ("______8", "________", "_________8", "__________8"):
        refused = processes.Visitor().get(f"{shop.api}/oauth/qq/users/?code=e30.{time}.AAAA")
        assert (refused.status, refused.json()["code"]) == (400, "code_invalid")
        begun = processes.Visitor().get(f"{shop.api}/oauth/qq/login/", Cookie=f"qq_flow_0123456789ab=e30.{time}.AAAA")
        assert begun.headers["Location"].startswith(f"{shop.qq.url}/oauth2.0/authorize?")


READ_AS_BEFORE = """
from family_shop.before.oauth.models import OAuthQQUser
print(*OAuthQQUser.objects.filter(openid={openid!r}).values_list("user__username", flat=True))
"""


def everything_of(database):
    """Return all tables and indexes, the rows that the old code wrote, and what is recorded of its migrations."""
    with closing(sqlite3.connect(database)) as connection:
        return [
            connection.execute(query).fetchall()
            for query in (
                "SELECT name, sql FROM sqlite_master ORDER BY name",
                "SELECT * FROM tb_oauth_qq WHERE create_time = '2019-04-15' ORDER BY id",
                "SELECT name FROM django_migrations WHERE app = 'oauth'",
            )
        ]


def test_the_way_back_leaves_the_shop_as_it_was_and_keeps_new_bindings(shop, meet, tmp_path):
    shopper = meet("赵六")
    shopper.sign_in()
    shopper.receive_code("13600000000")
    shopper.bind("13600000000")
    expect(shopper.page.locator("#mobile")).to_have_text("13600000000")

    database = str(tmp_path / "db.sqlite3")
    copy(shop.var / "db.sqlite3", database)
    assert everything_of(database) != everything_of(shop.var / "before.sqlite3")
    shop.manage("migrate", "oauth", "0001", FAMILY_SHOP_DATABASE=database)
    assert everything_of(database) == everything_of(shop.var / "before.sqlite3")

    def manage(*arguments):
        return shop.manage_before(*arguments, FAMILY_SHOP_DATABASE=database)

    def read(person):
        return manage("shell", "--no-imports", "-c", READ_AS_BEFORE.format(openid=shop.qq.openid(person))).split()

    assert (read(OLD_BINDER), read("赵六")) == ([LI4, LI4], ["13600000000"])
    assert "No planned migration operations" in manage("migrate", "--plan")
    assert "No changes detected" in manage("makemigrations", "--check", "--dry-run")


def test_the_doctor_finds_nothing_that_is_in_the_way(shop):
    assert "QQ login can work." in shop.manage("qq_doctor")

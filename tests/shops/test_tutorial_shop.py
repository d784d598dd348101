"""QQ login in a shop built after the tutorial, with its own pages in Chromium and the bindings it had before."""

import base64
import json
import os
import secrets
import sqlite3
from contextlib import ExitStack, closing
from pathlib import Path
from shutil import copy, copytree, ignore_patterns
from typing import NamedTuple
from urllib.parse import urlsplit

import pytest
from django.contrib.auth.hashers import PBKDF2PasswordHasher
from playwright.sync_api import expect
from redis import Redis

import standin
from standin import QQ
from tests.e2e import browsers
from tests.oauth.contrib.test_payloads import install
from tests.shops.test_other_shop import SHOPS, WSGI
from tests.tools import processes

pytestmark = [pytest.mark.browser, pytest.mark.servers]

chromium = browsers.chromium

PASSWORD, CODE = "correct horse", "024680"
ZHANG3, LI4 = "13812345678", "13900000000"  # the first has no QQ; the other was bound before the app came
BOUND_BEFORE = "李四"
NEXT = "/user_center_info.html?from=购物车"


class TutorialShop(NamedTuple):
    api: str
    pages: str
    qq: QQ
    redis: str
    var: Path
    environ: dict[str, str]

    def manage(self, *arguments, **environ):
        return processes.manage(self.environ | environ, *arguments, cwd=SHOPS)

    def manage_before(self, *arguments, **environ):
        """Run a command with the code that the shop had before the app."""
        return self.manage(*arguments, DJANGO_SETTINGS_MODULE="tutorial_shop.before.settings", **environ)

    def database(self, number):
        """Return a Redis database of the shop: 2 holds SMS codes, 4 carts."""
        return closing(Redis.from_url(f"{self.redis}/{number}", decode_responses=True))


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    """Replaces the fixture of that name in conftest.py, whose settings a shop in another process does not see."""
    if not processes.find_redis():
        pytest.skip("there is no Redis")
    var, pages, packages = (tmp_path_factory.mktemp(name) for name in ("tutorial_shop", "pages", "packages"))
    # Packages of the shop: the app copied as `oauth`, drf-jwt, and an old itsdangerous.
    install(packages, "drf-jwt>=1.19.2,<1.20", "itsdangerous==2.0.1")
    copytree(processes.ROOT / "apps/oauth", packages / "oauth", ignore=ignore_patterns("__pycache__"))
    listener = processes.listen()
    api = processes.address_of(listener)
    for page in (SHOPS / "tutorial_shop").glob("*.html"):
        copy(page, pages)
    (pages / "js").mkdir()
    (pages / "js/host.js").write_text(f"var host = '{api}';\n")
    with (
        processes.redis(var) as redis_url,
        browsers.static_server(pages) as origin,
        standin.running(callbacks=[processes.callback_of(listener)]) as qq,
    ):
        redis, database = redis_url.rpartition("/")[0], var / "db.sqlite3"
        settings = {
            "DJANGO_SETTINGS_MODULE": "tutorial_shop.settings",
            "PYTHONPATH": os.pathsep.join((str(packages), str(SHOPS))),
            "TUTORIAL_SHOP_DATABASE": str(database),
            "TUTORIAL_SHOP_REDIS": redis,
            "TUTORIAL_SHOP_PAGES": origin,
            **processes.settings_of(qq),
            "QQ_REDIRECT_URI": processes.callback_of(listener),
            "QQ_CALLBACK_PAGE": f"{origin}/oauth_callback.html",
        }
        tutorial_shop = TutorialShop(api, origin, qq, redis, var, {**os.environ, **settings})
        tutorial_shop.manage_before("migrate", "--verbosity=0")
        add_old_data(database, qq)
        copy(database, var / "before.sqlite3")
        with processes.shop(var, qq, listener=listener, wsgi=WSGI, cwd=SHOPS, **settings):
            yield tutorial_shop


def add_old_data(database, qq):
    """Add users and bindings as the shop had them before the app."""
    password = PBKDF2PasswordHasher().encode(PASSWORD, "salt", iterations=150_000)  # as Django 2.2 did
    users = """
        INSERT INTO tb_users (id, username, mobile, password, email, email_active, first_name, last_name, is_superuser,
            is_staff, is_active, date_joined)
        VALUES (?, ?, ?, ?, '', 0, '', '', 0, 0, 1, '2019-04-15')
    """
    binding = "INSERT INTO tb_oauth_qq VALUES (NULL, '2019-04-15', '2019-04-15', ?, 2)"
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.executemany(users, [(1, "zhang3", ZHANG3, password), (2, LI4, LI4, password)])
        connection.executemany(binding, [(qq.openid(BOUND_BEFORE),)] * 2)  # the old code could bind twice


class BrowserUser:
    """A user with a Chromium profile and something in the cart, who signs in with QQ."""

    def __init__(self, shop, context, person):
        self.shop, self.context = shop, context
        self.cart = {str(secrets.randbelow(1000)): "2"}
        cookie = base64.b64encode(json.dumps(self.cart).encode()).decode()
        context.add_cookies([{"name": "cart", "value": cookie, "url": shop.api}])
        self.calls = []  # methods of the calls to the shop's API
        context.on("request", lambda sent: sent.url.startswith(shop.api) and self.calls.append(sent.method))
        self.page = context.new_page()
        self.page.goto(f"{self.shop.pages}/login.html?next={NEXT}")
        self.page.get_by_text("QQ登录").click()
        self.page.get_by_label("或者任何人").fill(person)
        self.page.get_by_role("button", name="登录 Sign in").click()

    def bind(self, mobile, password=PASSWORD):
        with self.shop.database(2) as codes:
            codes.set(f"sms_{mobile}", CODE, ex=300)
        self.page.get_by_label("手机号").fill(mobile)
        self.page.get_by_label("密码").fill(password)
        self.page.get_by_label("短信验证码").fill(CODE)
        self.page.get_by_role("button", name="保 存").click()

    def is_logged_in(self, user_id, username, mobile):
        """The user is at `next`, the shop's own API accepts the token, and the cart has been merged."""
        page = self.page
        expect(page.locator("#mobile")).to_have_text(mobile)
        expect(page.locator("#username")).to_have_text(username)
        assert urlsplit(page.url)[:3] == ("http", urlsplit(self.shop.pages).netloc, "/user_center_info.html")
        assert page.evaluate("decodeURI(location.search)") == "?from=购物车"
        assert page.evaluate("[localStorage.user_id, localStorage.username]") == [str(user_id), username]
        assert not self.has_cart_cookie()
        with self.shop.database(4) as carts:
            assert self.cart.items() <= carts.hgetall(f"cart_{user_id}").items()

    def has_cart_cookie(self):
        return "cart" in {cookie["name"] for cookie in self.context.cookies()}


@pytest.fixture
def sign_in(chromium, shop):
    """A function that signs a person in at QQ with a new browser profile."""
    with ExitStack() as contexts:

        def sign_in(person):
            return BrowserUser(shop, contexts.enter_context(chromium.new_context(locale="zh-CN")), person)

        yield sign_in


def test_first_login_binds_the_account_and_second_login_skips_the_form(sign_in):
    user = sign_in("张三")
    user.bind(ZHANG3, "another horse")
    expect(user.page.locator("#error_sms_code")).to_have_text("手机号或密码不正确。")
    assert user.has_cart_cookie()
    user.bind(ZHANG3)
    user.is_logged_in(1, "zhang3", ZHANG3)

    again = sign_in("张三")
    again.is_logged_in(1, "zhang3", ZHANG3)
    assert "POST" in user.calls
    assert "POST" not in again.calls


def test_new_number_gets_an_account_named_after_it_and_an_old_binding_still_logs_in(sign_in):
    user = sign_in("王五")
    user.bind("13700000000")
    user.is_logged_in(3, "13700000000", "13700000000")

    user = sign_in(BOUND_BEFORE)
    user.is_logged_in(2, LI4, LI4)
    assert "POST" not in user.calls


@pytest.mark.parametrize("time", ["______8", "________", "_________8", "__________8"])
def test_unsigned_value_with_an_impossible_time_is_refused_under_an_old_itsdangerous(shop, time):
    """itsdangerous 2.0 reads the time of a value before it verifies the signature."""
    refused = processes.Visitor().get(f"{shop.api}/oauth/qq/users/?code=e30.{time}.AAAA")
    assert (refused.status, refused.json()["code"]) == (400, "code_invalid")
    started = processes.Visitor().get(f"{shop.api}/oauth/qq/login/", Cookie=f"qq_flow_0123456789ab=e30.{time}.AAAA")
    assert started.headers["Location"].startswith(f"{shop.qq.url}/oauth2.0/authorize?")


def contents_of(database):
    """Return all tables and indexes, the rows that the old code wrote, and the recorded migrations."""
    queries = (
        "SELECT name, sql FROM sqlite_master ORDER BY name",
        "SELECT * FROM tb_oauth_qq WHERE create_time = '2019-04-15' ORDER BY id",
        "SELECT name FROM django_migrations WHERE app = 'oauth'",
    )
    with closing(sqlite3.connect(database)) as connection:
        return [connection.execute(query).fetchall() for query in queries]


def test_migrating_back_restores_the_tables_and_keeps_new_bindings(shop, sign_in, tmp_path):
    user = sign_in("赵六")
    user.bind("13600000000")
    expect(user.page.locator("#mobile")).to_have_text("13600000000")

    database = str(copy(shop.var / "db.sqlite3", tmp_path))
    assert contents_of(database) != contents_of(shop.var / "before.sqlite3")
    shop.manage("migrate", "oauth", "0001", TUTORIAL_SHOP_DATABASE=database)
    assert contents_of(database) == contents_of(shop.var / "before.sqlite3")

    def manage(*arguments):
        return shop.manage_before(*arguments, TUTORIAL_SHOP_DATABASE=database)

    def read(person):
        query = f"filter(openid={shop.qq.openid(person)!r}).values_list('user__username', flat=True)"
        code = f"from tutorial_shop.before.oauth.models import OAuthQQUser; print(*OAuthQQUser.objects.{query})"
        return manage("shell", "--no-imports", "-c", code).split()

    assert (read(BOUND_BEFORE), read("赵六")) == ([LI4, LI4], ["13600000000"])
    assert "No planned migration operations" in manage("migrate", "--plan")
    assert "No changes detected" in manage("makemigrations", "--check", "--dry-run")


def test_doctor_finds_no_problem(shop):
    assert "QQ login can work." in shop.manage("qq_doctor")

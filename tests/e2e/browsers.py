"""Chromium with users, and shops under gunicorn with the stand-in for QQ: what the tests of the pages share.

A test file names the fixtures it uses as its own: `meet = browsers.meet`.
"""

import re
import sqlite3
import sys
from contextlib import closing, contextmanager
from shutil import copytree
from typing import NamedTuple
from urllib.parse import quote, urlsplit

import pytest
from playwright.sync_api import expect, sync_playwright

import standin
from meiduo import pages as served
from standin import QQ
from tests.tools import processes, remote_users
from tests.tools.remote_users import PASSWORD

# The second line keeps Chromium from calling its maker.
OPTIONS = ["--no-sandbox", "--disable-quic", "--no-first-run"]
OPTIONS += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
PHONE = {"is_mobile": True, "has_touch": True, "viewport": {"width": 360, "height": 780}}
PHONE["user_agent"] = "Mozilla/5.0 (Linux; Android 14; K) AppleWebKit/537.36 Chrome/130.0.0.0 Mobile Safari/537.36"
# Chromium writes each error answer to the console; QQ's pages have no icon.
EXPECTED = r"Failed to load resource: .* with a status of (400 |429 |503 |404 .*/favicon\.ico)"

expect.set_options(timeout=30_000)  # Playwright's default for everything else


# A script for browsers that forbid storage.
FORBIDDEN = """
    for (const area of ['localStorage', 'sessionStorage']) {
        Object.defineProperty(window, area, { get() { throw new DOMException('denied', 'SecurityError'); } });
    }
"""


# Shops ----------------------------------------------------------------------------------------------------------------


class Place(NamedTuple):
    """A running shop, the QQ it calls, and the origin of its pages."""

    shop: processes.Shop
    qq: QQ
    pages: str

    def count_exchanges(self):
        """Return how many codes the shop has sent to QQ."""
        return len(self.qq.requests("/oauth2.0/token"))


@contextmanager
def open_shop(var, *, pages=None, direct=False, listener=None, **environ):
    listener = listener or processes.listen()
    pages = pages or processes.address_of(listener)
    page, callback = f"{pages}/oauth_callback.html", processes.callback_of(listener)
    environ |= {"QQ_CALLBACK_PAGE": page, "QQ_REDIRECT_URI": page if direct else callback}
    environ |= {"DATABASE_URL": "", "CACHE_URL": ""}  # SQLite and local memory on every machine
    with (
        standin.running(callbacks=[page, callback]) as qq,
        processes.shop(var, qq, listener=listener, **environ) as shop,
    ):
        yield Place(shop, qq, pages)


def shop_fixture(name, **options):
    @pytest.fixture(scope="module", name=name)
    def running_shop(tmp_path_factory):
        with open_shop(tmp_path_factory.mktemp(name), **options) as place:
            yield place

    return running_shop


shop = shop_fixture("shop")  # replaces that of conftest.py, whose settings a shop in another process does not see
direct_shop = shop_fixture("direct_shop", direct=True)  # QQ redirects straight to its page
narrow_shop = shop_fixture("narrow_shop", QQ_MAX_CONCURRENCY="1")


@contextmanager
def static_server(folder):
    """Serve the files of a folder; the block gets their origin."""
    port = str(processes.free_port())
    command = [sys.executable, "-m", "http.server", port, f"--bind={processes.HOST}", f"--directory={folder}"]
    with processes.listening(int(port), command, folder.with_suffix(".log")):
        yield f"http://{processes.HOST}:{port}"


def split_shop_fixture(name, copy):
    """Make a shop whose pages come from a static server on another origin, which has what `copy` makes of web/."""

    @pytest.fixture(scope="module", name=name)
    def running_shop(tmp_path_factory):
        listener, var = processes.listen(), tmp_path_factory.mktemp(name)
        copy(processes.ROOT / "web", web := var / "web")
        for page in web.glob("*.html"):
            text = page.read_text(encoding="utf-8").replace(
                'data-api=""', f'data-api="{processes.address_of(listener)}"'
            )
            page.write_text(text, encoding="utf-8")
        with (
            static_server(web) as pages,
            open_shop(var, pages=pages, listener=listener, CORS_ALLOWED_ORIGINS=pages) as place,
        ):
            yield place

    return running_shop


split_shop = split_shop_fixture("split_shop", copytree)
built_shop = split_shop_fixture(
    "built_shop", lambda web, folder: served.write(served.build(web), folder)
)  # as `python -m meiduo.pages` writes it


# Users ----------------------------------------------------------------------------------------------------------------


class BrowserUser:
    """A user with a Chromium profile, a QQ account and a phone."""

    def __init__(self, place, context, person=None, mobile=None):
        self.place, self.context = place, context
        self.person, self.mobile = person or remote_users.new_person(), mobile or remote_users.new_mobile()
        self.requests = []
        context.on("request", lambda sent: self.requests.append(sent))  # Playwright accepts no built-in method

    def sent(self, path, method="GET"):
        return [sent for sent in self.requests if (sent.method, urlsplit(sent.url).path) == (method, path)]

    def open(self, path, **options):
        page = self.context.new_page()
        page.goto(self.place.pages + path, **options)
        return page

    def press_qq(self, next="/"):
        """Press the QQ button of the login page, in a new tab."""
        page = self.open(f"/login.html?next={quote(next)}")
        button(page, "QQ登录").click()
        sees(page, "QQ 登录")
        return page

    def sign_in(self, page):
        """Choose the account on QQ's page."""
        page.bring_to_front()  # Chromium slows down tabs in the background
        page.get_by_label("或者任何人").fill(self.person)
        button(page, "登录 Sign in").click()

    def sign_in_again(self, page, heading):
        """See this error, press its button and sign in."""
        sees(page, heading)
        button(page, "再用 QQ 登录").click()
        self.sign_in(page)

    def arrive(self, next="/"):
        """Sign in, in a new tab, up to the bind form."""
        page = self.press_qq(next)
        self.sign_in(page)
        sees(page, "绑定手机号")
        return page

    def sign_in_elsewhere(self, next):
        """Sign in at QQ without a tab; return the address that QQ would send the browser back to."""
        start = self._get_location(f"{self.place.shop.url}/oauth/qq/login/?next={quote(next)}")
        return self.place.qq.sign_in(start, self.person)

    def come_back_elsewhere(self, next):
        """Sign in and come back without a tab; return the address of the callback page."""
        return self._get_location(self.sign_in_elsewhere(next))

    def _get_location(self, url):
        return self.context.request.get(url, max_redirects=0).headers["location"]  # with the browser's cookies

    def receive_sms(self, page):
        """Solve the image code, ask for an SMS and return its code."""
        page.bring_to_front()
        page.locator("#mobile").fill(self.mobile)
        page.locator("#image-code").fill(self.read_picture(page))
        page.locator("#send-sms").click()
        return self.read_sms(page)

    def read_picture(self, page):
        picture = page.locator("#image-code-picture")
        expect(picture).to_have_js_property("complete", True)
        expect(picture).not_to_have_js_property("naturalWidth", 0)
        image_code_id = picture.get_attribute("src").split("/")[-2]
        return self.place.shop.last_line("captcha.log", id=image_code_id)["text"]

    def read_sms(self, page):
        expect(page.locator("#sms-sent")).to_be_visible()
        return re.search(r"\d{6}", self.place.shop.last_line("sms.log", mobile=self.mobile)["text"])[0]

    def fill_in(self, page, sms_code):
        page.locator("#mobile").fill(self.mobile)
        page.locator("#sms-code").fill(sms_code)
        page.locator("#password").fill(PASSWORD)

    def bind(self, page, next):
        """Fill in the form, send it, and see the account at the address of `next`."""
        sees(page, "绑定手机号")
        self.fill_in(page, self.receive_sms(page))
        button(page, "绑定并登录").click()
        self.is_logged_in(page, next)

    def is_logged_in(self, page, next):
        expect(page).to_have_url(self.place.pages + next)
        sees(page, "您好")
        expect(page.locator("#account-mobile")).to_have_text(f"{self.mobile[:3]}****{self.mobile[-4:]}")


def button(page, name):
    return page.get_by_role("button", name=name)


def sees(page, heading):
    """Wait until the page's visible heading contains this text."""
    expect(page.get_by_role("heading", level=1)).to_contain_text(heading)


def without_browser(place, person=None):
    """Return a user who makes the calls of the pages over plain HTTP."""
    return remote_users.RemoteUser([place.shop], place.qq, person)


def bind_elsewhere(user):
    other = without_browser(user.place, user.person)
    assert other.bind(other.fill_in(user.mobile)).status == 200


def change_mobile(place, mobile, change=""):
    """Give an account a new number, to which no SMS has gone in the last minute; return it."""
    new_mobile = remote_users.new_mobile()
    with closing(sqlite3.connect(place.shop.var / "db.sqlite3")) as database, database:
        update = f"UPDATE tb_users SET {change} mobile = ? WHERE mobile = ?"
        assert database.execute(update, (new_mobile, mobile)).rowcount == 1
    return new_mobile


def forget_password(place, mobile):
    """Remove an account's password; return its new number."""
    return change_mobile(place, mobile, "password = '!',")


def forbid_inline_scripts(context):
    """Serve the callback page with a policy that forbids the script in its HTML."""

    def forbid(route):
        headers = {"content-security-policy": "script-src 'self'"}
        response = route.fetch(headers=route.request.headers | {"sec-fetch-dest": "document"})  # Playwright drops it
        route.fulfill(response=response, headers=response.headers | headers)

    context.route(re.compile(r"/(oauth_callback\.html|callback/)"), forbid)


def serve_plain_pages(context):
    """Serve the HTML of web/ itself, which asks for each module by its own name."""

    def answer(route):
        name = urlsplit(route.request.url).path.rpartition("/")[2]
        route.fulfill(response=route.fetch(), body=(processes.ROOT / "web" / name).read_text(encoding="utf-8"))

    context.route(re.compile(r"\.html"), answer)


@pytest.fixture(scope="module")
def chromium():
    # Not for the session: while Chromium runs, this thread has an event loop, and Django's ORM refuses to work.
    if not (path := processes.find("chromium")):
        pytest.skip("there is no chromium")
    with sync_playwright() as playwright:
        yield playwright.chromium.launch(executable_path=path, args=OPTIONS)  # closed with Playwright


@pytest.fixture
def meet(chromium, shop):
    """A function that makes a user with a new browser profile.

    The test fails if a page writes an error to the console that is neither EXPECTED nor `expected`.
    """
    contexts, complaints = [], []

    def meet_user(place=shop, person=None, mobile=None, expected=None, **options):
        if not contexts:
            place.qq.reset()
        if place.pages == place.shop.url:  # on another origin, Chromium would send a preflight for this header
            options["extra_http_headers"] = {"X-Forwarded-For": processes.random_address()}
        contexts.append(context := chromium.new_context(**{"locale": "zh-CN"} | options))

        def complain(text):
            if not re.search(f"{EXPECTED}|{expected or EXPECTED}", text):
                complaints.append(text)

        context.on("console", lambda line: complain(f"{line.type}: {line.text} ({line.location['url']})"))
        context.on("weberror", lambda error: complain(f"uncaught: {error.error}"))
        return BrowserUser(place, context, person, mobile)

    yield meet_user
    for context in contexts:
        for page in context.pages:
            page.evaluate("0")  # earlier console messages have then been delivered
        context.close()
    assert complaints == []


@pytest.fixture
def user(meet):
    return meet()


@pytest.fixture
def member(user):
    """A user whose QQ is bound."""
    bind_elsewhere(user)
    user.place.qq.reset()
    return user

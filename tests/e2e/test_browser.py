"""What shoppers see: Chromium, the pages, the shop under gunicorn and the stand-in for QQ, joined by sockets only."""

import json
import re
import sqlite3
import threading
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from shutil import copytree
from urllib.parse import quote, urlsplit

import pytest
from playwright.sync_api import expect, sync_playwright

import standin
from standin import QQ
from tests.tools import processes
from tests.tools.processes import Visitor

pytestmark = pytest.mark.browser

# The second line keeps Chromium from calling home.
OPTIONS = ["--no-sandbox", "--disable-quic", "--no-first-run"]
OPTIONS += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
PHONE = {
    "user_agent": "Mozilla/5.0 (Linux; Android 14; K) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/130.0.0.0 "
    "Mobile Safari/537.36",
    "viewport": {"width": 360, "height": 780},
    "is_mobile": True,
    "has_touch": True,
}
PASSWORD = "correct horse"
# Chromium itself writes a line to the console for each answer that is an error; QQ's pages have no icon.
FAILED = "Failed to load resource: the server responded with a status of "
EXPECTED = re.compile(FAILED + r"(400 |429 |503 |404 .*/favicon\.ico)")

expect.set_options(timeout=30_000)  # as long as Playwright waits for anything else


# The shops ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Place:
    """A shop that runs, the QQ it asks, and the origin of its pages."""

    shop: processes.Shop
    qq: QQ
    pages: str

    def times_asked(self):
        """How often the shop took a code to QQ."""
        return len(self.qq.requests("/oauth2.0/token"))


@contextmanager
def open_shop(var, *, pages=None, direct=False, listener=None, **environ):
    listener = listener or processes.listen()
    pages = pages or processes.address_of(listener)
    page, callback = f"{pages}/oauth_callback.html", processes.callback_of(listener)
    environ |= {"QQ_CALLBACK_PAGE": page, "QQ_REDIRECT_URI": page if direct else callback}
    environ |= {"DATABASE_URL": "", "CACHE_URL": ""}  # on every machine the same: SQLite and local memory
    with (
        standin.running(callbacks=[page, callback]) as qq,
        processes.shop(var, qq, listener=listener, **environ) as shop,
    ):
        yield Place(shop, qq, pages)


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    """Takes the place of the settings that tests without a browser have under this name."""
    with open_shop(tmp_path_factory.mktemp("shop")) as place:
        yield place


@pytest.fixture(scope="module")
def direct_shop(tmp_path_factory):
    """QQ sends the browser straight to this shop's page."""
    with open_shop(tmp_path_factory.mktemp("direct"), direct=True) as place:
        yield place


@pytest.fixture(scope="module")
def split_shop(tmp_path_factory):
    """The pages of this one come from a static server, another origin than its API's."""
    listener = processes.listen()
    web = tmp_path_factory.mktemp("pages") / "web"
    copytree(processes.ROOT / "web", web)
    for page in (web / name for name in ("index.html", "login.html", "oauth_callback.html", "reset.html")):
        text = page.read_text(encoding="utf-8")
        assert text.count('data-api=""') == 1
        page.write_text(text.replace('data-api=""', f'data-api="{processes.address_of(listener)}"'), encoding="utf-8")
    with static_server(web) as pages:
        var = tmp_path_factory.mktemp("split")
        with open_shop(var, pages=pages, listener=listener, CORS_ALLOWED_ORIGINS=pages) as place:
            yield place


@pytest.fixture(scope="module")
def narrow_shop(tmp_path_factory):
    """This shop asks QQ one thing at a time."""
    with open_shop(tmp_path_factory.mktemp("narrow"), QQ_MAX_CONNECTIONS="1") as place:
        yield place


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


@contextmanager
def static_server(folder):
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(QuietHandler, directory=folder)) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


# Who comes to them ----------------------------------------------------------------------------------------------------


class Shopper:
    """A person with a browser of their own, a QQ and a phone."""

    def __init__(self, place, context, person, mobile):
        self.place = place
        self.context = context
        self.person = person
        self.mobile = mobile
        self.requests = []
        context.on("request", lambda sent: self.requests.append(sent))

    def sent(self, path, method="GET"):
        """The requests the browser made of an address."""
        return [sent for sent in self.requests if (sent.method, urlsplit(sent.url).path) == (method, path)]

    def open(self, path):
        page = self.context.new_page()
        page.goto(self.place.pages + path)
        return page

    def press_qq(self, next="/"):
        """Press the QQ button of the login page, in a new tab."""
        page = self.open(f"/login.html?next={quote(next)}")
        button(page, "QQ登录").click()
        sees(page, "QQ 登录")
        return page

    def sign_in(self, page):
        """Say at QQ who one is."""
        page.bring_to_front()  # Chromium gives a tab in the background little time
        page.get_by_label("或者任何人").fill(self.person)
        button(page, "登录 Sign in").click()

    def arrive(self, next="/"):
        """Sign in, in a new tab, and get the form."""
        page = self.press_qq(next)
        self.sign_in(page)
        sees(page, "绑定手机号")
        return page

    def receive_sms(self, page):
        """Read the picture, ask for an SMS and return the code in it."""
        page.bring_to_front()
        page.locator("#mobile").fill(self.mobile)
        page.locator("#image-code").fill(self.read_picture(page))
        button(page, "获取短信").click()
        return self.read_sms(page)

    def read_picture(self, page):
        picture = page.locator("#image-code-picture")
        expect(picture).to_have_js_property("complete", True)
        expect(picture).not_to_have_js_property("naturalWidth", 0)
        image_code_id = picture.get_attribute("src").split("/")[-2]
        return self.place.shop.last_line("captcha.log", id=image_code_id)["text"]

    def read_sms(self, page):
        expect(page.get_by_text("短信已发送")).to_be_visible()
        return re.search(r"\d{6}", self.place.shop.last_line("sms.log", mobile=self.mobile)["text"])[0]

    def fill_in(self, page, sms_code):
        page.locator("#mobile").fill(self.mobile)
        page.locator("#sms-code").fill(sms_code)
        page.locator("#password").fill(PASSWORD)

    def bind(self, page):
        """Fill in the form and send it."""
        self.fill_in(page, self.receive_sms(page))
        button(page, "绑定并登录").click()

    def is_in(self, page, next):
        """The shopper sees the account, at the address they wanted to go to."""
        expect(page).to_have_url(self.place.pages + next)
        sees(page, "您好")
        expect(page.locator("#account-mobile")).to_have_text(f"{self.mobile[:3]}****{self.mobile[-4:]}")


def button(page, name):
    return page.get_by_role("button", name=name)


def sees(page, heading):
    """The page's heading, the one that is not hidden, says this."""
    expect(page.get_by_role("heading", level=1)).to_contain_text(heading)


def come_back(visitor, place, person):
    """Sign in at QQ with a browser of another kind; return where QQ sends it."""
    at_qq = visitor.get(f"{place.shop.url}/oauth/qq/login/").headers["Location"]
    return place.qq.sign_in(at_qq, person)


def collect(visitor, place, page_address):
    """Make the call of the page with that address."""
    return visitor.get(f"{place.shop.url}/oauth/qq/users/?{urlsplit(page_address).query}")


def bind_elsewhere(shopper):
    """Bind the shopper's QQ to the shopper's mobile with a browser of another kind."""
    place, visitor = shopper.place, Visitor()
    page_address = visitor.get(come_back(visitor, place, shopper.person)).headers["Location"]
    form = {
        "mobile": shopper.mobile,
        "password": PASSWORD,
        "sms_code": place.shop.receive_sms_code(visitor, shopper.mobile),
        "access_token": collect(visitor, place, page_address).json()["access_token"],
    }
    assert visitor.post(f"{place.shop.url}/oauth/qq/users/", form).status == 200


@pytest.fixture(scope="module")
def chromium():
    # For the module and no longer: while it runs, this thread has an event loop, and Django's ORM refuses to work.
    if not (path := processes.find("chromium")):
        pytest.skip("there is no chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=OPTIONS)
        yield browser
        browser.close()


numbers = count(1)


@pytest.fixture
def meet(chromium, shop):
    """Make a shopper with a new browser; the pages must not complain in any of them."""
    contexts, complaints = [], []

    def meet_shopper(place=shop, person=None, mobile=None, **options):
        if not contexts:
            place.qq.reset()
        number = next(numbers)
        if place.pages == place.shop.url:  # on another origin Chromium takes the header for one of the page's
            options["extra_http_headers"] = {"X-Forwarded-For": processes.random_address()}
        contexts.append(context := chromium.new_context(locale="zh-CN", **options))
        context.on("console", lambda line: complaints.append(f"{line.type}: {line.text} ({line.location['url']})"))
        context.on("weberror", lambda error: complaints.append(f"uncaught: {error.error}"))
        return Shopper(place, context, person or f"顾客{number}", mobile or f"138{number:08}")

    yield meet_shopper
    for context in contexts:
        for page in context.pages:
            page.evaluate("0")  # what it said before that has been heard
        context.close()
    assert [complaint for complaint in complaints if not EXPECTED.search(complaint)] == []


@pytest.fixture
def shopper(meet):
    return meet()


@pytest.fixture
def member(shopper):
    """A shopper whose QQ is bound."""
    bind_elsewhere(shopper)
    shopper.place.qq.reset()
    return shopper


# The way in -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["shop", "split_shop", "direct_shop"])
def test_first_login_asks_for_the_mobile_and_the_second_goes_straight_in(request, meet, place):
    place = request.getfixturevalue(place)
    shopper = meet(place)
    page = shopper.arrive(next="/?from=购物车&a=1#top")
    shopper.bind(page)
    shopper.is_in(page, "/?from=%E8%B4%AD%E7%89%A9%E8%BD%A6&a=1#top")
    token = page.evaluate("localStorage.token")
    profile = Visitor().get(f"{place.shop.url}/user/", Authorization=f"JWT {token}")
    masked = f"{shopper.mobile[:3]}****{shopper.mobile[-4:]}"
    assert (profile.status, profile.json()["mobile"]) == (200, masked)

    again = meet(place, person=shopper.person, mobile=shopper.mobile)
    page = again.press_qq(next="/?second")
    again.sign_in(page)
    again.is_in(page, "/?second")
    assert again.sent("/oauth/qq/users/", "POST") == []
    assert page.evaluate("localStorage.username") == profile.json()["username"]
    assert place.times_asked() == 2


@pytest.mark.parametrize("place", ["shop", "direct_shop"])
def test_the_address_holds_no_code_once_the_page_is_there(request, meet, place):
    shopper = meet(request.getfixturevalue(place))
    page = shopper.arrive()
    assert "code=" in shopper.sent("/oauth_callback.html")[-1].url
    expect(page).to_have_url(f"{shopper.place.pages}/oauth_callback.html")


def test_two_tabs_at_once_end_each_at_its_own_place(meet):
    first = meet()
    second = Shopper(first.place, first.context, f"{first.person}的朋友", "13900000001")
    pages = first.press_qq(next="/?tab=1"), second.press_qq(next="/?tab=2")
    first.sign_in(pages[0])
    second.sign_in(pages[1])
    for page in pages:
        sees(page, "绑定手机号")
    second.bind(pages[1])
    second.is_in(pages[1], "/?tab=2")
    first.bind(pages[0])
    first.is_in(pages[0], "/?tab=1")


def test_ten_flows_in_ten_tabs_all_finish(member):
    pages = [member.open(f"/oauth/qq/login/?next=/?tab={tab}") for tab in range(10)]
    for page in pages:
        member.sign_in(page)
    for tab, page in enumerate(pages):
        member.is_in(page, f"/?tab={tab}")
    assert member.place.times_asked() == 10


def test_the_eleventh_flow_takes_the_place_of_the_oldest(member):
    oldest = member.open("/oauth/qq/login/?next=/?oldest")
    # A flow's age is counted in whole seconds.
    oldest.wait_for_function("start => Date.now() >= start + 1000", arg=oldest.evaluate("Date.now()"))
    others = [member.open(f"/oauth/qq/login/?next=/?tab={tab}") for tab in range(10)]
    member.sign_in(oldest)
    sees(oldest, "这次登录没有完成")
    for tab in (0, 9):
        member.sign_in(others[tab])
        member.is_in(others[tab], f"/?tab={tab}")
    button(oldest, "再用 QQ 登录").click()
    member.sign_in(oldest)
    member.is_in(oldest, "/")  # where it wanted to go went with its cookie


def test_all_of_it_can_be_done_by_keyboard(shopper):
    page = shopper.open("/login.html?next=/?keys")
    keyboard = page.keyboard

    def tab_to(element):
        for _ in range(15):
            keyboard.press("Tab")
            if element.evaluate("element => element === document.activeElement"):
                return
        pytest.fail("the Tab key does not get there")

    tab_to(button(page, "QQ登录"))
    keyboard.press("Enter")
    sees(page, "QQ 登录")
    tab_to(page.get_by_label("或者任何人"))
    keyboard.type(shopper.person)
    keyboard.press("Enter")

    sees(page, "绑定手机号")
    expect(page.locator("#bind-heading")).to_be_focused()  # read aloud, and one Tab from the first field
    keyboard.press("Tab")
    expect(page.locator("#mobile")).to_be_focused()
    keyboard.type(shopper.mobile)
    keyboard.press("Tab")
    expect(page.locator("#image-code")).to_be_focused()
    keyboard.type(shopper.read_picture(page))
    keyboard.press("Enter")
    sms_code = shopper.read_sms(page)
    expect(page.locator("#sms-code")).to_be_focused()
    keyboard.type(sms_code)
    keyboard.press("Tab")  # past the button that counts down
    expect(page.locator("#password")).to_be_focused()
    keyboard.type(PASSWORD)
    keyboard.press("Enter")
    shopper.is_in(page, "/?keys")


# What goes wrong in the form ------------------------------------------------------------------------------------------


def test_wrong_sms_code_is_told_beside_its_field_and_nothing_typed_is_lost(shopper):
    page = shopper.arrive(next="/?kept")
    sms_code = shopper.receive_sms(page)
    shopper.fill_in(page, sms_code="000000" if sms_code != "000000" else "111111")
    typed = page.locator("#bind-form").evaluate("form => JSON.stringify([...new FormData(form)])")
    button(page, "绑定并登录").click()
    field = page.locator("#sms-code")
    expect(field).to_have_accessible_description(re.compile("短信验证码错误"))
    expect(field).to_have_attribute("aria-invalid", "true")
    expect(field).to_be_focused()
    expect(page.locator("[aria-invalid]")).to_have_count(1)
    assert page.locator("#bind-form").evaluate("form => JSON.stringify([...new FormData(form)])") == typed
    assert json.loads(typed)[-1] == ["password", PASSWORD]

    field.fill(sms_code)
    button(page, "绑定并登录").click()
    shopper.is_in(page, "/?kept")
    assert shopper.place.times_asked() == 1


def test_wrong_image_code_is_told_beside_its_field_with_a_new_picture(shopper):
    page = shopper.arrive()
    page.locator("#mobile").fill(shopper.mobile)
    right = shopper.read_picture(page)
    field, picture = page.locator("#image-code"), page.locator("#image-code-picture")
    before = picture.get_attribute("src")
    field.fill("0000")  # no picture has a 0
    button(page, "获取短信").click()
    expect(field).to_have_accessible_description("图形验证码错误或已过期。")
    expect(picture).not_to_have_attribute("src", before)
    expect(field).to_have_value("")
    assert shopper.read_picture(page) != right
    shopper.bind(page)
    shopper.is_in(page, "/")


def test_number_that_has_to_wait_is_told_how_long_and_another_need_not(shopper):
    page = shopper.arrive()
    shopper.place.shop.receive_sms_code(Visitor(), shopper.mobile)
    page.locator("#mobile").fill(shopper.mobile)
    page.locator("#image-code").fill(shopper.read_picture(page))
    send = page.locator("#send-sms")
    send.click()
    message = page.locator("#form-message")
    expect(message).to_contain_text("操作太频繁，请稍后再试。")
    expect(message).to_contain_text(re.compile(r"请等 \d+ 秒"))
    expect(message).to_be_focused()
    expect(send).to_have_text(re.compile(r"\d+ 秒后重发\s*again in \d+ s"))
    expect(send).to_be_disabled()

    shopper.mobile = f"139{shopper.mobile[3:]}"
    page.locator("#mobile").fill(shopper.mobile)
    expect(send).to_have_text(re.compile("获取短信"))
    shopper.bind(page)
    shopper.is_in(page, "/")


def test_forgotten_password_is_set_anew_by_sms(shopper):
    account = {"username": shopper.mobile[::-1], "mobile": shopper.mobile, "password": "!", "is_active": True}
    account |= {"is_superuser": False, "is_staff": False, "email_active": False, "token_generation": 0}
    account |= {"first_name": "", "last_name": "", "email": "", "date_joined": "2020-01-01 00:00:00"}
    with closing(sqlite3.connect(shopper.place.shop.var / "db.sqlite3")) as database, database:
        names, marks = ", ".join(account), ", ".join("?" * len(account))
        database.execute(f"INSERT INTO tb_users ({names}) VALUES ({marks})", tuple(account.values()))

    form = shopper.arrive(next="/?bound")
    with shopper.context.expect_page() as opened:
        form.get_by_role("link", name="忘记了这个账号的密码").click()
    page = opened.value
    sees(page, "重设密码")
    sms_code = shopper.receive_sms(page)
    shopper.fill_in(page, sms_code)
    page.locator("#password").fill("12345678")
    button(page, "保存并登录").click()
    expect(page.locator("#password")).to_have_accessible_description(re.compile("这个密码太常见了"))
    page.locator("#password").fill(PASSWORD)
    button(page, "保存并登录").click()
    shopper.is_in(page, "/")
    assert len(shopper.sent("/password/", "POST")) == 2

    page = shopper.open("/login.html?next=/?known")
    page.get_by_role("link", name="忘记密码").click()
    sees(page, "重设密码")
    page.get_by_role("link", name="返回登录").click()
    sees(page, "登录")
    page.locator("#username").fill(shopper.mobile)
    page.locator("#password").fill(PASSWORD)
    page.locator("#login-submit").click()
    shopper.is_in(page, "/?known")


def test_too_many_tries_end_the_attempt_and_a_new_login_helps(shopper):
    page = shopper.arrive(next="/?tries")
    shopper.fill_in(page, sms_code="000000")
    for _ in range(6):
        with page.expect_response(lambda response: response.request.method == "POST"):
            button(page, "绑定并登录").click()
    sees(page, "试的次数太多了")
    expect(page.locator("#bind-form")).to_be_hidden()
    button(page, "再用 QQ 登录").click()
    shopper.sign_in(page)
    sees(page, "绑定手机号")
    shopper.bind(page)
    shopper.is_in(page, "/?tries")


def test_openid_bound_meanwhile_is_told_and_the_next_login_goes_straight_in(shopper):
    page = shopper.arrive(next="/?late")
    bind_elsewhere(shopper)
    shopper.fill_in(page, sms_code="123456")
    button(page, "绑定并登录").click()
    sees(page, "这个 QQ 已经绑定好了")
    expect(page.locator("#bind-form")).to_be_hidden()
    button(page, "再用 QQ 登录").click()
    shopper.sign_in(page)
    shopper.is_in(page, "/?late")


def test_double_click_sends_the_form_once(shopper):
    page = shopper.arrive()
    shopper.fill_in(page, shopper.receive_sms(page))
    button(page, "绑定并登录").dblclick()
    shopper.is_in(page, "/")
    assert len(shopper.sent("/oauth/qq/users/", "POST")) == 1


# What goes wrong on the way -------------------------------------------------------------------------------------------


def test_cancel_on_a_computer_ends_at_qq_and_costs_nothing(shopper):
    page = shopper.press_qq()
    button(page, "取消").click()
    sees(page, "已取消")
    assert page.url.startswith(shopper.place.qq.url)
    assert shopper.sent("/oauth/qq/callback/") == []
    page.go_back()
    sees(page, "QQ 登录")
    shopper.sign_in(page)
    sees(page, "绑定手机号")


def test_cancel_on_a_phone_comes_back_to_the_shop_where_one_may_try_again(meet):
    shopper = meet(**PHONE)
    page = shopper.press_qq(next="/?phone")
    button(page, "取消").click()
    sees(page, "您取消了 QQ 登录")
    expect(page).to_have_url(f"{shopper.place.pages}/oauth_callback.html")
    assert shopper.place.times_asked() == 0
    button(page, "再用 QQ 登录").click()
    shopper.sign_in(page)
    sees(page, "绑定手机号")
    shopper.bind(page)
    shopper.is_in(page, "/?phone")


def test_reload_brings_the_form_back_without_asking_qq_again(shopper):
    page = shopper.arrive(next="/?reload")
    page.locator("#mobile").fill(shopper.mobile)
    page.reload()
    sees(page, "绑定手机号")
    expect(page.locator("#mobile")).to_have_value(shopper.mobile)
    assert len(shopper.sent("/oauth/qq/users/")) == 2
    assert shopper.place.times_asked() == 1
    shopper.bind(page)
    shopper.is_in(page, "/?reload")


def test_reload_while_qq_is_asked_waits_for_the_same_answer(shopper):
    shopper.place.qq.behave(token={"fault": "slow", "seconds": 2})
    page = shopper.press_qq()
    shopper.sign_in(page)
    sees(page, "正在登录")
    processes.wait_until(shopper.place.times_asked, "QQ is asked")
    page.reload()
    sees(page, "绑定手机号")
    assert len(shopper.sent("/oauth/qq/users/")) == 2
    assert shopper.place.times_asked() == 1


def test_back_leads_out_of_the_form_and_forward_into_it_again(shopper):
    page = shopper.arrive(next="/?back")
    page.go_back()
    sees(page, "QQ 登录")
    page.go_forward()
    sees(page, "绑定手机号")
    assert shopper.place.times_asked() == 1
    shopper.bind(page)
    shopper.is_in(page, "/?back")


def test_back_after_the_login_is_no_trap_and_spends_nothing(member):
    page = member.press_qq(next="/?from=cart")
    member.sign_in(page)
    member.is_in(page, "/?from=cart")
    page.go_back()
    sees(page, "QQ 登录")  # not the page that finishes logins: it has left the history
    page.go_back()
    expect(page.get_by_role("heading", level=1)).to_have_text("登录Log in")
    page.go_forward()
    page.go_forward()
    member.is_in(page, "/?from=cart")

    page.go_back()
    member.sign_in(page)  # once more from QQ's old page
    sees(page, "这次登录没有完成")
    assert member.place.times_asked() == 1
    button(page, "再用 QQ 登录").click()
    member.sign_in(page)
    member.is_in(page, "/?from=cart")


def test_qq_out_of_order_is_told_and_the_next_try_works(shopper):
    shopper.place.qq.behave(token={"fault": "502", "times": 1})
    page = shopper.press_qq(next="/?later")
    shopper.sign_in(page)
    sees(page, "QQ 暂时没有回应")
    assert shopper.place.times_asked() == 1
    button(page, "再用 QQ 登录").click()
    shopper.sign_in(page)
    sees(page, "绑定手机号")
    shopper.bind(page)
    shopper.is_in(page, "/?later")


def test_too_busy_a_shop_is_asked_again_by_the_page_itself(meet, narrow_shop):
    patient, other = meet(narrow_shop), meet(narrow_shop)
    narrow_shop.qq.behave(token={"fault": "slow", "seconds": 4, "times": 1})
    page, others_page = patient.press_qq(next="/?busy"), other.press_qq()
    other.sign_in(others_page)
    processes.wait_until(narrow_shop.times_asked, "QQ is asked")
    patient.sign_in(page)
    sees(page, "现在登录的人有点多")
    expect(page.get_by_text("正在自动重试")).to_be_visible()
    expect(button(page, "再试一次")).to_be_hidden()
    sees(page, "绑定手机号")
    sees(others_page, "绑定手机号")
    asked = [sent.url for sent in patient.sent("/oauth/qq/users/")]
    assert len(asked) > 1
    assert len(set(asked)) == 1
    assert narrow_shop.times_asked() == 2
    patient.bind(page)
    patient.is_in(page, "/?busy")


def test_a_long_wait_is_told_in_seconds(meet, narrow_shop):
    shopper, impatient, other = meet(narrow_shop), Visitor(), Visitor()
    with_codes = [each.get(come_back(each, narrow_shop, "李雷")).headers["Location"] for each in (impatient, other)]
    narrow_shop.qq.behave(token={"fault": "slow", "seconds": 4, "times": 1})
    thread = threading.Thread(target=collect, args=(other, narrow_shop, with_codes[1]))
    before = narrow_shop.times_asked()
    thread.start()
    processes.wait_until(lambda: narrow_shop.times_asked() > before, "QQ is asked")
    while int(collect(impatient, narrow_shop, with_codes[0]).headers["Retry-After"]) < 10:
        pass
    page = shopper.press_qq()
    shopper.sign_in(page)
    sees(page, "现在登录的人有点多")
    expect(page.get_by_text(re.compile("请等 1[0-9] 秒"))).to_be_visible()
    thread.join()


@pytest.mark.parametrize("link", ["callback", "page"])
def test_link_from_another_browser_logs_nobody_in_and_spends_nothing(shopper, link):
    place, stranger = shopper.place, Visitor()
    callback = come_back(stranger, place, "骗子")
    page_address = None if link == "callback" else stranger.get(callback).headers["Location"]

    page = shopper.context.new_page()
    page.goto(page_address or callback)
    sees(page, "这次登录没有完成")
    expect(page.get_by_text("请在这个浏览器里再点一次 QQ 登录")).to_be_visible()
    assert place.times_asked() == 0
    assert page.evaluate("localStorage.length") == 0
    button(page, "再用 QQ 登录").click()
    shopper.sign_in(page)
    sees(page, "绑定手机号")

    page_address = page_address or stranger.get(callback).headers["Location"]
    assert collect(stranger, place, page_address).status == 200


# The screen -----------------------------------------------------------------------------------------------------------


def test_nothing_is_wider_than_a_small_phone(meet):
    shopper = meet(**PHONE)

    def fits(page):
        assert page.evaluate("document.documentElement.scrollWidth") == 360, page.url

    page = shopper.open("/")
    sees(page, "欢迎来到美多商城")
    fits(page)
    page.goto(f"{shopper.place.pages}/login.html")
    button(page, "登录 Log in").first.click()
    expect(page.get_by_text("请填写这一项").first).to_be_visible()
    fits(page)
    page.goto(f"{shopper.place.pages}/reset.html")
    button(page, "保存并登录").click()
    expect(page.get_by_text("请填写这一项").first).to_be_visible()
    fits(page)
    page.goto(f"{shopper.place.pages}/oauth_callback.html")
    sees(page, "这里没有要完成的登录")
    fits(page)
    faces = page.evaluate("import('./faces.js').then(({faces}) => Object.entries(faces).filter(([, f]) => f.step))")
    assert len(faces) > 15
    for code, face in faces:
        page.goto(f"{shopper.place.pages}/oauth_callback.html?error={code}&state=/cart")
        sees(page, face["heading"][0])
        fits(page)

    page = shopper.arrive(next="/?narrow")
    button(page, "绑定并登录").click()
    expect(page.get_by_text("请填写这一项").first).to_be_visible()
    shopper.receive_sms(page)
    fits(page)
    shopper.fill_in(page, sms_code="12345")
    button(page, "显示密码").click()
    button(page, "绑定并登录").click()
    expect(page.locator("#sms-code-error")).not_to_be_empty()
    fits(page)
    page.locator("#sms-code").fill(shopper.read_sms(page))
    button(page, "绑定并登录").click()
    shopper.is_in(page, "/?narrow")
    fits(page)

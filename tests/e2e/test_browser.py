"""The login pages in Chromium, with the shop under gunicorn and the stand-in for QQ."""

import json
import re
import sqlite3
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from functools import partial
from shutil import copytree
from typing import NamedTuple
from urllib.parse import quote, urlsplit

import pytest
from playwright.sync_api import expect, sync_playwright

import standin
from standin import QQ
from tests.tools import processes, remote_users
from tests.tools.processes import Visitor
from tests.tools.remote_users import PASSWORD
from tests.tools.requirements import requirement

pytestmark = pytest.mark.browser

# The second line keeps Chromium from calling its maker.
OPTIONS = ["--no-sandbox", "--disable-quic", "--no-first-run"]
OPTIONS += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
PHONE = {"is_mobile": True, "has_touch": True, "viewport": {"width": 360, "height": 780}}
PHONE["user_agent"] = "Mozilla/5.0 (Linux; Android 14; K) AppleWebKit/537.36 Chrome/130.0.0.0 Mobile Safari/537.36"
# Chromium writes each error answer to the console; QQ's pages have no icon.
EXPECTED = r"Failed to load resource: .* with a status of (400 |429 |503 |404 .*/favicon\.ico)"

expect.set_options(timeout=30_000)  # Playwright's default for everything else


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


@pytest.fixture(scope="module")
def split_shop(tmp_path_factory):
    """A shop whose pages come from a static server on another origin."""
    listener, var = processes.listen(), tmp_path_factory.mktemp("split")
    web = copytree(processes.ROOT / "web", var / "web")
    for page in web.glob("*.html"):
        text = page.read_text(encoding="utf-8").replace('data-api=""', f'data-api="{processes.address_of(listener)}"')
        page.write_text(text, encoding="utf-8")
    with (
        static_server(web) as pages,
        open_shop(var, pages=pages, listener=listener, CORS_ALLOWED_ORIGINS=pages) as place,
    ):
        yield place


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


def forget_password(place, mobile):
    """Remove an account's password; return its new number, to which no SMS has gone in the last minute."""
    new_mobile = remote_users.new_mobile()
    with closing(sqlite3.connect(place.shop.var / "db.sqlite3")) as database, database:
        change = "UPDATE tb_users SET password = '!', mobile = ? WHERE mobile = ?"
        assert database.execute(change, (new_mobile, mobile)).rowcount == 1
    return new_mobile


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
        contexts.append(context := chromium.new_context(locale="zh-CN", **options))

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


@requirement("1.6", "1.10", "4.5")
@pytest.mark.parametrize("place", ["shop", "split_shop", "direct_shop"])
def test_first_login_binds_and_second_login_skips_the_form(request, meet, place):
    place = request.getfixturevalue(place)
    user = meet(place)
    page = user.arrive(next="/?from=购物车&a=1#top")
    assert "code=" in user.sent("/oauth_callback.html")[-1].url
    expect(page).to_have_url(f"{place.pages}/oauth_callback.html")  # the page has removed the code from its address
    user.bind(page, "/?from=%E8%B4%AD%E7%89%A9%E8%BD%A6&a=1#top")
    authorization = f"JWT {page.evaluate('localStorage.token')}"
    profile = Visitor().get(f"{place.shop.url}/user/", Authorization=authorization).json()

    again = meet(place, person=user.person, mobile=user.mobile)
    page = again.press_qq(next="/?second")
    again.sign_in(page)
    again.is_logged_in(page, "/?second")
    assert page.evaluate("localStorage.username") == profile["username"]
    assert (again.sent("/oauth/qq/users/", "POST"), place.count_exchanges()) == ([], 2)


@requirement("2.3")
def test_two_tabs_end_at_their_own_targets(user):
    friend = BrowserUser(user.place, user.context)
    page, friends_page = user.arrive(next="/?tab=1"), friend.arrive(next="/?tab=2")
    friend.bind(friends_page, "/?tab=2")
    user.bind(page, "/?tab=1")


def test_ten_tabs_finish_and_an_eleventh_drops_the_oldest(member):
    oldest = member.open("/oauth/qq/login/?next=/?oldest")
    others = [member.open(f"/oauth/qq/login/?next=/?tab={tab}") for tab in range(10)]
    member.sign_in(oldest)
    for page in others:
        member.sign_in(page)
    for tab, page in enumerate(others):
        member.is_logged_in(page, f"/?tab={tab}")
    assert member.place.count_exchanges() == 10
    member.sign_in_again(oldest, "这次登录没有完成")
    member.is_logged_in(oldest, "/")  # `next` was in the dropped cookie


def test_page_keeps_a_refresh_token_until_the_next_login(member):
    def add_refresh_token(route):
        answer = route.fetch()
        route.fulfill(response=answer, json=answer.json() | {"refresh": "R"})

    member.context.route("**/oauth/qq/users/?*", add_refresh_token, times=1)
    for refresh in ("R", None):
        page = member.press_qq()
        member.sign_in(page)
        member.is_logged_in(page, "/")
        assert page.evaluate("localStorage.getItem('refresh')") == refresh


def test_whole_login_works_by_keyboard(user):
    page = user.open("/login.html?next=/?keys")
    keyboard = page.keyboard

    def tab_to(element):
        is_focused = partial(element.evaluate, "element => element === document.activeElement")
        processes.wait_until(lambda: keyboard.press("Tab") or is_focused(), "the Tab key reaches the element")

    def next_field(selector, text):
        keyboard.press("Tab")
        expect(page.locator(selector)).to_be_focused()
        keyboard.type(text)

    tab_to(button(page, "QQ登录"))
    keyboard.press("Enter")
    sees(page, "QQ 登录")
    tab_to(page.get_by_label("或者任何人"))
    keyboard.type(user.person)
    keyboard.press("Enter")

    sees(page, "绑定手机号")
    expect(page.locator("#bind-heading")).to_be_focused()  # read aloud, and one Tab from the first field
    next_field("#mobile", user.mobile)
    next_field("#image-code", user.read_picture(page))
    keyboard.press("Enter")
    expect(page.locator("#sms-code")).to_be_focused()
    keyboard.type(user.read_sms(page))
    next_field("#password", PASSWORD)  # the SMS button counts down and is skipped
    keyboard.press("Enter")
    user.is_logged_in(page, "/?keys")


def test_wrong_sms_code_is_shown_at_its_field_and_the_input_is_kept(user):
    page = user.arrive(next="/?kept")
    sms_code = user.receive_sms(page)
    user.fill_in(page, sms_code="000000" if sms_code != "000000" else "111111")
    typed = page.locator("#bind-form").evaluate("form => JSON.stringify([...new FormData(form)])")
    button(page, "绑定并登录").click()
    field = page.locator("#sms-code")
    expect(field).to_have_accessible_description(re.compile("短信验证码错误"))
    expect(field).to_be_focused()
    expect(page.locator("[aria-invalid=true]")).to_have_id("sms-code")  # and no second field
    assert page.locator("#bind-form").evaluate("form => JSON.stringify([...new FormData(form)])") == typed
    assert json.loads(typed)[-1] == ["password", PASSWORD]

    field.fill(sms_code)
    button(page, "绑定并登录").dblclick()
    user.is_logged_in(page, "/?kept")
    sent = user.sent("/oauth/qq/users/", "POST")
    assert (len(sent), user.place.count_exchanges()) == (2, 1)  # the double click sent one


def test_refused_sms_request_is_explained_and_can_be_corrected(user):
    page = user.arrive()
    user.place.shop.receive_sms_code(Visitor(), user.mobile)
    page.locator("#mobile").fill(user.mobile)
    field, picture, send = (page.locator(f"#{id}") for id in ("image-code", "image-code-picture", "send-sms"))
    before = picture.get_attribute("src")
    field.fill("0000")  # no picture contains a 0
    send.click()
    expect(field).to_have_accessible_description("图形验证码错误或已过期。")
    expect(picture).not_to_have_attribute("src", before)
    expect(field).to_have_value("")

    field.fill(user.read_picture(page))
    send.click()
    message = page.locator("#form-message")
    expect(message).to_contain_text(re.compile(r"操作太频繁，请稍后再试。.*请等 \d+ 秒", re.DOTALL))
    expect(message).to_be_focused()
    expect(send).to_have_text(re.compile(r"\d+ 秒后重发\s*again in \d+ s"))
    expect(send).to_be_disabled()

    user.mobile = remote_users.new_mobile()
    page.locator("#mobile").fill(user.mobile)
    expect(send).to_have_text(re.compile("获取短信"))
    user.bind(page, "/")


def test_forgotten_password_is_reset_by_sms(user):
    other = without_browser(user.place)
    filled_in = other.fill_in(remote_users.new_mobile())
    assert other.bind(filled_in).status == 200
    user.mobile = forget_password(user.place, filled_in["mobile"])
    form = user.arrive(next="/?bound")
    with user.context.expect_page() as opened:
        form.get_by_role("link", name="忘记了这个账号的密码").click()
    page = opened.value
    sees(page, "重设密码")
    user.fill_in(page, user.receive_sms(page))
    page.locator("#password").fill("12345678")
    button(page, "保存并登录").click()
    expect(page.locator("#password")).to_have_accessible_description(re.compile("这个密码太常见了"))
    page.locator("#password").fill(PASSWORD)
    button(page, "保存并登录").click()
    user.is_logged_in(page, "/")
    assert len(user.sent("/password/", "POST")) == 2

    page = user.open("/login.html?next=/?known")
    page.get_by_role("link", name="忘记密码").click()
    sees(page, "重设密码")
    page.get_by_role("link", name="返回登录").click()
    page.locator("#username").fill(user.mobile)
    page.locator("#password").fill(PASSWORD)
    page.locator("#login-submit").click()
    user.is_logged_in(page, "/?known")


@pytest.mark.parametrize(("is_bound", "heading"), [(False, "试的次数太多了"), (True, "这个 QQ 已经绑定好了")])
def test_refused_bind_hides_the_form_and_a_new_login_works(user, is_bound, heading):
    page = user.arrive(next="/?again")
    if is_bound:
        bind_elsewhere(user)
    user.fill_in(page, sms_code="000000")
    for _ in range(1 if is_bound else 6):
        with page.expect_response(lambda response: response.request.method == "POST"):
            button(page, "绑定并登录").click()
    expect(page.locator("#bind-form")).to_be_hidden()
    user.sign_in_again(page, heading)
    (user.is_logged_in if is_bound else user.bind)(page, "/?again")


def test_cancelled_and_failed_logins_on_a_phone_can_be_retried(meet):
    user = meet(**PHONE)
    page = user.press_qq(next="/?phone")
    button(page, "取消").click()
    expect(page).to_have_url(f"{user.place.pages}/oauth_callback.html")
    assert user.place.count_exchanges() == 0
    user.place.qq.behave(token={"fault": "502", "times": 1})
    user.sign_in_again(page, "您取消了 QQ 登录")
    user.sign_in_again(page, "QQ 暂时没有回应")
    user.bind(page, "/?phone")
    assert user.place.count_exchanges() == 2


def test_reload_back_and_forward_keep_the_form_without_another_call_to_qq(user):
    user.place.qq.behave(token={"fault": "slow", "seconds": 2})
    page = user.press_qq(next="/?reload")
    user.sign_in(page)
    sees(page, "正在登录")
    processes.wait_until(user.place.count_exchanges, "QQ is called")
    page.reload()  # during the call to QQ: it waits for the same answer
    sees(page, "绑定手机号")
    page.locator("#mobile").fill(user.mobile)
    page.reload()
    sees(page, "绑定手机号")
    expect(page.locator("#mobile")).to_have_value(user.mobile)
    assert len(user.sent("/oauth/qq/users/")) == 3
    page.go_back()
    sees(page, "QQ 登录")
    page.go_forward()
    sees(page, "绑定手机号")
    assert user.place.count_exchanges() == 1
    user.bind(page, "/?reload")


def test_back_after_the_login_skips_the_callback_page_and_uses_nothing_up(member):
    page = member.press_qq(next="/?from=cart")
    member.sign_in(page)
    member.is_logged_in(page, "/?from=cart")
    page.go_back()
    sees(page, "QQ 登录")  # the callback page has replaced itself in the history
    page.go_back()
    expect(page.get_by_role("heading", level=1)).to_have_text("登录Log in")
    page.go_forward()
    page.go_forward()
    member.is_logged_in(page, "/?from=cart")

    page.go_back()
    member.sign_in(page)  # from QQ's old page, with the used state: the browser has this login already
    member.is_logged_in(page, "/?from=cart")
    assert member.place.count_exchanges() == 1


def test_busy_shop_shows_the_wait_and_is_retried_by_the_page(meet, narrow_shop):
    patient, impatient, other = meet(narrow_shop), without_browser(narrow_shop), without_browser(narrow_shop)
    code, others_code = impatient.arrive(), other.arrive()
    narrow_shop.qq.behave(token={"fault": "slow", "seconds": 4, "times": 1})
    with ThreadPoolExecutor(1) as pool:
        pool.submit(other.redeem_code, others_code)
        processes.wait_until(narrow_shop.count_exchanges, "QQ is called")
        processes.wait_until(lambda: int(impatient.redeem_code(code).headers["Retry-After"]) >= 10, "the queue is long")
        page = patient.press_qq(next="/?busy")
        patient.sign_in(page)
        sees(page, "现在登录的人有点多")
        expect(page.get_by_role("link", name="其他登录方式")).to_be_visible()
        expect(page.get_by_text(re.compile("请等 1[0-9] 秒"))).to_be_visible()
        expect(page.get_by_text("正在自动重试")).to_be_visible()
        expect(button(page, "再试一次")).to_be_hidden()
    sees(page, "绑定手机号")
    calls = [sent.url for sent in patient.sent("/oauth/qq/users/")]
    assert len(calls) > len({*calls}) == 1
    assert narrow_shop.count_exchanges() == 2
    patient.bind(page, "/?busy")


@requirement("1.1")
@pytest.mark.parametrize("link", ["callback", "page"])
def test_link_from_another_browser_logs_nobody_in_and_uses_nothing_up(user, link):
    place, attacker = user.place, without_browser(user.place, "骗子")
    callback = attacker.sign_in()
    page_address = None if link == "callback" else attacker.visitor.get(callback).headers["Location"]

    page = user.context.new_page()
    page.goto(page_address or callback)
    sees(page, "这次登录没有完成")
    expect(page.get_by_text("请在这个浏览器里再点一次 QQ 登录")).to_be_visible()
    assert (place.count_exchanges(), page.evaluate("localStorage.token ?? null")) == (0, None)
    user.sign_in_again(page, "这次登录没有完成")
    sees(page, "绑定手机号")

    page_address = page_address or attacker.visitor.get(callback).headers["Location"]
    assert attacker.redeem_code(remote_users.read_page(page_address)["code"]).status == 200


def test_no_page_is_wider_than_a_small_phone(meet):
    user = meet(**PHONE)
    page, empty_field = user.context.new_page(), "请填写这一项"

    def fits(text):
        expect(page.get_by_text(text).filter(visible=True).first).to_be_visible()
        assert page.evaluate("document.documentElement.scrollWidth") == 360, page.url

    page.goto(f"{user.place.pages}/")
    fits("欢迎来到美多商城")
    for path, submit in ("login", "登录 Log in"), ("reset", "保存并登录"):
        page.goto(f"{user.place.pages}/{path}.html")
        button(page, submit).first.click()
        fits(empty_field)
    page.goto(f"{user.place.pages}/oauth_callback.html")
    fits("这里没有要完成的登录")
    faces = page.evaluate("import('./faces.js').then(({faces}) => Object.entries(faces).filter(([, f]) => f.step))")
    assert len(faces) > 15
    for code, face in faces:
        page.evaluate("localStorage.clear()")  # otherwise the second refusal in a row has another face
        page.goto(f"{user.place.pages}/oauth_callback.html?error={code}&state=/cart")
        for text in (*face["heading"], *face["text"]):
            fits(text)
        assert "" not in face["text"]

    page = user.arrive(next="/?narrow")
    button(page, "绑定并登录").click()
    fits(empty_field)
    user.receive_sms(page)
    user.fill_in(page, sms_code="12345")
    button(page, "显示密码").click()
    button(page, "绑定并登录").click()
    expect(page.locator("#sms-code-error")).not_to_be_empty()
    fits("绑定手机号")
    page.locator("#sms-code").fill(user.read_sms(page))
    button(page, "绑定并登录").click()
    user.is_logged_in(page, "/?narrow")
    fits("您好")


# Pages that neither hang nor lie --------------------------------------------------------------------------------------


def never(route):
    """Leave a request without an answer, and without an error."""


def without_modules(route):
    """Serve a page to a browser that does not know modules: it ignores them, without an error."""
    response = route.fetch()
    route.fulfill(response=response, body=response.text().replace('type="module"', 'type="unknown"'))


def replaced_by(**answer):
    return lambda route: route.fulfill(**answer)


CALLBACK_PAGE = re.compile("/oauth_callback.html")
FAULTS = {  # of the callback page: a pattern of addresses, what happens to them, and what the console says
    "the module fails": ("**/callback.js", lambda route: route.abort(), "net::ERR_FAILED"),
    "an import fails": ("**/storage.js", replaced_by(status=404), "status of 404"),
    "the module never arrives": ("**/callback.js", never, None),
    "the browser is too old": (
        "**/faces.js",
        replaced_by(body="let let;", content_type="text/javascript"),
        "reserved word",
    ),
    "the browser is very old": (CALLBACK_PAGE, without_modules, None),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_callback_page_that_does_not_start_hides_the_code_and_offers_a_way_on(meet, fault):
    pattern, handler, expected = FAULTS[fault]
    user = meet(expected=expected)
    user.context.clock.install()
    user.context.route(pattern, handler, times=2 if fault == "an import fails" else 1)  # preloaded, then imported
    page = user.context.new_page()
    page.goto(user.come_back_elsewhere("/?way=on"), wait_until="commit")
    page.wait_for_selector("footer", state="attached")
    assert page.url == f"{user.place.pages}/oauth_callback.html"
    page.clock.fast_forward(5000)
    sees(page, "页面没有加载完整")
    expect(page.get_by_role("link", name="其他登录方式")).to_be_visible()
    button(page, "再试一次").click()
    user.bind(page, "/?way=on")
    assert user.place.count_exchanges() == 1


@pytest.mark.parametrize(("path", "heading"), [("/", "欢迎"), ("/login.html", "登录"), ("/reset.html", "重设密码")])
def test_page_whose_module_is_late_offers_a_way_on_until_it_arrives(user, path, heading):
    late = []
    user.context.clock.install()
    user.context.route("**/page.js", lambda route: late.append(route))
    page = user.open(path, wait_until="commit")
    page.wait_for_selector("footer", state="attached")
    page.clock.fast_forward(5000)
    sees(page, "页面没有加载完整")
    assert page.locator("main").is_hidden()
    late.pop().continue_()
    sees(page, heading)


def test_page_works_without_a_style_sheet_that_never_arrives(member):
    member.context.clock.install()
    member.context.route("**/style.css", never)
    page = member.open("/login.html", wait_until="commit")
    page.wait_for_selector("footer", state="attached")
    page.clock.fast_forward(5000)
    button(page, "QQ登录").click()
    sees(page, "QQ 登录")


def test_callback_page_works_where_a_policy_forbids_the_script_in_its_html(meet):
    user = meet(expected="Executing inline script violates")

    def forbid(route):
        headers = {"content-security-policy": "script-src 'self'"}
        response = route.fetch()
        route.fulfill(response=response, headers=response.headers | headers)

    user.context.route(CALLBACK_PAGE, forbid)
    page = user.context.new_page()
    page.goto(user.come_back_elsewhere("/?policy"))
    expect(page).to_have_url(f"{user.place.pages}/oauth_callback.html")
    user.bind(page, "/?policy")


def test_browser_without_scripts_gets_a_notice_and_a_clean_address(meet):
    user = meet(java_script_enabled=False)
    page = user.open("/oauth_callback.html?code=a.b.c&state=/cart")
    expect(page).to_have_url(f"{user.place.pages}/login.html")
    for path in ("/", "/login.html", "/reset.html"):
        page.goto(user.place.pages + path)
        expect(page.locator("noscript h1")).to_be_visible()
        expect(page.locator("main")).to_be_hidden()


NO_ANSWER = "net::ERR_(FAILED|INTERNET_DISCONNECTED)"
HTML = {"content_type": "text/html", "body": "<h1>Sorry</h1>"}
ANSWERS = {  # of a proxy or a dead line: what happens to a call, and what the pages say
    "offline": (lambda route: route.abort("internetdisconnected"), "网络好像断了"),
    "silence": (never, "网络好像断了"),
    "200": (replaced_by(status=200, **HTML), "网站暂时出了点问题"),
    "200 without the fields": (replaced_by(json={"next": "/"}), "网站暂时出了点问题"),
    "413": (replaced_by(status=413, **HTML), "网站暂时出了点问题|内容太长"),
    "429": (replaced_by(status=429, headers={"Retry-After": "7"}, **HTML), "太频繁(?s:.*)请等 7 秒"),
    "502": (replaced_by(status=502, **HTML), "网站暂时出了点问题"),
}


@pytest.mark.parametrize("answer", ANSWERS)
def test_call_that_the_shop_does_not_answer_is_explained_and_can_be_repeated(meet, answer):
    handler, text = ANSWERS[answer]
    user = meet(expected=f"{NO_ANSWER}|status of (413|502)")
    bind_elsewhere(user)
    user.context.clock.install()
    user.context.add_init_script("delete AbortSignal.timeout")  # as in browsers before 2022
    page = user.press_qq(next="/?again")

    def fails(pattern, press):
        user.context.route(pattern, handler)
        with page.expect_request(pattern):
            press()
        if answer == "silence":
            page.clock.fast_forward(30_000)
        expect(page.get_by_text(re.compile(text)).filter(visible=True).first).to_be_visible()
        user.context.unroute(pattern)

    fails("**/oauth/qq/users/?*", lambda: user.sign_in(page))
    button(page, "再试一次").click()
    user.is_logged_in(page, "/?again")
    fails("**/user/", page.reload)
    button(page, "再试一次").click()
    user.is_logged_in(page, "/?again")

    page.goto(f"{user.place.pages}/login.html?next=/?password")
    fails("**/oauth/qq/authorization/*", button(page, "QQ登录").click)
    expect(button(page, "QQ登录")).to_be_enabled()
    page.locator("#username").fill(user.mobile)
    page.locator("#password").fill(PASSWORD)
    fails("**/authorizations/", page.locator("#login-submit").click)
    page.locator("#login-submit").click()
    user.is_logged_in(page, "/?password")


UNAVAILABLE = "登录服务暂时不可用"
FAILURES = {  # what the shop answers, and the heading
    "cache": ({"status": 503, "json": {"code": "cache_unavailable", "message": "暂时不可用"}}, UNAVAILABLE),
    "database": ({"status": 503, "json": {"code": "database_unavailable", "message": "暂时不可用"}}, UNAVAILABLE),
    "bug": ({"status": 500, "json": {"code": "server_error", "message": "出错了"}}, "网站暂时出了点问题"),
    "code of a face without a way on": ({"status": 400, "json": {"code": "waiting"}}, "网站暂时出了点问题"),
}


@pytest.mark.parametrize("failure", FAILURES)
def test_second_failure_in_a_row_offers_a_new_login(meet, failure):
    answer, heading = FAILURES[failure]
    member = meet(expected="status of 500")
    bind_elsewhere(member)
    member.context.route("**/oauth/qq/users/?*", replaced_by(**answer))
    page = member.press_qq(next="/?new")
    member.sign_in(page)
    sees(page, heading)
    expect(page.locator("#status-text-en")).to_have_text(re.compile("Please"))
    button(page, "再试一次").click()
    expect(page.get_by_text("又试了一次，还是不行")).to_be_visible()
    member.context.unroute("**/oauth/qq/users/?*")
    member.sign_in_again(page, heading)
    member.is_logged_in(page, "/?new")


def test_long_wait_offers_to_leave_and_back_goes_on(member):
    member.context.clock.install()
    member.context.route("**/oauth/qq/users/?*", never)
    page = member.press_qq(next="/?long")
    with page.expect_request("**/oauth/qq/users/?*"):
        member.sign_in(page)
    page.clock.fast_forward(8000)
    waiting = page.locator("#status").filter(has_text="正在登录")
    waiting.get_by_role("link", name="其他登录方式").click()
    expect(page).to_have_url(f"{member.place.pages}/login.html?next={quote('/?long', safe='')}")
    member.context.unroute("**/oauth/qq/users/?*")
    page.go_back()
    member.is_logged_in(page, "/?long")


def test_code_that_expires_during_repeats_is_not_taken_for_a_missing_cookie(user):
    codes = iter(("qq_busy", "cache_unavailable", "code_invalid"))

    def answer(route):
        route.fulfill(status=503, json={"code": next(codes)})

    page = user.open("/login.html")
    page.evaluate("localStorage.qq_refused = Date.now()")
    user.context.route("**/oauth/qq/users/?*", answer)
    page.goto(f"{user.place.pages}/oauth_callback.html?code=a.b.c&state=/")
    sees(page, UNAVAILABLE)
    button(page, "再试一次").click()
    sees(page, "这次登录没有完成")


def test_unknown_error_is_not_taken_for_a_lost_answer_of_qq(member):
    page = member.open("/oauth_callback.html?error=of_tomorrow&state=/?unknown")
    member.sign_in_again(page, "网站暂时出了点问题")
    member.is_logged_in(page, "/?unknown")


@pytest.mark.parametrize("path", ["/oauth_callback.html", "/login.html"])
def test_login_that_should_return_to_its_own_page_ends_at_the_front_page(member, path):
    page = member.press_qq(next=f"{path}#here")
    member.sign_in(page)
    member.is_logged_in(page, "/")


def test_late_answer_about_an_earlier_login_does_not_end_the_new_one(meet):
    member, late = meet(expected="status of 401"), []
    bind_elsewhere(member)
    page = member.open("/login.html")
    page.evaluate("localStorage.token = 'of an earlier login'")
    member.context.route("**/user/", lambda route: late.append(route), times=1)
    page.goto(f"{member.place.pages}/")
    processes.wait_until(lambda: page.evaluate("0") or late, "the page asks for the account")
    other = member.press_qq(next="/?new")
    member.sign_in(other)
    member.is_logged_in(other, "/?new")
    with page.expect_response(lambda response: response.status == 401):
        late.pop().continue_()
    member.is_logged_in(page, "/")
    page.reload()
    member.is_logged_in(page, "/")


FILL_LOCAL_STORAGE = """
    for (let size = 2 ** 22; size >= 1; size /= 2) {
        try { localStorage.fill = (localStorage.fill ?? '') + 'x'.repeat(size); } catch {}
    }
"""
FULL = """
    const setItem = Storage.prototype.setItem;
    Storage.prototype.setItem = function (...entry) {
        if (!window.hasRoom) throw new DOMException('full', 'QuotaExceededError');
        setItem.apply(this, entry);
    };
"""
FORBIDDEN = """
    for (const area of ['localStorage', 'sessionStorage']) {
        Object.defineProperty(window, area, { get() { throw new DOMException('denied', 'SecurityError'); } });
    }
"""


def test_login_that_local_storage_has_no_room_for_lasts_until_the_tab_is_closed(member):
    page = member.open("/")
    page.evaluate(f"localStorage.token = 'of another user'; {FILL_LOCAL_STORAGE}")
    page.goto(f"{member.place.pages}/login.html?next=/?full")
    button(page, "QQ登录").click()
    member.sign_in(page)
    member.is_logged_in(page, "/?full")
    assert page.evaluate("localStorage.token ?? null") is None
    button(page, "退出登录").click()
    sees(page, "欢迎")
    page.goto(f"{member.place.pages}/login.html?next=/?password")
    page.locator("#username").fill(member.mobile)
    page.locator("#password").fill(PASSWORD)
    page.locator("#login-submit").click()
    member.is_logged_in(page, "/?password")


@pytest.mark.parametrize(
    ("refusal", "text"),
    [(FULL, "浏览器的存储空间满了"), (FORBIDDEN, "浏览器禁止本站保存登录状态")],
    ids=["full", "forbidden"],
)
def test_pages_say_what_to_do_if_the_browser_stores_no_login(user, refusal, text):
    user.context.add_init_script(refusal)
    page = user.arrive(next="/?stored")
    page.reload()
    sees(page, "绑定手机号")  # the form survives a reload without storage
    user.fill_in(page, user.receive_sms(page))
    button(page, "绑定并登录").click()
    sees(page, text)
    if refusal == FULL:
        page.evaluate("window.hasRoom = true")
        button(page, "再试一次").click()
        user.is_logged_in(page, "/?stored")
    else:
        button(page, "再试一次").click()  # opens the page again, which repeats its call
        sees(page, text)

    page.goto(f"{user.place.pages}/login.html")
    page.locator("#username").fill(user.mobile)
    page.locator("#password").fill(PASSWORD)
    page.locator("#login-submit").click()
    expect(page.locator("#form-message")).to_contain_text(text)
    expect(page.locator("#login-submit")).to_be_enabled()

    user.mobile = forget_password(user.place, user.mobile)
    page.goto(f"{user.place.pages}/reset.html")
    user.fill_in(page, user.receive_sms(page))
    button(page, "保存并登录").click()
    expect(page.locator("#form-message")).to_contain_text(f"新密码已保存。The new password is saved. {text}")
    expect(button(page, "保存并登录")).to_be_enabled()
    page.evaluate("window.hasRoom = true")
    button(page, "保存并登录").click()  # sends nothing: the SMS code is used up
    if refusal == FULL:
        user.is_logged_in(page, "/")
        button(page, "退出登录").click()
    else:
        expect(page.locator("#form-message")).to_contain_text(text)
    assert len(user.sent("/password/", "POST")) == 1
    page.goto(f"{user.place.pages}/")
    sees(page, "欢迎")


def test_callback_opened_again_after_the_login_goes_on(meet):
    member = meet(expected="status of 401")
    bind_elsewhere(member)
    page = member.press_qq(next="/?twice")
    member.sign_in(page)
    member.is_logged_in(page, "/?twice")
    callback = member.sent("/oauth/qq/callback/")[-1].url
    again = member.context.new_page()
    for address in (callback, f"{callback}&usercancel=1"):  # the same redirect; state_used
        again.goto(address)
        member.is_logged_in(again, "/?twice")
    assert member.place.count_exchanges() == 2  # the first one made the member

    button(again, "退出登录").click()
    sees(again, "欢迎")
    again.evaluate("localStorage.token = 'of a login with a password'")
    again.goto(f"{callback}&usercancel=1")
    sees(again, "这次登录没有完成")


@pytest.mark.parametrize("arrive", [BrowserUser.sign_in_elsewhere, BrowserUser.come_back_elsewhere])
def test_second_login_in_a_row_without_its_cookie_names_cookies_and_another_way(user, arrive):
    def come_back_without_cookie(heading):
        address = arrive(user, "/?cookie")
        user.context.clear_cookies()
        page = user.context.new_page()
        page.goto(address)
        sees(page, heading)
        return page

    names_cookies = "浏览器没有带回登录的 Cookie"
    come_back_without_cookie("这次登录没有完成")
    page = come_back_without_cookie(names_cookies)
    button(page, "去登录页").click()
    sees(page, "登录")
    user.arrive()
    come_back_without_cookie("这次登录没有完成")
    user.context.add_init_script(FORBIDDEN)
    come_back_without_cookie(names_cookies)  # at once: such a browser has no cookies either


@pytest.mark.parametrize(("place", "next"), [("shop", "/?cancelled"), ("direct_shop", "/")])
def test_cancelled_login_is_not_shown_again_by_the_bare_page(request, meet, place, next):
    user = meet(request.getfixturevalue(place), **PHONE)
    for is_reload in (False, True):
        page = user.press_qq(next="/?cancelled")
        button(page, "取消").click()
        sees(page, "您取消了 QQ 登录")
        if is_reload:
            page.reload()
        else:
            page.goto(page.url)
        sees(page, "这里没有要完成的登录")
    button(page, "去登录页").click()
    expect(page).to_have_url(f"{user.place.pages}/login.html?next={quote(next, safe='')}")


def test_errors_of_fields_end_when_the_input_changes(user):
    def has_errors(*ids):
        expect(page.locator("[aria-invalid=true]")).to_have_count(len(ids))
        for id in ids:
            expect(page.locator(f"#{id}")).to_have_attribute("aria-invalid", "true")

    page = user.arrive()
    button(page, "绑定并登录").click()
    has_errors("mobile", "sms-code", "password")
    expect(page.locator("#sms-code")).to_have_accessible_description(re.compile("请先点“获取短信”"))
    page.locator("#mobile").fill("1")
    has_errors("sms-code", "password")
    user.receive_sms(page)
    button(page, "绑定并登录").click()
    expect(page.locator("#sms-code")).to_have_accessible_description(re.compile("请填写这一项"))
    page.locator("#password").evaluate("input => { input.value = 'x'; input.dispatchEvent(new Event('change')); }")
    user.fill_in(page, "00000")
    button(page, "绑定并登录").click()
    has_errors("sms-code")
    page.locator("#mobile").fill(remote_users.new_mobile())
    has_errors()

    page = user.open("/login.html")
    user.mobile = remote_users.new_mobile()
    page.locator("#username").fill(user.mobile)
    page.locator("#password").fill(PASSWORD)
    page.locator("#login-submit").click()
    expect(page.locator("#form-message")).to_be_visible()
    page.locator("#password").fill("another horse")
    expect(page.locator("#form-message")).to_be_hidden()


@pytest.mark.parametrize("path", ["/oauth_callback.html", "/reset.html"])
def test_reload_keeps_the_wait_for_the_next_sms_and_fetches_no_picture(user, path):
    def count_pictures():
        return sum("/image_codes/" in sent.url for sent in user.requests)

    user.context.clock.install()
    page = user.open(path) if path == "/reset.html" else user.arrive()
    sms_code = user.receive_sms(page)
    send = page.locator("#send-sms")
    for _ in range(2):
        expect(send).to_have_text(re.compile(r"\d+ 秒后重发"))
        expect(send).to_be_disabled()
        expect(page.get_by_text("短信已发送")).to_be_visible()
        expect(page.locator("#mobile")).to_have_value(user.mobile)
        assert count_pictures() == 1
        page.reload()
        sees(page, "手机号" if path == "/oauth_callback.html" else "重设密码")
    page.clock.fast_forward(60_000)
    expect(send).to_have_text(re.compile("获取短信"))
    expect(send).to_be_enabled()
    processes.wait_until(lambda: count_pictures() == 2, "the page asks for a new picture")
    if path == "/oauth_callback.html":
        user.fill_in(page, sms_code)
        button(page, "绑定并登录").click()
        user.is_logged_in(page, "/")


def test_clock_that_is_put_back_does_not_prolong_the_wait_for_the_next_sms(user):
    user.context.clock.install()
    page = user.arrive()
    user.receive_sms(page)
    expect(page.locator("#send-sms")).to_be_disabled()
    page.clock.set_system_time("2020-01-01")
    expect(page.locator("#send-sms")).to_be_enabled()


def test_number_that_has_to_wait_does_not_keep_another_one_waiting(user):
    page = user.arrive()
    user.receive_sms(page)
    user.mobile = remote_users.new_mobile()
    user.bind(page, "/")  # the first number has used the picture up


def test_page_that_cannot_be_left_offers_to_go_on(member):
    login, target = "**/oauth/qq/login/**", re.compile(r"[0-9]/\?left$")
    member.context.clock.install()

    def stays(pattern, press):
        member.context.route(pattern, replaced_by(status=204), times=1)  # as a download does
        with page.expect_request(pattern):
            press()
        page.clock.fast_forward(8000)

    page = member.open("/login.html?next=/?left")
    stays(login, button(page, "QQ登录").click)
    expect(page.locator("#form-message")).to_contain_text("QQ 的登录页面没有打开")
    button(page, "QQ登录").click()
    stays(target, lambda: member.sign_in(page))
    sees(page, "登录成功")
    button(page, "继续").click()
    member.is_logged_in(page, "/?left")

    page.goto(f"{member.place.pages}/oauth_callback.html?error=qq_unavailable&state=/?left")
    stays(login, button(page, "再用 QQ 登录").click)
    member.sign_in_again(page, "QQ 的登录页面没有打开")
    member.is_logged_in(page, "/?left")


def test_page_of_the_openapi_document_shows_every_call(user):
    page, url = user.context.new_page(), user.place.shop.url
    page.goto(f"{url}/api/schema/page/")
    paths = Visitor().get(f"{url}/api/schema/").json()["paths"]
    expect(page.locator(".opblock")).to_have_count(sum(map(len, paths.values())))

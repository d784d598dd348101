"""Pages in Chromium that neither hang nor lie: faults of files, networks, storage and the shop."""

import re
from urllib.parse import quote

import pytest
from playwright.sync_api import expect

from tests.e2e import browsers
from tests.e2e.browsers import (
    FORBIDDEN,
    PHONE,
    BrowserUser,
    bind_elsewhere,
    button,
    forbid_inline_scripts,
    forget_password,
    sees,
)
from tests.tools import processes, remote_users
from tests.tools.remote_users import PASSWORD

pytestmark = pytest.mark.browser

chromium, meet, user, member = browsers.chromium, browsers.meet, browsers.user, browsers.member
shop, direct_shop = browsers.shop, browsers.direct_shop


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
    "the module fails": ("**/pages.*.js", lambda route: route.abort(), "net::ERR_FAILED"),
    "an import fails": ("**/storage.js", replaced_by(status=404), "status of 404"),
    "the module never arrives": ("**/pages.*.js", never, None),
    "the browser is too old": (
        "**/pages.*.js",
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
    if is_import := fault == "an import fails":
        browsers.serve_plain_pages(user.context)
    user.context.route(pattern, handler, times=2 if is_import else 1)  # preloaded, then imported
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
    user.context.route("**/pages.*.js", lambda route: late.append(route))
    page = user.open(path, wait_until="commit")
    page.wait_for_selector("footer", state="attached")
    page.clock.fast_forward(5000)
    sees(page, "页面没有加载完整")
    assert page.locator("main").is_hidden()
    late.pop().continue_()
    sees(page, heading)


def test_page_works_without_a_style_sheet_that_never_arrives(member):
    member.context.clock.install()
    member.context.route("**/style.*.css", never)
    page = member.open("/login.html", wait_until="commit")
    page.wait_for_selector("footer", state="attached")
    page.clock.fast_forward(5000)
    button(page, "QQ登录").click()
    sees(page, "QQ 登录")


@pytest.mark.parametrize("come_back", ["sign_in_elsewhere", "come_back_elsewhere"])
def test_callback_page_works_where_a_policy_forbids_the_script_in_its_html(meet, come_back):
    user = meet(expected="Executing inline script violates")
    forbid_inline_scripts(user.context)
    page = user.context.new_page()
    page.goto(getattr(user, come_back)("/?policy"))
    expect(page).to_have_url(f"{user.place.pages}/oauth_callback.html")
    user.bind(page, "/?policy")


def test_browser_without_scripts_gets_a_notice_and_a_clean_address(meet):
    user = meet(java_script_enabled=False)
    page = user.open("/oauth_callback.html?code=a.b.c&state=/cart")
    expect(page).to_have_url(f"{user.place.pages}/login.html")
    page.goto(user.sign_in_elsewhere("/"))
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


def test_login_that_local_storage_has_no_room_for_lasts_until_the_tab_is_closed(meet):
    member = meet(expected="status of 401")  # the login page asks whose token this is
    bind_elsewhere(member)
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
    expect(page.locator("#form-message")).to_contain_text(re.compile(rf"新密码已保存。\s*{re.escape(text)}"))
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

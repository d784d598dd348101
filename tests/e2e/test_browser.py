"""Logins in Chromium, with the shop under gunicorn and the stand-in for QQ."""

import json
import re
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest
from playwright.sync_api import expect

from tests.e2e import browsers
from tests.e2e.browsers import PHONE, BrowserUser, bind_elsewhere, button, forget_password, sees, without_browser
from tests.tools import processes, remote_users
from tests.tools.processes import Visitor
from tests.tools.remote_users import PASSWORD
from tests.tools.requirements import requirement

pytestmark = pytest.mark.browser

chromium, meet, user, member = browsers.chromium, browsers.meet, browsers.user, browsers.member
shop, direct_shop = browsers.shop, browsers.direct_shop
narrow_shop, split_shop, built_shop = browsers.narrow_shop, browsers.split_shop, browsers.built_shop


@requirement("1.6", "1.10", "4.5")
@pytest.mark.parametrize("place", ["shop", "split_shop", "built_shop", "direct_shop"])
def test_first_login_binds_and_second_login_skips_the_form(request, meet, place):
    place = request.getfixturevalue(place)
    user = meet(place)
    page = user.arrive(next="/?from=购物车&a=1#top")
    assert "code=" in [sent.url for sent in user.requests if sent.is_navigation_request()][-1]
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
    expect(send).to_have_text(re.compile(r"\d+ 秒后重发"))
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
        form.get_by_role("link", name="忘记了已有账号的密码").click()
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
    sees(page, "登录或注册")
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
    for path in ("login", "register", "reset"):
        page.goto(f"{user.place.pages}/{path}.html")
        page.locator(f"#{path}-submit").click()
        fits(empty_field)
    page.goto(f"{user.place.pages}/oauth_callback.html")
    fits("这里没有要完成的登录")
    faces = page.evaluate("import('./faces.js').then(({faces}) => Object.entries(faces).filter(([, f]) => f.step))")
    assert len(faces) > 15
    for code, face in faces:
        page.evaluate("localStorage.clear()")  # otherwise the second refusal in a row has another face
        page.goto(f"{user.place.pages}/oauth_callback.html?error={code}&state=/cart")
        for chinese, english in (face["heading"], face["text"]):
            fits(chinese)
            button(page, "English").click()
            fits(english)
            button(page, "中文").click()

    page = user.arrive(next="/?narrow")
    button(page, "绑定并登录").click()
    fits(empty_field)
    user.receive_sms(page)
    user.fill_in(page, sms_code="12345")
    page.locator("#toggle-password").click()
    button(page, "绑定并登录").click()
    expect(page.locator("#sms-code-error")).not_to_be_empty()
    fits("绑定手机号")
    page.locator("#sms-code").fill(user.read_sms(page))
    button(page, "绑定并登录").click()
    user.is_logged_in(page, "/?narrow")
    fits("您好")


def test_page_of_the_openapi_document_shows_every_call(user):
    page, url = user.context.new_page(), user.place.shop.url
    page.goto(f"{url}/api/schema/page/")
    paths = Visitor().get(f"{url}/api/schema/").json()["paths"]
    expect(page.locator(".opblock")).to_have_count(sum(map(len, paths.values())))

"""The pages in Chromium: their languages, the bind form, the account and registration pages, accessibility."""

import re
import secrets
from importlib.resources import files

import pytest
from playwright.sync_api import expect

from tests.e2e import browsers
from tests.e2e.browsers import FORBIDDEN, PHONE, bind_elsewhere, button, sees, without_browser
from tests.e2e.states import paint_avatars, visit_states
from tests.tools import remote_users
from tests.tools.remote_users import PASSWORD
from tests.tools.requirements import requirement

pytestmark = pytest.mark.browser

chromium, meet, user, member = browsers.chromium, browsers.meet, browsers.user, browsers.member
shop = browsers.shop_fixture("shop", QQ_PROFILE="True")
sms_shop = browsers.shop_fixture("sms_shop", QQ_PROFILE="True", QQ_BIND_WITHOUT_PASSWORD="True")
HAN = re.compile("[\u3400-\u9fff]")
SCHEMES = ("light", "dark")


def test_no_state_of_a_page_has_an_axe_violation_or_a_second_language(meet):
    user = meet(person=f"Q{secrets.token_hex(4)}", expected="net::ERR_FAILED|status of (401|500)")
    axe = files("axe_playwright_python").joinpath("axe.min.js").read_text(encoding="utf-8")
    found, seen = [], []
    for name, page in visit_states(user):
        page.bring_to_front()
        for language, other in ("en", HAN), ("zh-CN", re.compile("[a-z]{4,} [a-z]{4,}")):
            switch = page.locator(f"[data-language='{language}']")
            if switch.is_visible():
                switch.click()
            elif language == "en":
                continue  # a page that has failed
            text = page.locator("body").inner_text().replace("中文", "").replace(user.person, "")
            assert not other.search(text), (name, language, text)
            assert not other.search(page.title().replace(user.person, "")), (name, page.title())
            assert page.locator("html").get_attribute("lang") == language
            for scheme in SCHEMES:
                page.emulate_media(color_scheme=scheme)
                page.evaluate(axe)
                for violation in page.evaluate("axe.run()")["violations"]:
                    found.append((name, language, scheme, violation["id"], violation["nodes"][0]["html"]))
        seen.append(name)
    assert found == []
    assert len({*seen}) == len(seen) > 25


# Languages ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("languages", "heading"),
    [
        ("zh-CN,en", "登录或注册"),
        ("en-GB,zh", "Log in or sign up"),
        ("fr,en;q=0.8", "Log in or sign up"),
        ("fr", "登录或注册"),
    ],
)
def test_page_is_in_the_language_that_the_browser_prefers(meet, languages, heading):
    user = meet()
    preferred = f"{{ get: () => {languages.split(',')} }}"
    user.context.add_init_script(f"Object.defineProperty(navigator, 'languages', {preferred})")
    page = user.open("/login.html")
    expect(page.get_by_role("heading", level=1)).to_have_text(heading, use_inner_text=True)
    is_english = heading.startswith("Log")
    assert page.title() == ("Log in · Meiduo Mall" if is_english else "登录 · 美多商城")
    assert page.locator("html").get_attribute("lang") == ("en" if is_english else "zh-CN")


def test_chosen_language_is_remembered_and_sent_with_each_call(user):
    page, other = user.open("/login.html"), user.open("/")
    page.bring_to_front()
    button(page, "English").click()
    expect(button(page, "English")).to_have_attribute("aria-pressed", "true")
    expect(other.get_by_role("heading", level=1)).to_have_text("Welcome to Meiduo Mall", use_inner_text=True)
    page.goto(f"{user.place.pages}/login.html")
    page.locator("#username").fill(user.mobile)
    page.locator("#password").fill("wrong horse")
    page.locator("#login-submit").click()
    message = page.locator("#form-message")
    expect(message).to_have_text("The account or the password is wrong.", use_inner_text=True)
    (sent,) = user.sent("/authorizations/", "POST")
    assert sent.headers["accept-language"] == "en"
    button(page, "中文").click()  # what the API has said is not known in this language
    expect(message).to_have_text("没有通过，请检查后再试。", use_inner_text=True)
    page.reload()
    sees(page, "登录或注册")
    assert page.title() == "登录 · 美多商城"


def test_language_lasts_as_long_as_the_page_where_nothing_may_be_stored(user):
    user.context.add_init_script(FORBIDDEN)
    page = user.open("/oauth_callback.html")
    button(page, "English").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Nothing to do here", use_inner_text=True)
    assert page.title() == "Nothing to do here · Meiduo Mall"
    page.reload()
    sees(page, "这里没有要完成的登录")


def test_page_that_does_not_start_is_in_one_language_and_one_without_scripts_in_both(meet):
    user = meet(locale="en-US", expected="net::ERR_FAILED")
    user.context.route("**/pages.*.js", lambda route: route.abort())
    page = user.open("/oauth_callback.html?code=a.b.c&state=/")
    expect(page.get_by_role("heading", level=1)).to_have_text("This page did not load completely", use_inner_text=True)
    assert not HAN.search(page.locator("body").inner_text())

    page = meet(java_script_enabled=False).open("/login.html")
    for text in ("请打开 JavaScript", "Please allow JavaScript"):
        expect(page.get_by_text(text, exact=True)).to_be_visible()


def test_page_without_the_script_in_its_html_chooses_the_language_too(meet):
    user = meet(locale="en-US", expected="Executing inline script violates")
    browsers.forbid_inline_scripts(user.context)
    page = user.open("/oauth_callback.html")
    expect(page.get_by_role("heading", level=1)).to_have_text("Nothing to do here", use_inner_text=True)


# The bind form --------------------------------------------------------------------------------------------------------


@requirement("15.11", "15.12")
def test_form_greets_by_nickname_and_avatar_as_text_and_without_a_referrer(user):
    avatars = paint_avatars(user.context)
    user.place.qq.behave(nickname="<b>小企鹅</b>")
    page = user.arrive()
    expect(page.locator("#bind-greeting")).to_have_text("您好，<b>小企鹅</b>", use_inner_text=True)
    expect(page.locator("#qq-avatar")).to_be_visible()
    assert [sent.headers.get("referer") for sent in avatars] == [None]


@pytest.mark.parametrize("fault", ["avatar fails", "no profile"])
def test_form_without_avatar_shows_a_letter(meet, fault):
    user = meet(expected="net::ERR_FAILED")
    user.context.route("https://*.qlogo.cn/**", lambda route: route.abort())
    if fault == "no profile":
        user.place.qq.behave(get_user_info={"fault": "502"})
    page = user.arrive()
    expect(page.locator("#qq-initial")).to_have_text("小" if fault == "avatar fails" else "Q")
    expect(page.locator("#qq-avatar")).to_be_hidden()
    if fault == "no profile":
        expect(page.locator("#bind-greeting")).to_contain_text("QQ 已确认您的身份")


def test_shop_without_passwords_asks_for_none(meet, sms_shop):
    user = meet(sms_shop)
    paint_avatars(user.context)
    page = user.arrive(next="/?sms")
    expect(page.locator("#password")).to_be_hidden()
    expect(page.locator("#forgot")).to_be_hidden()
    sms_code = user.receive_sms(page)
    page.locator("#sms-code").fill(sms_code)
    button(page, "绑定并登录").click()
    user.is_logged_in(page, "/?sms")


@pytest.mark.parametrize("locale", ["zh-CN", "en-US"])
def test_button_of_the_form_is_visible_on_a_small_phone(meet, locale):
    user = meet(**PHONE | {"viewport": {"width": 360, "height": 640}, "locale": locale})
    paint_avatars(user.context)
    page = user.open("/login.html")
    page.locator("#qq-login").click()
    user.sign_in(page)
    submit = page.locator("#bind-submit")
    expect(submit).to_be_in_viewport(ratio=1)
    assert page.evaluate("scrollY") == 0
    order = "#mobile, #sms-code, #password, #bind-submit"
    ids = page.locator(order).evaluate_all("elements => elements.map((element) => element.id)")
    assert ids == [selector[1:] for selector in order.split(", ")]


def test_form_counts_down_through_a_reload_and_ends(user):
    paint_avatars(user.context)
    user.context.clock.install()
    page = user.arrive(next="/?late")
    left = page.locator("#bind-time")
    expect(left).to_contain_text("10:00")
    page.clock.fast_forward(60_000)
    expect(left).to_contain_text(re.compile("(9:00|8:[0-9]{2})"))
    page.reload()
    expect(left).to_contain_text(re.compile("(9:00|8:[0-9]{2})"))
    page.clock.fast_forward(9 * 60_000)
    user.sign_in_again(page, "这次登录没有完成")
    expect(left).to_contain_text("10:00")


# The account page -----------------------------------------------------------------------------------------------------


def open_account(member):
    """Log in by password and open the account page."""
    page = member.open("/login.html?next=/account.html")
    page.locator("#username").fill(member.mobile)
    page.locator("#password").fill(PASSWORD)
    page.locator("#login-submit").click()
    sees(page, "QQ 登录")
    expect(page.locator("#bindings li")).to_have_count(1)
    return page


def add(member, page):
    """Press the button of the account page and sign in at QQ."""
    button(page, "添加一个 QQ").click()
    member.sign_in(page)


@pytest.fixture
def owner(member):
    """A member whose avatars are painted."""
    paint_avatars(member.context)
    return member


def test_user_adds_a_second_qq_and_removes_the_first(owner):
    page, first = open_account(owner), owner.person
    owner.person = remote_users.new_person()
    add(owner, page)
    sees(page, "添加这个 QQ")
    expect(page.locator("#mobile")).to_be_hidden()
    page.locator("#password").fill(PASSWORD)
    button(page, "确认添加").click()
    expect(page.locator("#list-message")).to_have_text("已添加。", use_inner_text=True)
    expect(page).to_have_url(f"{owner.place.pages}/account.html")
    expect(page.locator("#bindings li")).to_have_count(2)

    newest = page.locator("#bindings li").filter(has_text=owner.person)
    expect(newest).to_contain_text(re.compile(r"\d+年\d+月\d+日添加.*openid [0-9A-F]{6}….*应用 101000001"))
    oldest = page.locator("#bindings li").filter(has_not_text=owner.person)
    oldest.get_by_role("button", name="解除").click()
    sees(page, "解除绑定")
    page.locator("#password").fill(PASSWORD)
    button(page, "解除绑定").click()
    expect(page.locator("#list-message")).to_have_text("已解除绑定。", use_inner_text=True)
    expect(page.locator("#bindings li")).to_have_count(1)
    assert without_browser(owner.place, owner.person).get_login()["user_id"]
    assert "access_token" in without_browser(owner.place, first).get_login()


def test_qq_is_removed_by_sms_code(owner):
    page = open_account(owner)
    owner.mobile = browsers.change_mobile(owner.place, owner.mobile)  # no SMS has gone to it in the last minute
    button(page, re.compile("^解除")).click()
    button(page, "改用短信验证码确认").click()
    expect(page.locator("#password")).to_be_hidden()
    expect(page.locator("#mobile-hint")).to_contain_text("****")
    sms_code = owner.receive_sms(page)
    page.locator("#sms-code").fill(sms_code)
    button(page, "解除绑定").click()
    expect(page.get_by_text("还没有绑定 QQ")).to_be_visible()


@pytest.mark.parametrize(("whose", "heading"), [("this", "已经在您的账号里"), ("another", "绑定了别的账号")])
def test_qq_that_is_bound_already_is_named(owner, whose, heading):
    page = open_account(owner)
    if whose == "another":
        owner.person = remote_users.new_person()
        other = without_browser(owner.place, owner.person)
        assert other.bind(other.fill_in(remote_users.new_mobile())).status == 200
    add(owner, page)
    sees(page, heading)
    page.get_by_text("返回账号页").filter(visible=True).click()
    sees(page, "QQ 登录")
    assert owner.sent("/oauth/qq/bindings/", "POST") == []


def test_cancelled_addition_can_be_repeated_and_logs_nobody_in(meet):
    user = meet(**PHONE)
    paint_avatars(user.context)
    bind_elsewhere(user)
    page = open_account(user)
    token = page.evaluate("localStorage.token")
    button(page, "添加一个 QQ").click()
    button(page, "取消").click()
    sees(page, "您取消了添加")
    user.person = remote_users.new_person()
    button(page, "重新添加").click()
    user.sign_in(page)
    sees(page, "添加这个 QQ")
    assert page.evaluate("localStorage.token") == token


def test_wrong_confirmations_lock_and_the_page_says_how_long(owner):
    page = open_account(owner)
    button(page, re.compile("^解除")).click()
    for _ in range(6):
        page.locator("#password").fill("wrong horse")
        with page.expect_response("**/bindings/*/"):
            button(page, "解除绑定").click()
    expect(page.locator("#form-message")).to_contain_text(re.compile("请等 [0-9]+ 秒"))
    expect(page.locator("#form-message")).to_be_focused()
    button(page, "取消").click()
    expect(page.locator("#bindings li")).to_have_count(1)


def test_last_way_to_log_in_is_kept(owner):
    page = open_account(owner)
    owner.mobile = browsers.forget_password(owner.place, owner.mobile)
    button(page, re.compile("^解除")).click()
    button(page, "改用短信验证码确认").click()
    sms_code = owner.receive_sms(page)
    page.locator("#sms-code").fill(sms_code)
    button(page, "解除绑定").click()
    expect(page.locator("#form-message")).to_be_visible()
    button(page, "取消").click()
    expect(page.locator("#bindings li")).to_have_count(1)


@pytest.mark.parametrize("token", [None, "ended"])
def test_account_page_asks_a_visitor_to_log_in(meet, token):
    user = meet(expected="status of 401")
    page = user.open("/")
    page.evaluate("token => token && (localStorage.token = token)", token)
    page.goto(f"{user.place.pages}/account.html")
    sees(page, "请先登录")
    page.get_by_role("link", name="去登录").click()
    expect(page).to_have_url(f"{user.place.pages}/login.html?next=%2Faccount.html")


def test_login_that_ends_before_the_confirmation_is_asked_for_again(meet):
    user = meet(expected="status of 401")
    paint_avatars(user.context)
    bind_elsewhere(user)
    page = open_account(user)
    user.person = remote_users.new_person()
    add(user, page)
    sees(page, "添加这个 QQ")
    page.evaluate("localStorage.token = 'ended'")
    page.locator("#password").fill(PASSWORD)
    button(page, "确认添加").click()
    sees(page, "请先登录")
    button(page, "去登录").click()
    expect(page).to_have_url(f"{user.place.pages}/login.html?next=%2Faccount.html")


# Registration ---------------------------------------------------------------------------------------------------------


def test_new_user_registers_and_is_asked_to_go_on_at_the_next_visit(user):
    page = user.open("/login.html?next=/?new")
    page.get_by_role("link", name="注册账号").click()
    sees(page, "注册账号")
    username = f"xiaoming-{user.mobile[-4:]}"
    fields = {"username": username, "password": PASSWORD, "password2": "other", "sms-code": user.receive_sms(page)}
    for id, value in fields.items():
        page.locator(f"#{id}").fill(value)
    submit = page.locator("#register-submit")
    submit.click()
    expect(page.locator("#allow")).to_have_accessible_description("请先阅读并同意。")
    page.locator("#allow").check()
    submit.click()
    expect(page.locator("#password2")).to_have_accessible_description("两次输入的密码不一致。")
    assert user.sent("/users/", "POST") == []
    page.locator("#password2").fill(PASSWORD)
    submit.click()
    user.is_logged_in(page, "/?new")
    expect(page.locator("#account-username")).to_have_text(username)

    page.goto(f"{user.place.pages}/login.html?next=/?known")
    expect(page.locator("#signed-in")).to_contain_text(username)
    button(page, "继续使用这个账号").click()
    user.is_logged_in(page, "/?known")


def test_taken_username_is_shown_at_its_field(member):
    page = member.open("/register.html")
    for id in ("username", "password", "password2"):
        page.locator(f"#{id}").fill(PASSWORD if "password" in id else "a b")
    page.locator("#mobile").fill(member.mobile)
    page.locator("#sms-code").fill("123456")
    page.locator("#allow").check()
    page.locator("#register-submit").click()
    expect(page.locator("#username")).to_have_accessible_description(re.compile("用户名应为 5 到 20 个字符"))
    expect(page.locator("#username")).to_be_focused()


# The shop's own lines -------------------------------------------------------------------------------------------------


def test_shop_fills_in_its_lines_and_agreements(user):
    source = """
        export const agreements = [
          { text: ["《协议》", "Terms"], address: "https://shop.example/terms" },
          { text: ["《隐私》", "Privacy"], address: "" },
        ];
        export const footer = [{ text: ["客服电话", "Call us"], address: "" }];
    """
    browsers.serve_plain_pages(user.context)
    user.context.route("**/shop.js", lambda route: route.fulfill(body=source, content_type="text/javascript"))
    page = user.open("/register.html")
    expect(page.locator("label[for=allow]")).to_have_text("我已阅读并同意《协议》《隐私》", use_inner_text=True)
    expect(page.get_by_role("link", name="《协议》")).to_have_attribute("href", "https://shop.example/terms")
    expect(page.locator("footer")).to_contain_text("客服电话")
    button(page, "English").click()
    agreement = "I have read and agree to the Terms and Privacy"
    expect(page.locator("label[for=allow]")).to_have_text(agreement, use_inner_text=True)

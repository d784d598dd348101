"""GET callback/: the browser is back from QQ; its state is checked and used up, the page gets a sealed code."""

import pytest
from django.core.cache import cache
from django.test import Client

from tests.conftest import PAGE, Browser, grouped, page_query, query_of, token_requests
from tests.tools.requirements import requirement

USED = {"error": "state_used", "state": "/cart"}
INVALID = {"error": "state_invalid"}
S = "s" * 43
PHONE = "Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) Mobile/15E148"


@requirement("1.6")
def test_page_gets_a_sealed_code_and_the_target(browser, qq):
    address = browser.sign_in(next="/cart?a=1&b=2#车")
    response = browser.get(address)
    assert response["Location"].startswith(f"{PAGE}?code=")
    assert response["Location"].endswith("&state=/cart?a=1%26b=2%23%E8%BD%A6")
    assert query_of(address)["code"] not in response["Location"]
    (cookie,) = response.cookies.values()
    assert cookie["max-age"] == 12 * 60
    assert token_requests(qq) == 0


@pytest.mark.parametrize(
    ("page", "expected"),
    [
        ("https://shop.example/back?lang=zh", "https://shop.example/back?lang=zh&error=state_missing"),
        ("https://shop.example/#/qq", "https://shop.example/?error=state_missing#/qq"),
        ("https://shop.example/?a=1#/qq", "https://shop.example/?a=1&error=state_missing#/qq"),
        ("", "/?error=state_missing"),
    ],
)
def test_errors_keep_the_pages_own_query_and_fragment(browser, shop, page, expected):
    shop.QQ_CALLBACK_PAGE = page
    assert browser.get("/oauth/qq/callback/")["Location"] == expected


def test_callback_works_without_the_final_slash(browser, shop):
    shop.QQ_REDIRECT_URI = shop.QQ_REDIRECT_URI.rstrip("/")
    state = query_of(browser.start())["state"]
    page = browser.come_back(f"/oauth/qq/callback?code=C0DE&state={state}&usercancel=0")  # 0: not cancelled
    assert page.keys() == {"code", "state"}


@requirement("1.3", "1.7", "9.3")
@pytest.mark.parametrize(
    ("error", "state"),
    grouped(
        state_missing=["", "&state=", "&state=null"],
        state_invalid=[f"&state={state}" for state in ("%20", S, S + "s", "车" * 43, f"{S}&state={S}")],
    ),
)
def test_missing_or_malformed_state_is_refused(browser, qq, error, state):
    browser.start()
    assert page_query(browser.get(f"/oauth/qq/callback/?code=C{state}")) == {"error": error}
    assert token_requests(qq) == 0


@requirement("1.1", "1.2", "1.9")
def test_state_works_only_in_the_browser_that_started_the_flow(browser, other_browser, qq):
    other_browser.start()
    planted = other_browser.cookies
    browser.add_cookies(planted)  # an attacker plants the cookie of another flow
    address = browser.sign_in()
    (name,) = browser.cookies.keys() - planted
    assert Browser(qq).come_back(address) == INVALID  # no cookie
    assert other_browser.come_back(address) == INVALID  # the cookie of another flow
    other_browser.add_cookies(dict.fromkeys([name], *planted.values()))
    assert other_browser.come_back(address) == INVALID  # that cookie under this flow's name
    assert browser.come_back(address).keys() == {"code", "state"}  # none of this used it up
    assert [other.come_back(address) for other in (Browser(qq), other_browser)] == [INVALID] * 2  # nor is it repeated


@requirement("1.1", "1.9")
def test_https_shop_has_a_cookie_that_no_sibling_host_can_set(qq, shop, db):
    shop.QQ_REDIRECT_URI = "https://testserver/oauth/qq/callback/"
    browser = Browser(qq, headers={"x-forwarded-proto": "https"})
    address = browser.sign_in()
    ((name, value),) = browser.cookies.items()
    cookie = browser.client.cookies[name]
    assert name.startswith("__Host-qq_flow_")
    assert (cookie["secure"], cookie["domain"], cookie["path"]) == (True, "", "/")
    plain = name.removeprefix("__Host-")
    # Browsers let a sibling set a __Host- cookie behind a blank, which Django strips.
    for planted in (plain, *(blank + name for blank in ("\u2000", "\xa0", "\u3000", "\x1f", "\x0b"))):
        header = f"{planted}={value}".encode().decode("latin-1")
        assert page_query(Client().get(address, HTTP_COOKIE=header)) == INVALID
        assert page_query(Client().get(address, HTTP_COOKIE=f"a=b;{header};c")) == INVALID
    assert browser.come_back(address).keys() == {"code", "state"}


@requirement("1.4")
@pytest.mark.parametrize("cookie", ["first", "renewed"])
def test_state_works_once_and_its_query_is_answered_again_for_a_minute(clock, browser, qq, cookie):
    address = browser.sign_in()
    repeating = Browser(qq) if cookie == "first" else browser
    repeating.add_cookies(browser.cookies)
    page = browser.come_back(address)
    assert page.keys() == {"code", "state"}
    for change in ("usercancel=1", "code=ANOTHER", "error=100010"):
        assert repeating.come_back(f"{address}&{change}") == USED
    clock.shift(60)
    assert repeating.come_back(address) == page
    assert repeating.redeem_code(page["code"]).status_code == 200
    assert repeating.come_back(address) == page
    assert browser.redeem_code(page["code"]).status_code == 200
    assert token_requests(qq) == 1
    clock.shift(1)
    assert repeating.come_back(address) == USED
    clock.shift(538)
    assert repeating.come_back(address) == USED
    cache.clear()
    assert browser.come_back(address) == USED  # by the cookie


@requirement("1.11")
@pytest.mark.parametrize(
    ("error", "query"),
    grouped(
        user_cancelled=["usercancel=1", "usercancel=2&code=C", "error=access_denied&error_description=x"],
        qq_rejected=["error=<script>alert(1)</script>", "error=100010&code=C", "code=100010&msg=x"],
        code_missing=["", "code=", "code=null"],
        code_invalid=["code=a%20b", "code=a&code=b", "code=" + "a" * 513],
    ),
)
def test_cancel_error_or_malformed_code_uses_the_state_up(browser, qq, error, query):
    address = browser.sign_in()
    state = query_of(address)["state"]
    for _ in range(2):
        answer = browser.get(f"/oauth/qq/callback/?state={state}&{query}")
        assert page_query(answer) == {"error": error, "state": "/cart"}
    assert browser.come_back(address) == USED
    assert token_requests(qq) == 0


@requirement("1.11")
def test_phone_gets_qqs_mobile_page_and_can_cancel_there(browser, qq):
    start = browser.get("/oauth/qq/login/?next=/cart", headers={"user-agent": PHONE})["Location"]
    assert query_of(start)["display"] == "mobile"
    assert browser.come_back(qq.cancel(start)) == {"error": "user_cancelled", "state": "/cart"}

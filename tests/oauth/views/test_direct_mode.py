"""Direct mode: QQ returns to the shop's page, which forwards its whole query to users/."""

import pytest
from django.core.cache import cache

from tests.conftest import CALLBACK, PAGE, error_of, fill_in, grouped, query_of, token_requests
from tests.tools.requirements import requirement


@pytest.fixture(autouse=True)
def direct(shop):
    shop.QQ_REDIRECT_URI = PAGE


def forward(browser, address, **changes):
    """Make the page's call with the query of its own address."""
    return browser.get("/oauth/qq/users/", data=query_of(address) | changes)


def test_callback_is_not_served(browser):
    assert browser.get(f"/oauth/qq/callback/?{browser.sign_in().partition('?')[2]}").status_code == 404


@requirement("1.11")
@pytest.mark.parametrize(
    ("error", "change"),
    grouped(
        state_missing=[{"state": ""}, {"state": "null"}],
        state_invalid=[{"state": "/cart"}, {"state": "s" * 43}],
        code_missing=[{"code": ""}, {"code": "null"}],
        code_invalid=[{"code": "a b"}],
        user_cancelled=[{"usercancel": "1"}, {"error": "access_denied"}],
        qq_rejected=[{"error": "100010"}],
    ),
)
def test_refused_call_uses_the_state_up_if_it_is_right(browser, qq, error, change):
    address = browser.sign_in()
    assert error_of(forward(browser, address, **change)) == (400, error)
    assert token_requests(qq) == 0
    again, is_state_right = forward(browser, address), not error.startswith("state")
    assert error_of(again) == (400, "state_used") if is_state_right else again.status_code == 200


def test_refusal_by_qq_is_answered_and_repeated(browser, qq):
    address = browser.sign_in()
    qq.behave(token={"fault": "error", "number": 100020})
    for _ in range(2):
        assert error_of(forward(browser, address)) == (400, "qq_rejected")
    assert token_requests(qq) == 1


@requirement("1.3")
def test_code_without_a_state_is_refused(browser, shop, qq):
    code = query_of(browser.sign_in())["code"]
    shop.QQ_REDIRECT_URI = CALLBACK
    sealed = browser.arrive()
    shop.QQ_REDIRECT_URI = PAGE
    for each in (code, sealed):
        assert error_of(browser.redeem_code(each)) == (400, "state_missing")
    assert token_requests(qq) == 0


def test_another_browser_is_refused(browser, other_browser, binding, qq):
    address = browser.sign_in()
    forward(other_browser, other_browser.sign_in("小红"))
    assert error_of(forward(other_browser, address)) == (400, "state_invalid")
    assert "token" in forward(browser, address).json()
    ((name, _),), (value,) = browser.cookies.items(), other_browser.cookies.values()
    other_browser.add_cookies({name: value})  # of a flow that is back from QQ, under this flow's name
    assert error_of(forward(other_browser, address)) == (400, "state_invalid")
    assert token_requests(qq) == 2


def test_page_logs_in_may_repeat_its_call_and_make_no_other(browser, qq, account, binding):
    address = browser.sign_in()
    assert address.startswith(f"{PAGE}?code=")
    for _ in range(2):
        body = forward(browser, address).json()
        assert body.pop("token")
        assert body == {"user_id": account.pk, "username": "zhang3", "next": "/cart"}
    for changes in ({"code": "ANOTHER"}, {"usercancel": "1"}, {"error": "x"}, {"code": ""}):
        assert error_of(forward(browser, address, **changes)) == (400, "state_used")
    cache.clear()
    assert error_of(forward(browser, address)) == (400, "state_used")
    assert token_requests(qq) == 1


@requirement("1.5")
def test_code_goes_to_qq_once_whichever_flow_brings_it(browser, other_browser, qq, binding):
    address = browser.sign_in()
    assert forward(browser, address).status_code == 200
    other_address = other_browser.sign_in("小红")
    for _ in range(2):
        assert error_of(forward(other_browser, other_address, code=query_of(address)["code"])) == (400, "code_invalid")
    assert token_requests(qq) == 1


@pytest.mark.parametrize(("seconds", "lives"), [(720, True), (721, False)])
def test_cookie_lives_twelve_minutes_after_the_first_call(clock, browser, seconds, lives):
    address = browser.sign_in()
    assert forward(browser, address).status_code == 200
    clock.shift(seconds)
    answer = forward(browser, address)
    assert answer.status_code == 200 if lives else error_of(answer) == (400, "state_invalid")


def test_bind_token_outlives_the_first_cookie(clock, browser, phone):
    address = browser.sign_in()
    clock.shift(9 * 60)
    bind_token = forward(browser, address).json()["access_token"]
    clock.shift(9 * 60)
    assert browser.bind(fill_in(phone, bind_token)).status_code == 200


def test_five_failed_forms_end_the_flow_to_the_end_of_its_life(clock, browser):
    """The first cookie, put back, gives a second one until its own life ends."""
    address = browser.sign_in()
    cookies = browser.cookies
    bind_token = forward(browser, address).json()["access_token"]
    for _ in range(5):
        browser.bind({"access_token": bind_token})
    clock.shift(599)
    browser.add_cookies(cookies)
    bind_token = forward(browser, address).json()["access_token"]
    clock.shift(599)
    assert error_of(browser.bind({"access_token": bind_token})) == (400, "bind_tries")

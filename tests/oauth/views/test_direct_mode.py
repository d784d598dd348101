"""Direct mode: QQ returns straight to the shop's page, which forwards its whole query."""

import pytest
import time_machine
from django.core.cache import cache

from tests.conftest import PAGE, query_of


@pytest.fixture(autouse=True)
def direct(shop):
    shop.QQ_REDIRECT_URI = PAGE


def forward(browser, address, **changes):
    """Do what the page does: call users/ with all it got."""
    return browser.get("/oauth/qq/users/", data=query_of(address) | changes)


def token_requests(qq):
    return len(qq.requests("/oauth2.0/token"))


def test_the_page_logs_in_with_code_and_state(browser, qq, account, binding):
    address = browser.sign_in()
    assert address.startswith(f"{PAGE}?code=")
    body = forward(browser, address).json()
    assert body.pop("token")
    assert body == {"user_id": account.pk, "username": "zhang3", "next": "/cart"}
    assert token_requests(qq) == 1


def test_a_bind_token_outlives_the_first_cookie(browser, phone):
    with time_machine.travel(1_800_000_000, tick=False) as clock:
        address = browser.sign_in()
        clock.shift(9 * 60)
        bind_token = forward(browser, address).json()["access_token"]
        clock.shift(9 * 60)
        form = {"mobile": "13812345678", "password": "correct horse", "access_token": bind_token}
        assert browser.bind(form | {"sms_code": phone.receive_code()}).status_code == 200


def test_callback_is_not_served(browser):
    response = browser.get(f"/oauth/qq/callback/?{browser.sign_in().partition('?')[2]}")
    assert response.status_code == 404


def test_the_login_address_has_the_pages_origin(browser):
    assert browser.get("/oauth/qq/authorization/").json()["url"] == "http://testserver/oauth/qq/login/?next=/"


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"state": ""}, "state_missing"),
        ({"state": "null"}, "state_missing"),
        ({"state": "/cart"}, "state_invalid"),
        ({"state": "s" * 43}, "state_invalid"),
        ({"code": ""}, "code_missing"),
        ({"code": "null"}, "code_missing"),
        ({"code": "a b"}, "code_invalid"),
        ({"usercancel": "1"}, "user_cancelled"),
        ({"error": "access_denied"}, "user_cancelled"),
        ({"error": "100010"}, "qq_rejected"),
    ],
)
def test_what_is_no_code_with_its_state_is_refused_without_asking_qq(browser, qq, changes, code):
    address = browser.sign_in()
    response = forward(browser, address, **changes)
    assert (response.status_code, response.json()["code"]) == (400, code)
    assert token_requests(qq) == 0


def test_without_a_state_the_code_is_refused(browser, qq):
    code = query_of(browser.sign_in())["code"]
    response = browser.get("/oauth/qq/users/", data={"code": code})
    assert (response.status_code, response.json()["code"]) == (400, "state_missing")
    assert token_requests(qq) == 0


def test_another_browser_is_refused(browser, other_browser, qq):
    address = browser.sign_in()
    other_browser.start()
    assert forward(other_browser, address).json()["code"] == "state_invalid"
    assert forward(browser, address).status_code == 200
    assert token_requests(qq) == 1


def test_the_same_call_again_gets_an_equal_answer(browser, qq):
    address = browser.sign_in()
    first, second = forward(browser, address), forward(browser, address)
    assert (first.status_code, second.status_code) == (200, 200)
    assert first.json().keys() == second.json().keys()
    assert token_requests(qq) == 1


@pytest.mark.parametrize("changes", [{"code": "ANOTHER"}, {"usercancel": "1"}, {"error": "x"}, {"code": ""}])
def test_another_call_with_a_used_state_is_refused(browser, qq, changes):
    address = browser.sign_in()
    assert forward(browser, address).status_code == 200
    assert forward(browser, address, **changes).json()["code"] == "state_used"
    assert token_requests(qq) == 1


def test_a_cancelled_flow_takes_no_code_afterwards(browser, qq):
    address = browser.sign_in()
    assert forward(browser, address, usercancel="1").json()["code"] == "user_cancelled"
    assert forward(browser, address).json()["code"] == "state_used"
    assert token_requests(qq) == 0


def test_a_sealed_code_is_no_code_of_qqs(browser, shop, qq):
    shop.QQ_REDIRECT_URI = "http://testserver/oauth/qq/callback/"
    sealed = browser.arrive()
    shop.QQ_REDIRECT_URI = PAGE
    assert browser.collect(sealed).json()["code"] == "state_missing"
    assert token_requests(qq) == 0


def test_a_code_goes_to_qq_once_in_whatever_flow(browser, other_browser, qq, binding):
    address = browser.sign_in()
    assert forward(browser, address).status_code == 200
    other_address = other_browser.sign_in("小红")
    for _ in range(2):
        response = forward(other_browser, other_address, code=query_of(address)["code"])
        assert (response.status_code, response.json()["code"]) == (400, "code_invalid")
    assert token_requests(qq) == 1


def test_a_used_flow_stays_used_whatever_the_cache_has_lost(browser, qq):
    address = browser.sign_in()
    forward(browser, address)
    cache.clear()
    assert forward(browser, address).json()["code"] == "state_used"
    assert token_requests(qq) == 1


def test_a_cookie_under_the_name_of_another_flow_does_not_open_it(browser, other_browser, binding):
    address = browser.sign_in()
    assert "token" in forward(browser, address).json()
    forward(other_browser, other_browser.sign_in("小红"))
    (own,) = other_browser.client.cookies.values()
    (name,) = browser.client.cookies
    other_browser.client.cookies[name] = own.value
    assert forward(other_browser, address).json()["code"] == "state_invalid"


def test_five_failed_forms_end_the_flow_however_late(browser, phone):
    """The first cookie may be put back, and the flow's second one renewed by it, as long as the first one lives."""
    with time_machine.travel(1_800_000_000, tick=False) as clock:
        address = browser.sign_in()
        first = {name: cookie.value for name, cookie in browser.client.cookies.items()}
        bind_token = forward(browser, address).json()["access_token"]
        for _ in range(5):
            browser.bind({"access_token": bind_token})
        clock.shift(599)
        for name, value in first.items():
            browser.client.cookies[name] = value
        bind_token = forward(browser, address).json()["access_token"]
        clock.shift(599)
        assert browser.bind({"access_token": bind_token}).json()["code"] == "bind_tries"

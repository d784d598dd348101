"""QQ_REQUIRE_COOKIE = False: for a page on another origin that calls without credentials."""

import pytest
import time_machine
from django.core.cache import cache

from tests.conftest import MOBILE, PASSWORD, Browser

ADDRESS, AGENT = "203.0.113.7", "Mozilla/5.0 (a shopper)"


@pytest.fixture(autouse=True)
def lenient(shop):
    shop.QQ_REQUIRE_COOKIE = False


@pytest.fixture
def browser(qq, db):
    """The browser on its way through QQ: the navigations carry the cookie."""
    return Browser(qq, REMOTE_ADDR=ADDRESS, headers={"user-agent": AGENT})


@pytest.fixture
def page(qq, db):
    """The old page in the same browser: its calls carry none."""
    return Browser(qq, REMOTE_ADDR=ADDRESS, headers={"user-agent": AGENT})


def error_of(response):
    assert response.status_code == 400
    return response.json()["code"]


def test_the_page_logs_in_and_binds_without_the_cookie(browser, page, phone, qq):
    answer = page.collect(browser.arrive()).json()
    assert answer["next"] == "/cart"
    form = {"mobile": MOBILE, "password": PASSWORD, "access_token": answer["access_token"]}
    bound = page.bind(form | {"sms_code": phone.receive_code()})
    assert (bound.status_code, bound.json()["next"]) == (200, "/cart")
    assert page.collect(browser.arrive()).json()["user_id"] == bound.json()["user_id"]


def test_a_bind_token_got_without_the_cookie_is_as_good_with_it(browser, page, phone):
    bind_token = page.collect(browser.arrive()).json()["access_token"]
    form = {"mobile": MOBILE, "password": PASSWORD, "sms_code": phone.receive_code(), "access_token": bind_token}
    assert browser.bind(form).status_code == 200


def test_a_target_the_cache_has_forgotten_is_the_front_page(browser, page, phone):
    bind_token = page.collect(browser.arrive()).json()["access_token"]
    cache.clear()
    form = {"mobile": MOBILE, "password": PASSWORD, "sms_code": phone.receive_code(), "access_token": bind_token}
    assert page.bind(form).json()["next"] == "/"


@pytest.mark.parametrize(
    "other", [{"REMOTE_ADDR": "203.0.113.8"}, {"headers": {"user-agent": "curl"}}, {"headers": {"user-agent": ""}}]
)
def test_another_client_is_refused(browser, page, qq, other, form):
    stranger = Browser(qq, **{"REMOTE_ADDR": ADDRESS, "headers": {"user-agent": AGENT}} | other)
    assert error_of(stranger.collect(browser.arrive())) == "code_invalid"
    assert error_of(stranger.bind(form)) == "bind_token_invalid"
    assert page.bind(form).status_code == 200


def test_a_sealed_code_works_once(browser, page):
    code = browser.arrive()
    assert page.collect(code).status_code == 200
    assert error_of(page.collect(code)) == "code_invalid"


@pytest.mark.parametrize(("seconds", "accepted"), [(30, True), (31, False)])
def test_a_sealed_code_lives_half_a_minute(browser, page, seconds, accepted):
    with time_machine.travel(1_800_000_000, tick=False) as clock:
        code = browser.arrive()
        clock.shift(seconds)
        response = page.collect(code)
        assert response.status_code == 200 if accepted else error_of(response) == "code_invalid"


def test_with_the_cookie_the_longer_life_and_the_repeats_stay(browser):
    with time_machine.travel(1_800_000_000, tick=False) as clock:
        code = browser.arrive()
        clock.shift(120)
        assert browser.collect(code).status_code == browser.collect(code).status_code == 200


def test_a_browser_with_another_flows_cookie_is_refused(browser, page):
    page.arrive("小红")
    assert error_of(page.collect(browser.arrive())) == "code_invalid"


def test_the_address_is_the_one_the_proxies_vouch_for(browser, page, shop):
    shop.REST_FRAMEWORK = shop.REST_FRAMEWORK | {"NUM_PROXIES": 1}
    code = browser.get(browser.sign_in(), headers={"x-forwarded-for": "6.6.6.6, 198.51.100.1"})["Location"]
    code = code.partition("code=")[2].partition("&")[0]
    assert error_of(page.collect(code, headers={"x-forwarded-for": "198.51.100.1, 198.51.100.2"})) == "code_invalid"
    assert page.collect(code, headers={"x-forwarded-for": "9.9.9.9, 198.51.100.1"}).status_code == 200


def test_without_proxies_the_header_is_the_callers_own_word(browser, page):
    code = browser.arrive()
    assert page.collect(code, headers={"x-forwarded-for": "1.1.1.1"}).status_code == 200


@pytest.mark.parametrize("forwarded", ["1.1.1.1", "a, ", ", "])
def test_a_header_too_short_for_the_proxies_is_not_believed(browser, page, shop, forwarded):
    shop.REST_FRAMEWORK = shop.REST_FRAMEWORK | {"NUM_PROXIES": 2 if forwarded == "1.1.1.1" else 1}
    assert page.collect(browser.arrive(), headers={"x-forwarded-for": forwarded}).status_code == 200


def test_values_of_before_the_switch_are_refused_without_the_cookie(browser, page, shop):
    shop.QQ_REQUIRE_COOKIE = True
    code = browser.arrive()
    shop.QQ_REQUIRE_COOKIE = False
    assert error_of(page.collect(code)) == "code_invalid"
    assert browser.collect(code).status_code == 200


def test_an_empty_address_of_a_proxy_makes_nobody_the_same_client(browser, qq, shop):
    shop.REST_FRAMEWORK = shop.REST_FRAMEWORK | {"NUM_PROXIES": 1}
    blank = {"x-forwarded-for": "203.0.113.9, "}
    location = browser.get(browser.sign_in(), headers=blank)["Location"]
    code = location.partition("code=")[2].partition("&")[0]
    stranger = Browser(qq, REMOTE_ADDR="203.0.113.8", headers={"user-agent": AGENT})
    assert error_of(stranger.collect(code, headers=blank)) == "code_invalid"


def test_a_change_of_the_key_does_not_end_a_login_under_way(browser, page, shop, form):
    old = shop.SECRET_KEY
    code = browser.arrive("小红")
    shop.SECRET_KEY, shop.SECRET_KEY_FALLBACKS = "n" * 50, [old]
    assert page.collect(code).status_code == 200
    assert page.bind(form).status_code == 200
    assert page.collect(browser.arrive()).status_code == 200
    code = browser.arrive()
    shop.SECRET_KEY_FALLBACKS = []
    shop.SECRET_KEY = "o" * 50
    assert error_of(page.collect(code)) == "code_invalid"

"""QQ_REQUIRE_COOKIE = False: the page's calls carry no cookie; address and browser are compared instead."""

import pytest
from django.core.cache import cache

from tests.conftest import Browser, error_of, fill_in, page_query
from tests.tools.requirements import requirement

CLIENT = {"REMOTE_ADDR": "203.0.113.7", "headers": {"user-agent": "Mozilla/5.0"}}
REFUSED = (400, "code_invalid")


@pytest.fixture(autouse=True)
def without_cookie(shop):
    shop.QQ_REQUIRE_COOKIE = False


@pytest.fixture
def browser(qq, db):
    """The browser's navigations, which carry the cookie."""
    return Browser(qq, **CLIENT)


@pytest.fixture
def page(qq, db):
    """The page's calls in the same browser, without the cookie."""
    return Browser(qq, **CLIENT)


@requirement("1.10")
def test_page_logs_in_and_binds_without_the_cookie(browser, page, phone):
    answer = page.redeem_code(browser.arrive()).json()
    assert answer["next"] == "/cart"
    form = fill_in(phone, answer["access_token"])
    bound = page.bind(form)
    assert (bound.status_code, bound.json()["next"]) == (200, "/cart")
    assert browser.bind(form).status_code == 200  # with the cookie too
    assert page.redeem_code(browser.arrive()).json()["user_id"] == bound.json()["user_id"]


def test_target_lost_from_the_cache_becomes_the_front_page(browser, page, phone):
    bind_token = page.redeem_code(browser.arrive()).json()["access_token"]
    cache.clear()
    assert page.bind(fill_in(phone, bind_token)).json()["next"] == "/"


@requirement("1.2", "4.1")
@pytest.mark.parametrize(
    "other", [{"REMOTE_ADDR": "203.0.113.8"}, {"headers": {"user-agent": "curl"}}, {"headers": {"user-agent": ""}}]
)
def test_another_client_is_refused(browser, page, qq, other, form):
    other_client = Browser(qq, **CLIENT | other)
    assert error_of(other_client.redeem_code(browser.arrive())) == REFUSED
    assert error_of(other_client.bind(form)) == (400, "bind_token_invalid")
    assert page.bind(form).status_code == 200


@requirement("1.10")
def test_sealed_code_works_once_without_the_cookie(browser, page):
    code = browser.arrive()
    assert (
        page.redeem_code(code, headers={"x-forwarded-for": "1.1.1.1"}).status_code == 200
    )  # not trusted, so not compared
    assert error_of(page.redeem_code(code)) == REFUSED


@requirement("1.10")
@pytest.mark.parametrize(("seconds", "accepted"), [(30, True), (31, False)])
def test_sealed_code_lives_half_a_minute_without_the_cookie(clock, browser, page, seconds, accepted):
    code = browser.arrive()
    clock.shift(seconds)
    response = page.redeem_code(code)
    assert response.status_code == 200 if accepted else error_of(response) == REFUSED


@requirement("1.2")
def test_browser_with_another_flows_cookie_is_refused(browser, page):
    page.arrive("小红")
    assert error_of(page.redeem_code(browser.arrive())) == REFUSED


@pytest.mark.parametrize(
    ("at_callback", "at_page", "accepted"),
    [
        ("6.6.6.6, 198.51.100.1", "9.9.9.9, 198.51.100.1", True),
        ("6.6.6.6, 198.51.100.1", "198.51.100.1, 198.51.100.2", False),
        ("203.0.113.9, ", "203.0.113.9, ", False),  # no address: REMOTE_ADDR is compared
    ],
)
def test_address_is_the_one_reported_by_a_trusted_proxy(browser, qq, set_proxies, at_callback, at_page, accepted):
    set_proxies(1)
    code = page_query(browser.get(browser.sign_in(), headers={"x-forwarded-for": at_callback}))["code"]
    page = Browser(qq, **CLIENT | {"REMOTE_ADDR": "203.0.113.8"})
    answer = page.redeem_code(code, headers={"x-forwarded-for": at_page})
    assert answer.status_code == 200 if accepted else error_of(answer) == REFUSED


def test_code_sealed_while_the_cookie_was_required_needs_it(browser, page, shop):
    shop.QQ_REQUIRE_COOKIE = True
    code = browser.arrive()
    shop.QQ_REQUIRE_COOKIE = False
    assert error_of(page.redeem_code(code)) == REFUSED
    assert browser.redeem_code(code).status_code == 200


@requirement("4.7")
def test_key_rotation_does_not_end_a_flow(browser, page, shop, form):
    code = browser.arrive("小红")
    shop.SECRET_KEY, shop.SECRET_KEY_FALLBACKS = "n" * 50, [shop.SECRET_KEY]
    assert page.redeem_code(code).status_code == 200
    assert page.bind(form).status_code == 200
    assert page.redeem_code(browser.arrive()).status_code == 200
    code = browser.arrive()
    shop.SECRET_KEY, shop.SECRET_KEY_FALLBACKS = "o" * 50, []
    assert error_of(page.redeem_code(code)) == REFUSED

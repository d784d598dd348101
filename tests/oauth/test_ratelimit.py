"""What one address may do in a minute: each limit at its last call and one past it."""

from itertools import count
from urllib.parse import parse_qsl, urlsplit

import pytest
import time_machine
from apps.oauth.addresses import client_address, network
from apps.oauth.throttling import RATES, AddressThrottle
from django.core.cache import cache
from django.test import RequestFactory

from tests.conftest import page_query
from tests.oauth.flow.test_store import cached

START = 1_800_000_000 + 15  # a quarter into a minute


@pytest.fixture(autouse=True)
def clock(qq):
    with time_machine.travel(START, tick=False) as clock:
        yield clock


@pytest.fixture
def start(browser):
    return lambda **options: browser.get("/oauth/qq/login/?next=/cart", **options)


CALLS = {
    "start": ("get", "/oauth/qq/login/?next=/cart", 60),
    "callback": ("get", "/oauth/qq/callback/?code=C0DE&state=" + "s" * 43, 30),
    "login": ("get", "/oauth/qq/users/?code=C0DE", 60),
    "bind": ("post", "/oauth/qq/users/", 30),
}


@pytest.mark.parametrize("call", CALLS)
def test_a_call_past_the_limit_is_refused_until_the_minute_ends(browser, qq, clock, call):
    method, path, limit = CALLS[call]

    def send(**options):
        return getattr(browser.client, method)(path, content_type="application/json", **options)

    def is_throttled(response):
        if response.status_code != 302:
            return response.status_code == 429
        return dict(parse_qsl(urlsplit(response["Location"]).query)).get("error") == "throttled"

    assert not any(is_throttled(send()) for _ in range(limit))
    refused = send()
    assert is_throttled(refused)
    assert refused["Retry-After"] == "45"
    assert not is_throttled(send(REMOTE_ADDR="198.18.0.1"))
    clock.shift(44.5)
    assert send()["Retry-After"] == "1"
    clock.shift(0.5)
    assert not is_throttled(send())
    assert qq.requests("/oauth2.0/token") == []


@pytest.mark.parametrize(
    ("call", "headers"),
    [
        ("start", {"sec-fetch-dest": "image"}),
        ("start", {"sec-purpose": "prefetch"}),
        ("callback", {"sec-fetch-dest": "iframe"}),
        ("login", {"sec-fetch-mode": "no-cors"}),
        ("login", {"origin": "http://evil.example"}),
        ("bind", {"origin": "http://evil.example"}),
        ("bind", {"origin": "null"}),
    ],
    ids=str,
)
def test_no_page_of_somebody_else_uses_up_what_its_visitor_may_do(browser, call, headers):
    method, path, limit = CALLS[call]
    refused = [getattr(browser.client, method)(path, headers=headers).status_code for _ in range(limit + 1)]
    assert refused == [403 if call in ("login", "bind") else 503] * (limit + 1)
    assert getattr(browser.client, method)(path).status_code != 429


def test_the_first_call_of_a_login_is_not_counted_once_more_but_its_repeats_are(browser, shop, binding, clock):
    shop.REST_FRAMEWORK = {**shop.REST_FRAMEWORK, "DEFAULT_THROTTLE_RATES": {"qq_login": "1/min"}}
    codes = [browser.arrive(), browser.arrive()]
    assert [browser.collect(code).status_code for code in (*codes, *codes)] == [200, 200, 200, 429]


def test_a_call_that_has_nothing_to_take_to_qq_is_counted(browser, shop, clock):
    shop.REST_FRAMEWORK = {**shop.REST_FRAMEWORK, "DEFAULT_THROTTLE_RATES": {"qq_login": "1/min"}}
    code = browser.arrive()
    cache.clear()
    assert [browser.collect(code).status_code for _ in range(2)] == [400, 429]


def test_a_throttled_page_is_told_in_words(browser, clock):
    path = CALLS["login"][1]
    answers = [browser.get(path) for _ in range(61)]
    assert answers[-1].json() == {"message": "操作太频繁，请稍后再试。", "code": "throttled"}


def test_a_throttled_start_keeps_the_target(start):
    answers = [start() for _ in range(61)]
    assert page_query(answers[-1]) == {"error": "throttled", "state": "/cart"}


def test_a_throttled_return_from_qq_uses_nothing_up(browser, clock):
    address = browser.sign_in()
    for _ in range(30):
        browser.get(CALLS["callback"][1])
    assert browser.come_back(address) == {"error": "throttled", "state": "/cart"}
    clock.shift(60)
    assert set(browser.come_back(address)) == {"code", "state"}


def test_ten_failed_binds_a_minute_are_all_an_address_gets_and_a_good_one_costs_nothing(browser, form, clock):
    people = (f"人{number}" for number in count())

    def fail():
        form_of_another = {"mobile": "", "access_token": browser.get_bind_token(next(people))}
        return browser.bind(form_of_another).status_code

    assert [fail() for _ in range(9)] == [400] * 9
    assert browser.bind(form).status_code == 200  # counted, and given back
    assert fail() == 400
    refused = browser.bind({"mobile": "", "access_token": browser.get_bind_token(next(people))})
    assert (refused.status_code, refused["Retry-After"]) == (429, "45")
    clock.shift(60)
    assert fail() == 400


def test_rates_are_those_of_drfs_setting_where_it_names_them(browser, shop):
    rates = {"qq_start": "2/hour", "anon": "1/day"}
    shop.REST_FRAMEWORK = {**shop.REST_FRAMEWORK, "DEFAULT_THROTTLE_RATES": rates}
    answers = [browser.get(CALLS["start"][1]) for _ in range(3)]
    assert answers[1]["Location"].startswith(browser.qq.url)
    assert page_query(answers[2])["error"] == "throttled"
    assert answers[2]["Retry-After"] == str(3600 - START % 3600)
    shop.REST_FRAMEWORK = {**shop.REST_FRAMEWORK, "DEFAULT_THROTTLE_RATES": {"qq_start": None}}
    assert browser.get(CALLS["start"][1])["Location"].startswith(browser.qq.url)


def test_no_rate_gives_nothing_back(shop, no_limits):
    request = RequestFactory().get("/")
    for scope in RATES:
        throttle = AddressThrottle(scope)
        assert throttle.allow_request(request, None)
        throttle.forgive()
    assert cached() == {}


def test_a_count_given_back_after_its_minute_is_no_credit_for_the_next(browser, clock):
    request = RequestFactory().get("/")
    throttle = AddressThrottle("qq_bind_failed")
    assert throttle.allow_request(request, None)
    clock.shift(60)
    cache.clear()
    throttle.forgive()
    assert [AddressThrottle("qq_bind_failed").allow_request(request, None) for _ in range(11)] == [True] * 10 + [False]


def test_nothing_is_kept_of_a_limit_past_its_minute(shop):
    for _ in range(2):
        assert AddressThrottle("qq_start").allow_request(RequestFactory().get("/"), None)
    ((_, left),) = cached().values()
    assert 0 < left <= 60


# Whose limit it is


@pytest.mark.parametrize(
    ("proxies", "forwarded", "address"),
    [
        (0, None, "192.0.2.7"),
        (0, "198.51.100.1", "192.0.2.7"),  # nobody of ours has said that
        (None, "198.51.100.1", "192.0.2.7"),
        (1, None, "192.0.2.7"),
        (1, "198.51.100.1", "198.51.100.1"),
        (1, "203.0.113.9, 198.51.100.1", "198.51.100.1"),  # the left one is the caller's own word
        (2, "203.0.113.9, 198.51.100.1", "203.0.113.9"),
        (2, "198.51.100.1", "192.0.2.7"),
        (1, "", "192.0.2.7"),
        (1, "203.0.113.9, ", "192.0.2.7"),
        (1, "no address", "192.0.2.7"),
        (1, "203.0.113.9\r\nX: y", "192.0.2.7"),
        (1, "2001:db8::1", "2001:db8::1"),
    ],
)
def test_the_address_is_believed_of_as_many_proxies_as_there_are(shop, proxies, forwarded, address):
    shop.REST_FRAMEWORK = {**shop.REST_FRAMEWORK, "NUM_PROXIES": proxies}
    headers = {} if forwarded is None else {"x-forwarded-for": forwarded}
    assert client_address(RequestFactory().get("/", headers=headers, REMOTE_ADDR="192.0.2.7")) == address


@pytest.mark.parametrize(
    ("one", "other", "are_one"),
    [
        ("192.0.2.7", "192.0.2.7", True),
        ("192.0.2.7", "192.0.2.8", False),
        ("192.0.2.7", "::ffff:192.0.2.7", True),
        ("::ffff:192.0.2.7", "::ffff:192.0.2.8", False),
        ("2001:db8:1:2::1", "2001:db8:1:2:ffff::9", True),
        ("2001:db8:1:2::1", "2001:db8:1:3::1", False),
        ("", "@", True),  # a Unix socket has no addresses
    ],
)
def test_a_limit_is_kept_by_what_one_customer_has(one, other, are_one):
    assert (network(one) == network(other)) == are_one
    assert network(one).isascii()
    assert " " not in network(one)


def test_forged_addresses_are_no_way_past_a_limit(browser):
    for number in range(60):
        browser.get(CALLS["start"][1], headers={"x-forwarded-for": f"198.51.100.{number}"})
    refused = browser.get(CALLS["start"][1], headers={"x-forwarded-for": "203.0.113.1", "forwarded": "for=203.0.113.1"})
    assert page_query(refused)["error"] == "throttled"

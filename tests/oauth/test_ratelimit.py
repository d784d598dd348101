"""Limits per address, and their counters on any cache."""

import pytest
from django.core.cache import cache
from django.core.cache.backends.locmem import LocMemCache
from django.db.models.signals import pre_save

from apps.oauth.models import OAuthQQUser
from tests.conftest import cache_entries, error_of, grouped, invalid_fields, page_query, token_requests
from tests.tools.requirements import requirement

CALLS = {
    "start": ("get", "/oauth/qq/login/?next=/cart", 60),
    "callback": ("get", "/oauth/qq/callback/?code=C0DE&state=" + "s" * 43, 30),
    "login": ("get", "/oauth/qq/users/?code=C0DE", 60),
    "bind": ("post", "/oauth/qq/users/", 30),
}


def send(browser, call, **options):
    method, path, _ = CALLS[call]
    return getattr(browser.client, method)(path, content_type="application/json", **options)


def is_throttled(response):
    if response.status_code == 302:
        return "error=throttled" in response["Location"]
    return response.status_code == 429


def starts(browser, number):
    """Call login/ so many times; return which calls are throttled."""
    return [is_throttled(send(browser, "start")) for _ in range(number)]


@requirement("1.7", "11 start", "11 callback", "11 bind, all")
@pytest.mark.parametrize("call", CALLS)
def test_call_over_the_limit_is_refused_until_the_minute_ends(clock, browser, qq, call):
    limit = CALLS[call][2]
    assert [is_throttled(send(browser, call)) for _ in range(limit + 1)] == [False] * limit + [True]
    refused = send(browser, call)
    assert refused["Retry-After"] == "60"
    if call == "start":
        assert page_query(refused) == {"error": "throttled", "state": "/cart"}
    elif call != "callback":
        assert refused.json() == {"message": "操作太频繁，请稍后再试。", "code": "throttled"}
    assert not is_throttled(send(browser, call, REMOTE_ADDR="198.18.0.1"))
    clock.shift(59.5)
    assert send(browser, call)["Retry-After"] == "1"
    clock.shift(0.5)
    assert not is_throttled(send(browser, call))
    assert qq.requests("/oauth2.0/token") == []


def test_later_calls_do_not_extend_the_window(clock, browser, set_rates):
    set_rates(qq_start="2/min")
    assert starts(browser, 1) == [False]
    clock.shift(59)
    assert starts(browser, 2) == [False, True]
    clock.shift(1)
    assert starts(browser, 1) == [False]


@pytest.mark.parametrize(
    ("call", "headers"),
    grouped(
        start=[{"sec-fetch-dest": "image"}, {"sec-purpose": "prefetch"}],
        callback=[{"sec-fetch-dest": "iframe"}],
        login=[{"sec-fetch-mode": "no-cors"}, {"origin": "http://evil.example"}],
        bind=[{"origin": "http://evil.example"}, {"origin": "null"}],
    ),
)
def test_calls_made_by_other_sites_are_refused_and_not_counted(browser, set_rates, call, headers):
    set_rates(**{f"qq_{call}": "1/hour"})
    refused = [send(browser, call, headers=headers).status_code for _ in range(2)]
    assert refused == [403 if call in ("login", "bind") else 503] * 2
    assert not is_throttled(send(browser, call))


def test_first_call_of_a_sealed_code_is_not_counted_but_repeats_and_lost_codes_are(browser, qq, binding, set_rates):
    set_rates(qq_login="1/hour")
    codes = [browser.arrive(), browser.arrive()]
    assert [browser.redeem_code(code).status_code for code in (*codes, *codes)] == [200, 200, 200, 429]
    lost = browser.arrive()
    cache.clear()
    assert [error_of(browser.redeem_code(lost)) for _ in range(2)] == [(400, "code_invalid"), (429, "throttled")]
    assert token_requests(qq) == 2


@requirement("11 callback")
def test_throttled_callback_uses_nothing_up(clock, browser):
    address = browser.sign_in()
    for _ in range(30):
        send(browser, "callback")
    assert browser.come_back(address) == {"error": "throttled", "state": "/cart"}
    clock.shift(60)
    assert browser.come_back(address).keys() == {"code", "state"}


@requirement("11 bind, failed")
def test_address_may_fail_ten_binds_a_minute_and_good_ones_cost_nothing(clock, browser, form):
    def fail(number):
        return browser.bind({"mobile": "", "access_token": browser.get_bind_token(f"person {number}")})

    assert [invalid_fields(fail(number)) for number in range(9)] == [["mobile", "password", "sms_code"]] * 9
    assert browser.bind(form).status_code == 200
    assert fail(9).status_code == 400
    refused = fail(10)
    assert (error_of(refused), refused["Retry-After"]) == ((429, "throttled"), "60")
    clock.shift(60)
    assert fail(11).status_code == 400


def test_rates_come_from_drfs_setting(clock, browser, set_rates):
    set_rates(qq_start="2/hour", anon="1/day")
    assert starts(browser, 3) == [False, False, True]
    assert send(browser, "start")["Retry-After"] == "3600"
    set_rates(qq_start=None)
    assert starts(browser, 1) == [False]


def test_without_limits_nothing_is_counted_or_refunded(no_limits, browser, form):
    assert browser.bind(form).status_code == 200
    assert [key for key in cache_entries() if "limit:qq_" in key] == []


@requirement("9.6")
@pytest.mark.parametrize(
    ("one", "other", "shared"),
    [
        ("192.0.2.7", "192.0.2.7", True),
        ("192.0.2.7", "192.0.2.8", False),
        ("192.0.2.7", "::ffff:192.0.2.7", True),
        ("::ffff:192.0.2.7", "::ffff:192.0.2.8", False),
        ("2001:db8:1:2::1", "2001:db8:1:2:ffff::9", True),
        ("2001:db8:1:2::1", "2001:db8:1:3::1", False),
        ("", "@", True),  # a Unix socket has no address
    ],
)
def test_limit_is_shared_by_an_ipv4_address_or_an_ipv6_network_whatever_headers_say(
    browser, set_rates, one, other, shared
):
    set_rates(qq_start="1/hour")
    throttled = []
    for address, forged in ((one, "198.51.100.1"), (other, "203.0.113.1")):
        headers = {"x-forwarded-for": forged, "forwarded": f"for={forged}"}
        throttled.append(is_throttled(send(browser, "start", REMOTE_ADDR=address, headers=headers)))
    assert throttled == [False, shared]


# Counters -------------------------------------------------------------------------------------------------------------


class Expiring(LocMemCache):
    """A counter expires whenever it is about to be incremented for the first time."""

    def incr(self, key, delta=1, version=None):
        if self.delete(f"seen-{key}"):
            return super().incr(key, delta, version)
        self.set(f"seen-{key}", True)
        self.delete(key)
        raise ValueError


class Reviving(LocMemCache):
    """incr() and decr() make a new counter without an end, as Django's Redis cache does if the old one just expired."""

    value = 0

    def incr(self, key, delta=1, version=None):
        self.set(key, self.value, timeout=None)
        return super().incr(key, delta, version)


@pytest.mark.parametrize(
    ("backend", "revived", "last"),
    [("Expiring", None, True), ("Reviving", 0, False), ("Reviving", -3, False)],  # below zero: after a refund
)
def test_counter_that_expires_during_a_call_starts_again_and_ends(
    browser, set_rates, use_cache, monkeypatch, backend, revived, last
):
    monkeypatch.setattr(Reviving, "value", revived)
    use_cache(f"{__name__}.{backend}")
    set_rates(qq_start="1/hour")
    assert starts(browser, 3) == [False, False, last]
    assert [end for _, end in cache_entries().values() if end is None] == []


class SwallowsErrors(LocMemCache):
    """A client that hides errors while its server is down."""

    def add(self, *args, **kwargs):
        return False

    incr = add


class SwallowsErrorsOfRefunds(LocMemCache):
    def decr(self, *args, **kwargs):
        return None


class NeverCounts(SwallowsErrors):
    def incr(self, *args, **kwargs):
        raise ValueError


def test_refund_after_the_window_is_no_credit_for_the_next(clock, browser, form, set_rates, connect):
    set_rates(qq_bind_failed="1/min")
    connect(lambda **_: clock.shift(61), pre_save, sender=OAuthQQUser)
    assert browser.bind(form).status_code == 200
    failures = [browser.bind({"access_token": browser.get_bind_token(person)}) for person in ("小红", "小刚")]
    assert [failure.status_code for failure in failures] == [400, 429]


@requirement("9.8")
@pytest.mark.parametrize("backend", ["SwallowsErrors", "NeverCounts"])
def test_cache_that_does_not_count_is_an_outage(browser, use_cache, caplog, backend):
    use_cache(f"{__name__}.{backend}")
    assert page_query(send(browser, "start"))["error"] == "cache_unavailable"
    logged = [record.getMessage() for record in caplog.records if record.name == "apps.oauth.cache"]
    assert logged == ["The cache does not count."]


@pytest.mark.parametrize("backend", ["Reviving", "SwallowsErrorsOfRefunds"])
def test_late_or_lost_refund_leaves_no_counter_without_an_end(browser, account, shop, use_cache, backend):
    use_cache(f"{__name__}.{backend}")
    shop.QQ_ACCOUNT_SERIALIZER = "tests.oauth.test_binding.Creating"
    assert browser.bind({"access_token": browser.get_bind_token()}).status_code == 200  # refunds its try
    assert [key for key, (_, end) in cache_entries().items() if end is None] == []

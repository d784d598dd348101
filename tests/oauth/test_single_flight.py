"""Simultaneous calls: QQ is asked once per flow, and no more calls run at once than allowed."""

import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.core.cache.backends.locmem import LocMemCache
from django.db import connection
from django.test import Client

from tests.conftest import Browser, error_of, token_requests
from tests.tools.requirements import requirement

pytestmark = [pytest.mark.servers, pytest.mark.django_db(transaction=True)]
DJANGOS_REDIS = "django.core.cache.backends.redis.RedisCache"


def redeem_code(browser, code):
    """Make the page's call in a thread, with the cookies of `browser`."""
    client = Client()
    client.cookies = browser.client.cookies
    try:
        return client.get("/oauth/qq/users/", data={"code": code})
    finally:
        connection.close()


def arrived(qq):
    """Return a new browser and its sealed code."""
    browser = Browser(qq)
    return browser, browser.arrive()


def wait_for_token_requests(qq, number):
    while token_requests(qq) < number:
        time.sleep(0.01)


def retry_after(response):
    assert error_of(response) == (503, "qq_busy")
    return int(response["Retry-After"])


@pytest.mark.parametrize("backend", ["the shop's", DJANGOS_REDIS])
def test_simultaneous_calls_of_one_flow_share_one_request_to_qq(qq, shop, account, binding, backend):
    if backend == DJANGOS_REDIS:
        if "Redis" not in shop.CACHES["default"]["BACKEND"]:
            pytest.skip("no Redis")
        shop.CACHES = {"default": shop.CACHES["default"] | {"BACKEND": backend}}
    qq.behave(token={"fault": "slow", "seconds": 0.5})
    flow = arrived(qq)
    with ThreadPoolExecutor(6) as threads:
        answers = list(threads.map(lambda _: redeem_code(*flow), range(6)))
    assert [answer.json()["user_id"] for answer in answers] == [account.pk] * 6
    assert token_requests(qq) == 1


def test_call_over_the_limit_is_rejected_and_may_be_repeated(qq, shop, account, binding):
    shop.QQ_MAX_CONCURRENCY = 1
    done, slow, rejected = arrived(qq), arrived(qq), arrived(qq)
    assert redeem_code(*done).status_code == 200
    qq.behave(token={"fault": "slow", "seconds": 0.7, "times": 1})
    with ThreadPoolExecutor(1) as thread:
        call = thread.submit(redeem_code, *slow)
        wait_for_token_requests(qq, 2)
        assert retry_after(redeem_code(*rejected)) == 1
        assert redeem_code(*done).json()["user_id"] == account.pk  # a repeat needs no slot
        assert not call.done()
        assert token_requests(qq) == 2
        assert call.result().status_code == 200
    assert redeem_code(*rejected).status_code == 200


def test_first_rejection_of_a_flow_is_not_counted(qq, shop, binding, set_rates):
    shop.QQ_MAX_CONCURRENCY = 1
    set_rates(qq_login="1/hour")
    slow, rejected = arrived(qq), arrived(qq)
    qq.behave(token={"fault": "slow", "seconds": 1, "times": 1})
    with ThreadPoolExecutor(1) as thread:
        call = thread.submit(redeem_code, *slow)
        wait_for_token_requests(qq, 1)
        assert [redeem_code(*rejected).status_code for _ in range(3)] == [503, 503, 429]
        assert call.result().status_code == 200


@pytest.mark.parametrize(("with_cookie", "longest"), [(True, 50), (False, 20)])
def test_retry_after_grows_with_a_slow_call_but_never_past_the_sealed_codes_life(
    qq, shop, no_limits, binding, with_cookie, longest
):
    shop.QQ_MAX_CONCURRENCY = 1
    shop.QQ_REQUIRE_COOKIE = with_cookie
    qq.behave(token={"fault": "slow", "seconds": 4})
    slow, (browser, code) = arrived(qq), arrived(qq)
    if not with_cookie:
        browser.client.cookies.clear()
    with ThreadPoolExecutor(1) as thread:
        call = thread.submit(redeem_code, *slow)
        wait_for_token_requests(qq, 1)
        waits = []
        while waits.count(longest) < 5:
            waits.append(retry_after(redeem_code(browser, code)))
        assert not call.done()
    assert max(waits) == longest


def test_rejected_flow_goes_before_new_ones(qq, shop, no_limits, binding):
    shop.QQ_MAX_CONCURRENCY = 4
    shop.QQ_TIMEOUT = 30
    qq.behave(token={"fault": "slow", "seconds": 4})
    rejected, new, *others = (arrived(qq) for _ in range(9))
    with ThreadPoolExecutor(4) as threads:
        first = [threads.submit(redeem_code, *flow) for flow in others[:4]]
        wait_for_token_requests(qq, 4)
        while retry_after(redeem_code(*rejected)) < 15:
            pass
        assert [call.result().status_code for call in first] == [200] * 4
        second = [threads.submit(redeem_code, *flow) for flow in others[4:]]
        wait_for_token_requests(qq, 7)
        assert retry_after(redeem_code(*new))
        assert redeem_code(*rejected).status_code == 200
        assert [call.result().status_code for call in second] == [200] * 3


@requirement("8.7")
def test_waiting_calls_of_one_flow_leave_slots_to_others(qq, shop, binding):
    shop.QQ_MAX_CONCURRENCY = 8
    qq.behave(token={"fault": "slow", "seconds": 1, "times": 1})
    flow, other = arrived(qq), arrived(qq)
    with ThreadPoolExecutor(6) as threads:
        calls = [threads.submit(redeem_code, *flow) for _ in range(6)]
        wait_for_token_requests(qq, 1)
        while sum(call.done() for call in calls) < 3:
            time.sleep(0.01)
        assert redeem_code(*other).status_code == 200
        answers = [call.result() for call in calls if call.done()]
        assert [retry_after(answer) for answer in answers] == [1, 1, 1]
        assert sum(call.result().status_code == 200 for call in calls) == 3
    assert token_requests(qq) == 2


class LosesOutcomes(LocMemCache):
    """A cache that fails when a worker stores QQ's outcome."""

    def set(self, key, *args, **kwargs):
        if key.endswith(":outcome"):
            raise ConnectionError("gone")
        super().set(key, *args, **kwargs)


def test_answer_that_the_cache_does_not_take_is_used_once(qq, shop, binding, use_cache):
    use_cache(f"{__name__}.LosesOutcomes")
    shop.QQ_TIMEOUT = 1
    browser, code = arrived(qq)
    start = time.monotonic()
    assert browser.redeem_code(code).json()["user_id"] == binding.user_id
    assert [error_of(browser.redeem_code(code)) for _ in range(2)] == [(503, "cache_unavailable")] * 2
    assert time.monotonic() - start < 2 * (1 + 1)  # one repeat waits, at most the time-out and a second
    assert token_requests(qq) == 1

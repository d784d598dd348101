"""Calls that meet: one flow asked for at once, a worker that died, more calls than QQ may get."""

import re
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.core.cache import cache
from django.core.cache.backends.locmem import LocMemCache
from django.db import connection
from django.test import Client

from tests.conftest import Browser, page_query

pytestmark = [pytest.mark.servers, pytest.mark.django_db(transaction=True)]


def collect(browser, code):
    """Make the page's call from a thread, with the cookies of `browser`."""
    client = Client()
    client.cookies = browser.client.cookies
    try:
        return client.get("/oauth/qq/users/", data={"code": code})
    finally:
        connection.close()


def asked(qq):
    return len(qq.requests("/oauth2.0/token"))


def wait_until_asked(qq, times=1):
    while asked(qq) < times:
        pass


@pytest.mark.parametrize("backend", ["the shop's", "Django's"])
def test_calls_for_one_flow_at_once_share_one_answer_of_qq(browser, qq, shop, account, binding, backend):
    if backend == "Django's":
        if "Redis" not in shop.CACHES["default"]["BACKEND"]:
            pytest.skip("the shop's is Django's")
        shop.CACHES = {"default": shop.CACHES["default"] | {"BACKEND": "django.core.cache.backends.redis.RedisCache"}}
    qq.behave(token={"fault": "slow", "seconds": 0.5})
    code = browser.arrive()
    with ThreadPoolExecutor(6) as threads:
        answers = list(threads.map(lambda _: collect(browser, code), range(6)))
    assert [answer.json()["user_id"] for answer in answers] == [account.pk] * 6
    assert asked(qq) == 1


def test_calls_past_the_limit_are_turned_away_and_may_be_repeated(browser, other_browser, qq, shop, binding):
    shop.QQ_MAX_CONNECTIONS = 1
    qq.behave(token={"fault": "slow", "seconds": 0.5, "times": 1})
    first, second = browser.arrive(), other_browser.arrive()
    with ThreadPoolExecutor(1) as thread:
        slow = thread.submit(collect, browser, first)
        wait_until_asked(qq)
        busy = collect(other_browser, second)
        assert (busy.status_code, busy.json()["code"], busy["Retry-After"]) == (503, "qq_busy", "1")
        assert asked(qq) == 1
        assert slow.result().status_code == 200
    assert collect(other_browser, second).status_code == 200


def test_who_is_turned_away_is_told_when_a_place_will_be_his(browser, qq, shop, binding):
    shop.QQ_MAX_CONNECTIONS = 1
    qq.behave(token={"fault": "slow", "seconds": 1.2})
    collect(browser, browser.arrive())  # that is how long it takes
    first, *others = [(each, each.arrive()) for each in (Browser(qq) for _ in range(5))]
    with ThreadPoolExecutor(1) as thread:
        thread.submit(collect, *first)
        wait_until_asked(qq, 2)
        waits = [int(collect(*other)["Retry-After"]) for other in others]
    assert waits == sorted(waits)
    assert waits[0] < waits[-1]  # one after the other, not all at once


def test_a_call_under_way_tells_how_long_qq_takes_before_any_is_done(qq, shop, no_limits, binding):
    shop.QQ_MAX_CONNECTIONS = 2  # with that number no test has had an answer of this QQ
    qq.behave(token={"fault": "slow", "seconds": 3})
    first, second, patient = [(each, each.arrive()) for each in (Browser(qq) for _ in range(3))]
    with ThreadPoolExecutor(2) as threads:
        calls = [threads.submit(collect, *each) for each in (first, second)]
        wait_until_asked(qq, 2)
        waits = set()
        while not any(call.done() for call in calls) and max(waits, default=0) < 2:
            waits.add(int(collect(*patient)["Retry-After"]))
        assert not any(call.done() for call in calls)


def test_a_repeat_gets_its_answer_while_no_place_is_free(browser, other_browser, qq, shop, account, binding):
    shop.QQ_MAX_CONNECTIONS = 1
    code = browser.arrive()
    assert collect(browser, code).status_code == 200
    qq.behave(token={"fault": "slow", "seconds": 1, "times": 1})
    slow = other_browser.arrive()
    with ThreadPoolExecutor(1) as thread:
        call = thread.submit(collect, other_browser, slow)
        wait_until_asked(qq, 2)
        assert collect(browser, code).json()["user_id"] == account.pk
        assert not call.done()
    assert asked(qq) == 2


@pytest.mark.parametrize(("with_cookie", "longest"), [(True, 50), (False, 20)])
def test_nobody_is_told_to_wait_longer_than_his_code_lives(qq, shop, no_limits, binding, with_cookie, longest):
    shop.QQ_MAX_CONNECTIONS = 1
    shop.QQ_REQUIRE_COOKIE = with_cookie
    qq.behave(token={"fault": "slow", "seconds": 5})
    first, patient = [(each, each.arrive()) for each in (Browser(qq), Browser(qq))]
    if not with_cookie:
        patient[0].client.cookies.clear()
    with ThreadPoolExecutor(1) as thread:
        thread.submit(collect, *first)
        wait_until_asked(qq)
        waits = []
        while waits.count(longest) < 20:
            waits.append(int(collect(*patient)["Retry-After"]))
    assert max(waits) == longest


def test_what_was_not_sent_tells_nothing_of_how_long_qq_takes(browser, qq, shop, binding):
    shop.QQ_MAX_CONNECTIONS = 3
    qq.behave(token={"fault": "slow", "seconds": 1.2})
    back = browser.sign_in()
    collect(browser, browser.come_back(back)["code"])
    for other in (Browser(qq) for _ in range(12)):  # each with that code, which QQ is not asked about again
        address = re.sub("code=[^&]+", re.search("code=[^&]+", back)[0], other.sign_in())
        assert collect(other, other.come_back(address)["code"]).json()["code"] == "code_invalid"
    *three, patient = [(each, each.arrive()) for each in (Browser(qq) for _ in range(4))]
    with ThreadPoolExecutor(3) as threads:
        for each in three:
            threads.submit(collect, *each)
        wait_until_asked(qq, 4)
        waits = [int(collect(*patient)["Retry-After"]) for _ in range(5)]
    assert waits[-1] >= 2


def test_who_was_turned_away_goes_before_who_is_new(qq, shop, binding):
    shop.QQ_MAX_CONNECTIONS = 4
    before, first, *others, patient, new = [(each, each.arrive()) for each in (Browser(qq) for _ in range(7))]
    qq.behave(token={"fault": "slow", "seconds": 1})
    collect(*before)
    with ThreadPoolExecutor(4) as threads:
        soon_done = threads.submit(collect, *first)
        wait_until_asked(qq, 2)
        qq.behave(token={"fault": "slow", "seconds": 4})
        for other in others:
            threads.submit(collect, *other)
        wait_until_asked(qq, 5)
        qq.behave(token=None)
        for _ in range(30):  # and with him many more
            assert collect(*patient).status_code == 503
        assert soon_done.result().status_code == 200
        assert collect(*new).json()["code"] == "qq_busy"
        assert collect(*patient).status_code == 200


def test_calls_that_wait_leave_places_to_other_shoppers(browser, other_browser, qq, shop, binding):
    shop.QQ_MAX_CONNECTIONS = 8
    qq.behave(token={"fault": "slow", "seconds": 1, "times": 1})
    first, second = browser.arrive(), other_browser.arrive()
    with ThreadPoolExecutor(6) as threads:
        answers = [threads.submit(collect, browser, first) for _ in range(6)]
        wait_until_asked(qq)
        while sum(answer.done() for answer in answers) < 3:
            pass  # who finds no place for waiting is told at once
        assert collect(other_browser, second).status_code == 200
        assert sum(answer.done() for answer in answers) == 3
        told = [(answer.result().json().get("code"), answer.result().get("Retry-After")) for answer in answers]
    assert set(told) == {(None, None), ("qq_busy", "1")}
    assert told.count((None, None)) >= 3  # the one that asked, and who may wait for it
    assert asked(qq) == 2


class ForgetfulCache(LocMemCache):
    """A cache that goes away just when a worker wants to note what QQ said."""

    def set(self, key, value, *args, **kwargs):
        if key.endswith(":said"):
            raise ConnectionError("gone")
        super().set(key, value, *args, **kwargs)


def test_after_a_worker_died_the_shopper_starts_again(qq, shop, db):
    shop.CACHES = {"default": {"BACKEND": f"{__name__}.ForgetfulCache", "LOCATION": "forgetful"}}
    shop.QQ_TIMEOUT = 0.1
    cache.clear()
    browser = Browser(qq)
    code = browser.arrive()
    began = time.monotonic()
    for error in ("cache_unavailable", "qq_unavailable", "qq_unavailable"):
        answer = browser.collect(code)
        assert (answer.status_code, answer.json()["code"]) == (503, error)
    assert time.monotonic() - began < 2 * (0.1 + 1)  # waited for once, the time-out and a second
    assert asked(qq) == 1


class DeadCache(LocMemCache):
    def add(self, *args, **kwargs):
        raise ConnectionError("gone")

    get = set = incr = add


def test_without_the_cache_nobody_passes_and_no_browser_gets_json(browser, form, qq, shop):
    code, address = browser.arrive(), browser.sign_in()
    before = asked(qq)
    shop.CACHES = {"default": {"BACKEND": f"{__name__}.DeadCache"}}
    assert page_query(browser.get("/oauth/qq/login/?next=/cart")) == {"error": "cache_unavailable", "state": "/cart"}
    assert browser.come_back(address) == {"error": "cache_unavailable", "state": "/cart"}
    for answer in (browser.collect(code), browser.bind(form)):
        assert (answer.status_code, answer.json()["code"]) == (503, "cache_unavailable")
    assert asked(qq) == before

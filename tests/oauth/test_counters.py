"""The atomic counters."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import time_machine
from apps.oauth.throttling import AddressThrottle, count
from django.core.cache import cache
from django.core.cache.backends.locmem import LocMemCache
from django.test import RequestFactory


def test_a_counter_counts_from_one():
    assert [count("a", 60), count("a", 60), count("b", 60)] == [1, 2, 1]


def test_no_two_callers_get_the_same_number():
    with ThreadPoolExecutor(16) as threads:
        assert sorted(threads.map(lambda _: count("a", 60), range(200))) == list(range(1, 201))


def test_a_counter_ends_so_many_seconds_after_its_first_use(settings):
    # Redis goes by a clock of its own, which nobody here can move.
    settings.CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache", "LOCATION": "moved"}}
    with time_machine.travel(1_800_000_000, tick=False) as clock:
        assert count("a", 60) == 1
        clock.shift(30)
        assert count("a", 60) == 2
        clock.shift(29)
        assert cache.get("a") == 2
        clock.shift(1)
        assert cache.get("a") is None


class ExpiringCache(LocMemCache):
    """A cache where each counter's time is up at the first moment it is asked to count."""

    def incr(self, key, delta=1, version=None):
        if self.delete(f"grace-{key}"):
            return super().incr(key, delta, version)
        self.set(f"grace-{key}", True)
        self.delete(key)
        raise ValueError


@pytest.fixture
def expiring(settings):
    settings.CACHES = {"default": {"BACKEND": f"{__name__}.ExpiringCache", "LOCATION": "expiring"}}
    cache.clear()


def test_a_counter_that_expires_in_between_begins_anew(expiring):
    assert [count("a", 60), count("a", 60), count("a", 60)] == [1, 1, 2]


class SwallowingCache(LocMemCache):
    """A client that was told to swallow its errors, while the server is down."""

    def add(self, *args, **kwargs):
        return False

    def incr(self, *args, **kwargs):
        return False


class EndlessCache(SwallowingCache):
    def incr(self, *args, **kwargs):
        raise ValueError


@pytest.mark.parametrize("backend", ["SwallowingCache", "EndlessCache"])
def test_a_cache_that_does_not_count_is_an_outage_and_no_free_try(settings, backend):
    settings.CACHES = {"default": {"BACKEND": f"{__name__}.{backend}"}}
    with pytest.raises(ConnectionError):
        count("a", 60)


class RevivingCache(LocMemCache):
    """As Django's Redis does it: looks whether there is a counter, then counts, and so may make one without an end."""

    of_before = 0

    def incr(self, key, delta=1, version=None):
        self.set(key, self.of_before, timeout=None)
        return super().incr(key, delta, version)


class RevivingBelowCache(RevivingCache):
    """The same where some were given back by then."""

    of_before = -3


@pytest.mark.parametrize("backend", ["RevivingCache", "RevivingBelowCache"])
def test_a_counter_made_anew_in_between_ends_too(settings, backend):
    settings.CACHES = {"default": {"BACKEND": f"{__name__}.{backend}", "LOCATION": backend}}
    cache.clear()
    with time_machine.travel(1_800_000_000, tick=False) as clock:
        assert [count("a", 60), count("a", 60)] == [1, 1]
        clock.shift(61)
        assert cache.get("a") is None


def test_a_count_given_back_too_late_leaves_nothing_without_an_end(settings):
    settings.CACHES = {"default": {"BACKEND": f"{__name__}.RevivingCache", "LOCATION": "too late"}}
    cache.clear()
    throttle = AddressThrottle("qq_bind_failed")
    assert throttle.allow_request(RequestFactory().get("/"), None)
    throttle.forgive()
    assert cache.get(throttle.counter) is None

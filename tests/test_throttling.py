"""The atomic counters."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from django.core.cache import cache
from django.core.cache.backends.locmem import LocMemCache

from apps.oauth.throttling import count


def test_a_counter_counts_from_one():
    assert [count("a", 60), count("a", 60), count("b", 60)] == [1, 2, 1]


def test_no_two_callers_get_the_same_number():
    with ThreadPoolExecutor(16) as threads:
        assert sorted(threads.map(lambda _: count("a", 60), range(200))) == list(range(1, 201))


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

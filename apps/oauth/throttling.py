"""Limits: atomic counters in the cache, and the rate of each call."""

import time
from contextlib import suppress
from typing import Any

from django.core.cache import cache
from rest_framework.request import Request
from rest_framework.settings import api_settings
from rest_framework.throttling import SimpleRateThrottle

from .addresses import client_address, network
from .audit import record

# Calls from one address, where REST_FRAMEWORK["DEFAULT_THROTTLE_RATES"] does not say otherwise. A school or an office
# behind one address may need more.
RATES = {
    "qq_start": "60/min",  # login/
    "qq_callback": "30/min",
    "qq_login": "60/min",  # GET users/: a page may repeat it while QQ is slow
    "qq_bind": "30/min",  # POST users/
    "qq_bind_failed": "10/min",
    "qq_sms_failed": "30/hour",  # wrong SMS codes, where shops.py looks at them
}


class AddressThrottle(SimpleRateThrottle):
    """So many calls in a window of time from one address. DRF's rates, but no two calls can count as one."""

    def __init__(self, scope: str) -> None:
        """`scope`: a name of RATES. A rate of None is DRF's way to say: no limit."""
        self.scope = scope
        rates: Any = api_settings.DEFAULT_THROTTLE_RATES or {}
        self.limit, self.seconds = self.parse_rate(rates.get(scope, RATES[scope]))

    def allow_request(self, request: Request, view: Any) -> bool:
        """Count the call, and tell whether it is still within the rate."""
        if self.limit is None or self.seconds is None:
            return True
        # All windows of a length begin at the same moment, so that no second key has to say when one did.
        window, self.elapsed = divmod(time.time(), self.seconds)
        self.counter = f"qq-login:limit:{self.scope}:{int(window)}:{network(client_address(request))}"
        is_allowed = count(self.counter, self.seconds) <= self.limit
        if not is_allowed:
            record(request, "limit", "refused", limit=self.scope)
        return is_allowed

    def wait(self) -> float:
        """Seconds until the window ends."""
        assert self.seconds is not None
        return self.seconds - self.elapsed

    def forgive(self) -> None:
        """Give back the call that was counted."""
        if self.limit is not None:
            give_back(self.counter)


def count(key: str, seconds: int) -> int:
    """Add one to the counter `key` and return it. A counter lives `seconds` from its first use.

    Right for any number of processes: `add` and `incr` are atomic where the cache is shared. Raises what the cache's
    client raises, or ConnectionError, when the cache is out of reach.
    """
    for _ in range(3):
        if cache.add(key, 1, seconds):
            return 1
        with suppress(ValueError):  # it expired between the two
            counted = cache.incr(key)
            if counted:
                if counted <= 1:
                    cache.touch(key, seconds)  # Django's Redis made a new one, without an end
                return max(counted, 1)
    # A cache client set to swallow its errors says no to everything.
    raise ConnectionError("the cache does not count")


def give_back(key: str) -> None:
    """Take one from the counter `key`, if it still counts."""
    with suppress(ValueError):  # its time is up
        if cache.decr(key) < 0:
            cache.delete(key)  # it was, by a hair: Django's Redis made a new one, without an end

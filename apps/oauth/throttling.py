"""Atomic counters in the cache, and the client address they may be kept by."""

from contextlib import suppress

from django.core.cache import cache
from django.http import HttpRequest
from rest_framework.request import Request
from rest_framework.settings import api_settings


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
            if counted == 1:
                cache.touch(key, seconds)  # Django's Redis made a new one, without an end
            if counted:
                return counted
    # A cache client set to swallow its errors says no to everything.
    raise ConnectionError("the cache does not count")


def client_address(request: HttpRequest | Request) -> str:
    """Return the address of whoever calls, behind as many proxies as REST_FRAMEWORK's NUM_PROXIES says.

    Each proxy adds the address it was called from on the right; what stands further left is the caller's own word.
    """
    address: str = request.META.get("REMOTE_ADDR", "")
    hops = request.META.get("HTTP_X_FORWARDED_FOR", "").split(",")
    proxies = api_settings.NUM_PROXIES or 0
    return hops[-proxies].strip() if 0 < proxies <= len(hops) and hops[-proxies].strip() else address

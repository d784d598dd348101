"""Django's default cache, with one error for all clients.

Each cache client has exceptions of its own when its server is out of reach. Here, and only here, they become
CacheUnavailable. A Redis error in the shop's own code therefore stays the shop's and keeps its traceback.
"""

import logging
from contextlib import suppress
from socket import gaierror
from types import TracebackType
from typing import Any

from django.core.cache import cache
from django.utils.module_loading import import_string

from .errors import CacheUnavailable

logger = logging.getLogger(__name__)


def _import_cache_errors() -> tuple[type[Exception], ...]:
    found: list[type[Exception]] = [ConnectionError, TimeoutError, gaierror]
    for path in (
        "redis.exceptions.RedisError",
        "redis.exceptions.RedisClusterException",  # it is no RedisError
        "django_redis.exceptions.ConnectionInterrupted",
        "pymemcache.exceptions.MemcacheError",
        "pylibmc.Error",
    ):
        with suppress(ImportError):
            found.append(import_string(path))
    return tuple(found)


CACHE_ERRORS = _import_cache_errors()


class cache_guard:
    """Context manager around calls of a cache client: its errors become CacheUnavailable.

    A class because every cache call enters it, and a generator costs more.
    """

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, _: TracebackType | None) -> None:
        if isinstance(exc, CACHE_ERRORS):
            logger.error("A cache call failed: %s.%s", type(exc).__module__, type(exc).__qualname__)
            logger.debug("The failing call:", exc_info=exc)
            raise CacheUnavailable from exc


def get(key: str, default: Any = None) -> Any:
    with cache_guard():
        return cache.get(key, default)


def set(key: str, value: Any, seconds: float) -> None:
    with cache_guard():
        cache.set(key, value, seconds)


def add(key: str, value: Any, seconds: float) -> bool:
    """Store the value unless the key exists. Return whether it was stored: True for one caller only."""
    with cache_guard():
        return bool(cache.add(key, value, seconds))


def pop(key: str) -> Any:
    """Return the value and delete it: of several callers at once, one gets it and the others None."""
    with cache_guard():
        get_and_delete = getattr(cache, "get_and_delete", None)  # one round trip, where the cache class has it
        if get_and_delete is not None:
            return get_and_delete(key)
        value = cache.get(key)
        return value if value is not None and cache.delete(key) else None


def increment(key: str, seconds: float) -> int:
    """Add one to a counter and return it. The counter lives `seconds` from its first use.

    Correct for any number of processes: `add` and `incr` are atomic where the cache is shared.
    """
    with cache_guard():
        for _ in range(3):
            if cache.add(key, 1, seconds):
                return 1
            with suppress(ValueError):  # it expired between the two calls
                count = cache.incr(key)
                if count:
                    if count <= 1:  # refunded to zero, or created by Django's Redis cache without an expiry
                        cache.touch(key, seconds)
                    return max(count, 1)
    logger.error("The cache does not count.")  # its client hides errors
    raise CacheUnavailable


def decrement(key: str) -> None:
    """Take one from a counter, if it still exists: a try is given back. If the cache fails, the try stays counted."""
    with suppress(CacheUnavailable), cache_guard(), suppress(ValueError):  # it has expired
        count = cache.decr(key)
        if count is not None and count < 0:  # None: the client hides its errors
            cache.delete(key)  # it expired just now, and Django's Redis cache created one without an expiry

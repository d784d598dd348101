"""The lock of an account after wrong passwords: one policy for every form of the shop that asks for one.

Five wrong passwords within five minutes, or ten within a day, lock the account for one minute. Each further lock lasts
twice as long, up to an hour. An attacker gets a few guesses an hour; the owner waits a minute at first.

Keys: `<account>` holds (epoch, locks). `<account>:<epoch>:<locks>` counts the failures since that lock; with `:slow` it
counts those of the day, with `:locked` it holds the end of the lock. A new epoch abandons all counters: deleting them
would race.
"""

import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from hashlib import sha256
from typing import Any

from django.contrib.auth.base_user import AbstractBaseUser
from django.db import Error
from django.http import HttpRequest
from django.utils.crypto import salted_hmac
from rest_framework.request import Request

from . import cache
from .audit import Event, record
from .database import is_outage
from .errors import CacheUnavailable
from .ratelimit import RateLimited

LIMIT_NAME = "password"
MAX_FAILURES, WINDOW = 5, 5 * 60  # seconds
MAX_SLOW_FAILURES, SLOW_WINDOW = 10, 24 * 3600  # seconds: else guesses five minutes apart would never be stopped
FIRST_LOCK, LONGEST_LOCK = 60, 3600  # seconds
REMEMBERED = 24 * 3600  # seconds: how long a lock makes the next one longer


@contextmanager
def password_attempt(request: HttpRequest | Request, account_key: str) -> Iterator[None]:
    """Run one password check of the account in the block. A block that ends without an error forgets all failures.

    One that fails because of the database does not count.
    Raises RateLimited while the account is locked, or if this attempt is one too many.
    """
    state_key = _get_state_key(account_key)
    # Failures have a counter of their own after each lock, and after each success. No counter is ever deleted, so a
    # hundred attempts at once all count in the same one.
    epoch, locks = cache.get(state_key, (0, 0))
    counter = f"{state_key}:{epoch}:{locks}"
    locked_until = cache.get(f"{counter}:locked")
    if locked_until is not None:
        raise _refuse(request, min(locked_until - time.time(), _get_lock_seconds(locks)))
    failures = cache.increment(counter, WINDOW)
    slow_failures = 0 if failures > MAX_FAILURES else cache.increment(f"{counter}:slow", SLOW_WINDOW)
    if failures >= MAX_FAILURES or slow_failures >= MAX_SLOW_FAILURES:
        # Lock before the last attempt runs: the lock is there even if this process dies during the attempt.
        locks += 1
        seconds = _get_lock_seconds(locks)
        cache.add(f"{state_key}:{epoch}:{locks}:locked", time.time() + seconds, seconds)
        cache.set(state_key, (epoch, locks), REMEMBERED)
        if failures > MAX_FAILURES or slow_failures > MAX_SLOW_FAILURES:
            raise _refuse(request, seconds)
    try:
        yield
    except Error as exc:
        if is_outage(exc):
            _refund(state_key, epoch, locks, counter)
        raise
    unlock(account_key)


def make_account_key(user: AbstractBaseUser) -> str:
    """Return the key of an account for password_attempt(). The hash is part of it: a new password is not locked."""
    return salted_hmac("qq-login.account", repr((user.pk, user.password)), algorithm="sha256").hexdigest()


def unlock(account_key: str) -> None:
    """Forget all failures of the account: its owner has just proved who they are."""
    with suppress(CacheUnavailable):  # then the failures stay counted, and the owner goes on
        # A random epoch outlives every counter of the old one.
        cache.set(_get_state_key(account_key), (secrets.token_hex(8), 0), REMEMBERED)


def _refund(state_key: str, epoch: Any, locks: int, counter: str) -> None:
    """Take an attempt back, and the lock if this attempt has set it. `locks`: how many there are with that one."""
    cache.decrement(counter)
    cache.decrement(f"{counter}:slow")
    own = f"{state_key}:{epoch}:{locks}"
    with suppress(CacheUnavailable):
        if own != counter and cache.get(state_key) == (epoch, locks):
            cache.set(state_key, (epoch, locks - 1), REMEMBERED)
            cache.pop(f"{own}:locked")


def _refuse(request: HttpRequest | Request, wait: float) -> RateLimited:
    record(request, Event.LIMIT, "refused", limit=LIMIT_NAME)
    return RateLimited(wait, LIMIT_NAME)


def _get_state_key(account_key: str) -> str:
    return f"qq-login:password:{sha256(account_key.encode()).hexdigest()[:32]}"


def _get_lock_seconds(locks: int) -> int:
    return min(FIRST_LOCK << (locks - 1), LONGEST_LOCK)  # doubles with each lock

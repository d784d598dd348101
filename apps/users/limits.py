"""Limits: how often something may be tried. Counted in the cache, atomically, and before it is tried."""

import math
import secrets
import time
import unicodedata
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from hashlib import sha256
from ipaddress import IPv6Address, ip_address, ip_network

from django.core.cache import cache
from django.utils.translation import gettext_lazy as _
from rest_framework.exceptions import APIException, Throttled

from .audit import audit, client_address

MINUTE, HOUR, DAY = 60, 3600, 24 * 3600


@dataclass(frozen=True)
class Limit:
    name: str
    maximum: int
    seconds: int  # from the first one counted


LOGIN = Limit("login", 30, MINUTE)
LOGIN_FAILED = Limit("login_failed", 10, MINUTE)
SMS_CHECK_FAILED = Limit("sms_check_failed", 30, HOUR)
IMAGE_CODE = Limit("image_code", 60, MINUTE)
IMAGE_CODE_TRIED = Limit("image_code_tried", 60, MINUTE)
COUNT = Limit("count", 60, MINUTE)  # of the calls that tell whether a name or a number is taken

# The password of one account: so many tries, then a lock that doubles each time up to an hour. Who tries on gets a few
# guesses an hour; the owner waits a minute at first, and an SMS code opens the account at any time.
PASSWORD = Limit("password", 5, 5 * MINUTE)
SLOW_FAILURES = 10  # since the last lock, in a day: or who waits between his guesses would never meet one
LONGEST_LOCK = HOUR
LOCKS_REMEMBERED = DAY


class LimitReached(Throttled):
    default_detail = _("操作太频繁，请稍后再试。")

    def __init__(self, limit, wait):
        APIException.__init__(self)  # not DRF's own, which adds a sentence with the seconds: the pages count them down
        self.limit = limit
        self.wait = max(1, math.ceil(wait))


def hit(request, limit, subject=None):
    """Count one more for the subject, by default the address of the caller, and return the counter's key.

    Raises LimitReached if that is one too many.
    """
    key = _key(limit.name, address_key(request) if subject is None else subject)
    if count(key, limit.seconds) > limit.maximum:
        ends = cache.get(_end_key(key)) or time.time() + limit.seconds
        raise reached(request, limit, min(ends - time.time(), limit.seconds))
    return key


def hit_all(request, *limits):
    """Hit several limits, each given with its subject, or none: the one that refuses leaves the others uncounted."""
    counted = []
    try:
        for limit, subject in limits:
            counted.append(hit(request, limit, subject))
    except LimitReached:
        for key in counted:
            give_back(key)
        raise


@contextmanager
def failures(request, limit, subject=None):
    """Hit a limit for what the block tries; where it does not raise, take that one back, and no other's."""
    key = hit(request, limit, subject)
    yield
    give_back(key)


@contextmanager
def password_try(request, name):
    """Let the block compare the password of an account, by its lock_name. An end without an error forgets all failures.

    Raises LimitReached while the account is locked, or this try is one too many.
    """
    state_key = _key(PASSWORD.name, name)
    # The failures are counted apart for each lock, and anew after a success. No counter is ever taken away under
    # those who are about to count in it: a hundred tries at once find the same one.
    epoch, locks = cache.get(state_key, (0, 0))
    ends = cache.get(_lock_key(state_key, epoch, locks))
    if ends is not None:
        raise reached(request, PASSWORD, min(ends - time.time(), _lock_seconds(locks)))
    tries = count(f"{state_key}:{epoch}:{locks}", PASSWORD.seconds)
    slow_tries = 0 if tries > PASSWORD.maximum else count(f"{state_key}:{epoch}:{locks}:slow", DAY)
    if tries >= PASSWORD.maximum or slow_tries >= SLOW_FAILURES:
        # Before the last try is made: should this process die of it, the lock is there.
        locks += 1
        seconds = _lock_seconds(locks)
        cache.add(_lock_key(state_key, epoch, locks), time.time() + seconds, seconds)
        cache.set(state_key, (epoch, locks), LOCKS_REMEMBERED)
        if tries > PASSWORD.maximum or slow_tries > SLOW_FAILURES:
            raise reached(request, PASSWORD, seconds)
    yield
    forget_failures(name)


def forget_failures(name):
    """Open the account by this lock_name again: its owner has been here."""
    # Longer than what was counted before can last.
    cache.set(_key(PASSWORD.name, name), (secrets.token_hex(8), 0), LOCKS_REMEMBERED)


def lock_name(account, typed=""):
    """Return the one name an account's failures are counted by, however it was named; what was typed if there is none.

    Folded, as the database may find an account under a name in other letters: an unknown name behaves alike.
    """
    text = typed if account is None else account.mobile or account.username
    letters = (char for char in unicodedata.normalize("NFKD", text) if not unicodedata.combining(char))
    return "".join(letters).casefold().strip()


def reached(request, limit, wait):
    audit(request, "limit", "refused", limit=limit.name)
    return LimitReached(limit, wait)


def count(key, seconds):
    """Add one to the counter `key` and return it. A counter lives `seconds` from its first use.

    Right for any number of processes: `add` and `incr` are atomic where the cache is shared. Raises what the cache's
    client raises, or ConnectionError, when the cache is out of reach.
    """
    for _attempt in range(3):
        if cache.add(key, 1, seconds):
            cache.set(_end_key(key), time.time() + seconds, seconds)
            return 1
        with suppress(ValueError):  # it expired between the two
            counted = cache.incr(key)
            if counted:
                if counted <= 1:  # given back before, or made anew by Django's Redis, without an end
                    cache.touch(key, seconds)
                    cache.set(_end_key(key), time.time() + seconds, seconds)
                return max(counted, 1)
    # A cache client set to swallow its errors says no to everything.
    raise ConnectionError("the cache does not count")


def give_back(key):
    with suppress(ValueError):  # it has expired
        if cache.decr(key) < 0:
            cache.delete(key)  # it did so this moment: Django's Redis made a new one, without an end


def address_key(request):
    """Return what a caller's address is counted by: a household has a whole /64 of IPv6 to change addresses in."""
    address = client_address(request)
    try:
        ip = ip_address(address)
    except ValueError:
        return address  # a server on a socket of the file system names none
    if isinstance(ip, IPv6Address):
        return str(ip.ipv4_mapped or ip_network((int(ip), 64), strict=False))
    return address


def _key(name, subject):
    # A digest, as the subject may be any text and a key may not.
    return f"limit:{name}:{sha256(subject.encode()).hexdigest()[:32]}"


def _end_key(key):
    return f"{key}:end"


def _lock_key(state_key, epoch, locks):
    return f"{state_key}:{epoch}:{locks}:lock"


def _lock_seconds(locks):
    return min(MINUTE * 2 ** (locks - 1), LONGEST_LOCK)

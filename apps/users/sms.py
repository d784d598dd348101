"""
SMS codes: one at a time for a mobile number, single use.

A shop sends them through its provider by naming a function in `SMS_BACKEND`, by dotted path. It gets `mobile` (11
digits), `code` (6 digits) and `minutes` (how long the code is good, for the text) and returns once the provider has
taken the message; it raises `SMSError` if the provider has not. It should give up within a few seconds, as a shopper
waits, and must not log the code.
"""

import secrets
import time

from django.conf import settings
from django.core.cache import cache
from django.utils.crypto import constant_time_compare
from django.utils.module_loading import import_string

LIFETIME = 300  # seconds: a message may take minutes to arrive
COOL_DOWN = 60  # seconds: what the pages count down, and what keeps a phone from being flooded
MAX_TRIES = 5  # wrong ones for a code: with a million codes, guessing stays hopeless


class SMSError(Exception):
    """The provider did not take the message."""


def send_code(mobile: str) -> bool:
    """
    Send a new code, which kills the one before; False, and nothing sent, if the last was less than COOL_DOWN ago.

    Raises SMSError if the back end could not hand the message over.
    """
    if not _start_cool_down(mobile):
        return False
    code = f"{secrets.randbelow(10**6):06}"
    cache.set(_tries_key(mobile), 0, LIFETIME)
    cache.set(_key(mobile), {"code": code, "time": time.time()}, LIFETIME)
    import_string(settings.SMS_BACKEND)(mobile, code, LIFETIME // 60)
    return True


def check_code(mobile: str, code: str) -> bool:
    """Tell whether this is the code last sent to the number. It stays usable until `use_up_code`."""
    sent = cache.get(_key(mobile))
    if sent is None or time.time() - sent["time"] >= LIFETIME:
        return False
    try:
        # Counted before it is compared, so that guesses made at the same moment are not free.
        tries = cache.incr(_tries_key(mobile))
        if tries > MAX_TRIES or not constant_time_compare(sent["code"], code):
            return False
        cache.decr(_tries_key(mobile))
    except ValueError:  # the counter ended this moment, and the code with it
        return False
    return True


def use_up_code(mobile: str) -> bool:
    """Take the code away. True for exactly one caller, however many had it checked."""
    return cache.delete(_key(mobile))


def _start_cool_down(mobile: str) -> bool:
    key = f"sms_cool_down:{mobile}"
    now = time.time()
    if cache.add(key, now, COOL_DOWN):
        return True
    started = cache.get(key)
    # The cache may count its time by another clock than ours.
    return started is not None and now - started >= COOL_DOWN and cache.delete(key) and cache.add(key, now, COOL_DOWN)


def _key(mobile: str) -> str:
    return f"sms_code:{mobile}"


def _tries_key(mobile: str) -> str:
    return f"sms_tries:{mobile}"

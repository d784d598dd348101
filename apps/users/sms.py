"""
SMS codes: one at a time for a mobile number, good for one use.

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

from .audit import audit
from .limits import DAY, HOUR, MINUTE, Limit, LimitReached, count, give_back, hit_all

LIFETIME = 300  # seconds: a message may take minutes to arrive
MAX_TRIES = 5  # wrong ones for a code: with a million codes, guessing stays hopeless
PROOF_LIFETIME = 600  # seconds: as long as the form of one login is good

ADDRESS_HOUR = Limit("sms_address_hour", 20, HOUR)
ADDRESS_DAY = Limit("sms_address_day", 100, DAY)
COOL_DOWN = Limit("sms_cool_down", 1, MINUTE)  # what the pages count down, and what keeps a phone from being flooded
MOBILE_HOUR = Limit("sms_mobile_hour", 5, HOUR)
MOBILE_DAY = Limit("sms_mobile_day", 10, DAY)


class SMSError(Exception):
    """The provider did not take the message."""


def send_code(request, mobile):
    """
    Send a new code, which kills the one before.

    Raises LimitReached, and nothing was sent, if there have been too many; SMSError if the back end could not hand the
    message over. The waits begin all the same then: a message may have gone out before the provider failed, and a
    provider in trouble is not helped by those who try again at once.
    """
    ceiling = Limit("sms_ceiling", settings.SMS_HOURLY_CEILING, HOUR)
    try:
        # The caller's own limits first: who has used up his own must not use up those of a number, whose owner may
        # be somebody else, nor those of everybody.
        hit_all(
            request,
            (ADDRESS_HOUR, None),
            (ADDRESS_DAY, None),
            (COOL_DOWN, mobile),
            (MOBILE_HOUR, mobile),
            (MOBILE_DAY, mobile),
            (ceiling, "everybody"),
        )
    except LimitReached as exc:
        if exc.limit is ceiling and cache.add("sms_ceiling_alarm", True, HOUR):  # one call in the night is enough
            audit(request, "sms_ceiling", "alarm", limit=ceiling.name)
        raise
    sent = {"id": secrets.token_hex(8), "code": f"{secrets.randbelow(10**6):06}", "time": time.time()}
    cache.set(_key(mobile), sent, LIFETIME)
    import_string(settings.SMS_BACKEND)(mobile, sent["code"], LIFETIME // 60)


def find_code(mobile, code, claimant):
    """Return the id of the code last sent to the number if this is it, and nobody but the claimant has claimed it.

    Else None. A code found is not used up: that is what `claim_code` does.
    """
    sent = cache.get(_key(mobile))
    if sent is None or time.time() - sent["time"] >= LIFETIME:
        return None
    # Counted before it is compared, so that guesses made at the same moment are not free. Counted for the one code: the
    # next has tries of its own, and those that are under way now do not take them.
    tries_key = f"sms_tries:{sent['id']}"
    if count(tries_key, LIFETIME) > MAX_TRIES or not constant_time_compare(sent["code"], code):
        return None
    give_back(tries_key)
    return sent["id"] if cache.get(_claim_key(sent["id"]), claimant) == claimant else None


def claim_code(code_id, claimant):
    """Use a code up. True for the first claimant, also if it claims again, and for nobody else."""
    # Set later than the code was, with as long a life: it cannot be gone before the code is.
    key = _claim_key(code_id)
    return cache.add(key, claimant, LIFETIME) or cache.get(key) == claimant


def remember_proof(mobile, attempt):
    """Note that whoever makes this attempt to log in holds this number."""
    cache.set(_proof_key(mobile, attempt), True, PROOF_LIFETIME)


def is_proved(mobile, attempt):
    """Tell whether this very number was proved within this very attempt, not long ago."""
    return cache.get(_proof_key(mobile, attempt)) is True


def _key(mobile):
    return f"sms_code:{mobile}"


def _claim_key(code_id):
    return f"sms_claim:{code_id}"


def _proof_key(mobile, attempt):
    return f"sms_proof:{attempt}:{mobile}"

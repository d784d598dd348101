"""SMS codes: one at a time for a mobile number, valid for one use.

A shop sends them through its provider: the setting `SMS_BACKEND` is the dotted path of a function that gets `mobile`
(11 digits), `code` (6 digits) and `minutes` (the code's lifetime, for the text). The function returns once the provider
has accepted the message and raises `SMSError` if the provider has not. It should give up within a few seconds, as a
user is waiting, and must not log the code.
"""

import secrets
import time
from contextlib import suppress

from django.conf import settings
from django.utils.crypto import constant_time_compare
from django.utils.module_loading import import_string
from django.utils.translation import gettext_lazy as _
from rest_framework.exceptions import APIException

from apps.oauth import cache
from apps.oauth.audit import record
from apps.oauth.errors import CacheUnavailable
from apps.oauth.ratelimit import RateLimit, RateLimited, hit_all

from .events import Event
from .limits import DAY, HOUR, MINUTE

LIFETIME = 300  # seconds: a message may take minutes to arrive
MAX_TRIES = 5  # wrong guesses at one code, of a million possible codes
PROOF_LIFETIME = 600  # seconds: the form of a QQ login is valid as long, and a mistyped password costs no new SMS

ADDRESS_HOUR = RateLimit("sms_address_hour", 20, HOUR)
ADDRESS_DAY = RateLimit("sms_address_day", 100, DAY)
COOL_DOWN = RateLimit("sms_cool_down", 1, MINUTE)  # the pages count it down; it keeps a phone from being flooded
MOBILE_HOUR = RateLimit("sms_mobile_hour", 5, HOUR)
MOBILE_DAY = RateLimit("sms_mobile_day", 10, DAY)


class SMSError(Exception):
    """Raised by a back end: the provider did not accept the message."""


class SMSUnavailable(APIException):
    """The back end failed to send a code."""

    status_code = 503
    default_detail = _("短信发送失败，请稍后再试。")
    error_code = "sms_unavailable"


def send_code(request, mobile):
    """Send a new code to the mobile number (str); the code before it becomes invalid.

    Raises RateLimited, if nothing may be sent now, SMSUnavailable and CacheUnavailable. A failed message counts like a
    sent one: the provider may have sent it before it failed, and immediate repeats would add to its trouble.
    """
    ceiling = RateLimit("sms_ceiling", settings.SMS_HOURLY_CEILING, HOUR)
    try:
        # The caller's own limits come first: a caller who has reached them must use up neither the limits of a number,
        # which may be another person's, nor the whole shop's.
        hit_all(
            request,
            (ADDRESS_HOUR, None),
            (ADDRESS_DAY, None),
            (COOL_DOWN, mobile),
            (MOBILE_HOUR, mobile),
            (MOBILE_DAY, mobile),
            (ceiling, "everybody"),
        )
    except RateLimited as exc:
        if exc.limit == ceiling.name and cache.add("sms_ceiling_alarm", True, HOUR):  # one alarm an hour is enough
            record(request, Event.SMS_CEILING, "alarm", limit=ceiling.name)
        raise
    sent = {"id": secrets.token_hex(8), "code": f"{secrets.randbelow(10**6):06}", "time": time.time()}
    cache.set(_key(mobile), sent, LIFETIME)
    try:
        import_string(settings.SMS_BACKEND)(mobile, sent["code"], LIFETIME // 60)
    except SMSError as exc:
        raise SMSUnavailable from exc


def find_code(mobile, code, claimant):
    """Return the id (str) of the code last sent to the number if it equals `code` and no other claimant has used it.

    Else return None. The code stays valid until `claim_code`. Raises CacheUnavailable.
    """
    sent = cache.get(_key(mobile))
    if sent is None or time.time() - sent["time"] >= LIFETIME:
        return None
    # Counted before the comparison, so that simultaneous guesses all count. The counter belongs to this code: the next
    # code has its own.
    tries_key = f"sms_tries:{sent['id']}"
    if cache.increment(tries_key, LIFETIME) > MAX_TRIES or not constant_time_compare(sent["code"], code):
        return None
    cache.decrement(tries_key)
    return sent["id"] if cache.get(_claim_key(sent["id"]), claimant) == claimant else None


def claim_code(code_id, claimant):
    """Use a code up. Return True for its first claimant, who may claim it again, and False for any other."""
    # The claim is stored later than the code and lives as long, so it never expires before the code does.
    key = _claim_key(code_id)
    return cache.add(key, claimant, LIFETIME) or cache.get(key) == claimant


def release_code(code_id, claimant):
    """Give back a code that this claimant has used up. If the cache fails, it stays used up."""
    with suppress(CacheUnavailable):
        key = _claim_key(code_id)
        if cache.get(key) == claimant:
            cache.pop(key)


def remember_proof(mobile, attempt):
    """Remember that the browser making this attempt to log in has proved this number."""
    cache.set(_proof_key(mobile, attempt), True, PROOF_LIFETIME)


def is_proved(mobile, attempt):
    """Return whether this number was proved within this attempt, at most PROOF_LIFETIME ago."""
    return cache.get(_proof_key(mobile, attempt)) is True


def _key(mobile):
    return f"sms_code:{mobile}"


def _claim_key(code_id):
    return f"sms_claim:{code_id}"


def _proof_key(mobile, attempt):
    return f"sms_proof:{attempt}:{mobile}"

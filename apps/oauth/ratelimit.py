"""Rate limits: how often something may be tried. Counted in the cache, atomically, before it is tried."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from django.db import Error
from django.http import HttpRequest
from rest_framework.exceptions import APIException, Throttled
from rest_framework.request import Request
from rest_framework.settings import api_settings

from . import cache
from .audit import Event, record
from .client_ip import get_client_ip, get_network
from .database import is_outage
from .errors import QQLoginError, get_message

# Calls per client address, unless REST_FRAMEWORK["DEFAULT_THROTTLE_RATES"] says otherwise. A school or an office
# behind one address may need more. The comments say which calls count; a call of another origin never does.
RATES = {
    "qq_start": "60/min",  # each navigation to login/
    "qq_callback": "30/min",  # each navigation to callback/
    "qq_login": "60/min",  # GET users/: refused codes and repeats (see single_flight.py); in direct mode each call.
    # app/ and mini/: refused calls; and, however many addresses they come from, all calls with one token or code
    "qq_bind": "30/min",  # each POST users/, and each POST and DELETE of bindings/
    "qq_bind_failed": "10/min",  # forms and confirmations that were wrong
    "qq_sms_failed": "30/hour",  # wrong SMS codes, where contrib.meiduo compares them
}

SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


class RateLimited(Throttled):
    """A limit is reached: `limit` is its name, `wait` is the number of seconds until its window ends."""

    def __init__(self, wait: float, limit: str) -> None:
        APIException.__init__(self, get_message("throttled"))  # DRF's own __init__ adds an English sentence
        self.wait = wait
        self.limit = limit


@dataclass(frozen=True)
class Hit:
    """A counted try."""

    key: str | None

    def refund(self) -> None:
        """Give the try back."""
        if self.key is not None:
            cache.decrement(self.key)


@dataclass(frozen=True)
class RateLimit:
    """At most `maximum` tries (None: any number) within `seconds` of the first one."""

    name: str
    maximum: int | None
    seconds: int

    def hit(self, request: HttpRequest | Request, subject: str | None = None) -> Hit:
        """Count a try for the subject, by default the client's network.

        Raises RateLimited if it is one too many, and CacheUnavailable.
        """
        if self.maximum is None:
            return Hit(None)
        digest = sha256((get_network(get_client_ip(request)) if subject is None else subject).encode()).hexdigest()
        key = f"qq-login:limit:{self.name}:{digest[:32]}"  # a digest, as a subject may be any text
        count = cache.increment(key, self.seconds)
        if count == 1:
            cache.set(f"{key}:ends", time.time() + self.seconds, self.seconds)
        if count > self.maximum:
            record(request, Event.LIMIT, "refused", limit=self.name)
            remaining = cache.get(f"{key}:ends", float("inf")) - time.time()
            raise RateLimited(min(remaining, self.seconds), self.name)
        return Hit(key)

    @contextmanager
    def count_failures(self, request: HttpRequest | Request, subject: str | None = None) -> Iterator[None]:
        """Count a try before the block runs. Refund it if the block succeeds, or fails because of an outage."""
        hit = self.hit(request, subject)
        try:
            yield
        except (Error, QQLoginError) as exc:
            if is_outage(exc) or (isinstance(exc, QQLoginError) and exc.status_code >= 500):
                hit.refund()
            raise
        hit.refund()


def get_rate_limit(scope: str) -> RateLimit:
    """Return the limit of a scope of RATES, at the rate the shop has configured.

    A rate of None means unlimited, as in DRF. Raises ValueError, KeyError or AttributeError for a malformed rate.
    """
    rates: Any = api_settings.DEFAULT_THROTTLE_RATES or {}
    rate = rates.get(scope, RATES[scope])
    if rate is None:
        return RateLimit(scope, None, 0)
    maximum, period = rate.split("/")
    return RateLimit(scope, int(maximum), SECONDS[period[:1]])


def hit_all(request: HttpRequest | Request, *limits: tuple[RateLimit, str | None]) -> None:
    """Hit several limits, each with its subject. If one refuses, refund those already counted."""
    hits = []
    try:
        for limit, subject in limits:
            hits.append(limit.hit(request, subject))
    except RateLimited:
        for hit in hits:
            hit.refund()
        raise

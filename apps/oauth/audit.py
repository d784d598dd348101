"""The audit log: one event per step, in the log `meiduo.audit` and in the signal `qq_audited`."""

import logging
import re
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from django.conf import settings
from django.http import HttpRequest
from django.utils.crypto import salted_hmac
from rest_framework.request import Request
from rest_framework.settings import api_settings

from .client_ip import get_client_ip
from .database import database_guard
from .errors import QQLoginError
from .exception_handler import API_ERRORS, get_code, get_fields, to_api_error
from .signals import qq_audited

logger = logging.getLogger("meiduo.audit")

LEVELS = {"ok": logging.INFO, "refused": logging.WARNING, "alarm": logging.ERROR}
NO_COOKIE_HINTS = {  # by event, where the reason is no_cookie
    "callback": "The browser blocks cookies, came back after more than ten minutes, or began the login elsewhere: in "
    "another browser, or at another host than that of QQ_REDIRECT_URI.",
    "login": "The page must send cookies (withCredentials) with both calls of users/, GET and POST.",
}
NO_COOKIE_HINTS["bind"] = NO_COOKIE_HINTS["login"]
NO_COOKIE_HINTS["link"] = "The page must send cookies (withCredentials) with its calls of users/ and of bindings/."
REQUEST_ID = re.compile(r"[A-Za-z0-9_-]{8,64}")
META_KEY = "qq_login.request_id"  # with a dot, so that no header and no environment variable has this name


class Event:
    """The names of the QQ login's events."""

    START = "start"  # a browser went to QQ
    CALLBACK = "callback"  # a browser came back from QQ
    QQ = "qq"  # QQ did not name a user
    LOGIN = "login"  # a bound user logged in, or a code was refused
    BIND_TOKEN = "bind_token"  # noqa: S105  # an unbound user got the form
    BIND = "bind"  # the form was sent
    LINK = "link"  # a signed-in user added a QQ
    UNBIND = "unbind"  # a binding was removed
    ERASE = "erase"  # everything stored of one person was removed
    LIMIT = "limit"  # a rate limit refused a call


class Step:
    """A step under way: its event, its start, and the fields that its lines in the audit log will have."""

    def __init__(self, request: HttpRequest | Request, event: str) -> None:
        self.request = request
        self.event = event
        self.fields: dict[str, Any] = {}
        self._started = time.perf_counter()

    def add(self, **fields: Any) -> None:
        self.fields |= fields

    def record(self, event: str, outcome: str = "ok", **fields: Any) -> None:
        """Record an event of this step, with the fields added so far and the milliseconds since its start."""
        fields = {**self.fields, **fields, "duration_ms": get_milliseconds(self._started)}
        record(self.request, event, outcome, **fields)


@contextmanager
def audited(request: HttpRequest | Request, event: str) -> Iterator[Step]:
    """Record the event once the block ends: "refused" with the reason if it raises an API error, else "ok"."""
    step = Step(request, event)
    try:
        with database_guard():
            yield step
    except API_ERRORS as exc:
        error = to_api_error(exc)
        assert error is not None
        reason = error.reason if isinstance(error, QQLoginError) else get_code(error)
        field = next(iter(get_fields(error)), None)
        if isinstance(error, QQLoginError) and error.flow_id is not None:
            step.add(flow=error.flow_id)
        number = getattr(error, "number", None)
        hint = NO_COOKIE_HINTS.get(event) if reason == "no_cookie" else None
        step.record(event, "refused", reason=reason, number=number, hint=hint, field=field)
        raise
    step.record(step.event)  # the block may have changed the event, to bind_token


def record(request: HttpRequest | Request | None, event: str, outcome: str = "ok", **fields: Any) -> None:
    """Record an event. The outcome is "ok", "refused", or "alarm" if an operator must look at it.

    The fields become attributes of the log record, for a formatter that writes JSON, and the signal's `fields`; a field
    that is None is left out. They must hold no secret, no whole openid and no whole mobile number. A command has no
    request.
    """
    fields = {
        **({} if request is None else {"request_id": get_request_id(request.META), "address": get_client_ip(request)}),
        "outcome": outcome,
        **{name: value for name, value in fields.items() if value is not None},
    }
    logger.log(LEVELS[outcome], event, extra=fields)
    # Robust: Django logs a receiver that fails, and the login goes on.
    qq_audited.send_robust(sender=None, request=request, event=event, fields=fields)


def get_request_id(meta: dict[str, Any]) -> str:
    """Return the id that all records of one request share: the proxy's X-Request-ID, or a random one.

    `meta`: the request's META, which is its WSGI environ.
    """
    request_id: str | None = meta.get(META_KEY)
    if request_id is None:
        given = meta.get("HTTP_X_REQUEST_ID", "") if api_settings.NUM_PROXIES else ""
        request_id = meta[META_KEY] = given if REQUEST_ID.fullmatch(given) else secrets.token_hex(16)
    return request_id


def get_milliseconds(started: float) -> float:
    """Return the milliseconds since a reading of time.perf_counter()."""
    return round((time.perf_counter() - started) * 1000, 1)


def hash_openid(openid: str | None) -> str:
    """Return 12 hex digits that identify a user in the log. Only SECRET_KEY connects them to an openid.

    An old table may hold NULL.
    """
    return make_hash(settings.SECRET_KEY)(openid)


@cache
def make_hash(key: str) -> Callable[[str | None], str]:
    """Return hash_openid() for one key. The key is derived once, which makes it 4 times as fast."""
    keyed = salted_hmac("qq-login.audit", "", secret=key, algorithm="sha256")

    def hash_with_key(openid: str | None) -> str:
        digest = keyed.copy()
        digest.update((openid or "").encode())
        return digest.hexdigest()[:12]

    return hash_with_key

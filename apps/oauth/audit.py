"""What is recorded of a login: an event a step, in the log `meiduo.audit` and for whoever listens to `qq_audited`."""

import logging
import re
import secrets
from typing import Any

from django.http import HttpRequest
from django.utils.crypto import salted_hmac
from rest_framework.request import Request
from rest_framework.settings import api_settings

from .addresses import client_address
from .signals import qq_audited

audit = logging.getLogger("meiduo.audit")

LEVELS = {"ok": logging.INFO, "refused": logging.WARNING, "alarm": logging.ERROR}
REQUEST_ID = re.compile(r"[A-Za-z0-9_-]{8,64}")


def record(request: HttpRequest | Request, event: str, outcome: str = "ok", **fields: Any) -> None:
    """Record that `event` has ended in `outcome`: "ok", "refused", or "alarm" for what an operator must look at.

    The fields are attributes of the log record, for a formatter that makes a JSON line of them, and the signal's
    `fields`. No secret may be among them, nor a whole openid or mobile number.
    """
    fields = {
        "request_id": request_id(request),
        "address": client_address(request),
        "outcome": outcome,
        **{name: value for name, value in fields.items() if value is not None},
    }
    audit.log(LEVELS[outcome], event, extra=fields)
    # A listener of the shop's that fails is logged by Django, and costs nobody his login.
    qq_audited.send_robust(sender=None, request=request, event=event, fields=fields)


def request_id(request: HttpRequest | Request) -> str:
    """Return the id a proxy of ours has given the request in X-Request-ID, or one made here that stays with it."""
    found: str | None = request.META.get("REQUEST_ID")
    if found is None:
        told = request.META.get("HTTP_X_REQUEST_ID", "") if api_settings.NUM_PROXIES else ""
        found = request.META["REQUEST_ID"] = told if REQUEST_ID.fullmatch(told) else secrets.token_hex(16)
    return found


def hash_openid(openid: str) -> str:
    """Return 12 hex digits that tell one person's events from another's and lead to nobody without SECRET_KEY."""
    return salted_hmac("qq-login.audit", openid, algorithm="sha256").hexdigest()[:12]


def mask_mobiles(text: str) -> str:
    """Hide the middle of every mobile number in `text`: many a shop's usernames are mobiles."""
    return re.sub(r"(?<!\d)(\d{3})\d{4}(\d{4})(?!\d)", r"\1****\2", text)


def mask_mobile(value: Any) -> str | None:
    """Return the masked number, if that is what the value is; what somebody typed in its place is nobody's business."""
    return mask_mobiles(value) if isinstance(value, str) and re.fullmatch("[0-9]{11}", value) else None

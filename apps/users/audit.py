"""Records for whoever investigates: who did what, from where, how it ended. Never a secret, never a whole number."""

import logging
import re
from ipaddress import ip_address
from uuid import uuid4

from django.dispatch import Signal
from rest_framework.settings import api_settings

logger = logging.getLogger("meiduo.audit")
LEVELS = {"ok": logging.INFO, "refused": logging.WARNING, "alarm": logging.ERROR}

# Sent for each record with `request`, `event` (its name) and `fields`: a shop may keep them, or warn the shopper.
audited = Signal()


def audit(request, event, outcome, **fields):
    """Log an event. Fields that are not known are left out."""
    fields = {"request_id": request_id(request), "address": client_address(request), "outcome": outcome} | {
        name: value for name, value in fields.items() if value not in (None, "")
    }
    logger.log(LEVELS[outcome], event, extra=fields)
    # Robust: a listener that fails is logged and does not keep a shopper out.
    audited.send_robust(sender=audit, request=request, event=event, fields=fields)


def request_id(request):
    """Return the name all records of one request carry: given by a proxy of ours, or made here and left there."""
    if "REQUEST_ID" not in request.META:
        told = request.META.get("HTTP_X_REQUEST_ID", "") if api_settings.NUM_PROXIES else ""
        request.META["REQUEST_ID"] = told if re.fullmatch("[A-Za-z0-9_-]{8,64}", told) else uuid4().hex
    return request.META["REQUEST_ID"]


def client_address(request):
    """Return the address of whoever calls, behind as many proxies as REST_FRAMEWORK's NUM_PROXIES says.

    Each proxy adds the address it was called from on the right; what stands further left is the caller's own word.
    """
    proxies = api_settings.NUM_PROXIES or 0
    hops = request.META.get("HTTP_X_FORWARDED_FOR", "").split(",")
    if 0 < proxies <= len(hops):
        try:
            return str(ip_address(hops[-proxies].strip()))
        except ValueError:
            pass  # no address: a proxy that does not do what NUM_PROXIES says of it
    return request.META.get("REMOTE_ADDR", "")

"""Remove secrets and personal data from logs, reports and pages."""

import re
from typing import Any

from django.http import HttpRequest, QueryDict
from django.http.response import HttpResponseBase

SHORT_OPENID = 6  # characters
MAX_REASON = 200  # characters


def redact_request(request: HttpRequest) -> None:
    """Redact the request so that no error report contains secrets: query, cookies, Authorization and Referer."""
    request.GET = QueryDict()
    request.COOKIES = {}
    for name in ("HTTP_COOKIE", "HTTP_AUTHORIZATION", "HTTP_REFERER"):
        request.META.pop(name, None)
    request.META["QUERY_STRING"] = ""
    for name in request.META.keys() & {"RAW_URI", "REQUEST_URI"}:  # a server may read these for its access log
        request.META[name] = request.META[name].partition("?")[0]


def suppress_error_log(response: HttpResponseBase) -> HttpResponseBase:
    """Keep Django from logging an expected 503 as an error, possibly by mail: a busy hour has thousands."""
    response._has_been_logged = True  # type: ignore[attr-defined]  # Django's own flag; there is no public one
    return response


def mask_mobiles(text: str) -> str:
    """Hide the middle of every mobile number in the text, however it is grouped. In many shops usernames are such."""
    return re.sub(r"(?<!\d)((?:(?:00)?86[ -]?)?\d{3})[ -]?\d{4}[ -]?(\d{4})(?!\d)", r"\1****\2", text)


def mask_mobile(value: Any) -> str | None:
    """Return the masked number if the value is one; anything else may be a secret: return None."""
    return mask_mobiles(value) if isinstance(value, str) and re.fullmatch("[0-9]{11}", value) else None


def shorten_openid(openid: str | None) -> str:
    """Return enough of an openid to tell two apart and too little to use. An old table may hold NULL."""
    return f"{(openid or '')[:SHORT_OPENID]}…"


def clean_reason(text: str) -> str:
    """Return what a person typed, as one short line without whole mobile numbers and openids, for the audit log."""
    line = mask_mobiles(" ".join(text.split()))
    return re.sub("[0-9A-Fa-f]{32}", lambda openid: shorten_openid(openid[0]), line)[:MAX_REASON]

"""The flow cookies of a browser: one per login under way."""

import re
import time

from django.http import HttpRequest
from django.http.response import HttpResponseBase
from itsdangerous import BadData
from rest_framework.request import Request

from ..conf import conf
from .signing import verify

MAX_FLOWS = 10  # per browser: a user rarely logs in from more tabs
MAX_COOKIE_BYTES = 3072  # of all flow cookies together: most servers accept 8 KiB of headers


def get_cookie_name(flow_id: str) -> str:
    # A browser accepts a __Host- cookie over https only, and from the host itself: a sibling host cannot plant one.
    return f"__Host-qq_flow_{flow_id}" if conf.is_secure else f"qq_flow_{flow_id}"


def get_flow_cookies(request: HttpRequest | Request) -> dict[str, str]:
    """Return the flow cookies that the browser sent, by name.

    They are read from the header itself. Django strips Unicode blanks from a cookie's name, so a sibling host could
    plant a name that only looks like `__Host-…`.
    """
    names = re.compile(get_cookie_name("[0-9a-f]{12}"))
    cookies = (cookie.strip(" \t").partition("=") for cookie in request.META.get("HTTP_COOKIE", "").split(";"))
    return {name: value for name, _, value in cookies if names.fullmatch(name)}


def set_flow_cookie(response: HttpResponseBase, flow_id: str, value: str, max_age: int) -> None:
    response.set_cookie(
        get_cookie_name(flow_id),
        value,
        max_age=max_age,
        path="/",
        secure=conf.is_secure,
        httponly=True,
        samesite="Lax",
    )


def drop_oldest_flows(request: HttpRequest | Request, response: HttpResponseBase, flow_id: str, value: str) -> None:
    """Delete the browser's oldest flow cookies so that a new one fits beside the rest."""
    dated, malformed = [], []
    for name, cookie in get_flow_cookies(request).items():
        try:
            payload, age = verify("flow", cookie)
        except BadData:
            malformed.append(name)
        else:  # a cookie from before `at` was added has only whole seconds
            dated.append((payload.get("at", (time.time() - age) * 1000), name, cookie))
    for name in malformed[:MAX_FLOWS]:  # no more: the response's headers are limited too
        _delete(response, name)
    room = MAX_COOKIE_BYTES - len(get_cookie_name(flow_id)) - len(value)
    for count, (_at, name, cookie) in enumerate(sorted(dated, reverse=True), start=2):  # the new flow is the first
        room -= len(name) + len(cookie)
        if count > MAX_FLOWS or room < 0:
            _delete(response, name)


def _delete(response: HttpResponseBase, name: str) -> None:
    response.delete_cookie(name, path="/", samesite="Lax")

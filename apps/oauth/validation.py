"""Validation of input: `next`, query parameters, the bind token, the origin of a call."""

import re
import unicodedata
from typing import Any
from urllib.parse import SplitResult, quote, unquote, urlsplit, urlunsplit

from django.http import QueryDict
from django.utils.http import url_has_allowed_host_and_scheme
from django.utils.translation import gettext_noop as _
from rest_framework.exceptions import ParseError, PermissionDenied
from rest_framework.request import Request

from .conf import conf
from .errors import QQLoginError
from .flow.purpose import Purpose
from .language import translate
from .qq.answers import ERROR_NUMBER

MAX_NEXT = 512  # bytes, percent-encoded: ten flow cookies, each with one, must fit into a request's headers
NEXT_SAFE = "/?:@=,;"  # left raw in the page's `state`: old pages undo only decodeURI()

STATE = re.compile(r"[A-Za-z0-9_-]{43}")  # secrets.token_urlsafe(32)
CODE = re.compile(r"[A-Za-z0-9._~-]{1,512}")  # QQ's: 32 hex digits so far; ours: base64url parts joined by dots
BIND_TOKEN = re.compile(r"[A-Za-z0-9._-]{1,1024}")
APP_KEY = re.compile(r"[A-Za-z0-9_-]{43,128}")  # 32 random bytes in base64url are 43 characters


def quote_next(path: str) -> str:
    return quote(path, safe=NEXT_SAFE)


def read_next(query: QueryDict, *names: str) -> str:
    """Return the path of the first parameter that is given; "/" if none is, or one is given twice."""
    for name in names:
        if any(values := query.getlist(name)):
            return clean_next(values[0], conf.CALLBACK_PAGE) if len(values) == 1 else "/"
    return "/"


def read_purpose(query: QueryDict) -> str:
    """Return what the login is for: "bind" adds a QQ to the account of a signed-in user. Anything else is a login."""
    return Purpose.LINK if query.getlist("purpose") == [Purpose.LINK] else Purpose.LOGIN


def clean_next(value: str, page: str) -> str:
    """Return the value if it is a path of the shop, or the path of a URL of the page's origin; else "/".

    Pages decode what they get once, twice or not at all, so it must be a path each way.
    """
    if len(value) > 4 * MAX_NEXT:  # before any work is done on it
        return "/"
    try:
        url = urlsplit(value)
        if url.scheme:
            if get_origin(url) != get_origin(urlsplit(page)):
                return "/"
            value = urlunsplit(("", "", url.path or "/", url.query, url.fragment))
        if len(quote_next(value)) > MAX_NEXT:
            return "/"
    except ValueError:  # a malformed IPv6 host or port, half a surrogate pair
        return "/"
    once = unquote(value)
    return value if all(_is_path(text) for text in (value, once, unquote(once))) else "/"


def get_origin(url: SplitResult) -> tuple[str, str | None, int | None]:
    """Return scheme, host and port, with the default port filled in. Raises ValueError for a malformed port."""
    return url.scheme, url.hostname, url.port or {"http": 80, "https": 443}.get(url.scheme)


def refuse_other_origins(request: Request) -> None:
    """Raise PermissionDenied for a cross-origin call: by a page that is neither the shop's nor the API's own.

    Call it before the call is counted: otherwise any page could use up the limits of its visitor's address.
    """
    origin = request.META.get("HTTP_ORIGIN")  # absent: no browser, or a page of the API's own origin
    # no-cors: a picture, a script or a form's target. No page of the shop calls in this way.
    is_no_cors = request.META.get("HTTP_SEC_FETCH_MODE") == "no-cors"
    if is_no_cors or (origin is not None and not _is_own_origin(origin)):
        raise PermissionDenied(translate(_("请从本店的页面登录。")))


def read_parameter(query: QueryDict, name: str, pattern: re.Pattern[str]) -> str:
    """Return the one value of a query parameter. Raises QQLoginError: `<name>_missing` or `<name>_invalid`."""
    values = query.getlist(name)
    if values in ([], [""], ["null"], ["undefined"]):  # pages turn a missing value into these words
        raise QQLoginError(f"{name}_missing")
    if len(values) > 1 or not pattern.fullmatch(values[0]):
        raise QQLoginError(f"{name}_invalid")
    return values[0]


def read_qq_code(query: QueryDict) -> str:
    """Return QQ's code from the query that QQ sent the browser back with.

    Raises QQLoginError: user_cancelled or qq_rejected if QQ says so in its place, code_missing, code_invalid.
    """
    if query.get("usercancel", "0") != "0" or query.get("error") == "access_denied":
        raise QQLoginError("user_cancelled")
    if "error" in query or "msg" in query:  # the older form has the number in `code`, and its text in `msg`
        number = query.get("error") or query.get("code", "")
        raise QQLoginError("qq_rejected", number=int(number) if ERROR_NUMBER.fullmatch(number) else None)
    return read_parameter(query, "code", CODE)


def read_bind_token(form: Any) -> str:
    """Return the bind token of a form, `access_token` on the wire. Raises ParseError and QQLoginError."""
    if not isinstance(form, dict):
        raise ParseError(translate(_("请求内容应当是一个 JSON 对象。")))
    token = form.get("access_token")
    if token in (None, ""):
        raise QQLoginError("bind_token_missing")
    if not isinstance(token, str) or not BIND_TOKEN.fullmatch(token):
        raise QQLoginError("bind_token_invalid")
    return token


def _is_own_origin(origin: str) -> bool:
    try:
        own = {get_origin(urlsplit(url)) for url in (conf.CALLBACK_PAGE, conf.REDIRECT_URI) if url}
        return get_origin(urlsplit(origin)) in own
    except ValueError:
        return False


def _is_path(text: str) -> bool:
    return (
        text.startswith("/")
        and not text.startswith("//")
        and "\\" not in text
        and "%u" not in text.lower()  # some old pages undo unescape()'s %u002f
        and not any(unicodedata.category(char) in ("Cc", "Zl", "Zp") for char in text)
        and url_has_allowed_host_and_scheme(text, allowed_hosts=None)
    )

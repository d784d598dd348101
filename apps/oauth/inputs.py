"""What the endpoints accept: the `next` path, a parameter, a JSON body, a bind token."""

import re
import unicodedata
from collections.abc import Mapping
from typing import IO, Any
from urllib.parse import SplitResult, quote, unquote, urlsplit, urlunsplit

from django.http import QueryDict
from django.utils.http import url_has_allowed_host_and_scheme
from django.utils.translation import gettext_noop as _
from rest_framework.exceptions import ParseError, PermissionDenied
from rest_framework.parsers import JSONParser
from rest_framework.request import Request

from .conf import conf
from .errors import BodyTooLarge, QQLoginError, translate
from .qq.answers import read_json

MAX_NEXT = 512  # bytes, percent-encoded: ten cookies that each hold one must fit in a request's header
MAX_BODY = 16 * 1024  # bytes; the form has four short fields
NEXT_SAFE = "/?:@=,;"  # left raw in the page's `state`: old pages undo only decodeURI

STATE = re.compile(r"[A-Za-z0-9_-]{43}")  # secrets.token_urlsafe(32)
CODE = re.compile(r"[A-Za-z0-9._~-]{1,512}")  # QQ's: 32 hex digits so far; ours: base64url parts joined by dots
BIND_TOKEN = re.compile(r"[A-Za-z0-9._-]{1,1024}")


def quote_next(path: str) -> str:
    return quote(path, safe=NEXT_SAFE)


def clean_next(value: str, page: str) -> str:
    """Return `value` if it is a path of the shop, or the path of an address of `page`'s origin; else "/".

    Pages decode what they are given once, twice or not at all, so it must be a path each way.
    """
    if len(value) > 4 * MAX_NEXT:
        return "/"
    try:
        address = urlsplit(value)
        if address.scheme:
            if origin_of(address) != origin_of(urlsplit(page)):
                return "/"
            value = urlunsplit(("", "", address.path or "/", address.query, address.fragment))
        if len(quote_next(value)) > MAX_NEXT:
            return "/"
    except ValueError:  # an IPv6 host or a port that is none, half a surrogate pair
        return "/"
    once = unquote(value)
    return value if all(_is_path(text) for text in (value, once, unquote(once))) else "/"


def read_next(query: QueryDict, *names: str) -> str:
    """Return the path of the first of the parameters that is given; "/" if none is, or one is given twice."""
    for name in names:
        if any(values := query.getlist(name)):
            return clean_next(values[0], conf.CALLBACK_PAGE) if len(values) == 1 else "/"
    return "/"


def origin_of(address: SplitResult) -> tuple[str, str | None, int | None]:
    """Return scheme, host and port, however they are written. Raises ValueError for a port that is none."""
    return address.scheme, address.hostname, address.port or {"http": 80, "https": 443}.get(address.scheme)


def _is_path(text: str) -> bool:
    return (
        text.startswith("/")
        and not text.startswith("//")
        and "\\" not in text
        and "%u" not in text.lower()  # some old pages undo unescape()'s %u002f
        and not any(unicodedata.category(char) in ("Cc", "Zl", "Zp") for char in text)
        and url_has_allowed_host_and_scheme(text, allowed_hosts=None)
    )


def refuse_other_pages(request: Request) -> None:
    """Raise PermissionDenied for a call that a browser makes for a page of any other origin than the shop's.

    Before it is counted: else any page could use up what its visitor's address may do.
    """
    origin = request.META.get("HTTP_ORIGIN")  # missing: no browser, or a page of the API's own origin
    try:
        ours = (origin_of(urlsplit(address)) for address in (conf.CALLBACK_PAGE, conf.REDIRECT_URI))
        is_ours = origin is None or origin_of(urlsplit(origin)) in ours
    except ValueError:
        is_ours = False
    # A picture, a script or a form's target: no page of the shop calls in this way.
    if not is_ours or request.META.get("HTTP_SEC_FETCH_MODE") == "no-cors":
        raise PermissionDenied(translate(_("请从本店的页面登录。")))


def read_parameter(query: QueryDict, name: str, shape: re.Pattern[str]) -> str:
    """Return the one value of a query parameter. Raises `<name>_missing` or `<name>_invalid`."""
    values = query.getlist(name)
    if values in ([], [""], ["null"], ["undefined"]):  # the words are what a page makes of none
        raise QQLoginError(f"{name}_missing")
    if len(values) > 1 or not shape.fullmatch(values[0]):
        raise QQLoginError(f"{name}_invalid")
    return values[0]


def read_bind_token(body: Any) -> str:
    """Return the bind token of a POST, `access_token` on the wire."""
    if not isinstance(body, dict):
        raise ParseError(translate(_("请求内容应当是一个 JSON 对象。")))
    token = body.get("access_token")
    if token in (None, ""):
        raise QQLoginError("bind_token_missing")
    if not isinstance(token, str) or not BIND_TOKEN.fullmatch(token):
        raise QQLoginError("bind_token_invalid")
    return token


class BoundedJSONParser(JSONParser):
    """JSON that is short, UTF-8, names nothing twice and is not nested past what Python can follow."""

    def parse(
        self, stream: IO[Any], media_type: str | None = None, parser_context: Mapping[str, Any] | None = None
    ) -> Any:
        body = stream.read(MAX_BODY + 1)
        if len(body) > MAX_BODY:
            raise BodyTooLarge
        try:
            return read_json(body.decode())
        except (ValueError, RecursionError):
            raise ParseError(translate(_("请求内容不是有效的 JSON。"))) from None

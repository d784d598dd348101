"""Every error the API answers: its code, its status, its sentence, and the JSON or language it goes out in."""

import logging
import math
from contextlib import suppress
from socket import gaierror
from typing import Any

from django.core.exceptions import PermissionDenied as DjangoPermissionDenied
from django.core.exceptions import RequestDataTooBig, TooManyFieldsSent
from django.http import Http404, HttpRequest, QueryDict, UnreadablePostError
from django.http.response import HttpResponseBase
from django.utils.module_loading import import_string
from django.utils.translation import get_language, gettext
from django.utils.translation import gettext_noop as _
from django.utils.translation.trans_real import parse_accept_lang_header
from rest_framework.exceptions import APIException, NotFound, ParseError, PermissionDenied, Throttled, ValidationError
from rest_framework.response import Response

logger = logging.getLogger(__name__)

CHINESE, ENGLISH = "zh-hans", "en"

# code: (status, sentence). The sentence says what happened and what the shopper does next.
ERRORS = {
    "code_missing": (400, _("没有收到 QQ 的登录凭证，请在这个浏览器里再点一次 QQ 登录。")),
    "code_invalid": (400, _("登录链接已失效，请在这个浏览器里再点一次 QQ 登录。")),
    "state_missing": (400, _("登录链接不完整，请在这个浏览器里再点一次 QQ 登录。")),
    "state_invalid": (400, _("这次登录不是从这个浏览器发起的，或已超时，请在这个浏览器里再点一次 QQ 登录。")),
    "state_used": (400, _("登录链接已经用过，请在这个浏览器里再点一次 QQ 登录。")),
    "user_cancelled": (400, _("您取消了 QQ 登录。可以再点一次 QQ 登录，或用其他方式登录。")),
    "qq_rejected": (400, _("QQ 没有通过这次登录，请再点一次 QQ 登录。")),
    "qq_busy": (503, _("正在登录的人太多，请稍等片刻再试。")),
    "qq_unavailable": (503, _("QQ 暂时没有响应，请稍后再点一次 QQ 登录。")),
    "qq_misconfigured": (503, _("本店的 QQ 登录暂时不可用，请先用其他方式登录。")),
    "cache_unavailable": (503, _("登录服务暂时不可用，请稍后再试。")),
    "account_refused": (403, _("这个账号不能使用 QQ 登录，请联系客服。")),
    "bind_token_missing": (400, _("缺少绑定凭证，请再点一次 QQ 登录。")),
    "bind_token_invalid": (400, _("绑定凭证已失效，请在这个浏览器里再点一次 QQ 登录。")),
    "bind_tries": (400, _("尝试次数过多，请再点一次 QQ 登录重新开始。")),
    "already_bound": (400, _("这个 QQ 已经绑定了账号，请再点一次 QQ 登录直接进入。")),
    "invalid": (400, _("请求内容有误，请检查后重试。")),
    "throttled": (429, _("操作太频繁，请稍后再试。")),
}


def _cache_errors() -> tuple[type[Exception], ...]:
    """What the cache clients raise when their server is out of reach: Django gives these no common base."""
    found: list[type[Exception]] = [ConnectionError, TimeoutError, gaierror]
    for path in (
        "redis.exceptions.RedisError",
        "django_redis.exceptions.ConnectionInterrupted",
        "pymemcache.exceptions.MemcacheError",
        "pylibmc.Error",
    ):
        with suppress(ImportError):
            found.append(import_string(path))
    return tuple(found)


CACHE_ERRORS = _cache_errors()


class QQLoginError(APIException):
    """One of ERRORS, by its code; `status` where the table's does not fit the call."""

    def __init__(self, code: str, *, status: int | None = None, wait: float | None = None) -> None:
        """`wait`: seconds until the same call is worth another try, where it is."""
        super().__init__(code=code)
        self.code = code
        self.wait = wait
        self.status_code = status or ERRORS[code][0]


class BodyTooLarge(APIException):
    status_code = 413

    def __init__(self) -> None:
        super().__init__(translate(_("请求内容太大。")))


def as_api_error(exc: Exception) -> APIException | None:
    """Return the API error that `exc` is or stands for; None for a bug of ours, which must stay visible."""
    if isinstance(exc, CACHE_ERRORS):
        return QQLoginError("cache_unavailable")
    if isinstance(exc, Http404):  # of the shop's own code, as is the next
        return NotFound()
    if isinstance(exc, DjangoPermissionDenied):
        return PermissionDenied()
    if isinstance(exc, (TooManyFieldsSent, UnreadablePostError)):  # the second: whoever sent it has hung up
        return ParseError(sentence("invalid"))
    if isinstance(exc, RequestDataTooBig):  # Django's own limit was the lower one
        return BodyTooLarge()
    return exc if isinstance(exc, APIException) else None


def log_cache_error(exc: Exception) -> None:
    """Log which of CACHE_ERRORS it was; at DEBUG where, as something else of the shop's may raise the like."""
    logger.error("The cache is out of reach: %s.%s", type(exc).__module__, type(exc).__qualname__)
    logger.debug("It was asked here:", exc_info=exc)


def answer_error(exc: Exception, context: dict[str, Any]) -> Response | None:
    """Turn an exception into `{"message", "code", field…}`: the exception handler of the JSON views."""
    error = as_api_error(exc)
    if error is None:
        return None
    body: dict[str, Any] = {}
    code = code_of(error)
    if isinstance(error, (QQLoginError, Throttled)):
        message = sentence(code)
    else:
        # The shop's own: its account serializer's, or DRF's.
        if isinstance(error, ValidationError) and isinstance(error.detail, dict):
            body = error.detail
        message = _first(error.detail) or sentence(code)
    return Response({**body, "message": message, "code": code}, status=error.status_code, headers=retry_after(error))


def scrub(request: HttpRequest) -> None:
    """Take out of a request that ends in a 5xx what no report of it may show, whoever makes that report."""
    request.GET = QueryDict()
    request.COOKIES = {}
    for name in ("HTTP_COOKIE", "HTTP_AUTHORIZATION", "HTTP_REFERER"):
        request.META.pop(name, None)
    request.META["QUERY_STRING"] = ""
    for name in request.META.keys() & {"RAW_URI", "REQUEST_URI"}:  # kept, as the server may ask for them in its log
        request.META[name] = request.META[name].partition("?")[0]


def hush(response: HttpResponseBase) -> HttpResponseBase:
    """Keep Django from reporting a 503 that is in order as an error, maybe by mail: there are thousands at times."""
    response._has_been_logged = True  # type: ignore[attr-defined]  # Django's own; it offers no other way
    return response


def code_of(error: APIException) -> str:
    """Return the code of ERRORS that tells a page what to do."""
    if isinstance(error, QQLoginError):
        return error.code
    return error.default_code if error.default_code in ERRORS else "invalid"


def retry_after(error: APIException) -> dict[str, str]:
    """Return the header that says in how many seconds the same call is worth another try, where there is one."""
    wait: float | None = getattr(error, "wait", None)  # DRF's Throttled has one too
    return {} if wait is None else {"Retry-After": str(max(1, math.ceil(wait)))}


def sentence(code: str) -> str:
    """Return the sentence of ERRORS for the shopper, in the language in force."""
    return translate(ERRORS[code][1])


def translate(text: str) -> str:
    # The source text is Chinese. Looked up as Chinese, a shop whose LANGUAGE_CODE is English would answer in English.
    return gettext(text) if get_language() == ENGLISH else text


def language_of(accept_language: str) -> str:
    """Return the first of Chinese and English in an Accept-Language header, else Chinese."""
    for tag, quality in parse_accept_lang_header(accept_language.lower()):
        for language in (CHINESE, ENGLISH):
            if quality and tag.partition("-")[0] == language.partition("-")[0]:
                return language
    return CHINESE


def _first(detail: Any) -> str:
    """Return the first sentence of a DRF error's nested detail."""
    while isinstance(detail, (dict, list)) and detail:
        detail = next(iter(detail.values())) if isinstance(detail, dict) else detail[0]
    return str(detail) if isinstance(detail, str) else ""

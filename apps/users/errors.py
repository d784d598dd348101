"""Every error is JSON with `message`, one sentence a shopper can read."""

import logging
from contextlib import suppress
from socket import gaierror

from django.core.exceptions import RequestDataTooBig, TooManyFieldsSent
from django.http import JsonResponse, UnreadablePostError
from django.utils.module_loading import import_string
from django.utils.translation import gettext_lazy as _
from rest_framework.exceptions import APIException, ParseError, ValidationError
from rest_framework.views import exception_handler as drf_exception_handler

logger = logging.getLogger(__name__)


def _cache_errors():
    """What the cache clients raise when their server is out of reach: Django gives these no common base."""
    found = [ConnectionError, TimeoutError, gaierror]
    for path in ("redis.exceptions.RedisError", "pymemcache.exceptions.MemcacheError", "pylibmc.Error"):
        with suppress(ImportError):
            found.append(import_string(path))
    return tuple(found)


CACHE_ERRORS = _cache_errors()


class ServiceUnavailable(APIException):
    status_code = 503
    default_detail = _("服务暂时不可用，请稍后再试。")
    default_code = "unavailable"


class TooLarge(APIException):
    status_code = 413
    default_detail = _("请求内容过大。")
    default_code = "too_large"


def exception_handler(exc, context):
    """
    Return the answer to an error: DRF's status and headers, `message`, and for a wrong field DRF's key beside it.

    A cache that does not answer is 503, a body over DATA_UPLOAD_MAX_MEMORY_SIZE 413. Returns None, as DRF's handler
    does, for what is a bug of ours.
    """
    if isinstance(exc, CACHE_ERRORS):
        logger.error("The cache is out of reach: %s.%s", type(exc).__module__, type(exc).__qualname__)
        exc = ServiceUnavailable()
    elif isinstance(exc, RequestDataTooBig):
        exc = TooLarge()
    elif isinstance(exc, (TooManyFieldsSent, UnreadablePostError)):  # the second: whoever sent it has hung up
        exc = ParseError()
    response = drf_exception_handler(exc, context)
    if response is None:
        return None
    fields = {}
    if isinstance(exc, ValidationError):
        fields = response.data if isinstance(response.data, dict) else {"non_field_errors": response.data}
    response.data = {"message": first_sentence(response.data)} | fields
    return response


def first_sentence(detail):
    """Return the first text in DRF's nested error details."""
    while isinstance(detail, (dict, list)):
        detail = next(iter(detail.values() if isinstance(detail, dict) else detail))
    return detail


def bad_request(request, exception):
    return answer(400, _("请求不正确。"), "invalid")


def not_found(request, exception):
    return answer(404, _("没有找到。"), "not_found")


def server_error(request):
    return answer(500, _("服务器出错了，请稍后再试。"), "server_error")


def answer(status, message, code):
    body = {"message": str(message), "code": code}
    return JsonResponse(body, status=status, json_dumps_params={"ensure_ascii": False})

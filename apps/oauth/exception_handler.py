"""Turn exceptions into the shop's one error body: `{"message": …, "code": …, field…}`."""

from typing import Any

from django.core.exceptions import PermissionDenied as DjangoPermissionDenied
from django.core.exceptions import RequestDataTooBig, TooManyFieldsSent
from django.http import Http404, JsonResponse, UnreadablePostError
from rest_framework.exceptions import APIException, NotFound, ParseError, PermissionDenied, ValidationError
from rest_framework.response import Response
from rest_framework.settings import api_settings
from rest_framework.views import set_rollback

from .database import is_outage, report_outage
from .errors import ERRORS, BodyTooLarge, DatabaseUnavailable, QQLoginError, get_message, get_retry_after
from .redaction import suppress_error_log

# Exceptions that become an error response. Anything else is a bug, which must stay visible.
API_ERRORS = (
    APIException,
    Http404,
    DjangoPermissionDenied,
    RequestDataTooBig,
    TooManyFieldsSent,
    UnreadablePostError,  # the client has hung up
)

# DRF's own codes that pages know beside those of ERRORS. Every other one becomes "invalid".
DRF_CODES = {
    "not_authenticated": "not_authenticated",
    "authentication_failed": "not_authenticated",
    "not_found": "not_found",
}


def exception_handler(exc: Exception, context: dict[str, Any]) -> Response | None:
    """DRF's EXCEPTION_HANDLER. Returns None for a bug, as DRF's own handler does."""
    error = to_api_error(exc)
    if error is None:
        return None
    set_rollback()
    code = get_code(error)
    fields = get_fields(error)
    # DRF's sentence is in English and names the seconds. A host's Throttled with an `error_code` has its own sentence.
    message = get_message(code) if code == "throttled" else _find_message(error.detail)
    headers = get_retry_after(error)
    if challenge := getattr(error, "auth_header", None):
        headers["WWW-Authenticate"] = challenge
    body = {**fields, "message": message or get_message("invalid"), "code": code}
    response = Response(body, status=error.status_code, headers=headers)
    if isinstance(error, DatabaseUnavailable):  # report_outage has logged it
        suppress_error_log(response)
    return response


def to_api_error(exc: Exception) -> APIException | None:
    """Return the API error that an exception is or stands for; None for a bug."""
    if isinstance(exc, Http404):
        return NotFound()
    if isinstance(exc, DjangoPermissionDenied):
        return PermissionDenied()
    if isinstance(exc, (TooManyFieldsSent, UnreadablePostError)):
        return ParseError(get_message("invalid"))
    if isinstance(exc, RequestDataTooBig):  # Django's own limit is below ours
        return BodyTooLarge()
    if is_outage(exc):
        return report_outage(exc)
    return exc if isinstance(exc, APIException) else None


def get_code(error: APIException) -> str:
    """Return the code that tells a page what to do. An error class of the host may have its own `error_code`."""
    if isinstance(error, QQLoginError):
        return error.code
    own_code: str | None = getattr(error, "error_code", None)
    default: str = error.default_code
    return own_code or DRF_CODES.get(default) or (default if default in ERRORS else "invalid")


def get_fields(error: APIException) -> dict[str, Any]:
    """Return the wrong fields of a form, each with its sentences, as DRF has them; or what one of our errors adds."""
    if isinstance(error, QQLoginError):
        return error.fields
    if not isinstance(error, ValidationError):
        return {}
    return error.detail if isinstance(error.detail, dict) else {api_settings.NON_FIELD_ERRORS_KEY: error.detail}


def make_json_error(status: int, message: str, code: str) -> JsonResponse:
    """Return the error body outside a DRF view, as from middleware."""
    return JsonResponse({"message": message, "code": code}, status=status, json_dumps_params={"ensure_ascii": False})


def _find_message(detail: Any) -> str:
    """Return the first sentence of a DRF error's nested detail."""
    while isinstance(detail, (dict, list)) and detail:
        detail = next(iter(detail.values())) if isinstance(detail, dict) else detail[0]
    return str(detail) if isinstance(detail, str) else ""

"""Shared parts of all endpoints: headers, language, errors, and the redirect to the shop's page."""

from typing import Any
from urllib.parse import urlencode

from django.db import connections, transaction
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.http.response import HttpResponseBase
from django.views.decorators.debug import sensitive_variables
from rest_framework.exceptions import MethodNotAllowed
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.views import APIView

from ..conf import conf
from ..errors import QQLoginError, get_retry_after
from ..exception_handler import exception_handler, get_code, to_api_error
from ..language import use_language
from ..parsers import JSONOnlyNegotiation, StrictJSONParser
from ..redaction import redact_request, suppress_error_log
from ..validation import quote_next

HEADERS = {
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
}


class QQView(APIView):
    """An endpoint: independent of the host's global DRF settings, in the user's language, never cached."""

    authentication_classes = throttle_classes = ()
    permission_classes: tuple[Any, ...] = ()
    parser_classes = (StrictJSONParser,)
    renderer_classes = (JSONRenderer,)
    content_negotiation_class = JSONOnlyNegotiation
    versioning_class = metadata_class = None
    http_method_names = ["get", "post"]  # no HEAD: a link preview would redeem a state or a code

    @classmethod
    def as_view(cls, **initkwargs: Any) -> Any:
        view = super().as_view(**initkwargs)
        for database in connections:  # ATOMIC_REQUESTS must not keep a transaction open while QQ is asked
            transaction.non_atomic_requests(database)(view)
        return view

    @sensitive_variables()  # also hides the variables of every function called from here: codes, tokens, passwords
    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        with use_language(request):
            response = super().dispatch(request, *args, **kwargs)
        for name, value in HEADERS.items():
            response.headers[name] = value
        if response.status_code >= 500:  # Django reports these with their request
            redact_request(request)
        return response

    def perform_authentication(self, request: Request) -> None:
        """Do nothing: DRF would make `request.user` at each call, and here it is always anonymous."""

    def get_exception_handler(self) -> Any:
        return exception_handler

    def handle_exception(self, exc: Exception) -> Any:
        """Answer an error. A bug goes on to Django, without the request's secrets."""
        error = to_api_error(exc)
        if error is None:
            redact_request(self.request._request)
        response = super().handle_exception(error or exc)
        if isinstance(error, QQLoginError) and error.code == "qq_busy":
            suppress_error_log(response)
        return response


class NavigationView(QQView):
    """An endpoint that the browser itself navigates to. It refuses prefetches and embedded requests.

    Each `get()` catches API_ERRORS and answers with redirect_error_to_page: the user must not end on JSON.
    """

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        # Not a navigation of the user's: a prefetch, or an <img src> on any page.
        is_prefetch = "prefetch" in request.META.get("HTTP_SEC_PURPOSE", "")
        if is_prefetch or request.META.get("HTTP_SEC_FETCH_DEST", "document") != "document":
            raise NotNavigated
        super().initial(request, *args, **kwargs)

    def handle_exception(self, exc: Exception) -> Any:
        if isinstance(exc, NotNavigated):
            return suppress_error_log(HttpResponse(status=503))  # after a prefetch the browser asks again
        if isinstance(exc, MethodNotAllowed):
            return HttpResponse(status=405)
        if isinstance(exc, Http404):
            raise exc
        return super().handle_exception(exc)


class NotNavigated(Exception):
    """The user did not navigate to the address: nothing is redeemed, and nothing is counted."""


def redirect_to_page(*, next: str | None, **params: str) -> HttpResponseRedirect:
    """Send the browser to the shop's page with `params`, and with `next` in `state`, where old pages expect it."""
    page, hash_sign, fragment = (conf.CALLBACK_PAGE or "/").partition("#")
    query = urlencode(params) + ("" if next is None else f"&state={quote_next(next)}")
    return HttpResponseRedirect(f"{page}{'&' if '?' in page else '?'}{query}{hash_sign}{fragment}")


def redirect_error_to_page(exc: Exception, next: str | None) -> HttpResponseRedirect:
    """Send the browser to the shop's page with the code of one of API_ERRORS."""
    error = to_api_error(exc)
    assert error is not None
    response = redirect_to_page(error=get_code(error), next=next)
    for name, value in get_retry_after(error).items():
        response.headers[name] = value
    return response

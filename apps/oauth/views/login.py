from django.http import HttpResponse, HttpResponseRedirect
from rest_framework.request import Request

from ..audit import Event, Step, audited
from ..clients import make_web_client
from ..conf import conf
from ..errors import QQLoginError
from ..exception_handler import API_ERRORS
from ..flow.flow import Flow
from ..ratelimit import get_rate_limit
from ..validation import read_next, read_purpose
from .base import NavigationView, redirect_error_to_page


class QQLoginView(NavigationView):
    """`GET login/?next=`: start a flow and send the browser to QQ."""

    def get(self, request: Request) -> HttpResponse:
        next = None
        try:
            with audited(request, Event.START) as step:
                try:
                    next = read_next(request.query_params, "next")
                finally:  # a malformed query counts too
                    get_rate_limit("qq_start").hit(request)
                return start_flow(request, next, step)
        except API_ERRORS as exc:
            return redirect_error_to_page(exc, next)


def start_flow(request: Request, next: str, step: Step) -> HttpResponse:
    if not conf.CLIENT_ID:
        raise QQLoginError("qq_misconfigured")
    flow = Flow.start(next, read_purpose(request.query_params))
    step.add(flow=flow.id)
    assert flow.state is not None
    is_phone = "Mobi" in request.META.get("HTTP_USER_AGENT", "")
    response = HttpResponseRedirect(make_web_client().get_authorization_url(flow.state, mobile=is_phone))
    flow.set_first_cookie(request, response)
    return response

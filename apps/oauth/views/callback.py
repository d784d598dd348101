from django.http import Http404, HttpResponse
from rest_framework.request import Request

from ..audit import Event, audited
from ..conf import conf
from ..errors import QQLoginError
from ..exception_handler import API_ERRORS
from ..flow.flow import Flow, find_flow_by_state
from ..flow.store import CodeClaim, Outcome
from ..ratelimit import get_rate_limit
from ..validation import read_qq_code
from .base import NavigationView, redirect_error_to_page, redirect_to_page


class QQCallbackView(NavigationView):
    """`GET callback/?code=&state=`: take the browser back from QQ and send it to the shop's page."""

    def get(self, request: Request) -> HttpResponse:
        if conf.is_direct:
            raise Http404
        next = None
        try:
            with audited(request, Event.CALLBACK) as step:
                try:
                    flow = find_flow_by_state(request)
                    step.add(flow=flow.id)
                    next = flow.next  # before the limit: a browser that has reached it keeps its target
                finally:  # an unknown state counts too
                    get_rate_limit("qq_callback").hit(request)
                return accept_code(request, flow)
        except API_ERRORS as exc:
            return redirect_error_to_page(exc, next)


def accept_code(request: Request, flow: Flow) -> HttpResponse:
    """Redeem the state, keep QQ's code, and hand the page a sealed one."""
    store = flow.store
    if flow.state is None or not store.redeem_state():
        raise QQLoginError("state_used")
    code = read_qq_code(request.query_params)
    if store.claim_code(code) is CodeClaim.FIRST:
        store.save_code(code)
    else:  # another flow has used it: users/ says so, as it does of a code that QQ refuses
        store.save_outcome(Outcome(error="code_invalid"))
    if not conf.REQUIRE_COOKIE:
        store.save_next(flow.next)
    response = redirect_to_page(code=flow.seal_code(request), next=flow.next)
    flow.set_returned_cookie(response)
    return response

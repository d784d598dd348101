from django.http import Http404, HttpResponse
from rest_framework.request import Request

from ..audit import Event, Step, audited
from ..conf import conf
from ..errors import QQLoginError
from ..exception_handler import API_ERRORS
from ..flow.flow import Flow, find_flow_by_state, hash_returned_query
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
                return accept_code(request, flow, step)
        except API_ERRORS as exc:
            return redirect_error_to_page(exc, next)


def accept_code(request: Request, flow: Flow, step: Step) -> HttpResponse:
    """Redeem the state, keep QQ's code, and hand the page a sealed one. The same query may be repeated for a minute."""
    store = flow.store
    query_hash = hash_returned_query(request.query_params)
    sealed_code = flow.seal_code(request)
    if flow.state is None or not store.redeem_state(query_hash, sealed_code):
        if (first_sealed_code := store.get_sealed_code(query_hash)) is None:
            raise QQLoginError("state_used")
        sealed_code = first_sealed_code
        step.add(reason="repeated")
    code = read_qq_code(request.query_params)
    # Also in a repeat: two calls may run at once, and this one may be ahead.
    claim = store.claim_code(code)
    if claim is CodeClaim.FIRST:
        store.save_code(code)
    elif claim is CodeClaim.FOREIGN:  # users/ reports it, like a code that QQ refuses
        store.save_outcome(Outcome(error="code_invalid"))
    if not conf.REQUIRE_COOKIE:
        store.save_next(flow.next)
    response = redirect_to_page(code=sealed_code, next=flow.next)
    flow.set_returned_cookie(response)
    return response

from typing import Any

from django.core.exceptions import TooManyFieldsSent
from rest_framework.request import Request
from rest_framework.response import Response

from ..audit import Event, audited, hash_openid
from ..binding import bind
from ..clients import make_web_client
from ..conf import conf
from ..errors import QQLoginError
from ..flow.flow import Flow, find_flow_by_state, hash_returned_query, open_bind_token, open_sealed_code
from ..flow.purpose import Purpose
from ..ratelimit import RateLimit, get_rate_limit
from ..redaction import mask_mobile
from ..signals import qq_bound
from ..single_flight import resolve_identity
from ..validation import CODE, read_bind_token, read_parameter, read_qq_code, refuse_other_origins
from .base import QQView
from .outcome import answer_identity, log_in


class QQTokenView(QQView):
    """`users/`: where a page trades its code for a login, and its form for a binding."""

    def get(self, request: Request) -> Response:
        """Log in the user that QQ names for the code; hand out a bind token if the openid is not bound."""
        with audited(request, Event.LOGIN) as step:
            refuse_other_origins(request)
            rate_limit = get_rate_limit("qq_login")
            if conf.is_direct:
                rate_limit.hit(request)
                flow = find_flow_by_state(request)
                step.add(flow=flow.id)
                identity = resolve_identity(step, flow, make_web_client(), read_direct_code(request, flow))
            else:
                flow = read_sealed_code(request, rate_limit)
                step.add(flow=flow.id)
                identity = resolve_identity(step, flow, make_web_client(), None, rate_limit=rate_limit)
            response = answer_identity(request, step, flow, identity)
            if flow.state is not None:  # direct mode: callback/ has not done it
                flow.set_returned_cookie(response)
            return response

    def post(self, request: Request) -> Response:
        """Bind the openid that the bind token proves to the account that the form proves, and log in."""
        with audited(request, Event.BIND) as step:
            refuse_other_origins(request)
            get_rate_limit("qq_bind").hit(request)
            form: Any = request.data
            token = read_bind_token(form)
            flow, identity = open_bind_token(request, token, form.get("key"), Purpose.LOGIN)
            step.add(flow=flow.id, openid=hash_openid(identity.openid), mobile=mask_mobile(form.get("mobile")))
            step.add(form=conf.ACCOUNT_SERIALIZER.rpartition(".")[2])  # one with a password, or by an SMS code alone
            bound = bind(request, flow, identity)
            step.add(user_id=bound.user.pk, reason="repeated" if bound.is_repeat else None)
            signals = () if bound.is_repeat else (qq_bound,)
            return log_in(request, bound.user, flow, *signals, id=bound.user.pk)


def read_sealed_code(request: Request, rate_limit: RateLimit) -> Flow:
    """Return the flow of the sealed code in the query. A code that is refused counts against the limit."""
    try:
        return open_sealed_code(request, read_parameter(request.query_params, "code", CODE))
    except (QQLoginError, TooManyFieldsSent):
        rate_limit.hit(request)
        raise


def read_direct_code(request: Request, flow: Flow) -> str:
    """Return QQ's code. In direct mode QQ returns to the page itself, which forwards the query to us.

    The page may repeat its call, but not with another query.
    """
    query_hash = hash_returned_query(request.query_params)
    is_first = flow.state is not None and flow.store.redeem_state(query_hash)
    if not is_first and not flow.store.is_redeemed_by(query_hash):
        raise QQLoginError("state_used")
    return read_qq_code(request.query_params)

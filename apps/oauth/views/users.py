import json
from typing import Any

from django.contrib.auth import SESSION_KEY
from django.contrib.auth.base_user import AbstractBaseUser
from django.contrib.auth.signals import user_logged_in
from django.core.exceptions import ImproperlyConfigured, TooManyFieldsSent
from django.dispatch import Signal
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response

from ..audit import Event, audited, hash_openid
from ..binding import bind, refuse_staff_and_disabled
from ..conf import conf
from ..errors import QQLoginError
from ..flow.flow import Flow, find_flow_by_state, hash_returned_query, open_bind_token, open_sealed_code
from ..ratelimit import RateLimit, get_rate_limit
from ..redaction import mask_mobile
from ..signals import qq_bound, qq_logged_in
from ..single_flight import resolve_identity
from ..user_lookup import find_user
from ..validation import CODE, read_bind_token, read_parameter, read_qq_code, refuse_other_origins
from .base import QQView


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
                identity = resolve_identity(step, flow, read_direct_code(request, flow), rate_limit=None)
            else:
                flow = read_sealed_code(request, rate_limit)
                step.add(flow=flow.id)
                identity = resolve_identity(step, flow, None, rate_limit)
            step.add(openid=hash_openid(identity.openid))
            user = find_user(identity.openid)
            # Without the cookie a sealed code works once. After the look-up: a database that fails uses nothing up.
            if flow.key is None and not flow.store.redeem_sealed_code():
                raise QQLoginError("code_invalid")
            if user is None:
                step.event = Event.BIND_TOKEN
                response = Response({"access_token": flow.make_bind_token(identity, request), "next": flow.next})
            else:
                step.add(user_id=user.pk)
                response = log_in(request, user, flow)
            if flow.state is not None:  # direct mode: callback/ has not done it
                flow.set_returned_cookie(response)
            return response

    def post(self, request: Request) -> Response:
        """Bind the openid that the bind token proves to the account that the form proves, and log in."""
        with audited(request, Event.BIND) as step:
            refuse_other_origins(request)
            get_rate_limit("qq_bind").hit(request)
            form: Any = request.data
            flow, identity = open_bind_token(request, read_bind_token(form))
            step.add(flow=flow.id, openid=hash_openid(identity.openid), mobile=mask_mobile(form.get("mobile")))
            bound = bind(request, self, flow, identity)
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


def log_in(request: Request, user: AbstractBaseUser, flow: Flow, *signals: Signal, **extra: Any) -> Response:
    """Return the shop's own login answer, with `extra` added. `signals` are sent before qq_logged_in."""
    refuse_staff_and_disabled(user)
    response = Response(make_payload(user, request) | {"next": flow.next} | extra)
    for signal in (*signals, qq_logged_in):
        signal.send(sender=type(user), request=request, user=user, response=response)
    session = getattr(request._request, "session", None)
    # Not if the shop's payload or a receiver has called Django's login(), which sends this signal itself.
    if session is None or not session.modified or session.get(SESSION_KEY) != str(user.pk):
        user_logged_in.send(sender=type(user), request=request._request, user=user)
    response.data = make_plain(response.data)
    return response


def make_payload(user: AbstractBaseUser, request: Request) -> dict[str, Any]:
    """Return the shop's part of the answer. Raises ImproperlyConfigured if pages could not read it as a login."""
    payload = conf.load(conf.LOGIN_PAYLOAD)(user, request)
    if not isinstance(payload, dict):
        fault = f"returned {type(payload).__name__}"
    elif "access_token" in payload:
        fault = 'returned the key "access_token", which tells pages that the user is not bound'
    else:
        return payload
    hint = 'Return a dict, as in {"token": …, "user_id": …, "username": …}.'
    raise ImproperlyConfigured(f"QQ_LOGIN_PAYLOAD: {conf.LOGIN_PAYLOAD} {fault}. {hint}")


def make_plain(data: dict[str, Any]) -> dict[str, Any]:
    """Return the answer as it will be written. Raises ImproperlyConfigured if JSON cannot hold it.

    When DRF writes it, the login is already recorded, and a report of the error would show the request.
    """
    try:
        plain: dict[str, Any] = json.loads(JSONRenderer().render(data))
    except (TypeError, ValueError, RecursionError) as exc:
        fault = f"{conf.LOGIN_PAYLOAD} or a receiver of a login's signals put in what JSON cannot hold: {exc}."
        raise ImproperlyConfigured(f"QQ_LOGIN_PAYLOAD: {fault}") from exc
    return plain

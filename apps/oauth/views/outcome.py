"""What every way of logging in ends in: the shop's login, or a bind token for the form."""

import json
from typing import Any

from django.contrib.auth import SESSION_KEY
from django.contrib.auth.base_user import AbstractBaseUser
from django.contrib.auth.signals import user_logged_in
from django.core.exceptions import ImproperlyConfigured
from django.dispatch import Signal
from rest_framework.exceptions import APIException
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.settings import api_settings

from ..audit import Event, Step, hash_openid
from ..binding import bind_by_unionid, find_binding, make_form_context, refuse_staff_and_disabled
from ..conf import conf
from ..errors import QQLoginError
from ..flow.flow import Flow
from ..flow.purpose import Purpose
from ..linking import make_already_bound
from ..profiles import request_profile
from ..qq import Profile, QQIdentity
from ..signals import qq_bound, qq_logged_in
from ..user_lookup import find_user


def answer_identity(request: Request, step: Step, flow: Flow, identity: QQIdentity) -> Response:
    """Log in the user that the openid is bound to. Hand out a bind token if it is not bound, or is to be added."""
    step.add(openid=hash_openid(identity.openid))
    if flow.purpose == Purpose.LINK:
        if (binding := find_binding(identity.openid)) is not None:
            raise make_already_bound(binding, find_signed_in_user(request))
        return offer_form(request, step, flow, identity)
    user, signals = find_user(identity.openid), list[Signal]()
    # Without the cookie a sealed code works once. After the look-up: a database that fails uses nothing up.
    if flow.key is None and not flow.store.redeem_sealed_code():
        raise QQLoginError("code_invalid")
    if user is None and (user := bind_by_unionid(step, identity)) is not None:
        signals.append(qq_bound)
    if user is None:
        return offer_form(request, step, flow, identity)
    step.add(user_id=user.pk)
    return log_in(request, user, flow, *signals)


def offer_form(request: Request, step: Step, flow: Flow, identity: QQIdentity) -> Response:
    """Return the bind token for the form, with nickname and avatar if the shop asks QQ for them."""
    step.event = Event.BIND_TOKEN
    body: dict[str, Any] = {"access_token": flow.make_bind_token(identity, request)} | get_next(flow)
    if not flow.is_app:
        body["fields"] = get_form_fields(request, flow)
    if conf.PROFILE:
        profile = request_profile(flow, identity)
        body |= {"nickname": profile.nickname, "avatar": profile.avatar}
    return Response(body)


def get_form_fields(request: Request, flow: Flow) -> list[str]:
    """Return what the page's form has to send beside the bind token, in the order of the shop's serializer."""
    path = conf.CONFIRM_SERIALIZER if flow.purpose == Purpose.LINK else conf.ACCOUNT_SERIALIZER
    context = make_form_context(request, flow, Profile())
    fields = getattr(conf.load(path)(context=context), "fields", {})
    return [name for name, field in fields.items() if not field.read_only]


def log_in(request: Request, user: AbstractBaseUser, flow: Flow, *signals: Signal, **extra: Any) -> Response:
    """Return the shop's own login answer, with `extra` added. `signals` are sent before qq_logged_in."""
    refuse_staff_and_disabled(user)
    response = Response(make_payload(user, request) | get_next(flow) | extra)
    for signal in (*signals, qq_logged_in):
        signal.send(sender=type(user), request=request, user=user, response=response)
    session = getattr(request._request, "session", None)
    # Not if the shop's payload or a receiver has called Django's login(), which sends this signal itself.
    if session is None or not session.modified or session.get(SESSION_KEY) != str(user.pk):
        user_logged_in.send(sender=type(user), request=request._request, user=user)
    response.data = make_plain(response.data)
    return response


def get_next(flow: Flow) -> dict[str, str]:
    return {} if flow.is_app else {"next": flow.next}  # an app has no pages


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


def find_signed_in_user(request: Request) -> Any:
    """Return the user that the shop's own authentication finds; None if there is none, or the token is invalid."""
    for authentication in get_authenticators():
        try:
            found = authentication.authenticate(request)
        except APIException:
            return None
        if found is not None:
            return found[0]
    return None


def get_authenticators() -> list[Any]:
    classes: Any = api_settings.DEFAULT_AUTHENTICATION_CLASSES
    return [authentication() for authentication in classes]

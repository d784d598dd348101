from typing import Any

from django.http import Http404
from rest_framework.permissions import IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response

from ..audit import Event, audited, hash_openid
from ..flow.flow import open_bind_token
from ..flow.purpose import Purpose
from ..linking import get_bindings, link, unlink
from ..models import OAuthQQUser
from ..ratelimit import get_rate_limit
from ..redaction import shorten_openid
from ..signals import qq_bound
from ..validation import read_bind_token, refuse_other_origins
from .base import QQView
from .outcome import get_authenticators

REASON = "by the user"


class SignedInView(QQView):
    """An endpoint for users who are signed in, by the shop's own authentication."""

    permission_classes = (IsAuthenticated,)

    def get_authenticators(self) -> list[Any]:
        return get_authenticators()


class BindingsView(SignedInView):
    """`bindings/`: the QQs that log the signed-in user in."""

    def get(self, request: Request) -> Response:
        return Response([to_dict(binding) for binding in get_bindings(request.user)])

    def post(self, request: Request) -> Response:
        """Add the QQ that the bind token of a flow with `purpose=bind` proves."""
        with audited(request, Event.LINK) as step:
            step.add(user_id=request.user.pk)
            refuse_other_origins(request)
            get_rate_limit("qq_bind").hit(request)
            form: Any = request.data
            token = read_bind_token(form)
            flow, identity = open_bind_token(request, token, form.get("key"), Purpose.LINK)
            step.add(flow=flow.id, openid=hash_openid(identity.openid))
            binding, is_new = link(request, flow, identity)
            response = Response(to_dict(binding), status=201 if is_new else 200)
            if is_new:
                qq_bound.send(sender=type(request.user), request=request, user=request.user, response=response)
            else:
                step.add(reason="repeated")
            return response


class BindingView(SignedInView):
    """`bindings/<id>/`: one of them."""

    http_method_names = ["delete"]

    def delete(self, request: Request, id: int) -> Response:
        """Remove it, if another way to log in is left."""
        with audited(request, Event.UNBIND) as step:
            step.add(user_id=request.user.pk)
            refuse_other_origins(request)
            get_rate_limit("qq_bind").hit(request)
            binding = get_bindings(request.user).filter(pk=id).first()
            if binding is None:
                raise Http404
            step.add(openid=hash_openid(binding.openid))
            if not unlink(request, binding, REASON):
                raise Http404
            step.add(reason=REASON)
            return Response(status=204)


def to_dict(binding: OAuthQQUser) -> dict[str, Any]:
    """Return what the user's own page shows of a binding. The openid is shortened: it identifies the user to others."""
    return {
        "id": binding.pk,
        "nickname": binding.nickname or "",
        "avatar": binding.avatar or "",
        "openid": shorten_openid(binding.openid),
        "app": binding.client_id or "",
        "create_time": binding.create_time,
    }

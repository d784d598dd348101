"""The doors of phone apps and of the QQ mini program. They have no cookies: the app's own key takes their place."""

from abc import abstractmethod
from typing import Any

from django.http import Http404
from django.utils.translation import gettext_noop as _
from rest_framework import serializers
from rest_framework.exceptions import PermissionDenied, ValidationError
from rest_framework.request import Request
from rest_framework.response import Response

from ..audit import Event, Step, audited, hash_openid
from ..clients import make_code_client, make_mini_client, make_token_client
from ..conf import conf
from ..errors import QQLoginError
from ..flow.flow import Flow
from ..flow.lifetimes import REPEATED_APP_CALL
from ..flow.purpose import Purpose
from ..flow.signing import hash_text
from ..form_fields import PatternField
from ..language import translate, translate_lazy
from ..qq import Client
from ..qq.answers import OPENID, TOKEN
from ..ratelimit import get_rate_limit
from ..single_flight import resolve_identity
from ..validation import APP_KEY, CODE
from .base import QQView
from .outcome import answer_identity

# DRF's own sentence repeats the value, which may hold half a surrogate pair.
BAD_PURPOSE: Any = dict.fromkeys(("null", "invalid_choice"), translate_lazy(_("purpose 应是 login 或 bind。")))
BAD_CODE = _("code 应是 QQ 返回的登录凭证。")


class LoginSerializer(serializers.Serializer[Any]):
    """What an app sends: its key for this login, and what QQ has given it."""

    key = PatternField(APP_KEY, malformed=_("key 应是 43 到 128 个随机的字母、数字、- 或 _，每次登录重新生成。"))
    code = PatternField(CODE, malformed=BAD_CODE)
    purpose = serializers.ChoiceField([Purpose.LOGIN, Purpose.LINK], default=Purpose.LOGIN, error_messages=BAD_PURPOSE)


class AppLoginSerializer(LoginSerializer):
    code = PatternField(CODE, malformed=BAD_CODE, required=False)
    access_token = PatternField(TOKEN, malformed=_("access_token 应是 QQ SDK 返回的登录凭证。"), required=False)
    openid = PatternField(OPENID, malformed=_("openid 应是 32 个十六进制字符。"), required=False)
    client_id = PatternField("[0-9]{1,32}", malformed=_("client_id 应是 App 的 APP ID。"), required=False)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if ("code" in attrs) == ("access_token" in attrs):
            raise ValidationError({"access_token": [translate(_("access_token 和 code 需要且只能有一个。"))]})
        return attrs


class DoorView(QQView):
    """An endpoint for apps, which are no browsers."""

    http_method_names = ["post"]
    serializer_class: type[LoginSerializer] = LoginSerializer
    name = ""

    def post(self, request: Request) -> Response:
        """Log in the user that QQ names for the code or token; hand out a bind token if the openid is not bound."""
        with audited(request, Event.LOGIN) as step:
            step.add(door=self.name)
            refuse_pages(request)
            if not self.is_open():
                raise Http404
            with get_rate_limit("qq_login").count_failures(request):
                form = self.serializer_class(data=request.data)
                form.is_valid(raise_exception=True)
                return self.log_in(request, step, form.validated_data)

    def log_in(self, request: Request, step: Step, form: dict[str, Any]) -> Response:
        flow = Flow.start_in_app(form["key"], form["purpose"])
        step.add(flow=flow.id)
        proof, client = form.get("code") or form["access_token"], self.get_client(form)
        # QQ's tokens last for months, and each new key asks QQ again.
        get_rate_limit("qq_login").hit(request, f"proof {proof}")
        # A key is for one login. The same call may be repeated for a while, as its answer may be lost.
        proof_hash, store = hash_text(f"{self.name} {flow.purpose} {proof}"), flow.store
        if not store.redeem_state(proof_hash) and not store.is_redeemed_by(proof_hash, within=REPEATED_APP_CALL):
            raise QQLoginError("key_used")
        identity = resolve_identity(step, flow, client, proof, is_reusable="access_token" in form)
        if form.get("openid", identity.openid).upper() != identity.openid.upper():
            step.record(Event.QQ, "alarm", reason="OtherOpenid", openid=hash_openid(identity.openid))
            raise QQLoginError("qq_rejected", reason="other_openid")
        return answer_identity(request, step, flow, identity)

    @abstractmethod
    def is_open(self) -> bool:
        """Return whether the shop has configured this endpoint."""

    @abstractmethod
    def get_client(self, form: dict[str, Any]) -> Client[Any]:
        """Return the client of QQ that understands what the form has. Raises ValidationError."""


class AppView(DoorView):
    """`POST app/`: a phone app sends what QQ's SDK has returned."""

    serializer_class = AppLoginSerializer
    name = "app"

    def is_open(self) -> bool:
        return bool(conf.APP_IDS)

    def get_client(self, form: dict[str, Any]) -> Client[Any]:
        if "access_token" in form:
            return make_token_client()
        client = make_code_client(form.get("client_id", ""))
        if client is None:
            raise ValidationError({"client_id": [translate(_("QQ_APP_IDS 里没有这个 App 的 APP Key。"))]})
        return client


class MiniView(DoorView):
    """`POST mini/`: the QQ mini program sends the code of qq.login()."""

    name = "mini"

    def is_open(self) -> bool:
        return bool(conf.MINI_APP_ID)

    def get_client(self, form: dict[str, Any]) -> Client[Any]:
        return make_mini_client()


def refuse_pages(request: Request) -> None:
    """Raise PermissionDenied for a browser's call, before it is counted: pages have `users/`, and its cookie."""
    if "HTTP_ORIGIN" in request.META or "HTTP_SEC_FETCH_SITE" in request.META:
        raise PermissionDenied(translate(_("这个接口只供 App 和小程序使用。")))

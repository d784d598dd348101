"""QQTokenView, where a page trades its code for a login, and the three small views around it."""

import logging
import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode, urlsplit

from django.contrib.auth.base_user import AbstractBaseUser
from django.contrib.auth.signals import user_logged_in
from django.db import IntegrityError, transaction
from django.http import Http404, HttpResponse, HttpResponseRedirect
from django.http.response import HttpResponseBase
from django.urls import reverse
from django.utils.crypto import constant_time_compare
from django.utils.translation import override
from itsdangerous import BadData
from rest_framework.exceptions import MethodNotAllowed
from rest_framework.negotiation import DefaultContentNegotiation
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.serializers import BaseSerializer
from rest_framework.views import APIView

from .conf import conf
from .errors import QQLoginError, answer_error, as_api_error, language_of
from .flow import CODE_KEPT, MAX_TRIES, Flow, flow_id, hash_code, open_bind_token, open_sealed_code
from .inputs import CODE, STATE, BoundedJSONParser, clean_next, quote_next, read_bind_token, read_parameter
from .models import OAuthQQUser
from .qq import OAuthQQ, QQBusy, QQError, QQIdentity, QQMisconfigured, QQRejected, QQUnavailable
from .signals import qq_bound, qq_logged_in

logger = logging.getLogger(__name__)

QQ_ERRORS: dict[type[QQError], str] = {
    QQMisconfigured: "qq_misconfigured",
    QQRejected: "qq_rejected",
    QQUnavailable: "qq_unavailable",
}


class OneRenderer(DefaultContentNegotiation):
    """There is one kind of answer, so what a client would accept is not asked."""

    def select_renderer(self, request: Request, renderers: Any, format_suffix: str | None = None) -> Any:
        return renderers[0], renderers[0].media_type


class QQView(APIView):
    """What the views share: nothing of the host's global settings, the shopper's language, no copies kept."""

    authentication_classes = permission_classes = throttle_classes = ()
    parser_classes = (BoundedJSONParser,)
    renderer_classes = (JSONRenderer,)
    content_negotiation_class = OneRenderer
    versioning_class = metadata_class = None
    http_method_names = ["get", "post"]  # not HEAD: a look must not use anything up

    def get_exception_handler(self) -> Any:
        return answer_error

    @transaction.non_atomic_requests  # no transaction of the host's stays open while QQ is asked
    def dispatch(self, request: Any, *args: Any, **kwargs: Any) -> HttpResponseBase:
        with override(language_of(request.headers.get("Accept-Language", ""))):
            response = super().dispatch(request, *args, **kwargs)
        response.headers["Cache-Control"] = "no-store"
        response.headers["Referrer-Policy"] = "no-referrer"
        return response


class QQAuthorizationView(QQView):
    def get(self, request: Request) -> Response:
        """Tell the page where its QQ button leads: to login/, under each name the shops' pages read."""
        asked = request.query_params.get("next") or request.query_params.get("state") or "/"
        path = quote_next(clean_next(asked, conf.CALLBACK_PAGE))
        here = urlsplit(conf.REDIRECT_URI)  # not the request: behind a proxy it does not know the public address
        address = f"{here.scheme}://{here.netloc}{reverse('oauth:login')}?next={path}"
        return Response(dict.fromkeys(("login_url", "auth_url", "oauth_url", "url", "qq_login_url"), address))


class QQNavigationView(QQView):
    """A view a browser itself goes to: errors end on the shop's page, never in JSON."""

    next: str | None = None

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        if "prefetch" in request.headers.get("Sec-Purpose", ""):
            raise Prefetched

    def handle_exception(self, exc: Exception) -> Any:
        if isinstance(exc, Prefetched):
            return HttpResponse(status=503)  # the browser throws it away and asks again when the person comes
        if isinstance(exc, MethodNotAllowed):
            return HttpResponse(status=405, headers=self.default_response_headers)
        error = as_api_error(exc)
        if not isinstance(error, QQLoginError):
            raise exc
        return to_page(error=error.code, next=self.next)


class Prefetched(Exception):
    """The browser looks ahead, the person has not come yet."""


class QQLoginView(QQNavigationView):
    def get(self, request: Request) -> HttpResponse:
        """Begin a flow and send the browser to QQ."""
        self.next = clean_next(request.query_params.get("next", "/"), conf.CALLBACK_PAGE)
        if not conf.CLIENT_ID:
            raise QQLoginError("qq_misconfigured")
        flow = Flow.begin(self.next)
        assert flow.state is not None
        mobile = "Mobi" in request.headers.get("User-Agent", "")
        response = HttpResponseRedirect(make_client().get_authorization_url(flow.state, mobile=mobile))
        flow.make_room(request, response)
        flow.set_cookie(response)
        return response


class QQCallbackView(QQNavigationView):
    def get(self, request: Request) -> HttpResponse:
        """Take the browser back from QQ: check its state, keep the code, hand the page a sealed one."""
        if conf.is_direct:
            raise Http404
        flow = find_by_state(request)
        self.next = flow.next
        if flow.state is None or not flow.add("state", True):
            raise QQLoginError("state_used")
        code = read_code(request)
        flow.put("code", code, CODE_KEPT)
        if not conf.REQUIRE_COOKIE:
            flow.put("next", flow.next)
        response = to_page(code=flow.seal_code(request), next=flow.next)
        flow.returned().set_cookie(response)
        return response


class QQTokenView(QQView):
    def get(self, request: Request) -> Response:
        """Log in whom QQ's code stands for, or hand out a bind token."""
        flow, code = self.unseal(request)  # whose browser, which code; refused here or not at all
        identity = self.identify(flow, code)
        user = find_user(identity)
        if user is not None:
            response = self.login(user, flow)
        else:
            response = Response({"access_token": flow.make_bind_token(identity, request), "next": flow.next})
        if flow.state is not None:
            flow.returned().set_cookie(response)
        return response

    def post(self, request: Request) -> Response:
        """Bind the openid a bind token proves to the account the form proves, and log in."""
        try:
            flow, identity = open_bind_token(request, read_bind_token(request.data))
        except BadData as exc:
            raise QQLoginError("bind_token_invalid") from exc
        if find_user(identity) is not None:
            raise QQLoginError("already_bound")
        if flow.count_try() > MAX_TRIES:
            raise QQLoginError("bind_tries")
        account = conf.load(conf.ACCOUNT_SERIALIZER)(data=request.data, context={"request": request, "view": self})
        account.is_valid(raise_exception=True)
        return self.login(self.bind(account, identity), flow, bound=True)

    def unseal(self, request: Request) -> tuple[Flow, str | None]:
        """Return the flow this call belongs to, and QQ's code unless the cache has let it go."""
        if conf.is_direct:
            flow = find_by_state(request)
            told = hash_code(repr([request.query_params.getlist(name) for name in ("code", "error", "usercancel")]))
            first = flow.state is not None and flow.add("state", told)
            if not first and flow.get("state") != told:  # the page may repeat its call, but not change it
                raise QQLoginError("state_used")
            return flow, read_code(request)
        try:
            flow = open_sealed_code(request, read_parameter(request.query_params, "code", CODE))
        except BadData as exc:
            raise QQLoginError("code_invalid") from exc
        return flow, flow.get("code")

    def identify(self, flow: Flow, code: str | None) -> QQIdentity:
        """Return whom QQ names for the code. QQ is asked once a flow, however often the page asks us."""
        said = flow.get("said")
        if said is None:
            if code is None:
                raise QQLoginError("code_invalid")
            qq = make_client()
            try:
                with qq.exchange():
                    said = self.ask(qq, flow, code) if flow.add("asked", True) else None
                if said is None:
                    with qq.waiting():
                        said = self.wait(flow)
            except QQBusy as exc:
                raise QQLoginError("qq_busy") from exc
        if flow.key is None and not flow.add("collected", True):
            raise QQLoginError("code_invalid")  # without the cookie a sealed code works once
        if "error" in said:
            raise QQLoginError(said["error"])
        return QQIdentity(**said)

    def ask(self, qq: OAuthQQ, flow: Flow, code: str) -> Mapping[str, str | None]:
        """Take the code to QQ, and note for whoever asks again what it said."""
        said: dict[str, str | None]
        if not flow.claims(code):
            said = {"error": "code_invalid"}  # another flow has been to QQ with it
        else:
            try:
                identity = qq.identify(code)
                said = {"openid": identity.openid, "unionid": identity.unionid}
            except QQError as exc:
                level = logging.ERROR if isinstance(exc, QQMisconfigured) else logging.WARNING
                logger.log(level, "QQ did not name a person: %s: %s", type(exc).__name__, exc)
                said = {"error": QQ_ERRORS[type(exc)]}
        flow.put("said", said)
        return said

    def wait(self, flow: Flow) -> Mapping[str, str | None]:
        """Wait for what QQ says to the call that asked first; not past the time that call has."""
        ends = time.monotonic() + conf.TIMEOUT + 1
        while time.monotonic() < ends:
            said: dict[str, str | None] | None = flow.get("said")
            if said is not None:
                return said
            time.sleep(0.05)
        gone = {"error": "qq_unavailable"}  # that worker has died
        flow.add("said", gone)
        return gone

    def bind(self, account: BaseSerializer[Any], identity: QQIdentity) -> AbstractBaseUser:
        """Save the account and its binding together, or neither."""
        try:
            with transaction.atomic():
                user: AbstractBaseUser = account.save()
                refuse_by_account(user, status=400)  # old pages show a message at this status only
                OAuthQQUser.objects.create(user_id=user.pk, openid=identity.openid, unionid=identity.unionid)
        except IntegrityError as exc:
            if not OAuthQQUser.objects.filter(openid=identity.openid).exists():
                raise  # a clash of the shop's own, not for the openid
            raise QQLoginError("already_bound") from exc
        return user

    def login(self, user: AbstractBaseUser, flow: Flow, *, bound: bool = False) -> Response:
        """Answer with the shop's own login of `user`."""
        refuse_by_account(user)
        payload: dict[str, Any] = conf.load(conf.LOGIN_PAYLOAD)(user, self.request)
        response = Response(payload | {"next": flow.next} | ({"id": user.pk} if bound else {}))
        for signal in (qq_bound, qq_logged_in) if bound else (qq_logged_in,):
            signal.send(sender=type(user), request=self.request, user=user, response=response)
        user_logged_in.send(sender=type(user), request=self.request._request, user=user)
        return response


def make_client() -> OAuthQQ:
    return OAuthQQ(
        client_id=conf.CLIENT_ID,
        client_secret=conf.CLIENT_SECRET,
        redirect_uri=conf.REDIRECT_URI,
        api_url=conf.API_URL,
        timeout=conf.TIMEOUT,
        max_connections=conf.MAX_CONNECTIONS,
        unionid=conf.UNIONID,
    )


def find_by_state(request: Request) -> Flow:
    """Return the flow this browser began with the state it brings back. Changes nothing."""
    state = read_parameter(request.query_params, "state", STATE)
    flow = Flow.find(request, flow_id(state))
    # Without a state, the cookie is one of a flow that is back from QQ: only a repeat of the same code goes on.
    if flow is None or (flow.state is not None and not constant_time_compare(flow.state, state)):
        raise QQLoginError("state_invalid")
    return flow


def read_code(request: Request) -> str:
    """Return QQ's code from the address it sent the browser to; raises what QQ says in its place."""
    if request.query_params.get("usercancel", "0") != "0" or request.query_params.get("error") == "access_denied":
        raise QQLoginError("user_cancelled")
    if "error" in request.query_params:
        raise QQLoginError("qq_rejected")
    return read_parameter(request.query_params, "code", CODE)


def find_user(identity: QQIdentity) -> AbstractBaseUser | None:
    """Return the user the openid is bound to."""
    for binding in OAuthQQUser.objects.select_related("user").filter(openid=identity.openid):
        if binding.openid == identity.openid:  # MySQL compares without case
            user: AbstractBaseUser = binding.user
            return user
    return None


def refuse_by_account(user: AbstractBaseUser, status: int | None = None) -> None:
    """Raise account_refused for whom QQ is no way in: disabled accounts, and those that run the shop."""
    if not user.is_active or getattr(user, "is_staff", False) or getattr(user, "is_superuser", False):
        raise QQLoginError("account_refused", status=status)


def to_page(*, next: str | None, **params: str) -> HttpResponseRedirect:
    """Send the browser to the shop's page with `params`, and `next` as its `state`."""
    page, fragment_sign, fragment = (conf.CALLBACK_PAGE or "/").partition("#")
    query = urlencode(params) + ("" if next is None else f"&state={quote_next(next)}")
    return HttpResponseRedirect(f"{page}{'&' if '?' in page else '?'}{query}{fragment_sign}{fragment}")

"""QQTokenView, where a page trades its code for a login, and the three small views around it."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode, urlsplit

from django.contrib.auth import SESSION_KEY
from django.contrib.auth.base_user import AbstractBaseUser
from django.contrib.auth.signals import user_logged_in
from django.core.exceptions import TooManyFieldsSent
from django.db import IntegrityError, OperationalError, connections, router, transaction
from django.dispatch import Signal
from django.http import Http404, HttpResponse, HttpResponseRedirect
from django.http.response import HttpResponseBase
from django.urls import reverse
from django.utils.crypto import constant_time_compare
from django.utils.translation import override
from django.views.decorators.debug import sensitive_variables
from itsdangerous import BadData
from rest_framework.exceptions import MethodNotAllowed, ParseError, Throttled
from rest_framework.negotiation import DefaultContentNegotiation
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.serializers import BaseSerializer
from rest_framework.views import APIView

from .asking import identify, make_client
from .audit import hash_openid, mask_mobile, record
from .conf import conf
from .old_errors import (
    CACHE_ERRORS,
    QQLoginError,
    answer_error,
    as_api_error,
    code_of,
    hush,
    language_of,
    log_cache_error,
    retry_after,
    scrub,
)
from .flow import CODE_KEPT, MAX_TRIES, Flow, NoCookie, flow_id, hash_text, open_bind_token, open_sealed_code
from .inputs import (
    CODE,
    STATE,
    BoundedJSONParser,
    quote_next,
    read_bind_token,
    read_next,
    read_parameter,
    refuse_other_pages,
)
from .models import OAuthQQUser, find_user
from .qq import QQIdentity
from .signals import qq_bound, qq_logged_in
from .throttling import AddressThrottle

DEADLOCK = 1213  # MySQL's and MariaDB's ER_LOCK_DEADLOCK: the whole transaction is undone, and may be tried again

HEADERS = {
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
}


class OneRenderer(DefaultContentNegotiation):
    """There is one kind of answer, so what a client would accept is not asked."""

    def select_renderer(self, request: Request, renderers: Any, format_suffix: str | None = None) -> Any:
        return renderers[0], renderers[0].media_type


class QQView(APIView):
    """What the views share: nothing of the host's global settings, the shopper's language, no copies kept."""

    authentication_classes = permission_classes = ()
    parser_classes = (BoundedJSONParser,)
    renderer_classes = (JSONRenderer,)
    content_negotiation_class = OneRenderer
    versioning_class = metadata_class = None
    http_method_names = ["get", "post"]  # not HEAD: a look must not use anything up
    # What a call of each method is called in the audit log; its limit is the rate of that name.
    events: Mapping[str, str] = {}

    @classmethod
    def as_view(cls, **initkwargs: Any) -> Any:
        view = super().as_view(**initkwargs)
        for database in connections:  # no transaction of the host's stays open while QQ is asked
            transaction.non_atomic_requests(database)(view)
        return view

    def get_exception_handler(self) -> Any:
        return answer_error

    def get_throttles(self) -> list[Any]:
        event = self.events.get(str(self.request.method))
        return [AddressThrottle(f"qq_{event}")] if event else []

    def handle_exception(self, exc: Exception) -> Any:
        """Answer an error that is meant, and record it. A bug of ours goes on to Django, without the secrets."""
        error = as_api_error(exc)
        event = self.events.get(str(self.request.method))
        if isinstance(exc, CACHE_ERRORS):
            log_cache_error(exc)
        if error is None:
            scrub(self.request._request)
        elif event:
            field = next(iter(error.detail), None) if isinstance(error.detail, dict) else None
            reason = "no_cookie" if isinstance(error.__cause__, NoCookie) else code_of(error)
            record(self.request, event, "refused", reason=reason, field=field, **self.known)
        response = super().handle_exception(exc)
        if isinstance(error, QQLoginError) and error.code == "qq_busy":
            hush(response)
        return response

    @sensitive_variables()  # in an error report: here and further down they are codes, tokens and passwords
    def dispatch(self, request: Any, *args: Any, **kwargs: Any) -> HttpResponseBase:
        self.known: dict[str, Any] = {}  # of the person, for the audit log
        with override(language_of(request.META.get("HTTP_ACCEPT_LANGUAGE", ""))):
            response = super().dispatch(request, *args, **kwargs)
        for name, value in HEADERS.items():
            response.headers[name] = value
        if response.status_code >= 500:  # Django reports these too, with the request
            scrub(request)
        return response


class QQAuthorizationView(QQView):
    def get(self, request: Request) -> Response:
        """Tell the page where its QQ button leads: to login/, under each name the shops' pages read."""
        path = quote_next(read_next(request.query_params, "next", "state"))
        here = urlsplit(conf.REDIRECT_URI)  # not the request: behind a proxy it does not know the public address
        address = f"{here.scheme}://{here.netloc}{reverse('oauth:login')}?next={path}"
        return Response(dict.fromkeys(("login_url", "auth_url", "oauth_url", "url", "qq_login_url"), address))


class QQNavigationView(QQView):
    """A view a browser itself goes to: errors end on the shop's page, never in JSON."""

    next: str | None = None

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        # Not a person: the browser looks ahead, or a page, maybe of somebody else, has this address as a picture's.
        is_ahead = "prefetch" in request.META.get("HTTP_SEC_PURPOSE", "")
        if is_ahead or request.META.get("HTTP_SEC_FETCH_DEST", "document") != "document":
            raise NobodyCame
        super().initial(request, *args, **kwargs)

    def get_exception_handler(self) -> Any:
        return self.answer_error

    def handle_exception(self, exc: Exception) -> Any:
        if isinstance(exc, NobodyCame):
            return hush(HttpResponse(status=503))  # a browser that looked ahead asks again when the person comes
        if isinstance(exc, MethodNotAllowed):
            return HttpResponse(status=405)
        return super().handle_exception(exc)

    def answer_error(self, exc: Exception, context: Mapping[str, Any]) -> HttpResponse | None:
        error = as_api_error(exc)
        if not isinstance(error, (QQLoginError, Throttled, ParseError)):
            return None
        response = to_page(error=code_of(error), next=self.next)
        for name, value in retry_after(error).items():
            response.headers[name] = value
        return response


class NobodyCame(Exception):
    """No person has gone to the address: nothing is used up, and nothing counted."""


class QQLoginView(QQNavigationView):
    events = {"GET": "start"}

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        try:
            self.next = read_next(request.query_params, "next")
        finally:  # counted, whatever it asks for
            super().initial(request, *args, **kwargs)

    def get(self, request: Request) -> HttpResponse:
        """Begin a flow and send the browser to QQ."""
        assert self.next is not None
        if not conf.CLIENT_ID:
            raise QQLoginError("qq_misconfigured")
        flow = Flow.begin(self.next)
        assert flow.state is not None
        mobile = "Mobi" in request.META.get("HTTP_USER_AGENT", "")
        response = HttpResponseRedirect(make_client().get_authorization_url(flow.state, mobile=mobile))
        flow.make_room(request, response)
        flow.set_cookie(response)
        record(request, "start")
        return response


class QQCallbackView(QQNavigationView):
    events = {"GET": "callback"}

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        self.found: Flow | QQLoginError
        try:
            self.found = find_by_state(request)
            self.next = self.found.next  # before the limit is looked at: who has reached it keeps his target
        except QQLoginError as exc:
            self.found = exc
        finally:
            super().initial(request, *args, **kwargs)

    def get(self, request: Request) -> HttpResponse:
        """Take the browser back from QQ: check its state, keep the code, hand the page a sealed one."""
        if conf.is_direct:
            raise Http404
        if isinstance(self.found, QQLoginError):
            raise self.found
        flow = self.found
        if flow.state is None or not flow.add("state", True):
            raise QQLoginError("state_used")
        code = read_code(request)
        if flow.claim(code) is None:
            flow.put("code", code, CODE_KEPT)
        else:
            flow.put("said", {"error": "code_invalid"})  # another flow has brought it
        if not conf.REQUIRE_COOKIE:
            flow.put("next", flow.next)
        response = to_page(code=flow.seal_code(request), next=flow.next)
        flow.returned().set_cookie(response)
        record(request, "callback")
        return response


class QQTokenView(QQView):
    events = {"GET": "login", "POST": "bind"}

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        self.is_direct = conf.is_direct  # asked once, as it takes a while to tell
        refuse_other_pages(request)
        super().initial(request, *args, **kwargs)

    def check_throttles(self, request: Request) -> None:
        # Of a sealed code's GETs the one that asks QQ is not counted once more: callback/ has counted its browser.
        if request.method != "GET" or self.is_direct:
            super().check_throttles(request)

    def count(self) -> None:
        """Count a GET after all; raises Throttled."""
        if not self.is_direct:
            super().check_throttles(self.request)

    def get(self, request: Request) -> Response:
        """Log in whom QQ's code stands for, or hand out a bind token."""
        try:
            flow, code = self.unseal(request)  # whose browser; refused here or not at all
        except (QQLoginError, TooManyFieldsSent):
            self.count()
            raise
        identity = identify(request, flow, code, self.count)
        self.known["openid"] = hash_openid(identity.openid)
        user = find_user(identity.openid)
        if user is not None:
            response = self.login(user, flow)
            record(request, "login", **self.known)
        else:
            response = Response({"access_token": flow.make_bind_token(identity, request), "next": flow.next})
            record(request, "bind_token", **self.known)
        if flow.state is not None:
            flow.returned().set_cookie(response)
        return response

    def post(self, request: Request) -> Response:
        """Bind the openid a bind token proves to the account the form proves, and log in."""
        form: Any = request.data
        try:
            flow, identity = open_bind_token(request, read_bind_token(form))
        except BadData as exc:
            raise QQLoginError("bind_token_invalid") from exc
        self.known |= {"openid": hash_openid(identity.openid), "mobile": mask_mobile(form.get("mobile"))}
        # Where a shop reads from replicas, these may not know yet of who has just been bound.
        self.database = router.db_for_write(OAuthQQUser)
        bound_to = find_user(identity.openid, self.database)
        if bound_to is not None:
            return self.repeat(flow, bound_to)
        # Both are counted before it is known whether this try fails, so that no two tries count as one.
        failures = AddressThrottle("qq_bind_failed")
        if not failures.allow_request(request, self):
            raise Throttled(failures.wait())
        if flow.count_try() > MAX_TRIES:
            raise QQLoginError("bind_tries")
        context = {"request": request, "view": self, "attempt": flow.id}
        account = conf.load(conf.ACCOUNT_SERIALIZER)(data=form, context=context)
        try:
            account.is_valid(raise_exception=True)
            user = self.bind(account, identity, flow)
        except Throttled:  # by a limit of the shop's: nothing was tried
            flow.forgive_try()
            failures.forgive()
            raise
        except IntegrityError:
            if not OAuthQQUser.objects.using(self.database).filter(openid=identity.openid).exists():
                raise  # a clash of the shop's own, not for the openid
            return self.repeat(flow, find_user(identity.openid, self.database))
        try:
            failures.forgive()
        except CACHE_ERRORS as exc:  # the openid is bound, and who listens shall hear of it
            log_cache_error(exc)
        response = self.login(user, flow, qq_bound, id=user.pk)
        record(request, "bind", **self.known)
        return response

    def unseal(self, request: Request) -> tuple[Flow, str | None]:
        """Return the flow this call belongs to, and the code of QQ's where the call has one."""
        if self.is_direct:
            flow = find_by_state(request)
            told = hash_text(repr([request.query_params.getlist(name) for name in ("code", "error", "usercancel")]))
            first = flow.state is not None and flow.add("state", told)
            if not first and flow.get("state") != told:  # the page may repeat its call, but not change it
                raise QQLoginError("state_used")
            return flow, read_code(request)
        try:
            return open_sealed_code(request, read_parameter(request.query_params, "code", CODE)), None
        except BadData as exc:
            raise QQLoginError("code_invalid") from exc

    def bind(self, account: BaseSerializer[Any], identity: QQIdentity, flow: Flow) -> AbstractBaseUser:
        """Save the account and its binding together, or neither; once more if another transaction was in the way."""
        found = account.instance
        try:
            return self.save(account, identity, flow)
        except OperationalError as exc:
            if exc.args[:1] != (DEADLOCK,):
                raise
        account.instance = found  # else DRF takes the account that was made and undone for one to update
        return self.save(account, identity, flow)

    def save(self, account: BaseSerializer[Any], identity: QQIdentity, flow: Flow) -> AbstractBaseUser:
        with transaction.atomic(self.database):
            user: AbstractBaseUser = account.save()
            refuse_by_account(user, status=400)  # old pages show a message at this status only
            OAuthQQUser.objects.create(user_id=user.pk, openid=identity.openid, unionid=identity.unionid)
            # Before the end of the transaction: a process that dies right after it must have left this note.
            flow.note_bound(self.request.data, user.pk)
        return user

    def repeat(self, flow: Flow, user: AbstractBaseUser | None) -> Response:
        """Answer a form for a bound openid: with the login if it is the one that bound it, whose answer got lost."""
        if user is None or not flow.has_bound(self.request.data, user.pk):
            raise QQLoginError("already_bound")
        refuse_by_account(user, status=400)
        response = self.login(user, flow, id=user.pk)
        record(self.request, "bind", reason="repeated", **self.known)
        return response

    def login(self, user: AbstractBaseUser, flow: Flow, *signals: Signal, **more: Any) -> Response:
        """Answer with the shop's own login of `user`, and `more`; `signals` are sent before qq_logged_in."""
        self.known["user_id"] = user.pk
        refuse_by_account(user)
        payload: dict[str, Any] = conf.load(conf.LOGIN_PAYLOAD)(user, self.request)
        response = Response(payload | {"next": flow.next} | more)
        for signal in (*signals, qq_logged_in):
            signal.send(sender=type(user), request=self.request, user=user, response=response)
        session = getattr(self.request._request, "session", None)
        # Else the shop's payload, or a listener, has called Django's login(), which has sent it.
        if session is None or not session.modified or session.get(SESSION_KEY) != str(user.pk):
            user_logged_in.send(sender=type(user), request=self.request._request, user=user)
        return response


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


def refuse_by_account(user: AbstractBaseUser, status: int | None = None) -> None:
    """Raise account_refused for whom QQ is no way in: disabled accounts, and those that run the shop."""
    if not user.is_active or getattr(user, "is_staff", False) or getattr(user, "is_superuser", False):
        raise QQLoginError("account_refused", status=status)


def to_page(*, next: str | None, **params: str) -> HttpResponseRedirect:
    """Send the browser to the shop's page with `params`, and `next` as its `state`."""
    page, fragment_sign, fragment = (conf.CALLBACK_PAGE or "/").partition("#")
    query = urlencode(params) + ("" if next is None else f"&state={quote_next(next)}")
    return HttpResponseRedirect(f"{page}{'&' if '?' in page else '?'}{query}{fragment_sign}{fragment}")

"""One login: its cookie, the sealed code and the bind token.

login/ starts a flow with a state for QQ and a key for the browser's cookie. Every value handed out later names the flow
and carries the key's hash, so it is worthless in another browser. A phone app has no cookies: it makes the key itself
and sends it with each of its calls.
"""

import secrets
import time
from dataclasses import dataclass, field, replace
from typing import Any

from django.http import HttpRequest, QueryDict
from django.http.response import HttpResponseBase
from django.utils.crypto import constant_time_compare
from itsdangerous import BadData, BadSignature, SignatureExpired
from rest_framework.request import Request

from ..client_ip import get_client_ip
from ..conf import conf
from ..errors import QQLoginError
from ..qq import QQIdentity
from ..validation import APP_KEY, STATE, read_parameter
from . import lifetimes
from .cookies import drop_oldest_flows, get_cookie_name, get_flow_cookies, set_flow_cookie
from .purpose import Purpose
from .signing import hash_text, hash_with_each_secret_key, sign, verify
from .store import FlowStore


class NoCookie(BadSignature):
    """The request carries no flow cookie at all: most likely the page calls without credentials."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Flow:
    id: str
    next: str
    key_hash: str
    key: str | None = field(default=None, repr=False)  # None if the browser sent no cookie
    state: str | None = field(default=None, repr=False)  # None once QQ has sent it back
    purpose: str = Purpose.LOGIN
    is_app: bool = False  # begun by an app: the key comes from the app, not from a cookie

    @classmethod
    def start(cls, next: str, purpose: str = Purpose.LOGIN) -> "Flow":
        state, key = secrets.token_urlsafe(32), secrets.token_urlsafe(16)
        return cls(id=get_flow_id(state), next=next, key=key, key_hash=_hash_key(key), state=state, purpose=purpose)

    @classmethod
    def start_in_app(cls, key: str, purpose: str = Purpose.LOGIN) -> "Flow":
        """Return the flow of a key that an app has made. The same key is the same flow."""
        id = hash_text(f"app {key}")[:24]  # longer than a browser's: here the caller chooses what is hashed
        return cls(id=id, next="/", key=key, key_hash=_hash_key(key), purpose=purpose, is_app=True)

    @classmethod
    def find(cls, request: HttpRequest | Request, id: str) -> "Flow | None":
        """Return the flow whose cookie this browser sent, if we signed it and it is not too old."""
        try:
            payload, age = verify("flow", get_flow_cookies(request).get(get_cookie_name(id), ""))
        except BadData:
            return None
        if payload["id"] != id or age > _get_cookie_life(payload["state"]):
            return None
        key, purpose = payload["key"], payload.get("purpose", Purpose.LOGIN)
        known = {"next": payload["next"], "key_hash": _hash_key(key), "state": payload["state"]}
        return cls(id=id, key=key, purpose=purpose, **known)

    @property
    def store(self) -> FlowStore:
        return FlowStore(self.id)

    def set_cookie(self, response: HttpResponseBase) -> None:
        set_flow_cookie(response, self.id, self._sign_cookie(), _get_cookie_life(self.state))

    def set_first_cookie(self, request: HttpRequest | Request, response: HttpResponseBase) -> None:
        """Set the cookie and drop the browser's oldest flows if there are too many."""
        drop_oldest_flows(request, response, self.id, self._sign_cookie())
        self.set_cookie(response)

    def set_returned_cookie(self, response: HttpResponseBase) -> None:
        """Set the cookie again without the state, which is redeemed now."""
        replace(self, state=None).set_cookie(response)

    def seal_code(self, request: HttpRequest | Request) -> str:
        """Return the handle that the page gets in place of QQ's code. The code itself stays in the cache."""
        return sign("code", self._get_claims(request))

    def make_bind_token(self, identity: QQIdentity, request: HttpRequest | Request) -> str:
        """Return the signed proof that the user of this browser owns the openid."""
        claims = self._get_claims(request) | {"openid": identity.openid, "client_id": identity.client_id}
        return sign("bind", claims | ({"unionid": identity.unionid} if identity.unionid else {}))

    def _get_claims(self, request: HttpRequest | Request) -> dict[str, Any]:
        claims: dict[str, Any] = {"flow": self.id, "key": self.key_hash, **self._name_purpose()}
        if self.is_app:
            return claims | {"app": True}
        return claims if conf.REQUIRE_COOKIE else claims | {"client": _hash_client(request)[0]}

    def _name_purpose(self) -> dict[str, str]:
        return {} if self.purpose == Purpose.LOGIN else {"purpose": self.purpose}

    def _sign_cookie(self) -> str:
        at = time.time_ns() // 1_000_000  # the signature's own time has whole seconds, too few to order tabs by
        payload = {"id": self.id, "key": self.key, "next": self.next, "state": self.state, "at": at}
        return sign("flow", payload | self._name_purpose())


def find_flow_by_state(request: Request) -> Flow:
    """Return the flow this browser started with the state that it returns with from QQ. Changes nothing.

    Raises QQLoginError: state_missing, state_invalid.
    """
    state = read_parameter(request.query_params, "state", STATE)
    flow_id = get_flow_id(state)
    flow = Flow.find(request, flow_id)
    if flow is None and not get_flow_cookies(request):
        raise QQLoginError("state_invalid", reason="no_cookie", flow_id=flow_id)
    # A cookie without a state belongs to a flow that is back from QQ already. callback/ refuses it as state_used;
    # direct mode accepts the same query again.
    if flow is None or (flow.state is not None and not constant_time_compare(flow.state, state)):
        raise QQLoginError("state_invalid", flow_id=flow_id)
    return flow


def hash_returned_query(query: QueryDict) -> str:
    """Return a hash of what QQ has added to the address it sends the browser back to."""
    return hash_text(repr([query.getlist(name) for name in ("state", "code", "error", "usercancel")]))


def open_sealed_code(request: Request, sealed_code: str) -> Flow:
    """Return the flow of a sealed code. Raises QQLoginError if it is malformed, expired or another browser's."""
    claims: dict[str, Any] = {}
    try:
        claims, age = verify("code", sealed_code)
        flow = _find_owner(request, claims)
        if age > (lifetimes.SEALED_CODE if flow.key else lifetimes.COOKIELESS_SEALED_CODE):
            raise SignatureExpired("sealed code")
    except BadData as exc:
        raise QQLoginError("code_invalid", reason=_get_reason(exc), flow_id=claims.get("flow")) from exc
    return flow


def open_bind_token(request: Request, bind_token: str, key: Any, purpose: str) -> tuple[Flow, QQIdentity]:
    """Return the flow and the identity of a bind token.

    `key`: what the form has sent as the app's key; a browser sends its cookie instead. `purpose`: what it must be for.
    Raises QQLoginError if it is malformed, expired, another browser's or app's, or for another purpose.
    """
    claims: dict[str, Any] = {}
    try:
        claims, age = verify("bind", bind_token)
        if age > lifetimes.BIND_TOKEN:
            raise SignatureExpired("bind token")
        flow = _find_app(key, claims) if claims.get("app") else _find_owner(request, claims)
        if claims.get("purpose", Purpose.LOGIN) != purpose:
            raise BadSignature("for another purpose")
    except BadData as exc:
        raise QQLoginError("bind_token_invalid", reason=_get_reason(exc), flow_id=claims.get("flow")) from exc
    client_id = claims.get("client_id", "")
    return flow, QQIdentity(openid=claims["openid"], unionid=claims.get("unionid"), client_id=client_id)


def get_flow_id(state: str) -> str:
    """Return the name of a flow: of its cookie, of its cache entries, and in the audit log. It is no secret."""
    return hash_text(state)[:12]


def _find_owner(request: Request, claims: dict[str, Any]) -> Flow:
    """Return the flow that a signed value belongs to, if the browser that started it sent the value."""
    flow = Flow.find(request, claims["flow"])
    if flow is not None and constant_time_compare(flow.key_hash, claims["key"]):
        return flow
    cookies = get_flow_cookies(request)
    purpose = claims.get("purpose", Purpose.LOGIN)
    if conf.REQUIRE_COOKIE or purpose == Purpose.LINK:  # address and User-Agent are too little to add a QQ
        raise BadSignature("another browser's") if cookies else NoCookie("no flow cookie")
    # The page's calls may carry no cookies at all. If they carry another flow's, this one's absence is suspicious.
    is_same_client = any(constant_time_compare(hash, claims.get("client", "")) for hash in _hash_client(request))
    if cookies or not is_same_client:
        raise BadSignature("another client's")
    next = FlowStore(claims["flow"]).get_next() or "/"
    return Flow(id=claims["flow"], next=next, key_hash=claims["key"])


def _find_app(key: Any, claims: dict[str, Any]) -> Flow:
    """Return the flow of an app's bind token, if the app has sent the key of the flow."""
    is_key = isinstance(key, str) and APP_KEY.fullmatch(key)
    if not is_key or not constant_time_compare(_hash_key(key), claims["key"]):
        raise BadSignature("without the key of its login")
    return Flow.start_in_app(key, claims.get("purpose", Purpose.LOGIN))


def _hash_client(request: HttpRequest | Request) -> list[str]:
    """Return the client's address and User-Agent, hashed with each SECRET_KEY. Only they replace a missing cookie."""
    client = f"{get_client_ip(request)}\n{request.META.get('HTTP_USER_AGENT', '')}"
    return [hash[:32] for hash in hash_with_each_secret_key("qq-login.client", client)]


def _get_cookie_life(state: str | None) -> int:
    return lifetimes.STATE if state else lifetimes.RETURNED_COOKIE


def _get_reason(exc: BadData) -> str | None:
    return "no_cookie" if isinstance(exc, NoCookie) else None


def _hash_key(key: str) -> str:
    return hash_text(key)[:32]

"""One attempt to log in: its cookie, the sealed code, the bind token, and what the cache keeps of it.

All that is signed is signed here. A flow begins at login/ with a state for QQ and a key for the browser; everything
handed out later names the flow and carries the key's hash, so that it is worth nothing in another browser.
"""

import functools
import hashlib
import json
import logging
import re
import secrets
import time
from dataclasses import dataclass, field, replace
from typing import Any

from django.conf import settings
from django.core.cache import cache
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.utils.crypto import constant_time_compare, salted_hmac
from itsdangerous import BadData, BadSignature, SignatureExpired, URLSafeTimedSerializer
from rest_framework.request import Request

from .addresses import client_address
from .conf import conf
from .qq import QQIdentity
from .throttling import count, give_back

# Seconds.
STATE_LIFE = 10 * 60  # QQ's own code lives no longer
SEALED_LIFE = 2 * 60  # time for the page to load and call
COOKIELESS_SEALED_LIFE = 30
BIND_LIFE = 10 * 60  # time to get an SMS and fill in the form
RETURNED_LIFE = SEALED_LIFE + BIND_LIFE  # of the cookie, once the browser is back from QQ
REPEAT_LIFE = 60  # time for a page to send a form again whose answer got lost
CLOCK_TOLERANCE = 60  # between the clocks of two servers
CLOCK_ALARM = 5
# How long the cache remembers: past the last value that can ask. In direct mode the first cookie may be renewed
# until its own end.
KEPT = STATE_LIFE + RETURNED_LIFE + 2 * CLOCK_TOLERANCE
CODE_KEPT = SEALED_LIFE + 2 * CLOCK_TOLERANCE

MAX_FLOWS = 10  # in one browser: as many tabs as a person opens
MAX_COOKIES = 3072  # bytes, all flows' cookies together: a request's header has 8 KiB in most servers
MAX_SIGNED = 3072  # bytes, looked at before any work is done on them
MAX_TRIES = 5

logger = logging.getLogger(__name__)


class NoCookie(BadSignature):
    """A value of ours came without any login's cookie: most likely the page makes its calls without credentials."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Flow:
    id: str
    next: str
    key_hash: str
    key: str | None = field(default=None, repr=False)  # None where the browser sent no cookie
    state: str | None = field(default=None, repr=False)  # None once QQ has sent it back

    @classmethod
    def begin(cls, next: str) -> "Flow":
        state, key = secrets.token_urlsafe(32), secrets.token_urlsafe(16)
        return cls(id=flow_id(state), next=next, key=key, key_hash=_hash(key), state=state)

    @classmethod
    def find(cls, request: HttpRequest | Request, id: str) -> "Flow | None":
        """Return the flow whose cookie this browser sent, if it is ours and not too old."""
        try:
            held, age = _open("flow", flow_cookies(request).get(cookie_name(id), ""))
        except BadData:
            return None
        if held["id"] != id or age > (STATE_LIFE if held["state"] else RETURNED_LIFE):
            return None
        return cls(id=id, next=held["next"], key=held["key"], key_hash=_hash(held["key"]), state=held["state"])

    def returned(self) -> "Flow":
        """The flow once its state is used up."""
        return replace(self, state=None)

    def set_cookie(self, response: HttpResponseBase) -> None:
        response.set_cookie(
            cookie_name(self.id),
            self._cookie(),
            max_age=STATE_LIFE if self.state else RETURNED_LIFE,
            path="/",
            secure=conf.is_secure,
            httponly=True,
            samesite="Lax",
        )

    def make_room(self, request: HttpRequest | Request, response: HttpResponseBase) -> None:
        """Drop the browser's oldest flows so that this one's cookie fits in beside the rest."""
        dated, bent = [], []
        for name, value in flow_cookies(request).items():
            try:
                dated.append((_open("flow", value)[1], name, value))
            except BadData:
                bent.append(name)
        for name in bent[:MAX_FLOWS]:  # and no more: the answer's header has its bounds too
            _delete_cookie(response, name)
        dated.sort()  # the youngest first
        room = MAX_COOKIES - len(cookie_name(self.id)) - len(self._cookie())
        for place, (_age, name, value) in enumerate(dated, start=2):
            room -= len(name) + len(value)
            if place > MAX_FLOWS or room < 0:
                _delete_cookie(response, name)

    def seal_code(self, request: HttpRequest | Request) -> str:
        """Return the handle the page gets in place of QQ's code, which stays in the cache."""
        return _sign("code", self._whose(request))

    def make_bind_token(self, identity: QQIdentity, request: HttpRequest | Request) -> str:
        """Return the signed proof that this browser's person owns the openid."""
        held = self._whose(request) | {"openid": identity.openid}
        return _sign("bind", held | ({"unionid": identity.unionid} if identity.unionid else {}))

    # What the cache keeps of a flow, so that one flow does each thing once, in whatever worker.

    def add(self, what: str, value: Any) -> bool:
        """Remember `what`; False if it was remembered already, by any worker."""
        return cache.add(self._kept(what), value, KEPT)

    def put(self, what: str, value: Any, seconds: int = KEPT) -> None:
        cache.set(self._kept(what), value, seconds)

    def get(self, what: str) -> Any:
        return cache.get(self._kept(what))

    def take(self, what: str) -> Any:
        return take(self._kept(what))

    def claim(self, code: str) -> str | None:
        """Return the id of the flow that has brought QQ's code before; None if this one is the first."""
        # Under every key: while a new one is brought in, some servers know the old one only. In one order everywhere,
        # or each of two could have what the other lacks.
        for hash in sorted({*_hash_with_each_key("qq-login.seen-code", code)}):
            key = f"qq-login:code:{hash}"
            if not cache.add(key, self.id, KEPT):
                return str(cache.get(key))
        return None

    def count_try(self) -> int:
        return count(self._kept("tries"), KEPT)

    def forgive_try(self) -> None:
        give_back(self._kept("tries"))

    def note_bound(self, form: Any, user_id: Any) -> None:
        """Note whom the form has been bound to, for a browser that sends it again."""
        held = {"form": _hash_form(form), "user_id": user_id, "time": time.time()}
        self.put("bound", held, REPEAT_LIFE + CLOCK_TOLERANCE)

    def has_bound(self, form: Any, user_id: Any) -> bool:
        """Whether this very form was bound to this user in this flow a moment ago."""
        held = self.get("bound")
        return (
            held is not None
            and constant_time_compare(held["form"], _hash_form(form))
            and held["user_id"] == user_id
            and time.time() - held["time"] <= REPEAT_LIFE
        )

    def _whose(self, request: HttpRequest | Request) -> dict[str, str]:
        """What a signed value says of whose it is."""
        claim = {"flow": self.id, "key": self.key_hash}
        return claim if conf.REQUIRE_COOKIE else claim | {"client": _clients(request)[0]}

    def _kept(self, what: str) -> str:
        return f"qq-login:{self.id}:{what}"

    def _cookie(self) -> str:
        return _sign("flow", {"id": self.id, "key": self.key, "next": self.next, "state": self.state})


def take(key: str) -> Any:
    """Return what the cache keeps under the key, and keep it no longer: of all who ask for it, one gets it."""
    get_and_delete = getattr(cache, "get_and_delete", None)  # no method of Django's: one trip in place of two
    if get_and_delete is not None:
        return get_and_delete(key)
    value = cache.get(key)
    return value if value is not None and cache.delete(key) else None


def open_sealed_code(request: Request, sealed: str) -> Flow:
    """Return the flow of a sealed code; raises BadData if it is bent, late or another browser's."""
    held, age = _open("code", sealed)
    if age > SEALED_LIFE:
        raise SignatureExpired("sealed code")
    flow = _holder(request, held)
    if flow.key is None and age > COOKIELESS_SEALED_LIFE:
        raise SignatureExpired("sealed code")
    return flow


def open_bind_token(request: Request, bind_token: str) -> tuple[Flow, QQIdentity]:
    """Return what a bind token proves; raises BadData if it is bent, late or another browser's."""
    held, age = _open("bind", bind_token)
    if age > BIND_LIFE:
        raise SignatureExpired("bind token")
    return _holder(request, held), QQIdentity(openid=held["openid"], unionid=held.get("unionid"))


def _holder(request: Request, held: dict[str, str]) -> Flow:
    """Return the flow a signed value belongs to, if it came from the browser that began it."""
    flow = Flow.find(request, held["flow"])
    if flow is not None and constant_time_compare(flow.key_hash, held["key"]):
        return flow
    if conf.REQUIRE_COOKIE and not flow_cookies(request):
        raise NoCookie("no login's cookie")
    # A shop may have pages whose calls carry no cookie at all. A cookie of another flow shows that this one's do.
    is_client = any(constant_time_compare(client, held.get("client", "")) for client in _clients(request))
    if conf.REQUIRE_COOKIE or flow_cookies(request) or not is_client:
        raise BadSignature("another browser's")
    stranger = Flow(id=held["flow"], next="/", key_hash=held["key"])
    return replace(stranger, next=stranger.get("next") or "/")


def flow_id(state: str) -> str:
    return hash_text(state)[:12]


def cookie_name(id: str) -> str:
    # A browser takes a __Host- cookie only over https, and from no other host: a sibling cannot plant it.
    return f"__Host-qq_flow_{id}" if conf.is_secure else f"qq_flow_{id}"


def flow_cookies(request: HttpRequest | Request) -> dict[str, str]:
    """Return the flow cookies the browser sent, and nothing that only looks like one.

    They are read from the header itself: Django strips every blank of Unicode from a name, so to it a cookie that a
    sibling host has planted under such a blank and `__Host-` bears the name that no sibling can give.
    """
    ours = re.compile(cookie_name("[0-9a-f]{12}"))
    cookies = (cookie.strip(" \t").partition("=") for cookie in request.META.get("HTTP_COOKIE", "").split(";"))
    return {name: value for name, _, value in cookies if ours.fullmatch(name)}


def hash_text(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _clients(request: HttpRequest | Request) -> list[str]:
    """Whoever calls, hashed with each key, for shops whose pages send no cookie."""
    who = f"{client_address(request)}\n{request.META.get('HTTP_USER_AGENT', '')}"
    return [hash[:32] for hash in _hash_with_each_key("qq-login.client", who)]


def _hash_form(form: Any) -> str:
    return _hash_with_each_key("qq-login.form", json.dumps(form, sort_keys=True))[0]


def _hash_with_each_key(purpose: str, text: str) -> list[str]:
    """Return the keyed hashes of a text, the one with the newest key first."""
    return [salted_hmac(purpose, text, secret=key, algorithm="sha256").hexdigest() for key in _keys()]


def _keys() -> list[str]:
    """The newest first."""
    return [settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS]


def _hash(key: str) -> str:
    return hash_text(key)[:32]


def _delete_cookie(response: HttpResponseBase, name: str) -> None:
    response.delete_cookie(name, path="/", samesite="Lax")


@functools.cache
def _serializer(purpose: str, *keys: str) -> URLSafeTimedSerializer:
    return URLSafeTimedSerializer(
        list(reversed(keys)),  # itsdangerous signs with the last
        salt=f"qq-login.{purpose}.v1",
        signer_kwargs={"key_derivation": "hmac", "digest_method": hashlib.sha256},
    )


def _sign(purpose: str, held: dict[str, Any]) -> str:
    signed = _serializer(purpose, *_keys()).dumps({**held, "type": purpose})
    return signed if isinstance(signed, str) else signed.decode()


def _open(purpose: str, signed: str) -> tuple[dict[str, Any], int]:
    """Return what was signed for `purpose`, and its age in seconds; raises BadData."""
    if len(signed) > MAX_SIGNED:
        raise BadSignature("too long")
    try:
        # The library's own max_age refuses a value from a clock a second ahead of ours.
        held, signed_at = _serializer(purpose, *_keys()).loads(signed, return_timestamp=True)
    except (BadData, ValueError, OverflowError, OSError) as exc:
        # Before 2.1.2 the library reads the time of what nobody has signed, too.
        raise BadSignature("not signed by us") from exc
    age = int(time.time()) - int(signed_at.timestamp())
    if age < -CLOCK_ALARM:
        logger.error("The clocks of the shop's servers differ by %s seconds or more.", -age)
    if age < -CLOCK_TOLERANCE:
        raise SignatureExpired("from the future")
    if held.get("type") != purpose:  # as the salt says already: neither has to be trusted alone
        raise BadSignature("signed for another purpose")
    return held, age

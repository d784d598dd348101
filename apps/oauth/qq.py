"""Speak QQ Connect's OAuth 2.0. Knows neither Django nor the shop.

Facts about the answers come from QQ's wiki: 使用Authorization_Code获取Access_Token, 获取用户OpenID_OAuth2.0,
UnionID介绍 and 公共返回码说明.
"""

import json
import logging
import os
import re
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, quote_plus, urlencode, urlsplit

from .connections import Connections, NoAnswer, NoPlace, Resting, is_in_exchange

logger = logging.getLogger(__name__)

API_URL = "https://graph.qq.com"
MAX_BODY = 64 * 1024  # bytes; real answers have a few hundred
HEADERS = {"User-Agent": "meiduo-qq-login", "Accept-Encoding": "identity"}  # without a User-Agent: empty bodies seen

# 公共返回码说明, by what the caller can do about it. Every other number is QQ's own trouble: try later.
# 100005 is a code that is missing or of no shape QQ knows. We never leave it out: the shopper brought that one.
REJECTED = {100005, 100013, 100014, 100015, 100016, 100019, 100020, 100030, 110201}
MISCONFIGURED = {
    *range(100000, 100005), *range(100006, 100013), 100028, 100029, 100031, 100044, 100048,
    110401, 110404, 110406, 110407,
}  # fmt: skip
NO_UNIONID_RIGHT = 100048

TOKEN = re.compile(r"[A-Za-z0-9._~-]{1,512}")
OPENID = re.compile(r"[0-9A-Fa-f]{32}")
UNIONID = re.compile(r"[A-Za-z0-9_-]{1,64}")
CALLBACK = re.compile(r"\s*callback\(\s*(\{.*\})\s*\)\s*;?\s*", re.DOTALL)


class QQError(Exception):
    """Talking to QQ failed. `number` is QQ's own error number, where it gave one."""

    def __init__(self, reason: str, number: int | None = None) -> None:
        super().__init__(reason)
        self.number = number


class QQRejected(QQError):
    """QQ does not accept this code or token (any more): the shopper must sign in again."""


class QQMisconfigured(QQError):
    """Our app id, key, redirect_uri or rights are wrong: the operator must act."""


class QQBusy(QQError):
    """Too many calls to QQ are open: nothing was sent, the same call may be repeated later."""


class QQUnavailable(QQError):
    """No usable answer (time-out, server error, unreadable body): the shopper starts again."""


class QQForeignToken(QQUnavailable):
    """QQ says the access_token was made for another application: somebody tries to pass it off here."""


@dataclass(frozen=True, kw_only=True, slots=True)
class QQIdentity:
    openid: str
    unionid: str | None = None


_connections: dict[tuple[str, int], Connections] = {}
_connecting = threading.Lock()


def connect(api_url: str, maximum: int) -> Connections:
    """Return this process's one set of connections to `api_url`."""
    key = api_url, maximum
    with _connecting:
        if key not in _connections:
            _connections[key] = Connections(api_url, maximum)
        return _connections[key]


def forget_connections() -> None:
    """Close what is idle, and begin anew: in a process that was forked off, which must not speak on its parent's."""
    global _connecting
    _connecting = threading.Lock()  # another thread of the parent's may have held it
    for connections in _connections.values():
        connections.close()
    _connections.clear()


if sys.platform != "win32":  # pragma: no branch  which does not fork
    os.register_at_fork(after_in_child=forget_connections)


class OAuthQQ:
    """Speak to QQ on behalf of one registered application."""

    def __init__(
        self,
        *,
        client_id: str,
        client_secret: str,
        redirect_uri: str,
        api_url: str = API_URL,
        timeout: float = 5.0,
        max_connections: int = 48,
        unionid: bool = False,
    ) -> None:
        """Name the application, as registered with QQ.

        `timeout`: seconds for a whole exchange. `max_connections`: calls this process has open at once.
        `unionid`: ask for the unionid too, at one more request.
        """
        self.client_id = client_id
        self.redirect_uri = redirect_uri
        self.unionid = unionid
        self.timeout = timeout
        self._api_url = api_url.rstrip("/")
        self._path = urlsplit(self._api_url).path
        # What each question about a code says alike, encoded once; the key is in it.
        self._registration = urlencode(
            {
                "grant_type": "authorization_code",
                "client_id": client_id,
                "client_secret": client_secret,
                "redirect_uri": redirect_uri,
                "fmt": "json",
            }
        )
        self._max_connections = max_connections

    @property
    def _connections(self) -> Connections:
        return connect(self._api_url, self._max_connections)

    def get_authorization_url(self, state: str, *, mobile: bool = False) -> str:
        """Return the address that shows QQ's login page, laid out for a phone if `mobile`."""
        params = {
            "response_type": "code",
            "client_id": self.client_id,
            "redirect_uri": self.redirect_uri,
            "state": state,
            "scope": "get_user_info",
        }
        if mobile:
            params["display"] = "mobile"
        return f"{self._api_url}/oauth2.0/authorize?{urlencode(params)}"

    def get_access_token(self, code: str) -> str:
        """Swap the authorization code, which QQ takes once, for an access_token. Raises QQError."""
        return _text(self._token(code), "access_token", TOKEN)

    def get_openid(self, access_token: str) -> str:
        """Return the openid behind an access_token of ours. Raises QQError."""
        return self._me(access_token).openid

    def identify(self, code: str) -> QQIdentity:
        """Go from a code to a person by the fewest requests QQ allows, all within one time-out. Raises QQError."""
        with self.exchange():
            answer = self._token(code, "&need_openid=1")
            access_token = _text(answer, "access_token", TOKEN)
            # QQ may leave the openid out, however asked.
            told = _text(answer, "openid", OPENID) if answer.get("openid") else None
            if told and not self.unionid:
                return QQIdentity(openid=told)
            try:
                identity = self._me(access_token, unionid=self.unionid)
            except QQMisconfigured as exc:
                if exc.number != NO_UNIONID_RIGHT:
                    raise
                # That refusal takes the openid with it.
                identity = QQIdentity(openid=told) if told else self._me(access_token, repeat=False)
            if told and told != identity.openid:
                raise QQUnavailable("two different openids for one code")
            return identity

    @contextmanager
    def exchange(self, is_back: Callable[[], bool] = lambda: False) -> Iterator[None]:
        """Take one of the process's places; calls and exchanges made inside share it, and the time from the first on.

        `is_back` says whether the caller has met QQBusy before; it is asked only where that matters. Before anything
        is sent, raises QQBusy if no place is free, and QQUnavailable while QQ is left alone because it has failed
        again and again.
        """
        try:
            with nullcontext() if is_in_exchange() else self._connections.exchange(self.timeout, is_back):
                yield
        except NoPlace:
            raise QQBusy("no place is free") from None
        except Resting:
            raise QQUnavailable("left alone after repeated failures") from None

    def promise(self) -> float:
        """Promise a place to a caller that has met QQBusy; return in how many seconds it is free."""
        return self._connections.promise()

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Take one of the places for those who wait for what QQ says to another call. Raises QQBusy."""
        try:
            with self._connections.waiting():
                yield
        except NoPlace:
            raise QQBusy("no place is free for waiting") from None

    def _token(self, code: str, more: str = "") -> dict[str, Any]:
        return self._get("/oauth2.0/token", f"{self._registration}&code={quote_plus(code)}{more}")

    def _me(self, access_token: str, *, unionid: bool = False, repeat: bool = True) -> QQIdentity:
        query = urlencode({"access_token": access_token, "fmt": "json"} | ({"unionid": "1"} if unionid else {}))
        with self.exchange():
            try:
                answer = self._get("/oauth2.0/me", query)
            except QQUnavailable as exc:
                if exc.number is not None or not repeat:
                    raise
                answer = self._get("/oauth2.0/me", query)  # asking twice spends nothing, unlike a code
        if answer.get("client_id") != self.client_id:
            # A token made for another application must not log its owner in here (RFC 6749, 10.16).
            logger.error("QQ says the access_token belongs to another client_id than ours.")
            raise QQForeignToken("a token of another client_id")
        return QQIdentity(
            openid=_text(answer, "openid", OPENID),
            unionid=_text(answer, "unionid", UNIONID) if unionid and answer.get("unionid") else None,
        )

    def _get(self, path: str, query: str) -> dict[str, Any]:
        """GET one of QQ's addresses and return what it answered. Raises QQError."""
        with self.exchange():
            is_good = False
            try:
                status, body = self._connections.get(f"{self._path}{path}?{query}", headers=HEADERS, max_body=MAX_BODY)
                if status != 200:
                    raise QQUnavailable(f"{path}: status {status}")
                answer = read_answer(body.decode(errors="replace"))  # always UTF-8, whatever the Content-Type says
                is_good = True
            except NoAnswer as exc:
                raise QQUnavailable(f"{path}: {exc}") from None
            except QQError as exc:
                # Any numbered answer: else codes that somebody makes up could keep everybody from QQ.
                is_good = exc.number is not None
                raise
            finally:
                self._connections.judge(is_good)
            return answer


def read_answer(text: str) -> dict[str, Any]:
    """Read any of QQ's three formats: JSON, `callback( {…} );` or a form, whichever was asked for.

    Raises the QQError that an error answer stands for (its status is 200 like any other), and
    QQUnavailable for anything else than exactly one answer.
    """
    wrapped = CALLBACK.fullmatch(text)
    try:
        if wrapped or text.lstrip().startswith("{"):
            answer = read_json(wrapped[1] if wrapped else text)
        else:
            answer = unique(parse_qsl(text.strip(), keep_blank_values=True, strict_parsing=True))
    except (ValueError, RecursionError):
        raise QQUnavailable("an unreadable answer") from None
    if "error" in answer:
        number = str(answer["error"])
        if not re.fullmatch(r"-?[0-9]{1,9}", number):
            raise QQUnavailable("an error without a number")
        raise _error(int(number))
    return dict(answer)


def _error(number: int) -> QQError:
    kind = QQRejected if number in REJECTED else QQMisconfigured if number in MISCONFIGURED else QQUnavailable
    return kind(f"QQ answered with error {number}", number)


def read_json(text: str) -> Any:
    """Return what the JSON text says; raises ValueError for what can be read in two ways, and RecursionError."""
    return json.loads(text, object_pairs_hook=unique, parse_constant=_refuse)


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is no JSON")


def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return the pairs as a dict; raises ValueError if a name comes twice, as readers differ on which one counts."""
    answer = dict(pairs)
    if len(answer) != len(pairs):
        raise ValueError("a name twice")
    return answer


def _text(answer: dict[str, Any], name: str, shape: re.Pattern[str]) -> str:
    value = answer.get(name)
    if not isinstance(value, str) or not shape.fullmatch(value):
        raise QQUnavailable(f"an answer without a proper {name}")
    return value

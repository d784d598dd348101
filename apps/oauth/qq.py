"""Speak QQ Connect's OAuth 2.0. Knows neither Django nor the shop.

Facts about the answers come from QQ's wiki: 使用Authorization_Code获取Access_Token, 获取用户OpenID_OAuth2.0,
UnionID介绍 and 公共返回码说明.
"""

import json
import logging
import re
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

from urllib3 import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import HTTPError, NewConnectionError

API_URL = "https://graph.qq.com"
CONNECT_TIMEOUT = 2.0  # seconds, for each address of the host and for the TLS handshake
MAX_BODY = 64 * 1024  # bytes; real answers have a few hundred
HEADERS = {"User-Agent": "meiduo-qq-login", "Accept-Encoding": "identity"}  # without a User-Agent: empty bodies seen

# 公共返回码说明, by what the caller can do about it. Every other number is QQ's own trouble: try later.
REJECTED = {100013, 100014, 100015, 100016, 100019, 100020, 100030, 110201}
MISCONFIGURED = {*range(100000, 100013), 100028, 100029, 100031, 100044, 100048, 110401, 110404, 110406, 110407}
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
    """Too many calls to QQ are open: nothing was sent, the same call may be repeated."""


class QQUnavailable(QQError):
    """No usable answer (time-out, server error, unreadable body): the shopper starts again."""


@dataclass(frozen=True, kw_only=True, slots=True)
class QQIdentity:
    openid: str
    unionid: str | None = None


class Connections:
    """One process's connections to QQ: a keep-alive pool, and a limit on how many calls are open at once."""

    def __init__(self, api_url: str, maximum: int) -> None:
        self.calls = threading.BoundedSemaphore(maximum)
        self.waits = threading.BoundedSemaphore(max(1, maximum // 4))
        address = urlsplit(api_url)
        self.pool: HTTPConnectionPool
        if address.scheme == "https":
            # Made once: reading the trust store costs more than the rest of a login together.
            self.pool = HTTPSConnectionPool(
                address.hostname or "", address.port, maxsize=maximum, ssl_context=ssl.create_default_context()
            )
            self.pool.ConnectionCls = _WatchedHTTPS
        else:
            self.pool = HTTPConnectionPool(address.hostname or "", address.port, maxsize=maximum)
            self.pool.ConnectionCls = _Watched


_connections: dict[tuple[str, int], Connections] = {}
_connecting = threading.Lock()


def connect(api_url: str, maximum: int) -> Connections:
    """Return this process's one set of connections to `api_url`."""
    with _connecting:
        if (api_url, maximum) not in _connections:
            _connections[api_url, maximum] = Connections(api_url, maximum)
        return _connections[api_url, maximum]


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
        self._client_secret = client_secret
        self._connections = connect(self._api_url, max_connections)

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
            answer = self._token(code, need_openid="1")
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
                identity = QQIdentity(openid=told) if told else self._me(access_token)
            if told and told != identity.openid:
                raise QQUnavailable("two different openids for one code")
            return identity

    @contextmanager
    def exchange(self) -> Iterator[None]:
        """Take one of the process's places and start the clock; calls made inside share both.

        Raises QQBusy if no place is free, before anything is sent.
        """
        if _deadline.get() is not None:
            yield
            return
        with _place(self._connections.calls):
            deadline = _Deadline(self.timeout)
            before = _deadline.set(deadline)
            try:
                yield
            finally:
                _deadline.reset(before)
                deadline.cancel()

    def waiting(self) -> AbstractContextManager[None]:
        """Take one of the places for calls that wait for another's exchange: fewer, as they too hold a thread.

        Raises QQBusy if none is free.
        """
        return _place(self._connections.waits)

    def _token(self, code: str, **extra: str) -> dict[str, Any]:
        return self._get(
            "/oauth2.0/token",
            grant_type="authorization_code",
            client_id=self.client_id,
            client_secret=self._client_secret,
            code=code,
            redirect_uri=self.redirect_uri,
            fmt="json",
            **extra,
        )

    def _me(self, access_token: str, *, unionid: bool = False) -> QQIdentity:
        params = {"access_token": access_token, "fmt": "json"} | ({"unionid": "1"} if unionid else {})
        with self.exchange():
            try:
                answer = self._get("/oauth2.0/me", **params)
            except QQUnavailable as exc:
                if exc.number is not None or _running().me_repeated:
                    raise
                _running().me_repeated = True
                answer = self._get("/oauth2.0/me", **params)  # asking twice spends nothing, unlike a code
        if answer.get("client_id") != self.client_id:
            # A token made for another application must not log its owner in here (RFC 6749, 10.16).
            logger.error("QQ says the access_token belongs to another client_id than ours.")
            raise QQUnavailable("a token of another client_id")
        return QQIdentity(
            openid=_text(answer, "openid", OPENID),
            unionid=_text(answer, "unionid", UNIONID) if unionid and answer.get("unionid") else None,
        )

    def _get(self, path: str, **params: str) -> dict[str, Any]:
        """GET one of QQ's addresses and return what it answered. Raises QQError."""
        with self.exchange():
            deadline = _running()
            try:
                response = self._connections.pool.urlopen(
                    "GET",
                    f"{urlsplit(self._api_url).path}{path}?{urlencode(params)}",
                    headers=HEADERS,
                    retries=False,
                    redirect=False,  # the address holds the key: it goes nowhere else
                    timeout=deadline.left(),
                    preload_content=False,
                )
                try:
                    body = response.read(MAX_BODY + 1, decode_content=False)
                finally:
                    response.close()  # a connection whose answer was read to its end is back in the pool by now
            except (HTTPError, OSError, ValueError) as exc:  # ValueError: of http.client, for a chunk of -5 bytes
                # The error's text quotes the address, and with it the key: only its kind goes on.
                raise QQUnavailable(f"{path}: {type(exc).__name__}") from None
            if deadline.passed:
                raise QQUnavailable(f"{path}: out of time")
            if response.status != 200 or len(body) > MAX_BODY:
                raise QQUnavailable(f"{path}: status {response.status}, at least {len(body)} bytes")
            return read_answer(body.decode(errors="replace"))  # always UTF-8, whatever the Content-Type says


def read_answer(text: str) -> dict[str, Any]:
    """Read any of QQ's three formats: JSON, `callback( {…} );` or a form, whichever was asked for.

    Raises the QQError that an error answer stands for (its status is 200 like any other), and
    QQUnavailable for anything else than exactly one answer.
    """
    wrapped = CALLBACK.fullmatch(text)
    try:
        if wrapped or text.lstrip().startswith("{"):
            answer = json.loads(wrapped[1] if wrapped else text, object_pairs_hook=unique)
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


@contextmanager
def _place(places: threading.BoundedSemaphore) -> Iterator[None]:
    if not places.acquire(blocking=False):
        raise QQBusy("no place is free")
    try:
        yield
    finally:
        places.release()


class _Deadline:
    """The end of one exchange by the clock on the wall.

    urllib3's time-outs start anew at every read, so a byte a second outlives them. At the deadline the socket is
    shut down under whoever reads from it.
    """

    def __init__(self, seconds: float) -> None:
        self.passed = False
        self.me_repeated = False
        self._ends = time.monotonic() + seconds
        self._watched: tuple[_Watched, socket.socket] | None = None
        self._timer = threading.Timer(seconds, self._cut)
        self._timer.daemon = True
        try:
            self._timer.start()
        except RuntimeError:
            raise QQBusy("no thread is to be had") from None

    def left(self) -> float:
        """Seconds left; raises TimeoutError if there are none."""
        left = self._ends - time.monotonic()
        if left <= 0:
            raise TimeoutError
        return left

    def watch(self, connection: "_Watched") -> None:
        """Shut `connection` down at the deadline; raises TimeoutError if that is over."""
        connection.deadline = self
        # The socket too: where QQ closes after its answer, http.client lets go of it before the body is read.
        self._watched = connection, connection.sock
        self.left()

    def cancel(self) -> None:
        self._timer.cancel()

    def _cut(self) -> None:
        self.passed = True
        # Back in the pool, the connection may serve somebody else by now.
        if self._watched is not None and self._watched[0].deadline is self:
            # Not SSLSocket's own, which would pull the TLS layer from under the reading thread.
            with suppress(OSError):  # the other side was faster
                socket.socket.shutdown(self._watched[1], socket.SHUT_RDWR)


_deadline: ContextVar[_Deadline | None] = ContextVar("qq_deadline", default=None)


def _running() -> _Deadline:
    deadline = _deadline.get()
    assert deadline is not None, "calls to QQ are made inside an exchange"
    return deadline


class _Watched(HTTPConnection):
    """A connection whose current exchange ends at its deadline."""

    deadline: _Deadline | None = None

    def request(self, *args: Any, **kwargs: Any) -> None:
        if self.is_closed:
            self.connect()
        _running().watch(self)
        super().request(*args, **kwargs)

    def _new_conn(self) -> socket.socket:
        # urllib3 gives each address of a host the whole time-out, and the TLS handshake once more.
        for *_, address in socket.getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM):
            try:
                sock = socket.create_connection((str(address[0]), self.port), self._limit())
                sock.settimeout(self._limit())
                return sock
            except OSError as exc:
                failure = exc
        raise NewConnectionError(self, type(failure).__name__)

    def _limit(self) -> float:
        return min(CONNECT_TIMEOUT, _running().left())


class _WatchedHTTPS(_Watched, HTTPSConnection):
    pass


def _drop_query(record: logging.LogRecord) -> bool:
    """Keep the key, codes and tokens out of urllib3's log, which quotes the addresses it asked for."""
    record.msg, record.args = re.sub(r"(/oauth2\.0/\w+)\?\S*", r"\1", record.getMessage()), None
    return True


logger = logging.getLogger(__name__)
for _name in ("urllib3.connection", "urllib3.connectionpool"):
    logging.getLogger(_name).addFilter(_drop_query)

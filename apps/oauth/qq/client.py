"""The client of QQ Connect for one registered application."""

import logging
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote_plus, urlencode, urlsplit

from .answers import OPENID, TOKEN, UNIONID, decode_answer, get_field
from .errors import (
    NO_UNIONID_RIGHT,
    QQBusy,
    QQCertificateError,
    QQCircuitOpen,
    QQError,
    QQForeignToken,
    QQMisconfigured,
    QQUnavailable,
)
from .resilience import Attempt, Bulkhead, BulkheadFull, CircuitBreaker, CircuitOpen, Deadline, Slot
from .transport import CertificateError, ConnectionPool, TransportError

logger = logging.getLogger(__name__)

API_URL = "https://graph.qq.com"
MAX_BODY = 64 * 1024  # bytes; real answers have a few hundred
HEADERS = {"User-Agent": "meiduo-qq-login", "Accept-Encoding": "identity"}  # without a User-Agent: empty bodies


@dataclass(frozen=True, kw_only=True, slots=True)
class QQIdentity:
    openid: str
    unionid: str | None = None


class _Upstream:
    """State shared by this process's calls to one address."""

    def __init__(self, api_url: str, max_concurrency: int) -> None:
        self.pool = ConnectionPool(api_url)
        self.bulkhead = Bulkhead(max_concurrency)
        self.followers = Bulkhead(max(1, max_concurrency // 4))
        self.breaker = CircuitBreaker()


_upstreams: dict[tuple[str, int], _Upstream] = {}
_upstreams_lock = threading.Lock()


def forget_connections() -> None:
    """Close idle connections and start anew. A forked child needs this: it must not use its parent's connections."""
    global _upstreams_lock
    _upstreams_lock = threading.Lock()  # another thread of the parent may have held it
    for upstream in _upstreams.values():
        upstream.pool.close()
    _upstreams.clear()


if sys.platform != "win32":  # pragma: no branch  (Windows does not fork)
    os.register_at_fork(after_in_child=forget_connections)


class OAuthQQ:
    """A registered application's client of QQ. Every method that calls QQ raises QQError."""

    def __init__(
        self,
        *,
        client_id: str,
        client_secret: str,
        redirect_uri: str,
        api_url: str = API_URL,
        timeout: float = 5.0,
        max_concurrency: int = 48,
        unionid: bool = False,
    ) -> None:
        """Take the application's data as registered with QQ.

        `timeout`: seconds for all requests of an exchange. `max_concurrency`: exchanges at once in this process.
        `unionid`: also ask for the unionid, which takes one more request.
        """
        self.client_id = client_id
        self.redirect_uri = redirect_uri
        self.unionid = unionid
        self.timeout = timeout
        self._api_url = api_url.rstrip("/")
        self._max_concurrency = max_concurrency
        self._base_path = urlsplit(self._api_url).path
        # The part that all token requests share, encoded once. Contains the secret.
        self._token_query = urlencode(
            {
                "grant_type": "authorization_code",
                "client_id": client_id,
                "client_secret": client_secret,
                "redirect_uri": redirect_uri,
                "fmt": "json",
            }
        )

    def get_authorization_url(self, state: str, *, mobile: bool = False) -> str:
        """Return the address of QQ's login page, in its phone layout if `mobile`."""
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
        """Exchange the authorization code, which QQ accepts once, for an access_token."""
        with self.exchange() as exchange:
            return exchange.get_access_token(code)

    def get_openid(self, access_token: str) -> str:
        """Return the openid of an access_token that was issued to this application."""
        with self.exchange() as exchange:
            return exchange.get_openid(access_token)

    def identify(self, code: str) -> QQIdentity:
        """Return the identity of the user whom the code was issued for, in as few requests as possible."""
        with self.exchange() as exchange:
            return exchange.identify(code)

    @contextmanager
    def exchange(self, *, is_new: bool = False) -> Iterator["Exchange"]:
        """Take a slot for one or more requests; not to be nested. Raises QQBusy and QQCircuitOpen.

        `is_new`: leave some slots to callers that got QQBusy before, while they are expected.
        """
        upstream = self._upstream
        try:
            with upstream.bulkhead.slot(is_new=is_new) as slot, upstream.breaker.attempt() as attempt:
                yield Exchange(self, upstream.pool, slot, attempt)
        except BulkheadFull:
            raise QQBusy("all slots are in use") from None
        except CircuitOpen:
            raise QQCircuitOpen("the circuit is open after repeated failures") from None

    @contextmanager
    def follower_slot(self) -> Iterator[None]:
        """Take a slot to wait for an exchange of another call: waiting holds a thread too. Raises QQBusy.

        At most a quarter of the slots can be taken like this.
        """
        upstream = self._upstream
        try:
            with upstream.followers.slot(), upstream.bulkhead.slot():
                yield
        except BulkheadFull:
            raise QQBusy("all follower slots are in use") from None

    def expects_retries(self) -> bool:
        """Return whether callers that got QQBusy are expected to try again."""
        return self._upstream.bulkhead.expects_retries()

    def schedule_retry(self) -> float:
        """Return the seconds after which a caller that got QQBusy should try again."""
        return self._upstream.bulkhead.schedule_retry()

    @property
    def _upstream(self) -> _Upstream:
        key = self._api_url, self._max_concurrency
        with _upstreams_lock:
            if key not in _upstreams:
                _upstreams[key] = _Upstream(*key)
            return _upstreams[key]


class Exchange:
    """Requests to QQ that share a slot and a deadline, which starts at the first request."""

    def __init__(self, client: OAuthQQ, pool: ConnectionPool, slot: Slot, attempt: Attempt) -> None:
        self._client = client
        self._pool = pool
        self._slot = slot
        self._attempt = attempt
        self._deadline = Deadline(client.timeout)

    def get_access_token(self, code: str) -> str:
        return get_field(self._request_token(code), "access_token", TOKEN)

    def get_openid(self, access_token: str) -> str:
        return self._request_me(access_token).openid

    def identify(self, code: str) -> QQIdentity:
        unionid = self._client.unionid
        answer = self._request_token(code, "&need_openid=1")
        access_token = get_field(answer, "access_token", TOKEN)
        # QQ may omit the openid though it was requested.
        openid = get_field(answer, "openid", OPENID) if answer.get("openid") else None
        if openid and not unionid:
            return QQIdentity(openid=openid)
        try:
            identity = self._request_me(access_token, unionid=unionid)
        except QQMisconfigured as exc:
            if exc.number != NO_UNIONID_RIGHT:
                raise
            # Without the right to the unionid, QQ does not answer with the openid either. At most three requests.
            identity = QQIdentity(openid=openid) if openid else self._request_me(access_token, retry=False)
        if openid and openid != identity.openid:
            raise QQUnavailable("two different openids for one code")
        return identity

    def _request_token(self, code: str, more: str = "") -> dict[str, Any]:
        return self._get("/oauth2.0/token", f"{self._client._token_query}&code={quote_plus(code)}{more}")

    def _request_me(self, access_token: str, *, unionid: bool = False, retry: bool = True) -> QQIdentity:
        query = urlencode({"access_token": access_token, "fmt": "json"} | ({"unionid": "1"} if unionid else {}))
        try:
            answer = self._get("/oauth2.0/me", query)
        except QQUnavailable as exc:
            if exc.number is not None or not retry:
                raise
            answer = self._get("/oauth2.0/me", query)  # unlike a code, an access_token can be used twice
        if answer.get("client_id") != self._client.client_id:
            # A token issued to another application must not log its owner in here (RFC 6749, 10.16).
            logger.error("QQ says the access_token belongs to another client_id than ours.")
            raise QQForeignToken("a token of another client_id")
        return QQIdentity(
            openid=get_field(answer, "openid", OPENID),
            unionid=get_field(answer, "unionid", UNIONID) if unionid and answer.get("unionid") else None,
        )

    def _get(self, path: str, query: str) -> dict[str, Any]:
        self._slot.is_measured = True
        self._attempt.succeeded = False
        try:
            target = f"{self._client._base_path}{path}?{query}"
            status, body = self._pool.get(target, HEADERS, MAX_BODY, self._deadline)
        except TransportError as exc:
            error_class = QQCertificateError if isinstance(exc, CertificateError) else QQUnavailable
            raise error_class(f"{path}: {exc}") from None
        if status != 200:
            raise QQUnavailable(f"{path}: status {status}")
        try:
            answer = decode_answer(body)
        except QQError as exc:
            # An error number shows that QQ works. If it counted as a failure, made-up codes could open the circuit.
            self._attempt.succeeded = exc.number is not None
            raise
        self._attempt.succeeded = True
        return answer

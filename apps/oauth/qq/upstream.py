"""What all clients of QQ share: the process's slots; for each of QQ's services a circuit breaker and connections."""

import os
import sys
import threading
from abc import abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar
from urllib.parse import urlsplit

from .answers import decode_answer
from .errors import QQBusy, QQCertificateError, QQCircuitOpen, QQError, QQUnavailable
from .resilience import Attempt, Bulkhead, BulkheadFull, CircuitBreaker, CircuitOpen, Deadline, Slot
from .transport import CertificateError, ConnectionPool, TransportError

API_URL = "https://graph.qq.com"
MAX_BODY = 64 * 1024  # bytes; real answers have a few hundred
HEADERS = {"User-Agent": "meiduo-qq-login", "Accept-Encoding": "identity"}  # without a User-Agent: empty bodies


@dataclass(frozen=True, kw_only=True, slots=True)
class QQIdentity:
    """Whom QQ has named: an openid, which is the user's in one application only, and what belongs to it."""

    openid: str
    unionid: str | None = None  # the user's in all applications of the shop
    client_id: str = ""  # the application's APP ID
    access_token: str | None = field(default=None, repr=False, compare=False)  # of the exchange just made


class _Slots:
    """The slots of this process, for all services: what they keep free are its threads."""

    def __init__(self, max_concurrency: int) -> None:
        self.bulkhead = Bulkhead(max_concurrency)
        self.followers = Bulkhead(max(1, max_concurrency // 4))


class _Upstream:
    """State shared by this process's calls to one service."""

    def __init__(self, api_url: str, slots: _Slots, max_concurrency: int) -> None:
        self.pool = ConnectionPool(api_url)
        self.slots = slots
        self.bulkhead = Bulkhead(max_concurrency)
        self.breaker = CircuitBreaker()


_slots: dict[int, _Slots] = {}
_upstreams: dict[tuple[str, str, int], _Upstream] = {}
_upstreams_lock = threading.Lock()


def forget_connections() -> None:
    """Close idle connections and start anew. A forked child needs this: it must not use its parent's connections."""
    global _upstreams_lock
    _upstreams_lock = threading.Lock()  # another thread of the parent may have held it
    for upstream in _upstreams.values():
        upstream.pool.close()
    _upstreams.clear()
    _slots.clear()


def count_slots_in_use() -> int:
    """Return how many calls of this process call QQ, or wait for a call that does."""
    return sum(slots.bulkhead.in_use for slots in list(_slots.values()))


def get_circuits() -> list[tuple[str, str]]:
    """Return the service and the state of each circuit breaker of this process."""
    return [(service, upstream.breaker.state) for (_, service, _), upstream in list(_upstreams.items())]


if sys.platform != "win32":  # pragma: no branch  (Windows does not fork)
    os.register_at_fork(after_in_child=forget_connections)


class Exchange:
    """Requests to QQ that share a slot and a deadline, which starts at the first request."""

    def __init__(self, client: Any, pool: ConnectionPool, slot: Slot, attempt: Attempt) -> None:
        self._client = client
        self._pool = pool
        self._slot = slot
        self._attempt = attempt
        self._deadline = Deadline(client.timeout)

    @abstractmethod
    def identify(self, proof: str) -> QQIdentity:
        """Return the identity of the user whom the code or token was issued for, in as few requests as possible."""

    def _get(self, path: str, query: str, decode: Callable[[bytes], dict[str, Any]] = decode_answer) -> dict[str, Any]:
        self._slot.is_measured = True
        self._attempt.succeeded = False
        try:
            target = f"{self._client.base_path}{path}?{query}"
            status, body = self._pool.get(target, HEADERS, MAX_BODY, self._deadline)
        except TransportError as exc:
            error_class = QQCertificateError if isinstance(exc, CertificateError) else QQUnavailable
            raise error_class(f"{path}: {exc}") from None
        if status != 200:
            raise QQUnavailable(f"{path}: status {status}")
        try:
            answer = decode(body)
        except QQError as exc:
            # An error number shows that QQ works. If it counted as a failure, made-up codes could open the circuit.
            self._attempt.succeeded = exc.number is not None
            raise
        self._attempt.succeeded = True
        return answer


AnyExchange = TypeVar("AnyExchange", bound=Exchange)


class Client(Generic[AnyExchange]):
    """A client of one of QQ's services. Every method that calls QQ raises QQError."""

    exchange_class: type[AnyExchange]
    service = "connect"  # clients of another service have a circuit breaker of their own at the same address
    share = 1.0  # of the process's slots, at most, for this service

    def __init__(self, *, api_url: str, timeout: float, max_concurrency: int) -> None:
        """Take the address, and the process's limits.

        `timeout`: seconds for all requests of an exchange. `max_concurrency`: exchanges at once in this process, of all
        clients with the same number.
        """
        self.timeout = timeout
        self.api_url = api_url.rstrip("/")
        self.base_path = urlsplit(self.api_url).path
        self._max_concurrency = max_concurrency

    def identify(self, proof: str) -> QQIdentity:
        """Return the identity of the user whom the code or token was issued for, in as few requests as possible."""
        with self.exchange() as exchange:
            return exchange.identify(proof)

    @contextmanager
    def exchange(self, *, is_new: bool = False) -> Iterator[AnyExchange]:
        """Take a slot for one or more requests; not to be nested. Raises QQBusy and QQCircuitOpen.

        `is_new`: leave some slots to callers that got QQBusy before, while they are expected.
        """
        upstream = self._upstream
        try:
            with (
                upstream.bulkhead.slot(),
                upstream.slots.bulkhead.slot(is_new=is_new) as slot,
                upstream.breaker.attempt() as attempt,
            ):
                yield self.exchange_class(self, upstream.pool, slot, attempt)
        except BulkheadFull:
            raise QQBusy("all slots are in use") from None
        except CircuitOpen:
            raise QQCircuitOpen("the circuit is open after repeated failures") from None

    @contextmanager
    def follower_slot(self) -> Iterator[None]:
        """Take a slot to wait for an exchange of another call: waiting holds a thread too. Raises QQBusy.

        At most a quarter of the slots can be taken like this.
        """
        slots = self._upstream.slots
        try:
            with slots.followers.slot(), slots.bulkhead.slot():
                yield
        except BulkheadFull:
            raise QQBusy("all follower slots are in use") from None

    def expects_retries(self) -> bool:
        """Return whether callers that got QQBusy are expected to try again."""
        return self._upstream.slots.bulkhead.expects_retries()

    def schedule_retry(self) -> float:
        """Return the seconds after which a caller that got QQBusy should try again."""
        return self._upstream.slots.bulkhead.schedule_retry()

    @property
    def _upstream(self) -> _Upstream:
        key = self.api_url, self.service, self._max_concurrency
        with _upstreams_lock:
            if key not in _upstreams:
                slots = _slots.setdefault(self._max_concurrency, _Slots(self._max_concurrency))
                own = max(1, int(self._max_concurrency * self.share))
                _upstreams[key] = _Upstream(self.api_url, slots, own)
            return _upstreams[key]

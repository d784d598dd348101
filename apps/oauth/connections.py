"""HTTP with bounds: connections to one server, kept, counted and cut off at a deadline. Knows nothing of QQ."""

import math
import socket
import ssl
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import Any
from urllib.parse import urlsplit

from urllib3 import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import HTTPError, NewConnectionError

CONNECT_TIMEOUT = 2.0  # seconds, for each address of the host and for the TLS handshake

FAILURES = 5  # in a row: one good exchange between them says that the server is there
FAILING = 10  # seconds within which they come
REST = 30  # seconds

PROMISED = 0.9  # of the places: some who are told to come back do so late, and some who are new get in
LONGEST_WAIT = 50.0  # seconds: two of them, and what a page adds, are less than a sealed code lives


class NoPlace(Exception):
    """As many calls as may be are under way: nothing was sent. `wait`: seconds until it is worth coming back."""

    def __init__(self, wait: float = 1.0) -> None:
        super().__init__()
        self.wait = wait


class Resting(Exception):
    """The server has failed so often that it is left alone for a while: nothing was sent."""


class NoAnswer(Exception):
    """The call failed; the text says how, without the address."""


class Connections:
    """One process's connections to one server."""

    def __init__(self, url: str, maximum: int) -> None:
        """`maximum`: how many exchanges may be under way at once."""
        self._places = _Places(maximum)
        self._waits = threading.BoundedSemaphore(max(1, maximum // 4))
        self._breaker = _Breaker()
        self._watch = _Watch()
        address = urlsplit(url)
        self._pool: HTTPConnectionPool
        if address.scheme == "https":
            # Made once: reading the trust store costs more than the rest of a login together.
            self._pool = HTTPSConnectionPool(
                address.hostname or "", address.port, maxsize=maximum, ssl_context=ssl.create_default_context()
            )
            self._pool.ConnectionCls = _HTTPSConnection
        else:
            self._pool = HTTPConnectionPool(address.hostname or "", address.port, maxsize=maximum)
            self._pool.ConnectionCls = _Connection

    @contextmanager
    def exchange(self, seconds: float, is_back: bool = False) -> Iterator[None]:
        """Take a place, and end every call made inside `seconds` from now. An exchange inside one is the same one.

        `is_back`: the caller was turned away before. Raises NoPlace if none is free, and Resting while the server is
        left alone.
        """
        if _deadline.get() is not None:
            yield
            return
        with self._places.take(is_back):
            is_trial = self._breaker.admit()
            was_good, began = None, time.monotonic()
            try:
                deadline = _Deadline(seconds)
                self._watch.add(deadline)
                before = _deadline.set(deadline)
                try:
                    yield
                finally:
                    _deadline.reset(before)
                    self._watch.remove(deadline)
                    was_good = deadline.was_good
            finally:
                self._breaker.note(was_good, is_trial)
                if was_good is not None:  # one that sent nothing tells nothing of how long they take
                    self._places.note(time.monotonic() - began)

    def judge(self, is_good: bool) -> None:
        """Say whether the call just made in this exchange was answered in a way that shows a working server."""
        _running().was_good = is_good

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Take a place for waiting for somebody else's exchange. There are fewer, as who waits holds a thread too.

        Raises NoPlace if none is free.
        """
        if not self._waits.acquire(blocking=False):
            raise NoPlace
        try:
            yield
        finally:
            self._waits.release()

    def get(self, target: str, *, headers: Mapping[str, str], max_body: int) -> tuple[int, bytes]:
        """GET a path and query, inside an exchange; return the status and the body, undecoded.

        Raises NoAnswer, also for a body of more than `max_body` bytes.
        """
        deadline = _running()
        try:
            response = self._pool.urlopen(
                "GET",
                target,
                headers=headers,
                retries=False,
                redirect=False,  # what the address holds goes nowhere else
                timeout=deadline.left(),
                preload_content=False,
            )
            try:
                body = response.read(max_body + 1, decode_content=False)
            finally:
                response.close()  # a connection whose answer was read to its end is back in the pool by now
        except (HTTPError, OSError, ValueError) as exc:  # ValueError: of http.client, for a chunk of -5 bytes
            raise NoAnswer(type(exc).__name__) from None  # its text quotes the address
        if deadline.passed:
            raise NoAnswer("out of time")
        if len(body) > max_body:
            raise NoAnswer(f"more than {max_body} bytes")
        return response.status, body


class _Places:
    """So many exchanges at once. Who finds no place is told when one will be his, and then goes before who is new."""

    def __init__(self, maximum: int) -> None:
        self._maximum = maximum
        self._lock = threading.Lock()
        self._began: dict[object, float] = {}  # the exchanges under way, the oldest first
        self._lasts = 0.0  # seconds, of late
        self._promised = 0.0  # until when the places that become free are somebody's

    @contextmanager
    def take(self, is_back: bool) -> Iterator[None]:
        """Take a place; raises NoPlace."""
        place = object()
        with self._lock:
            now = time.monotonic()
            kept = self._maximum // 4 if now < self._promised and not is_back else 0
            if len(self._began) >= self._maximum - kept:
                raise NoPlace(self._promise(now))
            self._began[place] = now
        try:
            yield
        finally:
            with self._lock:
                del self._began[place]

    def note(self, seconds: float) -> None:
        """Note how long an exchange has taken."""
        with self._lock:
            self._lasts += (seconds - self._lasts) / 8 if self._lasts else seconds

    def _promise(self, now: float) -> float:
        """Return in how many seconds the next place that is nobody's yet becomes free."""
        # The oldest one under way tells sooner than those that are done that the server has become slow.
        lasts = max(self._lasts, now - next(iter(self._began.values()), now))
        free_each = lasts / self._maximum / PROMISED
        self._promised = min(max(self._promised, now) + free_each, now + LONGEST_WAIT)
        return self._promised - now


class _Breaker:
    """Spares a server that does not answer, and whoever would wait for it.

    After FAILURES failed exchanges in a row within FAILING seconds none is let through for REST seconds; then one is,
    and what becomes of it decides.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._failures: deque[float] = deque(maxlen=FAILURES)
        self._rests_until: float | None = None

    def admit(self) -> bool:
        """Let an exchange begin, and tell whether it is the one that tries; raises Resting."""
        with self._lock:
            if self._rests_until is None:
                return False
            if time.time() < self._rests_until:
                raise Resting
            self._rests_until = time.time() + REST  # the others wait for what becomes of this one
            return True

    def note(self, is_good: bool | None, is_trial: bool = False) -> None:
        """Note how an exchange went; None: it did not get as far as a call."""
        with self._lock:
            if is_good is None and is_trial:
                self._rests_until = time.time()  # it has tried nothing: the next one does
            elif is_good:
                self._failures.clear()
                self._rests_until = None
            elif is_good is False:
                now = time.time()
                self._failures.append(now)
                if len(self._failures) == FAILURES and now - self._failures[0] <= FAILING:
                    self._rests_until = now + REST


class _Deadline:
    """The end of one exchange by the clock on the wall.

    urllib3's time-outs start anew at every read, so a byte a second outlives them. At the deadline the socket is
    shut down under whoever reads from it.
    """

    def __init__(self, seconds: float) -> None:
        self.passed = False
        self.was_good: bool | None = None  # the exchange's last call
        self.ends = time.monotonic() + seconds
        self._watched: tuple[_Connection, socket.socket] | None = None

    def left(self) -> float:
        """Seconds left; raises TimeoutError if there are none."""
        left = self.ends - time.monotonic()
        if left <= 0:
            raise TimeoutError
        return left

    def watch(self, connection: "_Connection") -> None:
        """Shut `connection` down at the deadline; raises TimeoutError if that is over."""
        connection.deadline = self
        # The socket too: where the server closes after its answer, http.client lets go of it before the body is read.
        self._watched = connection, connection.sock
        self.left()

    def cut(self) -> None:
        self.passed = True
        # Back in the pool, the connection may serve somebody else by now.
        if self._watched is not None and self._watched[0].deadline is self:
            # Not SSLSocket's own, which would pull the TLS layer from under the reading thread.
            with suppress(OSError):  # the other side was faster
                socket.socket.shutdown(self._watched[1], socket.SHUT_RDWR)


class _Watch:
    """Cuts exchanges off at their deadlines: one thread for a process's all, as a timer each costs a thread each."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._watched: set[_Deadline] = set()
        self._wakes = 0.0
        self._thread: threading.Thread | None = None

    def add(self, deadline: _Deadline) -> None:
        """Watch a deadline; raises NoPlace if no thread is to be had."""
        with self._changed:
            if self._thread is None or not self._thread.is_alive():  # a process that was forked off has its own
                self._thread = threading.Thread(target=self._run, name="qq-deadlines", daemon=True)
                try:
                    self._thread.start()
                except RuntimeError:
                    self._thread = None
                    raise NoPlace from None
            self._watched.add(deadline)
            if deadline.ends < self._wakes:
                self._changed.notify()

    def remove(self, deadline: _Deadline) -> None:
        with self._changed:
            self._watched.discard(deadline)

    def _run(self) -> None:
        while True:
            with self._changed:
                # It sleeps on over exchanges that end in time: the next ones mostly have later deadlines.
                self._wakes = min((deadline.ends for deadline in self._watched), default=math.inf)
                self._changed.wait(None if self._wakes == math.inf else max(0, self._wakes - time.monotonic()))
                late = {deadline for deadline in self._watched if deadline.ends <= time.monotonic()}
                self._watched -= late
            for deadline in late:
                deadline.cut()


_deadline: ContextVar[_Deadline | None] = ContextVar("deadline", default=None)


def _running() -> _Deadline:
    deadline = _deadline.get()
    assert deadline is not None, "calls are made inside an exchange"
    return deadline


class _Connection(HTTPConnection):
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


class _HTTPSConnection(_Connection, HTTPSConnection):
    pass

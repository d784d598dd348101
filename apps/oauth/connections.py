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
from http.client import HTTPConnection, HTTPException
from typing import Any
from urllib.parse import urlsplit

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
        self._address = urlsplit(url)
        # Made once: reading the trust store costs more than the rest of a login together.
        self._tls = ssl.create_default_context() if self._address.scheme == "https" else None
        self._idle: list[_Connection] = []  # never more than there are places; the one used last is used next

    @contextmanager
    def exchange(self, seconds: float, is_back: bool = False) -> Iterator[None]:
        """Take a place, and end every call made inside `seconds` from now.

        `is_back`: the caller was turned away before. Raises NoPlace if none is free, and Resting while the server is
        left alone.
        """
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
        connection = self._take()
        try:
            connection.request("GET", target, headers=headers)
            with connection.getresponse() as response:
                body = response.read(max_body + 1)
                is_whole = not response.length  # of a body that is said to have a length, this is what has not come
                # What is left of this answer, or a server that ends the connection: not for the next call.
                is_reusable = response.isclosed() and not response.will_close
        except (HTTPException, OSError, ValueError) as exc:  # ValueError: of http.client, for a chunk of -5 bytes
            connection.close()
            raise NoAnswer(type(exc).__name__) from None  # its text may quote the address
        if is_reusable and not deadline.passed:
            self._idle.append(connection)
        else:
            connection.close()
        if deadline.passed:
            raise NoAnswer("out of time")
        if len(body) > max_body:
            raise NoAnswer(f"more than {max_body} bytes")
        if not is_whole:
            raise NoAnswer("cut short")
        return response.status, body

    def _take(self) -> "_Connection":
        """Return a connection that is open and quiet, or one that is yet to be opened."""
        with suppress(IndexError):
            while connection := self._idle.pop():
                if connection.is_quiet():
                    return connection
                connection.close()
        return _Connection(self._address.hostname or "", self._address.port, self._tls)


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

    A socket's time-out starts anew at every read, so a byte a second outlives it. At the deadline the socket is shut
    down under whoever reads from it.
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


def is_in_exchange() -> bool:
    """Whether the caller runs inside an exchange, so that a call of his shares its place and its deadline."""
    return _deadline.get() is not None


def _running() -> _Deadline:
    deadline = _deadline.get()
    assert deadline is not None, "calls are made inside an exchange"
    return deadline


class _Connection(HTTPConnection):
    """A connection whose current exchange ends at its deadline."""

    deadline: _Deadline | None = None

    def __init__(self, host: str, port: int | None, tls: ssl.SSLContext | None) -> None:
        self.default_port = 443 if tls else 80
        super().__init__(host, port or self.default_port)
        self._tls = tls

    def request(self, *args: Any, **kwargs: Any) -> None:
        if self.sock is None:
            self.connect()
        deadline = _running()
        deadline.watch(self)
        self.sock.settimeout(deadline.left())
        super().request(*args, **kwargs)

    def connect(self) -> None:
        self.sock = self._open()
        self.sock.settimeout(self._limit())  # for the TLS handshake
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self._tls:
            self.sock = self._tls.wrap_socket(self.sock, server_hostname=self.host)

    def is_quiet(self) -> bool:
        """Whether the server has neither ended the connection nor said what nobody has asked for."""
        # Come in one record with the last answer, so read off the network already.
        if isinstance(self.sock, ssl.SSLSocket) and self.sock.pending():
            return False
        self.sock.settimeout(0)
        try:
            socket.socket.recv(self.sock, 1, socket.MSG_PEEK)  # below TLS, where an end shows as well
        except BlockingIOError:
            return True
        except OSError:
            pass
        return False

    def _open(self) -> socket.socket:
        # Each address of a host has its time, within what is left of all, so that a dead one does not hide a live one.
        failure = OSError("no address")
        for *_, address in socket.getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM):
            try:
                return socket.create_connection((str(address[0]), self.port), self._limit())
            except OSError as exc:
                failure = exc
        raise failure

    def _limit(self) -> float:
        return min(CONNECT_TIMEOUT, _running().left())

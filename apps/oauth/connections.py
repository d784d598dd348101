"""HTTP with bounds: connections to one server, kept, counted and ended at a deadline. Knows nothing of QQ."""

import re
import socket
import ssl
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from urllib.parse import SplitResult, urlsplit

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

MAX_PIECE = 64 * 1024  # bytes, read at once: more than a record of TLS has, so that nothing of one is left behind
MAX_FRAMING = 64 * 1024  # bytes of an answer beside its body: headers, the lengths of chunks

CONNECT_TIMEOUT = 2.0  # seconds, for each address of the host and for the TLS handshake
CONNECT_SHARE = 0.5  # seconds that an address gets at least, however many there are
MAX_IDLE = 30  # seconds: what stands between drops a connection that is quiet for longer, and may tell neither end

FAILURES = 5  # in a row: one good exchange between them says that the server is there
FAILING = 10  # seconds within which they come
REST = 30  # seconds

PROMISED = 0.9  # of the places: some who are told to come back do so late, and some who are new get in
LONGEST_WAIT = 50.0  # seconds: two of them, and what a page adds, are less than a sealed code lives


class NoPlace(Exception):
    """As many calls as may be are under way: nothing was sent."""


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
        self._address = urlsplit(url)
        # Made once: reading the trust store costs more than the rest of a login together.
        self._tls = ssl.create_default_context() if self._address.scheme == "https" else None
        self._idle: list[_Connection] = []  # never more than there are places; the one used last is used next

    @contextmanager
    def exchange(self, seconds: float, is_back: Callable[[], bool]) -> Iterator[None]:
        """Take a place, and end every call made inside `seconds` after the first has begun.

        `is_back` says, where it matters, whether the caller found none before. Raises NoPlace if none is free, and
        Resting while the server is left alone.
        """
        exchange = _Exchange(seconds)
        self._places.take(exchange, is_back)
        try:
            is_trial = self._breaker.admit()
            before = _exchange.set(exchange)
            try:
                yield
            finally:
                _exchange.reset(before)
                self._breaker.note(exchange.was_good, is_trial)
        finally:
            self._places.leave(exchange)

    def promise(self) -> float:
        """Promise a place to who found none; return in how many seconds it is free."""
        return self._places.promise()

    def judge(self, is_good: bool) -> None:
        """Say whether the call just made in this exchange was answered in a way that shows a working server."""
        _running().was_good = is_good

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Take a place, as who waits for somebody else's exchange holds a thread too. Few may be taken for that.

        Raises NoPlace if none is free.
        """
        if not self._waits.acquire(blocking=False):
            raise NoPlace
        try:
            place = _Exchange(0)
            self._places.take(place, lambda: False)
            try:
                yield
            finally:
                self._places.leave(place)
        finally:
            self._waits.release()

    def close(self) -> None:
        """Close the connections that are idle."""
        while self._idle:
            self._idle.pop().close()

    def get(self, target: str, *, headers: Mapping[str, str], max_body: int) -> tuple[int, bytes]:
        """GET a path and query, inside an exchange; return the status and the body, undecoded.

        Raises NoAnswer, also for a body of more than `max_body` bytes.
        """
        connection = self._take()
        try:
            _running().left()  # time begins here: what the caller did before is no fault of the server's
            answer = connection.ask(target, headers, max_body)
        except (HttpParserError, HttpParserUpgrade, OSError, ValueError) as exc:
            connection.close()
            raise NoAnswer(type(exc).__name__) from None  # its text may quote the address
        except NoAnswer:
            connection.close()
            raise
        if answer.is_last:
            connection.close()
        else:
            self._keep(connection)
        return answer.status, answer.body

    def _keep(self, connection: "_Connection") -> None:
        connection.idle_since = time.time()
        self._idle.append(connection)
        # After a rush nobody comes to those at the front: the server has ended them, and each is a file left open.
        with suppress(IndexError):
            while self._idle[0].was_idle_for_long():
                self._idle.pop(0).close()

    def _take(self) -> "_Connection":
        """Return a connection that is open and quiet, or one that is yet to be opened."""
        with suppress(IndexError):
            while connection := self._idle.pop():
                if connection.is_quiet():
                    return connection
                connection.close()
        return _Connection(self._address, self._tls)


class _Places:
    """So many exchanges at once. Who finds no place is told when one will be his, and then goes before who is new."""

    def __init__(self, maximum: int) -> None:
        self._maximum = maximum
        self._lock = threading.Lock()
        self._under_way: dict[_Exchange, None] = {}  # the oldest first
        self._lasts = 0.0  # seconds, of late
        self._promised = 0.0  # until when the places that become free are somebody's

    def take(self, exchange: "_Exchange", is_back: Callable[[], bool]) -> None:
        """Take a place for an exchange; raises NoPlace."""
        held_back = self._maximum // 4 if exchange.began < self._promised else 0
        if self._enter(exchange, held_back) or (held_back and is_back() and self._enter(exchange, 0)):
            return
        raise NoPlace

    def _enter(self, exchange: "_Exchange", held_back: int) -> bool:
        """Give the exchange a place if there is one beside those held back; tell whether there was."""
        with self._lock:
            is_free = len(self._under_way) < self._maximum - held_back
            if is_free:
                self._under_way[exchange] = None
        return is_free

    def leave(self, exchange: "_Exchange") -> None:
        """Free its place, and note how long it has taken."""
        with self._lock:
            del self._under_way[exchange]
            if exchange.was_good is not None:  # one that sent nothing tells nothing of that
                seconds = time.monotonic() - exchange.began
                self._lasts += (seconds - self._lasts) / 8 if self._lasts else seconds

    def promise(self) -> float:
        """Return in how many seconds the next place that is nobody's yet becomes free; from now on it is somebody's."""
        with self._lock:
            now = time.monotonic()
            # The oldest one under way tells sooner than those that are done that the server has become slow.
            oldest = next(iter(self._under_way), None)
            lasts = max(self._lasts, now - oldest.began if oldest else 0)
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
            if 0 < self._rests_until - time.time() <= REST:  # no longer, whatever becomes of the clock
                raise Resting
            self._rests_until = time.time() + REST  # the others wait for what becomes of this one
            return True

    def note(self, is_good: bool | None, is_trial: bool) -> None:
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


class _Exchange:
    """What is done in one go with the server, and when that ends: by the clock on the wall, whatever trickles in."""

    def __init__(self, seconds: float) -> None:
        self.began = time.monotonic()
        self._seconds = seconds
        self._ends: float | None = None
        self.was_good: bool | None = None  # its last call

    def left(self) -> float:
        """Seconds left; raises TimeoutError if there are none."""
        if self._ends is None:
            self._ends = time.monotonic() + self._seconds
        left = self._ends - time.monotonic()
        if left <= 0:
            raise TimeoutError
        return left


_exchange: ContextVar[_Exchange | None] = ContextVar("exchange", default=None)


def is_in_exchange() -> bool:
    """Whether the caller runs inside an exchange, so that a call of his shares its place and its deadline."""
    return _exchange.get() is not None


def _running() -> _Exchange:
    exchange = _exchange.get()
    assert exchange is not None, "calls are made inside an exchange"
    return exchange


class _Connection:
    """A connection to the server, opened by its first call. Each call ends when its exchange does."""

    def __init__(self, address: SplitResult, tls: ssl.SSLContext | None) -> None:
        usual_port = 443 if tls else 80
        self._name = address.hostname or ""
        self._port = address.port or usual_port
        self._host = address.netloc.rpartition("@")[2].removesuffix(f":{usual_port}")
        self._tls = tls
        self.idle_since = 0.0
        self._socket: socket.socket | None = None

    def ask(self, target: str, headers: Mapping[str, str], max_body: int) -> "_Answer":
        """GET `target`. Raises OSError, HttpParserError, NoAnswer, and ValueError for a target no request can have."""
        if not re.fullmatch("/[!-~]*", target):
            raise ValueError("a target is a path and a query, percent-encoded")
        lines = [f"GET {target} HTTP/1.1", f"Host: {self._host}", *(f"{name}: {headers[name]}" for name in headers)]
        open_socket = self._socket or self._open()
        open_socket.settimeout(_running().left())
        open_socket.sendall("\r\n".join([*lines, "", ""]).encode("ascii"))
        answer = _Answer(max_body)
        while not answer.is_whole:
            # Anew for each piece: a socket's time-out is for one, so a byte a second would outlive it.
            open_socket.settimeout(_running().left())
            answer.feed(open_socket.recv(MAX_PIECE))
        return answer

    def is_quiet(self) -> bool:
        """Whether the server has neither ended the connection nor said what nobody has asked for.

        After MAX_IDLE seconds that cannot be seen.
        """
        assert self._socket is not None
        if self.was_idle_for_long():
            return False
        self._socket.settimeout(0)
        try:
            socket.socket.recv(self._socket, 1, socket.MSG_PEEK)  # below TLS, where an end shows as well
        except BlockingIOError:
            return True
        except OSError:
            pass
        return False

    def was_idle_for_long(self) -> bool:
        return not 0 <= time.time() - self.idle_since <= MAX_IDLE

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()

    def _open(self) -> socket.socket:
        self._socket = self._reach()
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket.settimeout(_limit())  # for the TLS handshake
        if self._tls:
            self._socket = self._tls.wrap_socket(self._socket, server_hostname=self._name)
        return self._socket

    def _reach(self) -> socket.socket:
        # Each address of a host has a share of what is left, so that dead ones do not hide a live one.
        failure = OSError("no address")
        found = socket.getaddrinfo(self._name, self._port, type=socket.SOCK_STREAM)
        for tried, (*_, address) in enumerate(found):
            try:
                share = max(CONNECT_SHARE, _running().left() / (len(found) - tried))
                return socket.create_connection((str(address[0]), self._port), min(_limit(), share))
            except OSError as exc:
                failure = exc
        raise failure


def _limit() -> float:
    return min(CONNECT_TIMEOUT, _running().left())


class _Answer:
    """A server's answer as it comes in, piece by piece. httptools' parser calls the methods on_…."""

    def __init__(self, max_body: int) -> None:
        self.status, self._has_length = 0, False
        self.body = b""
        self.is_whole = False
        self.is_last = False  # whether the connection is of no use for another call
        self._max_body = max_body
        self._room = max_body + MAX_FRAMING
        self._parser = HttpResponseParser(self)

    def feed(self, piece: bytes) -> None:
        """Take in what was received, nothing being the end of the connection.

        Raises NoAnswer, HttpParserError and HttpParserUpgrade.
        """
        self._room -= len(piece)
        try:
            self._parser.feed_data(piece)
        except (HttpParserError, HttpParserUpgrade):
            if not self.is_whole:  # else it is in what follows the answer
                raise
        if not piece:
            # The parser cannot be told of the end. Without a length it is where the answer ends.
            if self._has_length or self.status < 200:
                raise NoAnswer("cut short")
            self.is_whole = self.is_last = True
        if self._room < 0 or len(self.body) > self._max_body:
            raise NoAnswer("too long")
        if self.is_whole:
            del self._parser  # each holds the other

    def on_message_begin(self) -> None:
        if self.is_whole:
            self.is_last = True  # this is a second one, which nobody asked for
        else:
            self.status, self._has_length = 0, False

    def on_header(self, name: bytes, value: bytes) -> None:
        self._has_length |= name.lower() in (b"content-length", b"transfer-encoding")

    def on_headers_complete(self) -> None:
        if not self.is_whole:
            self.status = self._parser.get_status_code()

    def on_body(self, piece: bytes) -> None:
        if not self.is_whole:
            self.body += piece

    def on_message_complete(self) -> None:
        if not self.is_whole and self.status >= 200:  # below, it is news of the answer that is to come
            self.is_whole = True
            self.is_last = not self._parser.should_keep_alive()

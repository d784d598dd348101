"""Bounded HTTP/1.1 to one server over kept connections: a deadline, a body limit, no redirects, no proxies.

Our own, because others cost more CPU per call (urllib3 3.4×, http.client 2×, pycurl 1.2×) and have faults that matter:
urllib3's time-outs are per read and it logs the query, with its secrets; pycurl resends a request by itself when a
kept connection dies, and checks only after a second whether one is alive.
"""

import re
import socket
import ssl
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from urllib.parse import urlsplit

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

from .resilience import Deadline

RECV_SIZE = 64 * 1024  # bytes; larger than a TLS record, so that no part of one stays in the TLS buffer
MAX_FRAMING = 64 * 1024  # bytes of a response beside its body: headers, chunk lengths
CONNECT_TIMEOUT = 2.0  # seconds, for each address of the host and for the TLS handshake
MIN_CONNECT_TIMEOUT = 0.5  # seconds that each address gets, however many there are
MAX_IDLE = 30  # seconds: firewalls and NAT drop an idle connection, and may tell neither end

_TARGET = re.compile("/[!-~]*")


class TransportError(Exception):
    """The call failed; the text says how, without the address."""


class CertificateError(TransportError):
    """Nothing was sent: the server's certificate is not accepted."""


class ConnectionPool:
    """One process's connections to one server."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        # Created once: reading the trust store costs more CPU than the rest of a login.
        self._tls = ssl.create_default_context() if parts.scheme == "https" else None
        default_port = 443 if self._tls else 80
        self._name, self._port = parts.hostname or "", parts.port or default_port
        self._host_header = parts.netloc.rpartition("@")[2].removesuffix(f":{default_port}")
        self._idle: list[_Connection] = []  # the last used is reused first
        self._lookup: _Lookup | None = None
        self._lookup_lock = threading.Lock()

    def get(self, target: str, headers: Mapping[str, str], max_body: int, deadline: Deadline) -> tuple[int, bytes]:
        """GET a target (path and query, percent-encoded); return the status and the raw body.

        Raises TransportError, also for a body of more than `max_body` bytes and at the deadline.
        """
        return self._call("GET", target, headers, b"", max_body, deadline)

    def post(
        self, target: str, headers: Mapping[str, str], content: bytes, max_body: int, deadline: Deadline
    ) -> tuple[int, bytes]:
        """POST the content to a target, otherwise like `get`. It is sent once, whatever happens."""
        headers = {**headers, "Content-Length": str(len(content))}
        return self._call("POST", target, headers, content, max_body, deadline)

    def _call(
        self,
        method: str,
        target: str,
        headers: Mapping[str, str],
        content: bytes,
        max_body: int,
        deadline: Deadline,
    ) -> tuple[int, bytes]:
        if not _TARGET.fullmatch(target):
            raise TransportError("the target is not percent-encoded")
        lines = [f"{method} {target} HTTP/1.1", f"Host: {self._host_header}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        request = "\r\n".join([*lines, "", ""]).encode("ascii") + content
        connection, response = self._take_idle() or _Connection(self._name, self._port, self._tls), None
        try:
            if connection.socket is None:
                connection.open(self._look_up(deadline), deadline)
            response = connection.send(request, max_body, deadline)
        except ssl.SSLCertVerificationError as exc:
            raise CertificateError(f"the certificate is not accepted: {exc.verify_message}") from None
        except (HttpParserError, HttpParserUpgrade, OSError, ValueError) as exc:
            raise TransportError(type(exc).__name__) from None  # its text may quote the address
        finally:
            if response is None or response.will_close:
                connection.close()
            else:
                self._keep(connection)
        return response.status, response.body

    def close(self) -> None:
        """Close the idle connections."""
        while self._idle:
            self._idle.pop().close()

    def _take_idle(self) -> "_Connection | None":
        with suppress(IndexError):
            while connection := self._idle.pop():
                if connection.is_reusable():
                    return connection
                connection.close()
        return None

    def _keep(self, connection: "_Connection") -> None:
        connection.idle_since = time.monotonic()
        self._idle.append(connection)
        # After a peak the oldest are not used again. The server has closed them, and each holds a file descriptor.
        with suppress(IndexError):
            while self._idle[0].is_expired():
                self._idle.pop(0).close()

    def _look_up(self, deadline: Deadline) -> list[str]:
        """Return the host's IP addresses. One look-up runs at a time: further callers wait for the same one."""
        seconds = deadline.remaining()
        with self._lookup_lock:
            if self._lookup is None or not self._lookup.is_alive():
                self._lookup = _Lookup(self._name, self._port)
                try:
                    self._lookup.start()
                except RuntimeError:
                    raise TransportError("no thread for the name look-up") from None
            lookup = self._lookup
        return lookup.wait(seconds)


class _Lookup(threading.Thread):
    """A name look-up in a thread of its own, as getaddrinfo has no time-out."""

    def __init__(self, name: str, port: int) -> None:
        super().__init__(name=f"look-up of {name}", daemon=True)
        self._query = name, port
        self._addresses: list[str] = []
        self._failure = "no address"

    def run(self) -> None:
        try:
            found = socket.getaddrinfo(*self._query, type=socket.SOCK_STREAM)
            self._addresses = [str(address[0]) for *_, address in found]
        except (OSError, ValueError) as exc:  # ValueError: a name that IDNA cannot encode
            self._failure = type(exc).__name__

    def wait(self, seconds: float) -> list[str]:
        """Return the addresses, at least one; raises TransportError."""
        self.join(seconds)
        if self.is_alive():
            raise TransportError("the name look-up timed out")
        if not self._addresses:
            raise TransportError(self._failure)
        return self._addresses


class _Connection:
    """A connection to the server, which `open` opens."""

    def __init__(self, name: str, port: int, tls: ssl.SSLContext | None) -> None:
        self._name, self._port, self._tls = name, port, tls
        self.socket: socket.socket | None = None
        self.idle_since = 0.0

    def open(self, addresses: list[str], deadline: Deadline) -> None:
        self.socket = self._connect(addresses, deadline)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self._tls:
            self.socket.settimeout(min(CONNECT_TIMEOUT, deadline.remaining()))
            self.socket = self._tls.wrap_socket(self.socket, server_hostname=self._name)

    def _connect(self, addresses: list[str], deadline: Deadline) -> socket.socket:
        for position, address in enumerate(addresses):
            try:
                # Each address gets a share of the time left, so that dead ones do not hide a live one.
                remaining = deadline.remaining()
                share = max(MIN_CONNECT_TIMEOUT, remaining / (len(addresses) - position))
                return socket.create_connection((address, self._port), min(CONNECT_TIMEOUT, remaining, share))
            except OSError as exc:
                error = exc
        raise error

    def send(self, request: bytes, max_body: int, deadline: Deadline) -> "_Response":
        """Send a request and receive its response; raises OSError, HttpParserError(Upgrade) and TransportError."""
        assert self.socket is not None
        self.socket.settimeout(deadline.remaining())
        self.socket.sendall(request)
        response = _Response(max_body)
        while not response.is_complete:
            # Set again for each piece: the time-out is per call, and a server may send one byte a second.
            self.socket.settimeout(deadline.remaining())
            response.feed(self.socket.recv(RECV_SIZE))
        return response

    def is_reusable(self) -> bool:
        """Whether the connection is open, and the server has sent nothing since the last response."""
        assert self.socket is not None
        if self.is_expired():
            return False
        self.socket.settimeout(0)
        try:
            socket.socket.recv(self.socket, 1, socket.MSG_PEEK)  # below TLS, where a closed connection shows as well
        except OSError as exc:
            return isinstance(exc, BlockingIOError)  # otherwise it was reset
        return False  # it was closed, or more has come

    def is_expired(self) -> bool:
        return time.monotonic() - self.idle_since > MAX_IDLE

    def close(self) -> None:
        if self.socket is not None:
            self.socket.close()


class _Response:
    """A response, parsed as it arrives. httptools calls the methods on_…."""

    def __init__(self, max_body: int) -> None:
        self.status = 0
        self.body = b""
        self.is_complete = False
        self.will_close = False  # whether the connection cannot be used again
        self._has_length = False
        self._max_body = max_body
        self._bytes_allowed = max_body + MAX_FRAMING
        self._parser = HttpResponseParser(self)

    def feed(self, data: bytes) -> None:
        """Parse what was received; b"" means that the server has closed the connection.

        Raises TransportError, HttpParserError and HttpParserUpgrade.
        """
        self._bytes_allowed -= len(data)
        try:
            self._parser.feed_data(data)
        except (HttpParserError, HttpParserUpgrade):
            if not self.is_complete:  # otherwise it concerns the bytes after the response
                raise
        if not data:
            # The parser does not know of the end, which completes a response without a length.
            if self._has_length or self.status < 200:
                raise TransportError("the response was cut short")
            self.is_complete = self.will_close = True
        if self._bytes_allowed < 0 or len(self.body) > self._max_body:
            raise TransportError("the response is too long")
        if self.is_complete:
            del self._parser  # a reference cycle

    def on_message_begin(self) -> None:
        if self.is_complete:
            self.will_close = True  # a second response, to no request of ours
        else:
            self.status, self._has_length = 0, False

    def on_header(self, name: bytes, value: bytes) -> None:
        self._has_length |= name.lower() in (b"content-length", b"transfer-encoding")

    def on_headers_complete(self) -> None:
        if not self.is_complete:
            self.status = self._parser.get_status_code()

    def on_body(self, data: bytes) -> None:
        if not self.is_complete:
            self.body += data

    def on_message_complete(self) -> None:
        if not self.is_complete and self.status >= 200:  # below 200 it is interim: the response is still to come
            self.is_complete = True
            self.will_close = not self._parser.should_keep_alive()

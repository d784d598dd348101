"""A clock that tests can move, a raw server, and a client of the stand-in."""

import socket
import ssl
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from types import SimpleNamespace

import pytest
import trustme

from apps.oauth.qq import OAuthQQ
from tests.conftest import CALLBACK, query_of

OPENID = "0123456789ABCDEF0123456789ABCDEF"
BODY = f'{{"access_token":"A","openid":"{OPENID}"}}'.encode()
RESPONSE = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(BODY), BODY)


@pytest.fixture
def clock(monkeypatch):
    """A monotonic clock that only the test moves. Other threads keep the real one: servers need time."""
    thread, read = threading.get_ident(), time.monotonic
    clock = SimpleNamespace(now=float(int(read())))  # whole, so that sums are exact
    clock.shift = lambda seconds: setattr(clock, "now", clock.now + seconds)
    monkeypatch.setattr(time, "monotonic", lambda: clock.now if threading.get_ident() == thread else read())
    return clock


def make_client(qq, **options):
    application = {"client_id": qq.client_id, "client_secret": qq.client_secret, "redirect_uri": CALLBACK}
    return OAuthQQ(**application | {"api_url": qq.url, "timeout": 2.0} | options)


def get_code(qq):
    return query_of(qq.sign_in(make_client(qq).get_authorization_url("s" * 43), "小明"))["code"]


def paths(qq):
    """The paths of our requests to QQ, without those of the browser."""
    return [request["path"] for request in qq.requests() if not request["path"].endswith(("authorize", "show"))]


@pytest.fixture(scope="session")
def authority():
    return trustme.CA()


@pytest.fixture
def trusted(authority, tmp_path, monkeypatch):
    """Make `authority` the only one that this process trusts."""
    authority.cert_pem.write_to_path(tmp_path / "trusted.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "trusted.pem"))
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path / "none"))


@contextmanager
def raw_server(serve, certificate=None):
    """A server that runs `serve(connection, over)` in a thread per connection; yields its URL and all connections.

    `over` is an event, set when the server ends. With a certificate it speaks TLS.
    """
    accepted, in_use, over = [], [], threading.Event()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    if certificate:
        certificate.configure_cert(context)

    def run(connection):
        with (
            suppress(OSError),
            connection,
            context.wrap_socket(connection, server_side=True) if certificate else connection as opened,
        ):
            in_use.append(opened)
            serve(opened, over)

    def accept():
        with suppress(OSError):
            while True:
                connection, _ = listener.accept()
                accepted.append(connection)
                threads.submit(run, connection)

    with ThreadPoolExecutor(20) as threads, socket.create_server(("127.0.0.1", 0)) as listener:
        threads.submit(accept)
        try:
            yield f"http{'s' if certificate else ''}://127.0.0.1:{listener.getsockname()[1]}", accepted
        finally:
            over.set()
            for each in (listener, *accepted, *in_use):
                with suppress(OSError):
                    socket.socket.shutdown(each, socket.SHUT_RDWR)  # below TLS


def read_request(connection):
    request = b""
    while b"\r\n\r\n" not in request:
        received = connection.recv(65536)
        if not received:
            raise ConnectionError
        request += received
    return request


def reply(connection, over):
    """Answer every request, after 0.5 s if it contains "slow"."""
    while request := read_request(connection):
        if b"slow" in request:
            over.wait(0.5)
        connection.sendall(RESPONSE)


def sending(*pieces, then_wait=False):
    """Return a `serve` that answers one request with these pieces of bytes, then closes the connection or waits."""

    def serve(connection, over):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        read_request(connection)
        for piece in pieces:
            connection.sendall(piece)
        if then_wait:
            over.wait()

    return serve

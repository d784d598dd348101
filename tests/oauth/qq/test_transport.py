"""Bounded HTTP against servers that break every rule."""

import socket
import struct
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from datetime import datetime, timezone
from types import SimpleNamespace
from unittest.mock import Mock
from urllib.parse import urlsplit

import pytest

from apps.oauth.qq.resilience import Deadline
from apps.oauth.qq.transport import CertificateError, ConnectionPool, TransportError
from tests.tools.requirements import requirement

from .conftest import BODY, RESPONSE, raw_server, read_request, reply, sending

CHUNKS = b"5\r\n%s\r\n%x;x=y\r\n%s\r\n0\r\n\r\n" % (BODY[:5], len(BODY) - 5, BODY[5:])
OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
SILENCE = b""
HEADS = [OK + b"A", OK + b"Connection: close\r\n\r\n", b"HTTP/1.0 200 OK\r\n\r\n", OK + b"Content-Length: 60\r\n\r\n"]
UPGRADE = b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: other\r\n\r\n"
KEPT, CLOSED = 1, 2  # connections for two calls


@contextmanager
def pool_to(serve, certificate=None, host="127.0.0.1"):
    """A server and a pool to it; yields the pool and the server's connections."""
    with raw_server(serve, certificate) as (url, accepted):
        pool = ConnectionPool(url.replace("127.0.0.1", host))
        yield pool, accepted
        pool.close()


@pytest.fixture(params=["http", "https"])
def certificate(request, authority, trusted):
    """Runs a test without and with TLS."""
    return authority.issue_cert("127.0.0.1") if request.param == "https" else None


def get(pool, target="/", *, timeout=2.0, max_body=1024):
    return pool.get(target, {"A": "b"}, max_body, Deadline(timeout))


@contextmanager
def fails_within(seconds, match=None):
    began = time.monotonic()
    with pytest.raises(TransportError, match=match):
        yield
    assert time.monotonic() - began < seconds + 0.9


@requirement("8.1")
@pytest.mark.parametrize("head", [SILENCE, *HEADS])
def test_slow_response_ends_at_the_deadline(certificate, head):
    def drip(connection, over):
        read_request(connection)
        connection.sendall(head)
        while not over.wait(0.1):
            connection.sendall(b"x" if head else b"")

    with pool_to(drip, certificate) as (pool, accepted), fails_within(0.4, "TimeoutError"):
        get(pool, timeout=0.4)
    assert len(accepted) == 1


@requirement("8.1")
def test_silence_in_the_tls_handshake_ends_at_the_deadline():
    with raw_server(lambda connection, over: over.wait()) as (url, _), fails_within(0.4, "TimeoutError"):
        get(ConnectionPool(url.replace("http:", "https:")), timeout=0.4)


def test_each_call_over_a_kept_connection_has_its_own_deadline(certificate):
    with pool_to(reply, certificate) as (pool, accepted):
        get(pool, timeout=0.2)
        get(pool, "/slow")
        assert len(accepted) == 1
        with fails_within(0.2):
            get(pool, "/slow", timeout=0.2)


def test_post_sends_its_content_with_its_length(certificate):
    received = []

    def echo(connection, over):
        while request := read_request(connection):
            while not request.endswith(b"end"):
                request += connection.recv(65536)
            received.append(request)
            connection.sendall(RESPONSE)

    with pool_to(echo, certificate) as (pool, _):
        for content in (b"a=\xff end", b"end"):
            assert pool.post("/a?b=c", {"A": "b"}, content, 1024, Deadline(2.0)) == (200, BODY)
        host = pool._host_header.encode()
    head = b"POST /a?b=c HTTP/1.1\r\nHost: %s\r\nA: b\r\nContent-Length: %d\r\n\r\n%s"
    assert received == [head % (host, 7, b"a=\xff end"), head % (host, 3, b"end")]


@pytest.fixture
def resolver(monkeypatch):
    """A resolver for qq.example: it finds the addresses of `names`, once `released` is set."""
    resolver, look_up = SimpleNamespace(names=["127.0.0.1"], released=threading.Event(), threads=[]), socket.getaddrinfo

    def getaddrinfo(name, *args, **kwargs):
        if name != "qq.example":
            return look_up(name, *args, **kwargs)
        resolver.threads.append(threading.current_thread())
        resolver.released.wait(6)
        return [address for each in resolver.names for address in look_up(each, *args, **kwargs)]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    yield resolver
    resolver.released.set()
    for thread in resolver.threads:
        thread.join()


@requirement("8.1")
def test_slow_look_up_ends_at_the_deadline_and_is_shared(resolver):
    with pool_to(reply, host="qq.example") as (pool, accepted), ThreadPoolExecutor(2) as threads:
        for _ in range(2):
            with fails_within(0.3, "look-up timed out"):
                get(pool, timeout=0.3)
        assert accepted == []
        calls = [threads.submit(get, pool) for _ in range(2)]
        time.sleep(0.1)  # until both wait
        resolver.released.set()
        assert [call.result() for call in calls] == [(200, BODY)] * 2
        assert len(resolver.threads) == 1
        pool.close()
        get(pool)  # a new connection needs a new look-up: the address may have changed
        assert len(resolver.threads) == 2


def test_failed_look_up_is_not_remembered(resolver, monkeypatch):
    resolver.released.set()
    with pool_to(reply, host="qq.example") as (pool, _):
        for names, reason in ((["nowhere.invalid"], "gaierror"), (["a..b"], "Unicode.*Error"), ([], "no address")):
            resolver.names = names
            with pytest.raises(TransportError, match=reason):
                get(pool)
        resolver.names = ["127.0.0.1"]
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", Mock(side_effect=RuntimeError("can't start new thread")))
            with pytest.raises(TransportError, match="no thread"):
                get(pool)
        assert get(pool) == (200, BODY)


@contextmanager
def deaf_listener(host="127.0.0.1", port=0):
    """A port whose queue of connections is full, so that another one is not answered."""
    with ExitStack() as stack:
        listener, *queued = [stack.enter_context(socket.socket()) for _ in range(5)]
        listener.bind((host, port))
        listener.listen(0)
        for each in queued:
            each.setblocking(False)
            each.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]


@pytest.mark.parametrize("dead", [["127.0.0.2"], ["127.0.0.3"] * 3], ids=["refused", "silent"])
def test_dead_addresses_do_not_hide_a_live_one(resolver, dead):
    resolver.names = [*dead, "127.0.0.1"]
    resolver.released.set()
    with pool_to(reply, host="qq.example") as (pool, _), deaf_listener("127.0.0.3", pool._port):
        assert get(pool, timeout=2.4) == (200, BODY)


@pytest.mark.parametrize(("timeout", "ends_within"), [(30.0, 2.5), (0.3, 0.3)])
def test_connecting_has_a_limit_of_its_own(timeout, ends_within):
    with deaf_listener() as port, fails_within(ends_within):
        get(ConnectionPool(f"http://127.0.0.1:{port}"), timeout=timeout)


@requirement("8.4")
@pytest.mark.parametrize(
    ("netloc", "port"), [("127.0.0.1", None), ("name:word@127.0.0.1:80", 80), ("127.0.0.1:443", 443)]
)
def test_request_uses_no_proxy_and_names_neither_a_default_port_nor_a_password(monkeypatch, certificate, netloc, port):
    create_connection, seen = socket.create_connection, []
    scheme, default_port = ("https", 443) if certificate else ("http", 80)
    for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")

    def serve(connection, over):
        seen.append(read_request(connection))
        connection.sendall(RESPONSE)

    def connect(address, seconds):  # a test may not listen on the default ports
        assert address == ("127.0.0.1", port or default_port)
        return create_connection(("127.0.0.1", urlsplit(url).port), seconds)

    with raw_server(serve, certificate) as (url, _), closing(ConnectionPool(f"{scheme}://{netloc}")) as pool:
        monkeypatch.setattr(socket, "create_connection", connect)
        assert get(pool, "/a?b=%20") == (200, BODY)
    host = "127.0.0.1" if port in (None, default_port) else f"127.0.0.1:{port}"
    assert seen == [f"GET /a?b=%20 HTTP/1.1\r\nHost: {host}\r\nA: b\r\n\r\n".encode()]


@pytest.mark.parametrize("target", ["", "a", "/a b", "/ä", "/a\x0bX: y", "/a\n"])
def test_impossible_target_is_not_sent(target):
    with pool_to(reply) as (pool, accepted), pytest.raises(TransportError, match="percent-encoded"):
        get(pool, target)
    assert accepted == []


@requirement("8.4")
@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("untrusted", "unable to get local issuer certificate"),
        ("another host", "certificate is not valid for '127.0.0.1'"),
        ("expired", "certificate has expired"),
    ],
)
def test_any_other_certificate_is_refused_before_the_request_is_sent(authority, request, fault, reason):
    if fault != "untrusted":
        request.getfixturevalue("trusted")
    expiry = datetime(2020, 1, 1, tzinfo=timezone.utc) if fault == "expired" else None
    certificate = authority.issue_cert("qq.example" if fault == "another host" else "127.0.0.1", not_after=expiry)
    seen = []
    server = raw_server(lambda connection, over: seen.append(read_request(connection)), certificate)
    with server as (url, _), pytest.raises(CertificateError, match=f"is not accepted: .*{reason}"):
        get(ConnectionPool(url))
    assert seen == []


@pytest.mark.parametrize(
    ("response", "connections"),
    [
        (RESPONSE, KEPT), (RESPONSE.replace(b"Content-Length", b"content-length"), KEPT), (CHUNKED + CHUNKS, KEPT),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n" + RESPONSE, KEPT),
        (RESPONSE.replace(b"\r\n", b"\r\nConnection: close\r\n", 1), CLOSED), (OK + b"\r\n" + BODY, CLOSED),
        (RESPONSE.replace(b"1.1", b"1.0"), CLOSED), (b"HTTP/1.0 200 \r\n\r\n" + BODY, CLOSED),
        (b"HTTP/1.1 100 Continue\r\nContent-Length: 2\r\n\r\n" + OK + b"\r\n" + BODY, CLOSED),
    ], ids=range(9),
)  # fmt: skip
@pytest.mark.parametrize("size", [1, 65536])
def test_each_framing_of_http_is_read(response, connections, size):
    pieces = [response[start : start + size] for start in range(0, len(response), size)]

    def serve(connection, over):
        for _ in range(2 if connections == KEPT else 1):
            sending(*pieces)(connection, over)
        if connections == CLOSED and b"Content-Length: %d" % len(BODY) in response:
            over.wait()  # the client must not wait for the end, nor use the connection again

    with pool_to(serve) as (pool, accepted):
        assert [get(pool, max_body=len(BODY)) for _ in range(2)] == [(200, BODY)] * 2
        assert len(accepted) == connections


@requirement("8.2", "8.5")
@pytest.mark.parametrize(
    ("response", "reason"),
    [
        (CHUNKED + b"-5\r\n" + BODY, "HttpParser"), (b"HTTP/1.1 -20 OK\r\n\r\n" + BODY, "HttpParser"),
        (OK + b"Content-Length: 10\r\nContent-Length: 20\r\n\r\n" + BODY, "HttpParser"),
        (OK + b"Content-Length: 9\r\nTransfer-Encoding: chunked\r\n\r\n" + CHUNKS, "HttpParser"),
        (UPGRADE + BODY, "HttpParserUpgrade"), (OK + b"Content-Length: 1025\r\n\r\n" + b" " * 1025, "too long"),
        (OK + b"A: b\r\n" * 30_000 + b"\r\n", "too long"), (CHUNKED + CHUNKS[:-5], "cut short"),
        (CHUNKED + b"1;%s\r\n \r\n" % (b"x" * 200) * 900, "too long"), (OK + b"Content-Len", "cut short"),
        (OK + b"Transfer-Encoding: gzip\r\n\r\n" + BODY, "cut short"), (b"", "cut short"),
        (OK + b"Content-Length: %d\r\n\r\n" % (len(BODY) + 1) + BODY, "cut short"),
        (b"HTTP/1.1 100 Continue\r\n\r\n", "cut short"), (b"HTTP/1.1 100 Continue\r\n\r\n" + OK[:14], "cut short"),
    ], ids=range(15),
)  # fmt: skip
def test_response_with_broken_framing_fails(response, reason):
    with pool_to(sending(response)) as (pool, _), pytest.raises(TransportError, match=reason):
        get(pool)


@pytest.mark.parametrize("what", ["closed", "reset", "an unexpected response"])
def test_kept_connection_is_not_used_after_the_server_has_done_something(what):
    received, done = threading.Event(), threading.Event()

    def serve(connection, over):
        sending(RESPONSE)(connection, over)
        received.wait(5)
        if what == "reset":
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        if what == "an unexpected response":
            connection.sendall(RESPONSE.replace(b"200", b"500"))
        else:
            connection.close()
        done.set()
        over.wait()

    with pool_to(serve) as (pool, accepted):
        get(pool)
        received.set()
        assert done.wait(5)
        assert get(pool) == (200, BODY)
        assert len(accepted) == 2


@pytest.mark.parametrize("extra", [b"x", b"x" * 12_000, RESPONSE, RESPONSE[:20], UPGRADE], ids=range(5))
def test_bytes_after_a_response_are_not_the_next_one(certificate, extra):
    with pool_to(sending(RESPONSE + extra, then_wait=True), certificate) as (pool, accepted):  # in one TLS record
        assert [get(pool), get(pool)] == [(200, BODY)] * 2
        assert len(accepted) == 2


def test_connection_that_was_idle_for_long_is_not_used(clock):
    with pool_to(reply) as (pool, accepted):
        for seconds, connections in [(0, 1), (30, 1), (31, 2)]:
            clock.shift(seconds)
            get(pool)
            assert len(accepted) == connections


def test_all_connections_of_a_peak_are_kept_and_closed_once_idle(clock):
    together, closed = threading.Barrier(3, timeout=5), threading.Semaphore(0)

    def serve(connection, over):
        try:
            while request := read_request(connection):
                together.wait() if b"peak" in request else None
                connection.sendall(RESPONSE)
        finally:
            closed.release()

    with pool_to(serve) as (pool, accepted), ThreadPoolExecutor(3) as threads:
        for _ in range(2):
            list(threads.map(lambda _: get(pool, "/peak"), range(3)))
        assert len(accepted) == 3
        for _ in range(2):
            clock.shift(20)
            get(pool)
        assert all(closed.acquire(timeout=5) for _ in range(2))
        get(pool)
        assert len(accepted) == 3

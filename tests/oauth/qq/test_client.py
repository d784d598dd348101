"""The QQ protocol: what OAuthQQ sends, and what it makes of each answer."""

import logging
import os
import signal
import socket
import ssl
import struct
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext, suppress
from datetime import datetime, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import StringIO
from urllib.parse import urlsplit

import pytest
import time_machine
import trustme

from apps.oauth import qq as oauth_qq
from apps.oauth.qq import (
    MISCONFIGURED,
    REJECTED,
    OAuthQQ,
    QQBusy,
    QQError,
    QQIdentity,
    QQMisconfigured,
    QQRejected,
    QQUnavailable,
    read_answer,
)
from tests.conftest import CALLBACK, query_of

STATE = "s" * 43
OPENID = "0123456789ABCDEF0123456789ABCDEF"
# 公共返回码说明: numbers and who can mend them.
BY_SHOPPER = [100005, 100013, 100014, 100015, 100016, 100019, 100020, 100030, 110201]
BY_OPERATOR = [
    *range(100000, 100005), *range(100006, 100013), 100028, 100029, 100031, 100044, 100048,
    110401, 110404, 110406, 110407,
]  # fmt: skip
BY_QQ = [100017, 100018, *range(100021, 100028), 110405, *range(110500, 110505), -30001, 6000, 9999, 123456]


def make_client(qq, **options):
    application = {"client_id": qq.client_id, "client_secret": qq.client_secret, "redirect_uri": CALLBACK}
    return OAuthQQ(**application | {"api_url": qq.url, "timeout": 2.0} | options)


@pytest.fixture
def client(qq):
    return make_client(qq)


@pytest.fixture
def code(qq, client):
    return query_of(qq.sign_in(client.get_authorization_url(STATE), "小明"))["code"]


def asked(qq):
    return [request["path"] for request in qq.requests() if not request["path"].endswith(("authorize", "show"))]


def test_authorization_url_has_what_qq_documents(qq, client):
    address = client.get_authorization_url(STATE)
    assert address.startswith(f"{qq.url}/oauth2.0/authorize?")
    expected = {
        "response_type": "code",
        "client_id": qq.client_id,
        "redirect_uri": CALLBACK,
        "state": STATE,
        "scope": "get_user_info",
    }
    assert query_of(address) == expected
    assert query_of(client.get_authorization_url(STATE, mobile=True)) == expected | {"display": "mobile"}


def test_a_slash_at_the_end_of_qqs_address_changes_nothing(qq, client):
    same = make_client(qq, api_url=f"{qq.url}/")
    assert same.get_authorization_url(STATE) == client.get_authorization_url(STATE)


def test_a_person_is_identified_by_one_request(qq, client, code):
    assert client.identify(code) == QQIdentity(openid=qq.openid("小明"))
    (request,) = (request for request in qq.requests() if request["path"] == "/oauth2.0/token")
    assert request["method"] == "GET"
    assert request["query"] == {
        "grant_type": "authorization_code",
        "client_id": qq.client_id,
        "client_secret": qq.client_secret,
        "code": code,
        "redirect_uri": CALLBACK,
        "fmt": "json",
        "need_openid": "1",
    }
    assert request["headers"]["user-agent"] == "meiduo-qq-login"
    assert request["headers"]["accept-encoding"] == "identity"
    assert asked(qq) == ["/oauth2.0/token"]


def test_the_two_steps_of_the_protocol_work_alone(qq, client, code):
    access_token = client.get_access_token(code)
    assert client.get_openid(access_token) == qq.openid("小明")
    me = qq.requests("/oauth2.0/me")
    assert [request["query"] for request in me] == [{"access_token": access_token, "fmt": "json"}]


def test_me_is_asked_when_the_token_answer_has_no_openid(qq, client, code):
    qq.behave(ignore_need_openid=True)
    assert client.identify(code) == QQIdentity(openid=qq.openid("小明"))
    assert asked(qq) == ["/oauth2.0/token", "/oauth2.0/me"]


def test_unionid_is_asked_for_at_me(qq, code):
    identity = make_client(qq, unionid=True).identify(code)
    assert identity.openid == qq.openid("小明")
    assert identity.unionid is not None
    assert identity.unionid.startswith("UID_")
    assert qq.requests("/oauth2.0/me")[0]["query"]["unionid"] == "1"


@pytest.mark.parametrize(("ignore_need_openid", "requests_to_me"), [(False, 1), (True, 2)])
def test_without_the_unionid_right_the_openid_is_enough(qq, code, ignore_need_openid, requests_to_me):
    qq.behave(unionid="no_right", ignore_need_openid=ignore_need_openid)
    assert make_client(qq, unionid=True).identify(code) == QQIdentity(openid=qq.openid("小明"))
    assert len(qq.requests("/oauth2.0/me")) == requests_to_me


def test_another_refusal_of_the_unionid_request_is_not_swallowed(qq, code):
    qq.behave(me={"fault": "error", "number": 100031})
    with pytest.raises(QQMisconfigured):
        make_client(qq, unionid=True).identify(code)


def test_two_different_openids_for_one_code_name_nobody(qq, client, code):
    other = OPENID
    qq.behave(me={"fault": "body", "body": f'{{"client_id":"{qq.client_id}","openid":"{other}"}}'})
    with pytest.raises(QQUnavailable, match="two different"):
        make_client(qq, unionid=True).identify(code)


def test_a_malformed_unionid_names_nobody(qq, code):
    body = f'{{"client_id":"{qq.client_id}","openid":"{qq.openid("小明")}","unionid":"a b"}}'
    qq.behave(me={"fault": "body", "body": body})
    with pytest.raises(QQUnavailable, match="unionid"):
        make_client(qq, unionid=True).identify(code)


@pytest.mark.parametrize("client_id", ['"101000002"', '" 101000001"', "101000001", '["101000001"]', "null", None])
def test_a_token_of_another_application_names_nobody(qq, client, code, client_id, caplog):
    told = "" if client_id is None else f'"client_id":{client_id},'
    qq.behave(ignore_need_openid=True, me={"fault": "body", "body": f'{{{told}"openid":"{OPENID}"}}'})
    with pytest.raises(QQUnavailable, match="another client_id"):
        client.identify(code)
    assert "another client_id" in caplog.text


@pytest.mark.parametrize(
    "openid",
    [
        '""',
        "null",
        "[]",
        "{}",
        "7",
        '"ABC"',
        f'"{OPENID}0"',
        f'"{OPENID} "',
        f'"{OPENID[:-1]}\\u0000"',
        f'"{OPENID[:-1]}０"',
    ],
)
def test_a_malformed_openid_is_nobody(qq, client, code, openid):
    qq.behave(
        ignore_need_openid=True, me={"fault": "body", "body": f'{{"client_id":"{qq.client_id}","openid":{openid}}}'}
    )
    with pytest.raises(QQUnavailable, match="proper openid"):
        client.identify(code)


@pytest.mark.parametrize("token", ['"A&openid=B"', '"A#"', '"A\\r\\nB"', '""', "null", "7", f'"{"A" * 513}"'])
def test_a_token_that_could_reshape_the_next_request_is_refused(qq, client, code, token):
    qq.behave(token={"fault": "body", "body": f'{{"access_token":{token},"expires_in":"1"}}'})
    with pytest.raises(QQUnavailable, match="proper access_token"):
        client.identify(code)
    assert qq.requests("/oauth2.0/me") == []


@pytest.mark.parametrize(
    "value", ["A&openid=B", "A&code=B", "A#B", "A\r\nB: C", "A%26openid=B", "A+B", "A;b=c", "车", " "]
)
def test_a_value_never_adds_a_parameter_to_a_request(qq, client, value):
    with pytest.raises(QQRejected):
        client.identify(value)
    with pytest.raises(QQRejected):
        client.get_openid(value)
    token, me = qq.requests()
    names = {"grant_type", "client_id", "client_secret", "code", "redirect_uri", "fmt", "need_openid"}
    assert (token["path"], token["query"].keys(), token["query"]["code"]) == ("/oauth2.0/token", names, value)
    assert (me["path"], me["query"]) == ("/oauth2.0/me", {"access_token": value, "fmt": "json"})


@pytest.mark.parametrize(
    ("numbers", "error"), [(BY_SHOPPER, QQRejected), (BY_OPERATOR, QQMisconfigured), (BY_QQ, QQUnavailable)]
)
@pytest.mark.parametrize("shape", ["json", "jsonp"])
def test_each_error_number_says_who_can_mend_it(qq, client, code, numbers, error, shape):
    for number in numbers:
        qq.behave(errors=shape, token={"fault": "error", "number": number})
        with pytest.raises(QQError) as caught:
            client.identify(code)
        assert (type(caught.value), caught.value.number) == (error, number)
    assert len(asked(qq)) == len(numbers)


def test_the_tables_of_numbers_are_those_of_the_document():
    assert (sorted(REJECTED), sorted(MISCONFIGURED)) == (BY_SHOPPER, BY_OPERATOR)


GOOD = {"client_id": "101000001", "openid": OPENID}


@pytest.mark.parametrize(
    "text",
    [
        f'{{"client_id":"101000001","openid":"{OPENID}"}}',
        f' \n{{"client_id":"101000001","openid":"{OPENID}"}} ',
        f'callback( {{"client_id":"101000001","openid":"{OPENID}"}} );\n',
        f'callback({{"client_id":"101000001","openid":"{OPENID}"}})',
        f' \r\ncallback( {{"client_id":"101000001",\n"openid":"{OPENID}"}} ) ; ',
        f"client_id=101000001&openid={OPENID}",
        f"client_id=101000001&openid={OPENID}\n",
    ],
)
def test_all_three_formats_are_read(text):
    assert read_answer(text) == GOOD


@pytest.mark.parametrize(
    "text",
    [
        "", " ", "null", "[]", '"text"', "7", "{", "{}}", '{"a":1,}', '{"a":1} x', '\ufeff{"a":1}',
        '{"openid":1,"openid":2}',
        '{"openid":{"b":1,"b":2}}', "callback( );", "callback( {} ); callback( {} );",
        'callback( {"a":1}', 'callback( {"a":1,} );', 'callback( ["a"] );', 'Callback( {"a":1} );', "a=1&a=2",
        "a=1&&b=2", "a",
        "<html><body>502 Bad Gateway</body></html>", '<a href="x">', "{" * 5000, '{"a":' * 5000, "[" * 5000,
        '{"error":true}', '{"error":null}', '{"error":"x"}', '{"error":[1]}', '{"error":' + "9" * 5000 + "}", "error=",
    ],
)  # fmt: skip
def test_anything_else_is_no_answer(text):
    try:
        answer = read_answer(text)
    except QQUnavailable:
        return
    # A scrap of HTML may look like a form of one odd name; nothing is ever read from it.
    assert not {"access_token", "openid", "client_id", "error"} & set(answer)


@pytest.mark.parametrize("word", ["NaN", "Infinity", "-Infinity"])
def test_a_word_that_json_does_not_have_is_no_answer(word):
    for text in (f'{{"a":{word}}}', f'callback( {{"a":[{word}]}} );'):
        with pytest.raises(QQUnavailable):
            read_answer(text)


@pytest.mark.parametrize("number", [100020, "100020"])
def test_an_error_counts_in_every_format(number):
    for text in (f'{{"error":{number!r}}}'.replace("'", '"'), f"error={number}&error_description=x"):
        with pytest.raises(QQRejected):
            read_answer(text)


def test_a_form_answer_to_a_json_question_logs_in(qq, client, code):
    qq.behave(token={"fault": "body", "body": f"access_token=A&expires_in=1&openid={OPENID}"})
    assert client.identify(code) == QQIdentity(openid=OPENID)


def test_a_jsonp_answer_to_a_json_question_logs_in(qq, client, code):
    qq.behave(token={"fault": "body", "body": f'callback( {{"access_token":"A","openid":"{OPENID}"}} );\n'})
    assert client.identify(code) == QQIdentity(openid=OPENID)


@pytest.mark.parametrize(
    "fault",
    [
        {"fault": "empty"},
        {"fault": "cut", "at": 20},
        {"fault": "html"},
        {"fault": "502"},
        {"fault": "redirect"},
        {"fault": "reset"},
        {"fault": "huge"},
        {"fault": "body", "body": "\udcff".encode("utf-8", "surrogateescape").decode("latin-1")},
    ],
    ids=lambda fault: fault["fault"],
)
def test_a_broken_answer_is_unavailable_and_the_code_is_not_sent_again(qq, client, code, fault):
    qq.behave(token=fault)
    with pytest.raises(QQUnavailable):
        client.identify(code)
    assert asked(qq) == ["/oauth2.0/token"]
    qq.behave(token=None)
    assert client.get_authorization_url(STATE)
    again = query_of(qq.sign_in(client.get_authorization_url(STATE), "小明"))["code"]
    assert client.identify(again).openid == qq.openid("小明")  # the pool is none the worse


@pytest.mark.parametrize("fault", ["hang", "drip", "drip_headers", "slow"])
def test_the_whole_exchange_ends_on_time(qq, code, fault):
    qq.behave(token={"fault": fault, "seconds": 0.3 if fault.startswith("drip") else 30})
    began = time.monotonic()
    with pytest.raises(QQUnavailable):
        make_client(qq, timeout=1.0).identify(code)
    assert time.monotonic() - began < 2.0  # the contract's own bound: the time-out and a second
    assert asked(qq) == ["/oauth2.0/token"]


def test_the_budget_is_one_for_both_requests(qq, code):
    qq.behave(ignore_need_openid=True, token={"fault": "slow", "seconds": 0.7}, me={"fault": "slow", "seconds": 0.7})
    began = time.monotonic()
    with pytest.raises(QQUnavailable):
        make_client(qq, timeout=1.0).identify(code)
    assert time.monotonic() - began < 2.0


def test_me_is_asked_a_second_time_and_no_third(qq, client, code):
    qq.behave(ignore_need_openid=True, me={"fault": "502", "times": 1})
    assert client.identify(code).openid == qq.openid("小明")
    assert asked(qq) == ["/oauth2.0/token", "/oauth2.0/me", "/oauth2.0/me"]
    qq.reset()
    qq.behave(ignore_need_openid=True, me={"fault": "502"})
    code = query_of(qq.sign_in(client.get_authorization_url(STATE), "小明"))["code"]
    with pytest.raises(QQUnavailable):
        client.identify(code)
    assert asked(qq) == ["/oauth2.0/token", "/oauth2.0/me", "/oauth2.0/me"]


def test_an_error_number_of_me_is_final(qq, client, code):
    qq.behave(ignore_need_openid=True, me={"fault": "error", "number": 100017})
    with pytest.raises(QQUnavailable):
        client.identify(code)
    assert asked(qq) == ["/oauth2.0/token", "/oauth2.0/me"]


def test_an_application_needs_three_names_and_speaks_to_qq(qq):
    client = OAuthQQ(client_id="1", client_secret="2", redirect_uri="3")
    assert client.get_authorization_url(STATE).startswith("https://graph.qq.com/oauth2.0/authorize?")


def test_me_is_repeated_once_an_exchange_even_if_the_unionid_is_refused(qq, code):
    qq.behave(ignore_need_openid=True, unionid="no_right", me={"fault": "502", "times": 1})
    assert make_client(qq, unionid=True).identify(code).openid == qq.openid("小明")
    assert asked(qq).count("/oauth2.0/me") == 3  # unavailable, refused for the unionid, without it
    qq.reset()
    code = query_of(qq.sign_in(make_client(qq).get_authorization_url(STATE), "小明"))["code"]
    no_right = '{"error":100048,"error_description":"companyid not set"}'
    qq.behave(ignore_need_openid=True, me={"fault": "body", "body": no_right, "times": 1})
    assert make_client(qq, unionid=True).identify(code).openid == qq.openid("小明")


GOOD_BODY = f'{{"access_token":"A","openid":"{OPENID}"}}'.encode()
GOOD_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(GOOD_BODY), GOOD_BODY)


@contextmanager
def raw_server(answer, certificate=None):
    """A server whose `answer(connection)` writes whatever bytes it likes; yields its address and what it accepted."""
    accepted = []
    over = threading.Event()

    def serve(connection):
        with suppress(OSError), connection:
            if certificate:
                context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
                certificate.configure_cert(context)
                connection = context.wrap_socket(connection, server_side=True)
            answer(connection, over)
            connection.close()

    def accept():
        with suppress(OSError):
            while True:
                connection, _ = listener.accept()
                accepted.append(connection)
                threads.submit(serve, connection)

    with ThreadPoolExecutor(20) as threads, socket.create_server(("127.0.0.1", 0)) as listener:
        threads.submit(accept)
        try:
            yield f"http{'s' if certificate else ''}://127.0.0.1:{listener.getsockname()[1]}", accepted
        finally:
            over.set()
            for one in (listener, *accepted):
                with suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)


def read_request(connection):
    request = b""
    while b"\r\n\r\n" not in request:
        received = connection.recv(65536)
        if not received:
            raise ConnectionError
        request += received
    return request


def answering(head, body=GOOD_BODY, hold=False):
    def answer(connection, over):
        read_request(connection)
        connection.sendall(head.replace(b"LENGTH", str(len(body)).encode()) + b"\r\n\r\n" + body)
        if hold:
            over.wait()

    return answer


def dripping(head):
    def answer(connection, over):
        read_request(connection)
        connection.sendall(head + b"\r\n\r\n")
        while not over.wait(0.2):
            connection.sendall(b"x")

    return answer


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 60",
        b"HTTP/1.1 200 OK\r\nConnection: close",
        b"HTTP/1.0 200 OK",
        b"HTTP/1.1 200 OK\r\nContent-Length: 60",
    ],
)
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_an_answer_that_trickles_ends_on_time_however_it_is_framed(qq, head, scheme, authority, tmp_path, monkeypatch):
    trust(authority, tmp_path, monkeypatch)
    certificate = authority.issue_cert("127.0.0.1") if scheme == "https" else None
    with raw_server(dripping(head), certificate) as (url, accepted):
        began = time.monotonic()
        with pytest.raises(QQUnavailable):
            make_client(qq, api_url=url, timeout=1.0).identify("C")
        assert time.monotonic() - began < 2.0
        assert len(accepted) == 1


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_silence_after_the_request_ends_on_time(qq, scheme, authority, tmp_path, monkeypatch):
    trust(authority, tmp_path, monkeypatch)
    certificate = authority.issue_cert("127.0.0.1") if scheme == "https" else None
    with raw_server(lambda connection, over: over.wait(), certificate) as (url, _):
        began = time.monotonic()
        with pytest.raises(QQUnavailable):
            make_client(qq, api_url=url, timeout=1.0).identify("C")
        assert time.monotonic() - began < 2.0


def test_silence_in_the_tls_handshake_ends_on_time(qq):
    with raw_server(lambda connection, over: over.wait()) as (url, _):
        began = time.monotonic()
        with pytest.raises(QQUnavailable):
            make_client(qq, api_url=url.replace("http:", "https:"), timeout=1.0).identify("C")
        assert time.monotonic() - began < 2.0


def test_a_whole_answer_on_a_connection_that_never_ends_is_no_answer(qq):
    held = answering(b"HTTP/1.1 200 OK\r\nConnection: close", hold=True)
    with raw_server(held) as (url, _), pytest.raises(QQUnavailable, match="TimeoutError"):
        make_client(qq, api_url=url, timeout=0.5).identify("C")


UPGRADE = b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: other\r\n\r\n"
CHUNKS = b"5\r\n%s\r\n%x;x=y\r\n%s\r\n0\r\n\r\n" % (GOOD_BODY[:5], len(GOOD_BODY) - 5, GOOD_BODY[5:])


def serving(answer, calls, size):
    """Answer so many calls with these bytes, `size` of them at a time."""

    def serve(connection, over):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for _ in range(calls):
            read_request(connection)
            for start in range(0, len(answer), size):
                connection.sendall(answer[start : start + size])

    return serve


@pytest.mark.parametrize(
    ("answer", "is_kept"),
    [
        (GOOD_ANSWER, True),
        (GOOD_ANSWER.replace(b"Content-Length", b"content-length"), True),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + CHUNKS, True),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n" + GOOD_ANSWER, True),
        (GOOD_ANSWER.replace(b"\r\n", b"\r\nConnection: close\r\n", 1), False),
        (GOOD_ANSWER.replace(b"1.1", b"1.0"), False),
        (b"HTTP/1.1 200 OK\r\n\r\n" + GOOD_BODY, False),
        (b"HTTP/1.0 200 \r\n\r\n" + GOOD_BODY, False),
        (b"HTTP/1.1 100 Continue\r\nContent-Length: 2\r\n\r\nHTTP/1.1 200 OK\r\n\r\n" + GOOD_BODY, False),
    ],
    ids=range(9),
)
@pytest.mark.parametrize("size", [1, 65536])
def test_every_framing_that_http_has_is_read(qq, answer, is_kept, size):
    with raw_server(serving(answer, 2 if is_kept else 1, size)) as (url, accepted):
        client = make_client(qq, api_url=url)
        for _ in range(2):
            assert client.identify("C").openid == OPENID
        assert len(accepted) == (1 if is_kept else 2)


@pytest.mark.parametrize("is_too_much", [False, True])
def test_a_body_may_have_64_kib(qq, is_too_much):
    body = GOOD_BODY + b" " * (64 * 1024 - len(GOOD_BODY) + is_too_much)
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
    expected = pytest.raises(QQUnavailable, match="too long") if is_too_much else nullcontext()
    with raw_server(serving(answer, 1, len(answer))) as (url, _), expected:
        assert make_client(qq, api_url=url).identify("C").openid == OPENID


@pytest.mark.parametrize(
    ("head", "body"),
    [
        (b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: LENGTH", GOOD_BODY),
        (b"HTTP/1.1 302 Found\r\nLocation: http://[evil\r\nContent-Length: LENGTH", GOOD_BODY),
        (b"HTTP/1.1 200 OK\r\nContent-Length: LENGTH", GOOD_BODY.rstrip() + b" " * 70_000),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked", b"-5\r\n" + GOOD_BODY + b"\r\n0\r\n\r\n"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked", b"zz\r\n" + GOOD_BODY + b"\r\n0\r\n\r\n"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\nContent-Length: 20", GOOD_BODY),
        (b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: LENGTH", b"\x1f\x8b" + GOOD_BODY),
        (b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 30_000, GOOD_BODY),
        (b"HTTP/1.1 -20 OK", GOOD_BODY),
        (b"", GOOD_BODY),
        (b"HTTP/1.1 200 OK\r\nContent-Length: LENGTH", b'{"access_token":"A","openid":"\xff"}'),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1LENGTH", GOOD_BODY),
        (b"HTTP/1.1 200 OK\r\nContent-Length: LENGTH\r\nTransfer-Encoding: chunked", CHUNKS),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked", CHUNKS.removesuffix(b"0\r\n\r\n")),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip", GOOD_BODY),
        (b"HTTP/1.1 100 Continue", b""),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 O", b""),
        (b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: other", GOOD_BODY),
        (b"HTTP/1.1 204 No Content", b""),
        (b"HTTP/1.1 200 OK\r\nContent-Len", b""),
        (b"", b""),
    ],
    ids=range(21),
)
def test_an_answer_with_odd_framing_is_unavailable(qq, head, body):
    with raw_server(answering(head, body)) as (url, _), pytest.raises(QQUnavailable):
        make_client(qq, api_url=url).identify("C")


@pytest.fixture
def log():
    """All that is logged on the way to QQ, before this shop's own handlers drop queries from it."""
    written = StringIO()
    handler = logging.StreamHandler(written)
    logger = logging.getLogger("apps.oauth")
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    yield written
    logger.removeHandler(handler)
    logger.setLevel(level)


def echo(connection, over):
    """Keep the connection, answer each request, slowly where its code says so."""
    while True:
        if b"code=slow" in read_request(connection):
            over.wait(0.7)
        connection.sendall(GOOD_ANSWER)


def test_me_is_not_repeated_once_it_was_asked_anew_without_the_unionid(qq):
    seen = []

    def answer(connection, over):
        while True:
            request = read_request(connection)
            seen.append(request.split()[1].partition(b"?")[0])
            status, body = b"502 Bad Gateway", b""
            if b"/token?" in request:
                status, body = b"200 OK", b"access_token=A"
            elif b"unionid=1" in request:
                status, body = b"200 OK", b"error=100048"
            connection.sendall(b"HTTP/1.1 %s\r\nContent-Length: %d\r\n\r\n%s" % (status, len(body), body))

    with raw_server(answer) as (url, _), pytest.raises(QQUnavailable, match="502"):
        make_client(qq, api_url=url, unionid=True).identify("C")
    assert seen == [b"/oauth2.0/token", b"/oauth2.0/me", b"/oauth2.0/me"]


def test_the_end_of_one_exchange_leaves_the_next_one_on_the_connection_alone(qq):
    with raw_server(echo) as (url, accepted):
        first, second = (make_client(qq, api_url=url, timeout=seconds) for seconds in (0.3, 3.0))
        with ThreadPoolExecutor(1) as thread, first.exchange():
            first.identify("quick")
            assert thread.submit(second.identify, "slow").result() == QQIdentity(openid=OPENID)
        assert len(accepted) == 1


def test_a_kept_connection_has_each_time_the_whole_budget_and_no_more(qq):
    with raw_server(echo) as (url, _):
        make_client(qq, api_url=url).identify("quick")
        with pytest.raises(QQUnavailable):
            make_client(qq, api_url=url, timeout=0.3).identify("slow")
        assert make_client(qq, api_url=url).identify("slow").openid == OPENID


@pytest.mark.parametrize("is_reset", [False, True])
def test_a_kept_connection_that_the_server_has_ended_is_not_used(qq, is_reset):
    read, ended = threading.Event(), threading.Event()

    def answer_once(connection, over):
        read_request(connection)
        connection.sendall(GOOD_ANSWER)
        read.wait(5)
        if is_reset:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()
        ended.set()

    with raw_server(answer_once) as (url, accepted):
        client = make_client(qq, api_url=url)
        assert client.identify("C").openid == OPENID
        read.set()
        assert ended.wait(5)
        assert client.identify("C").openid == OPENID
        assert len(accepted) == 2


@pytest.mark.parametrize(
    "more", [b"x", b"x" * 12_000, GOOD_ANSWER, GOOD_ANSWER[:20], b"HTTP/1.1 500 Oh\r\n\r\noh", UPGRADE]
)
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_what_follows_an_answer_is_not_the_next_one(qq, scheme, more, authority, tmp_path, monkeypatch):
    trust(authority, tmp_path, monkeypatch)
    certificate = authority.issue_cert("127.0.0.1") if scheme == "https" else None

    def answer_too_much(connection, over):
        read_request(connection)
        connection.sendall(GOOD_ANSWER + more)  # in one record of TLS
        over.wait()

    with raw_server(answer_too_much, certificate) as (url, accepted):
        client = make_client(qq, api_url=url)
        for _ in range(2):
            assert client.identify("C").openid == OPENID
        assert len(accepted) == 2


@pytest.mark.parametrize("header", ["", "\r\nContent-Type: text/html"])
def test_an_answer_that_ends_before_its_length_is_none_though_it_can_be_read(qq, header):
    head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(GOOD_BODY) + 1}{header}".encode()
    with raw_server(answering(head)) as (url, _), pytest.raises(QQUnavailable, match="cut short"):
        make_client(qq, api_url=url).identify("C")


@pytest.mark.parametrize("head", [b"HTTP/1.1 200 OK\r\nConnection: close", b"HTTP/1.0 200 OK"])
def test_a_connection_that_the_server_is_about_to_end_is_not_used(qq, head):
    with raw_server(answering(head + b"\r\nContent-Length: LENGTH", hold=True)) as (url, accepted):
        client = make_client(qq, api_url=url)
        for _ in range(2):
            assert client.identify("C").openid == OPENID
        assert len(accepted) == 2


def test_an_answer_that_nobody_asked_for_is_nobodys(qq):
    read, said = threading.Event(), threading.Event()

    def answer_twice(connection, over):
        read_request(connection)
        connection.sendall(GOOD_ANSWER)
        if len(accepted) == 1:
            read.wait(5)
            connection.sendall(GOOD_ANSWER.replace(OPENID[:8].encode(), b"00000000"))
            said.set()
        over.wait()

    with raw_server(answer_twice) as (url, accepted):
        client = make_client(qq, api_url=url)
        assert client.identify("C").openid == OPENID
        read.set()
        assert said.wait(5)
        assert client.identify("C").openid == OPENID


def test_as_many_connections_are_kept_as_calls_may_be_open(qq):
    together = threading.Barrier(8)

    def call(client):
        together.wait()
        return client.identify("slow")

    with raw_server(echo) as (url, accepted), ThreadPoolExecutor(8) as threads:
        client = make_client(qq, api_url=url, max_connections=8)
        for _ in range(2):
            assert len(list(threads.map(call, [client] * 8))) == 8
        assert len(accepted) == 8


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # forking with threads, which is what is tried
def test_a_process_that_is_forked_off_speaks_over_connections_of_its_own(qq):
    with raw_server(echo) as (url, accepted):
        client = make_client(qq, api_url=url)
        client.identify("quick")
        child = os.fork()
        if not child:
            status = 1
            try:
                status = int(client.identify("quick").openid != OPENID)
            finally:
                os._exit(status)
        assert os.waitpid(child, 0)[1] == 0
        assert client.identify("quick").openid == OPENID
        assert len(accepted) == 2


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # forking with threads, which is what is tried
def test_what_other_threads_are_at_while_a_process_is_forked_off_does_not_hinder_it(qq, code):
    client = make_client(qq, max_connections=1)
    with client.waiting(), oauth_qq._connecting:  # the one place, and the lock, held while the trust store is read
        child = os.fork()
        if not child:
            status = 1
            try:
                signal.alarm(5)
                status = int(client.identify(code).openid != qq.openid("小明"))
            finally:
                os._exit(status)
    assert os.waitpid(child, 0)[1] == 0


def test_the_connection_is_kept_alive(qq):
    with raw_server(echo) as (url, accepted):
        for _ in range(3):
            make_client(qq, api_url=url).identify("quick")
        assert len(accepted) == 1


def test_a_connection_that_was_quiet_for_long_is_not_used(qq):
    with raw_server(echo) as (url, accepted), time_machine.travel(1_800_000_000, tick=False) as clock:
        client = make_client(qq, api_url=url)
        for seconds, connections in [(0, 1), (30, 1), (31, 2), (-1, 3)]:
            clock.shift(seconds)
            assert client.identify("quick").openid == OPENID
            assert len(accepted) == connections


def test_connections_of_a_rush_are_ended_once_they_are_of_no_use(qq):
    together, ended = threading.Barrier(3, timeout=5), threading.Semaphore(0)

    def answer(connection, over):
        try:
            while request := read_request(connection):
                together.wait() if b"code=rush" in request else None
                connection.sendall(GOOD_ANSWER)
        finally:
            ended.release()

    with raw_server(answer) as (url, accepted), time_machine.travel(1_800_000_000, tick=False) as clock:
        client = make_client(qq, api_url=url)
        with ThreadPoolExecutor(3) as threads:
            list(threads.map(client.identify, ["rush"] * 3))
        for seconds in (30, 1):
            clock.shift(seconds)
            client.identify("quick")
        assert all(ended.acquire(timeout=5) for _ in range(2))
        client.identify("quick")
        assert len(accepted) == 3


def test_calls_past_the_limit_are_turned_away_before_anything_is_sent(qq, code):
    client = make_client(qq, max_connections=1)
    with client.exchange(), client.exchange():  # one exchange may go on inside itself
        caught = []

        def call():
            try:
                client.identify(code)
            except QQBusy as exc:
                caught.append(exc)

        thread = threading.Thread(target=call)
        thread.start()
        thread.join()
        assert len(caught) == 1
    assert asked(qq) == []
    assert client.identify(code).openid == qq.openid("小明")


def test_a_place_is_promised_by_how_long_a_call_lasts_and_how_many_there_are(qq):
    for maximum in (1, 4):
        client = make_client(qq, max_connections=maximum)
        before = time.monotonic()
        with client.exchange():
            began = time.monotonic()
            threading.Event().wait(0.3)
            least = time.monotonic() - began
            told = client.promise()
            most = time.monotonic() - before
        # So long for each of the places, nine of ten of which are promised.
        assert least / maximum / 0.9 <= told <= most / maximum / 0.9


def test_how_long_a_call_lasts_is_a_mean_that_follows_slowly(qq):
    with raw_server(echo) as (url, _):
        client = make_client(qq, api_url=url, max_connections=1)
        seconds = []
        for code in ("slow", "quick"):
            began = time.monotonic()
            client.identify(code)
            seconds.append(time.monotonic() - began)
        slow, quick = seconds
        assert 0.7 * 7 / 8 <= client.promise() * 0.9 <= (7 * slow + quick) / 8


def test_fewer_may_wait_than_call(qq):
    client = make_client(qq, max_connections=4)
    with client.waiting(), pytest.raises(QQBusy), client.waiting():
        pass
    with client.waiting():
        pass


def test_who_waits_takes_a_place(qq):
    client = make_client(qq, max_connections=1)
    with client.exchange(), pytest.raises(QQBusy), client.waiting():
        pass
    with client.waiting(), pytest.raises(QQBusy), client.exchange():
        pass
    with client.exchange():
        pass


def test_an_address_nobody_listens_at_is_unavailable(qq):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        client = make_client(qq, api_url=f"http://127.0.0.1:{unused.getsockname()[1]}")
        with pytest.raises(QQUnavailable):
            client.identify("C")
    with pytest.raises(QQUnavailable):
        make_client(qq, api_url="http://nowhere.invalid").identify("C")
    with pytest.raises(QQUnavailable):
        make_client(qq, api_url="http://a..b").identify("C")


def test_a_dead_address_of_a_host_does_not_hide_a_live_one(qq, monkeypatch):
    find, looked_up = socket.getaddrinfo, []

    def find_two(name, *args, **kwargs):
        looked_up.append(name)
        names = ["127.0.0.2", "127.0.0.1"] if name == "qq.example" else [name]
        return [address for each in names for address in find(each, *args, **kwargs)]

    monkeypatch.setattr(socket, "getaddrinfo", find_two)
    with raw_server(echo) as (url, _):
        address = url.replace("127.0.0.1", "qq.example")
        assert make_client(qq, api_url=address).identify("quick").openid == OPENID
    assert looked_up[0] == "qq.example"


def test_many_addresses_that_do_not_answer_do_not_hide_a_live_one(qq, monkeypatch):
    find = socket.getaddrinfo

    def find_four(name, port, *args, **kwargs):
        names = ["127.0.0.2"] * 3 + ["127.0.0.1"] if name == "qq.example" else [name]
        return [address for each in names for address in find(each, port, *args, **kwargs)]

    monkeypatch.setattr(socket, "getaddrinfo", find_four)
    with raw_server(echo) as (url, _), deaf_listener("127.0.0.2", urlsplit(url).port):
        address = url.replace("127.0.0.1", "qq.example")
        assert make_client(qq, api_url=address, timeout=2.4).identify("quick").openid == OPENID


@contextmanager
def deaf_listener(host="127.0.0.1", port=0):
    """An address whose queue of connections is full, so that a further one gets no answer."""
    with socket.socket() as listener:
        listener.bind((host, port))
        listener.listen(0)
        waiting = [socket.socket() for _ in range(4)]
        for one in waiting:
            one.setblocking(False)
            one.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]
        for one in waiting:
            one.close()


def test_connecting_has_a_shorter_limit_than_the_exchange(qq):
    with deaf_listener() as port:
        began = time.monotonic()
        with pytest.raises(QQUnavailable):
            make_client(qq, api_url=f"http://127.0.0.1:{port}", timeout=30.0).identify("C")
        assert time.monotonic() - began < 6.0
        began = time.monotonic()
        with pytest.raises(QQUnavailable):
            make_client(qq, api_url=f"http://127.0.0.1:{port}", timeout=0.5).identify("C")
        assert time.monotonic() - began < 1.5


def test_looking_up_a_name_for_longer_than_there_is_time_sends_nothing(qq, monkeypatch):
    find = socket.getaddrinfo

    def find_slowly(*args, **kwargs):
        threading.Event().wait(0.5)
        return find(*args, **kwargs)

    with raw_server(echo) as (url, accepted):
        monkeypatch.setattr(socket, "getaddrinfo", find_slowly)
        with pytest.raises(QQUnavailable):
            make_client(qq, api_url=url, timeout=0.3).identify("quick")
        assert accepted == []


def test_what_the_shop_does_before_it_asks_takes_none_of_qqs_time(qq):
    def answer(connection, over):
        while request := read_request(connection):
            over.wait(0.5) if b"code=slow" in request else None
            connection.sendall(GOOD_ANSWER)

    with raw_server(answer) as (url, _), ThreadPoolExecutor(1) as elsewhere:
        client = make_client(qq, api_url=url, timeout=0.3)
        with client.exchange():
            elsewhere.submit(make_client(qq, api_url=url).identify, "slow").result()
            assert client.identify("quick").openid == OPENID


def test_a_spent_budget_sends_nothing_more(qq, code):
    client = make_client(qq, timeout=0.3)
    qq.behave(token={"fault": "hang", "times": 1})
    with client.exchange():
        for _ in range(2):
            with pytest.raises(QQUnavailable):
                client.identify(code)
    assert asked(qq) == ["/oauth2.0/token"]


def test_a_spent_budget_sends_nothing_over_a_kept_connection_either(qq):
    together = threading.Barrier(2)
    seen = []

    def answer(connection, over):
        while request := read_request(connection):
            seen.append(request)
            over.wait(0.5) if b"code=slow" in request else None
            connection.sendall(GOOD_ANSWER)

    def call(client):
        together.wait()
        client.identify("slow")

    with raw_server(answer) as (url, accepted):
        with ThreadPoolExecutor(2) as threads:
            list(threads.map(call, [make_client(qq, api_url=url)] * 2))
        assert len(accepted) == 2
        client = make_client(qq, api_url=url, timeout=0.2)
        with client.exchange():
            for _ in range(2):
                with pytest.raises(QQUnavailable):
                    client.identify("slow")
        assert len(accepted) == 2
    assert len(seen) == 3


@pytest.fixture
def authority():
    return trustme.CA()


@contextmanager
def tls_server(certificate):
    """QQ over TLS, with this certificate; yields its address and what it was asked."""
    seen = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            seen.append(self.path.partition("?")[0])
            body = f'{{"access_token":"A","openid":"{OPENID}"}}'.encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args):
            pass

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        server.handle_error = lambda *args: None  # the refused handshakes
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"https://127.0.0.1:{server.server_port}", seen
        finally:
            server.shutdown()
            thread.join()


def trust(authority, tmp_path, monkeypatch):
    bundle = tmp_path / "trusted.pem"
    authority.cert_pem.write_to_path(bundle)
    monkeypatch.setenv("SSL_CERT_FILE", str(bundle))
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path / "none"))


def test_over_tls_a_trusted_certificate_is_good(qq, authority, tmp_path, monkeypatch):
    trust(authority, tmp_path, monkeypatch)
    with tls_server(authority.issue_cert("127.0.0.1")) as (url, seen):
        assert make_client(qq, api_url=url).identify("C") == QQIdentity(openid=OPENID)
    assert seen == ["/oauth2.0/token"]


@pytest.mark.parametrize("fault", ["self-signed", "another host's", "expired"])
def test_over_tls_any_other_certificate_is_refused_before_the_key_is_sent(qq, authority, tmp_path, monkeypatch, fault):
    if fault != "self-signed":
        trust(authority, tmp_path, monkeypatch)
    past = datetime(2020, 1, 1, tzinfo=timezone.utc) if fault == "expired" else None
    host = "graph.qq.example" if fault == "another host's" else "127.0.0.1"
    with tls_server(authority.issue_cert(host, not_after=past)) as (url, seen), pytest.raises(QQUnavailable):
        make_client(qq, api_url=url).identify("C")
    assert seen == []


@pytest.mark.parametrize(
    ("scheme", "named", "port", "told"),
    [
        ("http", "", 80, "127.0.0.1"),
        ("http", ":80", 80, "127.0.0.1"),
        ("http", ":443", 443, "127.0.0.1:443"),
        ("https", "", 443, "127.0.0.1"),
        ("https", ":443", 443, "127.0.0.1"),
        ("https", ":80", 80, "127.0.0.1:80"),
    ],
)
@pytest.mark.parametrize("who", ["", "name:word@"])
def test_qq_is_told_its_port_unless_it_is_the_usual_one_and_no_password(
    qq, scheme, who, named, port, told, authority, tmp_path, monkeypatch
):
    trust(authority, tmp_path, monkeypatch)
    certificate = authority.issue_cert("127.0.0.1") if scheme == "https" else None
    connect, asked = socket.create_connection, []

    def answer(connection, over):
        asked.append(read_request(connection))
        connection.sendall(GOOD_ANSWER)

    with raw_server(answer, certificate) as (url, _):
        ports = {port: urlsplit(url).port}  # which a test may not listen on
        monkeypatch.setattr(
            socket, "create_connection", lambda address, seconds: connect((address[0], ports[address[1]]), seconds)
        )
        make_client(qq, api_url=f"{scheme}://{who}127.0.0.1{named}").identify("C")
    assert f"\r\nHost: {told}\r\n".encode() in asked[0]


@pytest.mark.parametrize("path", ["/a b", "/ä", "/a\x0bX: y"])
def test_an_address_that_no_request_can_have_is_asked_nothing(qq, path):
    with raw_server(echo) as (url, accepted), pytest.raises(QQUnavailable, match="ValueError"):
        make_client(qq, api_url=url + path).identify("C")
    assert accepted == []


def test_proxies_of_the_environment_are_not_used(qq, client, code, monkeypatch):
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert client.identify(code).openid == qq.openid("小明")


@pytest.mark.parametrize("fault", ["reset", "empty", "cut", "redirect", "hang", "error"])
def test_key_code_and_token_reach_no_log_and_no_error_text(qq, code, fault, log):
    secret = "key-canary-0123456789"
    client = make_client(qq, client_secret=secret, timeout=0.5)
    qq.behave(token={"fault": fault} | ({"number": 100009} if fault == "error" else {}))
    with pytest.raises(QQError) as caught:
        client.identify(code)
    for text in (log.getvalue(), str(caught.value), repr(caught.value), repr(client)):
        assert secret not in text
        assert code not in text
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None

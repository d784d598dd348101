"""OAuthQQ's requests to QQ, and its reading of the answers."""

import json
import logging
import os
import re
import signal
from contextlib import nullcontext
from io import StringIO

import pytest

from apps.oauth.qq import (
    MiniQQ,
    OAuthQQ,
    ProfileQQ,
    QQBusy,
    QQCircuitOpen,
    QQError,
    QQForeignToken,
    QQIdentity,
    QQMisconfigured,
    QQRejected,
    QQUnavailable,
    upstream,
)
from tests.conftest import CALLBACK, query_of
from tests.tools.requirements import requirement

from .conftest import OPENID, get_code, make_client, paths, raw_server, reply, sending

TOKEN, ME = "/oauth2.0/token", "/oauth2.0/me"


@pytest.fixture
def client(qq):
    return make_client(qq)


@pytest.fixture
def code(qq):
    return get_code(qq)


@requirement("3.7")
def test_authorization_url_has_the_documented_parameters(qq, client):
    url = client.get_authorization_url("STATE")
    expected = {"response_type": "code", "client_id": qq.client_id, "redirect_uri": CALLBACK, "state": "STATE"}
    expected["scope"] = "get_user_info"
    assert (url.partition("?")[0], query_of(url)) == (f"{qq.url}/oauth2.0/authorize", expected)
    assert query_of(client.get_authorization_url("STATE", mobile=True)) == expected | {"display": "mobile"}
    assert make_client(qq, api_url=f"{qq.url}/").get_authorization_url("STATE") == url
    default = OAuthQQ(client_id="1", client_secret="2", redirect_uri="3")
    assert default.get_authorization_url("STATE").startswith("https://graph.qq.com/oauth2.0/authorize?")


def test_requests_have_the_documented_parameters(qq, client, code):
    access_token = client.get_access_token(code)
    assert client.get_openid(access_token) == qq.openid("小明")
    second_code = get_code(qq)
    with client.exchange() as exchange:
        assert exchange.get_openid(exchange.get_access_token(second_code)) == qq.openid("小明")
    token, me = qq.requests(TOKEN)[0], qq.requests(ME)[0]
    application = {"client_id": qq.client_id, "client_secret": qq.client_secret, "redirect_uri": CALLBACK}
    assert token["query"] == {**application, "grant_type": "authorization_code", "code": code, "fmt": "json"}
    assert me["query"] == {"access_token": access_token, "fmt": "json"}
    for request in (token, me):
        assert request["method"] == "GET"
        headers = {"user-agent": "meiduo-qq-login", "accept-encoding": "identity"}
        assert headers.items() <= request["headers"].items()


@requirement("3.4")
@pytest.mark.parametrize(
    ("unionid", "behaviour", "expected"),
    [
        (False, {}, [TOKEN]),
        (False, {"ignore_need_openid": True}, [TOKEN, ME]),
        (True, {}, [TOKEN, ME]),
        (True, {"unionid": "no_right"}, [TOKEN, ME]),
        (True, {"unionid": "no_right", "ignore_need_openid": True}, [TOKEN, ME, ME]),
    ],
)
def test_identify_takes_as_few_requests_as_possible(qq, code, unionid, behaviour, expected):
    qq.behave(**behaviour)
    identity = make_client(qq, unionid=unionid).identify(code)
    prefix = "UID_" if unionid and not behaviour else ""
    assert (identity.openid, (identity.unionid or "")[:4]) == (qq.openid("小明"), prefix)
    assert paths(qq) == expected
    assert qq.requests(TOKEN)[0]["query"]["need_openid"] == "1"


def test_unionid_that_nobody_asked_for_is_not_kept(qq, client, code):
    answer = {"client_id": qq.client_id, "openid": OPENID, "unionid": "U"}
    qq.behave(ignore_need_openid=True, me={"fault": "body", "body": json.dumps(answer)})
    assert client.identify(code) == QQIdentity(openid=OPENID, client_id=qq.client_id)


@requirement("3.1", "3.2")
@pytest.mark.parametrize(
    ("fields", "reason"), [({"openid": OPENID}, "two different openids"), ({"unionid": "a b"}, "valid unionid")]
)
def test_different_openid_or_malformed_unionid_from_me_is_refused(qq, code, fields, reason):
    answer = {"client_id": qq.client_id, "openid": qq.openid("小明"), "unionid": "U"} | fields
    qq.behave(me={"fault": "body", "body": json.dumps(answer)})
    with pytest.raises(QQUnavailable, match=reason):
        make_client(qq, unionid=True).identify(code)


@requirement("3.1")
@pytest.mark.parametrize("client_id", ['"101000002"', '" 101000001"', "101000001", '["101000001"]', "null", None])
def test_token_of_another_application_is_refused(qq, client, client_id, caplog):
    field = "" if client_id is None else f'"client_id":{client_id},'
    qq.behave(me={"fault": "body", "body": f'{{{field}"openid":"{OPENID}"}}'})
    with pytest.raises(QQForeignToken):
        client.get_openid("A")
    assert "another client_id" in caplog.text


@requirement("3.2", "3.6")
@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(("openid", text) for text in ("", None, [], 7, "ABC", f"{OPENID}0", f"{OPENID} ", f"{OPENID[1:]}\0")),
        ("openid", f"{OPENID[1:]}０"),
        *(("access_token", text) for text in ("A&openid=B", "A#", "A\r\nB", "", None, 7, "A" * 513)),
    ],
)
def test_malformed_openid_or_access_token_is_refused(qq, client, field, value):
    answer = {"access_token": "A", "client_id": qq.client_id, "openid": None} | {field: value}
    qq.behave(token={"fault": "body", "body": json.dumps(answer)}, me={"fault": "body", "body": json.dumps(answer)})
    with pytest.raises(QQUnavailable, match=f"valid {field}"):
        client.identify("C")


@requirement("3.6")
@pytest.mark.parametrize("value", ["A&openid=B", "A&code=B", "A#B", "A\r\nB: C", "A%26a=B", "A+B", "A;b=c", "车", " "])
def test_value_adds_no_parameter_to_a_request(qq, client, value):
    for call in (client.identify, client.get_openid):
        with pytest.raises(QQRejected):
            call(value)
    token, me = qq.requests()
    names = {"grant_type", "client_id", "client_secret", "code", "redirect_uri", "fmt", "need_openid"}
    assert (token["query"].keys(), token["query"]["code"]) == (names, value)
    assert me["query"] == {"access_token": value, "fmt": "json"}


ENCODED = f'{{"access_token":"A","openid":"{OPENID}","nickname":"小明\ufffd"}}'


@requirement("8.5")
@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (ENCODED.encode(), nullcontext()),
        (
            ENCODED.replace("\ufffd", "").encode("gbk"),
            pytest.raises(QQUnavailable, match="that is not UTF-8"),
        ),
        ('{"error":100020,"error_description":"小明"}'.encode("gbk"), pytest.raises(QQRejected)),
    ],
    ids=["utf-8", "gbk", "an error's number in gbk"],
)
def test_answer_in_another_encoding_is_unreadable_except_for_an_errors_number(qq, body, expected):
    response = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + body
    with raw_server(sending(response)) as (url, _), expected:
        assert make_client(qq, api_url=url).identify("C") == QQIdentity(openid=OPENID, client_id=qq.client_id)


@requirement("1.5", "8.3", "8.5")
@pytest.mark.parametrize("fault", ["empty", "cut", "html", "502", "redirect", "reset", "huge", "hang", "drip"])
def test_broken_answer_is_unavailable_and_the_code_is_not_sent_again(qq, fault):
    client = make_client(qq, timeout=0.5)
    qq.behave(token={"fault": fault} | ({"at": 20} if fault == "cut" else {}))
    with pytest.raises(QQUnavailable):
        client.identify("C")
    assert paths(qq) == [TOKEN]
    qq.behave(token=None)
    assert client.identify(get_code(qq)).openid == qq.openid("小明")  # the pool still works


@requirement("8.1")
def test_requests_share_a_deadline_that_starts_at_the_first(qq, clock, code):
    with make_client(qq).exchange() as exchange:
        clock.shift(60)
        assert exchange.identify(code).openid == qq.openid("小明")
        clock.shift(2.1)
        with pytest.raises(QQUnavailable, match="TimeoutError"):
            exchange.identify("C")
    assert paths(qq) == [TOKEN]


@requirement("8.6")
@pytest.mark.parametrize(
    ("me", "unionid", "error", "me_requests"),
    [
        ({"fault": "502", "times": 1}, False, None, 2),
        ({"fault": "502"}, False, QQUnavailable, 2),
        ({"fault": "error", "number": 100017}, False, QQUnavailable, 1),  # a numbered error is final
        ({"fault": "error", "number": 100031}, True, QQMisconfigured, 1),
        ({"fault": "502", "times": 1}, True, None, 3),  # unavailable, then refused for the unionid, then without it
    ],
)
def test_me_is_retried_once_after_a_failure_without_a_number(qq, code, me, unionid, error, me_requests):
    qq.behave(ignore_need_openid=True, unionid="no_right", me=me)
    with pytest.raises(error) if error else nullcontext():
        assert make_client(qq, unionid=unionid).identify(code).openid == qq.openid("小明")
    assert paths(qq) == [TOKEN] + [ME] * me_requests


@requirement("8.7")
def test_without_a_slot_nothing_is_sent(qq, code):
    client = make_client(qq, max_concurrency=1)
    with client.exchange() as exchange:
        with pytest.raises(QQBusy):
            make_client(qq, max_concurrency=1).identify(code)  # slots belong to the process
        assert paths(qq) == []
        exchange.identify(code)
    assert client.schedule_retry() > 0  # by the time that this exchange took


@requirement("8.7")
def test_all_services_share_the_slots_of_the_process(qq):
    """Otherwise a network without QQ would hold a thread for each service's slot."""
    options = {"api_url": qq.url, "timeout": 2.0, "max_concurrency": 4}
    mini, profiles = MiniQQ(client_id="1", client_secret="2", **options), ProfileQQ(**options)
    login = make_client(qq, max_concurrency=4)
    with login.exchange(), mini.exchange(), mini.exchange(), profiles.exchange(), pytest.raises(QQBusy):
        mini.identify("code")
    with profiles.exchange(), pytest.raises(QQBusy), profiles.exchange():  # a quarter of them is for profiles
        pass


def test_at_most_a_quarter_of_the_slots_is_for_followers_and_each_takes_one(qq):
    client, small = make_client(qq, max_concurrency=4), make_client(qq, max_concurrency=1)
    for taken, rejected in (
        (client.follower_slot, client.follower_slot),
        (small.exchange, small.follower_slot),
        (small.follower_slot, small.exchange),
    ):
        with taken(), pytest.raises(QQBusy), rejected():
            pass
    with small.exchange():
        pass


@requirement("8.6")
@pytest.mark.parametrize("fault", ["502", "reset", "html"])
def test_five_failures_open_the_circuit_for_half_a_minute(qq, client, code, clock, fault):
    qq.behave(token={"fault": fault})
    errors = []
    for _ in range(6):
        with pytest.raises(QQUnavailable) as caught:
            client.identify("C")
        errors.append(caught.type)
    assert (errors, paths(qq)) == ([QQUnavailable] * 5 + [QQCircuitOpen], [TOKEN] * 5)
    qq.behave(token=None)
    clock.shift(30)
    with client.exchange():
        pass  # sends nothing: the next one is the probe
    assert client.identify(code).openid == qq.openid("小明")
    qq.behave(token={"fault": fault})
    for _ in range(2):  # the probe has closed it
        with pytest.raises(QQUnavailable) as caught:
            client.identify("C")
        assert caught.type is QQUnavailable


def test_open_circuit_answers_at_once_and_leaves_the_code_good(browser, other_browser, qq, clock, binding):
    code = browser.arrive()
    qq.behave(token={"fault": "502"})
    for _ in range(5):
        assert other_browser.redeem_code(other_browser.arrive()).json()["code"] == "qq_unavailable"
    qq.behave(token=None)
    response = browser.redeem_code(code)
    assert (response.status_code, response.json()["code"]) == (503, "qq_unavailable")
    assert paths(qq) == [TOKEN] * 5
    clock.shift(30)
    assert browser.redeem_code(code).json()["user_id"] == binding.user_id


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # forking a process with threads is the case
def test_forked_process_shares_neither_connections_nor_slots_nor_locks(qq):
    with raw_server(reply) as (url, accepted):
        client = make_client(qq, api_url=url, max_concurrency=1)
        client.identify("C")
        with client.exchange(), upstream._upstreams_lock:
            child = os.fork()
            if not child:
                signal.alarm(5)
                try:
                    os._exit(int(client.identify("C").openid != OPENID))
                finally:
                    os._exit(1)
            assert os.waitpid(child, 0)[1] == 0
        assert client.identify("C").openid == OPENID
        assert len(accepted) == 2


@requirement("8.8", "10.2")
@pytest.mark.parametrize("fault", ["reset", "empty", "cut", "redirect", "hang", "error"])
def test_secrets_are_in_no_log_and_no_error(qq, code, fault, monkeypatch):
    written, logger = StringIO(), logging.getLogger("apps.oauth")  # before the host's handlers drop queries
    monkeypatch.setattr(logger, "handlers", [logging.StreamHandler(written)])
    monkeypatch.setattr(logger, "level", logging.DEBUG)
    client = make_client(qq, client_secret="key-canary-0123456789", timeout=0.5)
    qq.behave(token={"fault": fault, "number": 100009})
    with pytest.raises(QQError) as caught:
        client.identify(code)
    text = f"{written.getvalue()} {caught.value} {caught.value!r} {client!r}"
    assert not re.search(f"key-canary|{code}", text)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None

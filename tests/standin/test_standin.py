"""The pretend QQ over real sockets: its answers byte for byte, its switches and faults, and how it starts and ends."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from contextlib import ExitStack
from html import unescape
from urllib.parse import parse_qsl, urlencode, urlsplit

import pytest
import urllib3

from standin import QQ, running
from tests.tools.processes import ROOT, free_port, wait_until

CALLBACK = "https://shop.example.com/qq/callback"
PERSON = "小企鹅🐧"
OPENID = "E0EB84CA6BB1A34AC9243D8F14494969"
ME = f'{{"client_id":"101000001","openid":"{OPENID}"}}'
REFRESH = {"grant_type": "refresh_token", "code": None, "redirect_uri": None}
INVALID = "client request's parameters are invalid, invalid"
FORM = "access_token=*&expires_in=5184000&refresh_token=*"
JSON = '{"access_token":"*","expires_in":"5184000","refresh_token":"*"'
DAY = 24 * 3600
OK = b"HTTP/1.1 200 OK"


@pytest.fixture(scope="module")
def server():
    with running(callbacks=[CALLBACK], client_id="101000001", client_secret="secret") as server:
        yield server


@pytest.fixture
def qq(server):
    server.reset()
    return server


@pytest.fixture
def http():
    with urllib3.PoolManager(retries=False, timeout=5) as http:  # follows no redirect either
        yield http


def encode(query):
    """Encode a query; None leaves a parameter out."""
    return urlencode({name: value for name, value in query.items() if value is not None})


def query_of(address):
    return dict(parse_qsl(urlsplit(address).query, keep_blank_values=True))


def authorize_address(qq, **changes):
    query = {"response_type": "code", "client_id": qq.client_id, "redirect_uri": CALLBACK, "state": "x/y z", **changes}
    return f"{qq.url}/oauth2.0/authorize?{encode(query)}"


def new_code(qq, person=PERSON, **changes):
    return query_of(qq.sign_in(authorize_address(qq, **changes), person))["code"]


def token_query(qq, **changes):
    query = {"grant_type": "authorization_code", "client_id": qq.client_id, "client_secret": qq.client_secret}
    return {**query, "redirect_uri": CALLBACK, **({} if "code" in changes else {"code": new_code(qq)}), **changes}


class Calls:
    """The calls of a shop's server, correct except for the given changes."""

    def __init__(self, qq, http):
        self.qq, self.http = qq, http
        self.access_token = self.token(fmt="json").json()["access_token"]
        self.by_name = {"token": lambda: self.token(fmt="json"), "me": self.me, "get_user_info": self.user_info}

    def get(self, path, query):
        return self.http.request("GET", f"{self.qq.url}{path}?{encode(query)}")

    def token(self, **changes):
        return self.get("/oauth2.0/token", token_query(self.qq, **changes))

    def me(self, **changes):
        return self.get("/oauth2.0/me", {"access_token": self.access_token, "fmt": "json", **changes})

    def user_info(self, **changes):
        query = {"access_token": self.access_token, "oauth_consumer_key": self.qq.client_id, "openid": OPENID}
        return self.get("/user/get_user_info", query | changes)


@pytest.fixture
def calls(qq, http):
    return Calls(qq, http)


def hide_tokens(answer):
    """Return the text of an answer with each token as *."""
    return re.sub("[0-9A-F]{32}", lambda found: "OPENID" if found[0] == OPENID else "*", answer.data.decode())


@pytest.fixture
def pass_time(monkeypatch):
    real = time.time
    return lambda seconds: monkeypatch.setattr(time, "time", lambda: real() + seconds)


# The browser's part ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("display", [None, "mobile"])
def test_person_signs_in_on_the_page(qq, http, display):
    address = authorize_address(qq, display=display)
    answer = http.request("GET", address)
    shown = f"{qq.url}/oauth2.0/show?which=Login&display={display or 'pc'}&{urlsplit(address).query}"
    assert (answer.status, answer.headers["location"]) == (302, shown)
    page = http.request("GET", shown).data.decode()
    hidden = re.findall('<input type="hidden" name="(.*?)" value="(.*?)"', page)
    buttons = re.findall('<button .*?name="(.*?)" value="(.*?)"', page)
    assert {("person", PERSON), ("cancel", "1")} <= {*buttons}
    fields = {**{name: unescape(value) for name, value in hidden}, "person": PERSON}
    assert fields == {**query_of(address), "person": PERSON}
    answer = http.request_encode_body("POST", f"{qq.url}/oauth2.0/authorize", fields, encode_multipart=False)
    assert answer.status == 302
    assert re.fullmatch(re.escape(CALLBACK) + r"\?code=[0-9A-F]{32}&state=x%2Fy%20z", answer.headers["location"])


@pytest.mark.parametrize(
    ("changes", "number", "text"),
    [
        ({"response_type": None, "client_id": None}, 100000, "param response_type is wrong or lost(100000)"),
        ({"client_id": None, "redirect_uri": None}, 100001, "param client_id is wrong or lost (100001)"),
        ({"client_id": "1", "redirect_uri": None}, 100008, "client id is illegal, not exist [appid: 1] (100008)"),
        *(
            ({"redirect_uri": address}, 100010, "redirect uri is illegal(100010)")
            for address in (None, CALLBACK.replace("https", "http"), CALLBACK + "/", CALLBACK + "#/route")
        ),
    ],
)
def test_wrong_authorize_request_ends_on_the_error_page(qq, http, changes, number, text):
    address = authorize_address(qq, **changes)
    where = f"{qq.url}/oauth2.0/show?which=error&display=pc&error={number}&{urlsplit(address).query}"
    assert http.request("GET", address).headers["location"] == qq.sign_in(address, PERSON) == where
    page = http.request("GET", where)
    assert (page.status, text in page.data.decode()) == (200, True)
    posted = http.request("POST", address, body="person=x").headers["location"]
    assert posted.startswith(f"{qq.url}/oauth2.0/show?which=error&display=pc&error={number}&")


def test_cancel_closes_the_page_on_a_pc_and_returns_to_the_shop_on_a_phone(qq, http):
    assert qq.cancel(authorize_address(qq)) is None
    answer = http.request("POST", authorize_address(qq), body="cancel=1")
    assert answer.headers["location"] == f"{qq.url}/oauth2.0/show?which=closed"
    assert "已取消" in http.request("GET", answer.headers["location"]).data.decode()
    assert qq.cancel(authorize_address(qq, display="mobile")) == CALLBACK + "?usercancel=1&state=x%2Fy%20z"


def test_callback_with_a_query_and_an_application_that_is_offline(qq):
    location = qq.sign_in(authorize_address(qq, redirect_uri=CALLBACK + "?from=qq"), PERSON)
    assert location.startswith(CALLBACK + "?from=qq&code=")
    qq.behave(online=False)
    assert query_of(qq.sign_in(authorize_address(qq), PERSON))["error"] == "100011"


# /oauth2.0/token ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "body"),
    [
        ({}, FORM),
        ({"need_openid": "1"}, f"{FORM}&openid=OPENID"),
        ({"fmt": "json"}, f"{JSON}}}"),
        ({"fmt": "json", "need_openid": "1"}, f'{JSON},"openid":"OPENID"}}'),
    ],
)
def test_token_is_a_form_or_json_with_the_openid_if_asked(qq, http, calls, query, body):
    in_body = http.request("POST", f"{qq.url}/oauth2.0/token?{urlencode(query)}", body=urlencode(token_query(qq)))
    for answer in (calls.token(**query), in_body):
        assert (answer.status, answer.headers["content-type"], hide_tokens(answer)) == (200, "text/html", body)
    assert qq.openid(PERSON) == OPENID


@pytest.mark.parametrize(
    ("changes", "number", "text"),
    [
        ({"grant_type": None, "client_id": None}, 100004, "param grant_type is wrong or lost"),
        ({"client_id": None, "client_secret": None}, 100001, "param client_id is wrong or lost "),
        ({"client_secret": None, "code": None}, 100002, "param client_secret is wrong or lost "),
        ({"code": None, "client_id": "1"}, 100005, "param code is wrong or lost"),
        ({"client_id": "1", "client_secret": "x"}, 100008, "client id is illegal, not exist [appid: 1] "),
        ({"client_secret": "x", "redirect_uri": None}, 100009, "client secret is illegal"),
        ({"redirect_uri": None}, 100010, "redirect uri is illegal"),
        ({"redirect_uri": CALLBACK + "?other"}, 100010, "redirect uri is illegal"),
        ({"redirect_uri": "https://elsewhere.example/", "code": "0"}, 100010, "redirect uri is illegal"),
        ({"code": "0" * 32}, 100019, "code to access token error"),
        ({**REFRESH, "client_id": "1"}, 100006, "param refresh_token is wrong or lost"),
        ({**REFRESH, "refresh_token": "0" * 32}, 100021, "get access token error"),
    ],
)
def test_wrong_token_request_is_refused_with_status_200(qq, calls, changes, number, text):
    error = f'{{"error":{number},"error_description":"{text}"}}'
    answers = [calls.token(**changes), calls.token(**changes, fmt="json")]
    qq.behave(errors="jsonp")
    bodies = [answer.data.decode() for answer in (*answers, calls.token(**changes, fmt="json"))]
    assert bodies == [f"callback( {error} );\n", error.replace(' "}', '"}'), f"callback( {error} );\n"]
    assert {answer.status for answer in answers} == {200}


def test_code_works_once_within_ten_minutes(qq, calls, pass_time):
    codes = [new_code(qq), new_code(qq)]
    assert calls.token(code=codes[0], redirect_uri=CALLBACK + "?x", fmt="json").json()["error"] == 100010
    pass_time(590)
    assert "access_token" in calls.token(code=codes[0], fmt="json").json()
    assert calls.token(code=codes[0], fmt="json").data == b'{"error":100020,"error_description":"code is reused error"}'
    pass_time(600)
    assert calls.token(code=codes[1], fmt="json").json()["error"] == 100019


def test_refresh_token_works_once_within_three_months_and_replaces_both_tokens(calls, pass_time):
    def refresh(tokens):
        return calls.token(**REFRESH, refresh_token=tokens["refresh_token"], fmt="json").json()

    first = calls.token(fmt="json").json()
    second = refresh(first)
    assert second.keys() == first.keys()
    assert refresh(first)["error"] == 100021
    assert calls.me(access_token=second["access_token"]).json()["openid"] == OPENID
    assert calls.me(access_token=first["access_token"]).json()["error"] == 100015
    pass_time(90 * DAY)
    assert refresh(second)["error"] == 100021


# /oauth2.0/me and /user/get_user_info ---------------------------------------------------------------------------------


def test_me_is_a_callback_or_json_with_the_unionid_if_asked(calls):
    answer = calls.me(fmt=None)
    assert (answer.headers["content-type"], answer.data.decode()) == ("text/html", f"callback( {ME} );\n")
    assert calls.me(unionid="0").data.decode() == ME
    unionid = calls.me(unionid="1").data.decode()
    assert re.fullmatch(re.escape(ME[:-1]) + ',"unionid":"UID_[0-9A-F]{32}"}', unionid)


def test_me_refuses_a_missing_wrong_or_expired_token_and_a_missing_right(qq, calls, pass_time):
    missing, wrong = calls.me(access_token=None, fmt=None), calls.me(access_token="0", unionid="1")
    assert missing.data == b'callback( {"error":100007,"error_description":"param access_token is wrong or lost"} );\n'
    assert wrong.data == b'{"error":100013,"error_description":"access token is illegal"}'
    qq.behave(unionid="no_right")
    assert calls.me(unionid="1").data == b'{"error":100048,"error_description":"companyid not set"}'
    assert calls.me().data.decode() == ME
    pass_time(60 * DAY)
    assert calls.me().json()["error"] == 100014


def test_get_user_info_is_the_profile_and_needs_its_scope(qq, calls):
    answer = calls.user_info()
    assert answer.headers["content-type"] == "text/html"
    start = '{\n    "ret": 0,\n    "msg": "",\n    "is_lost":0,\n    "nickname": "小企鹅🐧",\n    "gender": "男",\n'
    assert hide_tokens(answer).startswith(start)
    assert '"http:\\/\\/qzapp.qlogo.cn\\/qzapp\\/101000001\\/OPENID\\/30"' in hide_tokens(answer)
    assert '"http://thirdqq.qlogo.cn/g?b=oidb&k=' in answer.data.decode()
    no_name = calls.token(code=new_code(qq, "没有昵称的人"), fmt="json", need_openid="1").json()
    assert calls.user_info(access_token=no_name["access_token"], openid=no_name["openid"]).json()["nickname"] == ""
    other_scope = calls.token(code=new_code(qq, scope="list_album,add_t"), fmt="json").json()["access_token"]
    assert calls.user_info(access_token=other_scope).json()["ret"] == 100030


@pytest.mark.parametrize(
    ("changes", "ret", "msg"),
    [
        ({"oauth_consumer_key": None}, -1, f"{INVALID} oauth_consumer_key"),
        *(({"openid": openid}, -1, f"{INVALID} openid") for openid in (None, "0" * 31, "0" * 32)),
        ({"access_token": None}, 1002, "请先登录"),
        ({"oauth_consumer_key": "1"}, 1002, "请先登录"),
        ({"access_token": "0"}, 100013, "access token is illegal"),
    ],
)
def test_get_user_info_refuses_in_ret_and_msg(calls, changes, ret, msg):
    answer = calls.user_info(**changes)
    assert (answer.status, answer.data.decode()) == (200, f'{{"ret":{ret},"msg":"{msg}"}}')


# Switches -------------------------------------------------------------------------------------------------------------


def test_answers_can_be_switched(qq, calls):
    qq.behave(ignore_need_openid=True, client_id="1100000001", openid=["x"], charset=True, expires_in=7776000)
    answer = calls.token(fmt="json", need_openid="1")
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert hide_tokens(answer) == JSON.replace("5184000", "7776000") + "}"
    assert calls.me().json() == {"client_id": "1100000001", "openid": ["x"]}
    qq.behave(expires_in_number=True)
    assert calls.token(fmt="json").json()["expires_in"] == 7776000  # the other changes stay
    qq.behave(expires_in=0)
    assert calls.me(access_token=calls.token(fmt="json").json()["access_token"]).json()["error"] == 100014


@pytest.mark.parametrize(
    ("document", "named"),
    [
        ('{"expires_in": 1, "tokens": {}}', "tokens"),
        ('{"expires_in": 1, "token": {"fault": "slwo"}}', "token.fault"),
        ('{"expires_in": 1, "me": {"fault": "slow", "times": -1}}', "me.times"),
        ('{"expires_in": 1, "token": {"fault": "error"}}', "token.number"),
        ('{"expires_in": 1, "errors": "xml"}', "errors"),
        ("[]", "the body"),
        ("{", "Expecting"),
    ],
)
def test_wrong_behaviour_is_refused_whole(qq, http, calls, document, named):
    answer = http.request("PUT", f"{qq.url}/_standin/behaviour", body=document)
    assert (answer.status, answer.json()["message"].startswith(named)) == (400, True)
    assert calls.token(fmt="json").json()["expires_in"] == "5184000"
    with pytest.raises(ValueError, match="tokens: unknown key"):
        qq.behave(tokens={})


def test_requests_are_recorded(qq, http):
    before = time.time()
    http.request("GET", f"{qq.url}/oauth2.0/me?a=1&a=2&b=", headers={"User-Agent": "shop"})
    http.request("GET", f"{qq.url}/nowhere")
    http.request("GET", f"{qq.url}/favicon.ico")
    first, second = qq.requests()
    assert before <= first.pop("time") <= time.time()
    assert first.pop("headers")["user-agent"] == "shop"
    assert first == {"method": "GET", "path": "/oauth2.0/me", "query": {"a": "2", "b": ""}}
    assert qq.requests("/nowhere") == [second]


# Faults ---------------------------------------------------------------------------------------------------------------


def test_fault_applies_to_its_own_call_as_often_as_it_says(qq, calls):
    qq.behave(me={"fault": "empty", "times": 2})
    assert calls.token(fmt="json").json()["expires_in"] == "5184000"
    assert [calls.me().data for _ in range(3)] == [b"", b"", ME.encode()]
    for end in (None, {}):
        qq.behave(me={"fault": "empty"})
        assert [calls.me().data for _ in range(3)] == [b""] * 3
        qq.behave(me=end)
        assert calls.me().data == ME.encode()


@pytest.mark.parametrize("endpoint", ["token", "me", "get_user_info"])
@pytest.mark.parametrize(
    ("fault", "status", "body"),
    [
        ({"fault": "empty"}, 200, ""),
        ({"fault": "html"}, 200, "<html>"),
        ({"fault": "502"}, 502, "<html>"),
        ({"fault": "body", "body": "callback( {} "}, 200, "callback( {} "),
    ],
)
def test_fault_replaces_the_answer(qq, calls, endpoint, fault, status, body):
    qq.behave(**{endpoint: fault})
    answer = calls.by_name[endpoint]()
    assert (answer.status, answer.headers["content-type"]) == (status, "text/html")
    assert answer.data.decode()[: len(body) or None] == body


def test_fault_of_an_error_has_the_shape_of_its_call(qq, calls):
    numbers = {"token": 100020, "me": 7, "get_user_info": 1002}
    qq.behave(**{name: {"fault": "error", "number": number} for name, number in numbers.items()})
    assert [call().data.decode() for call in calls.by_name.values()] == [
        '{"error":100020,"error_description":"code is reused error"}',
        '{"error":7,"error_description":"unknown error"}',
        '{"ret":1002,"msg":"请先登录"}',
    ]


def test_redirect_leads_to_a_recorded_path_or_a_given_address(qq, http, calls):
    qq.behave(me={"fault": "redirect"})
    answer = calls.me(access_token="x", fmt=None)
    assert answer.status == 302
    assert http.request("GET", answer.headers["location"]).status == 404
    assert (qq.requests()[-1]["path"], qq.requests()[-1]["query"]) == ("/elsewhere", {"access_token": "x"})
    qq.behave(me={"fault": "redirect", "location": "http://127.0.0.1:1/"})
    assert calls.me().headers["location"] == "http://127.0.0.1:1/"


@pytest.mark.parametrize("fault", ["slow", "drip", "drip_headers"])
def test_slow_answer_arrives_whole(qq, calls, fault):
    for endpoint, call in calls.by_name.items():
        whole = hide_tokens(call())
        qq.behave(**{endpoint: {"fault": fault, "seconds": 0.0002, "times": 1}})
        answer = call()
        assert (answer.headers["content-length"], hide_tokens(answer)) == (str(len(answer.data)), whole)


def send_raw(url, timeout=5):
    connection = socket.create_connection((urlsplit(url).hostname, urlsplit(url).port), timeout=timeout)
    connection.sendall(b"GET /oauth2.0/me?fmt=json HTTP/1.1\r\nHost: qq\r\n\r\n")
    return connection


@pytest.mark.parametrize(("fault", "pieces"), [("slow", [OK]), ("drip", [OK, b"{"]), ("drip_headers", [b"H", b"T"])])
def test_slow_answer_takes_its_time(qq, fault, pieces):
    qq.behave(me={"fault": fault, "seconds": 0.2})
    with send_raw(qq.url, timeout=0.5) as connection:
        assert [connection.recv(1000).partition(b"\r\n")[0] for _ in pieces] == pieces


@pytest.mark.parametrize(("at", "arrived"), [({"at": 7}, 7), ({}, len(ME) // 2)])
def test_cut_answer_promises_more_than_it_sends(qq, calls, http, at, arrived):
    qq.behave(me={"fault": "cut", **at})
    query = {"fmt": "json", "access_token": calls.access_token}
    answer = http.request("GET", f"{qq.url}/oauth2.0/me", fields=query, preload_content=False)
    assert answer.headers["content-length"] == str(len(ME))
    with pytest.raises(urllib3.exceptions.ProtocolError) as error:
        answer.read()
    assert error.value.args[1].partial == ME[:arrived].encode()


def test_call_can_hang_be_reset_or_get_an_endless_answer(qq, http):
    qq.behave(me={"fault": "hang"})
    with pytest.raises(urllib3.exceptions.ReadTimeoutError):
        http.request("GET", f"{qq.url}/oauth2.0/me", timeout=0.2)
    qq.behave(me={"fault": "reset"})
    with send_raw(qq.url) as connection, pytest.raises(ConnectionResetError):
        connection.recv(1)
    qq.behave(me={"fault": "huge"})
    answer = http.request("GET", f"{qq.url}/oauth2.0/me", preload_content=False)
    assert "content-length" not in answer.headers
    assert len(answer.read(1 << 22)) == 1 << 22
    answer.close()


@pytest.mark.parametrize("fault", ["slow", "drip", "cut", "hang", "reset", "empty", "502", "redirect", "error"])
def test_fault_uses_up_the_code_only_if_it_disturbs_a_real_answer(qq, http, calls, fault):
    query = token_query(qq)
    qq.behave(token={"fault": fault, "seconds": 60, "times": 1, "at": 5, "number": 100020})
    try:
        http.request("GET", f"{qq.url}/oauth2.0/token", fields=query, timeout=0.2)
    except (urllib3.exceptions.TimeoutError, urllib3.exceptions.ProtocolError):
        assert fault in ("slow", "drip", "cut", "hang", "reset")
    error = calls.token(code=query["code"], fmt="json").json().get("error")
    assert error == (100020 if fault in ("slow", "drip", "cut") else None)


# Start and end --------------------------------------------------------------------------------------------------------


@pytest.fixture
def command():
    """Start `python -m standin` with options; return the process and a handle on the server."""
    with ExitStack() as stack:

        def command(*options, **environment):
            environment = {name: value for name, value in os.environ.items() if "STANDIN" not in name} | environment
            command = [sys.executable, "-m", "standin", *options]
            process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)
            stack.enter_context(process)
            stack.callback(process.kill)
            return process, QQ(process.stdout.readline().split()[-1], "101000001", "")

        yield command


@pytest.mark.parametrize(("ending", "fault"), [("SIGTERM", "hang"), ("SIGINT", "drip"), ("SIGTERM", "huge")])
def test_command_needs_no_configuration_and_ends_at_once_while_a_call_is_open(command, ending, fault):
    process, qq = command("--port", "0")
    for callback in ("http://127.0.0.1:8000/oauth/qq/callback", "http://127.0.0.1:8000/oauth/qq/callback/"):
        assert new_code(qq, redirect_uri=callback)
    qq.reset()
    qq.behave(me={"fault": fault, "seconds": 60})
    with send_raw(qq.url):
        wait_until(qq.requests, "the call has arrived")
        process.send_signal(signal.Signals[ending])
        assert process.wait(timeout=2) == 0


def test_command_is_configured_by_the_environment(command, http):
    port, callbacks = str(free_port()), ["https://a.example/qq", "https://b.example/qq"]
    names = {"STANDIN_PORT": port, "STANDIN_CLIENT_ID": "7", "STANDIN_CLIENT_SECRET": "s"}
    _, qq = command(**names, STANDIN_CALLBACKS=" ; ".join(callbacks))
    assert qq.url == f"http://127.0.0.1:{port}"
    qq.client_id, qq.client_secret = "7", "s"
    for callback in callbacks:
        query = token_query(qq, redirect_uri=callback, code=new_code(qq, redirect_uri=callback), fmt="json")
        assert "access_token" in http.request("GET", f"{qq.url}/oauth2.0/token", fields=query).json()

"""The pretend QQ over real sockets: its answers byte for byte, its switches and faults, and how it starts and ends."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager, nullcontext
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
FORM = "access_token=*&expires_in=5184000&refresh_token=*"
JSON = '{"access_token":"*","expires_in":"5184000","refresh_token":"*"'
http = urllib3.PoolManager(retries=False, timeout=5)  # follows no redirect either


@pytest.fixture(scope="module")
def server():
    with running(callbacks=[CALLBACK], client_id="101000001", client_secret="secret") as server:
        yield server


@pytest.fixture
def qq(server):
    server.reset()
    return server


def encode(query):
    """Encode a query; None leaves a parameter out."""
    return urlencode({name: value for name, value in query.items() if value is not None})


def query_of(address):
    return dict(parse_qsl(urlsplit(address).query))


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

    def __init__(self, qq):
        self.qq = qq
        self.access_token = self.token(fmt="json").json()["access_token"]
        self.by_name = {"token": lambda: self.token(fmt="json"), "me": self.me, "get_user_info": self.user_info}

    def get(self, path, query):
        return http.request("GET", f"{self.qq.url}{path}?{encode(query)}")

    def token(self, **changes):
        return self.get("/oauth2.0/token", token_query(self.qq, **changes))

    def me(self, **changes):
        return self.get("/oauth2.0/me", {"access_token": self.access_token, "fmt": "json", **changes})

    def user_info(self, **changes):
        query = {"access_token": self.access_token, "oauth_consumer_key": self.qq.client_id, "openid": OPENID}
        return self.get("/user/get_user_info", query | changes)


@pytest.fixture
def calls(qq):
    return Calls(qq)


def hide_tokens(answer):
    """Return the text of an answer with each token as *."""
    return re.sub("[0-9A-F]{32}", lambda found: "OPENID" if found[0] == OPENID else "*", answer.data.decode())


@pytest.fixture
def pass_time(monkeypatch):
    real = time.time
    return lambda seconds: monkeypatch.setattr(time, "time", lambda: real() + seconds)


@pytest.mark.parametrize("display", [None, "mobile"])
def test_person_signs_in_on_the_page(qq, display):
    address = authorize_address(qq, display=display)
    shown = f"{qq.url}/oauth2.0/show?which=Login&display={display or 'pc'}&{urlsplit(address).query}"
    assert http.request("GET", address).headers["location"] == shown
    page = http.request("GET", shown).data.decode()
    hidden = re.findall('<input type="hidden" name="(.*?)" value="(.*?)"', page)
    assert {name: unescape(value) for name, value in hidden} == query_of(address)
    assert {("person", PERSON), ("cancel", "1")} <= {*re.findall('<button .*?name="(.*?)" value="(.*?)"', page)}
    location = qq.sign_in(address, PERSON)
    assert re.fullmatch(re.escape(CALLBACK) + r"\?code=[0-9A-F]{32}&state=x%2Fy%20z", location)
    with_query = authorize_address(qq, redirect_uri=CALLBACK + "?from=qq")
    assert qq.sign_in(with_query, PERSON).startswith(CALLBACK + "?from=qq&code=")


def test_wrong_authorize_request_ends_on_the_error_page(qq):
    for changes, number, text in (
        ({"response_type": None, "client_id": None}, 100000, "param response_type is wrong or lost(100000)"),
        ({"client_id": None, "redirect_uri": None}, 100001, "param client_id is wrong or lost (100001)"),
        ({"client_id": "1", "redirect_uri": None}, 100008, "client id is illegal, not exist [appid: 1] (100008)"),
        *(
            ({"redirect_uri": address}, 100010, "redirect uri is illegal(100010)")
            for address in (None, CALLBACK.replace("https", "http"), CALLBACK + "/", CALLBACK + "#/route")
        ),
    ):
        address = authorize_address(qq, **changes)
        error_page = f"{qq.url}/oauth2.0/show?which=error&display=pc&error={number}&"
        assert qq.sign_in(address, PERSON) == error_page + urlsplit(address).query
        assert text in http.request("GET", error_page + urlsplit(address).query).data.decode()
        assert http.request("POST", address, body="person=x").headers["location"].startswith(error_page)
    qq.behave(online=False)
    assert query_of(qq.sign_in(authorize_address(qq), PERSON))["error"] == "100011"


def test_cancel_closes_the_page_on_a_pc_and_returns_to_the_shop_on_a_phone(qq):
    assert qq.cancel(authorize_address(qq)) is None
    assert "已取消" in http.request("GET", f"{qq.url}/oauth2.0/show?which=closed").data.decode()
    assert qq.cancel(authorize_address(qq, display="mobile")) == CALLBACK + "?usercancel=1&state=x%2Fy%20z"


def test_token_is_a_form_or_json_with_the_openid_if_asked(qq, calls):
    for query, body in (
        ({}, FORM),
        ({"need_openid": "1"}, f"{FORM}&openid=OPENID"),
        ({"fmt": "json"}, f"{JSON}}}"),
        ({"fmt": "json", "need_openid": "1"}, f'{JSON},"openid":"OPENID"}}'),
    ):
        in_body = http.request("POST", f"{qq.url}/oauth2.0/token?{urlencode(query)}", body=urlencode(token_query(qq)))
        for answer in (calls.token(**query), in_body):
            assert (answer.status, answer.headers["content-type"], hide_tokens(answer)) == (200, "text/html", body)


def test_wrong_token_request_is_refused_with_status_200(qq, calls):
    for changes, number, text in (
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
    ):
        qq.behave(errors="json")
        answers = [calls.token(**changes), calls.token(**changes, fmt="json")]
        qq.behave(errors="jsonp")
        answers.append(calls.token(**changes, fmt="json"))
        error = f'{{"error":{number},"error_description":"{text}"}}'
        bodies = [f"callback( {error} );\n", error.replace(' "}', '"}'), f"callback( {error} );\n"]
        assert [(answer.status, answer.data.decode()) for answer in answers] == [(200, body) for body in bodies]


def test_code_works_once_within_ten_minutes(qq, calls, pass_time):
    def redeem(code, **changes):
        return calls.token(code=code, fmt="json", **changes).json().get("error")

    first, second = new_code(qq), new_code(qq)
    assert redeem(first, redirect_uri=CALLBACK + "?x") == 100010  # does not use it up
    pass_time(590)
    assert [redeem(first), redeem(first)] == [None, 100020]
    pass_time(600)
    assert redeem(second) == 100019


def test_refresh_token_works_once_within_three_months_and_replaces_both_tokens(calls, pass_time):
    def refresh(tokens):
        return calls.token(**REFRESH, refresh_token=tokens["refresh_token"], fmt="json").json()

    first = calls.token(fmt="json").json()
    second = refresh(first)
    assert second.keys() == first.keys()
    me_of_first, me_of_second = (calls.me(access_token=each["access_token"]).json() for each in (first, second))
    assert (me_of_first["error"], me_of_second["openid"], refresh(first)["error"]) == (100015, OPENID, 100021)
    pass_time(90 * 24 * 3600)
    assert refresh(second)["error"] == 100021


def test_me_is_a_callback_or_json_with_the_unionid_if_asked(calls):
    answer = calls.me(fmt=None)
    assert (answer.headers["content-type"], answer.data.decode()) == ("text/html", f"callback( {ME} );\n")
    unionid = calls.me(unionid="1").data.decode()
    assert re.fullmatch(re.escape(ME[:-1]) + ',"unionid":"UID_[0-9A-F]{32}"}', unionid)


def test_me_refuses_a_missing_wrong_or_expired_token_and_a_missing_right(qq, calls, pass_time):
    qq.behave(unionid="no_right")
    missing, wrong = calls.me(access_token=None, fmt=None), calls.me(access_token="0", unionid="1")
    assert missing.data == b'callback( {"error":100007,"error_description":"param access_token is wrong or lost"} );\n'
    assert wrong.data == b'{"error":100013,"error_description":"access token is illegal"}'
    assert calls.me(unionid="1").data == b'{"error":100048,"error_description":"companyid not set"}'
    assert calls.me(unionid="0").data.decode() == ME
    pass_time(60 * 24 * 3600)
    assert calls.me().json()["error"] == 100014


def test_get_user_info_is_the_profile_and_needs_its_scope(qq, calls):
    profile = hide_tokens(calls.user_info())
    start = '{\n    "ret": 0,\n    "msg": "",\n    "is_lost":0,\n    "nickname": "小企鹅🐧",\n    "gender": "男",\n'
    assert profile.startswith(start)
    assert '"http:\\/\\/qzapp.qlogo.cn\\/qzapp\\/101000001\\/OPENID\\/30"' in profile
    assert '"http://thirdqq.qlogo.cn/g?b=oidb&k=' in profile
    no_name = calls.token(code=new_code(qq, "没有昵称的人"), fmt="json", need_openid="1").json()
    assert calls.user_info(access_token=no_name["access_token"], openid=no_name["openid"]).json()["nickname"] == ""
    other_scope = calls.token(code=new_code(qq, scope="list_album,add_t"), fmt="json").json()["access_token"]
    assert calls.user_info(access_token=other_scope).json()["ret"] == 100030


def test_get_user_info_refuses_in_ret_and_msg(calls):
    invalid = "client request's parameters are invalid, invalid"
    for changes, ret, msg in (
        ({"oauth_consumer_key": None}, -1, f"{invalid} oauth_consumer_key"),
        *(({"openid": openid}, -1, f"{invalid} openid") for openid in (None, "0" * 31, "0" * 32)),
        *((changes, 1002, "请先登录") for changes in ({"access_token": None}, {"oauth_consumer_key": "1"})),
        ({"access_token": "0"}, 100013, "access token is illegal"),
    ):
        answer = calls.user_info(**changes)
        assert (answer.status, answer.data.decode()) == (200, f'{{"ret":{ret},"msg":"{msg}"}}')


@pytest.mark.parametrize(
    ("avatar", "url", "sizes"),
    [
        ("qzapp", "http://qzapp.qlogo.cn/qzapp/101000001/OPENID/{}", (50, 100, 100)),
        ("qqapp", "http://q.qlogo.cn/qqapp/101000001/OPENID/{}", (40, 100, 100)),
        ("thirdqq_g", "http://thirdqq.qlogo.cn/g?b=oidb&k=KEY&s={}&t=1557635654", (40, 100, 640)),
        ("thirdqq_ek", "http://thirdqq.qlogo.cn/ek_qqapp/KEY/{}", (40, 100, 100)),
    ],
)
def test_avatar_has_the_urls_of_every_generation(qq, calls, avatar, url, sizes):
    def avatars():
        text = calls.user_info().data.decode().replace("\\/", "/").replace(OPENID, "OPENID")
        return dict(re.findall('"figureurl_(qq.*?)": "(.*?)"', re.sub("[0-9a-f]{22,}", "KEY", text)))

    qq.behave(avatar=avatar)
    expected = dict(zip(("qq_1", "qq_2", "qq"), map(url.format, sizes), strict=True))
    assert avatars() == expected
    qq.behave(avatar_https=True, figureurl_qq_2="empty")
    expected = {name: url.replace("http:", "https:") for name, url in expected.items()}
    assert avatars() == {**expected, "qq_2": ""}
    qq.behave(figureurl_qq_2="absent")
    assert avatars() == {"qq_1": expected["qq_1"], "qq": expected["qq"]}


def test_profile_can_be_switched(qq, calls):
    lines = calls.user_info().data.decode()
    qq.behave(nickname='"\U0001f427', user_info_layout="compact")
    compact = calls.user_info().data.decode()
    assert compact.startswith('{"ret":0,"msg":"","is_lost":0,"nickname":"\\"🐧","gender":"男",')
    assert json.loads(compact) == {**json.loads(lines), "nickname": '"🐧'}
    qq.behave(nickname=None, user_info_layout="lines")
    assert calls.user_info().data.decode() == lines
    qq.behave(expires_in=0)
    expired = calls.token(fmt="json").json()["access_token"]
    assert [calls.user_info(access_token=token).json()["ret"] for token in ("0", expired)] == [100013, 100014]
    qq.behave(user_info_token_error="1002")
    assert [calls.user_info(access_token=token).json()["ret"] for token in ("0", expired)] == [1002, 1002]


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


def test_wrong_behaviour_is_refused_whole(qq, calls):
    with pytest.raises(ValueError, match="tokens: unknown key"):
        qq.behave(expires_in=1, tokens={})
    for document, named in {
        '{"expires_in": 1, "token": {"fault": "slwo"}}': "token.fault",
        '{"expires_in": 1, "me": {"fault": "slow", "times": -1}}': "me.times",
        '{"expires_in": 1, "token": {"fault": "error"}}': "token.number",
        '{"expires_in": 1, "errors": "xml"}': "errors",
        '{"expires_in": 1, "avatar": ["qqapp"]}': "avatar: must be qzapp or qqapp or thirdqq_g or thirdqq_ek",
        "[]": "the body",
        "{": "Expecting",
    }.items():
        answer = http.request("PUT", f"{qq.url}/_standin/behaviour", body=document)
        assert (answer.status, answer.json()["message"].startswith(named)) == (400, True), document
        assert calls.token(fmt="json").json()["expires_in"] == "5184000"


def test_requests_are_recorded(qq):
    before = time.time()
    http.request("GET", f"{qq.url}/oauth2.0/me?a=1&a=2&b=", headers={"User-Agent": "shop"})
    http.request("GET", f"{qq.url}/nowhere")
    http.request("GET", f"{qq.url}/favicon.ico")
    first, second = qq.requests()
    assert qq.requests("/nowhere") == [second]
    assert before <= first.pop("time") <= time.time()
    assert first.pop("headers")["user-agent"] == "shop"
    assert first == {"method": "GET", "path": "/oauth2.0/me", "query": {"a": "2", "b": ""}}


def test_fault_applies_to_its_own_call_as_often_as_it_says(qq, calls):
    qq.behave(me={"fault": "empty", "times": 2})
    assert calls.token(fmt="json").json()["expires_in"] == "5184000"
    assert [calls.me().data for _ in range(3)] == [b"", b"", ME.encode()]
    for end in (None, {}):
        qq.behave(me={"fault": "empty"})
        assert [calls.me().data for _ in range(3)] == [b""] * 3
        qq.behave(me=end)
        assert calls.me().data == ME.encode()


def test_fault_replaces_the_answer(qq, calls):
    for fault, status, body in (
        ({"fault": "empty"}, 200, "$"),
        ({"fault": "html"}, 200, "<html>"),
        ({"fault": "502"}, 502, "<html>"),
        ({"fault": "body", "body": "callback( "}, 200, r"callback\( $"),
    ):
        qq.behave(token=fault, me=fault, get_user_info=fault)
        for answer in (call() for call in calls.by_name.values()):
            assert (answer.status, answer.headers["content-type"]) == (status, "text/html")
            assert re.match(body, answer.data.decode())
    for number in (-1, 1002, *range(100013, 100017), 100030, 100031, 1001, -4, -6, -58, -60):
        qq.behave(get_user_info={"fault": "error", "number": number})
        answer = calls.user_info().json()
        assert (answer["ret"], answer["msg"] in ("", "unknown error")) == (number, False)
    numbers = {"token": 100020, "me": 7, "get_user_info": 1002}
    qq.behave(**{name: {"fault": "error", "number": number} for name, number in numbers.items()})
    assert [call().data.decode() for call in calls.by_name.values()] == [
        '{"error":100020,"error_description":"code is reused error"}',
        '{"error":7,"error_description":"unknown error"}',
        '{"ret":1002,"msg":"请先登录"}',
    ]


def test_redirect_leads_to_a_recorded_path_or_a_given_address(qq, calls):
    qq.behave(me={"fault": "redirect"})
    answer = calls.me(access_token="x", fmt=None)
    assert (answer.status, answer.headers["location"]) == (302, f"{qq.url}/elsewhere?access_token=x")
    assert http.request("GET", answer.headers["location"]).status == 404
    qq.behave(me={"fault": "redirect", "location": "http://127.0.0.1:1/"})
    assert calls.me().headers["location"] == "http://127.0.0.1:1/"


def send_raw(url, timeout=5):
    connection = socket.create_connection((urlsplit(url).hostname, urlsplit(url).port), timeout=timeout)
    connection.sendall(b"GET /oauth2.0/me?fmt=json HTTP/1.1\r\nHost: qq\r\n\r\n")
    return connection


@pytest.mark.parametrize(("fault", "starts"), [("slow", b"H"), ("drip", b"H{"), ("drip_headers", b"HT")])
def test_slow_answer_takes_its_time_and_arrives_whole(qq, calls, fault, starts):
    for endpoint, call in calls.by_name.items():
        whole = hide_tokens(call())
        qq.behave(**{endpoint: {"fault": fault, "seconds": 0.0002, "times": 1}})
        answer = call()
        assert (answer.headers["content-length"], hide_tokens(answer)) == (str(len(answer.data)), whole)
    qq.behave(me={"fault": fault, "seconds": 0.2})
    with send_raw(qq.url, timeout=0.5) as connection:
        assert b"".join(connection.recv(1000)[:1] for _ in starts) == starts


def test_answer_can_be_cut_in_half_or_endless(qq, calls):
    qq.behave(me={"fault": "cut"})
    with pytest.raises(urllib3.exceptions.ProtocolError, match=f"{len(ME) // 2} bytes read"):
        calls.me()
    qq.behave(me={"fault": "huge"})
    answer = http.request("GET", f"{qq.url}/oauth2.0/me", preload_content=False)
    assert (answer.headers.get("content-length"), len(answer.read(1 << 22))) == (None, 1 << 22)
    answer.close()


BROKEN = {"cut": "5 bytes read", "reset": "reset by peer", **dict.fromkeys(("slow", "drip", "hang"), "timed out")}


@pytest.mark.parametrize("fault", [*BROKEN, "empty", "502", "redirect", "error"])
def test_fault_uses_up_the_code_only_if_it_disturbs_a_real_answer(qq, calls, fault):
    query = token_query(qq)
    qq.behave(token={"fault": fault, "seconds": 60, "times": 1, "at": 5, "number": 100020})
    broken = pytest.raises(urllib3.exceptions.HTTPError, match=BROKEN[fault]) if fault in BROKEN else nullcontext()
    with broken:
        http.request("GET", f"{qq.url}/oauth2.0/token", fields=query, timeout=0.2)
    error = calls.token(code=query["code"], fmt="json").json().get("error")
    assert error == (100020 if fault in ("slow", "drip", "cut") else None)


@contextmanager
def command(*options, **environ):
    """Run `python -m standin` with these options; the block gets the process and a handle on the server."""
    environ = {name: value for name, value in os.environ.items() if "STANDIN" not in name} | environ
    command = [sys.executable, "-m", "standin", *options]
    with subprocess.Popen(command, cwd=ROOT, env=environ, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process, QQ(process.stdout.readline().split()[-1], "101000001", "")
        finally:
            process.kill()


@pytest.mark.parametrize(("ending", "fault"), [("SIGTERM", "hang"), ("SIGINT", "drip"), ("SIGTERM", "huge")])
def test_command_needs_no_configuration_and_ends_at_once_while_a_call_is_open(ending, fault):
    with command("--port", "0") as (process, qq):
        for callback in ("http://127.0.0.1:8000/oauth/qq/callback", "http://127.0.0.1:8000/oauth/qq/callback/"):
            assert new_code(qq, redirect_uri=callback)
        qq.reset()
        qq.behave(me={"fault": fault, "seconds": 60})
        with send_raw(qq.url):
            wait_until(qq.requests, "the call has arrived")
            process.send_signal(signal.Signals[ending])
            assert process.wait(timeout=2) == 0


def test_command_is_configured_by_the_environment():
    port, other = str(free_port()), "https://other.example/qq"
    environ = {"STANDIN_PORT": port, "STANDIN_CLIENT_ID": "7", "STANDIN_CLIENT_SECRET": "s"}
    with command(**environ, STANDIN_CALLBACKS=f"{other} ; {CALLBACK}") as (_, started):
        qq = QQ(f"http://127.0.0.1:{port}", "7", "s")
        assert started.url == qq.url
        assert Calls(qq).access_token
        assert new_code(qq, redirect_uri=other)

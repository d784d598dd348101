"""The pretend QQ over real sockets: its answers byte for byte, its switches and faults, and how it starts and ends."""

import json
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

from standin import running
from tests.tools.processes import ROOT, free_port, wait_until

CALLBACK = "https://shop.example.com/qq/callback"
PERSON = "小企鹅🐧"
OPENID = "E0EB84CA6BB1A34AC9243D8F14494969"
ME = f'{{"client_id":"101000001","openid":"{OPENID}"}}'
REFRESH = {"grant_type": "refresh_token", "code": None, "redirect_uri": None}
INVALID = "client request's parameters are invalid, invalid"
DAY = 24 * 3600


def hide_tokens(answer):
    """Return the text of an answer with each token as *."""
    return re.sub("[0-9A-F]{32}", lambda found: "OPENID" if found[0] == OPENID else "*", answer.data.decode())


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


@pytest.fixture
def get(qq, http):
    """Call the stand-in: `get("/oauth2.0/me", access_token="…")`; None leaves a parameter out."""

    def get(path, **query):
        return http.request("GET", f"{qq.url}{path}?{urlencode({k: v for k, v in query.items() if v is not None})}")

    return get


def token_query(qq, **changes):
    query = {"grant_type": "authorization_code", "client_id": qq.client_id, "client_secret": qq.client_secret}
    return {**query, "redirect_uri": CALLBACK, **({} if "code" in changes else {"code": new_code(qq)}), **changes}


@pytest.fixture
def token(get, qq):
    """Exchange a code; without changes a new code and right parameters."""
    return lambda **changes: get("/oauth2.0/token", **token_query(qq, **changes))


@pytest.fixture
def me(get, access_token):
    return lambda **changes: get("/oauth2.0/me", **{"access_token": access_token, "fmt": "json", **changes})


@pytest.fixture
def user_info(get, qq, access_token):
    query = {"access_token": access_token, "oauth_consumer_key": qq.client_id, "openid": OPENID}
    return lambda **changes: get("/user/get_user_info", **query | changes)


@pytest.fixture
def access_token(token):
    return token(fmt="json").json()["access_token"]


def authorize_address(qq, **changes):
    query = {"response_type": "code", "client_id": qq.client_id, "redirect_uri": CALLBACK, "state": "x/y z", **changes}
    return f"{qq.url}/oauth2.0/authorize?" + urlencode({k: v for k, v in query.items() if v is not None})


def query_of(address):
    return dict(parse_qsl(urlsplit(address).query, keep_blank_values=True))


def new_code(qq, person=PERSON, **changes):
    return query_of(qq.sign_in(authorize_address(qq, **changes), person))["code"]


@pytest.fixture
def pass_time(monkeypatch):
    real = time.time
    return lambda seconds: monkeypatch.setattr(time, "time", lambda: real() + seconds)


def fields_of(page, kind):
    """Return the (name, value) pairs of a page's buttons or hidden fields."""
    return [(name, unescape(value)) for name, value in re.findall(f'<{kind} .*?name="(.*?)" value="(.*?)"', page)]


# The browser's part ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("display", [None, "mobile"])
def test_person_signs_in_on_the_page(qq, http, display):
    address = authorize_address(qq, display=display)
    answer = http.request("GET", address)
    shown = f"{qq.url}/oauth2.0/show?which=Login&display={display or 'pc'}&{urlsplit(address).query}"
    assert (answer.status, answer.headers["location"]) == (302, shown)
    page = http.request("GET", shown).data.decode()
    hidden = dict(fields_of(page, 'input type="hidden"'))
    assert hidden == query_of(address)
    assert page.count('<form method="post" action="/oauth2.0/authorize">') == 2
    assert {("person", PERSON), ("cancel", "1")} <= {*fields_of(page, "button")}
    assert '<input type="text" id="other" name="person"' in page
    fields = {**hidden, "person": PERSON}
    answer = http.request_encode_body("POST", f"{qq.url}/oauth2.0/authorize", fields, encode_multipart=False)
    assert answer.status == 302
    assert re.fullmatch(re.escape(CALLBACK) + r"\?code=[0-9A-F]{32}&state=x%2Fy%20z", answer.headers["location"])


@pytest.mark.parametrize(
    ("changes", "number", "text"),
    [
        ({"response_type": None, "client_id": None}, 100000, "param response_type is wrong or lost(100000)"),
        ({"response_type": "password"}, 100000, "param response_type is wrong or lost(100000)"),
        ({"client_id": None, "redirect_uri": None}, 100001, "param client_id is wrong or lost (100001)"),
        ({"client_id": "1", "redirect_uri": None}, 100008, "client id is illegal, not exist [appid: 1] (100008)"),
        *(
            ({"redirect_uri": address}, 100010, "redirect uri is illegal(100010)")
            for address in (
                None,
                "http://shop.example.com/qq/callback",
                "https://shop.example.com:444/qq/callback",
                "https://www.shop.example.com/qq/callback",
                CALLBACK + "/",
                CALLBACK + "#/route",
            )
        ),
    ],
)
def test_wrong_authorize_request_ends_on_the_error_page(qq, http, changes, number, text):
    address = authorize_address(qq, **changes)
    query = urlsplit(address).query
    where = f"{qq.url}/oauth2.0/show?which=error&display=pc&error={number}&{query}"
    assert http.request("GET", address).headers["location"] == where
    page = http.request("GET", where)
    assert (page.status, text in page.data.decode()) == (200, True)
    posted = http.request("POST", f"{qq.url}/oauth2.0/authorize", body=query + "&person=x")
    assert posted.headers["location"].startswith(f"{qq.url}/oauth2.0/show?which=error&display=pc&error={number}")
    assert qq.sign_in(address, PERSON) == where
    assert qq.cancel(address) is None


def test_cancel_closes_the_page_on_a_pc_and_returns_to_the_shop_on_a_phone(qq, http):
    assert qq.cancel(authorize_address(qq)) is None
    answer = http.request("POST", authorize_address(qq), body="cancel=1")
    assert answer.headers["location"] == f"{qq.url}/oauth2.0/show?which=closed"
    assert "已取消" in http.request("GET", answer.headers["location"]).data.decode()
    assert qq.cancel(authorize_address(qq, display="mobile")) == CALLBACK + "?usercancel=1&state=x%2Fy%20z"


def test_special_cases_of_the_sign_in(qq, http):
    answer = http.request("POST", authorize_address(qq), body="person=")
    assert query_of(answer.headers["location"]) == query_of(authorize_address(qq))  # the page again
    location = qq.sign_in(authorize_address(qq, redirect_uri=CALLBACK + "?from=qq"), PERSON)
    assert location.startswith(CALLBACK + "?from=qq&code=")
    qq.behave(online=False)
    assert query_of(qq.sign_in(authorize_address(qq), PERSON))["error"] == "100011"
    with pytest.raises(ValueError, match=re.escape("https://graph.qq.com/oauth2.0/authorize?x=1")):
        qq.sign_in("https://graph.qq.com/oauth2.0/authorize?x=1", PERSON)
    front_page = http.request("GET", qq.url).data.decode()
    assert "不是腾讯的 QQ" in front_page
    assert CALLBACK in front_page


@pytest.mark.parametrize("which", ["Login", "error"])
def test_pages_escape_their_parameters(get, which):
    evil = "\"'><script>alert(1)</script>"
    query = dict.fromkeys(("error", "state", "redirect_uri", "client_id"), evil)
    assert "<script" not in get("/oauth2.0/show", which=which, display="pc", **query).data.decode()


# /oauth2.0/token ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "body"),
    [
        ({}, "access_token=*&expires_in=5184000&refresh_token=*"),
        ({"need_openid": "1"}, "access_token=*&expires_in=5184000&refresh_token=*&openid=OPENID"),
        ({"fmt": "json"}, '{"access_token":"*","expires_in":"5184000","refresh_token":"*"}'),
        (
            {"fmt": "json", "need_openid": "1"},
            '{"access_token":"*","expires_in":"5184000","refresh_token":"*","openid":"OPENID"}',
        ),
    ],
)
def test_token_is_a_form_or_json_with_the_openid_if_asked(qq, token, query, body):
    answer = token(**query)
    assert (answer.status, answer.headers["content-type"], hide_tokens(answer)) == (200, "text/html", body)
    assert qq.openid(PERSON) == OPENID


def test_token_reads_a_form_beside_the_query(qq, http):
    form = token_query(qq)
    answer = http.request("POST", f"{qq.url}/oauth2.0/token?fmt=json&need_openid=1", body=urlencode(form))
    assert answer.json()["openid"] == OPENID
    (recorded,) = qq.requests("/oauth2.0/token")
    assert recorded["query"] == {**form, "fmt": "json", "need_openid": "1"}


@pytest.mark.parametrize(
    ("changes", "number", "text"),
    [
        ({"grant_type": None, "client_id": None}, 100004, "param grant_type is wrong or lost"),
        ({"grant_type": "password"}, 100004, "param grant_type is wrong or lost"),
        ({"client_id": None, "client_secret": None}, 100001, "param client_id is wrong or lost "),
        ({"client_secret": None, "code": None}, 100002, "param client_secret is wrong or lost "),
        ({"code": None, "client_id": "1"}, 100005, "param code is wrong or lost"),
        ({"client_id": "1", "client_secret": "x"}, 100008, "client id is illegal, not exist [appid: 1] "),
        ({"client_secret": "x", "redirect_uri": None}, 100009, "client secret is illegal"),
        ({"redirect_uri": None}, 100010, "redirect uri is illegal"),
        ({"redirect_uri": CALLBACK + "?other"}, 100010, "redirect uri is illegal"),
        ({"redirect_uri": "https://elsewhere.example/", "code": "0"}, 100010, "redirect uri is illegal"),
        ({"code": "0" * 32}, 100019, "code to access token error"),
        ({**REFRESH, "client_id": None, "client_secret": None}, 100001, "param client_id is wrong or lost "),
        ({**REFRESH, "client_secret": None}, 100002, "param client_secret is wrong or lost "),
        ({**REFRESH, "client_id": "1"}, 100006, "param refresh_token is wrong or lost"),
        ({**REFRESH, "refresh_token": "0" * 32}, 100021, "get access token error"),
    ],
)
def test_wrong_token_request_is_refused_with_status_200(qq, token, changes, number, text):
    error = f'{{"error":{number},"error_description":"{text}"}}'
    answer = token(**changes)
    assert (answer.status, answer.data.decode()) == (200, f"callback( {error} );\n")
    answer = token(**changes, fmt="json")
    assert (answer.status, answer.data.decode()) == (200, error.replace(' "}', '"}'))


def test_code_works_once_within_ten_minutes(qq, token, pass_time):
    codes = [new_code(qq), new_code(qq)]
    assert token(code=codes[0], redirect_uri=CALLBACK + "?x", fmt="json").json()["error"] == 100010
    pass_time(590)
    assert "access_token" in token(code=codes[0], fmt="json").json()
    assert token(code=codes[0], fmt="json").data == b'{"error":100020,"error_description":"code is reused error"}'
    pass_time(600)
    assert token(code=codes[1], fmt="json").json()["error"] == 100019


def test_refresh_token_works_once_within_three_months_and_replaces_both_tokens(token, me, pass_time):
    def refresh(tokens):
        return token(**REFRESH, refresh_token=tokens["refresh_token"], fmt="json").json()

    first = token(fmt="json").json()
    second = refresh(first)
    assert second.keys() == first.keys()
    assert not {*second.values()} & {first["access_token"], first["refresh_token"]}
    assert refresh(first) == {"error": 100021, "error_description": "get access token error"}
    assert me(access_token=second["access_token"]).json()["openid"] == OPENID
    assert me(access_token=first["access_token"]).json()["error"] == 100015
    pass_time(90 * DAY)
    assert refresh(second)["error"] == 100021


# /oauth2.0/me and /user/get_user_info ---------------------------------------------------------------------------------


def test_me_is_a_callback_or_json_with_the_unionid_if_asked(me):
    answer = me(fmt=None)
    assert (answer.headers["content-type"], answer.data.decode()) == ("text/html", f"callback( {ME} );\n")
    assert me(unionid="0").data.decode() == ME
    unionid = me(unionid="1").data.decode()
    assert re.fullmatch(re.escape(ME[:-1]) + ',"unionid":"UID_[0-9A-F]{32}"}', unionid)


def test_me_refuses_a_missing_wrong_or_expired_token_and_a_missing_right(qq, me, pass_time):
    missing, wrong = me(access_token=None, fmt=None), me(access_token="0", unionid="1", fmt=None)
    assert missing.data == b'callback( {"error":100007,"error_description":"param access_token is wrong or lost"} );\n'
    assert wrong.data == b'callback( {"error":100013,"error_description":"access token is illegal"} );\n'
    qq.behave(unionid="no_right")
    assert me(unionid="1").data == b'{"error":100048,"error_description":"companyid not set"}'
    assert me().data.decode() == ME
    pass_time(60 * DAY)
    assert me().json()["error"] == 100014


USER_INFO = """{
    "ret": 0,
    "msg": "",
    "is_lost":0,
    "nickname": "小企鹅🐧",
    "gender": "男",
    "gender_type": 2,
    "province": "广东",
    "city": "深圳",
    "year": "1990",
    "constellation": "",
    "figureurl": "http:\\/\\/qzapp.qlogo.cn\\/qzapp\\/101000001\\/OPENID\\/30",
    "figureurl_1": "http:\\/\\/qzapp.qlogo.cn\\/qzapp\\/101000001\\/OPENID\\/50",
    "figureurl_2": "http:\\/\\/qzapp.qlogo.cn\\/qzapp\\/101000001\\/OPENID\\/100",
    "figureurl_qq_1": "http://thirdqq.qlogo.cn/g?b=oidb&k=KEY&s=40&t=1557635654",
    "figureurl_qq_2": "http://thirdqq.qlogo.cn/g?b=oidb&k=KEY&s=100&t=1557635654",
    "figureurl_qq": "http://thirdqq.qlogo.cn/g?b=oidb&k=KEY&s=640&t=1557635654",
    "figureurl_type": "1",
    "is_yellow_vip": "0",
    "vip": "0",
    "yellow_vip_level": "0",
    "level": "0",
    "is_yellow_year_vip": "0"
}"""


def test_get_user_info_is_the_profile_and_needs_its_scope(qq, token, user_info):
    answer = user_info()
    assert answer.headers["content-type"] == "text/html"
    assert re.sub("k=[^&]+", "k=KEY", hide_tokens(answer)) == USER_INFO
    access_token = token(code=new_code(qq, scope="list_album,add_t"), fmt="json").json()["access_token"]
    assert user_info(access_token=access_token).json()["ret"] == 100030


def test_one_of_the_prepared_people_has_no_nickname(qq, http, token, user_info):
    def nickname(person):
        answer = token(code=new_code(qq, person), fmt="json", need_openid="1").json()
        return user_info(access_token=answer["access_token"], openid=answer["openid"]).json()["nickname"]

    page = http.request("GET", http.request("GET", authorize_address(qq)).headers["location"]).data.decode()
    people = [value for name, value in fields_of(page, "button") if name == "person"]
    assert {"", PERSON} <= {nickname(person) for person in people}


@pytest.mark.parametrize(
    ("changes", "ret", "msg"),
    [
        ({"oauth_consumer_key": None}, -1, f"{INVALID} oauth_consumer_key"),
        ({"openid": None, "access_token": None}, -1, f"{INVALID} openid"),
        ({"openid": "0" * 31, "access_token": "0"}, -1, f"{INVALID} openid"),
        ({"openid": "0" * 32}, -1, f"{INVALID} openid"),
        ({"access_token": None}, 1002, "请先登录"),
        ({"oauth_consumer_key": "1"}, 1002, "请先登录"),
        ({"access_token": "0"}, 100013, "access token is illegal"),
    ],
)
def test_get_user_info_refuses_in_ret_and_msg(user_info, changes, ret, msg):
    answer = user_info(**changes)
    assert (answer.status, answer.data.decode()) == (200, f'{{"ret":{ret},"msg":"{msg}"}}')


# Switches -------------------------------------------------------------------------------------------------------------


def test_answers_can_be_switched(qq, token, me):
    qq.behave(ignore_need_openid=True, client_id="1100000001", charset=True, expires_in=7776000)
    answer = token(fmt="json", need_openid="1")
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.json().keys() == {"access_token", "expires_in", "refresh_token"}
    assert answer.json()["expires_in"] == "7776000"
    assert me().json()["client_id"] == "1100000001"
    qq.behave(expires_in_number=True)
    assert token(fmt="json").json()["expires_in"] == 7776000
    qq.behave(expires_in=0)
    assert me(access_token=token(fmt="json").json()["access_token"]).json()["error"] == 100014


@pytest.mark.parametrize("openid", ["", "0" * 33, None, 7, {"a": [1]}, "\ud83d"])
def test_openid_may_be_any_json(qq, token, me, openid):
    me()  # exchanges its code while the openid is still the person's own
    qq.behave(openid=openid)
    expected = json.dumps(openid, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass")
    assert token(fmt="json", need_openid="1").data.endswith(b'"openid":' + expected + b"}")
    assert me(fmt=None).data.endswith(b'"openid":' + expected + b"} );\n")
    assert token(need_openid="1").status == 200


def test_behaviour_is_merged_into_the_current_one(qq, http, token):
    qq.behave(expires_in=7776000, token={"fault": "body", "body": "x", "times": 1})
    answer = http.request("PUT", f"{qq.url}/_standin/behaviour", body='{"expires_in_number": true}')
    assert (answer.status, answer.json()["expires_in"]) == (200, 7776000)
    assert token().data == b"x"
    assert token(fmt="json").json()["expires_in"] == 7776000
    with pytest.raises(ValueError, match="tokens: unknown key"):
        qq.behave(tokens={})


@pytest.mark.parametrize(
    ("document", "named"),
    [
        ('{"expires_in": 1, "tokens": {}}', "tokens"),
        ('{"expires_in": 1, "token": {"fault": "slwo"}}', "token.fault"),
        ('{"expires_in": 1, "me": {"fault": "slow", "second": 3}}', "me.second"),
        ('{"expires_in": 1, "me": {"fault": "slow", "seconds": "3"}}', "me.seconds"),
        ('{"expires_in": 1, "me": {"fault": "slow", "times": -1}}', "me.times"),
        ('{"expires_in": 1, "get_user_info": {"times": 1}}', "get_user_info.fault"),
        ('{"expires_in": 1, "token": {"fault": "error"}}', "token.number"),
        ('{"expires_in": 1, "token": {"fault": "body"}}', "token.body"),
        ('{"expires_in": 1, "token": "slow"}', "token"),
        ('{"expires_in": 1, "errors": "xml"}', "errors"),
        ('{"expires_in": 1, "unionid": true}', "unionid"),
        ('{"expires_in": "1"}', "expires_in"),
        ("[]", "the body"),
        ("{", "Expecting"),
    ],
)
def test_wrong_behaviour_is_refused_whole(qq, http, token, document, named):
    answer = http.request("PUT", f"{qq.url}/_standin/behaviour", body=document)
    assert (answer.status, answer.json()["message"].startswith(named)) == (400, True)
    assert token(fmt="json").json()["expires_in"] == "5184000"


def test_requests_are_recorded(qq, http):
    before = time.time()
    http.request("GET", f"{qq.url}/oauth2.0/me?a=1&a=2&b=", headers={"User-Agent": "shop"})
    http.request("GET", f"{qq.url}/nowhere")
    http.request("GET", f"{qq.url}/favicon.ico")
    first, second = recorded = qq.requests()
    headers, moment = first.pop("headers"), first.pop("time")
    assert first == {"method": "GET", "path": "/oauth2.0/me", "query": {"a": "2", "b": ""}}
    assert headers["user-agent"] == "shop"
    assert before <= moment <= time.time()
    assert qq.requests("/nowhere") == [second]
    assert http.request("GET", f"{qq.url}/_standin/requests").json()[1:] == recorded[1:]


def test_reset_forgets_everything_but_the_callbacks(qq, http, token, me):
    code = new_code(qq)
    qq.behave(expires_in=1, token={"fault": "empty"})
    assert http.request("DELETE", f"{qq.url}/_standin").status == 204
    assert qq.requests() == []
    assert token(code=code, fmt="json").json()["error"] == 100019
    assert me().json()["error"] == 100013
    assert token(fmt="json").json()["expires_in"] == "5184000"


# Faults ---------------------------------------------------------------------------------------------------------------


@pytest.fixture
def calls(token, me, user_info):
    return {"token": lambda: token(fmt="json"), "me": me, "get_user_info": user_info}


def test_fault_lasts_as_many_calls_as_it_says_at_its_endpoint_only(qq, calls):
    qq.behave(me={"fault": "empty", "times": 2})
    assert calls["token"]().json()["expires_in"] == "5184000"
    assert calls["get_user_info"]().json()["ret"] == 0
    assert [calls["me"]().data for _ in range(3)] == [b"", b"", ME.encode()]


@pytest.mark.parametrize(("times", "end"), [({}, None), ({"times": 0}, {})])
def test_fault_without_times_lasts_until_it_is_ended(qq, me, times, end):
    qq.behave(me={"fault": "empty", **times})
    assert [me().data for _ in range(3)] == [b"", b"", b""]
    qq.behave(me=end)
    assert me().data == ME.encode()


ANSWERS = [
    ({"fault": "empty"}, 200, ""),
    ({"fault": "html"}, 200, "<html>"),
    ({"fault": "502"}, 502, "<html>"),
    ({"fault": 502}, 502, "<html>"),
    ({"fault": "body", "body": "callback( {} "}, 200, "callback( {} "),
]
ERRORS = [
    ("token", 100020, '{"error":100020,"error_description":"code is reused error"}'),
    ("me", 100016, '{"error":100016,"error_description":"access token check failed"}'),
    ("me", 424242, '{"error":424242,"error_description":"unknown error"}'),
    ("get_user_info", 1002, '{"ret":1002,"msg":"请先登录"}'),
]


@pytest.mark.parametrize(
    ("endpoint", "fault", "status", "body"),
    [
        *((endpoint, *answer) for endpoint in ("token", "me", "get_user_info") for answer in ANSWERS),
        *((endpoint, {"fault": "error", "number": number}, 200, body) for endpoint, number, body in ERRORS),
    ],
)
def test_fault_replaces_the_answer(qq, calls, endpoint, fault, status, body):
    qq.behave(**{endpoint: fault})
    answer = calls[endpoint]()
    assert (answer.status, answer.headers["content-type"]) == (status, "text/html")
    assert answer.data.decode() == body or (body == "<html>" and answer.data.startswith(b"<html>"))


def test_ordered_error_has_the_usual_shapes(qq, me):
    qq.behave(me={"fault": "error", "number": 100016})
    wrapped = b'callback( {"error":100016,"error_description":"access token check failed"} );\n'
    assert (me(fmt=None).data, me().data) == (wrapped, wrapped[10:-4])
    qq.behave(errors="jsonp")
    assert me().data == wrapped


def test_redirect_leads_to_a_recorded_path_or_a_given_address(qq, http, me):
    qq.behave(me={"fault": "redirect"})
    answer = me(access_token="x", fmt=None)
    assert answer.status == 302
    assert http.request("GET", answer.headers["location"]).status == 404
    assert (qq.requests()[-1]["path"], qq.requests()[-1]["query"]) == ("/elsewhere", {"access_token": "x"})
    qq.behave(me={"fault": "redirect", "location": "http://127.0.0.1:1/图"})
    assert me().headers["location"] == "http://127.0.0.1:1/%E5%9B%BE"


@pytest.mark.parametrize("endpoint", ["token", "me", "get_user_info"])
@pytest.mark.parametrize("fault", ["slow", "drip", "drip_headers"])
def test_slow_answer_arrives_whole(qq, calls, endpoint, fault):
    whole = hide_tokens(calls[endpoint]())
    qq.behave(**{endpoint: {"fault": fault, "seconds": 0.0002, "times": 1}})
    answer = calls[endpoint]()
    assert (answer.status, answer.headers["content-length"]) == (200, str(len(answer.data)))
    assert hide_tokens(answer) == hide_tokens(calls[endpoint]()) == whole


def send_raw(url, timeout=5):
    connection = socket.create_connection((urlsplit(url).hostname, urlsplit(url).port), timeout=timeout)
    connection.sendall(b"GET /oauth2.0/me?fmt=json HTTP/1.1\r\nHost: qq\r\n\r\n")
    return connection


@pytest.mark.parametrize(
    ("fault", "pieces"),
    [
        ("slow", [b"HTTP/1.1 200 OK"]),
        ("drip", [b"HTTP/1.1 200 OK", b"{", b'"', b"e"]),
        ("drip_headers", [b"H", b"T", b"T"]),
    ],
)
def test_slow_answer_takes_its_time(qq, fault, pieces):
    qq.behave(me={"fault": fault, "seconds": 0.2})
    with send_raw(qq.url, timeout=0.5) as connection:
        assert [connection.recv(1000).partition(b"\r\n")[0] for _ in pieces] == pieces


@pytest.mark.parametrize(("at", "arrived"), [({"at": 7}, 7), ({"at": 0}, 0), ({}, len(ME) // 2)])
def test_cut_answer_promises_more_than_it_sends(qq, access_token, http, at, arrived):
    qq.behave(me={"fault": "cut", **at})
    answer = http.request("GET", f"{qq.url}/oauth2.0/me?fmt=json&access_token={access_token}", preload_content=False)
    assert answer.headers["content-length"] == str(len(ME))
    with pytest.raises(urllib3.exceptions.ProtocolError) as error:
        answer.read()
    assert error.value.args[1].partial == ME[:arrived].encode()


def test_hang_reset_and_huge(qq, http):
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
    assert len(qq.requests("/oauth2.0/me")) == 3


@pytest.mark.parametrize(
    ("faults", "uses_code"),
    [
        (("slow", "drip", "drip_headers", "cut"), True),
        (("hang", "reset", "empty", "html", "502", "redirect", "error", "body"), False),
    ],
)
def test_fault_uses_the_code_up_only_if_it_spoils_the_way_back(qq, token, faults, uses_code):
    for fault in faults:
        query = token_query(qq)
        qq.behave(token={"fault": fault, "seconds": 60, "times": 1, "at": 5, "number": 100020, "body": ""})
        try:
            urllib3.request("GET", f"{qq.url}/oauth2.0/token", fields=query, timeout=0.2, retries=False)
        except (urllib3.exceptions.TimeoutError, urllib3.exceptions.ProtocolError):
            assert uses_code or fault in ("hang", "reset")
        else:
            assert not uses_code
        answer = token(code=query["code"], fmt="json").json()
        assert ("access_token" not in answer, answer.get("error")) == (uses_code, 100020 if uses_code else None), fault


# Start and end --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", ["hang", "slow", "drip", "drip_headers", "huge"])
def test_server_ends_at_once_while_a_call_is_open(fault):
    with ExitStack() as connections:
        with running() as qq:
            qq.behave(me={"fault": fault, "seconds": 60})
            connections.enter_context(send_raw(qq.url))
            wait_until(qq.requests, "the call has arrived")
            ending = time.monotonic()
        assert time.monotonic() - ending < 1


def test_several_servers_run_side_by_side():
    with running(client_id="1") as one, running(client_id="2") as two:
        assert one.url != two.url
        assert (one.client_id, two.client_id) == ("1", "2")
        assert len(one.client_secret) == 32
        urllib3.request("GET", one.url)
        assert (len(one.requests()), two.requests()) == (1, [])


@pytest.fixture
def command():
    """Start `python -m standin`; return the process and its address."""
    processes = []

    def command(*arguments, **environment):
        environment = {name: value for name, value in os.environ.items() if "STANDIN" not in name} | environment
        command = [sys.executable, "-m", "standin", *arguments]
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)
        processes.append(process)
        return process, process.stdout.readline().split()[-1]

    yield command
    for process in processes:
        process.kill()
        process.wait()
        process.stdout.close()


@pytest.mark.parametrize(("ending", "fault"), [(signal.SIGTERM, "hang"), (signal.SIGINT, "drip")])
def test_command_needs_no_configuration_and_ends_at_once_while_a_call_is_open(command, ending, fault):
    process, url = command("--port", "0")
    assert url.startswith("http://127.0.0.1:")
    for end in ("", "/"):
        query = {"client_id": "101000001", "redirect_uri": "http://127.0.0.1:8000/oauth/qq/callback" + end}
        address = f"{url}/oauth2.0/authorize?response_type=code&{urlencode(query)}"
        assert "?which=Login&" in urllib3.request("GET", address, redirect=False).headers["location"]
    urllib3.request("DELETE", f"{url}/_standin")
    behaviour = json.dumps({"me": {"fault": fault, "seconds": 60}})
    assert urllib3.request("PUT", f"{url}/_standin/behaviour", body=behaviour).status == 200
    with send_raw(url):
        wait_until(lambda: urllib3.request("GET", f"{url}/_standin/requests").json(), "the call has arrived")
        process.send_signal(ending)
        assert process.wait(timeout=2) == 0


@pytest.mark.parametrize("by", ["options", "environment"])
def test_command_is_configured_by_options_or_environment(command, by):
    port = str(free_port())
    callbacks = ["https://a.example/qq", "https://b.example/qq"]
    if by == "options":
        options = [part for callback in callbacks for part in ("--callback", callback)]
        _, url = command("--port", port, "--client-id", "7", "--client-secret", "s", *options)
    else:
        names = {"STANDIN_PORT": port, "STANDIN_CLIENT_ID": "7", "STANDIN_CLIENT_SECRET": "s"}
        _, url = command(**names, STANDIN_CALLBACKS=" ; ".join(callbacks))
    assert url == f"http://127.0.0.1:{port}"
    for callback in callbacks:
        address = f"{url}/oauth2.0/authorize?response_type=code&client_id=7&redirect_uri={callback}"
        back = urllib3.request("POST", address, body="person=x", redirect=False).headers["location"]
        query = {"grant_type": "authorization_code", "client_id": "7", "client_secret": "s"}
        query |= {"redirect_uri": callback, "code": query_of(back)["code"], "fmt": "json"}
        assert urllib3.request("GET", f"{url}/oauth2.0/token", fields=query).json()["expires_in"] == "5184000"


def test_command_reports_that_its_port_is_taken(qq):
    port = str(urlsplit(qq.url).port)
    command = [sys.executable, "-m", "standin", "--port", port]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=10)
    assert ended.returncode == 1
    assert ended.stderr.startswith(f"cannot listen on 127.0.0.1:{port}: ")
    assert "Traceback" not in ended.stderr

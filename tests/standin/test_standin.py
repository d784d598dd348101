"""The pretend QQ itself, driven over real sockets: its answers byte for byte, its switches, and its end."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import parse_qsl, urlencode, urlsplit

import pytest
import urllib3

from standin import running

CALLBACK = "https://shop.example.com/qq/callback"
PERSON = "小企鹅🐧"
OPENID = "E0EB84CA6BB1A34AC9243D8F14494969"
HEX = re.compile("[0-9A-F]{32}")


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
    """Ask the stand-in: `get("/oauth2.0/me", access_token="…")`; None leaves a parameter out."""

    def get(path, method="GET", **query):
        fields = {name: value for name, value in query.items() if value is not None}
        return http.request(method, f"{qq.url}{path}?{urlencode(fields)}")

    return get


@pytest.fixture
def token(get, qq):
    """Exchange a code: a new one unless told otherwise, with every parameter right unless told otherwise."""

    def token(**changes):
        query = {
            "grant_type": "authorization_code",
            "client_id": qq.client_id,
            "client_secret": qq.client_secret,
            "redirect_uri": CALLBACK,
            **changes,
        }
        return get("/oauth2.0/token", **{"code": new_code(qq), **query} if "code" not in query else query)

    return token


@pytest.fixture
def access_token(token):
    return token(fmt="json").json()["access_token"]


def authorize_address(qq, **changes):
    query = {
        "response_type": "code",
        "client_id": qq.client_id,
        "redirect_uri": CALLBACK,
        "state": "x/y z",
        **changes,
    }
    return f"{qq.url}/oauth2.0/authorize?" + urlencode({k: v for k, v in query.items() if v is not None})


def query_of(address):
    return dict(parse_qsl(urlsplit(address).query, keep_blank_values=True))


def new_code(qq, **changes):
    return query_of(qq.sign_in(authorize_address(qq, **changes), PERSON))["code"]


def pass_time(monkeypatch, seconds):
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + seconds)


class Form(HTMLParser):
    """The forms of a page: their targets, hidden fields, and what may be pressed or typed."""

    def __init__(self, page):
        super().__init__()
        self.targets, self.hidden, self.buttons, self.text = [], {}, [], []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        if tag == "form":
            self.targets.append((attrs["method"], attrs["action"]))
        elif attrs.get("type") == "hidden":
            self.hidden[attrs["name"]] = attrs["value"]
        elif attrs.get("type") == "text":
            self.text.append(attrs["name"])
        elif tag == "button" and "name" in attrs:
            self.buttons.append((attrs["name"], attrs["value"]))


# The browser's part.


@pytest.mark.parametrize("display", [None, "mobile"])
def test_a_person_signs_in_through_the_page(qq, http, display):
    address = authorize_address(qq, display=display)
    answer = http.request("GET", address)
    layout = display or "pc"
    shown = answer.headers["location"]
    assert answer.status == 302
    assert shown == f"{qq.url}/oauth2.0/show?which=Login&display={layout}&{urlsplit(address).query}"

    form = Form(http.request("GET", shown).data.decode())
    assert form.targets == [("post", "/oauth2.0/authorize")] * 2
    assert form.hidden == query_of(address)
    assert form.text == ["person"]
    assert ("person", PERSON) in form.buttons
    assert ("cancel", "1") in form.buttons

    answer = http.request_encode_body(
        "POST",
        f"{qq.url}/oauth2.0/authorize",
        {**form.hidden, "person": PERSON},
        encode_multipart=False,
    )
    assert answer.status == 302
    assert re.fullmatch(re.escape(CALLBACK) + r"\?code=[0-9A-F]{32}&state=x%2Fy%20z", answer.headers["location"])


@pytest.mark.parametrize(
    ("changes", "number", "text"),
    [
        ({"response_type": None, "client_id": None}, 100000, "param response_type is wrong or lost(100000)"),
        ({"response_type": "password"}, 100000, "param response_type is wrong or lost(100000)"),
        ({"client_id": None, "redirect_uri": None}, 100001, "param client_id is wrong or lost (100001)"),
        (
            {"client_id": "1100000001", "redirect_uri": None},
            100008,
            "client id is illegal, not exist [appid: 1100000001] (100008)",
        ),
        ({"redirect_uri": None}, 100010, "redirect uri is illegal(100010)"),
        ({"redirect_uri": "http://shop.example.com/qq/callback"}, 100010, "redirect uri is illegal(100010)"),
        ({"redirect_uri": "https://shop.example.com:444/qq/callback"}, 100010, "redirect uri is illegal(100010)"),
        ({"redirect_uri": "https://www.shop.example.com/qq/callback"}, 100010, "redirect uri is illegal(100010)"),
        ({"redirect_uri": CALLBACK + "/"}, 100010, "redirect uri is illegal(100010)"),
        ({"redirect_uri": CALLBACK + "#/route"}, 100010, "redirect uri is illegal(100010)"),
    ],
)
def test_a_wrong_authorize_request_ends_on_the_error_page(qq, http, changes, number, text):
    address = authorize_address(qq, **changes)
    query = urlsplit(address).query
    where = f"{qq.url}/oauth2.0/show?which=error&display=pc&error={number}&{query}"
    assert http.request("GET", address).headers["location"] == where
    page = http.request("GET", where)
    assert page.status == 200
    assert text in page.data.decode()
    # The page's own POST is checked as well, whoever made it.
    answer = http.request("POST", f"{qq.url}/oauth2.0/authorize", body=query + "&person=x")
    assert answer.headers["location"].startswith(f"{qq.url}/oauth2.0/show?which=error&display=pc&error={number}")
    assert qq.sign_in(address, PERSON) == where
    assert qq.cancel(address) is None


def test_an_application_that_is_offline_is_refused_with_100011(qq):
    qq.behave(online=False)
    assert query_of(qq.sign_in(authorize_address(qq), PERSON))["error"] == "100011"


def test_a_callback_may_bring_a_query_of_its_own(qq):
    location = qq.sign_in(authorize_address(qq, redirect_uri=CALLBACK + "?from=qq"), PERSON)
    assert location.startswith(CALLBACK + "?from=qq&code=")


def test_cancel_closes_the_page_on_a_pc(qq, http):
    assert qq.cancel(authorize_address(qq)) is None
    answer = http.request("POST", authorize_address(qq), body="cancel=1")
    assert answer.headers["location"] == f"{qq.url}/oauth2.0/show?which=closed"
    assert "已取消" in http.request("GET", answer.headers["location"]).data.decode()


def test_cancel_goes_back_with_usercancel_on_a_phone(qq):
    assert qq.cancel(authorize_address(qq, display="mobile")) == CALLBACK + "?usercancel=1&state=x%2Fy%20z"


def test_nobody_chosen_shows_the_page_again(qq, http):
    answer = http.request("POST", authorize_address(qq), body="person=")
    assert query_of(answer.headers["location"]) == query_of(authorize_address(qq))


@pytest.mark.parametrize("which", ["Login", "error"])
def test_pages_escape_what_they_are_given(qq, get, which):
    evil = "\"'><script>alert(1)</script>"
    page = get(
        "/oauth2.0/show", which=which, display="pc", error=evil, state=evil, redirect_uri=evil, client_id=evil
    ).data.decode()
    assert "<script" not in page


def test_an_authorize_address_of_somebody_else_is_not_played(qq):
    with pytest.raises(ValueError, match=re.escape("https://graph.qq.com/oauth2.0/authorize?x=1")):
        qq.sign_in("https://graph.qq.com/oauth2.0/authorize?x=1", PERSON)


# /oauth2.0/token


def test_token_answers_a_form_unless_asked_for_json(token):
    answer = token()
    assert re.fullmatch(
        rb"access_token=[0-9A-F]{32}&expires_in=5184000&refresh_token=[0-9A-F]{32}",
        answer.data,
    )
    assert token(need_openid="1").data.endswith(b"&openid=" + OPENID.encode())
    assert answer.status == 200
    assert answer.headers["content-type"] == "text/html"


def test_token_answers_compact_json_with_fmt_json(token):
    answer = token(fmt="json")
    pattern = '{"access_token":"HEX","expires_in":"5184000","refresh_token":"HEX"}'
    assert HEX.sub("HEX", answer.data.decode()) == pattern
    assert answer.headers["content-type"] == "text/html"


def test_token_gives_the_openid_when_asked(token, qq):
    assert qq.openid(PERSON) == OPENID
    answer = token(fmt="json", need_openid="1").data.decode()
    assert answer.endswith(',"openid":"' + OPENID + '"}')


def test_token_takes_a_form_beside_the_query(qq, http):
    form = {
        "grant_type": "authorization_code",
        "client_id": qq.client_id,
        "client_secret": qq.client_secret,
        "code": new_code(qq),
        "redirect_uri": CALLBACK,
    }
    answer = http.request("POST", f"{qq.url}/oauth2.0/token?fmt=json&need_openid=1", body=urlencode(form))
    assert answer.json()["openid"] == OPENID
    (recorded,) = qq.requests("/oauth2.0/token")
    assert recorded["query"] == {**form, "fmt": "json", "need_openid": "1"}


TOKEN_ERRORS = [
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
]


@pytest.mark.parametrize(("changes", "number", "text"), TOKEN_ERRORS)
def test_a_wrong_token_request_is_refused_with_status_200(token, changes, number, text):
    answer = token(**changes)
    assert answer.status == 200
    assert answer.data.decode() == f'callback( {{"error":{number},"error_description":"{text}"}} );\n'
    answer = token(**changes, fmt="json")
    assert answer.status == 200
    assert answer.data.decode() == f'{{"error":{number},"error_description":"{text.rstrip()}"}}'


def test_errors_may_come_wrapped_even_with_fmt_json(qq, token):
    qq.behave(errors="jsonp")
    answer = token(code="0" * 32, fmt="json")
    assert answer.data == b'callback( {"error":100019,"error_description":"code to access token error"} );\n'


def test_a_code_works_once(qq, token):
    code = new_code(qq)
    assert token(code=code, redirect_uri=CALLBACK + "?x", fmt="json").json()["error"] == 100010
    assert "access_token" in token(code=code, fmt="json").json()
    assert token(code=code, fmt="json").data == b'{"error":100020,"error_description":"code is reused error"}'


def test_a_code_lives_ten_minutes(qq, token, monkeypatch):
    codes = [new_code(qq), new_code(qq)]
    with monkeypatch.context() as patch:
        pass_time(patch, 590)
        assert "access_token" in token(code=codes[0], fmt="json").json()
    pass_time(monkeypatch, 600)
    assert token(code=codes[1], fmt="json").json()["error"] == 100019


def test_a_refresh_token_works_once_and_replaces_both_tokens(qq, get, token):
    first = token(fmt="json").json()
    query = {
        "grant_type": "refresh_token",
        "client_id": qq.client_id,
        "client_secret": qq.client_secret,
        "refresh_token": first["refresh_token"],
        "fmt": "json",
    }
    second = get("/oauth2.0/token", **query).json()
    assert second.keys() == first.keys()
    assert not set(second.values()) & {first["access_token"], first["refresh_token"]}
    assert get("/oauth2.0/token", **query).json() == {
        "error": 100021,
        "error_description": "get access token error",
    }
    assert get("/oauth2.0/me", access_token=second["access_token"], fmt="json").json()["openid"] == OPENID
    assert get("/oauth2.0/me", access_token=first["access_token"], fmt="json").json()["error"] == 100015


@pytest.mark.parametrize(
    ("changes", "number"),
    [
        ({"client_id": None, "client_secret": None}, 100001),
        ({"client_secret": None, "refresh_token": None}, 100002),
        ({"refresh_token": None, "client_id": "1"}, 100006),
        ({"refresh_token": "0" * 32}, 100021),
    ],
)
def test_a_wrong_refresh_is_refused(token, changes, number):
    changes = {"grant_type": "refresh_token", "refresh_token": "0", **changes}
    assert token(**changes, fmt="json").json()["error"] == number


def test_refreshing_ends_three_months_after_the_login(token, monkeypatch):
    refresh_token = token(fmt="json").json()["refresh_token"]
    pass_time(monkeypatch, 90 * 24 * 3600)
    answer = token(grant_type="refresh_token", refresh_token=refresh_token, code="", fmt="json")
    assert answer.json()["error"] == 100021


# /oauth2.0/me

ME = f'{{"client_id":"101000001","openid":"{OPENID}"}}'


def test_me_answers_a_callback_or_json(get, access_token):
    answer = get("/oauth2.0/me", access_token=access_token)
    assert answer.headers["content-type"] == "text/html"
    assert answer.data.decode() == f"callback( {ME} );\n"
    assert get("/oauth2.0/me", access_token=access_token, unionid="0", fmt="json").data.decode() == ME


def test_me_adds_the_unionid_when_asked(get, access_token):
    answer = get("/oauth2.0/me", access_token=access_token, unionid="1", fmt="json").data.decode()
    assert re.fullmatch(re.escape(ME[:-1]) + ',"unionid":"UID_[0-9A-F]{32}"}', answer)


def test_me_without_the_unionid_right_fails_whole(qq, get, access_token):
    qq.behave(unionid="no_right")
    answer = get("/oauth2.0/me", access_token=access_token, unionid="1", fmt="json")
    assert answer.data == b'{"error":100048,"error_description":"companyid not set"}'
    assert get("/oauth2.0/me", access_token=access_token, fmt="json").data.decode() == ME


@pytest.mark.parametrize(
    ("access_token", "number", "text"),
    [(None, 100007, "param access_token is wrong or lost"), ("0", 100013, "access token is illegal")],
)
def test_me_refuses_a_wrong_token(get, access_token, number, text):
    answer = get("/oauth2.0/me", access_token=access_token, unionid="1")
    assert answer.data.decode() == f'callback( {{"error":{number},"error_description":"{text}"}} );\n'


def test_a_token_expires(qq, get, access_token, monkeypatch):
    pass_time(monkeypatch, 5184000)
    assert get("/oauth2.0/me", access_token=access_token, fmt="json").json()["error"] == 100014


# /user/get_user_info

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


@pytest.fixture
def user_info(get, qq, access_token):
    def user_info(**changes):
        query = {"access_token": access_token, "oauth_consumer_key": qq.client_id, "openid": OPENID, **changes}
        return get("/user/get_user_info", **query)

    return user_info


def test_get_user_info_answers_the_profile(user_info):
    answer = user_info()
    assert answer.headers["content-type"] == "text/html"
    assert re.sub("k=[^&]+", "k=KEY", answer.data.decode()).replace(OPENID, "OPENID") == USER_INFO


def test_one_of_the_prepared_people_has_no_nickname(qq, get, http):
    shown = http.request("GET", authorize_address(qq)).headers["location"]
    buttons = Form(http.request("GET", shown).data.decode()).buttons
    nicknames = []
    for name, person in buttons:
        if name == "person":
            code = query_of(qq.sign_in(authorize_address(qq), person))["code"]
            query = {"client_id": qq.client_id, "client_secret": qq.client_secret, "redirect_uri": CALLBACK}
            query |= {"grant_type": "authorization_code", "code": code, "fmt": "json", "need_openid": "1"}
            answer = get("/oauth2.0/token", **query).json()
            query = {"access_token": answer["access_token"], "openid": answer["openid"]}
            profile = get("/user/get_user_info", **query, oauth_consumer_key=qq.client_id).json()
            nicknames.append(profile["nickname"])
    assert "" in nicknames
    assert PERSON in nicknames


@pytest.mark.parametrize(
    ("changes", "ret", "msg"),
    [
        (
            {"oauth_consumer_key": None},
            -1,
            "client request's parameters are invalid, invalid oauth_consumer_key",
        ),
        ({"openid": None, "access_token": None}, -1, "client request's parameters are invalid, invalid openid"),
        ({"openid": "0" * 31, "access_token": "0"}, -1, "client request's parameters are invalid, invalid openid"),
        ({"openid": "0" * 32}, -1, "client request's parameters are invalid, invalid openid"),
        ({"access_token": None}, 1002, "请先登录"),
        ({"oauth_consumer_key": "1"}, 1002, "请先登录"),
        ({"access_token": "0"}, 100013, "access token is illegal"),
    ],
)
def test_get_user_info_refuses_in_ret_and_msg(user_info, changes, ret, msg):
    answer = user_info(**changes)
    assert answer.status == 200
    assert answer.data.decode() == f'{{"ret":{ret},"msg":"{msg}"}}'


def test_get_user_info_needs_its_scope(qq, token, user_info):
    code = new_code(qq, scope="list_album,add_t")
    access_token = token(code=code, fmt="json").json()["access_token"]
    assert user_info(access_token=access_token).json()["ret"] == 100030


# The switches.


def test_need_openid_may_be_ignored(qq, token):
    qq.behave(ignore_need_openid=True)
    assert "openid" not in token(fmt="json", need_openid="1").json()


def test_me_may_answer_another_client_id(qq, get, access_token):
    qq.behave(client_id="1100000001")
    assert get("/oauth2.0/me", access_token=access_token, fmt="json").json()["client_id"] == "1100000001"


def test_expires_in_may_differ_in_value_and_type(qq, token):
    qq.behave(expires_in=7776000)
    assert token(fmt="json").json()["expires_in"] == "7776000"
    qq.behave(expires_in_number=True)
    assert token(fmt="json").json()["expires_in"] == 7776000


def test_a_token_may_be_late_already(qq, get, token):
    qq.behave(expires_in=0)
    access_token = token(fmt="json").json()["access_token"]
    assert get("/oauth2.0/me", access_token=access_token, fmt="json").json()["error"] == 100014


def test_the_content_type_may_name_its_charset(qq, token):
    qq.behave(charset=True)
    assert token().headers["content-type"] == "text/html; charset=utf-8"


@pytest.mark.parametrize("openid", ["", "0" * 33, None, 7, {"a": [1]}, "\ud83d"])
def test_openid_may_be_anything(qq, http, get, token, openid):
    access_token = token(fmt="json").json()["access_token"]
    qq.behave(openid=openid)
    expected = json.dumps(openid, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass")
    assert token(fmt="json", need_openid="1").data.endswith(b'"openid":' + expected + b"}")
    assert get("/oauth2.0/me", access_token=access_token).data.endswith(b'"openid":' + expected + b"} );\n")
    assert token(need_openid="1").status == 200


def test_behaviour_is_merged_into_what_is_set(qq, http, token):
    qq.behave(expires_in=7776000, token={"fault": "body", "body": "x", "times": 1})
    answer = http.request("PUT", f"{qq.url}/_standin/behaviour", body=json.dumps({"expires_in_number": True}))
    assert answer.status == 200
    assert answer.json()["expires_in"] == 7776000
    assert token().data == b"x"
    assert token(fmt="json").json()["expires_in"] == 7776000


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
    assert answer.status == 400
    assert answer.json()["message"].startswith(named)
    assert token(fmt="json").json()["expires_in"] == "5184000"


def test_behave_raises_what_the_stand_in_refuses(qq):
    with pytest.raises(ValueError, match="tokens: unknown key"):
        qq.behave(tokens={})


def test_requests_are_recorded(qq, http):
    before = time.time()
    http.request("GET", f"{qq.url}/oauth2.0/me?a=1&a=2&b=", headers={"User-Agent": "shop"})
    http.request("GET", f"{qq.url}/nowhere")
    http.request("GET", f"{qq.url}/favicon.ico")
    recorded = qq.requests()
    assert [request["path"] for request in recorded] == ["/oauth2.0/me", "/nowhere"]
    assert recorded[0].keys() == {"method", "path", "query", "headers", "time"}
    assert recorded[0]["method"] == "GET"
    assert recorded[0]["query"] == {"a": "2", "b": ""}
    assert recorded[0]["headers"]["user-agent"] == "shop"
    assert before <= recorded[0]["time"] <= time.time()
    assert qq.requests("/nowhere") == recorded[1:]
    assert http.request("GET", f"{qq.url}/_standin/requests").json() == recorded


def test_reset_forgets_all_but_the_callbacks(qq, http, get, token, access_token):
    code = new_code(qq)
    qq.behave(expires_in=1, token={"fault": "empty"})
    assert http.request("DELETE", f"{qq.url}/_standin").status == 204
    assert qq.requests() == []
    assert token(code=code, fmt="json").json()["error"] == 100019
    assert get("/oauth2.0/me", access_token=access_token, fmt="json").json()["error"] == 100013
    assert token(fmt="json").json()["expires_in"] == "5184000"


def test_the_first_page_tells_what_this_is(qq, http):
    page = http.request("GET", qq.url).data.decode()
    assert "不是腾讯的 QQ" in page
    assert CALLBACK in page


# The faults.

ENDPOINTS = ["token", "me", "get_user_info"]


@pytest.fixture
def calls(token, get, user_info, access_token):
    return {
        "token": lambda: token(fmt="json"),
        "me": lambda: get("/oauth2.0/me", access_token=access_token, fmt="json"),
        "get_user_info": user_info,
    }


def test_a_fault_lasts_as_many_calls_as_it_says(qq, calls):
    qq.behave(me={"fault": "empty", "times": 2})
    assert [calls["me"]().data for _ in range(3)] == [b"", b"", ME.encode()]


@pytest.mark.parametrize("times", [{}, {"times": 0}])
@pytest.mark.parametrize("end", [None, {}])
def test_a_fault_lasts_for_ever_unless_it_is_ended(qq, calls, times, end):
    qq.behave(me={"fault": "empty", **times})
    assert [calls["me"]().data for _ in range(3)] == [b"", b"", b""]
    qq.behave(me=end)
    assert calls["me"]().data == ME.encode()


def test_a_fault_is_for_one_endpoint(qq, calls):
    qq.behave(me={"fault": "empty"})
    assert calls["token"]().json()["expires_in"] == "5184000"
    assert calls["get_user_info"]().json()["ret"] == 0


@pytest.mark.parametrize("endpoint", ENDPOINTS)
@pytest.mark.parametrize(
    ("fault", "status", "data"),
    [
        ({"fault": "empty"}, 200, b""),
        ({"fault": "html"}, 200, None),
        ({"fault": "502"}, 502, None),
        ({"fault": 502}, 502, None),
        ({"fault": "body", "body": "callback( {} "}, 200, b"callback( {} "),
    ],
)
def test_faults_that_answer_something_else(qq, calls, endpoint, fault, status, data):
    qq.behave(**{endpoint: fault})
    answer = calls[endpoint]()
    assert answer.status == status
    assert answer.headers["content-type"] == "text/html"
    if data is None:
        assert answer.data.startswith(b"<html>")
    else:
        assert answer.data == data


@pytest.mark.parametrize(
    ("endpoint", "number", "data"),
    [
        ("token", 100020, '{"error":100020,"error_description":"code is reused error"}'),
        ("me", 100016, '{"error":100016,"error_description":"access token check failed"}'),
        ("me", 424242, '{"error":424242,"error_description":"unknown error"}'),
        ("get_user_info", 1002, '{"ret":1002,"msg":"请先登录"}'),
    ],
)
def test_an_error_of_qq_can_be_ordered(qq, calls, endpoint, number, data):
    qq.behave(**{endpoint: {"fault": "error", "number": number}})
    assert calls[endpoint]().data.decode() == data


def test_an_ordered_error_has_the_usual_shapes(qq, get):
    qq.behave(me={"fault": "error", "number": 100016})
    wrapped = b'callback( {"error":100016,"error_description":"access token check failed"} );\n'
    assert get("/oauth2.0/me").data == wrapped
    assert get("/oauth2.0/me", fmt="json").data == wrapped[10:-4]
    qq.behave(errors="jsonp")
    assert get("/oauth2.0/me", fmt="json").data == wrapped


def test_redirect_leads_elsewhere_and_that_is_recorded(qq, http, get):
    qq.behave(me={"fault": "redirect"})
    answer = get("/oauth2.0/me", access_token="x")
    assert answer.status == 302
    assert http.request("GET", answer.headers["location"]).status == 404
    assert qq.requests()[-1]["path"] == "/elsewhere"
    assert qq.requests()[-1]["query"] == {"access_token": "x"}
    qq.behave(me={"fault": "redirect", "location": "http://127.0.0.1:1/图"})
    assert get("/oauth2.0/me").headers["location"] == "http://127.0.0.1:1/%E5%9B%BE"


@pytest.mark.parametrize("endpoint", ENDPOINTS)
@pytest.mark.parametrize("fault", ["slow", "drip", "drip_headers"])
def test_slow_faults_bring_the_whole_answer(qq, calls, endpoint, fault):
    whole = HEX.sub("", calls[endpoint]().data.decode())
    qq.behave(**{endpoint: {"fault": fault, "seconds": 0.001, "times": 1}})
    answer = calls[endpoint]()
    assert answer.status == 200
    assert answer.headers["content-length"] == str(len(answer.data))
    assert HEX.sub("", answer.data.decode()) == whole
    assert HEX.sub("", calls[endpoint]().data.decode()) == whole


@pytest.mark.parametrize("fault", ["slow", "drip", "drip_headers"])
def test_slow_faults_take_their_time(qq, fault):
    qq.behave(me={"fault": fault, "seconds": 0.2})
    host, port = urlsplit(qq.url).hostname, urlsplit(qq.url).port
    with socket.create_connection((host, port), timeout=0.5) as connection:
        connection.sendall(b"GET /oauth2.0/me?fmt=json HTTP/1.1\r\nHost: qq\r\n\r\n")
        if fault == "slow":
            assert connection.recv(17) == b"HTTP/1.1 200 OK\r\n"
        elif fault == "drip_headers":
            assert [connection.recv(100) for _ in range(3)] == [b"H", b"T", b"T"]
        else:
            head = connection.recv(1000)
            assert head.startswith(b"HTTP/1.1 200 OK\r\n")
            assert head.endswith(b"\r\n\r\n")
            assert [connection.recv(100) for _ in range(3)] == [b"{", b'"', b"e"]


@pytest.mark.parametrize(("at", "arrived"), [({"at": 7}, 7), ({"at": 0}, 0), ({}, len(ME) // 2)])
def test_cut_promises_more_than_it_sends(qq, get, access_token, http, at, arrived):
    qq.behave(me={"fault": "cut", **at})
    answer = http.request("GET", f"{qq.url}/oauth2.0/me?fmt=json&access_token={access_token}", preload_content=False)
    assert answer.headers["content-length"] == str(len(ME))
    with pytest.raises(urllib3.exceptions.ProtocolError) as error:
        answer.read()
    assert error.value.args[1].partial == ME[:arrived].encode()


def test_hang_never_answers(qq, http):
    qq.behave(me={"fault": "hang"})
    with pytest.raises(urllib3.exceptions.ReadTimeoutError):
        http.request("GET", f"{qq.url}/oauth2.0/me", timeout=0.3)
    assert qq.requests("/oauth2.0/me")


def test_reset_breaks_the_connection(qq):
    qq.behave(me={"fault": "reset"})
    with socket.create_connection((urlsplit(qq.url).hostname, urlsplit(qq.url).port), timeout=5) as connection:
        connection.sendall(b"GET /oauth2.0/me HTTP/1.1\r\nHost: qq\r\n\r\n")
        with pytest.raises(ConnectionResetError):
            connection.recv(1)


def test_huge_does_not_stop_until_the_client_leaves(qq, http):
    qq.behave(me={"fault": "huge"})
    answer = http.request("GET", f"{qq.url}/oauth2.0/me", preload_content=False)
    assert "content-length" not in answer.headers
    assert len(answer.read(1 << 22)) == 1 << 22
    answer.close()
    assert qq.requests("/oauth2.0/me")


@pytest.mark.parametrize("fault", ["slow", "drip", "drip_headers", "cut"])
def test_a_fault_on_the_way_back_uses_the_code_up(qq, token, fault):
    code = new_code(qq)
    qq.behave(token={"fault": fault, "seconds": 60, "times": 1, "at": 5})
    query = {"grant_type": "authorization_code", "client_id": qq.client_id, "client_secret": qq.client_secret}
    query |= {"code": code, "redirect_uri": CALLBACK}
    with pytest.raises((urllib3.exceptions.TimeoutError, urllib3.exceptions.ProtocolError)):
        urllib3.request("GET", f"{qq.url}/oauth2.0/token", fields=query, timeout=0.2, retries=False)
    assert token(code=code, fmt="json").json()["error"] == 100020


@pytest.mark.parametrize("fault", ["hang", "reset", "empty", "html", "502", "redirect", "error", "body"])
def test_a_fault_before_qq_leaves_the_code_good(qq, token, fault):
    code = new_code(qq)
    qq.behave(token={"fault": fault, "times": 1, "number": 100020, "body": ""})
    query = {"grant_type": "authorization_code", "client_id": qq.client_id, "client_secret": qq.client_secret}
    query |= {"code": code, "redirect_uri": CALLBACK}
    try:
        urllib3.request("GET", f"{qq.url}/oauth2.0/token", fields=query, timeout=0.2, retries=False)
    except (urllib3.exceptions.TimeoutError, urllib3.exceptions.ProtocolError):
        assert fault in ("hang", "reset")
    assert "access_token" in token(code=code, fmt="json").json()


def test_a_connection_is_kept_open_between_calls(qq):
    with urllib3.HTTPConnectionPool(urlsplit(qq.url).hostname, urlsplit(qq.url).port, retries=False) as pool:
        for _ in range(3):
            pool.request("GET", "/oauth2.0/me")
        assert pool.num_connections == 1


# Running it.


def call_in_background(url):
    """Make a call that will not end well, and come back once it is under way."""

    def call():
        with pytest.raises((urllib3.exceptions.HTTPError, OSError)):
            urllib3.request("GET", f"{url}/oauth2.0/me", retries=False, timeout=30)

    thread = threading.Thread(target=call)
    thread.start()
    requests = f"{url}/_standin/requests"
    while not urllib3.request("GET", requests).json():
        time.sleep(0.01)
    return thread


@pytest.mark.parametrize("fault", ["hang", "slow", "drip", "drip_headers"])
def test_it_ends_at_once_while_a_call_is_open(fault):
    with running() as qq:
        qq.behave(me={"fault": fault, "seconds": 60})
        thread = call_in_background(qq.url)
        ending = time.monotonic()
    assert time.monotonic() - ending < 1
    thread.join(5)
    assert not thread.is_alive()


def test_it_ends_at_once_while_nobody_reads_a_huge_answer():
    with running() as qq:
        qq.behave(me={"fault": "huge"})
        with socket.create_connection((urlsplit(qq.url).hostname, urlsplit(qq.url).port)) as connection:
            connection.sendall(b"GET /oauth2.0/me HTTP/1.1\r\nHost: qq\r\n\r\n")
            assert connection.recv(4) == b"HTTP"
            ending = time.monotonic()
            qq.reset()
    assert time.monotonic() - ending < 1


def test_several_run_side_by_side():
    with running(client_id="1") as one, running(client_id="2") as two:
        one.behave(expires_in=1)
        assert one.url != two.url
        assert (one.client_id, two.client_id) == ("1", "2")
        assert len(one.client_secret) == 32
        urllib3.request("GET", one.url)
        assert len(one.requests()) == 1
        assert two.requests() == []


@pytest.fixture
def command():
    """Start `python -m standin` and give the process and its address."""
    processes = []

    def command(*arguments, **environment):
        environment = {name: value for name, value in os.environ.items() if "STANDIN" not in name} | environment
        process = subprocess.Popen(
            [sys.executable, "-m", "standin", *arguments],
            cwd=Path(__file__).parents[2],
            env=environment,
            stdout=subprocess.PIPE,
            text=True,
        )
        processes.append(process)
        return process, process.stdout.readline().split()[-1]

    yield command
    for process in processes:
        process.kill()
        process.wait()
        process.stdout.close()


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("fault", ["hang", "drip"])
def test_the_command_ends_at_once_while_a_call_is_open(command, ending, fault):
    process, url = command("--port", "0")
    behaviour = json.dumps({"me": {"fault": fault, "seconds": 60}})
    assert urllib3.request("PUT", f"{url}/_standin/behaviour", body=behaviour).status == 200
    thread = call_in_background(url)
    process.send_signal(ending)
    assert process.wait(timeout=2) == 0
    thread.join(5)
    assert not thread.is_alive()


def test_the_command_needs_no_configuration(command):
    _, url = command("--port", "0")
    assert url.startswith("http://127.0.0.1:")
    for end in ("", "/"):
        query = {"client_id": "101000001", "redirect_uri": "http://127.0.0.1:8000/oauth/qq/callback" + end}
        address = f"{url}/oauth2.0/authorize?response_type=code&{urlencode(query)}"
        assert "?which=Login&" in urllib3.request("GET", address, redirect=False).headers["location"]


@pytest.mark.parametrize("by", ["options", "environment"])
def test_the_command_is_configured_by_options_or_environment(command, by):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    callbacks = ["https://a.example/qq", "https://b.example/qq"]
    if by == "options":
        arguments = ["--port", port, "--client-id", "7", "--client-secret", "s"]
        _, url = command(*arguments, *(part for callback in callbacks for part in ("--callback", callback)))
    else:
        _, url = command(
            STANDIN_PORT=port,
            STANDIN_CALLBACKS=" ; ".join(callbacks),
            STANDIN_CLIENT_ID="7",
            STANDIN_CLIENT_SECRET="s",
        )
    assert url == f"http://127.0.0.1:{port}"
    for callback in callbacks:
        address = f"{url}/oauth2.0/authorize?response_type=code&client_id=7&redirect_uri={callback}"
        back = urllib3.request("POST", address, body="person=x", redirect=False).headers["location"]
        query = {"grant_type": "authorization_code", "client_id": "7", "client_secret": "s"}
        query |= {"redirect_uri": callback, "code": query_of(back)["code"], "fmt": "json"}
        assert urllib3.request("GET", f"{url}/oauth2.0/token", fields=query).json()["expires_in"] == "5184000"


def test_the_command_says_when_the_port_is_taken(qq):
    taken = str(urlsplit(qq.url).port)
    ended = subprocess.run(
        [sys.executable, "-m", "standin", "--port", taken],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=10,
    )
    assert ended.returncode == 1
    assert ended.stderr.startswith(f"cannot listen on 127.0.0.1:{taken}: ")
    assert "Traceback" not in ended.stderr

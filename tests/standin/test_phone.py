"""Logins on a phone: tokens and codes of QQ's SDK, the mini program's codes, and the page that shows them."""

import json
import re
import shlex
import time
from hashlib import md5
from html import unescape
from urllib.parse import urlencode

import pytest
import urllib3

from standin import running

CALLBACK = "http://127.0.0.1:8000/oauth/qq/callback/"
PERSON = "小企鹅🐧"
FOREIGN_ID = "1105555555"
PLACEHOLDERS = ["auth://www.qq.com", "auth://tauth.qq.com/"]
http = urllib3.PoolManager(retries=False, timeout=5)


@pytest.fixture(scope="module")
def server():
    with running(callbacks=[CALLBACK]) as server:
        yield server


@pytest.fixture
def qq(server):
    server.reset()
    return server


@pytest.fixture
def pass_time(monkeypatch):
    real = time.time
    return lambda seconds: monkeypatch.setattr(time, "time", lambda: real() + seconds)


def get(qq, path, **query):
    return http.request("GET", f"{qq.url}{path}?{urlencode({**query, 'fmt': 'json'})}").json()


def control(qq, name, **document):
    answer = http.request("POST", f"{qq.url}/_standin/{name}", json=document)
    return answer.status, answer.json()


def redeem(qq, code, client_id=None, client_secret=None, **more):
    query = {"client_id": client_id or qq.app_id, "client_secret": client_secret or qq.app_secret, "code": code}
    return get(qq, "/oauth2.0/token", grant_type="authorization_code", **query, **more)


def get_session(qq, code, **changes):
    query = {"appid": qq.mini_app_id, "secret": qq.mini_app_secret, "grant_type": "authorization_code"}
    return get(qq, "/sns/jscode2session", **{**query, "js_code": code, **changes})


def md5_of(text):
    return md5(text.encode()).hexdigest().upper()


def test_token_shows_its_application_and_the_persons_openid_there(qq):
    unionid = "UID_" + md5_of(f"unionid {PERSON}")
    for client_id, openid, expected in (
        (qq.client_id, md5_of(PERSON), unionid),
        (qq.app_id, md5_of(f"1106000001 {PERSON}"), unionid),
        (FOREIGN_ID, md5_of(f"1105555555 {PERSON}"), "UID_" + md5_of(f"1105555555 unionid {PERSON}")),
    ):
        status, given = control(qq, "tokens", person=PERSON, client_id=client_id)
        assert (status, given) == (200, {"access_token": given["access_token"], "openid": openid})
        assert re.fullmatch("[0-9A-F]{32}", given["access_token"])
        me = {"client_id": client_id, "openid": openid, "unionid": expected}
        assert get(qq, "/oauth2.0/me", access_token=given["access_token"], unionid=1) == me
        for consumer_key, ret in ((client_id, 0), (qq.app_id if client_id == qq.client_id else qq.client_id, 1002)):
            assert get(qq, "/user/get_user_info", oauth_consumer_key=consumer_key, **given)["ret"] == ret
        assert qq.openid(PERSON, client_id) == openid
    assert (qq.openid(PERSON), qq.unionid(PERSON)) == (md5_of(PERSON), unionid)


@pytest.mark.parametrize(
    ("behaviour", "accepted", "refused"),
    [
        ({}, ["", *PLACEHOLDERS], [CALLBACK]),
        ({"app_redirect_uri": "required"}, PLACEHOLDERS, ["", CALLBACK]),
        ({"app_redirect_uri": "refused"}, [""], [*PLACEHOLDERS, CALLBACK]),
    ],
)
def test_code_is_redeemed_once_with_the_redirect_uri_that_the_switch_wants(qq, behaviour, accepted, refused):
    qq.behave(**behaviour)
    for redirect_uri in accepted:
        code = qq.app_code(PERSON)
        assert [redeem(qq, code, redirect_uri=each)["error"] for each in refused] == [100010] * len(refused)
        assert redeem(qq, code, redirect_uri=redirect_uri, need_openid=1)["openid"] == qq.openid(PERSON, qq.app_id)
        assert redeem(qq, code, redirect_uri=redirect_uri)["error"] == 100020


def test_code_is_no_token_and_belongs_to_its_application(qq):
    code = qq.app_code(PERSON)
    assert get(qq, "/oauth2.0/me", access_token=code)["error"] == 100013
    assert redeem(qq, code, qq.client_id, qq.client_secret, redirect_uri=CALLBACK)["error"] == 100019
    assert redeem(qq, code, client_secret=qq.client_secret)["error"] == 100009
    assert redeem(qq, code, qq.mini_app_id, qq.mini_app_secret)["error"] == 100008
    assert redeem(qq, qq.app_code(PERSON, FOREIGN_ID))["error"] == 100019
    tokens = redeem(qq, code)
    refresh = {"grant_type": "refresh_token", "refresh_token": tokens["refresh_token"]}
    web = {"client_id": qq.client_id, "client_secret": qq.client_secret}
    app = {"client_id": qq.app_id, "client_secret": qq.app_secret}
    assert get(qq, "/oauth2.0/token", **refresh, **web)["error"] == 100021
    refreshed = get(qq, "/oauth2.0/token", **refresh, **app)
    assert get(qq, "/oauth2.0/me", access_token=refreshed["access_token"])["client_id"] == qq.app_id


def test_openid_beside_a_code_can_be_empty(qq):
    login = {"person": PERSON, "client_id": qq.app_id, "kind": "code"}
    assert control(qq, "tokens", **login)[1]["openid"] == qq.openid(PERSON, qq.app_id)
    qq.behave(app_code_openid="empty")
    assert control(qq, "tokens", **login)[1]["openid"] == ""


def test_mini_program_gets_a_session_once_within_five_minutes(qq, pass_time):
    code, late = qq.mini_code(PERSON), qq.mini_code(PERSON)
    answer = get_session(qq, code)
    assert re.fullmatch("[A-Za-z0-9+/]{22}==", answer["session_key"])
    session = {
        "errcode": 0,
        "errmsg": "",
        "openid": md5_of(f"1109000001 {PERSON}"),
        "session_key": answer["session_key"],
        "unionid": qq.unionid(PERSON),
    }
    assert answer == session
    assert get_session(qq, code) == {"errcode": 40029, "errmsg": "invalid code"}
    qq.behave(errcode_on_success=False, mini_unionid="absent")
    assert get_session(qq, qq.mini_code(PERSON)).keys() == {"openid", "session_key"}
    pass_time(300)
    assert get_session(qq, late)["errcode"] == 40029


def test_mini_program_errors(qq):
    code = qq.mini_code(PERSON)
    for changes, errcode in (
        ({"appid": qq.client_id}, 40013),
        ({"secret": qq.client_secret}, 40125),
        ({"grant_type": ""}, 40002),
        ({"js_code": qq.app_code(PERSON)}, 40029),
    ):
        assert get_session(qq, code, **changes)["errcode"] == errcode
    for number, text in ((-1, "system busy"), (45011, "frequency limit"), (40029, "invalid code")):
        qq.behave(jscode2session={"fault": "error", "number": number, "times": 1})
        assert get_session(qq, code) == {"errcode": number, "errmsg": text}
    qq.behave(jscode2session={"fault": "502", "times": 1})
    assert http.request("GET", f"{qq.url}/sns/jscode2session").status == 502
    assert get_session(qq, code)["errcode"] == 0  # none of these used it up


def test_wrong_login_is_refused(qq):
    with pytest.raises(ValueError, match="person: must be a text"):
        qq.mini_code("")
    for document, named in (({}, "person"), ({"person": PERSON, "client_id": 1}, "client_id")):
        status, answer = control(qq, "tokens", **document)
        assert (status, answer["message"].partition(":")[0]) == (400, named)
    assert control(qq, "tokens", person=PERSON, kind="x") == (400, {"message": "kind: must be token or code"})
    assert http.request("POST", f"{qq.url}/_standin/tokens", body="[]").status == 400


@pytest.mark.parametrize(
    ("login", "path", "name"), [("token", "app", "access_token"), ("code", "app", "code"), ("mini", "mini", "code")]
)
def test_page_shows_the_call_of_the_app(qq, login, path, name):
    assert '<a href="/_standin/phone">' in http.request("GET", f"{qq.url}/").data.decode()
    form = http.request("GET", f"{qq.url}/_standin/phone").data.decode()
    assert (f"<option>{PERSON}</option>" in form, f'<button name="login" value="{login}">' in form) == (True, True)
    fields = {"person": "张小明", "other": "<b>", "login": login}
    page = http.request("POST", f"{qq.url}/_standin/phone", body=urlencode(fields)).data.decode()
    assert "<p>&lt;b&gt; 已登录。" in page
    curl = shlex.split(unescape(re.search("<pre><code>(.*?)</code></pre>", page)[1]))
    body = json.loads(curl.pop())
    url = f"http://127.0.0.1:8000/oauth/qq/{path}/"
    assert curl == ["curl", url, "-H", "Content-Type: application/json", "-d"]
    assert body.keys() == {name, "key"}
    assert re.fullmatch(r"[\w-]{43}", body["key"])
    if login == "mini":
        openid = get_session(qq, body["code"])["openid"]
    else:
        access_token = body.get("access_token") or redeem(qq, body["code"])["access_token"]
        openid = get(qq, "/oauth2.0/me", access_token=access_token)["openid"]
    assert openid == qq.openid("<b>", qq.mini_app_id if login == "mini" else qq.app_id)

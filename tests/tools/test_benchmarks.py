"""The benchmarks' upstream answers as the stand-in does: its figures are of the same conversation."""

import json
import re
import subprocess
import sys
from urllib.parse import parse_qsl, urlencode

import pytest
import urllib3

import standin
from benchmarks.load import Job, Load
from benchmarks.upstream import CLIENT_ID, CLIENT_SECRET, new_code
from tests.tools.processes import ROOT

CALLBACK = "http://127.0.0.1/oauth/qq/callback/"
TOKEN = {
    "grant_type": "authorization_code",
    "client_id": CLIENT_ID,
    "client_secret": CLIENT_SECRET,
    "redirect_uri": CALLBACK,
}


@pytest.fixture(scope="module")
def upstream(tmp_path_factory):
    """Its address, that of its control, and a client that trusts it."""
    ca_file = tmp_path_factory.mktemp("upstream") / "ca.pem"
    command = [sys.executable, "-m", "benchmarks.upstream", "--ca-file", str(ca_file)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, encoding="utf-8") as process:
        try:
            qq, control = process.stdout.readline().split()
            with urllib3.PoolManager(ca_certs=str(ca_file), retries=False, timeout=5) as http:
                yield f"https://127.0.0.1:{qq}", f"http://127.0.0.1:{control}/", http
        finally:
            process.terminate()


@pytest.fixture(scope="module")
def qq():
    with standin.running(callbacks=[CALLBACK], client_secret=CLIENT_SECRET) as server:
        yield server


def test_the_question_that_finds_the_upstreams_limit_is_answered(upstream):
    url, _, http = upstream
    method, target, _ = Load(Job(port=0, kind="qq")).ask().decode().split("\r\n")[0].split(" ")
    response = http.request(method, url + target)
    assert response.status == 200
    assert {"access_token", "openid"} <= set(response.json())


def shape(response):
    """What of an answer does not hang on the person: its words, and the form of what is said in them."""
    text = response.data.decode()
    frame, _, _ = text.partition("{")
    if "{" not in text:
        data = dict(parse_qsl(text))
    else:
        end = text.rindex("}") + 1
        data = json.loads(text[len(frame) : end])
        frame += "{}" + text[end:]
    forms = {name: hidden(value) if len(str(value)) == 32 else type(value) for name, value in data.items()}
    headers = {name: response.headers.get(name) for name in ("Content-Type", "Cache-Control")}
    return response.status, headers, frame if "{" in frame else "a form", list(forms.items())


def hidden(value):
    return re.sub("[0-9A-F]", "X", value)


def talk(http, url, code, method, fmt, **extra):
    """Have the conversation that leads from a code to a person; return its answers."""
    asked = {**TOKEN, "code": code, **fmt, **extra}
    if method == "POST":
        token = http.request("POST", f"{url}/oauth2.0/token", fields=asked, encode_multipart=False)
    else:
        token = http.request("GET", f"{url}/oauth2.0/token?{urlencode(asked)}")
    text = token.data.decode()
    access_token = (json.loads(text) if fmt else dict(parse_qsl(text)))["access_token"]
    me = http.request("GET", f"{url}/oauth2.0/me?{urlencode({'access_token': access_token, **fmt})}")
    openid = re.search('"openid":"([0-9A-F]{32})"', me.data.decode())[1]
    info = {"access_token": access_token, "oauth_consumer_key": CLIENT_ID, "openid": openid}
    return [token, me, http.request("GET", f"{url}/user/get_user_info?{urlencode(info)}")], openid


@pytest.mark.parametrize(
    ("method", "fmt", "extra"),
    [
        pytest.param("GET", {"fmt": "json"}, {"need_openid": "1"}, id="ours"),
        pytest.param("GET", {}, {}, id="the tutorial's"),
        pytest.param("POST", {}, {}, id="rest-social-auth"),
    ],
)
def test_it_answers_as_the_stand_in_does(upstream, qq, method, fmt, extra):
    url, _, http = upstream
    address = f"{qq.url}/oauth2.0/authorize?" + urlencode(
        {"response_type": "code", "client_id": CLIENT_ID, "redirect_uri": CALLBACK, "state": "x"}
    )
    code = dict(parse_qsl(qq.sign_in(address, "小企鹅").partition("?")[2]))["code"]
    assert hidden(code) == hidden(new_code(7))

    ours, _ = talk(http, url, new_code(7), method, fmt, **extra)
    theirs, _ = talk(http, qq.url, code, method, fmt, **extra)

    assert [shape(answer) for answer in ours] == [shape(answer) for answer in theirs]


def test_a_person_has_the_openid_that_sql_makes_of_the_number(upstream):
    url, _, http = upstream

    answers, openid = talk(http, url, new_code(50_000), "GET", {"fmt": "json"}, need_openid="1")

    assert openid == "1017BFD4673955FFEE4641AD3D481B1C"  # SELECT UPPER(MD5(50000))
    assert json.loads(answers[0].data)["openid"] == openid


def test_it_fails_as_the_stand_in_does(upstream, qq):
    url, control, http = upstream
    target = f"/oauth2.0/token?{urlencode({**TOKEN, 'code': new_code(7)})}"
    qq.behave(token={"fault": "502"})
    http.request("PUT", control, body=json.dumps({"failing": "502"}))
    ours, theirs = (http.request("GET", where + target) for where in (url, qq.url))
    assert (ours.status, ours.data) == (theirs.status, theirs.data) == (502, ours.data)

    http.request("PUT", control, body=json.dumps({"failing": "reset"}))
    with pytest.raises(urllib3.exceptions.ProtocolError):
        http.request("GET", url + target)

    counted = http.request("PUT", control, body=json.dumps({"failing": ""})).json()
    assert counted["failed"] == 2

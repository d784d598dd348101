"""The benchmarks' fast upstream gives the same answers as the stand-in, so their figures are comparable."""

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
CLIENT = {"client_id": CLIENT_ID, "client_secret": CLIENT_SECRET, "redirect_uri": CALLBACK}


@pytest.fixture(scope="module")
def upstream(tmp_path_factory):
    """The upstream's address, the address that controls it, and a client that trusts its certificate."""
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


def test_upstream_answers_the_request_that_measures_its_own_limit(upstream):
    url, _, http = upstream
    method, target, _ = Load(Job(port=0, kind="qq")).ask().decode().split("\r\n")[0].split(" ")
    response = http.request(method, url + target)
    assert response.status == 200
    assert {"access_token", "openid"} <= set(response.json())


def shape(response):
    """Return what is the same for every person: status, headers, framing, names, and the form of the values."""
    text = response.data.decode()
    found = re.fullmatch(r"([^{]*)(\{.*\})(.*)", text, re.DOTALL)
    before, data, after = (found[1], json.loads(found[2]), found[3]) if found else ("a form", dict(parse_qsl(text)), "")
    values = {name: pattern(value) if len(str(value)) == 32 else type(value) for name, value in data.items()}
    headers = {name: response.headers.get(name) for name in ("Content-Type", "Cache-Control")}
    return response.status, headers, before, after, list(values.items())


def pattern(value):
    return re.sub("[0-9A-F]", "X", value)


def exchange(http, url, code, method, fmt, **extra):
    """Make the three calls from a code to a person; return the answers and the openid."""
    fields = {"grant_type": "authorization_code", **CLIENT, "code": code, **fmt, **extra}
    if method == "POST":
        token = http.request("POST", f"{url}/oauth2.0/token", fields=fields, encode_multipart=False)
    else:
        token = http.request("GET", f"{url}/oauth2.0/token?{urlencode(fields)}")
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
def test_upstream_answers_like_the_stand_in(upstream, qq, method, fmt, extra):
    url, _, http = upstream
    fields = {"response_type": "code", "client_id": CLIENT_ID, "redirect_uri": CALLBACK, "state": "x"}
    address = f"{qq.url}/oauth2.0/authorize?{urlencode(fields)}"
    code = dict(parse_qsl(qq.sign_in(address, "小企鹅").partition("?")[2]))["code"]
    assert pattern(code) == pattern(new_code(7))
    upstreams, _ = exchange(http, url, new_code(7), method, fmt, **extra)
    standins, _ = exchange(http, qq.url, code, method, fmt, **extra)
    assert list(map(shape, upstreams)) == list(map(shape, standins))


def test_openid_is_the_one_that_sql_computes_from_the_number(upstream):
    url, _, http = upstream
    answers, openid = exchange(http, url, new_code(50_000), "GET", {"fmt": "json"}, need_openid="1")
    assert openid == "1017BFD4673955FFEE4641AD3D481B1C"  # SELECT UPPER(MD5(50000))
    assert json.loads(answers[0].data)["openid"] == openid


def test_upstream_fails_like_the_stand_in(upstream, qq):
    url, control, http = upstream
    target = f"/oauth2.0/token?{urlencode({'grant_type': 'authorization_code', **CLIENT, 'code': new_code(7)})}"
    qq.behave(token={"fault": "502"})
    http.request("PUT", control, body=json.dumps({"failing": "502"}))
    upstreams, standins = (http.request("GET", where + target) for where in (url, qq.url))
    assert (upstreams.status, standins.status) == (502, 502)
    assert upstreams.data == standins.data

    http.request("PUT", control, body=json.dumps({"failing": "reset"}))
    with pytest.raises(urllib3.exceptions.ProtocolError):
        http.request("GET", url + target)
    assert http.request("PUT", control, body=json.dumps({"failing": ""})).json()["failed"] == 2

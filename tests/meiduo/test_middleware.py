"""Rules for every request and answer of the shop: encodings, sizes, hosts, origins, methods and headers."""

import json
import re
import socket
import struct
from base64 import b64encode
from hashlib import sha256
from http.client import HTTPConnection
from urllib.parse import urlsplit

import pytest
from django.db import OperationalError
from django.http import HttpResponse
from django.test import Client
from django.urls import path as route

from meiduo import urls
from meiduo.middleware import SCRIPT_HASH
from tests.conftest import MOBILE, PASSWORD, refuse_secrets
from tests.meiduo.test_pages import PAGES
from tests.tools import processes
from tests.tools.requirements import requirement

WWW = "https://www.shop.test"
LOGIN = ["/oauth/qq/authorization/", "/oauth/qq/login/", "/oauth/qq/callback/", "/oauth/qq/users/"]
CODES = ["/image_codes/3f0c1a3e-5b7d-4c6e-9f00-000000000000/", f"/sms_codes/{MOBILE}/"]
READING = [*LOGIN, *CODES, "/user/", "/usernames/zhang3/count/", f"/mobiles/{MOBILE}/count/"]
WRITING = ["/oauth/qq/users/", "/authorizations/", "/users/"]
ELSEWHERE = ["/nowhere", "/oauth/qq/nowhere/"]
STATE = "Zk3vQ9xW2mB7nL5pR8tY4uI6oA1sD0fG-hJcVbNqEwX"
API_POLICY = "default-src 'none'; frame-ancestors 'none'"


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """The shop under gunicorn with the configuration of production."""
    environ = {"DATABASE_URL": "", "CACHE_URL": "", "NUM_PROXIES": "0", "CORS_ALLOWED_ORIGINS": WWW}
    environ |= {"ADMIN_PATH": "back-office/", "GUNICORN_CMD_ARGS": "--config=python:meiduo.server --access-logfile=-"}
    with processes.shop(tmp_path_factory.mktemp("shop"), **environ) as shop:
        yield shop


@pytest.fixture
def call(served):
    """Send a request with exactly these headers."""

    def call(method, path, headers=(), body=b""):
        connection = HTTPConnection(urlsplit(served.url).netloc, timeout=30)
        named = {name.lower() for name, _ in headers}
        connection.putrequest(method, path, skip_host="host" in named, skip_accept_encoding=True)
        for name, value in headers:
            connection.putheader(name, value)
        if method == "POST" and not named & {"content-length", "transfer-encoding"}:
            connection.putheader("Content-Length", str(len(body)))
        connection.endheaders(body)
        response = connection.getresponse()
        response.text = response.read().decode()
        connection.close()
        return response

    return call


@pytest.fixture
def logged(served):
    """A function that returns what the server has logged since the test began."""
    (log,) = served.var.glob("shop-*.log")
    before = len(log.read_bytes())
    return lambda: log.read_bytes()[before:].decode()


def assert_refused(response, status, message):
    assert (response.status, json.loads(response.text)) == (status, {"message": message, "code": "invalid"})
    assert response.headers["Content-Security-Policy"] == API_POLICY


CHARSETS = ["base64", "hex", "zip", "rot13", "undefined", "utf-16", "utf-7", "gbk", "latin-1", "idna", "utf-8-sig", ""]


@requirement("9.5")
@pytest.mark.parametrize(
    "parameters",
    [
        *(f"charset={charset}" for charset in (*CHARSETS, "none", '"', '"base64"', "utf-8; charset=base64")),
        *("CHARSET=Base64", "a=b;charset=base64;c=d", "charset*=utf-8''base64", "charset*0=base; charset*1=64"),
        *("a*=nonsense''x", "a*=idna''%ff", "  ;" * 2000 + "!"),  # the last would keep a backtracking pattern busy
    ],
)
def test_encoding_other_than_utf_8_is_refused(call, parameters):
    headers = [("Content-Type", f"application/json; {parameters}")]
    for path in ("/oauth/qq/users/", "/authorizations/", "/user/", "/nowhere"):
        assert_refused(call("POST", path, headers, b'{"username": "a"}'), 415, "请求内容有误，请检查后重试。")


JSON_TYPES = ["", ";", ";charset=utf-8", '; charset="UTF8"', "; odata=json", ' ; charset=utf-8 ; p="a b" ;']
FORM_TYPES = ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""]


@requirement("9.1")
@pytest.mark.parametrize("content_type", [*(f"application/json{parameters}" for parameters in JSON_TYPES), *FORM_TYPES])
def test_only_json_bodies_are_read(call, content_type):
    for path in WRITING:
        headers = [("Content-Type", content_type)] if content_type else []
        response = call("POST", path, headers, b'{"username": "nobody"}')
        assert (response.status, "JSON" in response.text) == (415 if content_type in FORM_TYPES else 400, False)


@requirement("9.5")
def test_long_body_is_refused_before_it_is_sent(call):
    length = [("Content-Type", "application/json"), ("Content-Length", str(20 * 1024 * 1024))]
    for path in (*WRITING, *READING, *ELSEWHERE, "/back-office/login/"):
        for method in ("GET", "POST"):
            assert_refused(call(method, path, length), 413, "请求内容太大。")


@requirement("11 bind, all")
def test_longest_body_has_16_kib_and_needs_a_length(client, db, call):
    for extra, status in ((0, 400), (1, 413)):
        body = b"{%s}" % (b" " * (16 * 1024 - 2 + extra))
        assert client.post("/authorizations/", body, content_type="application/json").status_code == status
    headers = [("Content-Type", "application/json"), ("Transfer-Encoding", "chunked")]
    form = json.dumps({"username": "nobody", "password": PASSWORD}).encode()
    response = call("POST", "/authorizations/", headers, b"%x\r\n%s\r\n0\r\n\r\n" % (len(form), form))
    assert (response.status, json.loads(response.text)["message"]) == (400, "请输入用户名或手机号。")


def test_connection_reset_within_a_body_leaves_one_line_and_no_traceback(served, logged):
    address = urlsplit(served.url)
    for path in ("/authorizations/", "/oauth/qq/users/"):
        with socket.create_connection((address.hostname, address.port)) as connection:
            head = f"POST {path} HTTP/1.1\r\nHost: {address.netloc}\r\nContent-Type: application/json\r\n"
            connection.sendall(f"{head}Content-Length: 100\r\n\r\n{{".encode())
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # close by a reset
        processes.wait_until(lambda path=path: f"Bad Request: {path} " in logged(), "the shop has answered")
    assert "Traceback" not in logged()


@requirement("9.5")
def test_long_headers_are_refused_and_a_long_accept_changes_nothing(call):
    assert call("GET", "/user/", [("Accept", "a/b," * 15_000)]).status == 431
    assert call("GET", "/user/?" + "a" * 10_000).status == 414
    accept = ",".join(f"a{number}/b;q=0.{number}" for number in range(400))
    assert call("GET", "/usernames/nobody/count/", [("Accept", accept)]).status == 200


@requirement("10.2")
def test_access_log_has_no_query_no_mobile_and_no_forged_line(call, logged):
    jwt = f"eyJhbGciOiJIUzI1NiJ9.eyJ1c2VyX2lkIjoxfQ.{STATE}"
    call("GET", f"/sms_codes/{MOBILE}/?text=CANARY", [("Referer", "http://shop.test/?code=CANARY")])
    call("GET", f"/oauth/qq/users/?code=CANARY%0a{STATE}", [("Authorization", f"JWT {jwt}")])
    call("GET", "/usernames/a%0d%0a%1b[31m%20forged%20%22/count/")
    call("GET", "/user/")
    paths = {"/sms_codes/138****5678/", "/oauth/qq/users/", r"/usernames/a\r\n\x1b[31m forged \"/count/", "/user/"}
    processes.wait_until(lambda: paths <= {*re.findall('"GET (.*)" [0-9]{3} ', logged())}, "the access log")
    refuse_secrets(logged())
    assert "CANARY" not in logged()


FOREIGN = ["https://www.shop.test.evil.test", "https://evil-www.shop.test", "https://wwwxshop.test", "null", "*"]
FOREIGN += ["https://evil.test@www.shop.test", "https://www.shop.test:8443", "http://www.shop.test", "https://["]


@requirement("1.10", "9.2")
@pytest.mark.parametrize("path", ["/oauth/qq/users/", "/oauth/qq/authorization/", "/authorizations/", "/user/"])
def test_only_listed_origins_may_send_cookies_and_read_answers(client, db, shop, path):
    shop.CORS_ALLOWED_ORIGINS = [WWW, "http://localhost:8080"]
    shop.MIDDLEWARE = ["corsheaders.middleware.CorsMiddleware", *shop.MIDDLEWARE]
    for origin in (*shop.CORS_ALLOWED_ORIGINS, *FOREIGN):
        preflight = client.options(path, headers={"Origin": origin, "Access-Control-Request-Method": "POST"})
        for response in (client.get(path, headers={"Origin": origin, "Cookie": "a=b"}), preflight):
            allowed = [response.get(f"Access-Control-Allow-{name}") for name in ("Origin", "Credentials")]
            assert allowed == ([None, None] if origin in FOREIGN else [origin, "true"])


@requirement("9.9")
@pytest.mark.parametrize("host", ["evil.test", "127.0.0.1.evil.test", "evil.test@127.0.0.1", "127.0.0.1:80:80", ""])
def test_forged_host_is_refused_and_is_one_line_of_the_log(call, logged, host):
    paths = (*READING, *ELSEWHERE, "/user")
    answers = [call("GET", path, [("Host", host)]) for path in (*paths, "/login.html")]
    assert {answer.status for answer in answers[:-1]} == {400}  # a static file is the same for all hosts
    assert not [answer for answer in answers if "evil" in answer.text + str(answer.headers)]
    call("GET", "/user/")  # after its answer all lines of the first calls are there
    starts = re.findall(r"^[-\d]{10}T[:.\d]{12}Z ERROR django.security.DisallowedHost: In", logged(), re.MULTILINE)
    assert logged().count("DisallowedHost") == len(starts) >= len(paths)
    assert "Traceback" not in logged()


@requirement("9.9")
def test_no_address_is_built_from_request_headers(client, db):
    headers = {"X-Forwarded-Host": "evil.test", "X-Forwarded-Port": "666", "Forwarded": "host=evil.test;proto=https"}
    login_urls = client.get("/oauth/qq/authorization/", headers=headers).json().values()
    assert {*login_urls} == {"http://testserver/oauth/qq/login/?next=/"}
    for path in ("/oauth/qq/login/", "/user"):
        assert not re.search("evil|666", client.get(path, headers=headers)["Location"])


@requirement("9.6")
def test_gunicorn_takes_no_path_scheme_or_address_from_headers(call):
    plain = call("GET", "/oauth/qq/login/")
    headers = [("SCRIPT_NAME", "/evil"), ("PATH_INFO", "/back-office/login/"), ("X_FORWARDED_FOR", "192.0.2.1")]
    headers += [("X-Forwarded-Proto", "https"), ("X-Forwarded-Protocol", "ssl"), ("X-Forwarded-Ssl", "on")]
    for header in headers:
        response = call("GET", "/oauth/qq/login/", [header])
        assert (response.status, response.headers["Location"]) == (plain.status, plain.headers["Location"]), header
        assert call("GET", "/user", [header]).headers["Location"] == "/user/", header


@requirement("9.12")
@pytest.mark.parametrize("path", sorted({*READING, *WRITING}))
def test_other_methods_are_refused(client, db, path):
    methods = {"PUT", "PATCH", "DELETE", "TRACE", "PROPFIND"}
    methods |= {"HEAD", "OPTIONS"} if path.startswith("/oauth/") else set()  # they must not use anything up
    methods |= (set() if path in READING else {"GET", "HEAD"}) | (set() if path in WRITING else {"POST"})
    for method in methods:
        status = client.generic(method, path).status_code
        assert status == 405 or (path, status) == ("/user/", 401), method


def every_answer(client, browser):
    as_json = "application/json"
    bodies = [("{}", as_json), ("{", as_json), ("a" * 20_000, as_json), ("{}", "text/plain")]
    bodies += [("[1]", f"{as_json}; charset=utf-16")]
    for path in (*READING, *ELSEWHERE):
        yield from (client.get(path, headers=headers) for headers in ({}, {"Origin": "https://evil.test"}))
    for path in (*WRITING, *ELSEWHERE):
        yield from (client.post(path, body, content_type=content_type) for body, content_type in bodies)
        yield client.post(path, "{}", content_type=as_json, headers={"Origin": "null"})
        yield client.put(path)
    for headers in ({"Authorization": "JWT nonsense"}, {"Host": "evil.test"}):
        yield client.get("/user/", headers=headers)
    yield client.get("/user")
    yield client.post("/authorizations/", {"username": MOBILE, "password": PASSWORD}, as_json)
    yield browser.redeem_code(browser.arrive())


@requirement("9.10")
def test_no_answer_is_cached_sniffed_framed_or_reveals_its_address(browser, binding):
    expected = {"Cache-Control": "no-store", "ETag": None, "Content-Security-Policy": API_POLICY}
    expected |= {"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "X-Frame-Options": "DENY"}
    answers = [*every_answer(Client(), browser)]
    for response in answers:
        assert {name: response.get(name) for name in expected} == expected, response.request["PATH_INFO"]
    assert all(logged_in.json()["token"] for logged_in in answers[-2:])


@requirement("1.6", "7.10", "9.11")
@pytest.mark.parametrize("path", ["/", *(f"/{name}" for name in PAGES if name != "index.html")])
def test_page_runs_only_its_own_scripts_and_cannot_be_framed(client, db, shop, path):
    shop.WHITENOISE_AUTOREFRESH = False  # as in production
    response = client.get(path)
    allowed = f"script-src 'self' '{SCRIPT_HASH}'"
    pictures = "data: https://*.qlogo.cn" if path in ("/oauth_callback.html", "/account.html") else "data:"
    assert response["Content-Security-Policy"] == (
        f"default-src 'none'; {allowed}; style-src 'self'; img-src 'self' {pictures}; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    )
    assert response["Referrer-Policy"] == "no-referrer"
    page = b"".join(response).decode()
    assert page.count("<script") == page.count('<script type="module" src="') + 1
    for script in re.findall("<script>(.*?)</script>", page, re.DOTALL):
        digest = b64encode(sha256(script.encode()).digest()).decode()
        assert f"sha256-{digest}" == SCRIPT_HASH, "write the hash of the new script into middleware.py and every page"
        assert f"{allowed};" in page  # its own policy
        assert not re.search(r"\b(let|const) |=>|`|\?\.|\?\?", script), "old browsers know ES5 only"
    assert not re.search(r"style=|javascript:|\son\w*=", page)
    unchanged = client.get(path, headers={"If-None-Match": response["ETag"]})
    assert (unchanged.status_code, "Content-Security-Policy" in unchanged) == (304, False)  # it keeps that of the page


@requirement("9.11")
def test_admin_accepts_its_own_forms_and_no_other_origin_reads_it(call):
    answer, page = (call("GET", path, [("Origin", WWW)]) for path in ("/user/", "/back-office/login/"))
    assert (answer.headers["Access-Control-Allow-Origin"], answer.headers["Server"]) == (WWW, "gunicorn")
    # With no-referrer a browser sends the form with `Origin: null`, which Django refuses.
    assert (page.headers["Access-Control-Allow-Origin"], page.headers["Referrer-Policy"]) == (None, "same-origin")
    assert "frame-ancestors 'none'" in page.headers["Content-Security-Policy"]


@pytest.mark.parametrize(("asked", "language"), [("en", "en"), ("fr, zh;q=0.5", "zh-hans"), ("", "zh-hans")])
def test_language_comes_from_the_header_and_not_from_a_cookie(client, db, asked, language):
    client.cookies["django_language"] = "zh-hans" if language == "en" else "en"
    response = client.post("/authorizations/", {}, "application/json", headers={"accept-language": asked})
    assert (response["Content-Language"], response.json()["message"].isascii()) == (language, language == "en")


def own_headers(request):
    return HttpResponse(headers={"Content-Security-Policy": "sandbox", "Cache-Control": "max-age=5"})


def fail(request):
    raise RuntimeError(request.GET["code"])


def need_database(request):
    raise OperationalError(2006, "CANARY")


urlpatterns = [route("own/", own_headers), route("fail/", fail), route("database/", need_database)]
handler400, handler404, handler500 = urls.handler400, urls.handler404, urls.handler500


@pytest.mark.urls(__name__)
def test_headers_of_the_view_are_kept(client, db):
    response = client.get("/own/")
    assert (response["Content-Security-Policy"], response["Cache-Control"]) == ("sandbox", "max-age=5")


@requirement("9.14")
@pytest.mark.urls(__name__)
@pytest.mark.parametrize(
    ("path", "host", "status", "code", "message"),
    [
        ("/CANARY/?code=CANARY", "testserver", 404, "not_found", "没有找到。"),
        ("/fail/?code=CANARY", "CANARY", 400, "invalid", "请求内容有误，请检查后重试。"),
        ("/fail/?code=CANARY", "testserver", 500, "server_error", "服务器出错了，请稍后再试。"),
        ("/database/?code=CANARY", "testserver", 503, "database_unavailable", "服务暂时不可用，请稍后再试。"),
    ],
)
def test_error_answers_repeat_nothing_of_the_request(db, path, host, status, code, message):
    client, accepts = Client(raise_request_exception=False), ("application/json", "text/html")
    headers = {"Cookie": "a=CANARY", "Referer": "http://CANARY/", "User-Agent": "CANARY", "Host": host}
    program, browser = (client.get(path, headers=headers | {"Accept": accept}) for accept in accepts)
    for response in (program, browser):
        assert (response.status_code, response["Cache-Control"]) == (status, "no-store")
        assert "CANARY" not in response.content.decode() + str(response.headers)
    assert program.json() == {"message": message, "code": code}
    if page := {404: "没有这个页面", 500: "网站暂时出了点问题", 503: "网站暂时出了点问题"}.get(status):
        assert page in browser.content.decode()
        assert "style-src 'self'" in browser["Content-Security-Policy"]


@pytest.mark.urls(__name__)
def test_debug_page_keeps_its_style_and_shows_the_request(db, settings):
    settings.DEBUG = True
    response = Client(raise_request_exception=False).get("/fail/", {"code": "CANARY"}, headers={"Accept": "text/html"})
    assert (response.status_code, "Content-Security-Policy" in response) == (500, False)
    assert "?code=CANARY" in response.content.decode()

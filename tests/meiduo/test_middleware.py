"""The shop's edge: who may call it, with what, and the headers of whatever it answers."""

import json
import re
import socket
import struct
from http.client import HTTPConnection
from urllib.parse import urlsplit

import pytest
from django.http import HttpResponse
from django.test import Client
from django.urls import path as route

from tests.conftest import MOBILE, PASSWORD
from tests.tools import processes

WWW = "https://www.shop.test"
PAGES = ["/", "/login.html", "/oauth_callback.html", "/404.html"]
READING = [
    "/oauth/qq/authorization/",
    "/oauth/qq/login/",
    "/oauth/qq/callback/",
    "/oauth/qq/users/",
    "/user/",
    "/usernames/zhang3/count/",
    f"/mobiles/{MOBILE}/count/",
    "/image_codes/3f0c1a3e-5b7d-4c6e-9f00-000000000000/",
    f"/sms_codes/{MOBILE}/",
]
WRITING = ["/oauth/qq/users/", "/authorizations/", "/users/"]
ELSEWHERE = ["/nowhere", "/oauth/qq/nowhere/"]


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """The shop under gunicorn as it is meant to be run."""
    environ = {"DATABASE_URL": "", "CACHE_URL": "", "NUM_PROXIES": "0", "CORS_ALLOWED_ORIGINS": WWW}
    environ["ADMIN_PATH"] = "back-office/"
    arguments = "--config=python:meiduo.server --access-logfile=-"
    with processes.shop(tmp_path_factory.mktemp("shop"), GUNICORN_CMD_ARGS=arguments, **environ) as shop:
        yield shop


@pytest.fixture
def call(served):
    """Send a request as it is, whatever a client library would say to it."""

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


def refusal(response, status):
    assert response.status == status
    body = json.loads(response.text)
    assert body == {"message": body["message"], "code": "invalid"}
    assert response.headers["Content-Security-Policy"] == "default-src 'none'; frame-ancestors 'none'"
    return body["message"]


# Bodies ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", [*WRITING, "/user/", "/nowhere"])
@pytest.mark.parametrize(
    "parameters",
    [
        *(f"charset={codec}" for codec in ("base64", "hex", "zip", "bz2", "rot13", "uu", "quopri", "undefined")),
        *(f"charset={codec}" for codec in ("utf-16", "utf-7", "utf-32", "gbk", "latin-1", "idna", "utf-8-sig", "none")),
        'charset="base64"',
        "CHARSET=Base64",
        "charset=utf-8; charset=base64",
        "a=b;charset=base64;c=d",
        "charset*=utf-8''base64",
        "charset*0=base; charset*1=64",
        "a*=nonsense''x",
        "a*=idna''%ff",
        "charset=",
        'charset="',
        "  ;" * 2000 + "!",  # a pattern that tries each way to share out the blanks would not come to an end
    ],
)
def test_only_utf_8_is_read(call, path, parameters):
    response = call("POST", path, [("Content-Type", f"application/json; {parameters}")], b'{"username": "a"}')
    assert refusal(response, 415) == "请求内容有误，请检查后重试。"


@pytest.mark.parametrize(
    "content_type",
    [
        "application/json",
        "application/json;",
        "application/json;charset=utf-8",
        "application/json; charset=UTF-8",
        'application/json; charset="UTF8"',
        "application/json; odata=verbose",
        'application/json ; charset=utf-8 ; profile="a b" ;',
    ],
)
def test_what_pages_call_their_json_is_read(call, content_type):
    response = call("POST", "/authorizations/", [("Content-Type", content_type)], b'{"username": "nobody"}')
    assert (response.status, json.loads(response.text)["message"]) == (400, "请输入密码。")


@pytest.mark.parametrize("path", WRITING)
@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""])
def test_what_a_form_of_another_site_can_send_is_refused(call, path, content_type):
    response = call("POST", path, [("Content-Type", content_type)] if content_type else [], b'{"username": "nobody"}')
    assert response.status == 415


@pytest.mark.parametrize("path", [*WRITING, *READING, *ELSEWHERE, "/back-office/login/"])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_long_body_is_refused_before_it_is_sent(call, method, path):
    length = [("Content-Type", "application/json"), ("Content-Length", str(20 * 1024 * 1024))]
    assert refusal(call(method, path, length), 413) == "请求内容太大。"


def test_a_body_of_16_kib_is_the_longest_that_is_read(client, db):
    for extra, status in ((0, 400), (1, 413)):
        body = b"{%s}" % (b" " * (16 * 1024 - 2 + extra))
        assert client.post("/authorizations/", body, content_type="application/json").status_code == status


def test_a_body_of_no_told_length_is_not_read(call):
    chunks = [("Content-Type", "application/json"), ("Transfer-Encoding", "chunked")]
    form = json.dumps({"username": "nobody", "password": PASSWORD}).encode()
    response = call("POST", "/authorizations/", chunks, b"%x\r\n%s\r\n0\r\n\r\n" % (len(form), form))
    assert (response.status, json.loads(response.text)["message"]) == (400, "请输入用户名或手机号。")


@pytest.mark.parametrize(
    "headers",
    [
        [("Transfer-Encoding", "chunked"), ("Content-Length", "5")],
        [("Content-Length", "5"), ("Content-Length", "6")],
        [("Content-Length", "-1")],
        [("Content-Length", "1_0")],
    ],
)
def test_a_length_that_can_be_read_in_two_ways_is_refused(call, headers):
    assert call("POST", "/authorizations/", headers, b"0\r\n\r\n").status == 400


@pytest.mark.parametrize("path", ["/authorizations/", "/oauth/qq/users/"])
def test_who_hangs_up_in_the_middle_of_a_body_is_no_bug_of_ours(served, path):
    address = urlsplit(served.url)
    (log,) = served.var.glob("shop-*.log")
    before = len(log.read_bytes())
    with socket.create_connection((address.hostname, address.port)) as connection:
        head = f"POST {path} HTTP/1.1\r\nHost: {address.netloc}\r\nContent-Type: application/json\r\n"
        connection.sendall(f"{head}Content-Length: 100\r\n\r\n{{".encode())
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # closed by a reset

    def told():
        return log.read_bytes()[before:].decode()

    processes.wait_until(lambda: f": {path}\n" in told(), "the shop has answered")
    assert f"Bad Request: {path}" in told()
    assert "Traceback" not in told()


def test_long_headers_are_refused(call):
    assert call("GET", "/user/", [("Accept", "a/b," * 15_000)]).status == 431
    assert call("GET", "/user/?" + "a" * 10_000).status == 414
    assert call("GET", "/user/", [(f"X-{number}", "a") for number in range(200)]).status == 431


def test_the_longest_accept_that_gets_through_changes_nothing(call):
    accept = ",".join(f"a{number}/b;q=0.{number}" for number in range(400))
    response = call("GET", "/usernames/nobody/count/", [("Accept", accept)])
    assert (response.status, json.loads(response.text)) == (200, {"username": "nobody", "count": 0})


def test_a_503_is_a_line_of_the_access_log_and_ends_no_connection(call, served):
    (log,) = served.var.glob("shop-*.log")
    before = len(log.read_bytes())
    connection = HTTPConnection(urlsplit(served.url).netloc, timeout=30)
    for _ in range(2):
        connection.request("GET", "/oauth/qq/login/?next=/cart", headers={"Sec-Purpose": "prefetch"})
        own = connection.sock
        response = connection.getresponse()
        response.read()
        assert (response.status, connection.sock) == (503, own)
    connection.close()
    call("GET", "/user/")
    told = log.read_bytes()[before:].decode()
    assert told.count('"GET /oauth/qq/login/" 503 ') == 2
    assert "Traceback" not in told


# Who calls ------------------------------------------------------------------------------------------------------------


FOREIGN = [
    "https://www.shop.test.evil.test",
    "https://evil-www.shop.test",
    "https://evilshop.test",
    "https://shop.test",
    "https://a.www.shop.test",
    "https://wwwxshop.test",
    "http://www.shop.test",
    "ftp://www.shop.test",
    "https://www.shop.test:8443",
    "https://www.shop.test:443",
    "https://WWW.shop.test",
    "https://www.shop.test@evil.test",
    "https://evil.test@www.shop.test",
    "https://www.shop.test ",
    "//www.shop.test",
    "www.shop.test",
    "https://[",
    "null",
    "*",
    "file://",
]
PREFLIGHT = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "content-type"}


@pytest.fixture
def cors(shop):
    shop.CORS_ALLOWED_ORIGINS = [WWW, "http://localhost:8080"]
    shop.MIDDLEWARE = ["corsheaders.middleware.CorsMiddleware", *shop.MIDDLEWARE]


@pytest.mark.parametrize("path", ["/oauth/qq/users/", "/oauth/qq/authorization/", "/authorizations/", "/user/"])
def test_a_listed_origin_may_read_answers_and_send_its_cookie(client, db, cors, path):
    for origin in (WWW, "http://localhost:8080"):
        for response in (
            client.get(path, headers={"Origin": origin, "Cookie": "a=b"}),
            client.options(path, headers={"Origin": origin, **PREFLIGHT}),
        ):
            assert response["Access-Control-Allow-Origin"] == origin
            assert response["Access-Control-Allow-Credentials"] == "true"
            assert "origin" in response["Vary"].lower()


def test_a_listed_origin_is_told_before_a_bind_what_it_may_send(client, cors):
    response = client.options("/oauth/qq/users/", headers={"Origin": WWW, **PREFLIGHT})
    assert response.status_code == 200
    assert "POST" in response["Access-Control-Allow-Methods"]
    assert "content-type" in response["Access-Control-Allow-Headers"]
    assert response.content == b""


@pytest.mark.parametrize("origin", FOREIGN)
@pytest.mark.parametrize("path", ["/oauth/qq/users/", "/authorizations/"])
def test_no_other_origin_may_read_an_answer(client, db, cors, path, origin):
    for response in (
        client.get(path, headers={"Origin": origin, "Cookie": "a=b"}),
        client.post(path, {}, content_type="application/json", headers={"Origin": origin}),
        client.options(path, headers={"Origin": origin, **PREFLIGHT}),
    ):
        assert not [name for name in response.headers if name.lower().startswith("access-control-")]
        assert "origin" in response["Vary"].lower()


@pytest.mark.parametrize("host", ["evil.test", "127.0.0.1.evil.test", "evil.test@127.0.0.1", "127.0.0.1:80:80", ""])
@pytest.mark.parametrize("path", [*READING, *ELSEWHERE, "/login.html", "/user"])
def test_a_forged_host_is_refused_and_nowhere_in_the_answer(call, path, host):
    response = call("GET", path, [("Host", host)])
    if path == "/login.html" and response.status == 200:
        return  # a file, the same for everybody
    assert response.status == 400
    assert "evil" not in response.text + str(response.headers)


def test_a_forged_host_is_one_line_of_the_log(call, served):
    (log,) = served.var.glob("shop-*.log")
    before = len(log.read_bytes())
    call("GET", "/user/", [("Host", "evil.test")])
    call("GET", "/user/")  # with whose answer the lines about the first one are there
    (line,) = (line for line in log.read_bytes()[before:].decode().splitlines() if "DisallowedHost" in line)
    assert re.match(r"[-\d]{10} [:\d]{8} \+0800 ERROR django.security.DisallowedHost: Invalid HTTP_HOST", line)
    assert "Traceback" not in log.read_bytes()[before:].decode()


@pytest.mark.parametrize(
    "headers",
    [{"X-Forwarded-Host": "evil.test"}, {"X-Forwarded-Port": "666"}, {"Forwarded": "host=evil.test;proto=https"}],
)
def test_no_address_is_made_of_what_a_call_says(client, db, headers):
    login_url = client.get("/oauth/qq/authorization/", headers=headers).json()["login_url"]
    assert login_url == "http://testserver/oauth/qq/login/?next=/"
    answers = client.get("/oauth/qq/login/", headers=headers), client.get("/user", headers=headers)
    assert all("evil" not in answer["Location"] and "666" not in answer["Location"] for answer in answers)


@pytest.mark.parametrize(
    "header",
    [
        ("SCRIPT_NAME", "/evil"),
        ("PATH_INFO", "/back-office/login/"),
        ("X_FORWARDED_FOR", "192.0.2.1"),
        ("X-Forwarded-Proto", "https"),
        ("X-Forwarded-Protocol", "ssl"),
        ("X-Forwarded-Ssl", "on"),
    ],
)
def test_gunicorn_believes_no_header_in_djangos_place(call, header):
    plain = call("GET", "/oauth/qq/login/")
    response = call("GET", "/oauth/qq/login/", [header])
    assert (response.status, response.headers["Location"]) == (plain.status, plain.headers["Location"])
    assert call("GET", "/user", [header]).headers["Location"] == "/user/"


# What may be done -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", {*READING, *WRITING})
def test_no_other_method_is_answered(client, db, path):
    allowed = {"OPTIONS"} | ({"GET", "HEAD"} if path in READING else set()) | ({"POST"} if path in WRITING else set())
    if path.startswith("/oauth/"):
        allowed -= {"HEAD", "OPTIONS"}  # a look must not use anything up
    for method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "TRACE", "OPTIONS", "PROPFIND"):
        if method not in allowed:
            status = client.generic(method, path).status_code
            assert status == 405 or (path, status) == ("/user/", 401), method


@pytest.mark.parametrize("header", ["X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override"])
def test_a_method_cannot_be_overridden(client, db, header):
    for path in ("/oauth/qq/users/?_method=POST", "/authorizations/?_method=POST&_content_type=application/json"):
        assert client.get(path, headers={header: "POST"}).status_code == (400 if "qq" in path else 405)
    assert client.post("/user/?_method=GET", {"_method": "GET"}, headers={header: "GET"}).status_code == 401


# What is answered -----------------------------------------------------------------------------------------------------


def every_answer(client):
    for path in (*READING, *ELSEWHERE):
        yield path, client.get(path)
        yield path, client.get(path, headers={"Origin": "https://evil.test"})
    for path in (*WRITING, *ELSEWHERE):
        for body, content_type in (("{}", "application/json"), ("{", "application/json"), ("{}", "text/plain")):
            yield path, client.post(path, body, content_type=content_type)
        yield path, client.post(path, "[1]", content_type="application/json; charset=utf-16")
        yield path, client.post(path, "a" * 20_000, content_type="application/json")
        yield path, client.post(path, "{}", content_type="application/json", headers={"Origin": "null"})
        yield path, client.put(path)
    yield "/user/", client.get("/user/", headers={"Authorization": "JWT nonsense"})
    yield "/authorizations/", client.post("/authorizations/", {"username": MOBILE, "password": PASSWORD})
    yield "/user/", client.get("/user/", headers={"Host": "evil.test"})
    yield "/user", client.get("/user")


def test_no_answer_is_kept_sniffed_framed_or_told_to_others(account):
    for path, response in every_answer(Client()):
        headers = {name: response.get(name) for name in ("Cache-Control", "ETag", "X-Content-Type-Options")}
        assert headers == {"Cache-Control": "no-store", "ETag": None, "X-Content-Type-Options": "nosniff"}, path
        assert response["Referrer-Policy"] == "no-referrer"
        assert response["X-Frame-Options"] == "DENY"
        assert response["Content-Security-Policy"] == "default-src 'none'; frame-ancestors 'none'", path


def test_a_logged_in_answer_is_not_kept_either(account, browser, binding):
    answers = [
        Client().post("/authorizations/", {"username": MOBILE, "password": PASSWORD}, content_type="application/json"),
        browser.collect(browser.arrive()),
    ]
    for response in answers:
        assert response.json()["token"]
        assert (response["Cache-Control"], response.get("ETag")) == ("no-store", None)


@pytest.mark.parametrize("path", PAGES)
def test_a_page_runs_only_the_shops_own_scripts_and_is_framed_by_nobody(client, db, path):
    response = client.get(path)
    policy = dict(part.strip().split(" ", 1) for part in response["Content-Security-Policy"].split(";"))
    assert policy == {
        "default-src": "'none'",
        "script-src": "'self'",
        "style-src": "'self'",
        "img-src": "'self' data:",
        "connect-src": "'self'",
        "form-action": "'self'",
        "base-uri": "'none'",
        "frame-ancestors": "'none'",
    }
    assert response["Referrer-Policy"] == "no-referrer"
    page = b"".join(response).decode()
    assert page.count("<script") == page.count('<script type="module" src="')
    assert "style=" not in page
    assert "javascript:" not in page
    assert not [word for word in page.split() if word.startswith("on") and "=" in word]


def test_the_callback_page_names_every_script_it_needs_so_that_none_waits_for_another():
    web = processes.ROOT / "web"
    needed, scripts = set(), ["callback.js"]
    while scripts:
        needed.add(script := scripts.pop())
        imported = re.findall(r'from "\./([^"]+)"', (web / script).read_text(encoding="utf-8"))
        scripts += set(imported) - needed
    page = (web / "oauth_callback.html").read_text(encoding="utf-8")
    assert len(needed) > 1
    assert set(re.findall(r'<link rel="modulepreload" href="([^"]+)">', page)) == needed - {"callback.js"}


def test_a_page_not_found_has_the_policy_of_a_page(client, db):
    response = client.get("/cart", headers={"Accept": "text/html"})
    assert response.status_code == 404
    assert "style-src 'self'" in response["Content-Security-Policy"]
    assert response["Cache-Control"] == "no-store"


def test_not_modified_leaves_the_kept_pages_headers_alone(client, db):
    page = client.get("/login.html")
    page.close()
    response = client.get("/login.html", headers={"If-Modified-Since": page["Last-Modified"]})
    assert response.status_code == 304
    assert "Content-Security-Policy" not in response


def test_a_policy_of_the_view_stays(client, db, settings):
    settings.ROOT_URLCONF = __name__
    assert client.get("/own/")["Content-Security-Policy"] == "sandbox"
    assert client.get("/own/")["Cache-Control"] == "max-age=5"


def own(request):
    return HttpResponse(headers={"Content-Security-Policy": "sandbox", "Cache-Control": "max-age=5"})


def fail(request):
    raise RuntimeError(request.GET["code"])


urlpatterns = [route("own/", own), route("fail/", fail)]
handler500 = "meiduo.urls.server_error"
handler404 = "meiduo.urls.not_found"


def test_no_error_page_holds_anything_of_the_call(db, settings):
    client = Client(raise_request_exception=False)
    said = {"code": "CANARY"}
    headers = {"Cookie": "a=CANARY", "Referer": "http://CANARY/", "User-Agent": "CANARY"}
    for accept in ("text/html", "application/json"):
        answers = [
            client.get("/CANARY/", said, headers={**headers, "Accept": accept}),
            client.get("/user/", said, headers={**headers, "Accept": accept, "Host": "CANARY"}),
        ]
        settings.ROOT_URLCONF = __name__
        answers.append(client.get("/fail/", said, headers={**headers, "Accept": accept}))
        settings.ROOT_URLCONF = "meiduo.urls"
        assert [answer.status_code for answer in answers] == [404, 400, 500]
        if accept == "application/json":
            assert [answer.json()["code"] for answer in answers] == ["not_found", "invalid", "server_error"]
            assert "服务器出错了" in answers[-1].content.decode()
        assert not [answer for answer in answers if b"CANARY" in answer.content or "CANARY" in str(answer.headers)]


def test_a_developers_error_page_keeps_its_style_and_shows_the_call(db, settings):
    settings.DEBUG, settings.ROOT_URLCONF = True, __name__
    client = Client(raise_request_exception=False)
    response = client.get("/fail/", {"code": "CANARY"}, headers={"Accept": "text/html"})
    assert response.status_code == 500
    assert "Content-Security-Policy" not in response
    assert "?code=CANARY" in response.content.decode()
    assert "local vars" in response.content.decode().lower()


def test_the_server_does_not_say_its_version(call):
    assert call("GET", "/user/").headers["Server"] == "gunicorn"


# The admin ------------------------------------------------------------------------------------------------------------


def test_the_admin_takes_its_own_forms_and_no_foreign_page_reads_it(call):
    assert call("GET", "/user/", [("Origin", WWW)]).headers["Access-Control-Allow-Origin"] == WWW
    page = call("GET", "/back-office/login/", [("Origin", WWW)])
    assert page.status == 200
    # From a page of the shop's own policy a browser sends a form with `Origin: null`, which Django refuses.
    assert page.headers["Referrer-Policy"] == "same-origin"
    assert "Access-Control-Allow-Origin" not in page.headers
    assert "frame-ancestors 'none'" in page.headers["Content-Security-Policy"]


@pytest.mark.parametrize(("asked", "language"), [("en", "en"), ("fr, zh;q=0.5", "zh-hans"), (None, "zh-hans")])
def test_the_shop_speaks_the_language_of_the_header_whatever_a_cookie_says(client, db, asked, language):
    client.cookies["django_language"] = "zh-hans" if language == "en" else "en"
    headers = {"accept-language": asked} if asked else {}
    response = client.post("/authorizations/", {}, content_type="application/json", headers=headers)
    assert response.status_code == 400
    assert response["Content-Language"] == language
    assert response.json()["message"].isascii() == (language == "en")

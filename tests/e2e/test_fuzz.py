"""Ten thousand odd requests to the shop as a server runs it, with true ones on the way through a login among them.

None may end in a 5xx, but for the 503 that says QQ is out of order; tell a secret; or tell what is one shopper's to who
has not shown to be that shopper. FUZZ_TIMES=20 sends twenty times as many, others each time; FUZZ_SEED chooses which.
"""

import json
import os
import random
import re
from base64 import urlsafe_b64encode
from collections import Counter
from dataclasses import dataclass, field, replace
from functools import cached_property
from http.cookies import SimpleCookie
from io import BytesIO
from urllib.parse import parse_qsl, quote_from_bytes, unquote, urlsplit
from uuid import uuid4
from wsgiref.util import setup_testing_defaults

import pytest
from django.core.cache import cache
from django.db import connection
from django.test import Client
from itsdangerous import URLSafeSerializer

from apps.oauth.old_errors import ERRORS
from apps.oauth.models import OAuthQQUser
from meiduo.wsgi import application
from tests.conftest import PAGE, Phone, query_of
from tests.oauth.test_properties import SCRAPS, TIMES
from tests.oauth.test_validation import FRIENDLY, HOSTILE

SEED = int(os.environ.get("FUZZ_SEED", random.randrange(10**9) if TIMES > 1 else 7))

pytestmark = pytest.mark.skipif(connection.vendor != "sqlite", reason="one database is enough for this many")


# What is sent ---------------------------------------------------------------------------------------------------------


@dataclass
class Request:
    method: str
    path: str
    query: list[tuple[str, str]] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)
    cookies: list[tuple[str, str]] = field(default_factory=list)
    fields: list[tuple[str, str]] | None = None  # names and JSON texts of the body
    body: bytes = b""
    address: str | None = None  # whence, where it is told who calls by that

    def copy(self):
        fields = None if self.fields is None else list(self.fields)
        return replace(
            self, query=list(self.query), headers=dict(self.headers), cookies=list(self.cookies), fields=fields
        )

    @cached_property
    def sent_body(self):
        if self.fields is None:
            return self.body
        body = "{" + ", ".join(f"{json.dumps(name)}: {text}" for name, text in self.fields) + "}"
        return body.encode("utf-8", "surrogatepass")

    @cached_property
    def query_string(self):
        return "&".join(f"{escape(name)}={escape(value)}" for name, value in self.query)

    @cached_property
    def said(self):
        """All that whoever sends this knows, however it is written."""
        body = self.sent_body.decode("latin-1")
        texts = [self.method, self.path, self.query_string, *self.headers.values(), body]
        texts += [text for cookie in self.cookies for text in cookie]
        texts += [value for _, text in self.fields or () if isinstance(value := loads(text), str)]
        whole = "\n".join(texts)
        return f"{whole}\n{unquote(whole)}"

    def environ(self, number):
        address = self.address or f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"
        environ = {"REQUEST_METHOD": self.method, "QUERY_STRING": self.query_string, "REMOTE_ADDR": address}
        environ |= {
            "PATH_INFO": latin(unquote(self.path, "latin-1")),
            "SERVER_NAME": "testserver",
            "HTTP_HOST": "testserver",
        }
        environ |= {"wsgi.input": BytesIO(self.sent_body), "CONTENT_LENGTH": str(len(self.sent_body))}
        environ |= {"HTTP_COOKIE": latin("; ".join(f"{name}={value}" for name, value in self.cookies))}
        for name, value in self.headers.items():
            key = name.upper().replace("-", "_")
            environ[key if key in ("CONTENT_TYPE", "CONTENT_LENGTH") else f"HTTP_{key}"] = latin(value)
        setup_testing_defaults(environ)
        return environ


def latin(text):
    """Text as a server hands it over: the bytes of the wire, each a character. A server lets no line end through."""
    return re.sub("[\r\n\0]", " ", text).encode("utf-8", "surrogatepass").decode("latin-1")


def escape(text):
    return quote_from_bytes(text.encode("utf-8", "surrogatepass"), safe="/:?@,;-_.~")


def loads(text):
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


@dataclass
class Answer:
    status: int
    headers: list[tuple[str, str]]
    content: bytes
    error: Exception | None = None

    def header(self, name):
        return next((value for key, value in self.headers if key.lower() == name), "")

    @cached_property
    def text(self):
        return self.content.decode("utf-8", "replace")

    @cached_property
    def json(self):
        """The object the answer is, if it is one."""
        found = loads(self.text) if self.header("content-type").startswith("application/json") else None
        return found if isinstance(found, dict) else {}


# Who sends it ---------------------------------------------------------------------------------------------------------


class Shopper:
    def __init__(self, number):
        self.person = f"person {number}"
        self.mobile = f"13{number:09}"
        self.password = f"correct horse {number:06}"
        self.name = f"shopper_{number:06}"  # of a registration
        self.address = f"198.18.{number >> 8 & 255}.{number & 255}"
        self.cookies = {}
        self.sms_code = ""
        self.secrets = set()  # each proves, with a cookie of its flow, who sends it
        self.cookie_values = set()
        self.tokens = set()

    def keep(self, answer):
        """Keep the cookies of an answer, as a browser does."""
        for key, value in answer.headers:
            if key.lower() == "set-cookie":
                for name, morsel in SimpleCookie(value).items():
                    self.cookies[name] = morsel.value
                    self.cookie_values.add(morsel.value)

    def is_shown_by(self, request):
        """Whether the request says what only the shopper knows."""
        said = request.said
        return (
            any(token in said for token in self.tokens)
            or self.password in said
            or (
                any(secret in said for secret in self.secrets)
                and (request.address == self.address or any(cookie in said for cookie in self.cookie_values))
            )
        )


class Shop:
    """Sends requests, each from another address, and judges every answer."""

    def __init__(self, qq, settings, users):
        self.qq = qq
        self.users = users
        self.secrets = [qq.client_secret, settings.SECRET_KEY, settings.JWT_SIGNING_KEY]
        self.shoppers = []
        self.qq_failed = False
        self.sent = 0
        self.seen = Counter()

    def send(self, request):
        self.sent += 1
        told = []
        try:
            parts = application(
                request.environ(self.sent), lambda status, headers, exc=None: told.extend((status, headers))
            )
            try:
                content = b"".join(parts)
            finally:
                getattr(parts, "close", lambda: None)()
            answer = Answer(int(told[0].split()[0]), told[1], content)
        except Exception as exc:  # the server would answer with a 500 of its own
            answer = Answer(500, [], b"", exc)
        try:
            self.judge(request, answer)
        except Exception as exc:
            raise AssertionError(
                f"{exc}\nseed {SEED}, request {self.sent}: {request}\n"
                f"{answer.status} {answer.headers} {answer.text[:2000]}"
            ) from answer.error
        return answer

    def judge(self, request, answer):
        code = answer.json.get("code") or query_of(answer.header("location")).get("error")
        self.seen.update({answer.status, code} & {answer.status, *ERRORS})
        looks_ahead = "prefetch" in request.headers.get("Sec-Purpose", "") and not answer.content
        assert answer.status < 500 or (answer.status == 503 and (looks_ahead or (code in QQ_FAILS and self.qq_failed)))
        if answer.status >= 400 and answer.content and "text/html" not in request.headers.get("Accept", ""):
            assert answer.json.get("message"), "a refusal without a sentence"
            assert isinstance(answer.json["message"], str)
        self.judge_secrets(request, answer)
        self.judge_owners(request, answer)

    def judge_secrets(self, request, answer):
        told = answer.text + "\n".join(f"{name}: {value}" for name, value in answer.headers)
        assert "\r" not in told.partition("Location: ")[2]
        for secret in self.secrets:
            assert secret not in told or secret in request.said, "a secret"
        for shopper in self.shoppers:
            assert shopper.password not in told or shopper.password in request.said, "a password"
        if answer.header("content-type").startswith("application/json"):
            inside = re.search(
                r"Traceback|site-packages|\.py(?![\w-])|\bFile \"|sqlite|SELECT |DOES ?NOT ?EXIST|IntegrityError",
                told,
                re.I,
            )
            assert not inside or inside[0].lower() in request.said.lower(), "the shop's inside"

    def judge_owners(self, request, answer):
        """Whatever is somebody's goes to nobody else."""
        for shopper in self.shoppers:
            assert shopper.mobile not in answer.text or shopper.mobile in request.said, "a whole number"
            if shopper.is_shown_by(request):
                continue
            for own in (shopper.name, self.qq.openid(shopper.person), *shopper.tokens, *shopper.secrets):
                assert own not in answer.text or own in request.said, f"what is {shopper.person}'s"
        if "token" in answer.json:
            user = self.users.get(pk=answer.json.get("user_id", answer.json.get("id")))
            owner = self.owner(mobile=user.mobile)
            if request.method.upper() == "GET":
                assert owner.is_shown_by(request), "a stranger's token"
            else:
                assert any(map(user.check_password, texts_in(request.sent_body))), "no password"
                proofs = (owner.sms_code, *owner.tokens)  # a new account, or a new password
                assert request.path == "/authorizations/" or any(one in request.said for one in proofs), "no proof"
        if "access_token" in answer.json and answer.status == 200:
            openid = opened(answer.json["access_token"])["openid"]
            assert self.owner(openid=openid).is_shown_by(request), "a stranger's bind token"
        if "email" in answer.json:
            user = self.users.get(pk=answer.json["id"])
            assert self.owner(mobile=user.mobile).is_shown_by(request), "a stranger's profile"

    def owner(self, *, mobile=None, openid=None):
        return next(one for one in self.shoppers if one.mobile == mobile or self.qq.openid(one.person) == openid)


def texts_in(body):
    """What the fields of a body say, and what may be taken for text."""
    fields = loads(body)
    return [str(value) for value in fields.values() if not isinstance(value, (list, dict))] if fields else []


QQ_FAILS = ("qq_busy", "qq_unavailable", "qq_misconfigured")


def opened(signed):
    """What is readable in a signed value, whoever signed it."""
    return URLSafeSerializer("").load_payload(signed.rsplit(".", 2)[0].encode())


# The way through a login, each step a true request --------------------------------------------------------------------


def ask_for_code(shopper, phone):
    return Phone(phone, Client(REMOTE_ADDR=shopper.address)).receive_code(shopper.mobile)


def life(shopper, shop, dice, phone, mode):
    """Yields a shopper's requests in their order, and gets the answer to each."""

    def call(method, path, query=(), fields=None, **headers):
        headers = {"User-Agent": "Mozilla/5.0", **headers}
        if fields is not None:
            headers["Content-Type"] = "application/json"
            fields = [(name, json.dumps(value)) for name, value in fields.items()]
        cookies = [] if mode == "cookieless" and path.startswith("/oauth/qq/user") else list(shopper.cookies.items())
        address = shopper.address if mode == "cookieless" else None
        return Request(method, path, list(query), headers, cookies, fields, address=address)

    token = ""
    for _ in range(4):
        next = dice.choice([value for value in FRIENDLY if len(value) < 100])
        yield call("GET", "/oauth/qq/authorization/", [("next", next)])
        answer = yield call("GET", "/oauth/qq/login/", [("next", next)])
        shopper.keep(answer)
        came_back = urlsplit(shop.qq.sign_in(answer.header("location"), shopper.person))
        query = parse_qsl(came_back.query)
        code = dict(query)["code"]
        if mode != "direct":
            shop.secrets.append(code)
            answer = yield call("GET", came_back.path, query)
            shopper.keep(answer)
            if (sealed := query_of(answer.header("location")).get("code")) is None:
                continue  # a request in between has used the state up
            query = [("code", sealed)]
        shopper.secrets.add(query[0][1])
        if dice.random() < 0.3:
            shop.qq_failed = True
            fault = dice.choice(["502", "html", "empty", "cut", "reset", "error", "body"])
            shop.qq.behave(
                token={"fault": fault, "times": 1, "body": dice.choice(SCRAPS), "number": dice.choice(NUMBERS)}
            )
        path = dice.choice(["/oauth/qq/users/", "/oauth/qq/user/"])
        answer = yield call("GET", path, query)
        shopper.keep(answer)
        if "access_token" in answer.json:
            bind_token = answer.json["access_token"]
            shopper.secrets.add(bind_token)
            shopper.sms_code = shopper.sms_code or ask_for_code(shopper, phone)
            form = {"mobile": shopper.mobile, "password": shopper.password, "sms_code": shopper.sms_code}
            form["access_token"] = bind_token
            for _ in range(dice.choice([0, 0, 0, 0, 6])):
                yield call("POST", path, fields=form | {"password": "short"})
            answer = yield call("POST", path, fields=form)
        if "token" in answer.json:
            token = answer.json["token"]
            shopper.tokens.add(token)
            yield call("GET", "/user/", Authorization=f"JWT {token}")
            if answer.json["username"] != shopper.name:
                shopper.name = answer.json["username"]
                yield call("GET", f"/usernames/{shopper.name}/count/")
            yield call("POST", "/authorizations/", fields={"username": shopper.mobile, "password": shopper.password})
    form = {"mobile": shopper.mobile, "password": shopper.password, "sms_code": shopper.sms_code or "123456"}
    yield call("POST", "/password/", fields=form)
    form = {"old_password": shopper.password, "password": f"{shopper.password} anew"}
    answer = yield call("PUT", "/user/password/", fields=form, Authorization=f"JWT {token}")
    shopper.tokens.add(answer.json.get("token", token))


def newcomer(shopper, shop, dice, phone, mode):
    """Registers without QQ."""
    image_code_id = str(uuid4())
    yield Request("GET", f"/image_codes/{image_code_id}/")
    yield Request("GET", f"/sms_codes/{shopper.mobile}/", [("text", "ABCD"), ("image_code_id", image_code_id)])
    yield Request("GET", f"/mobiles/{shopper.mobile}/count/")
    form = {"username": shopper.name, "password": shopper.password, "password2": shopper.password, "allow": True}
    shopper.sms_code = ask_for_code(shopper, phone)
    form |= {"mobile": shopper.mobile, "sms_code": shopper.sms_code}
    fields = [(name, json.dumps(value)) for name, value in form.items()]
    answer = yield Request("POST", "/users/", headers={"Content-Type": "application/json"}, fields=fields)
    if "token" in answer.json:
        shopper.tokens.add(answer.json["token"])
        yield Request("GET", "/user/", headers={"Authorization": f"JWT {answer.json['token']}"})


# What may become of a request -----------------------------------------------------------------------------------------

METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "TRACE", "CONNECT", "PROPFIND", "get", "X" * 100]
NUMBERS = [100020, 100019, 100009, 100010, 100013, 0, -1, 7]
API = [
    "/oauth/qq/authorization/", "/oauth/qq/authorizations/", "/oauth/qq/statues/", "/oauth/qq/login/",
    "/oauth/qq/callback/", "/oauth/qq/callback", "/oauth/qq/users/", "/oauth/qq/user/", "/authorizations/",
    "/users/", "/user/", "/user/password/", "/password/",
    "/usernames/zhang3/count/", "/mobiles/13812345678/count/", f"/image_codes/{uuid4()}/", "/sms_codes/13812345678/",
]  # fmt: skip
PATHS = [
    "/", "//", "*", "", "/oauth/qq/", "/oauth/qq/login", "/oauth/qq/users", "//oauth/qq/login/", "/oauth/qq/./login/",
    "/oauth/qq/login/%00", "/oauth/qq/login/%0d%0aX:%20y", "/oauth/qq/users/1/", "/oauth/qq/users/%ff", "/%ff%fe/",
    "/%c0%af", "/usernames/%00/count/", "/usernames/%ff/count/", "/usernames/%ed%a0%80/count/",
    "/usernames/" + "x" * 3000 + "/count/", "/usernames/a%2fb/count/", "/usernames/%F0%9F%99%82/count/",
    "/mobiles/1381234567%D9%A8/count/", "/mobiles/%0a/count/", "/image_codes/0/", "/image_codes/" + "0" * 36 + "/",
    "/sms_codes/%00/", "/sms_codes/+8613812345678/", "/admin/", "/login.html", "/oauth_callback.html", "/index.html",
    "/api.js", "/../meiduo/settings.py", "/%2e%2e/meiduo/settings.py", "/.git/config", "/static/admin/css/base.css",
    "/nowhere/", "/" + "a/" * 2000, "http://evil.example/oauth/qq/login/",
]  # fmt: skip
QUERY_NAMES = [
    "code", "state", "next", "error", "usercancel", "text", "image_code_id", "format", "openid", "access_token", "",
    "é",
]  # fmt: skip
FIELD_NAMES = [
    "mobile", "old_password", "password", "password2", "sms_code", "access_token", "username", "allow", "openid",
    "is_staff", "id", "",
]  # fmt: skip
LONG = "x" * 9000
TEXTS = [
    "", " ", "null", "undefined", "0", "-1", "true", "[]", "{}", "\0", "a\0b", "\r\nX: y", "\ud800", "\udfff\ud800",
    "\ufeff", "é", "车" * 100, "🙂", "١٢٣٤٥٦", "１３８１２３４５６７８", "%", "%00", "%ff", "%2f%2fevil.example",
    "../../etc/passwd", "' OR 1=1--", "<script>alert(1)</script>", "{{7*7}}", "${7*7}",
    "a" * 512, "a" * 513, LONG, "A" * 32, "A" * 43,
    "..", ".", "a.b.c", "+8613812345678", "13812345678\n", "13812345678", "000000", "123456", "1e5", "NaN",
    "x" * 100_000, "%u002f", "\u2028", "\x1b[31m",
]  # fmt: skip
CHARSETS = [
    "utf-8", "UTF8", "latin-1", "gbk", "utf-16", "utf-32", "utf-7", "unicode_escape", "cp037", "x", "", "é",
    "utf-8-sig", "big5", "base64", "rot13", "hex", "bz2", "zlib", "uu", "quopri", "undefined", "idna", "punycode",
]  # fmt: skip
HEADERS = {
    "Accept": [
        "", "*/*", "text/html", "text/html,*/*;q=0.8", "image/png", "application/xml", ";;;", ",", "é", "a/b;q=x",
        "application/json; indent=99999", "application/json;a=b," * 3000,
    ],
    "Accept-Language": [
        "en", "zh-CN", "fr", "*", "en;q=0", "en;q=nan", "en;q=1e9", "-", "en-" * 200, "zh;q=0.1,en;q=0.2", "é", LONG,
        "../../en", "zh-hans-" + "a" * 600, ";q=", "en_US", "\0",
    ],
    "Authorization": [
        "", "JWT", "JWT ", "JWT a b", "JWT a.b.c", "JWT é.é.é", "Bearer x", "Basic !!!", "é", "JWT " + LONG,
        "jwt x.y.z", "JWT eyJhbGciOiJub25lIn0.eyJ1c2VyX2lkIjoxfQ.", "JWT " + "." * 50, "JWT e30.e30.e30", "Token x",
    ],
    "Content-Type": [
        "", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "multipart/form-data; boundary=",
        "multipart/form-data; boundary=x", "multipart/form-data; boundary=é", "application/jsonx", "application/json;",
        "APPLICATION/JSON", "application/json, text/plain", "é", ";", "/", "application/json; a=" + LONG, "*/*",
        *(f"application/json; charset={charset}" for charset in CHARSETS),
    ],
    "Content-Length": ["", "0", "abc", "-1", "1", "1.5", "１"],
    "Cookie": [
        "", "=", ";;;", "=;=;", "a", 'a="\\377"', "qq_flow_0123456789ab=x", "qq_flow_0123456789ab=", "é=é",
        "sessionid=x", "__Host-qq_flow_0123456789ab=x", "csrftoken=x", "django_language=é", "a=b; " * 3000,
        'qq_flow_0123456789ab="' + LONG + '"', "; ".join(f"qq_flow_{number:012x}=x.y.z" for number in range(300)),
    ],
    "Host": [
        "evil.example", "testserver:80", "testserver:99999", "testserver@evil.example", "[::1]", "[", "", "é",
        "TESTSERVER", ".",
    ],
    "Origin": [
        "null", "", "http://evil.example", "http://testserver", "https://testserver.evil.example", "é", "file://",
        "http://[",
    ],
    "Referer": ["http://evil.example/", "é", "http://["],
    "X-Forwarded-For": ["1.1.1.1", "", ",", "a", "::1", "1.1.1.1, 2.2.2.2", "é", "1.1.1.1," * 2000],
    "X-Forwarded-Host": ["evil.example", "é"],
    "X-Forwarded-Proto": ["https", "x"],
    "X-Request-Id": ["abcdefgh", "x", "é" * 20, LONG, '","message":"x'],
    "X-HTTP-Method-Override": ["DELETE", "POST"],
    "Sec-Purpose": ["prefetch", "prefetch;prerender", "x", ""],
    "User-Agent": ["", "Mobi", "é", LONG],
    "If-None-Match": ["*", '"x"', "é"],
    "If-Modified-Since": ["x", "Thu, 01 Jan 1970 00:00:00 GMT", "Thu, 99 Jan 9999999 00:00:00 GMT"],
    "Range": ["bytes=0-1", "bytes=-1", "bytes=9-1", "x", "bytes=99999999-"],
    "Accept-Encoding": ["gzip", "br;q=x", "é"],
    "Access-Control-Request-Method": ["POST", "é"],
}  # fmt: skip
BODIES = [
    b"", b"{", b"[]", b"7", b"null", b'"text"', b"\xff\xfe{\x00}\x00", b"\x00", b"{}", b'{"a":1,"a":2}', b"[" * 5000,
    b'{"a":' * 3000, b"a=b&c=d", b"--x\r\n\r\n--x--",
    b"--x\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\nb\r\n--x--\r\n", b"<xml/>", b"x" * 15_000,
    b'{"mobile": "' + b"1" * 17_000 + b'"}', b" " * 70_000, b"1" * 5000, b"NaN", b'{"access_token": "\xff"}',
    b'\xef\xbb\xbf{}',
]  # fmt: skip


class Grammar:
    def __init__(self, dice, shoppers):
        self.dice = dice
        self.shoppers = shoppers

    def text(self):
        """A text of any kind, sometimes what somebody has just been given."""
        some = self.dice.choice(self.shoppers)
        given = [*some.secrets, *some.tokens, *some.cookie_values, some.mobile, some.name]
        kind = self.dice.random()
        if kind < 0.25:
            return self.dice.choice(given)
        if kind < 0.4:
            return self.bent(self.dice.choice(given))
        return self.dice.choice(HOSTILE if kind < 0.5 else TEXTS)

    def json(self):
        if self.dice.random() < 0.4:
            return self.dice.choice(SCRAPS)
        text = self.text()
        return json.dumps(
            self.dice.choice([text, text, text, [text], {"a": text}, len(text), True, None, [[[text]]], {}])
        )

    def bent(self, text):
        dice = self.dice
        place = dice.randrange(len(text) + 1)
        return dice.choice(
            [
                text[:place] + dice.choice("Ax0-_. \0é%/=") + text[place + 1 :],
                text[:place] + text[place + 1 :],
                text[:place] + dice.choice(["A", ".", "%", "\0", "\ud800", "车"]) + text[place:],
                text[:place],
                text[place:],
                text * 2,
                text + "=",
                f" {text}",
                f"{text}\n",
                f".{text}",
                text.swapcase(),
                text[::-1],
                urlsafe_b64encode(text.encode("utf-8", "replace")).decode(),
            ]
        )

    def odd(self, request):
        return self.changed(request) if self.dice.random() < 0.8 else self.made_up()

    def changed(self, request):
        """The request with one value of it changed, now and then with two or three."""
        request = request.copy()
        if self.dice.random() < 0.7:
            request.address = None
        for _ in range(self.dice.choice([1, 1, 1, 2, 3])):
            ways = [self.change_method, self.change_path, self.change_header, self.change_header, self.change_query]
            ways += [self.change_query] * 3 * bool(request.query) + [self.change_cookies] * 2 * bool(request.cookies)
            ways += [self.change_field] * 10 * bool(request.fields) + [self.change_body] * (request.method != "GET")
            self.dice.choice(ways)(request)
        return request

    def change_method(self, request):
        request.method = self.dice.choice(["GET", "POST"] * 6 + METHODS)

    def change_path(self, request):
        request.path = self.dice.choice([*API, self.bent(request.path).replace("?", ""), self.dice.choice(PATHS)])

    def change_header(self, request):
        name = self.dice.choice([*HEADERS, "Accept", "Authorization", "Cookie", *["Content-Type"] * 4])
        values = HEADERS[name]
        if name in request.headers and self.dice.random() < 0.3:
            values = [self.bent(request.headers[name])]
        value = self.dice.choice(values)
        request.headers[name] = value

    def change_query(self, request):
        self.change_pairs(request.query, QUERY_NAMES, self.text)

    def change_cookies(self, request):
        some = self.dice.choice(self.shoppers)
        self.change_pairs(request.cookies, [*some.cookies, "qq_flow_0123456789ab"], self.text)

    def change_field(self, request):
        self.change_pairs(request.fields, FIELD_NAMES, self.json)

    def change_pairs(self, pairs, names, new):
        place = self.dice.randrange(len(pairs) + 1)
        if place == len(pairs):
            pairs.append((self.dice.choice(names), new()))
            return
        name, value = pairs[place]
        match self.dice.randrange(8):
            case 0:
                del pairs[place]
            case 1:
                pairs.append((name, new()))
            case 2:
                pairs.append((name, value))
            case 3:
                pairs[place] = self.dice.choice(names), value
            case 4:
                pairs[place] = name, self.bent(value)
            case _:
                pairs[place] = name, new()

    def change_body(self, request):
        if request.fields is not None and self.dice.random() < 0.5:
            request.body = self.bent(request.sent_body.decode("latin-1")).encode("latin-1", "replace")
            request.__dict__.pop("sent_body", None)
        else:
            request.body = self.dice.choice(BODIES)
        request.fields = None

    def made_up(self):
        """A request of no sense at all."""
        request = Request(self.dice.choice(["GET", "POST"] * 6 + METHODS), self.dice.choice([*API, *API, *PATHS]))
        some = self.dice.choice(self.shoppers)
        request.cookies = list(some.cookies.items()) if self.dice.random() < 0.5 else []
        request.query = [(self.dice.choice(QUERY_NAMES), self.text()) for _ in range(self.dice.randrange(4))]
        if request.method == "POST":
            request.headers["Content-Type"] = "application/json"
            names = self.dice.sample(FIELD_NAMES, self.dice.randrange(6))
            request.fields = [(name, self.json()) for name in names]
        return self.changed(request)


# ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("mode", "requests"),
    [("callback", 7000), ("direct", 3500), ("cookieless", 3500)],
)
def test_no_request_breaks_the_shop_or_gets_what_is_not_its_own(qq, shop, tmp_path, django_user_model, mode, requests):
    shop.QQ_REDIRECT_URI = PAGE if mode == "direct" else shop.QQ_REDIRECT_URI
    shop.QQ_REQUIRE_COOKIE = mode != "cookieless"
    dice = random.Random(f"{SEED} {mode}")
    door = Shop(qq, shop, django_user_model.objects)
    while door.sent < requests * TIMES:
        cache.clear()  # another day: what limits have counted is forgotten
        qq.reset()
        door.qq_failed = False
        first = len(door.shoppers)
        here = [Shopper(number) for number in range(first, first + 3)]
        door.shoppers += here
        grammar = Grammar(dice, here)
        lives = [way(one, door, dice, tmp_path, mode) for way, one in zip((life, life, newcomer), here, strict=True)]
        coming = {one: next(one) for one in lives}
        while coming:
            one = dice.choice(list(coming))
            true = coming[one]
            # Those that go before it may use up what it needs, so mostly they follow.
            before = dice.choice([0, 0, 0, 3])
            for _ in range(before):
                door.send(grammar.odd(true))
            answer = door.send(true)
            for _ in range(10 - before):
                door.send(grammar.odd(true))
            try:
                coming[one] = one.send(answer)
            except StopIteration:
                del coming[one]
    # Each openid is bound to the account of the person's own number.
    bound = OAuthQQUser.objects.values_list("openid", "user__mobile")
    assert len(bound) > len(door.shoppers) / 4
    assert set(bound) <= {(qq.openid(one.person), one.mobile) for one in door.shoppers}
    # And it was no shot in the dark: logins went through, and what the shop refuses was met.
    met = {200, 201, 302, 400, 401, 404, 405, 503, "invalid", "already_bound", "state_invalid", "qq_unavailable"}
    if mode == "callback":
        met |= {"code_missing", "code_invalid", "state_used", "bind_token_missing", "bind_token_invalid", "bind_tries"}
    assert met <= set(door.seen)

"""Ten thousand odd requests to the WSGI application, mixed with the real requests of users who log in.

No answer may be a 5xx (except the 503 for a failure of QQ), contain a secret, or give a user's data to a caller who has
not proved to be that user. FUZZ_TIMES=20 sends twenty times as many random ones; FUZZ_SEED repeats a run.
"""

import json
import os
import random
import re
from base64 import urlsafe_b64encode
from collections import Counter
from copy import deepcopy
from dataclasses import dataclass, field
from http.cookies import SimpleCookie
from io import BytesIO
from urllib.parse import parse_qsl, quote_from_bytes, unquote, urlsplit
from uuid import uuid4
from wsgiref.util import setup_testing_defaults

import pytest
from django.core.cache import cache
from django.test import Client
from itsdangerous import URLSafeSerializer

from apps.oauth.errors import ERRORS
from apps.oauth.models import OAuthQQUser
from meiduo.wsgi import application
from tests.conftest import PAGE, Phone, query_of
from tests.oauth.test_properties import SCRAPS, TIMES
from tests.oauth.test_validation import FRIENDLY, HOSTILE
from tests.tools.requirements import requirement

SEED = int(os.environ.get("FUZZ_SEED", random.randrange(10**9) if TIMES > 1 else 7))
QQ_ERRORS = ("qq_busy", "qq_unavailable", "qq_misconfigured")
INTERNALS = re.compile(
    r"Traceback|site-packages|\.py(?![\w-])|\bFile \"|sqlite|SELECT |DOES ?NOT ?EXIST|IntegrityError", re.IGNORECASE
)


# Requests and answers -------------------------------------------------------------------------------------------------


@dataclass
class Request:
    method: str
    path: str
    query: list[tuple[str, str]] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)
    cookies: list[tuple[str, str]] = field(default_factory=list)
    fields: list[tuple[str, str]] | None = None  # names and JSON texts of the body
    raw_body: bytes = b""  # the body if there are no fields
    address: str | None = None  # None: another one for each request

    def body(self):
        if self.fields is None:
            return self.raw_body
        body = "{" + ", ".join(f"{json.dumps(name)}: {text}" for name, text in self.fields) + "}"
        return body.encode("utf-8", "surrogatepass")

    def query_string(self):
        return "&".join(f"{quoted(name)}={quoted(value)}" for name, value in self.query)

    def everything_sent(self):
        """Return the whole request as text, quoted and unquoted: all that the caller knows."""
        texts = [self.method, self.path, self.query_string(), *self.headers.values(), self.body().decode("latin-1")]
        texts += [text for cookie in self.cookies for text in cookie]
        texts += [value for _, text in self.fields or () if isinstance(value := loads(text), str)]
        whole = "\n".join(texts)
        return f"{whole}\n{unquote(whole)}"

    def environ(self, number):
        body = self.body()
        environ = {
            "REQUEST_METHOD": self.method,
            "PATH_INFO": latin(unquote(self.path, "latin-1")),
            "QUERY_STRING": self.query_string(),
            "REMOTE_ADDR": self.address or f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}",
            "SERVER_NAME": "testserver",
            "HTTP_HOST": "testserver",
            "HTTP_COOKIE": latin("; ".join(f"{name}={value}" for name, value in self.cookies)),
            "CONTENT_LENGTH": str(len(body)),
            "wsgi.input": BytesIO(body),
        }
        for name, value in self.headers.items():
            key = name.upper().replace("-", "_")
            environ[key if key in ("CONTENT_TYPE", "CONTENT_LENGTH") else f"HTTP_{key}"] = latin(value)
        setup_testing_defaults(environ)
        return environ


def latin(text):
    """Return text as a WSGI server passes it on: one character per byte, and no line ends."""
    return re.sub("[\r\n\0]", " ", text).encode("utf-8", "surrogatepass").decode("latin-1")


def quoted(text):
    return quote_from_bytes(text.encode("utf-8", "surrogatepass"), safe="/:?@,;-_.~")


def loads(text):
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


class Answer:
    def __init__(self, status, headers, content, error=None):
        self.status = status
        self.headers = headers
        self.error = error
        self.text = content.decode("utf-8", "replace")
        found = loads(self.text) if self.header("content-type").startswith("application/json") else None
        self.json = found if isinstance(found, dict) else {}

    def header(self, name):
        return next((value for key, value in self.headers if key.lower() == name), "")


def call(environ):
    """Call the application as a WSGI server does."""
    started = []
    try:
        parts = application(environ, lambda status, headers, exc_info=None: started.extend((status, headers)))
        content = b"".join(parts)
        parts.close()
        return Answer(int(started[0].split()[0]), started[1], content)
    except Exception as exc:  # a server would answer 500
        return Answer(500, [], b"", exc)


# Users and judgement --------------------------------------------------------------------------------------------------


class User:
    def __init__(self, number):
        self.person = f"person {number}"
        self.mobile = f"13{number:09}"
        self.password = f"correct horse {number:06}"
        self.name = f"shopper_{number:06}"
        self.address = f"198.18.{number >> 8 & 255}.{number & 255}"
        self.cookies = {}
        self.sms_code = ""
        self.secrets = set()  # each proves who the caller is, together with a cookie of its flow
        self.cookie_values = set()
        self.tokens = set()

    def keep_cookies(self, answer):
        for key, value in answer.headers:
            if key.lower() == "set-cookie":
                for name, morsel in SimpleCookie(value).items():
                    self.cookies[name] = morsel.value
                    self.cookie_values.add(morsel.value)

    def is_proved_by(self, request, sent):
        """Return whether the request contains what only this user knows."""
        is_in_browser = request.address == self.address or any(cookie in sent for cookie in self.cookie_values)
        return (
            any(token in sent for token in self.tokens)
            or self.password in sent
            or (is_in_browser and any(secret in sent for secret in self.secrets))
        )


class Shop:
    """Sends requests, each from another address, and judges every answer."""

    def __init__(self, qq, settings, accounts):
        self.qq = qq
        self.accounts = accounts
        self.secrets = [qq.client_secret, settings.SECRET_KEY, settings.JWT_SIGNING_KEY]
        self.users = []
        self.qq_failed = False
        self.sent = 0
        self.seen = Counter()

    def send(self, request):
        self.sent += 1
        answer = call(request.environ(self.sent))
        try:
            sent = request.everything_sent()
            self.judge_status(request, answer)
            self.judge_secrets(answer, sent)
            self.judge_owners(request, answer, sent)
        except Exception as exc:
            raise AssertionError(
                f"{exc}\nseed {SEED}, request {self.sent}: {request}\n"
                f"{answer.status} {answer.headers} {answer.text[:2000]}"
            ) from answer.error
        return answer

    def judge_status(self, request, answer):
        code = answer.json.get("code") or query_of(answer.header("location")).get("error")
        self.seen.update({answer.status, code} & {answer.status, *ERRORS})
        is_prefetch = "prefetch" in request.headers.get("Sec-Purpose", "") and not answer.text
        is_failure_of_qq = code in QQ_ERRORS and self.qq_failed
        assert answer.status < 500 or (answer.status == 503 and (is_prefetch or is_failure_of_qq))
        if answer.status >= 400 and answer.text and "text/html" not in request.headers.get("Accept", ""):
            assert answer.json.get("message"), "an error without a message"
            assert isinstance(answer.json["message"], str)

    def judge_secrets(self, answer, sent):
        received = answer.text + "\n".join(f"{name}: {value}" for name, value in answer.headers)
        assert "\r" not in received.partition("Location: ")[2]
        for secret in [*self.secrets, *(user.password for user in self.users)]:
            assert secret not in received or secret in sent, "a secret"
        if answer.header("content-type").startswith("application/json"):
            found = INTERNALS.search(received)
            assert not found or found[0].lower() in sent.lower(), "internals of the shop"

    def judge_owners(self, request, answer, sent):
        """Fail if the answer contains the data of a user who has not been proved."""
        for user in self.users:
            assert user.mobile not in answer.text or user.mobile in sent, "a whole mobile number"
            if not user.is_proved_by(request, sent):
                for own in (user.name, self.qq.openid(user.person), *user.tokens, *user.secrets):
                    assert own not in answer.text or own in sent, f"data of {user.person}"
        if "token" in answer.json:
            account = self.accounts.get(pk=answer.json.get("user_id", answer.json.get("id")))
            owner = self.owner(mobile=account.mobile)
            if request.method.upper() == "GET":
                assert owner.is_proved_by(request, sent), "another user's token"
            else:
                fields = (loads(request.body()) or {}).values()
                passwords = [str(value) for value in fields if not isinstance(value, (list, dict))]
                assert any(map(account.check_password, passwords)), "a token without a password"
                proofs = (owner.sms_code, *owner.tokens)  # for a new account or a new password
                assert request.path == "/authorizations/" or any(proof in sent for proof in proofs), "no proof"
        if "access_token" in answer.json and answer.status == 200:
            payload = answer.json["access_token"].rsplit(".", 2)[0].encode()
            openid = URLSafeSerializer("").load_payload(payload)["openid"]
            assert self.owner(openid=openid).is_proved_by(request, sent), "another user's bind token"
        if "email" in answer.json:
            account = self.accounts.get(pk=answer.json["id"])
            assert self.owner(mobile=account.mobile).is_proved_by(request, sent), "another user's profile"

    def owner(self, *, mobile=None, openid=None):
        return next(user for user in self.users if user.mobile == mobile or self.qq.openid(user.person) == openid)


# The real requests of a login -----------------------------------------------------------------------------------------


def receive_sms_code(user, folder):
    return Phone(folder, Client(REMOTE_ADDR=user.address)).receive_code(user.mobile)


def json_request(method, path, fields, **headers):
    fields = [(name, json.dumps(value)) for name, value in fields.items()]
    return Request(method, path, headers={"Content-Type": "application/json", **headers}, fields=fields)


def qq_user(user, shop, dice, folder, mode):
    """Yield the requests of a user who logs in through QQ four times; receives the answer to each."""

    def from_browser(request):
        request.headers["User-Agent"] = "Mozilla/5.0"
        if mode == "cookieless":
            request.address = user.address
        if mode != "cookieless" or not request.path.startswith("/oauth/qq/user"):
            request.cookies = list(user.cookies.items())
        return request

    token = ""
    for _ in range(4):
        next = [("next", dice.choice([value for value in FRIENDLY if len(value) < 100]))]
        yield from_browser(Request("GET", "/oauth/qq/authorization/", next))
        answer = yield from_browser(Request("GET", "/oauth/qq/login/", next))
        user.keep_cookies(answer)
        callback = urlsplit(shop.qq.sign_in(answer.header("location"), user.person))
        query = parse_qsl(callback.query)
        if mode != "direct":
            shop.secrets.append(dict(query)["code"])
            answer = yield from_browser(Request("GET", callback.path, query))
            user.keep_cookies(answer)
            if (sealed := query_of(answer.header("location")).get("code")) is None:
                continue  # an odd request has used the state
            query = [("code", sealed)]
        user.secrets.add(query[0][1])
        if dice.random() < 0.3:
            shop.qq_failed = True
            fault = {"fault": dice.choice(["502", "html", "empty", "cut", "reset", "error", "body"]), "times": 1}
            shop.qq.behave(token=fault | {"body": dice.choice(SCRAPS), "number": dice.choice(NUMBERS)})
        path = dice.choice(["/oauth/qq/users/", "/oauth/qq/user/"])
        answer = yield from_browser(Request("GET", path, query))
        user.keep_cookies(answer)
        if "access_token" in answer.json:
            user.secrets.add(answer.json["access_token"])
            user.sms_code = user.sms_code or receive_sms_code(user, folder)
            form = {"mobile": user.mobile, "password": user.password, "sms_code": user.sms_code}
            form["access_token"] = answer.json["access_token"]
            for _ in range(dice.choice([0, 0, 0, 0, 6])):
                yield from_browser(json_request("POST", path, form | {"password": "short"}))
            answer = yield from_browser(json_request("POST", path, form))
        if "token" in answer.json:
            token = answer.json["token"]
            user.tokens.add(token)
            yield from_browser(Request("GET", "/user/", headers={"Authorization": f"JWT {token}"}))
            if answer.json["username"] != user.name:
                user.name = answer.json["username"]
                yield from_browser(Request("GET", f"/usernames/{user.name}/count/"))
            login = {"username": user.mobile, "password": user.password}
            yield from_browser(json_request("POST", "/authorizations/", login))
    form = {"mobile": user.mobile, "password": user.password, "sms_code": user.sms_code or "123456"}
    yield from_browser(json_request("POST", "/password/", form))
    form = {"old_password": user.password, "password": f"{user.password} anew"}
    answer = yield from_browser(json_request("PUT", "/user/password/", form, Authorization=f"JWT {token}"))
    user.tokens.add(answer.json.get("token", token))


def registering_user(user, shop, dice, folder, mode):
    """Yield the requests of a user who registers without QQ."""
    image_code_id = str(uuid4())
    yield Request("GET", f"/image_codes/{image_code_id}/")
    yield Request("GET", f"/sms_codes/{user.mobile}/", [("text", "ABCD"), ("image_code_id", image_code_id)])
    yield Request("GET", f"/mobiles/{user.mobile}/count/")
    user.sms_code = receive_sms_code(user, folder)
    form = {"username": user.name, "password": user.password, "password2": user.password, "allow": True}
    answer = yield json_request("POST", "/users/", form | {"mobile": user.mobile, "sms_code": user.sms_code})
    if "token" in answer.json:
        user.tokens.add(answer.json["token"])
        yield Request("GET", "/user/", headers={"Authorization": f"JWT {answer.json['token']}"})


# Odd requests ---------------------------------------------------------------------------------------------------------

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
    """Makes odd requests: changed real ones, and some from nothing."""

    def __init__(self, dice, users):
        self.dice = dice
        self.users = users

    def odd(self, request):
        return self.change(request) if self.dice.random() < 0.8 else self.make_up()

    def text(self):
        """Return text of any kind, sometimes a value that a user has just been given."""
        user = self.dice.choice(self.users)
        given = self.dice.choice([*user.secrets, *user.tokens, *user.cookie_values, user.mobile, user.name])
        kind = self.dice.random()
        if kind < 0.4:
            return given if kind < 0.25 else self.damage(given)
        return self.dice.choice(HOSTILE if kind < 0.5 else TEXTS)

    def json(self):
        if self.dice.random() < 0.4:
            return self.dice.choice(SCRAPS)
        text = self.text()
        values = [text, text, text, [text], {"a": text}, len(text), True, None, [[[text]]], {}]
        return json.dumps(self.dice.choice(values))

    def damage(self, text):
        dice = self.dice
        place = dice.randrange(len(text) + 1)
        before, after = text[:place], text[place:]
        return dice.choice([
            before + dice.choice("Ax0-_. \0é%/=") + after[1:], before + after[1:],
            before + dice.choice(["A", ".", "%", "\0", "\ud800", "车"]) + after, before, after, text * 2, text + "=",
            f" {text}", f"{text}\n", f".{text}", text.swapcase(), text[::-1],
            urlsafe_b64encode(text.encode("utf-8", "replace")).decode(),
        ])  # fmt: skip

    def change(self, request):
        """Return the request with one to three values changed."""
        request = deepcopy(request)
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
        request.path = self.dice.choice([*API, self.damage(request.path).replace("?", ""), self.dice.choice(PATHS)])

    def change_header(self, request):
        name = self.dice.choice([*HEADERS, "Accept", "Authorization", "Cookie", *["Content-Type"] * 4])
        is_damaged = name in request.headers and self.dice.random() < 0.3
        request.headers[name] = self.damage(request.headers[name]) if is_damaged else self.dice.choice(HEADERS[name])

    def change_query(self, request):
        self.change_pairs(request.query, QUERY_NAMES, self.text)

    def change_cookies(self, request):
        names = [*self.dice.choice(self.users).cookies, "qq_flow_0123456789ab"]
        self.change_pairs(request.cookies, names, self.text)

    def change_field(self, request):
        self.change_pairs(request.fields, FIELD_NAMES, self.json)

    def change_pairs(self, pairs, names, new):
        place = self.dice.randrange(len(pairs) + 1)
        name, value = [*pairs, (self.dice.choice(names), new())][place]
        match self.dice.randrange(8) if place < len(pairs) else 1:
            case 0:
                del pairs[place]
            case 1:
                pairs.append((name, new()))
            case 2:
                pairs.append((name, value))
            case 3:
                pairs[place] = self.dice.choice(names), value
            case 4:
                pairs[place] = name, self.damage(value)
            case _:
                pairs[place] = name, new()

    def change_body(self, request):
        if request.fields is not None and self.dice.random() < 0.5:
            request.raw_body = self.damage(request.body().decode("latin-1")).encode("latin-1", "replace")
        else:
            request.raw_body = self.dice.choice(BODIES)
        request.fields = None

    def make_up(self):
        request = Request(self.dice.choice(["GET", "POST"] * 6 + METHODS), self.dice.choice([*API, *API, *PATHS]))
        if self.dice.random() < 0.5:
            request.cookies = list(self.dice.choice(self.users).cookies.items())
        request.query = [(self.dice.choice(QUERY_NAMES), self.text()) for _ in range(self.dice.randrange(4))]
        if request.method == "POST":
            request.headers["Content-Type"] = "application/json"
            names = self.dice.sample(FIELD_NAMES, self.dice.randrange(6))
            request.fields = [(name, self.json()) for name in names]
        return self.change(request)


@requirement("9.4")
@pytest.mark.django_db
@pytest.mark.parametrize(("mode", "requests"), [("callback", 5000), ("direct", 2500), ("cookieless", 2500)])
def test_no_request_breaks_the_shop_or_gets_the_data_of_another_user(
    qq, shop, tmp_path, django_user_model, mode, requests
):
    shop.QQ_REDIRECT_URI = PAGE if mode == "direct" else shop.QQ_REDIRECT_URI
    shop.QQ_REQUIRE_COOKIE = mode != "cookieless"
    dice = random.Random(f"{SEED} {mode}")
    judge = Shop(qq, shop, django_user_model.objects)
    while judge.sent < requests * TIMES:
        cache.clear()  # so that no limit is reached
        qq.reset()
        judge.qq_failed = False
        users = [User(len(judge.users) + number) for number in range(3)]
        judge.users += users
        grammar = Grammar(dice, users)
        ways = zip((qq_user, qq_user, registering_user), users, strict=True)
        scripts = [way(user, judge, dice, tmp_path, mode) for way, user in ways]
        waiting = {script: next(script) for script in scripts}
        while waiting:
            script = dice.choice(list(waiting))
            # Odd requests sent before the real one may use up what it needs, so most are sent after it.
            before = dice.choice([0, 0, 0, 3])
            for _ in range(before):
                judge.send(grammar.odd(waiting[script]))
            answer = judge.send(waiting[script])
            for _ in range(10 - before):
                judge.send(grammar.odd(waiting[script]))
            try:
                waiting[script] = script.send(answer)
            except StopIteration:
                del waiting[script]
    # Each openid is bound to the account with its person's own mobile.
    bound = set(OAuthQQUser.objects.values_list("openid", "user__mobile"))
    assert len(bound) > len(judge.users) / 4
    assert bound <= {(qq.openid(user.person), user.mobile) for user in judge.users}
    # The requests were not all refused at the door: logins succeeded and the usual errors occurred.
    expected = {200, 201, 302, 400, 401, 404, 405, 503, "invalid", "already_bound", "state_invalid", "qq_unavailable"}
    if mode == "callback":
        expected |= {"code_missing", "code_invalid", "state_used"}
        expected |= {"bind_token_missing", "bind_token_invalid", "bind_tries"}
    assert expected <= set(judge.seen)

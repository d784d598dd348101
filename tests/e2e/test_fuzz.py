"""More than ten thousand hostile requests, sent to the WSGI application while real users log in.

FUZZ_TIMES=20 sends twenty times as many, different ones each time; FUZZ_SEED chooses which.
"""

import json
import os
import random
import re
from contextlib import closing
from dataclasses import dataclass, replace
from io import BytesIO
from urllib.parse import unquote, urlencode
from uuid import uuid4
from wsgiref.util import setup_testing_defaults

import pytest
from django.core.cache import cache
from django.db import connection
from django.test import Client

from apps.oauth import qq as oauth_qq
from apps.oauth.errors import ERRORS
from apps.oauth.models import OAuthQQUser
from apps.users.tokens import LoginToken
from tests.conftest import PAGE, PASSWORD, Browser, Phone, query_of
from tests.tools.requirements import requirement

TIMES = int(os.environ.get("FUZZ_TIMES", "1"))
SEED = int(os.environ.get("FUZZ_SEED", random.randrange(10**9) if TIMES > 1 else 7))
INTERNALS = r"Traceback|site-packages|\.py(?![\w-])|sqlite|SELECT |DOES ?NOT ?EXIST|IntegrityError"

# Hostile values -------------------------------------------------------------------------------------------------------

LONG = "x," * 4500
METHODS = ["PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "TRACE", "CONNECT", "PROPFIND", "get", "X" * 100]
PATHS = [
    "/", "//", "*", "", "/oauth/qq/login", "//oauth/qq/login/", "/oauth/qq/./login/", "/%c0%af", "/.git/config",
    "/oauth/qq/login/%00", "/oauth/qq/login/%0d%0aX:%20y", "/oauth/qq/users/%ff", "/image_codes/0/", "/sms_codes/%00/",
    "/usernames/%00/count/", "/usernames/%ed%a0%80/count/", f"/usernames/{LONG}/count/", "/mobiles/%0a/count/",
    "/sms_codes/+8613812345678/", "/%2e%2e/meiduo/settings.py", "http://evil.example/oauth/qq/login/", "/a" * 2000,
]  # fmt: skip
TEXTS = [
    "", " ", "null", "-1", "[]", "{}", "\0", "a\0b", "\r\nX: y", "\ud800", "\udfff\ud800", "\ufeff", "é", "\u2028",
    "车" * 100, "１３８１２３４５６７８", "%", "%00", "%ff", "//evil.example", "/\\evil.example", "javascript:alert(1)",
    "' OR 1=1--", "{{7*7}}", "a.b.c", "A" * 32, "s" * 43, "a" * 513, LONG, LONG * 11, "13812345678\n", "\x1b[31m",
]  # fmt: skip
JSON_TEXTS = [
    "NaN", "-Infinity", "1e999", "-0", "1" * 5000, "[" * 900 + "]" * 900, "[" * 7000 + "]" * 7000, '"\\u0000"', "01",
    '{"a":' * 900 + "1" + "}" * 900, '"\\ud800"', '"\\udc00\\ud800"', "", "undefined", "'a'", "0x10", '{"a":1,"a":2}',
    "true", "null", "7", "[]", "{}", '["a"]', '{"a":"b"}', "[1,]", '"\t"', f'"{LONG}"',
]  # fmt: skip
ODD_VALUES = ["", "x", "é", LONG, "*", ";;;", "[", "null", "1", "http://evil.example", "http://[", "1.1.1.1," * 2000]
HEADERS = dict.fromkeys(
    ("Origin", "Referer", "X-Forwarded-For", "X-Forwarded-Proto", "X-Request-Id", "User-Agent", "Content-Length"),
    ODD_VALUES,
) | {
    "Accept": ["text/html", "image/png", "a/b;q=x", "application/json; indent=9999", "a/b;a=b," * 3000, *ODD_VALUES],
    "Accept-Language": ["en", "en;q=nan", "en;q=1e9", "-", "en-" * 200, "../../en", ";q=", "\0", *ODD_VALUES],
    "Authorization": ["JWT", "JWT a b", "JWT é.é.é", f"JWT {LONG}", "JWT eyJhbGciOiJub25lIn0.e30.", *ODD_VALUES],
    "Content-Type": [
        "text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "multipart/form-data; boundary=é",
        "APPLICATION/JSON", "application/jsonx", f"application/json; a={LONG}", *ODD_VALUES,
        *(f"application/json; charset={name}" for name in ("UTF8", "gbk", "utf-16", "utf-7", "", "é", "base64")),
    ],
    "Cookie": ['a="\\377"', "qq_flow_0123456789ab=x", f'qq_flow_0123456789ab="{LONG}"', "=;=", *ODD_VALUES],
    "Host": ["testserver:99999", "testserver@evil.example", *ODD_VALUES],
    "Sec-Purpose": ["prefetch", "prefetch;prerender"],
}  # fmt: skip
BODIES = [
    b"[]", b"null", b"\xff\xfe{\x00}\x00", b"\x00", b"{}", b'{"a":1,"a":2}', b"[" * 5000, b'{"a":' * 3000, b"a=b&c=d",
    b"<xml/>", b"x" * 15_000, b" " * 70_000, b'{"mobile": "\xff"}',
]  # fmt: skip
NAMES = {
    "query": ["code", "state", "next", "error", "usercancel", "text", "image_code_id", "format", "openid", "", "é"],
    "fields": [
        *("mobile", "password", "sms_code", "access_token", "username", "allow", "openid", "is_staff", "id", ""),
        *("key", "code", "client_id", "purpose"),
    ],
    "cookies": ["qq_flow_0123456789ab", "sessionid"],
}
QQ_ANSWERS = [{"fault": fault} for fault in ("502", "html", "empty", "cut", "reset")]
QQ_ANSWERS += [{"fault": "error", "number": number} for number in (100020, 100009, 0, -1)]
QQ_ANSWERS += [{"fault": "body", "body": text} for text in JSON_TEXTS]


# Requests -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    query: tuple = ()
    headers: tuple = ()
    cookies: tuple = ()
    fields: tuple = ()  # of the body: names and JSON texts, as the others are names and texts
    raw_body: bytes = b""  # in place of the fields

    @property
    def body(self):
        fields = ",".join(f"{json.dumps(name)}:{text}" for name, text in self.fields)
        return self.raw_body or (f"{{{fields}}}".encode(errors="surrogatepass") if fields else b"")

    def send(self, address):
        """Send the request to the application as a server does; return the status, the headers and the body."""
        environ = {"REQUEST_METHOD": self.method, "PATH_INFO": unquote(to_latin(self.path), "latin-1")}
        environ |= {"QUERY_STRING": urlencode(self.query, errors="surrogatepass"), "REMOTE_ADDR": address}
        environ |= {"wsgi.input": BytesIO(self.body), "CONTENT_LENGTH": str(len(self.body))}
        headers = [("Host", "testserver"), ("Cookie", "; ".join(map("=".join, self.cookies))), *self.headers]
        for name, value in headers:
            key = name.upper().replace("-", "_")
            environ[key if key.startswith("CONTENT_") else f"HTTP_{key}"] = to_latin(re.sub("[\r\n\0]", " ", value))
        setup_testing_defaults(environ)
        started = []
        from meiduo.wsgi import application  # here: importing it changes the database options of this process

        with closing(application(environ, lambda *args: started.extend(args))) as chunks:
            body = b"".join(chunks).decode(errors="replace")
        return int(started[0][:3]), dict(started[1]), body


def to_latin(text):
    return text.encode(errors="surrogatepass").decode("latin-1")


class User:
    """A user in the middle of three logins by browser and one by each app, with a valid value of each kind."""

    def __init__(self, number, qq, folder, mode, users):
        self.qq, self.person, self.mobile = qq, f"person {number}", f"13{number:09}"
        self.openids = [qq.openid(self.person, client_id) for client_id in ("", qq.app_id, qq.mini_app_id)]
        self.address = f"198.18.{number >> 8}.{number & 255}"
        self.browser = Browser(qq, REMOTE_ADDR=self.address)
        self.callback = query_of(self.browser.sign_in(self.person))
        self.login, used = self.arrive(mode), self.arrive(mode)
        self.bind_token = self.browser.get("/oauth/qq/users/", data=used).json()["access_token"]
        self.sms_code = Phone(folder, self.browser.client).receive_code(self.mobile)
        account = number % 2 and users.create_user(f"user_{number}", password=PASSWORD, mobile=self.mobile)
        self.key, self.link_key = f"{number:043}", f"{number:044}"
        self.app_token = qq.app_token(self.person)
        self.app_bind_token, self.link_token = (
            self.enter_app(key=self.key),
            self.enter_app(key=self.link_key, purpose="bind"),
        )
        self.binding = account and OAuthQQUser.objects.create(user=account, openid=f"{number:032}")
        self.token = str(LoginToken.for_user(account)) if account else "a.b.c"
        self.cookies = tuple((name, morsel.value) for name, morsel in self.browser.client.cookies.items())
        self.values = [*self.login.values(), *self.callback.values(), *(value for _, value in self.cookies)]
        self.values += [self.bind_token, self.sms_code, self.token, self.mobile]
        self.values += [self.key, self.app_token, self.app_bind_token, self.link_key, self.link_token]

    def enter_app(self, **form):
        form = {"access_token": self.app_token, **form}
        return Client().post("/oauth/qq/app/", form, content_type="application/json").json()["access_token"]

    @property
    def binding_id(self):
        return self.binding.pk if self.binding else 1

    def arrive(self, mode):
        address = self.browser.sign_in(self.person)
        return query_of(address) if mode == "direct" else self.browser.come_back(address)

    def valid_requests(self):
        def get(path, /, *headers, **query):
            return Request("GET", path, tuple(query.items()), headers, self.cookies)

        def send(path, /, *headers, method="POST", **form):
            fields = tuple((name, json.dumps(value)) for name, value in form.items())
            return Request(method, path, (), (("Content-Type", "application/json"), *headers), self.cookies, fields)

        token = "Authorization", f"JWT {self.token}"
        proof = {"mobile": self.mobile, "password": PASSWORD, "sms_code": self.sms_code}
        return [
            get("/oauth/qq/authorization/", next="/cart"),
            get("/oauth/qq/login/", next="/cart"),
            get("/oauth/qq/callback/", **self.callback),
            get("/oauth/qq/users/", **self.login),
            send("/oauth/qq/users/", **proof, access_token=self.bind_token),
            send("/users/", **proof, password2=PASSWORD, username="zhang3", allow=True),
            send("/authorizations/", username=self.mobile, password=PASSWORD),
            send("/password/", **proof),
            send("/user/password/", token, method="PUT", old_password=PASSWORD, password=PASSWORD),
            send("/oauth/qq/app/", access_token=self.app_token, openid=self.openids[1], key=self.key),
            send("/oauth/qq/app/", code=self.qq.app_code(self.person), client_id=self.qq.app_id, key="c" * 43),
            send("/oauth/qq/mini/", code=self.qq.mini_code(self.person), key="m" * 43, purpose="login"),
            send("/oauth/qq/users/", **proof, access_token=self.app_bind_token, key=self.key),
            get("/oauth/qq/bindings/", token),
            send("/oauth/qq/bindings/", token, access_token=self.link_token, key=self.link_key, password=PASSWORD),
            send(f"/oauth/qq/bindings/{self.binding_id}/", token, method="DELETE", password=PASSWORD),
            get("/user/", token),
            get(f"/mobiles/{self.mobile}/count/"),
            get(f"/sms_codes/{self.mobile}/", text="ABCD", image_code_id=str(uuid4())),
        ]


class Fuzzer:
    """Makes a hostile request of a valid one."""

    def __init__(self, dice, values):
        self.dice, self.choice, self.values = dice, dice.choice, values

    def change(self, request):
        """Return the request with one to three parts changed."""
        parts = ["method", "path", "headers", "headers", "query", "cookies", "raw_body"]
        parts += ["query"] * 4 * bool(request.query) + ["fields"] * 12 * bool(request.fields)
        for part in self.dice.choices(parts, k=self.choice([1, 1, 1, 2, 3])):
            request = replace(request, **{part: self.make(part, request)})
        return request

    def make(self, part, request):
        match part:
            case "method":
                return self.choice(["GET", "POST", "POST", *METHODS])
            case "path":
                return self.choice([*PATHS, *[self.damage(request.path)] * 10])
            case "headers":
                name = self.choice([*HEADERS, "Content-Type", "Content-Type", "Authorization"])
                damaged = [self.damage(value) for key, value in request.headers if key == name]
                return (*request.headers, (name, self.choice(HEADERS[name] + damaged * 3)))
            case "raw_body":
                damaged = self.damage(request.body.decode("latin-1")).encode(errors="surrogatepass")
                return self.choice([*BODIES, *[damaged] * 10])
        return self.change_pairs(getattr(request, part), NAMES[part], self.json_text if part == "fields" else self.text)

    def change_pairs(self, pairs, names, make):
        pairs = list(pairs)
        place = self.dice.randrange(len(pairs) + 1)
        name, value = pairs[place] if place < len(pairs) else (self.choice(names), make())
        new = [[(name, self.damage(value))], [(name, make())], [(name, make())], [(name, value), (name, make())]]
        pairs[place : place + 1] = self.choice([*new, [], [(name, value)] * 2, [(self.choice(names), value)]])
        return tuple(pairs)

    def text(self):
        value = self.choice(self.values)
        return self.choice([value, self.damage(value), self.choice(TEXTS), self.choice(TEXTS)])

    def json_text(self):
        return self.choice([json.dumps(self.text()), json.dumps([self.text()]), self.choice(JSON_TEXTS)])

    def damage(self, text):
        place = self.dice.randrange(len(text) + 1)
        before, after = text[:place], text[place:]
        junk = self.choice([*"Ax0-_. \0é%/=\n", "\ud800", "车"])
        return self.choice([before + junk + after, before + junk + after[1:], before, after, text * 2, text.swapcase()])


def check(request, status, headers, body, secrets):
    """Fail unless the shop may answer like this; return the code of an error."""
    text = f"{headers} {body}"
    assert not any(secret in text for secret in secrets), "a secret"
    is_html = headers.get("Content-Type", "").startswith("text/html")
    assert is_html or not re.search(INTERNALS, text, re.IGNORECASE)
    if status < 400:
        code = query_of(headers["Location"]).get("error") if status == 302 else None
        assert code is None or code in ERRORS
        return code
    assert status < 500 or status == 503
    sent = dict(request.headers)
    if not body or is_html:  # the page for a browser is HTML
        assert request.method == "HEAD" or status == 405 or sent.keys() & {"Sec-Purpose", "Accept"}
        return None
    error = json.loads(body)
    assert error.pop("account", "this") in ("this", "another")
    message, code = error.pop("message"), error.pop("code")
    assert code in {*ERRORS, "not_authenticated", "not_found"}
    assert isinstance(message, str)
    assert message
    assert {type(sentences) for sentences in error.values()} <= {list}
    return code


@requirement("9.4", "9.5", "10.2")
@pytest.mark.skipif(connection.vendor != "sqlite", reason="one database is enough for so many requests")
@pytest.mark.django_db
@pytest.mark.parametrize("mode", ["callback", "direct", "cookieless"])
def test_hostile_requests_get_our_error_body_and_never_a_5xx_or_a_secret(qq, shop, tmp_path, django_user_model, mode):
    shop.QQ_REDIRECT_URI = PAGE if mode == "direct" else shop.QQ_REDIRECT_URI
    shop.QQ_REQUIRE_COOKIE = mode != "cookieless"
    shop.WHITENOISE_AUTOREFRESH = False  # as in production
    dice = random.Random(f"{SEED} {mode}")
    sent, seen, people, number = 0, set(), {}, 0
    # The requests have gone deep enough when they have met these.
    expected = {200, 201, 302, 400, 401, 404, 405, 503, "invalid", "bind_token_invalid", "qq_unavailable"}
    while sent < 3500 * TIMES or (not expected <= seen and sent < 14_000 * TIMES):
        cache.clear()  # the rate limits start again
        qq.reset()
        oauth_qq.forget_connections()
        user = User(number, qq, tmp_path, mode, django_user_model.objects)
        people |= dict.fromkeys([*user.openids, f"{number:032}"], user.mobile)
        number += 1
        if qq_fails := dice.random() < 0.5:
            qq.behave(**{name: {**dice.choice(QQ_ANSWERS), "times": 2} for name in ("token", "me", "jscode2session")})
        secrets = [qq.client_secret, shop.SECRET_KEY, shop.JWT_SIGNING_KEY, PASSWORD, *user.openids]
        secrets += [qq.app_secret, qq.mini_app_secret]
        fuzzer = Fuzzer(dice, user.values)
        valid_requests = user.valid_requests()
        for valid in dice.sample(valid_requests, len(valid_requests)):
            requests = [fuzzer.change(valid) for _ in range(20)]
            requests.insert(dice.randrange(20), valid)
            for request in requests:
                sent += 1
                is_at_home = mode == "cookieless" and dice.random() < 0.5
                address = user.address if is_at_home else f"10.{sent >> 16}.{sent >> 8 & 255}.{sent & 255}"
                status, headers, body = request.send(address)
                try:
                    code = check(request, status, headers, body, secrets)
                    assert qq_fails or code not in ("qq_busy", "qq_unavailable", "qq_misconfigured")
                except Exception as exc:
                    details = f"seed {SEED}, request {sent}: {request}\n{status} {headers} {body[:2000]}"
                    raise AssertionError(details) from exc
                seen |= {status, code}
    bound = set(OAuthQQUser.objects.values_list("openid", "user__mobile"))
    assert bound
    assert bound <= people.items()
    assert sorted(map(str, expected - seen)) == []

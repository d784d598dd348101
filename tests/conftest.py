"""Fixtures of all tests: the shop, QQ's stand-in, browsers, a phone, an account; no log may contain a secret."""

import hashlib
import json
import logging
import re
import shutil
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager
from io import StringIO
from pathlib import Path
from urllib.parse import parse_qs, parse_qsl, urlencode, urlsplit
from uuid import uuid4

import django
import pytest
import time_machine
from django.conf import settings
from django.core.cache import cache
from django.test import Client, override_settings
from itsdangerous import URLSafeTimedSerializer

import standin
from apps.oauth.models import OAuthQQUser
from apps.oauth.qq import forget_connections
from tests.tools import document
from tests.tools.processes import ROOT

CALLBACK = "http://testserver/oauth/qq/callback/"
PAGE = "http://testserver/oauth_callback.html"
MOBILE, PASSWORD = "13812345678", "correct horse"
LIMITS = ("qq_start", "qq_callback", "qq_login", "qq_bind", "qq_bind_failed", "qq_sms_failed")


class Browser:
    """A browser: keeps cookies, follows QQ's redirects and makes the callback page's calls."""

    def __init__(self, qq, **client_options):
        self.qq, self.client = qq, Client(**client_options)
        self.get, self.add_cookies = self.client.get, self.client.cookies.load

    @property
    def cookies(self):
        return {name: cookie.value for name, cookie in self.client.cookies.items() if cookie.value}

    def start(self, next="/cart"):
        """Press the QQ button; return the redirect's target, usually QQ's login page."""
        return self.get(f"/oauth/qq/login/?{urlencode({'next': next})}")["Location"]

    def sign_in(self, person="小明", next="/cart"):
        """Press the QQ button and sign in at QQ; return the address of the callback."""
        return self.qq.sign_in(self.start(next), person)

    def come_back(self, address):
        """Go to the address of the callback; return the parameters of the page it redirects to."""
        return page_query(self.get(address))

    def arrive(self, person="小明", next="/cart"):
        """Log in at QQ and come back; return the sealed code on the page's address."""
        return self.come_back(self.sign_in(person, next))["code"]

    def redeem_code(self, code, **options):
        """Make the page's call that trades the sealed code for a login or a bind token."""
        return self.get("/oauth/qq/users/", data={"code": code}, **options)

    def get_bind_token(self, person="小明"):
        return self.redeem_code(self.arrive(person)).json()["access_token"]

    def bind(self, form, **options):
        return self.client.post("/oauth/qq/users/", form, **{"content_type": "application/json"} | options)


def page_query(response):
    assert response.status_code == 302
    return dict(parse_qsl(urlsplit(response["Location"]).query, keep_blank_values=True))


def query_of(address):
    return {name: values[0] for name, values in parse_qs(urlsplit(address).query).items()}


def grouped(**groups):
    """Return [(name, value), …] of name=[value, …], to parametrize a test."""
    return [(name, value) for name, values in groups.items() for value in values]


def error_of(response):
    """Return status and code of an error that names no field."""
    body = response.json()
    assert body.keys() == {"message", "code"}
    assert body["message"]
    return response.status_code, body["code"]


def invalid_fields(response):
    """Return the fields named by a form's error."""
    *fields, (_, message), code = response.json().items()
    assert (response.status_code, code, bool(message)) == (400, ("code", "invalid"), True)
    return [name for name, _ in fields]


def token_requests(qq):
    """Return how often QQ was asked to exchange a code."""
    return len(qq.requests("/oauth2.0/token"))


def flow_serializer(purpose):
    """Return the serializer of flow cookies ("flow"), sealed codes ("code") or bind tokens ("bind"), to forge some."""
    options = {"key_derivation": "hmac", "digest_method": hashlib.sha256}
    return URLSafeTimedSerializer(settings.SECRET_KEY, salt=f"qq-login.{purpose}.v1", signer_kwargs=options)


def cache_entries():
    """Return {key: (value, seconds left)} of the whole cache, in local memory or Redis."""
    if hasattr(cache, "_expire_info"):
        ends = {key: end if end is None else end - time.time() for key, end in cache._expire_info.items()}
        return {key: (value, ends[key]) for key, value in cache._cache.items()}
    client = cache._cache.get_client()
    return {key.decode(): (client.get(key), client.ttl(key)) for key in client.scan_iter()}


class Phone:
    """A phone: requests SMS codes with an image code, as the page does, and reads them."""

    def __init__(self, var: Path, client: Client):
        self.var, self.client = var, client

    def ask_for_code(self, mobile=MOBILE):
        image_code_id = str(uuid4())
        self.client.get(f"/image_codes/{image_code_id}/")
        text = self.last_line("captcha.log")["text"]
        return self.client.get(f"/sms_codes/{mobile}/", {"text": text, "image_code_id": image_code_id})

    def receive_code(self, mobile=MOBILE):
        assert self.ask_for_code(mobile).json() == {"message": "OK"}
        return "".join(char for char in self.last_line("sms.log")["text"].split("，")[0] if char.isdigit())

    def last_line(self, name):
        return json.loads((self.var / name).read_text().splitlines()[-1])


def fill_in(phone, bind_token):
    """Return a valid form of a new user."""
    return {"mobile": MOBILE, "password": PASSWORD, "sms_code": phone.receive_code(), "access_token": bind_token}


@pytest.fixture(scope="session")
def qq_server():
    with standin.running(callbacks=[CALLBACK, PAGE, CALLBACK.replace("http:", "https:")]) as server:
        logging.getLogger("uvicorn.access").disabled = True  # QQ's own log is not ours to check
        yield server


@pytest.fixture
def qq(qq_server):
    qq_server.reset()
    forget_connections()  # with them, the failures that earlier tests have left in the circuit breaker
    return qq_server


@pytest.fixture
def stand_in_settings(qq_server, tmp_path):
    """All at once: each attribute set on `settings` is one more layer to look through at every use of a setting."""
    with override_settings(
        QQ_API_URL=qq_server.url,
        QQ_CLIENT_ID=qq_server.client_id,
        QQ_CLIENT_SECRET=qq_server.client_secret,
        QQ_APP_IDS={qq_server.app_id: qq_server.app_secret},
        QQ_MINI_API_URL=qq_server.url,
        QQ_MINI_APP_ID=qq_server.mini_app_id,
        QQ_MINI_APP_SECRET=qq_server.mini_app_secret,
        QQ_REDIRECT_URI=CALLBACK,
        QQ_CALLBACK_PAGE=PAGE,
        SMS_LOG=str(tmp_path / "sms.log"),
        CAPTCHA_LOG=str(tmp_path / "captcha.log"),
        PASSWORD_HASHERS=["django.contrib.auth.hashers.MD5PasswordHasher"],  # a fast one
        ALLOWED_HOSTS=["testserver", "127.0.0.1"],
        WHITENOISE_AUTOREFRESH=True,  # otherwise each new Client lists all static files
    ):
        yield


@pytest.fixture(autouse=True)
def shop(stand_in_settings, settings):  # torn down in reverse: what a test sets is undone first
    """The shop's settings with the stand-in as QQ, and an empty cache."""
    cache.clear()
    return settings


@pytest.fixture(autouse=True)
def as_documented(request, shop, settings):
    """Fails a test if an answer of the shop is not as the OpenAPI document says."""
    settings.MIDDLEWARE = ["tests.tools.document.compare_answers", *settings.MIDDLEWARE]
    document.differences.clear()
    yield
    assert document.differences == [] or request.node.get_closest_marker("undocumented")


@pytest.fixture
def admins(shop):
    """Makes Django mail its error reports, by the settings of Django 5.2 or of 6."""
    address = "operator@shop.example"
    shop.ADMINS = [address] if django.VERSION >= (6,) else [("Operator", address)]
    shop.MAILERS = {"default": {"BACKEND": "django.core.mail.backends.locmem.EmailBackend"}}


@pytest.fixture
def set_rates(shop):
    """A function that sets limits per address."""
    return lambda **rates: set_drf(shop, DEFAULT_THROTTLE_RATES=rates)


@pytest.fixture
def no_limits(shop):
    set_drf(shop, DEFAULT_THROTTLE_RATES=dict.fromkeys(LIMITS))


@pytest.fixture
def set_proxies(shop):
    """A function that sets the number of trusted proxies."""
    return lambda number: set_drf(shop, NUM_PROXIES=number)


def set_drf(shop, **settings):
    shop.REST_FRAMEWORK = {**shop.REST_FRAMEWORK, **settings}


@pytest.fixture
def use_cache(shop):
    """A function that switches to the cache class of this dotted path."""

    def use_cache(backend):
        default = {"BACKEND": backend, "LOCATION": backend, "OPTIONS": {"MAX_ENTRIES": 100_000}}
        shop.CACHES = {**shop.CACHES, "default": default}
        cache.clear()

    return use_cache


@pytest.fixture
def clock(qq, use_cache):
    """A stopped clock, at the start of an hour. Redis would keep its own time: the cache is in local memory."""
    use_cache("django.core.cache.backends.locmem.LocMemCache")
    with time_machine.travel(1_800_000_000, tick=False) as clock:
        yield clock


@pytest.fixture
def connect():
    """A function that connects a receiver to signals until the test ends."""
    with ExitStack() as stack:

        def connect(receiver, *signals, **options):
            for signal in signals:
                signal.connect(receiver, weak=False, **options)
                stack.callback(signal.disconnect, receiver, **options)

        yield connect


@pytest.fixture
def browser(qq, db):
    return Browser(qq)


@pytest.fixture
def other_browser(qq, db):
    return Browser(qq)


@pytest.fixture
def phone(tmp_path):
    return Phone(tmp_path, Client())


@pytest.fixture
def form(browser, phone):
    return fill_in(phone, browser.get_bind_token())


@pytest.fixture
def account(db, django_user_model):
    return django_user_model.objects.create_user("zhang3", password=PASSWORD, mobile=MOBILE)


@pytest.fixture
def binding(account, qq):
    return OAuthQQUser.objects.create(user=account, openid=qq.openid("小明"))


@pytest.fixture(scope="session")
def installed_wheel(tmp_path_factory):
    """A folder into which pip has installed the app's wheel, built here without network."""
    source, folder = map(tmp_path_factory.mktemp, ("source", "installed"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    # A copy: setuptools leaves files behind that would end up in the next wheel.
    shutil.copytree(ROOT / "apps/oauth", source / "apps/oauth", ignore=shutil.ignore_patterns("__pycache__"))
    pip = [sys.executable, "-m", "pip", "install", "--no-index", "--no-deps", "--quiet", "--no-build-isolation"]
    subprocess.run([*pip, "--target", folder, source], stdin=subprocess.DEVNULL, check=True)
    return folder


EXEMPT = ("django.db.backends", "uvicorn")  # queries with their values, under DEBUG only; the stand-in's log
SECRET_PATTERNS = {
    "a whole mobile number": r"(?<![0-9])(?:(?:00)?86)?1[3-9][0-9]{9}(?![0-9])",
    "a JWT": r"eyJ[\w-]+\.[\w-]+\.",
    "a signed value": r"[\w-]{6,}[.:][\w-]{27,}(?![\w-])",
    "a state": r"(?<![\w-])(?=[\w-]*[A-Z])(?=[\w-]*[a-z])[\w-]{43}(?![\w-])",
    "an unreadable traceback": r"\(cannot be written out: ",
    "a code or token of QQ's": r"(?<![0-9A-Za-z])(?=[0-9]*[A-F])[0-9A-F]{32}(?![0-9A-Za-z])",
}


class SecretLogged(AssertionError):
    pass


def shop_handlers():
    """Return the handlers from the shop's settings, without pytest's."""
    loggers = map(logging.getLogger, (None, *settings.LOGGING["loggers"]))
    return {entry for logger in loggers for entry in logger.handlers if entry.name in settings.LOGGING["handlers"]}


@contextmanager
def refusing_secrets_in_logs():
    """Log everything at DEBUG while the block runs; raise SecretLogged if a secret was logged."""
    text = StringIO()

    def is_ours(entry):
        return not entry.name.startswith(EXEMPT)

    with ExitStack() as stack:
        for handler in shop_handlers():
            stack.callback(handler.setStream, handler.setStream(text))
            handler.addFilter(is_ours)
            stack.callback(handler.removeFilter, is_ours)
        for logger in (logging.root, *map(logging.getLogger, list(logging.root.manager.loggerDict))):
            if logger.level and is_ours(logger):
                stack.callback(logger.setLevel, logger.level)
                logger.setLevel(logging.DEBUG)
        yield
    refuse_secrets(text.getvalue())


def refuse_secrets(text):
    """Raise SecretLogged if the text contains a secret of the shop or the test, or anything that looks like one."""
    text = re.sub(r'(request_id|flow)(": "|=)[\w-]{8,64}', "", text)  # random digits
    for kind, secret in (*SECRET_PATTERNS.items(), *known_secrets()):
        if re.search(secret, text, re.ASCII):
            line = next(line for line in text.splitlines() if re.search(secret, line, re.ASCII))
            raise SecretLogged(f"{kind} is in the log: {line}")


def known_secrets():
    names = ("SECRET_KEY", "JWT_SIGNING_KEY", "QQ_CLIENT_SECRET", "QQ_MINI_APP_SECRET")
    named = {name: getattr(settings, name, None) for name in names}
    app_ids = getattr(settings, "QQ_APP_IDS", ())
    app_keys = {f"QQ_APP_IDS {app_id}": app_ids[app_id] for app_id in app_ids} if isinstance(app_ids, dict) else {}
    secrets = {**named, "the password": PASSWORD, **app_keys}
    yield from ((name, re.escape(secret)) for name, secret in secrets.items() if secret)
    for name, shape in (("SMS_LOG", r"[0-9]{6}"), ("CAPTCHA_LOG", r"[A-Z0-9]{4}")):
        path = Path(getattr(settings, name, None) or "-")
        for line in path.read_text().splitlines() if path.is_file() else ():
            code = re.search(shape, json.loads(line)["text"])
            if code and code[0] != "HTTP":  # this one is in every access log
                yield f"{name}: {code[0]}", rf"(?<![\w.]){code[0]}(?![\w/])"


@pytest.fixture(autouse=True)
def no_secrets_in_logs(shop, settings):  # runs before the settings are restored
    with refusing_secrets_in_logs():
        yield

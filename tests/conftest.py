"""The shop as its users meet it: a browser with its cookies, a stand-in for QQ, a shopper with a phone."""

import json
import logging
import re
import shutil
import subprocess
import sys
from contextlib import contextmanager
from io import StringIO
from pathlib import Path
from urllib.parse import parse_qs, parse_qsl, urlencode, urlsplit
from uuid import uuid4

import pytest
from django.conf import settings
from django.core.cache import cache
from django.test import Client

import standin
from apps.oauth import qq as oauth_qq
from apps.oauth.ratelimit import RATES
from tests.tools.processes import ROOT

CALLBACK = "http://testserver/oauth/qq/callback/"
PAGE = "http://testserver/oauth_callback.html"
MOBILE, PASSWORD = "13812345678", "correct horse"


class Browser:
    """One person's browser: keeps cookies, follows QQ's redirects, and does what the callback page does."""

    def __init__(self, qq, **client_options):
        self.qq = qq
        self.client = Client(**client_options)

    def get(self, path, **options):
        return self.client.get(path, **options)

    def start(self, next="/cart"):
        """Press the QQ button; return the address of QQ it leads to."""
        return self.get(f"/oauth/qq/login/?{urlencode({'next': next})}")["Location"]

    def sign_in(self, person="小明", next="/cart"):
        """Press the button and sign in at QQ; return the address QQ sends the browser to."""
        return self.qq.sign_in(self.start(next), person)

    def come_back(self, address):
        """Follow QQ's redirect to callback/; return the parameters the page gets."""
        return page_query(self.get(address))

    def arrive(self, person="小明", next="/cart"):
        """Go the whole way to the page; return the sealed code it gets."""
        return self.come_back(self.sign_in(person, next))["code"]

    def collect(self, code, **options):
        return self.get("/oauth/qq/users/", data={"code": code}, **options)

    def get_bind_token(self, person="小明"):
        return self.collect(self.arrive(person)).json()["access_token"]

    def bind(self, form, **options):
        return self.client.post("/oauth/qq/users/", form, content_type="application/json", **options)


def page_query(response):
    assert response.status_code == 302
    return dict(parse_qsl(urlsplit(response["Location"]).query, keep_blank_values=True))


def query_of(address):
    return {name: values[0] for name, values in parse_qs(urlsplit(address).query).items()}


class Phone:
    """A shopper's phone: asks for SMS codes through the image code, as the page does, and reads them."""

    def __init__(self, var: Path, client: Client):
        self.var = var
        self.client = client

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


@pytest.fixture(scope="session")
def qq_server():
    with standin.running(callbacks=[CALLBACK, PAGE, CALLBACK.replace("http:", "https:")]) as server:
        logging.getLogger("uvicorn.access").disabled = True  # it stands for another company's machine
        yield server


@pytest.fixture
def qq(qq_server):
    qq_server.reset()
    # What an earlier test made of QQ is over, and its server may have had the port that this one's gets.
    oauth_qq.forget_connections()
    return qq_server


@pytest.fixture(autouse=True)
def shop(settings, qq_server, tmp_path):
    """The shop's settings, pointed at the stand-in by the address alone, on an empty cache."""
    settings.QQ_API_URL = qq_server.url
    settings.QQ_CLIENT_ID = qq_server.client_id
    settings.QQ_CLIENT_SECRET = qq_server.client_secret
    settings.QQ_REDIRECT_URI = CALLBACK
    settings.QQ_CALLBACK_PAGE = PAGE
    settings.SMS_LOG = str(tmp_path / "sms.log")
    settings.CAPTCHA_LOG = str(tmp_path / "captcha.log")
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]  # the slow ones cost minutes here
    settings.ALLOWED_HOSTS = ["testserver", "127.0.0.1"]
    cache.clear()
    return settings


@pytest.fixture
def no_limits(shop):
    """Without the limits by address, for a test of many calls."""
    shop.REST_FRAMEWORK = {**shop.REST_FRAMEWORK, "DEFAULT_THROTTLE_RATES": dict.fromkeys(RATES)}


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
    """The page's form, filled in right by somebody new."""
    bind_token = browser.get_bind_token()
    return {"mobile": MOBILE, "password": PASSWORD, "sms_code": phone.receive_code(), "access_token": bind_token}


@pytest.fixture
def account(db, django_user_model):
    """An account the shop had before."""
    return django_user_model.objects.create_user("zhang3", password=PASSWORD, mobile=MOBILE)


@pytest.fixture
def binding(account, qq):
    from apps.oauth.models import OAuthQQUser

    return OAuthQQUser.objects.create(user=account, openid=qq.openid("小明"))


@pytest.fixture(scope="session")
def installed_wheel(tmp_path_factory):
    """A folder with the app as pip installs it, made without the network from the files here."""
    source, wheels, folder = map(tmp_path_factory.mktemp, ("source", "wheels", "installed"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    # Not where it is: what setuptools leaves behind there would be in the next wheel.
    shutil.copytree(ROOT / "apps/oauth", source / "apps/oauth", ignore=shutil.ignore_patterns("__pycache__"))
    run_pip("wheel", "--no-build-isolation", "--wheel-dir", wheels, source)
    run_pip("install", "--target", folder, *wheels.iterdir())
    return folder


def run_pip(command, *options):
    pip = [sys.executable, "-m", "pip", command, "--no-index", "--no-deps", "--quiet", *options]
    done = subprocess.run(pip, stdin=subprocess.DEVNULL, capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stdout + done.stderr


# What no log may hold -------------------------------------------------------------------------------------------------

EXEMPT = (
    "django.db.backends",  # writes a query's values, but only under DEBUG, which is a developer's own machine
    "uvicorn",  # the stand-in's, and QQ logs what it likes
)
TELLING = {
    "a whole mobile number": r"(?<![0-9])(?:(?:00)?86)?1[3-9][0-9]{9}(?![0-9])",
    "a JWT": r"eyJ[\w-]+\.[\w-]+\.",
    "a signed value": r"[\w-]{6,}[.:][\w-]{27,}(?![\w-])",
    "a state": r"(?<![\w-])(?=[\w-]*[A-Z])(?=[\w-]*[a-z])[\w-]{43}(?![\w-])",
    "what hides a bug": r"\(cannot be written out: ",
    "a code or token of QQ's": r"(?<![0-9A-Za-z])(?=[0-9]*[A-F])[0-9A-F]{32}(?![0-9A-Za-z])",
}


class SecretLogged(AssertionError):
    pass


def shop_handlers():
    """Return the handlers the shop's settings configure, not those of pytest."""
    loggers = map(logging.getLogger, (None, *settings.LOGGING["loggers"]))
    return {entry for logger in loggers for entry in logger.handlers if entry.name in settings.LOGGING["handlers"]}


@contextmanager
def refusing_secrets_in_logs():
    """Let every logger say all it has to say while the block runs, and raise SecretLogged if a secret is in it."""
    loggers = [logging.root, *(entry for entry in logging.root.manager.loggerDict.values() if hasattr(entry, "level"))]
    levels = {entry: entry.level for entry in loggers if entry.level and not entry.name.startswith(EXEMPT)}
    shops = shop_handlers()
    text = StringIO()
    streams = {handler: handler.setStream(text) for handler in shops}

    def is_ours(record):
        return not record.name.startswith(EXEMPT)

    for handler in shops:
        handler.addFilter(is_ours)
    for entry in levels:
        entry.setLevel(logging.DEBUG)
    try:
        yield
    finally:
        for entry, level in levels.items():
            entry.setLevel(level)
        for handler, stream in streams.items():
            handler.removeFilter(is_ours)
            handler.setStream(stream)
    refuse_secrets(text.getvalue())


def refuse_secrets(text):
    """Raise SecretLogged if the text holds a secret of the shop, of the test, or what looks like one."""
    text = re.sub(r'"request_id": "[\w-]{8,64}"', "", text)  # whose digits are chance
    for kind, secret in (*TELLING.items(), *known_secrets()):
        found = re.search(secret, text, re.ASCII)
        if found:
            line = next(line for line in text.splitlines() if re.search(secret, line, re.ASCII))
            raise SecretLogged(f"{kind} is in the log: {line}")


def known_secrets():
    for name in ("SECRET_KEY", "JWT_SIGNING_KEY", "QQ_CLIENT_SECRET"):
        if getattr(settings, name, None):
            yield name, re.escape(getattr(settings, name))
    yield "the password", re.escape(PASSWORD)
    for name, shape in (("SMS_LOG", r"[0-9]{6}"), ("CAPTCHA_LOG", r"[A-Z0-9]{4}")):
        path = Path(getattr(settings, name, None) or "-")
        for line in path.read_text().splitlines() if path.is_file() else ():
            code = re.search(shape, json.loads(line)["text"])
            if code and code[0] != "HTTP":  # a picture may well say what is in every log
                yield f"{name}: {code[0]}", rf"(?<![\w.]){code[0]}(?![\w/])"


@pytest.fixture(autouse=True)
def canaries(settings):  # for its end comes before that of the settings
    with refusing_secrets_in_logs():
        yield

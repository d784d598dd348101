"""The payloads for shops with simplejwt or rest_framework_jwt."""

import json
import os
import subprocess
import sys
import time
from importlib import import_module
from inspect import getsource

import django
import pytest
from django.apps import AppConfig
from django.conf import settings
from django.core.checks import run_checks
from django.core.exceptions import ImproperlyConfigured
from rest_framework_simplejwt.serializers import TokenRefreshSerializer
from rest_framework_simplejwt.tokens import AccessToken, SlidingToken

from apps.oauth.contrib.meiduo import jwt_payload, simplejwt_payload
from apps.users.tokens import LoginToken
from tests.tools import processes


def test_import_needs_no_package_of_the_shop():
    lines = [
        "import sys",
        "from django.conf import settings",
        "settings.configure(INSTALLED_APPS=['django.contrib.auth', 'django.contrib.contenttypes', 'apps.oauth'])",
        "for name in ('django_redis', 'redis', 'rest_framework_jwt', 'rest_framework_simplejwt', 'jwt'):",
        "    sys.modules[name] = None",
        "import django; django.setup()",
        "import apps.oauth.urls; assert 'apps.oauth.contrib' not in sys.modules",
        "import apps.oauth.contrib.meiduo",
    ]
    command = [sys.executable, "-c", "\n".join(lines)]
    done = subprocess.run(command, cwd=processes.ROOT, capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stderr


class LoginTokenSerializer:
    """A shop's own TOKEN_OBTAIN_SERIALIZER, with more in its tokens than simplejwt's."""

    get_token = LoginToken.for_user


@pytest.mark.parametrize(
    ("serializer", "token_class"),
    [
        ("rest_framework_simplejwt.serializers.TokenObtainPairSerializer", AccessToken),
        ("rest_framework_simplejwt.serializers.TokenObtainSlidingSerializer", SlidingToken),
        (f"{__name__}.LoginTokenSerializer", LoginToken),
    ],
)
def test_simplejwt_token_is_made_by_the_serializer_of_the_shop(shop, account, serializer, token_class):
    shop.SIMPLE_JWT = {**shop.SIMPLE_JWT, "TOKEN_OBTAIN_SERIALIZER": serializer, "SIGNING_KEY": "k" * 40}
    payload = simplejwt_payload(account, None)
    token = token_class(payload.pop("token"))
    assert str(token["user_id"]) == str(account.pk)
    if token_class is AccessToken:
        refreshed = TokenRefreshSerializer().validate({"refresh": payload.pop("refresh")})
        assert AccessToken(refreshed["access"])["user_id"] == token["user_id"]
    assert payload == {"user_id": account.pk, "username": "zhang3"}


def install(folder, *packages):
    """Install packages that this shop does not use into a folder; skip the test without a package index."""
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
    command += ["--target", folder, *packages]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, encoding="utf-8", check=False)
    if done.returncode != 0:
        pytest.skip(f"pip cannot install {' and '.join(packages)}")
    return str(folder)


def handle_three(token, user=None, request=None):
    return {"token": token, "id": user.pk, "request": request}


def handle_four(token, user=None, request=None, issued_at=None):
    return {"token": token, "issued_at": issued_at}


# A process of its own, as djangorestframework-jwt 1.11 needs another PyJWT.
OLD_SHOP = f"""
import json, sys
from django.conf import settings
import django
key, our_token = json.load(sys.stdin)
names = ["django.contrib.auth", "django.contrib.contenttypes", "rest_framework", "apps.oauth"]
settings.configure(SECRET_KEY=key, INSTALLED_APPS=names, JWT_AUTH={{"JWT_SECRET_KEY": key, "JWT_ALLOW_REFRESH": True}})
django.setup()
from django.contrib.auth.models import User
from apps.oauth.contrib.meiduo import jwt_payload
from rest_framework_jwt.settings import api_settings

{getsource(handle_three)}
user, payloads = User(pk=7, username="li4"), []
for handler in (api_settings.JWT_RESPONSE_PAYLOAD_HANDLER, handle_three):
    api_settings.JWT_RESPONSE_PAYLOAD_HANDLER = handler
    payloads.append(jwt_payload(user, "request"))
read = api_settings.JWT_DECODE_HANDLER
print(json.dumps([payloads, [read(payload.pop("token")) for payload in payloads], read(our_token)]))
"""


def test_djangorestframework_jwt_makes_the_token_and_its_handler_adds_fields(shop, account, tmp_path):
    folder = install(tmp_path, "djangorestframework-jwt==1.11.0", "PyJWT==1.7.1")
    given = json.dumps([shop.SIMPLE_JWT["SIGNING_KEY"], str(LoginToken.for_user(account))])
    command, environ = [sys.executable, "-W", "ignore", "-c", OLD_SHOP], {**os.environ, "PYTHONPATH": folder}
    done = subprocess.run(
        command, cwd=processes.ROOT, env=environ, input=given, capture_output=True, encoding="utf-8", check=False
    )
    assert done.returncode == 0, done.stderr
    payloads, claims, our_claims = json.loads(done.stdout)
    user = {"user_id": 7, "username": "li4"}
    assert payloads == [user, {**user, "id": 7, "request": "request"}]
    assert [user.items() <= each.items() and each["exp"] > time.time() for each in claims] == [True] * 2
    assert our_claims["username"] == "zhang3"  # these shops accept tokens of this one


@pytest.mark.filterwarnings("ignore:datetime.datetime.utcnow:DeprecationWarning")  # drf-jwt calls it
def test_drf_jwt_makes_the_token_and_its_handler_adds_fields(shop, account, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(install(tmp_path, "drf-jwt>=1.19.2,<1.20"))
    shop.QQ_LOGIN_PAYLOAD = "apps.oauth.contrib.meiduo.jwt_payload"
    assert "oauth.W024" in [message.id for message in run_checks(tags=["qq_login"])]  # it lives for 5 minutes
    settings = import_module("rest_framework_jwt.settings").api_settings
    user = {"user_id": account.pk, "username": "zhang3"}
    for handler, added in ((None, ()), (handle_three, ("id", "request")), (handle_four, ("issued_at",))):
        if handler is not None:
            monkeypatch.setattr(settings, "JWT_RESPONSE_PAYLOAD_HANDLER", handler)
        payload = jwt_payload(account, "request")
        claims = settings.JWT_DECODE_HANDLER(payload.pop("token"))
        extra = {"id": account.pk, "request": "request", "issued_at": claims["iat"]}
        assert payload == user | {name: extra[name] for name in added}
        assert claims["username"] == "zhang3"


BLACKLIST = "rest_framework_jwt.blacklist"


@pytest.mark.parametrize("app", [BLACKLIST, f"{BLACKLIST}.apps.BlacklistedTokenConfig"])
def test_blacklist_of_drf_jwt_is_refused_on_django_6_before_its_models_are_imported(tmp_path, monkeypatch, app):
    monkeypatch.syspath_prepend(install(tmp_path, "drf-jwt==1.19.2"))
    monkeypatch.setattr(django, "VERSION", (6, 1))
    AppConfig.create("apps.oauth")  # as Django does for each of INSTALLED_APPS before it imports any models
    monkeypatch.setattr(settings, "INSTALLED_APPS", [*settings.INSTALLED_APPS, app])
    with pytest.raises(ImproperlyConfigured, match="which Django 6 cannot import"):
        AppConfig.create("apps.oauth")
    monkeypatch.setattr(django, "VERSION", (5, 2))
    AppConfig.create("apps.oauth")

"""The app's part of an OpenAPI document: what depends on the shop, and the app under another name.

Each answer in the tests is compared with the document; see tests/tools/document.py.
"""

import json
import os
import subprocess
import sys
from typing import Any

import pytest
from django.apps import apps

from meiduo.api_schema import make_document
from tests.conftest import PAGE

USERS = "/oauth/qq/users/"


def untyped_payload(user, request) -> dict[str, Any]:
    return {"session": "a"}


def test_login_has_the_fields_of_the_shops_typed_payload_and_any_without_one(shop):
    assert make_document()["components"]["schemas"]["QQLoginAnswer"]["required"] == ["token", "user_id", "username"]
    shop.QQ_LOGIN_PAYLOAD = f"{__name__}.untyped_payload"
    assert "properties" not in make_document()["components"]["schemas"]["QQLoginAnswer"]


def test_form_is_the_shops_serializer(shop):
    shop.QQ_ACCOUNT_SERIALIZER = "apps.users.sms_serializers.MobileAccountSerializer"
    document = make_document()
    form = document["paths"][USERS]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert form["allOf"][0] == {"$ref": "#/components/schemas/MobileAccount"}
    assert form["examples"][0].keys() == {"mobile", "sms_code", "access_token"}
    assert document["components"]["schemas"]["MobileAccount"]["properties"].keys() == {"mobile", "sms_code"}


def test_form_of_a_shop_may_have_no_fields_but_the_token(shop):
    shop.QQ_ACCOUNT_SERIALIZER = "rest_framework.serializers.Serializer"
    form = make_document()["paths"][USERS]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert form["properties"].keys() == {"access_token", "key"}


def test_direct_mode_has_a_state_and_no_callback(shop):
    shop.QQ_REDIRECT_URI = PAGE
    paths = make_document()["paths"]
    assert "/oauth/qq/callback/" not in paths
    assert {"code", "state"} == {parameter["name"] for parameter in paths[USERS]["get"]["parameters"]}
    assert "state_used" in paths[USERS]["get"]["responses"]["400"]["description"]


def test_call_without_the_cookie_is_documented_where_it_is_allowed(shop):
    assert make_document()["paths"][USERS]["get"]["security"] == [{"flowCookie": []}]
    shop.QQ_REQUIRE_COOKIE = False
    assert make_document()["paths"][USERS]["get"]["security"] == [{"flowCookie": []}, {}]


SHOP = """
import json, sys
from django.conf import settings
import django
settings.configure(
    INSTALLED_APPS=["django.contrib.contenttypes", "django.contrib.auth", "rest_framework", *sys.argv[1:]],
    ROOT_URLCONF="shop_urls", SECRET_KEY="of the test",
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
    REST_FRAMEWORK={"DEFAULT_AUTHENTICATION_CLASSES": ["rest_framework.authentication.SessionAuthentication"]},
    QQ_ACCOUNT_SERIALIZER="meiduo_qq_login.contrib.meiduo.AccountSerializer",
    QQ_LOGIN_PAYLOAD="meiduo_qq_login.contrib.meiduo.simplejwt_payload", QQ_REDIRECT_URI="http://localhost/qq/callback/",
)
"""
GENERATE = """
django.setup()
settings.REST_FRAMEWORK["DEFAULT_SCHEMA_CLASS"] = "drf_spectacular.openapi.AutoSchema"
from drf_spectacular.generators import SchemaGenerator
document = SchemaGenerator().get_schema(request=None, public=True)
print(json.dumps([sorted(document["paths"]), document["paths"]["/qq/bindings/"]["get"]["security"]]))
"""
WITHOUT = """
sys.modules["drf_spectacular"] = None  # importing it fails, as if it were not installed
django.setup()
from django.test import Client
settings.ALLOWED_HOSTS = ["testserver"]
print(json.dumps(Client().get("/qq/authorization/").json()["login_url"]))
"""


URLS = """
from django.urls import include, path
urlpatterns = [path("qq/", include("meiduo_qq_login.urls"))]
"""
NAMES = ("app", "authorization", "bindings", "bindings/{id}", "callback", "login", "mini", "users")


@pytest.mark.parametrize(
    ("installed", "code", "printed"),
    [
        (["drf_spectacular"], GENERATE, [[f"/qq/{name}/" for name in NAMES], [{"cookieAuth": []}]]),
        ([], WITHOUT, "http://localhost/qq/login/?next=/"),
    ],
)
def test_app_by_another_name_is_described_and_runs_without_drf_spectacular(
    installed_wheel, tmp_path, installed, code, printed
):
    (tmp_path / "shop_urls.py").write_text(URLS)
    environ = os.environ | {"PYTHONPATH": f"{installed_wheel}{os.pathsep}{tmp_path}", "PYTHONUTF8": "1"}
    command = [sys.executable, "-c", SHOP + code, "meiduo_qq_login", *installed]
    done = subprocess.run(command, env=environ, cwd=tmp_path, capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == printed


def test_app_starts_with_drf_spectacular(settings):
    settings.INSTALLED_APPS = [*settings.INSTALLED_APPS, "drf_spectacular"]
    assert apps.get_app_config("oauth").models_module is not None

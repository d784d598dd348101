"""The OpenAPI document that the shop serves, its page, and its copy in docs/."""

import json
import re
from importlib.metadata import version

import pytest
import yaml
from django.test import Client
from drf_spectacular.validation import validate_schema
from jsonschema import Draft202012Validator

from apps.oauth.errors import ERRORS
from tests.tools.document import COPY, render_copy
from tests.tools.requirements import requirement

RENEW = ".venv/bin/python -m tests.tools.document"
OAUTH = ("app/", "authorization/", "bindings/", "bindings/{id}/", "callback/", "login/", "mini/", "users/")
ACCOUNTS = (
    *("authorizations/", "users/", "user/", "user/password/", "password/", "usernames/{username}/count/"),
    *("mobiles/{mobile}/count/", "image_codes/{image_code_id}/", "sms_codes/{mobile}/"),
)


@pytest.fixture
def document():
    response = Client().get("/api/schema/")
    assert response.headers["Content-Type"].startswith("application/vnd.oai.openapi+json")
    return json.loads(response.content)


def test_document_is_openapi_3_1_and_has_the_calls_of_the_shop_and_no_others(document):
    validate_schema(document)
    assert document["openapi"].startswith("3.1.")
    assert document["paths"].keys() == {f"/oauth/qq/{path}" for path in OAUTH} | {f"/{path}" for path in ACCOUNTS}
    assert set(ERRORS) < set(document["components"]["schemas"]["ErrorCode"]["enum"])


def test_copy_in_docs_is_up_to_date(document):
    text = render_copy()
    assert COPY.read_bytes() == text, f"docs/openapi.yaml is stale. Renew it: {RENEW}"
    assert yaml.safe_load(text) == document


@requirement("15.16")
def test_document_reveals_nothing_internal(document, settings):
    text = json.dumps(document, ensure_ascii=False).lower()
    packages = ("django", "djangorestframework", "drf-spectacular", "gunicorn", "redis")
    for internal in ("http://", "https://", "127.0.0.1", "admin", "redis", "sql", "django", *map(version, packages)):
        assert internal not in text.replace("an https address", "")
    assert "servers" not in document


def test_examples_are_as_the_document_says(document):
    checked = 0
    for operations in document["paths"].values():
        for operation in operations.values():
            schemas = [operation.get("requestBody"), *operation["responses"].values()]
            for media in (media for part in schemas if part for media in part.get("content", {}).values()):
                values = [
                    *media["schema"].get("examples", ()),
                    *(e["value"] for e in media.get("examples", {}).values()),
                ]
                validator = Draft202012Validator(media["schema"] | {"components": document["components"]})
                for value in values:
                    validator.validate(value)
                    checked += 1
    assert checked > 10


def test_page_runs_under_the_policy_of_all_pages(settings):
    settings.WHITENOISE_AUTOREFRESH = False  # as in production
    page, login_page = Client().get("/api/schema/page/"), Client().get("/login.html")
    assert login_page.getvalue()
    assert page.headers["Content-Security-Policy"] == login_page.headers["Content-Security-Policy"]
    sources = re.findall(r'(?:src|href)="([^"]+)"', page.content.decode())
    assert sources
    for source in sources:
        assert not source.startswith(("http", "//"))
        response = Client().get(source if source.startswith("/") else f"/api/schema/page/{source}")
        assert (response.status_code, bool(response.getvalue())) == (200, True)

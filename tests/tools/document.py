"""Compares the shop's answers with its OpenAPI document, in every test that calls the shop in this process.

`python -m tests.tools.document` writes the document's copy in docs/ anew.
"""

import json
import os
import re
from functools import cache

import django
from django.conf import settings
from jsonschema import Draft202012Validator, FormatChecker

from meiduo import api_schema
from tests.tools.processes import ROOT

COPY = ROOT / "docs/openapi.yaml"

differences = []  # of the test that runs


def compare_answers(get_response):
    """Django middleware that notes each answer that the document does not allow."""

    def middleware(request):
        response = get_response(request)
        difference = find_difference(request, response)
        if difference is not None:
            differences.append(f"{request.method} {request.path_info}: {difference}")
        return response

    return middleware


def find_difference(request, response):
    """Return how the answer differs from the document, or None. Nothing is said of bugs and of undocumented calls."""
    depends_on = settings.QQ_REDIRECT_URI, settings.QQ_LOGIN_PAYLOAD
    operation = find_operation(request.method, request.path_info, *depends_on)
    if operation is None or response.status_code == 500:
        return None
    media_type = response.headers.get("Content-Type")
    if response.status_code == 404 and media_type == "text/html; charset=utf-8":
        return None  # the page for a browser at an address that does not exist
    answer = operation["responses"].get(str(response.status_code))
    if answer is None:
        return f"no status {response.status_code}: {response.content[:200]}"
    missing = [name for name, header in answer.get("headers", {}).items() if header.get("required")]
    if missing := [name for name in missing if name not in response.headers]:
        return f"no header {missing}"
    if "content" not in answer:
        return f"a body: {response.content[:200]}" if response.content else None
    if media_type not in answer["content"]:
        return f"no content type {media_type}"
    if media_type != "application/json":
        return None
    validator = make_validator(json.dumps(answer["content"][media_type]["schema"]), *depends_on)
    return next((error.message for error in validator.iter_errors(json.loads(response.content))), None)


@cache
def make_document(*_depends_on):
    """Return the document for these values of the settings that it depends on."""
    return api_schema.make_document("meiduo.urls")


@cache
def find_operation(method, path, *depends_on):
    for pattern, operations in make_document(*depends_on)["paths"].items():
        if re.fullmatch(re.sub("{.*?}", "[^/]+", pattern), path):
            return operations.get(method.lower())
    return None


@cache
def make_validator(text, *depends_on):
    schema = json.loads(text) | {"components": make_document(*depends_on)["components"]}
    return Draft202012Validator(schema, format_checker=FormatChecker())


def render_copy():
    from drf_spectacular.renderers import OpenApiYamlRenderer  # reads the settings

    return OpenApiYamlRenderer().render(api_schema.make_document("meiduo.urls"))


if __name__ == "__main__":
    os.environ["DJANGO_SETTINGS_MODULE"] = "meiduo.settings"
    django.setup()
    COPY.write_bytes(render_copy())

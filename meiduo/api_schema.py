"""The OpenAPI document of the shop, and a page to read it."""

import json
from functools import cache
from threading import Lock

from django.conf import settings
from django.http import HttpResponse
from django.utils.translation import override
from django.views.decorators.http import require_safe

PAGE = """<!DOCTYPE html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>HTTP API</title>
<link rel="icon" href="/favicon.svg">
<link rel="stylesheet" href="/{static}swagger-ui/swagger-ui.css">
<div id="page"></div>
<script src="/{static}swagger-ui/swagger-ui-bundle.js"></script>
<script src="page.js"></script>
</html>
"""
# A file of its own: the policy of the shop's pages allows no script in the HTML.
SCRIPT = """const url = new URL("..", location).pathname;
SwaggerUIBundle({url, dom_id: "#page", deepLinking: true, validatorUrl: null});
"""
lock = Lock()  # two threads at once would do the work twice


def make_document(urlconf=None):
    """Return the document (dict).

    drf-spectacular is imported here: with the document it takes 5 MB, and most workers are never asked for that.
    """
    from drf_spectacular.generators import SchemaGenerator

    import apps.oauth.openapi
    import apps.users.openapi  # noqa: F401  they describe the endpoints

    with override("en"):
        return SchemaGenerator(urlconf=urlconf).get_schema(request=None, public=True)


@cache
def render_schema():
    """Return the document as JSON. Making it takes half a second, so each process does it once."""
    return json.dumps(make_document(), ensure_ascii=False)


@require_safe
def schema(request):
    with lock:
        document = render_schema()
    return HttpResponse(document, content_type="application/vnd.oai.openapi+json;version=3.1")


@require_safe
def page(request):
    return HttpResponse(PAGE.format(static=settings.STATIC_URL.strip("/") + "/"))


@require_safe
def script(request):
    return HttpResponse(SCRIPT, content_type="text/javascript; charset=utf-8")

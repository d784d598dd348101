import sys

from django.conf import settings
from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.urls import include, path
from django.utils.translation import gettext as _

from apps.oauth.database import is_outage, report_outage
from apps.oauth.errors import get_message, get_retry_after
from apps.oauth.exception_handler import make_json_error
from apps.oauth.redaction import suppress_error_log

from . import unbind_on_reset  # noqa: F401  connects its receiver

urlpatterns = [
    path("oauth/qq/", include("apps.oauth.urls")),
    path("", include("apps.users.urls")),
]
if settings.API_SCHEMA:
    from . import api_schema

    urlpatterns += [
        path("api/schema/", api_schema.schema),
        path("api/schema/page/", api_schema.page),
        path("api/schema/page/page.js", api_schema.script),
    ]
if settings.ADMIN_PATH:
    urlpatterns.append(path(settings.ADMIN_PATH, admin.site.urls))


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    return make_json_error(400, get_message("invalid"), "invalid")


def make_error(request: HttpRequest, status: int, message: str, code: str, page: str) -> HttpResponse:
    """Answer a browser with a page of web/, and a program with JSON."""
    if "text/html" in request.headers.get("Accept", ""):
        return HttpResponse((settings.WHITENOISE_ROOT / page).read_bytes(), status=status)
    return make_json_error(status, message, code)


def not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    return make_error(request, 404, _("没有找到。"), "not_found", "404.html")


def server_error(request: HttpRequest) -> HttpResponse:
    """Answer a bug; or an outage of the database outside DRF's views, as in the admin or its session."""
    exc = sys.exc_info()[1]  # Django calls this while it handles the exception
    if is_outage(exc):
        error = report_outage(exc)
        response = make_error(request, error.status_code, str(error.detail), error.code, "500.html")
        for name, value in get_retry_after(error).items():
            response.headers[name] = value
        return suppress_error_log(response)
    return make_error(request, 500, _("服务器出错了，请稍后再试。"), "server_error", "500.html")


handler400, handler404, handler500 = bad_request, not_found, server_error

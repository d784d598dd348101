from django.conf import settings
from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.urls import include, path

from apps.users import errors

from . import recovery  # noqa: F401  listens

urlpatterns = [
    path("oauth/qq/", include("apps.oauth.urls")),
    path("", include("apps.users.urls")),
]
if settings.ADMIN_PATH:
    urlpatterns.append(path(settings.ADMIN_PATH, admin.site.urls))


def not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Answer a browser with a page, and a program with JSON."""
    if "text/html" in request.headers.get("Accept", ""):
        return HttpResponse((settings.WHITENOISE_ROOT / "404.html").read_bytes(), status=404)
    return errors.not_found(request, exception)


handler400 = "apps.users.errors.bad_request"
handler404 = not_found
handler500 = "apps.users.errors.server_error"

from django.conf import settings
from django.contrib import admin
from django.urls import include, path

urlpatterns = [
    path("oauth/qq/", include("apps.oauth.urls")),
    path("", include("apps.users.urls")),
]
if settings.ADMIN_PATH:
    urlpatterns.append(path(settings.ADMIN_PATH, admin.site.urls))

handler400 = "apps.users.errors.bad_request"
handler404 = "apps.users.errors.not_found"
handler500 = "apps.users.errors.server_error"

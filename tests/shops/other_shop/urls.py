from pathlib import Path

from django.conf import settings
from django.urls import include, path
from django.views.static import serve

from .people.views import basket, send_email_code

urlpatterns = [
    path("qq/", include(f"{settings.OAUTH_APP}.urls")),
    path("email_codes/<email>/", send_email_code),
    path("basket", basket),
    path("<path>", serve, {"document_root": Path(__file__).parent / "pages"}),
]

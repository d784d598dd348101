from django.conf import settings
from django.urls import include, path
from django.views.generic import TemplateView

from .people.views import send_email_code

urlpatterns = [
    path("qq/", include(f"{settings.OAUTH_APP}.urls")),
    path("email_codes/<email>/", send_email_code),
    path("login.html", TemplateView.as_view(template_name="login.html")),
    path("oauth_callback.html", TemplateView.as_view(template_name="oauth_callback.html")),
    path("basket", TemplateView.as_view(template_name="basket.html")),
]

from django.conf import settings
from django.urls import include, path

urlpatterns = [path("qq/", include(f"{settings.OAUTH_APP}.urls"))]

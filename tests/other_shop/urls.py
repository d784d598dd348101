from django.urls import include, path

urlpatterns = [path("qq/", include("oauth.urls"))]

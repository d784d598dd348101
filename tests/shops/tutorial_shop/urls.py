from django.urls import include, path

from .users.views import UserDetailView

urlpatterns = [
    path("user/", UserDetailView.as_view()),
    path("oauth/qq/", include("oauth.urls")),
]

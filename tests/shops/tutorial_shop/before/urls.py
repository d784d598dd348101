from django.urls import path

from ..users.views import UserDetailView

urlpatterns = [path("user/", UserDetailView.as_view())]

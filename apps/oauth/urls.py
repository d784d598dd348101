from django.urls import path

from .views.apps import AppView, MiniView
from .views.authorization import QQAuthorizationView
from .views.bindings import BindingsView, BindingView
from .views.callback import QQCallbackView
from .views.login import QQLoginView
from .views.users import QQTokenView

app_name = "oauth"

authorization = QQAuthorizationView.as_view()
callback = QQCallbackView.as_view()
token = QQTokenView.as_view()

urlpatterns = [
    path("users/", token, name="users"),  # first, as it is called most
    path("authorization/", authorization, name="authorization"),
    path("login/", QQLoginView.as_view(), name="login"),
    path("callback/", callback, name="callback"),
    path("callback", callback),  # QQ has been seen to refuse a registered address that ends in a slash
    path("bindings/", BindingsView.as_view(), name="bindings"),
    path("bindings/<int:id>/", BindingView.as_view(), name="binding"),
    path("app/", AppView.as_view(), name="app"),
    path("mini/", MiniView.as_view(), name="mini"),
    # The spellings of public shops' pages.
    path("authorizations/", authorization),
    path("statues/", authorization),
    path("user/", token),
]

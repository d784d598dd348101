from django.urls import path

from .views.authorization import QQAuthorizationView
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
    # The spellings of public shops' pages.
    path("authorizations/", authorization),
    path("statues/", authorization),
    path("user/", token),
]

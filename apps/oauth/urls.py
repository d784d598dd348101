from django.urls import path

from . import views

app_name = "oauth"

authorization = views.QQAuthorizationView.as_view()
callback = views.QQCallbackView.as_view()
token = views.QQTokenView.as_view()

urlpatterns = [
    path("users/", token, name="users"),  # first, as it is looked for most
    path("authorization/", authorization, name="authorization"),
    path("login/", views.QQLoginView.as_view(), name="login"),
    path("callback/", callback, name="callback"),
    path("callback", callback),  # QQ has been seen to refuse a registered address that ends in a slash
    # The spellings of public shops' pages.
    path("authorizations/", authorization),
    path("statues/", authorization),
    path("user/", token),
]

"""The doors of the QQ login, one module each: they read the request, call, and answer."""

from .authorization import QQAuthorizationView
from .callback import QQCallbackView
from .login import QQLoginView
from .users import QQTokenView

__all__ = ["QQAuthorizationView", "QQCallbackView", "QQLoginView", "QQTokenView"]

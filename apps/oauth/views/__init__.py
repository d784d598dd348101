"""The endpoints, one module each: they read the request, call, and answer."""

from .users import QQTokenView

__all__ = ["QQTokenView"]  # a shop may subclass it; see docs/plug-in.md

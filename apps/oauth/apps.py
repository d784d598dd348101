from importlib.metadata import version
from typing import Any

import django
from django.apps import AppConfig, apps
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.utils.translation import gettext_lazy as _


class OAuthConfig(AppConfig):
    name = __package__  # the folder works under whatever package it was put
    label = "oauth"
    verbose_name = _("QQ 登录")
    default_auto_field = "django.db.models.BigAutoField"

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        refuse_drf_jwt_blacklist()

    def ready(self) -> None:
        from . import checks, database, owner  # noqa: F401  (registers them)

        if apps.is_installed("drf_spectacular"):
            from . import openapi  # noqa: F401  (describes the endpoints)


def refuse_drf_jwt_blacklist() -> None:
    """Raise ImproperlyConfigured if Django 6 could not import the blacklist of drf-jwt, whose last release is 1.19.2.

    Not a system check: Django imports all models before it runs one, and fails there with a TypeError of drf-jwt's.
    """
    has_blacklist = any(app.startswith("rest_framework_jwt.blacklist") for app in settings.INSTALLED_APPS)
    if has_blacklist and django.VERSION >= (6,) and version("drf-jwt") == "1.19.2":
        raise ImproperlyConfigured(
            "INSTALLED_APPS has rest_framework_jwt.blacklist, which Django 6 cannot import: drf-jwt 1.19.2 gives "
            "CheckConstraint the argument `check`. Stay on Django 5.2, or move to djangorestframework-simplejwt, which "
            "has a blacklist too: docs/plug-in.md, Tokens."
        )

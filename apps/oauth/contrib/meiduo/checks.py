"""Checks that the pieces of contrib.meiduo fit the shop. The app's own checks call them if a setting names a piece."""

from collections.abc import Iterator
from typing import Any

from django.contrib.auth import get_user_model
from django.core.checks import CheckMessage
from django.utils.module_loading import import_string

from ...checks import fault
from ...conf import conf
from . import AccountSerializer, jwt_payload, simplejwt_payload

PACKAGES = {jwt_payload: "rest_framework_jwt", simplejwt_payload: "rest_framework_simplejwt"}


def check_contrib() -> Iterator[CheckMessage]:
    for path, check in (conf.ACCOUNT_SERIALIZER, check_serializer), (conf.LOGIN_PAYLOAD, check_payload):
        try:
            loaded = conf.load(path)
        except (ImportError, AttributeError):  # E007 or E008
            continue
        yield from check(loaded)


def check_serializer(serializer: Any) -> Iterator[CheckMessage]:
    if not isinstance(serializer, type) or not issubclass(serializer, AccountSerializer):
        return
    try:
        import_string("django_redis.get_redis_connection")(serializer.connection)
    except Exception as exc:  # a cache backend may raise anything, with a password in its text
        yield fault(
            "E016",
            f"QQ_ACCOUNT_SERIALIZER has no django_redis connection {serializer.connection!r}: {type(exc).__name__}.",
            "Install django-redis, and set `connection` in a subclass to the entry of CACHES with the SMS codes.",
        )
    try:
        has_mobile = serializer.key.format(mobile="1") != serializer.key.format(mobile="2")
    except (AttributeError, LookupError, TypeError, ValueError):
        has_mobile = False
    if not has_mobile:
        yield fault(
            "E017",
            f"QQ_ACCOUNT_SERIALIZER has a key without the mobile number: {serializer.key!r}.",
            'Write it as in key = "sms_{mobile}".',
        )
    user = get_user_model()._meta
    unique = {(field.name,) for field in user.concrete_fields if field.unique}
    if ("mobile",) not in unique | {constraint.fields for constraint in user.total_unique_constraints}:
        yield fault(
            "E018",
            f"QQ_ACCOUNT_SERIALIZER needs a unique `mobile`, and {user.label} has none.",
            "Write your own serializer, or give the model that field with unique=True.",
        )


def check_payload(payload: Any) -> Iterator[CheckMessage]:
    package = next((package for function, package in PACKAGES.items() if payload is function), None)
    try:
        if package:
            import_string(f"{package}.settings.api_settings")
    except ImportError as exc:
        yield fault(
            "E019",
            f"QQ_LOGIN_PAYLOAD needs {package}, which cannot be imported: {exc}.",
            "pip install djangorestframework-simplejwt, which is maintained, and name simplejwt_payload; or drf-jwt.",
        )

"""Checks that the pieces of contrib.meiduo fit the shop. The app's own checks call them if a setting names a piece."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from django.contrib.auth import get_user_model
from django.core.checks import CheckMessage, Error, Warning

from ...conf import conf
from . import AccountSerializer, jwt_payload, simplejwt_payload

PACKAGES = {jwt_payload: "rest_framework_jwt", simplejwt_payload: "rest_framework_simplejwt"}
INSTALL_JWT = "pip install djangorestframework-simplejwt, which is maintained, and name simplejwt_payload; or drf-jwt."
LASTING = timedelta(minutes=30)  # a user shops for longer than 5 minutes, the default of both packages
LET_IT_LAST = (
    'Raise JWT_AUTH["JWT_EXPIRATION_DELTA"] or SIMPLE_JWT["SLIDING_TOKEN_LIFETIME"], or use simplejwt\'s '
    "TokenObtainPairSerializer, which makes a refresh token."
)


def check_contrib() -> Iterator[CheckMessage]:
    yield from check_serializer(conf.load(conf.ACCOUNT_SERIALIZER))
    yield from check_payload(conf.load(conf.LOGIN_PAYLOAD))


def check_serializer(serializer: Any) -> Iterator[Error]:
    if not isinstance(serializer, type) or not issubclass(serializer, AccountSerializer):
        return
    alias, key, user = serializer.connection, serializer.key, get_user_model()._meta
    try:
        conf.load("django_redis.get_redis_connection")(alias)
    except Exception as exc:  # the constructor of any backend may raise anything, with a password in the text
        problem = f"QQ_ACCOUNT_SERIALIZER has no django_redis connection {alias!r}: {type(exc).__name__}."
        hint = f"Install django-redis, and add the Redis with the SMS codes to CACHES as {alias!r}, or subclass it."
        yield Error(problem, hint, id="oauth.E016")
    if "{mobile}" not in str(key):
        problem = f"QQ_ACCOUNT_SERIALIZER has a key without the mobile number: {key!r}."
        yield Error(problem, 'Write it as in key = "sms_{mobile}".', id="oauth.E017")
    unique = {(field.name,) for field in user.concrete_fields if field.unique}
    if ("mobile",) not in unique | {constraint.fields for constraint in user.total_unique_constraints}:
        problem = f"QQ_ACCOUNT_SERIALIZER needs a unique `mobile`, and {user.label} has none."
        yield Error(problem, "Write your own serializer, or add that field with unique=True.", id="oauth.E018")


def check_payload(payload: Any) -> Iterator[CheckMessage]:
    for package in (package for function, package in PACKAGES.items() if payload is function):
        needed, hint = package, INSTALL_JWT
        try:
            settings = conf.load(f"{package}.settings.api_settings")
            needed, hint = 'SIMPLE_JWT["TOKEN_OBTAIN_SERIALIZER"]', "Correct its dotted path."
            lifetime = get_lifetime(settings)
            if lifetime is not None and lifetime < LASTING:
                problem = f"QQ_LOGIN_PAYLOAD returns a token that lives for {lifetime}, and no refresh token."
                yield Warning(problem, LET_IT_LAST, id="oauth.W024")
        except ImportError as exc:
            yield Error(f"QQ_LOGIN_PAYLOAD needs {needed}, which cannot be imported: {exc}.", hint, id="oauth.E019")


def get_lifetime(settings: Any) -> timedelta | None:
    """Return how long the one token of a login lives, by the JWT package's own settings.

    None if it does not expire, a refresh token comes with it, or only the shop's serializer knows.
    """
    if hasattr(settings, "JWT_EXPIRATION_DELTA"):  # rest_framework_jwt
        lifetime: timedelta | None = settings.JWT_EXPIRATION_DELTA if settings.JWT_VERIFY_EXPIRATION else None
        return lifetime
    token_class = getattr(conf.load(settings.TOKEN_OBTAIN_SERIALIZER), "token_class", None)
    return None if hasattr(token_class, "access_token") else getattr(token_class, "lifetime", None)

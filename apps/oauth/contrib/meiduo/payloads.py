"""Bodies of a login's answer, for QQ_LOGIN_PAYLOAD: the token of the shop's own JWT package, and the user."""

from inspect import signature
from typing import Any

from django.utils.module_loading import import_string
from rest_framework.request import Request


def jwt_payload(user: Any, request: Request) -> dict[str, Any]:
    """Return the payload of a shop with rest_framework_jwt: djangorestframework-jwt 1.11 or drf-jwt.

    It includes what the shop's JWT_RESPONSE_PAYLOAD_HANDLER adds to every login.
    """
    jwt = import_string("rest_framework_jwt.settings.api_settings")
    claims = jwt.JWT_PAYLOAD_HANDLER(user)
    token = jwt.JWT_ENCODE_HANDLER(claims)
    payload: dict[str, Any] = {"token": token, "user_id": user.pk, "username": user.get_username()}
    handler = jwt.JWT_RESPONSE_PAYLOAD_HANDLER
    if handler.__module__ == "rest_framework_jwt.utils":  # the package's default adds nothing
        return payload
    arguments = [token, user, request, claims.get("iat")]
    try:
        signature(handler).bind(*arguments)  # a handler for drf-jwt takes four arguments, one for 1.11 takes three
    except TypeError:
        arguments.pop()
    return {**payload, **handler(*arguments)}


def simplejwt_payload(user: Any, request: Request) -> dict[str, Any]:
    """Return the payload of a shop with simplejwt: the token or tokens made by its TOKEN_OBTAIN_SERIALIZER.

    `token` is the access token, as the pages call it. `refresh` is there unless the shop uses sliding tokens.
    """
    path = import_string("rest_framework_simplejwt.settings.api_settings").TOKEN_OBTAIN_SERIALIZER
    token = import_string(path).get_token(user)
    payload = {"token": str(token), "user_id": user.pk, "username": user.get_username()}
    access_token = getattr(token, "access_token", None)  # of a refresh token; a sliding token has none
    return payload if access_token is None else payload | {"token": str(access_token), "refresh": str(token)}

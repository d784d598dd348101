"""The bodies of answers: the shop's login, a bind token, a binding."""

from inspect import signature
from typing import Any, is_typeddict

from drf_spectacular.plumbing import resolve_type_hint
from drf_spectacular.utils import OpenApiExample, OpenApiResponse

from ..conf import conf
from ..validation import BIND_TOKEN
from .tools import COMPONENTS, EXAMPLES, Schema, anchor, to_object

LOGIN_EXAMPLE = {"token": "<JWT>", "user_id": 7, "username": "zhang3"}
BIND_TOKEN_EXAMPLE = {"access_token": EXAMPLES["access_token"]}
BIND_TOKEN_SCHEMA = {"type": "string", "pattern": anchor(BIND_TOKEN.pattern)}
COMPONENTS["QQBindTokenAnswer"] = to_object(
    {
        "access_token": BIND_TOKEN_SCHEMA | {"description": "The bind token: a signed proof of the openid."},
        "fields": {
            "type": "array",
            "items": {"type": "string"},
            "description": "For pages: what the form has to send beside the token.",
        },
        "nickname": {"type": "string", "description": "With `QQ_PROFILE`. Untrusted text."},
        "avatar": {"type": "string", "description": "With `QQ_PROFILE`: an https address, or empty."},
    },
    ("access_token",),
    description="The openid is not bound: show the form, and POST it with this token to `users/` within ten minutes.",
)
COMPONENTS["QQBinding"] = to_object(
    {
        "id": {"type": "integer"},
        "nickname": {"type": "string"},
        "avatar": {"type": "string"},
        "openid": {"type": "string", "description": "Shortened."},
        "app": {"type": "string", "description": "The QQ application that the openid belongs to."},
        "create_time": {"type": "string", "format": "date-time"},
    },
    ("id", "nickname", "avatar", "openid", "app", "create_time"),
)
BINDING = {"$ref": "#/components/schemas/QQBinding"}


def make_login(**more: Any) -> Schema:
    """Return the schema of a login's answer. The shop's part is the TypedDict that QQ_LOGIN_PAYLOAD returns, if any."""
    hint = signature(conf.load(conf.LOGIN_PAYLOAD)).return_annotation
    to_schema: Any = resolve_type_hint  # untyped
    payload = to_schema(hint) if is_typeddict(hint) else {"type": "object"}
    COMPONENTS["QQLoginAnswer"] = {
        **payload,
        "description": "The shop's login, as `QQ_LOGIN_PAYLOAD` returns it.",
        "not": {"required": ["access_token"]},  # by which pages tell the two answers apart
        "examples": [LOGIN_EXAMPLE],
    }
    return {"$ref": "#/components/schemas/QQLoginAnswer"} | (to_object(more, tuple(more)) if more else {})


def make_answer(**more: Any) -> OpenApiResponse:
    """Return the two bodies of a 200: a login, or a bind token."""
    values = dict.fromkeys(more, "/cart")
    bind_token = {"$ref": "#/components/schemas/QQBindTokenAnswer"} | (to_object(more, tuple(more)) if more else {})
    return OpenApiResponse(
        {"oneOf": [make_login(**more), bind_token]},
        "The openid is bound: the shop's login. Or it is not bound: a bind token for the form.",
        [
            OpenApiExample("bound", LOGIN_EXAMPLE | values),
            OpenApiExample("not bound", BIND_TOKEN_EXAMPLE | values),
        ],
    )

"""The calls of each endpoint."""

from typing import Any

from drf_spectacular.utils import OpenApiParameter, OpenApiResponse

from ..conf import conf
from ..validation import APP_KEY, CODE, STATE
from ..views.apps import AppLoginSerializer, AppView, LoginSerializer, MiniView
from ..views.authorization import QQAuthorizationView
from ..views.bindings import BindingsView, BindingView
from ..views.callback import QQCallbackView
from ..views.login import QQLoginView
from ..views.users import QQTokenView
from .answers import BIND_TOKEN_SCHEMA, BINDING, make_answer, make_login
from .tools import (
    COOKIE,
    OK,
    Operation,
    Operations,
    anchor,
    describe,
    errors,
    to_object,
)

STORES = ("cache_unavailable", "database_unavailable")
QQ = ("qq_busy", "qq_unavailable", "qq_misconfigured")
BODY = ("invalid 400", "invalid 413", "invalid 415")
FORM = (*BODY, "invalid 403", "throttled", *STORES)
TOKEN = ("bind_token_missing", "bind_token_invalid", "bind_tries", "already_bound")
SIGNED_IN = ("not_authenticated 401", "database_unavailable")
DIRECT = ("state_missing", "state_invalid", "state_used", "user_cancelled")

NEXT = {"type": "string", "description": "The page to go to: a path of the shop.", "examples": ["/cart"]}
STATE_PATTERN = anchor(STATE.pattern)
KEY_SCHEMA = {
    "type": "string",
    "pattern": anchor(APP_KEY.pattern),
    "description": "Only if the bind token comes from `app/` or `mini/`: the `key` that was sent there.",
}

TOKEN_FORM = to_object({"access_token": BIND_TOKEN_SCHEMA, "key": KEY_SCHEMA}, ("access_token",))


def in_query(name: str, description: str, *, required: bool = False, **schema: Any) -> OpenApiParameter:
    return OpenApiParameter(name, {"type": "string", **schema}, description=description, required=required)


def in_header(name: str, description: str, **options: Any) -> OpenApiParameter:
    return OpenApiParameter(name, str, OpenApiParameter.HEADER, description=description, response=[302], **options)


NEXT_PARAMETER = in_query(
    "next",
    "The page to return to: a path of the shop, or an address of the page's own origin, of which the path is kept. At "
    "most 512 bytes, percent-encoded. Anything else counts as `/`.",
    examples=["/cart"],
)
PURPOSE = in_query("purpose", "`bind` adds a QQ to the account of a signed-in user. Anything else is a login.")


def describe_authorization() -> Operations:
    addresses = ("login_url", "auth_url", "oauth_url", "url", "qq_login_url")
    schema = to_object({name: {"type": "string", "format": "uri"} for name in addresses}, addresses)
    operation = Operation(
        id="getLoginAddress",
        summary="Where the QQ button leads",
        description="The address of `login/`, by each name that old pages read. Also at `authorizations/`, `statues/`.",
        parameters=[NEXT_PARAMETER, in_query("state", "The same as `next`, for old pages."), PURPOSE],
        responses={200: OpenApiResponse(schema, OK), **errors(*BODY)},
    )
    return {"GET": operation}


def describe_navigation(
    id: str, summary: str, codes: tuple[str, ...], *parameters: OpenApiParameter, **options: Any
) -> Operations:
    """Return the operation of an endpoint that the browser itself visits, and the codes it reports to the page."""
    listed = ", ".join(f"`{code}`" for code in (*codes, "invalid", "throttled", *STORES))
    place = in_header("Location", "QQ's page, or the shop's.", required=True)
    cookie = in_header("Set-Cookie", "The login's cookie, unless there is an error.")
    retry = in_header("Retry-After", "Of some errors: seconds.")
    operation = Operation(
        id,
        summary,
        parameters=[*parameters, place, cookie, retry],
        responses={
            302: OpenApiResponse(description=f"Errors lead to the shop's page with `?error=`: {listed}."),
            503: OpenApiResponse(description="Empty: a prefetch or an embedded request. Nothing has happened."),
            **errors(*BODY),
        },
        **options,
    )
    return {"GET": operation}


def describe_login() -> Operations:
    return describe_navigation(
        "startLogin", "Start a login and go to QQ", ("qq_misconfigured",), NEXT_PARAMETER, PURPOSE
    )


def describe_callback() -> Operations:
    if conf.is_direct:
        return {}
    return describe_navigation(
        "returnFromQQ",
        "Return from QQ and go to the shop's page",
        (*DIRECT, "qq_rejected", "code_missing", "code_invalid"),
        in_query("code", "QQ's code.", pattern=anchor(CODE.pattern)),
        in_query("state", "As sent to QQ. It works once, in the same browser.", pattern=STATE_PATTERN),
        cookie=[{COOKIE: []}],
        description="The page gets `?code=<sealed code>&state=<next>`. Also served without the final slash.",
    )


def describe_users() -> Operations:
    code = in_query("code", "The sealed code; QQ's in direct mode.", pattern=anchor(CODE.pattern), required=True)
    state = in_query("state", "As QQ has sent it.", pattern=STATE_PATTERN, required=True)
    cookie: list[Any] = [{COOKIE: []}] if conf.REQUIRE_COOKIE or conf.is_direct else [{COOKIE: []}, {}]
    redeem = Operation(
        id="redeemCode",
        summary="Trade a code for a login",
        description="May be repeated in the same browser. Also served as `user/`. With a login token, `already_bound` "
        "says whose the QQ is.",
        parameters=[code, state] if conf.is_direct else [code],
        cookie=cookie,
        responses={
            200: make_answer(next=NEXT),
            **errors(
                *("code_missing", "code_invalid", *(DIRECT if conf.is_direct else ()), "qq_rejected"),
                *("already_bound", *BODY, "account_refused", "invalid 403", "throttled", *QQ, *STORES),
            ),
        },
    )
    bind = Operation(
        id="bind",
        summary="Bind the openid to an account, and log in",
        description="The account is created if there is none.",
        form=conf.load(conf.ACCOUNT_SERIALIZER),
        form_schema=TOKEN_FORM,
        not_in_example=("key",),
        cookie=[{COOKIE: []}, {}],
        responses={
            200: OpenApiResponse(make_login(id={"type": "integer", "description": "The user's."}), OK),
            **errors(*TOKEN, "account_refused 400", "account_refused", *FORM),
        },
    )
    return {"GET": redeem, "POST": bind}


def describe_door(id: str, summary: str, form: type[LoginSerializer], **options: Any) -> Operations:
    """Return the operation of an endpoint for apps."""
    operation = Operation(
        id,
        summary,
        description="Not for browsers. `key`: random, for one login; the call may be repeated with it.",
        form=form,
        cookie=[],
        responses={
            200: make_answer(),
            **errors(
                *("key_used", "code_invalid", "qq_rejected", "already_bound", "account_refused", "not_found 404"),
                *(*FORM, *QQ),
            ),
        },
        **options,
    )
    return {"POST": operation}


def describe_app() -> Operations:
    one = {"oneOf": [{"required": ["access_token"]}, {"required": ["code"]}]}
    options: dict[str, Any] = {"form_schema": one, "not_in_example": ("code",)}
    return describe_door("logInFromApp", "Log in from a phone app", AppLoginSerializer, **options)


def describe_mini() -> Operations:
    return describe_door("logInFromMiniProgram", "Log in from the QQ mini program", LoginSerializer)


def describe_bindings() -> Operations:
    listed = Operation(
        id="listBindings",
        summary="The user's QQs",
        responses={200: OpenApiResponse({"type": "array", "items": BINDING}, OK), **errors(*SIGNED_IN, *BODY)},
    )
    link = Operation(
        id="addBinding",
        summary="Add a QQ to the account",
        description="The bind token is of a login with `purpose=bind`. The user confirms in one way that the form has.",
        form=conf.load(conf.CONFIRM_SERIALIZER),
        form_schema=TOKEN_FORM,
        not_in_example=("key", "sms_code"),
        responses={
            201: OpenApiResponse(BINDING, "Added."),
            200: OpenApiResponse(BINDING, "It was there before."),
            **errors(*TOKEN, "not_authenticated 401", "account_refused", *FORM),
        },
    )
    return {"GET": listed, "POST": link}


def describe_binding() -> Operations:
    unlink = Operation(
        id="removeBinding",
        summary="Remove a QQ from the account",
        form=conf.load(conf.CONFIRM_SERIALIZER),
        not_in_example=("sms_code",),
        responses={
            204: OpenApiResponse(description="Removed."),
            **errors("last_login_method", "not_authenticated 401", "not_found 404", *FORM),
        },
    )
    return {"DELETE": unlink}


describe(QQAuthorizationView, describe_authorization, "/authorizations/", "/statues/")
describe(QQLoginView, describe_login)
describe(QQCallbackView, describe_callback, "/callback")
describe(QQTokenView, describe_users, "/user/")
describe(AppView, describe_app)
describe(MiniView, describe_mini)
describe(BindingsView, describe_bindings)
describe(BindingView, describe_binding)

"""The endpoints of the shop's own accounts in its OpenAPI document."""

from drf_spectacular.extensions import OpenApiAuthenticationExtension, OpenApiSerializerFieldExtension
from drf_spectacular.plumbing import resolve_type_hint
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse

from apps.oauth.openapi.tools import CODES, EXAMPLES, OK, Operation, describe, errors, make_error, to_object

from . import views
from .fields import ImageTextField, MobileField, TextField
from .models import LONGEST_USERNAME
from .password_serializers import PasswordChangeSerializer, PasswordResetSerializer
from .serializers import (
    LoginSerializer,
    ProfileSerializer,
    RegistrationSerializer,
)
from .sms import SMSUnavailable
from .tokens import LoginPayload

CODES.append(SMSUnavailable.error_code)

TAG = "Accounts"
STORES = ("cache_unavailable", "database_unavailable")
READ = ("invalid 400", "invalid 403", "invalid 413", "invalid 415")
PUBLIC = (*READ, "throttled", *STORES)
NAMED = "not_found 404"  # the name in the path is none, such as one with a slash


class LoginTokenScheme(OpenApiAuthenticationExtension):
    target_class = "apps.users.tokens.LoginTokenAuthentication"
    name = "loginToken"

    def get_security_definition(self, auto_schema):
        text = "`JWT <token>`, with the `token` of a login. It lives for 24 hours."
        return {"type": "apiKey", "in": "header", "name": "Authorization", "description": text}


class TextFieldSchema(OpenApiSerializerFieldExtension):
    target_class = TextField
    match_subclasses = True

    def map_serializer_field(self, auto_schema, direction):
        return {"type": "string", **self.target.limits}


def make_login():
    return OpenApiResponse(resolve_type_hint(LoginPayload), OK)


def in_path(name, schema):
    return OpenApiParameter(name, schema, OpenApiParameter.PATH)


def in_query(name, schema, description):
    return OpenApiParameter(name, schema, OpenApiParameter.QUERY, description=description, required=True)


MOBILE = {"type": "string", **MobileField.limits, "examples": [EXAMPLES["mobile"]]}
COUNT = {"type": "integer", "minimum": 0, "maximum": 1}


def describe_login():
    responses = {200: make_login(), **errors(*PUBLIC)}
    return {"POST": Operation("logIn", "Log in with a password", responses, form=LoginSerializer, tag=TAG)}


def describe_registration():
    fields = {"id": {"type": "integer"}} | {name: {"type": "string"} for name in ("username", "mobile", "token")}
    responses = {201: OpenApiResponse(to_object(fields, tuple(fields)), OK), **errors(*PUBLIC)}
    return {"POST": Operation("register", "Create an account", responses, form=RegistrationSerializer, tag=TAG)}


def describe_profile():
    responses = {200: OpenApiResponse(ProfileSerializer, OK), **errors(*READ, "not_authenticated 401", *STORES)}
    return {"GET": Operation("getProfile", "The user who is logged in", responses, tag=TAG)}


def describe_password_change():
    responses = {200: make_login(), **errors(*PUBLIC, "not_authenticated 401")}
    summary = "Change the password; earlier logins end"
    return {"PUT": Operation("changePassword", summary, responses, form=PasswordChangeSerializer, tag=TAG)}


def describe_password_reset():
    responses = {200: make_login(), **errors(*PUBLIC)}
    summary = "Set a new password by SMS code; earlier logins end"
    return {"POST": Operation("resetPassword", summary, responses, form=PasswordResetSerializer, tag=TAG)}


def describe_username_count():
    parameters = [in_path("username", {"type": "string", "minLength": 1, "maxLength": LONGEST_USERNAME})]
    body = to_object({"username": {"type": "string"}, "count": COUNT}, ("username", "count"))
    responses = {200: OpenApiResponse(body, OK), **errors(*PUBLIC, NAMED)}
    return {"GET": Operation("countUsername", "Is a username taken?", responses, parameters=parameters, tag=TAG)}


def describe_mobile_count():
    body = to_object({"mobile": {"type": "string"}, "count": COUNT}, ("mobile", "count"))
    responses = {200: OpenApiResponse(body, OK), **errors(*PUBLIC, NAMED)}
    parameters = [in_path("mobile", MOBILE)]
    return {"GET": Operation("countMobile", "Has a number an account?", responses, parameters=parameters, tag=TAG)}


def describe_image_code():
    png = OpenApiResponse({"type": "string", "contentMediaType": "image/png"}, OK)
    responses = {(200, "image/png"): png, **errors(*READ, "throttled", "cache_unavailable", NAMED)}
    parameters = [in_path("image_code_id", {"type": "string", "format": "uuid"})]
    summary = "A picture of an image code"
    text = "The page makes the id. A new picture for it replaces the earlier one."
    return {"GET": Operation("getImageCode", summary, responses, text, parameters, tag=TAG)}


def describe_sms_code():
    unavailable = make_error(["cache_unavailable", SMSUnavailable.error_code])
    body = to_object({"message": {"const": "OK"}}, ("message",))
    responses = {200: OpenApiResponse(body, OK), **errors(*READ, "throttled", NAMED), 503: unavailable}
    parameters = [
        in_path("mobile", MOBILE),
        in_query("text", ImageTextField.limits | {"type": "string"}, "What the picture shows. It can be tried once."),
        in_query("image_code_id", {"type": "string", "format": "uuid"}, "The picture's id."),
    ]
    return {"GET": Operation("sendSMSCode", "Send an SMS code", responses, parameters=parameters, tag=TAG)}


describe(views.LoginView, describe_login)
describe(views.RegistrationView, describe_registration)
describe(views.ProfileView, describe_profile)
describe(views.PasswordChangeView, describe_password_change)
describe(views.PasswordResetView, describe_password_reset)
describe(views.UsernameCountView, describe_username_count)
describe(views.MobileCountView, describe_mobile_count)
describe(views.ImageCodeView, describe_image_code)
describe(views.SMSCodeView, describe_sms_code)

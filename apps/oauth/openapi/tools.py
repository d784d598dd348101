"""Tools that describe views for an OpenAPI document. A shop may use them for its own views too.

drf-spectacular reads paths, authentication and serializers from the code. The rest is a table of Operations per view.
"""

from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

from drf_spectacular.extensions import OpenApiSerializerFieldExtension, OpenApiViewExtension
from drf_spectacular.openapi import AutoSchema
from drf_spectacular.plumbing import ComponentRegistry, ResolvedComponent
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse
from rest_framework.views import APIView

from ..errors import ERRORS
from ..exception_handler import DRF_CODES
from ..form_fields import PatternField

Schema = dict[str, Any]

APP = __name__.removesuffix("openapi.tools")

JSON, OK = "application/json", "Success."
CODES = [*ERRORS, *dict.fromkeys(DRF_CODES.values())]  # a shop appends the `error_code`s of its own errors
COOKIE, TAG = "flowCookie", "QQ login"
MESSAGE = {"type": "string", "minLength": 1}
COMPONENTS: dict[str, Schema] = {
    "ErrorCode": {"type": "string", "enum": CODES},
    "Error": {
        "type": "object",
        "description": "`message` is one sentence for the user, in Chinese, or in English if `Accept-Language` prefers "
        "it. Errors of form fields stand beside the two, under the names of the fields.",
        "properties": {
            "message": MESSAGE,
            "code": {"$ref": "#/components/schemas/ErrorCode"},
            "account": {
                "type": "string",
                "enum": ["this", "another"],
                "description": "Of `already_bound`: whose the QQ is.",
            },
        },
        "required": ["message", "code"],
        "additionalProperties": {"type": "array", "items": MESSAGE},
        "examples": [{"message": "手机号格式不正确。", "code": "invalid", "mobile": ["手机号格式不正确。"]}],
    },
}
FLOW_COOKIE = {
    "type": "apiKey",
    "in": "cookie",
    "name": "__Host-qq_flow_<id>",
    "description": "Ties a login to its browser, which gets it at `login/` and sends it by itself. `<id>` is 12 hex "
    "digits. Over http the name has no `__Host-`. If page and API are two origins, send credentials.",
}


EXAMPLES: Schema = {
    "mobile": "13800138000",
    "password": "a long password",
    "password2": "a long password",
    "old_password": "a long password",
    "sms_code": "123456",
    "username": "zhang3",
    "allow": True,
    "access_token": "aGVsbG8.Z3Jl.c3R1",
    "code": "0A1B2C3D4E5F",
    "key": "k" * 43,
}
HEADERS = [
    OpenApiParameter(
        "Retry-After",
        {"type": "integer", "minimum": 1},
        OpenApiParameter.HEADER,
        description="Seconds until the same call is worth repeating. Absent if it is not.",
        response=[429, 503],
    ),
    OpenApiParameter("WWW-Authenticate", str, OpenApiParameter.HEADER, response=[401]),
]


@dataclass(frozen=True)
class Operation:
    """What the code does not say about a method of a view."""

    id: str
    summary: str
    responses: dict[Any, OpenApiResponse | None]  # by status, or by (status, media type)
    description: str = ""
    parameters: list[OpenApiParameter] = field(default_factory=list)
    form: Callable[..., Any] | None = None  # a serializer class
    form_schema: Schema | None = None  # of the body, beside the form's
    not_in_example: tuple[str, ...] = ()  # fields
    cookie: list[dict[str, list[Any]]] | None = None  # security requirements in place of the view's authentication
    tag: str = TAG


class OperationSchema(AutoSchema):
    """The schema of a view with a table of operations."""

    def __init__(self, operations: dict[str, Operation], old_paths: tuple[str, ...]) -> None:
        super().__init__()
        self.operations, self.old_paths = operations, old_paths

    @property
    def operation(self) -> Operation:
        return self.operations[self.method]

    def get_operation(
        self, path: str, path_regex: str, path_prefix: str, method: str, registry: ComponentRegistry
    ) -> Schema | None:
        for name, schema in COMPONENTS.items():
            register(registry, name, ResolvedComponent.SCHEMA, schema)
        register(registry, COOKIE, ResolvedComponent.SECURITY_SCHEMA, FLOW_COOKIE)
        operation: Schema | None = super().get_operation(path, path_regex, path_prefix, method, registry)
        if operation and self.operation.form:  # drf-spectacular describes no body of DELETE
            content = {JSON: {"schema": self.get_form(self.operation.form)}}
            body = {"content": content, "required": True}
            operation |= {"requestBody": body, "responses": operation.pop("responses")}
        return operation

    def is_excluded(self) -> bool:
        return self.method not in self.operations or self.path.endswith(self.old_paths)

    def get_operation_id(self) -> str:
        return self.operation.id

    def get_summary(self) -> str:
        return self.operation.summary

    def get_description(self, *_: Any) -> str:
        return self.operation.description

    def get_serializer_name(self, serializer: Any, direction: Any) -> str:
        """Return the name of a component. A serializer of the shop's may be called like one of ours."""
        name = str(super().get_serializer_name(serializer, direction))
        return f"QQ{name}" if type(serializer).__module__.startswith(APP) else name

    def get_tags(self) -> list[str]:
        return [self.operation.tag]

    def get_auth(self) -> list[Any]:
        found: list[Any] = super().get_auth()
        return found if self.operation.cookie is None else self.operation.cookie

    def get_override_parameters(self) -> list[Any]:
        return [*self.operation.parameters, *HEADERS]

    def get_request_serializer(self) -> Any:
        return None  # get_operation() describes the body

    def get_response_serializers(self) -> Any:
        return self.operation.responses

    def resolve_serializer(self, *args: Any, **kwargs: Any) -> ResolvedComponent:
        component: ResolvedComponent = super().resolve_serializer(*args, **kwargs)
        if component.schema:
            component.schema.pop("description", None)  # its docstring, which is for the shop's developers
        return component

    def get_form(self, form: Callable[..., Any]) -> Schema:
        """Return the schema of the body, with an example of the fields whose names are known."""
        component, more = self.resolve_serializer(form, "request"), self.operation.form_schema
        parts = [*([component.ref] if component else []), *([more] if more else [])]  # a form may have no fields
        names = [*form().fields, *(more or {}).get("properties", ())]
        shown = (name for name in names if name in EXAMPLES and name not in self.operation.not_in_example)
        body = parts[0] if len(parts) == 1 else {"type": "object", "allOf": parts}
        return {**body, "examples": [{name: EXAMPLES[name] for name in shown}]}


class PatternFieldSchema(OpenApiSerializerFieldExtension):  # type: ignore[no-untyped-call]
    target_class = PatternField

    def map_serializer_field(self, auto_schema: AutoSchema, direction: Any) -> Schema:
        pattern = self.target.pattern.pattern
        # A password's pattern names half surrogates, which no JSON document can hold.
        return {"type": "string"} | ({"pattern": anchor(pattern)} if pattern.isascii() else {})


Operations = dict[str, Operation]  # by method


def describe(view: type[APIView], make_operations: Callable[[], Operations], *old_paths: str) -> None:
    """Describe a view and its subclasses. Methods without an Operation are left out.

    `old_paths`: endings of the view's paths that only old pages call; they are left out too.
    """

    def view_replacement(extension: OpenApiViewExtension) -> Any:
        schema = OperationSchema(make_operations(), old_paths)
        return type(extension.target.__name__, (extension.target,), {"schema": schema})

    options = {"target_class": view, "match_subclasses": True, "view_replacement": view_replacement}
    type("Extension", (OpenApiViewExtension,), options)  # a subclass registers itself


def errors(*codes: str) -> dict[Any, OpenApiResponse]:
    """Return the responses of these error codes, by status. "invalid 403" has another status than that of ERRORS."""
    by_status: dict[int, list[str]] = {}
    for entry in codes:
        code, _, status = entry.partition(" ")
        by_status.setdefault(int(status or ERRORS[code][0]), []).append(code)
    return {status: make_error(by_status[status]) for status in sorted(by_status)}


def make_error(codes: list[str]) -> OpenApiResponse:
    schema = {"$ref": "#/components/schemas/Error", "properties": {"code": {"enum": codes}}}
    return OpenApiResponse(schema, ", ".join(f"`{code}`" for code in codes))


def anchor(pattern: str) -> str:
    """Return the pattern for a whole text, in the dialect of JSON Schema."""
    return f"^{pattern}$"


def to_object(properties: Mapping[str, Any], required: tuple[str, ...] = (), **more: Any) -> Schema:
    return {"type": "object", "properties": properties, **({"required": list(required)} if required else {}), **more}


def register(registry: ComponentRegistry, name: str, kind: str, schema: Schema) -> None:
    """Add a component, which drf-spectacular may change."""
    make_component: Any = ResolvedComponent  # untyped
    registry.register_on_missing(make_component(name=name, type=kind, object=name, schema=deepcopy(schema)))

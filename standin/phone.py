"""What happens on a phone: QQ's SDK gives a phone app a token or a code, QQ gives a mini program a code."""

import json
import secrets
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import parse_qsl, urljoin

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from . import pages
from .people import PEOPLE
from .state import APP_ID, CALLBACKS, State


class Phone:
    """The control API's logins on a phone, and a page to try them.

    The page shows a curl command and does not call the shop: for apps, the shop refuses calls from pages.
    """

    def __init__(self, state: State) -> None:
        self.state = state
        self.routes = [
            Route("/_standin/tokens", _make_endpoint(self.log_in_to_app), methods=["POST"]),
            Route("/_standin/mini_codes", _make_endpoint(self.log_in_to_mini_program), methods=["POST"]),
            Route("/_standin/phone", self.choose, methods=["GET"]),
            Route("/_standin/phone", self.show, methods=["POST"]),
        ]

    def log_in_to_app(self, document: Mapping[str, str]) -> dict[str, Any]:
        """Return the SDK's token, or its code for "kind": "code". An unknown client_id is a foreign app's."""
        person, client_id = _get(document, "person"), _get(document, "client_id", APP_ID)
        openid = self.state.get_openid(person, client_id)
        kind = _get(document, "kind", "token")
        if kind == "token":
            return {"access_token": self.state.add_token(client_id, person), "openid": openid}
        if kind == "code":
            is_given = self.state.behaviour["app_code_openid"] == "given"
            return {"code": self.state.add_code(client_id, person), "openid": openid if is_given else ""}
        raise ValueError("kind: must be token or code")

    def log_in_to_mini_program(self, document: Mapping[str, str]) -> dict[str, Any]:
        return {"code": self.state.add_mini_code(_get(document, "person"))}

    async def choose(self, request: Request) -> Response:
        return pages.phone(PEOPLE)

    async def show(self, request: Request) -> Response:
        """Log in as the form says, and show what the app gets and the call it sends to the shop's server."""
        fields = dict(parse_qsl((await request.body()).decode("utf-8", "replace")))
        person = fields.get("other") or fields.get("person") or next(iter(PEOPLE))
        login = fields.get("login", "token")
        if login == "mini":
            given = self.log_in_to_mini_program({"person": person})
        else:
            given = self.log_in_to_app({"person": person, "kind": "code" if login == "code" else "token"})
        name = "access_token" if "access_token" in given else "code"
        # The shop's address follows from its callback: /oauth/qq/callback/ is beside /oauth/qq/app/.
        callback = next(iter(self.state.callbacks), CALLBACKS[0]).partition("?")[0].rstrip("/")
        url = urljoin(callback, "mini/" if login == "mini" else "app/")
        return pages.phone_login(person, given, url, {name: given[name], "key": secrets.token_urlsafe(32)})


def _get(document: Mapping[str, str], name: str, default: str = "") -> str:
    value = document.get(name, default)
    if not isinstance(value, str) or not value:
        raise ValueError(f"{name}: must be a text")
    return value


def _make_endpoint(log_in: Callable[[Mapping[str, str]], dict[str, Any]]) -> Callable[[Request], Any]:
    """Return an endpoint that reads a JSON object, or answers 400 with what is wrong with it."""

    async def endpoint(request: Request) -> Response:
        try:
            document = json.loads(await request.body())
            if not isinstance(document, dict):
                raise ValueError("the body must be a JSON object")
            return JSONResponse(log_in(document))
        except ValueError as error:
            return JSONResponse({"message": str(error)}, 400)

    return endpoint

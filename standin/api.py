"""The part of QQ that a shop's server calls: token, me and get_user_info, each with the fault set for it."""

import json
import secrets
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from .authorize import redirect
from .behaviour import ANSWERING, Fault
from .errors import Refused, get_text
from .faults import GATEWAY_PAGE, FaultyResponse
from .people import format_user_info, make_unionid
from .state import Code, Fields, State, Token

CODE_SECONDS = 600
LOGIN_SECONDS = 90 * 24 * 3600  # refresh tokens prolong a login up to three months after it began

Handler = Callable[[Fields], str]


class ServerAPI:
    def __init__(self, state: State) -> None:
        self.state = state
        self.routes = [
            Route("/oauth2.0/token", self._make_endpoint("token", self.token), methods=["GET", "POST"]),
            Route("/oauth2.0/me", self._make_endpoint("me", self.me)),
            Route("/user/get_user_info", self._make_endpoint("get_user_info", self.get_user_info)),
        ]

    def token(self, fields: Fields) -> str:
        required = {"authorization_code": ("code", 100005), "refresh_token": ("refresh_token", 100006)}
        grant_type = fields.get("grant_type", "")
        if grant_type not in required:
            raise Refused(100004)
        for name, number in (("client_id", 100001), ("client_secret", 100002), required[grant_type]):
            if not fields.get(name):
                raise Refused(number)
        if fields["client_id"] != self.state.client_id:
            raise Refused(100008)
        if fields["client_secret"] != self.state.client_secret:
            raise Refused(100009)
        if grant_type == "refresh_token":
            return self._issue_tokens(fields, self._use_refresh_token(fields["refresh_token"]))

        code = self._use_code(fields["code"], fields.get("redirect_uri", ""))
        has_openid = fields.get("need_openid") == "1" and not self.state.behaviour["ignore_need_openid"]
        openid = {"openid": self.state.get_openid(code.person)} if has_openid else {}
        return self._issue_tokens(fields, self._make_token(code.person, code.scope, code.created_at), **openid)

    def me(self, fields: Fields) -> str:
        if not fields.get("access_token"):
            raise Refused(100007)
        token = self._get_token(fields["access_token"])
        answer = {
            "client_id": self.state.behaviour["client_id"] or self.state.client_id,
            "openid": self.state.get_openid(token.person),
        }
        if fields.get("unionid") == "1":
            if self.state.behaviour["unionid"] == "no_right":
                raise Refused(100048)
            answer["unionid"] = make_unionid(token.person)
        return _to_json(answer) if fields.get("fmt") == "json" else _to_jsonp(answer)

    def get_user_info(self, fields: Fields) -> str:
        for name in ("oauth_consumer_key", "openid"):
            if not fields.get(name):
                raise Refused(-1, f"client request's parameters are invalid, invalid {name}")
        openid = fields["openid"]
        known = self.state.tokens.get(fields.get("access_token", ""))
        is_well_formed = len(openid) == 32 and all(letter in "0123456789ABCDEFabcdef" for letter in openid)
        if not is_well_formed or (known and openid != self.state.get_openid(known.person)):
            raise Refused(-1)
        if not fields.get("access_token") or fields["oauth_consumer_key"] != self.state.client_id:
            raise Refused(1002)
        token = self._get_token(fields["access_token"])
        if "get_user_info" not in token.scope.split(","):
            raise Refused(100030)
        return format_user_info(token.person, self.state.client_id, openid)

    def _use_code(self, value: str, redirect_uri: str) -> Code:
        code = self.state.codes.get(value)
        # An unknown code has no redirect_uri of its own: any registered one passes.
        if redirect_uri != code.redirect_uri if code else not self.state.is_registered(redirect_uri):
            raise Refused(100010)
        if code is None or time.time() - code.created_at >= CODE_SECONDS:
            raise Refused(100019)
        if code.is_used:
            raise Refused(100020)
        self.state.codes[value] = replace(code, is_used=True)
        return code

    def _use_refresh_token(self, value: str) -> Token:
        access_token = self.state.refresh_tokens.pop(value, "")
        token = self.state.tokens.get(access_token)
        if token is None or time.time() - token.logged_in_at >= LOGIN_SECONDS:
            raise Refused(100021)
        self.state.tokens[access_token] = replace(token, is_revoked=True)
        return self._make_token(token.person, token.scope, token.logged_in_at)

    def _make_token(self, person: str, scope: str, logged_in_at: float) -> Token:
        return Token(person, scope, logged_in_at, expires_at=time.time() + self.state.behaviour["expires_in"])

    def _issue_tokens(self, fields: Fields, token: Token, **openid: Any) -> str:
        access_token, refresh_token = secrets.token_hex(16).upper(), secrets.token_hex(16).upper()
        self.state.tokens[access_token] = token
        self.state.refresh_tokens[refresh_token] = access_token
        expires_in: int = self.state.behaviour["expires_in"]
        answer = {
            "access_token": access_token,
            "expires_in": expires_in if self.state.behaviour["expires_in_number"] else str(expires_in),
            "refresh_token": refresh_token,
            **openid,
        }
        return _to_json(answer) if fields.get("fmt") == "json" else urlencode(answer, errors="surrogatepass")

    def _get_token(self, access_token: str) -> Token:
        token = self.state.tokens.get(access_token)
        if token is None:
            raise Refused(100013)
        if time.time() >= token.expires_at:
            raise Refused(100014)
        if token.is_revoked:
            raise Refused(100015)
        return token

    def _make_endpoint(self, name: str, handler: Handler) -> Callable[[Request], Any]:
        """Return an endpoint that answers by the handler, or as the fault set for this call says."""

        async def endpoint(request: Request) -> Response:
            fields: Fields = request.state.fields
            fault: Fault | None = self.state.behaviour[name]
            if fault is None:
                return self._answer(name, handler, fields)
            self.state.behaviour[name] = fault.count_down()
            if fault.fault in ANSWERING:
                return FaultyResponse(fault, self._answer(name, handler, fields))
            if fault.fault in ("html", "502"):
                status = 502 if fault.fault == "502" else 200
                return Response(GATEWAY_PAGE, status, {"content-type": "text/html"})
            if fault.fault == "redirect":
                elsewhere = f"{request.base_url}elsewhere?{request.scope['query_string'].decode('latin-1')}"
                return redirect(elsewhere if fault.location is None else fault.location)
            if fault.fault == "error":
                return self._make_response(self._format_error(name, Refused(fault.number), fields))
            if fault.fault in ("empty", "body"):
                return self._make_response(fault.body if fault.fault == "body" else "")
            return FaultyResponse(fault, Response())

        return endpoint

    def _answer(self, name: str, handler: Handler, fields: Fields) -> Response:
        try:
            return self._make_response(handler(fields))
        except Refused as refused:
            return self._make_response(self._format_error(name, refused, fields))

    def _format_error(self, name: str, refused: Refused, fields: Fields) -> str:
        text = refused.text or get_text(refused.number, fields.get("client_id", ""))
        if name == "get_user_info":
            return _to_json({"ret": refused.number, "msg": text.rstrip()})
        if fields.get("fmt") == "json" and self.state.behaviour["errors"] == "json":
            return _to_json({"error": refused.number, "error_description": text.rstrip()})
        return _to_jsonp({"error": refused.number, "error_description": text})

    def _make_response(self, text: str) -> Response:
        """Make an answer as QQ does: text/html whatever the format, status 200 even for an error."""
        content_type = "text/html; charset=utf-8" if self.state.behaviour["charset"] else "text/html"
        # A lone surrogate in a test's answer becomes invalid UTF-8, which QQ has been seen to send.
        body = text.encode("utf-8", "surrogatepass")
        return Response(body, headers={"content-type": content_type, "cache-control": "no-cache"})


def _to_json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _to_jsonp(value: object) -> str:
    return f"callback( {_to_json(value)} );\n"

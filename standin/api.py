"""The part of QQ that a shop's server calls, each call with the fault set for it."""

import base64
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
from .errors import MINI_TEXTS, Refused, get_text
from .faults import GATEWAY_PAGE, FaultyResponse
from .people import format_user_info
from .state import MINI_APP_ID, MINI_APP_SECRET, Code, Fields, State, Token, make_key

CODE_SECONDS = 600
MINI_CODE_SECONDS = 300
LOGIN_SECONDS = 90 * 24 * 3600  # refresh tokens prolong a login up to three months after it began
# A phone app has no callback. These stand in its place; whether QQ wants one is not documented.
PLACEHOLDERS = ("auth://www.qq.com", "auth://tauth.qq.com/")
APP_REDIRECT_URIS = {"optional": ("", *PLACEHOLDERS), "required": PLACEHOLDERS, "refused": ("",)}

Handler = Callable[[Fields], str]


class ServerAPI:
    def __init__(self, state: State) -> None:
        self.state = state
        self.routes = [
            Route("/oauth2.0/token", self._make_endpoint("token", self.token), methods=["GET", "POST"]),
            Route("/oauth2.0/me", self._make_endpoint("me", self.me)),
            Route("/user/get_user_info", self._make_endpoint("get_user_info", self.get_user_info)),
            Route("/sns/jscode2session", self._make_endpoint("jscode2session", self.jscode2session)),
        ]

    def token(self, fields: Fields) -> str:
        required = {"authorization_code": ("code", 100005), "refresh_token": ("refresh_token", 100006)}
        grant_type = fields.get("grant_type", "")
        if grant_type not in required:
            raise Refused(100004)
        for name, number in (("client_id", 100001), ("client_secret", 100002), required[grant_type]):
            if not fields.get(name):
                raise Refused(number)
        client_id = fields["client_id"]
        if client_id not in self.state.secrets:
            raise Refused(100008)
        if fields["client_secret"] != self.state.secrets[client_id]:
            raise Refused(100009)
        if grant_type == "refresh_token":
            token = self._use_refresh_token(fields["refresh_token"], client_id)
            access_token = self.state.add_token(client_id, token.person, token.scope, token.logged_in_at)
            return self._format_tokens(fields, access_token)

        code = self._use_code(fields["code"], fields.get("redirect_uri", ""), client_id)
        has_openid = fields.get("need_openid") == "1" and not self.state.behaviour["ignore_need_openid"]
        openid = {"openid": self.state.get_openid(code.person, client_id)} if has_openid else {}
        access_token = self.state.add_token(client_id, code.person, code.scope, code.created_at)
        return self._format_tokens(fields, access_token, **openid)

    def me(self, fields: Fields) -> str:
        if not fields.get("access_token"):
            raise Refused(100007)
        token = self._get_token(fields["access_token"])
        answer = {
            "client_id": self.state.behaviour["client_id"] or token.client_id,
            "openid": self.state.get_openid(token.person, token.client_id),
        }
        if fields.get("unionid") == "1":
            if self.state.behaviour["unionid"] == "no_right":
                raise Refused(100048)
            answer["unionid"] = self.state.get_unionid(token.person, token.client_id)
        return _to_json(answer) if fields.get("fmt") == "json" else _to_jsonp(answer)

    def get_user_info(self, fields: Fields) -> str:
        for name in ("oauth_consumer_key", "openid"):
            if not fields.get(name):
                raise Refused(-1, f"client request's parameters are invalid, invalid {name}")
        client_id, openid = fields["oauth_consumer_key"], fields["openid"]
        known = self.state.tokens.get(fields.get("access_token", ""))
        is_well_formed = len(openid) == 32 and all(letter in "0123456789ABCDEFabcdef" for letter in openid)
        if not is_well_formed or (known and openid != self.state.get_openid(known.person, known.client_id)):
            raise Refused(-1)
        is_applications = client_id == known.client_id if known else client_id in self.state.secrets
        if not fields.get("access_token") or not is_applications:
            raise Refused(1002)
        try:
            token = self._get_token(fields["access_token"])
        except Refused as refused:
            raise Refused(1002) if self.state.behaviour["user_info_token_error"] == "1002" else refused from None
        if "get_user_info" not in token.scope.split(","):
            raise Refused(100030)
        text = format_user_info(token.person, client_id, openid, self.state.behaviour)
        return _to_json(json.loads(text)) if self.state.behaviour["user_info_layout"] == "compact" else text

    def jscode2session(self, fields: Fields) -> str:
        # QQ documents only the error of a wrong code. The other numbers are those of WeChat's call of this name.
        if fields.get("appid") != MINI_APP_ID:
            raise Refused(40013)
        if fields.get("secret") != MINI_APP_SECRET:
            raise Refused(40125)
        if fields.get("grant_type") != "authorization_code":
            raise Refused(40002)
        code = self.state.mini_codes.pop(fields.get("js_code", ""), None)
        if code is None or time.time() - code.created_at >= MINI_CODE_SECONDS:
            raise Refused(40029)
        answer: dict[str, Any] = {"errcode": 0, "errmsg": ""} if self.state.behaviour["errcode_on_success"] else {}
        answer["openid"] = self.state.get_openid(code.person, MINI_APP_ID)
        answer["session_key"] = base64.b64encode(secrets.token_bytes(16)).decode()
        if self.state.behaviour["mini_unionid"] == "given":
            answer["unionid"] = self.state.get_unionid(code.person, MINI_APP_ID)
        return _to_json(answer)

    def _use_code(self, value: str, redirect_uri: str, client_id: str) -> Code:
        code = self.state.codes.get(value)
        if code is not None and code.client_id != client_id:
            code = None  # another application's code counts as unknown
        if client_id != self.state.client_id:
            is_right = redirect_uri in APP_REDIRECT_URIS[self.state.behaviour["app_redirect_uri"]]
        elif code is not None:
            is_right = redirect_uri == code.redirect_uri
        else:  # an unknown code has no redirect_uri of its own: any registered one passes
            is_right = self.state.is_registered(redirect_uri)
        if not is_right:
            raise Refused(100010)
        if code is None or time.time() - code.created_at >= CODE_SECONDS:
            raise Refused(100019)
        if code.is_used:
            raise Refused(100020)
        self.state.codes[value] = replace(code, is_used=True)
        return code

    def _use_refresh_token(self, value: str, client_id: str) -> Token:
        access_token = self.state.refresh_tokens.get(value, "")
        token = self.state.tokens.get(access_token)
        if token is None or token.client_id != client_id:
            raise Refused(100021)
        del self.state.refresh_tokens[value]
        if time.time() - token.logged_in_at >= LOGIN_SECONDS:
            raise Refused(100021)
        self.state.tokens[access_token] = replace(token, is_revoked=True)
        return token

    def _format_tokens(self, fields: Fields, access_token: str, **openid: Any) -> str:
        refresh_token = make_key()
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
        if name == "jscode2session":
            return _to_json({"errcode": refused.number, "errmsg": MINI_TEXTS.get(refused.number, "unknown error")})
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

"""The pretend graph.qq.com: what QQ's pages and calls answer, and the control calls under /_standin."""

import hashlib
import json
import secrets
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route, Router
from starlette.types import Receive, Scope, Send

from . import pages
from .behaviour import ANSWERING, DEFAULTS, GATEWAY_PAGE, Fault, Spoiled, read_behaviour

CLIENT_ID = "101000001"
CLIENT_SECRET = "00112233445566778899aabbccddeeff"
# Where the shop of this project listens; QQ has been seen to refuse a registered address with a final slash.
CALLBACKS = ("http://127.0.0.1:8000/oauth/qq/callback/", "http://127.0.0.1:8000/oauth/qq/callback")

CODE_SECONDS = 600
CHAIN_SECONDS = 90 * 24 * 3600  # refreshing keeps a login alive for three months, no longer

# The wording of QQ as captured, with the final blank some have in the callback form and on the error page.
TEXTS = {
    100001: "param client_id is wrong or lost ",
    100002: "param client_secret is wrong or lost ",
    100005: "param code is wrong or lost",
    100008: "client id is illegal, not exist [appid: {client_id}] ",
    100009: "client secret is illegal",
    100010: "redirect uri is illegal",
    100013: "access token is illegal",
    100016: "access token check failed",
    100019: "code to access token error",
    100020: "code is reused error",
    100021: "get access token error",
    100048: "companyid not set",
    1002: "请先登录",
    -1: "client request's parameters are invalid, invalid openid",
    # No capture is public: by the pattern of the others, or plain words.
    100000: "param response_type is wrong or lost",
    100004: "param grant_type is wrong or lost",
    100006: "param refresh_token is wrong or lost",
    100007: "param access_token is wrong or lost",
    100011: "app is not online",
    100014: "access token is expired",
    100015: "access token is revoked",
    100022: "get refresh token error",
    100030: "api is not authorized by user",
    100031: "app has no right to the api",
}

# Prepared people and their nicknames; anybody else is called what was typed.
PEOPLE = {"张小明": "张小明", "李思思": "李思思", "小企鹅🐧": "小企鹅🐧", "没有昵称的人": ""}

USER_INFO = """{
    "ret": 0,
    "msg": "",
    "is_lost":0,
    "nickname": %(nickname)s,
    "gender": "男",
    "gender_type": 2,
    "province": "广东",
    "city": "深圳",
    "year": "1990",
    "constellation": "",
    "figureurl": "http:\\/\\/qzapp.qlogo.cn\\/qzapp\\/%(client_id)s\\/%(openid)s\\/30",
    "figureurl_1": "http:\\/\\/qzapp.qlogo.cn\\/qzapp\\/%(client_id)s\\/%(openid)s\\/50",
    "figureurl_2": "http:\\/\\/qzapp.qlogo.cn\\/qzapp\\/%(client_id)s\\/%(openid)s\\/100",
    "figureurl_qq_1": "http://thirdqq.qlogo.cn/g?b=oidb&k=%(avatar)s&s=40&t=1557635654",
    "figureurl_qq_2": "http://thirdqq.qlogo.cn/g?b=oidb&k=%(avatar)s&s=100&t=1557635654",
    "figureurl_qq": "http://thirdqq.qlogo.cn/g?b=oidb&k=%(avatar)s&s=640&t=1557635654",
    "figureurl_type": "1",
    "is_yellow_vip": "0",
    "vip": "0",
    "yellow_vip_level": "0",
    "level": "0",
    "is_yellow_year_vip": "0"
}"""

Fields = dict[str, str]


@dataclass(frozen=True)
class Code:
    person: str
    redirect_uri: str
    scope: str
    time: float
    is_used: bool = False


@dataclass(frozen=True)
class Token:
    person: str
    scope: str
    login_time: float
    end_time: float
    is_revoked: bool = False


class Refused(Exception):
    """QQ says no: its error number, and its text where it is not the usual one."""

    def __init__(self, number: int, text: str | None = None) -> None:
        self.number = number
        self.text = text


def openid_of(person: str) -> str:
    return hashlib.md5(person.encode()).hexdigest().upper()


def unionid_of(person: str) -> str:
    return "UID_" + hashlib.md5(b"unionid " + person.encode()).hexdigest().upper()


def _new_secret() -> str:
    return secrets.token_hex(16).upper()


def _as_json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _as_callback(value: object) -> str:
    return f"callback( {_as_json(value)} );\n"


def _redirect(location: str) -> Response:
    location = quote(location, safe=":/?#[]@!$&'()*+,;=%~")  # what is escaped already stays as it is
    return Response(status_code=302, headers={"location": location, "cache-control": "no-cache"})


class StandIn:
    """One QQ with one registered application; everything it knows is gone when it is."""

    def __init__(
        self, callbacks: Iterable[str] = CALLBACKS, client_id: str = CLIENT_ID, client_secret: str = CLIENT_SECRET
    ) -> None:
        self.callbacks = tuple(callbacks)
        self.client_id = client_id
        self.client_secret = client_secret
        self.forget()
        self.router = Router(
            [
                Route("/", self.index),
                Route("/oauth2.0/authorize", self.authorize, methods=["GET"]),
                Route("/oauth2.0/authorize", self.decide, methods=["POST"]),
                Route("/oauth2.0/show", self.show),
                Route("/oauth2.0/token", self._call("token", self.token), methods=["GET", "POST"]),
                Route("/oauth2.0/me", self._call("me", self.me)),
                Route("/user/get_user_info", self._call("get_user_info", self.get_user_info)),
                Route("/_standin", self.reset, methods=["DELETE"]),
                Route("/_standin/behaviour", self.change_behaviour, methods=["PUT"]),
                Route("/_standin/requests", self.list_requests),
            ],
            redirect_slashes=False,
        )

    def forget(self) -> None:
        self.codes: dict[str, Code] = {}
        self.tokens: dict[str, Token] = {}
        self.refresh_tokens: dict[str, str] = {}  # each leads to its access token and is taken out when used
        self.requests: list[dict[str, Any]] = []
        self.behaviour = dict(DEFAULTS)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Record the call, then let the routes answer it; what it asks is left in `request.state.fields`."""
        if scope["type"] != "http":
            return
        request = Request(scope, receive)
        if not scope["path"].startswith(("/_standin", "/favicon.ico")):
            # Of a name given twice the last value counts; a form's fields join those of the address.
            request.state.fields = fields = dict(request.query_params)
            arrived = time.time()
            if request.method == "POST":
                try:
                    body = await request.body()
                except ClientDisconnect:
                    return
                fields.update(parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True))
            self.requests.append(
                {
                    "method": request.method,
                    "path": scope["path"],
                    "query": dict(fields),
                    "headers": dict(request.headers),
                    "time": arrived,
                }
            )
        await self.router(scope, receive, send)

    # The pages.

    async def index(self, request: Request) -> Response:
        return pages.index(self.client_id, self.callbacks)

    async def authorize(self, request: Request) -> Response:
        query: str = request.scope["query_string"].decode("latin-1")
        fields: Fields = request.state.fields
        try:
            self._check_authorize(fields)
        except Refused as refused:
            return self._error_page(request, refused.number, query)
        return _redirect(f"{request.base_url}oauth2.0/show?which=Login&display={_display(fields)}&{query}")

    async def decide(self, request: Request) -> Response:
        """The login page comes back: the query it was opened with, and `person` or `cancel`."""
        fields: Fields = request.state.fields
        person = fields.pop("person", "")
        is_cancelled = bool(fields.pop("cancel", ""))
        try:
            self._check_authorize(fields)
        except Refused as refused:
            return self._error_page(request, refused.number, urlencode(fields))
        if is_cancelled:
            if _display(fields) == "pc":
                return _redirect(f"{request.base_url}oauth2.0/show?which=closed")
            return self._callback(fields, usercancel="1")
        if not person:
            return _redirect(f"{request.base_url}oauth2.0/authorize?{urlencode(fields)}")
        code = _new_secret()
        scope = fields.get("scope") or "get_user_info"
        self.codes[code] = Code(person, fields["redirect_uri"], scope, time.time())
        return self._callback(fields, code=code)

    async def show(self, request: Request) -> Response:
        query = parse_qsl(request.scope["query_string"].decode("latin-1"), keep_blank_values=True)
        shown = dict(reversed(query))  # ours stand in front of the original ones, so the first counts here
        which = shown.get("which")
        if which == "closed":
            return pages.closed()
        if which == "Login":
            return pages.login(query[2:], PEOPLE, self.client_id)
        number = shown.get("error", "")
        text = _text(int(number), shown.get("client_id", "")) if number in map(str, TEXTS) else "unknown error"
        return pages.error(f"{text}({number})", shown.get("redirect_uri", ""), self.callbacks)

    def _check_authorize(self, fields: Fields) -> None:
        if fields.get("response_type") != "code":
            raise Refused(100000)
        if not fields.get("client_id"):
            raise Refused(100001)
        if fields["client_id"] != self.client_id:
            raise Refused(100008)
        if not self._is_registered(fields.get("redirect_uri", "")):
            raise Refused(100010)
        if not self.behaviour["online"]:
            raise Refused(100011)

    def _is_registered(self, redirect_uri: str) -> bool:
        """Scheme, host, port and path must be those of a registered callback; a query is free, a # forbidden."""
        registered = {callback.partition("?")[0] for callback in self.callbacks}
        return "#" not in redirect_uri and redirect_uri.partition("?")[0] in registered

    def _callback(self, fields: Fields, **added: str) -> Response:
        redirect_uri = fields["redirect_uri"]
        if "state" in fields:
            added["state"] = fields["state"]
        join = "&" if "?" in redirect_uri else "?"
        return _redirect(redirect_uri + join + urlencode(added, quote_via=quote))

    def _error_page(self, request: Request, number: int, query: str) -> Response:
        display = _display(request.state.fields)
        return _redirect(f"{request.base_url}oauth2.0/show?which=error&display={display}&error={number}&{query}")

    # The calls of a shop's server.

    def token(self, fields: Fields) -> str:
        needed = {"authorization_code": ("code", 100005), "refresh_token": ("refresh_token", 100006)}
        grant_type = fields.get("grant_type", "")
        if grant_type not in needed:
            raise Refused(100004)
        for name, number in (("client_id", 100001), ("client_secret", 100002), needed[grant_type]):
            if not fields.get(name):
                raise Refused(number)
        if fields["client_id"] != self.client_id:
            raise Refused(100008)
        if fields["client_secret"] != self.client_secret:
            raise Refused(100009)
        if grant_type == "refresh_token":
            return self._token_answer(fields, self._use_refresh_token(fields["refresh_token"]))

        code = self._use_code(fields["code"], fields.get("redirect_uri", ""))
        with_openid = fields.get("need_openid") == "1" and not self.behaviour["ignore_need_openid"]
        openid = {"openid": self._openid(code.person)} if with_openid else {}
        return self._token_answer(fields, self._new_token(code.person, code.scope, code.time), **openid)

    def _use_code(self, value: str, redirect_uri: str) -> Code:
        code = self.codes.get(value)
        # Without a code there is no address to compare with, only the registered ones.
        if redirect_uri != code.redirect_uri if code else not self._is_registered(redirect_uri):
            raise Refused(100010)
        if code is None or time.time() - code.time >= CODE_SECONDS:
            raise Refused(100019)
        if code.is_used:
            raise Refused(100020)
        self.codes[value] = replace(code, is_used=True)
        return code

    def _use_refresh_token(self, value: str) -> Token:
        access_token = self.refresh_tokens.pop(value, "")
        token = self.tokens.get(access_token)
        if token is None or time.time() - token.login_time >= CHAIN_SECONDS:
            raise Refused(100021)
        self.tokens[access_token] = replace(token, is_revoked=True)
        return self._new_token(token.person, token.scope, token.login_time)

    def _new_token(self, person: str, scope: str, login_time: float) -> Token:
        return Token(person, scope, login_time, end_time=time.time() + self.behaviour["expires_in"])

    def _token_answer(self, fields: Fields, token: Token, **openid: Any) -> str:
        access_token, refresh_token = _new_secret(), _new_secret()
        self.tokens[access_token] = token
        self.refresh_tokens[refresh_token] = access_token
        lifetime: int = self.behaviour["expires_in"]
        as_number = self.behaviour["expires_in_number"]
        answer = {
            "access_token": access_token,
            "expires_in": lifetime if as_number else str(lifetime),
            "refresh_token": refresh_token,
            **openid,
        }
        return _as_json(answer) if fields.get("fmt") == "json" else urlencode(answer, errors="surrogatepass")

    def me(self, fields: Fields) -> str:
        if not fields.get("access_token"):
            raise Refused(100007)
        token = self._good_token(fields["access_token"])
        answer = {"client_id": self.behaviour["client_id"] or self.client_id, "openid": self._openid(token.person)}
        if fields.get("unionid") == "1":
            if self.behaviour["unionid"] == "no_right":
                raise Refused(100048)
            answer["unionid"] = unionid_of(token.person)
        return _as_json(answer) if fields.get("fmt") == "json" else _as_callback(answer)

    def get_user_info(self, fields: Fields) -> str:
        for name in ("oauth_consumer_key", "openid"):
            if not fields.get(name):
                raise Refused(-1, f"client request's parameters are invalid, invalid {name}")
        openid = fields["openid"]
        known = self.tokens.get(fields.get("access_token", ""))
        is_well_formed = len(openid) == 32 and all(letter in "0123456789ABCDEFabcdef" for letter in openid)
        if not is_well_formed or (known and openid != self._openid(known.person)):
            raise Refused(-1)
        if not fields.get("access_token") or fields["oauth_consumer_key"] != self.client_id:
            raise Refused(1002)
        token = self._good_token(fields["access_token"])
        if "get_user_info" not in token.scope.split(","):
            raise Refused(100030)
        return USER_INFO % {
            "nickname": json.dumps(PEOPLE.get(token.person, token.person), ensure_ascii=False),
            "client_id": self.client_id,
            "openid": openid,
            "avatar": hashlib.md5(b"avatar " + token.person.encode()).hexdigest()[:22],
        }

    def _good_token(self, access_token: str) -> Token:
        token = self.tokens.get(access_token)
        if token is None:
            raise Refused(100013)
        if time.time() >= token.end_time:
            raise Refused(100014)
        if token.is_revoked:
            raise Refused(100015)
        return token

    def _openid(self, person: str) -> Any:
        return self.behaviour.get("openid", openid_of(person))

    def _call(self, name: str, handler: Callable[[Fields], str]) -> Callable[[Request], Any]:
        """Make the endpoint: the handler's answer, or what the fault set for it makes of that."""

        async def endpoint(request: Request) -> Response:
            fields: Fields = request.state.fields
            fault: Fault | None = self.behaviour[name]
            if fault is None:
                return self._answer(name, handler, fields)
            self.behaviour[name] = fault.used_once()
            if fault.fault in ANSWERING:
                return Spoiled(fault, self._answer(name, handler, fields))
            if fault.fault in ("html", "502"):
                status = 502 if fault.fault == "502" else 200
                return Response(GATEWAY_PAGE, status, {"content-type": "text/html"})
            if fault.fault == "redirect":
                elsewhere = f"{request.base_url}elsewhere?{request.scope['query_string'].decode('latin-1')}"
                return _redirect(elsewhere if fault.location is None else fault.location)
            if fault.fault == "error":
                return self._response(self._error(name, Refused(fault.number), fields))
            if fault.fault in ("empty", "body"):
                return self._response(fault.body if fault.fault == "body" else "")
            return Spoiled(fault, Response())

        return endpoint

    def _answer(self, name: str, handler: Callable[[Fields], str], fields: Fields) -> Response:
        try:
            return self._response(handler(fields))
        except Refused as refused:
            return self._response(self._error(name, refused, fields))

    def _error(self, name: str, refused: Refused, fields: Fields) -> str:
        text = refused.text or _text(refused.number, fields.get("client_id", ""))
        if name == "get_user_info":
            return _as_json({"ret": refused.number, "msg": text.rstrip()})
        if fields.get("fmt") == "json" and self.behaviour["errors"] == "json":
            return _as_json({"error": refused.number, "error_description": text.rstrip()})
        return _as_callback({"error": refused.number, "error_description": text})

    def _response(self, text: str) -> Response:
        """QQ's calls say text/html whatever they send, and 200 whatever went wrong."""
        content_type = "text/html; charset=utf-8" if self.behaviour["charset"] else "text/html"
        # A lone surrogate that a test puts into an answer goes out as the broken bytes QQ has been seen to send.
        body = text.encode("utf-8", "surrogatepass")
        return Response(body, headers={"content-type": content_type, "cache-control": "no-cache"})

    # The control calls.

    async def change_behaviour(self, request: Request) -> Response:
        try:
            changes = read_behaviour(json.loads(await request.body()))
        except ValueError as error:
            return JSONResponse({"message": str(error)}, 400)
        self.behaviour.update(changes)
        shown = {key: asdict(value) if isinstance(value, Fault) else value for key, value in self.behaviour.items()}
        return Response(json.dumps(shown), media_type="application/json")

    async def list_requests(self, request: Request) -> Response:
        return JSONResponse(self.requests)

    async def reset(self, request: Request) -> Response:
        self.forget()
        return Response(status_code=204)


def _display(fields: Fields) -> str:
    return "mobile" if fields.get("display") == "mobile" else "pc"


def _text(number: int, client_id: str) -> str:
    return TEXTS.get(number, "unknown error").replace("{client_id}", client_id)

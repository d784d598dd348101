"""The memory of one stand-in: its registered applications, and the codes, tokens and requests since the last reset."""

import secrets
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from .behaviour import DEFAULTS
from .people import make_openid, make_unionid

# The web application.
CLIENT_ID = "101000001"
CLIENT_SECRET = "00112233445566778899aabbccddeeff"
# The phone app and the mini program of the same developer. QQ gives newer applications shorter keys.
APP_ID = "1106000001"
APP_SECRET = "SamplePhoneKey01"
MINI_APP_ID = "1109000001"
MINI_APP_SECRET = "SampleMiniKey001"
# The demo shop's callback. QQ has been seen to refuse a registered address that ends in a slash, so both are here.
CALLBACKS = ("http://127.0.0.1:8000/oauth/qq/callback/", "http://127.0.0.1:8000/oauth/qq/callback")

Fields = dict[str, str]  # the parameters of a request


@dataclass(frozen=True)
class Code:
    client_id: str
    person: str
    redirect_uri: str  # "" for a phone app
    scope: str
    created_at: float
    is_used: bool = False


@dataclass(frozen=True)
class MiniCode:
    person: str
    created_at: float


@dataclass(frozen=True)
class Token:
    client_id: str
    person: str
    scope: str
    logged_in_at: float
    expires_at: float
    is_revoked: bool = False


def make_key() -> str:
    """Return a new code or token."""
    return secrets.token_hex(16).upper()


class State:
    def __init__(self, callbacks: Iterable[str], client_id: str, client_secret: str) -> None:
        self.callbacks = tuple(callbacks)
        self.client_id = client_id
        self.client_secret = client_secret
        self.secrets = {APP_ID: APP_SECRET, client_id: client_secret}  # of the applications that redeem OAuth codes
        self.reset()

    def reset(self) -> None:
        self.codes: dict[str, Code] = {}
        self.mini_codes: dict[str, MiniCode] = {}  # removed when used
        self.tokens: dict[str, Token] = {}
        self.refresh_tokens: dict[str, str] = {}  # refresh token -> its access token; removed when used
        self.requests: list[dict[str, Any]] = []
        self.behaviour = dict(DEFAULTS)

    def is_registered(self, redirect_uri: str) -> bool:
        """Compare scheme, host, port and path with the registered callbacks. Any query is allowed, no fragment."""
        registered = {callback.partition("?")[0] for callback in self.callbacks}
        return "#" not in redirect_uri and redirect_uri.partition("?")[0] in registered

    def get_openid(self, person: str, client_id: str) -> Any:
        own = make_openid(person, "" if client_id == self.client_id else client_id)
        return self.behaviour.get("openid", own)

    def get_unionid(self, person: str, client_id: str) -> str:
        """Return the person's unionid: one for all applications of a developer."""
        is_ours = client_id in (*self.secrets, MINI_APP_ID)
        return make_unionid(person, "" if is_ours else client_id)

    def add_code(self, client_id: str, person: str, redirect_uri: str = "", scope: str = "get_user_info") -> str:
        code = make_key()
        self.codes[code] = Code(client_id, person, redirect_uri, scope, time.time())
        return code

    def add_mini_code(self, person: str) -> str:
        code = make_key()
        self.mini_codes[code] = MiniCode(person, time.time())
        return code

    def add_token(
        self, client_id: str, person: str, scope: str = "get_user_info", logged_in_at: float | None = None
    ) -> str:
        now = time.time()
        access_token = make_key()
        self.tokens[access_token] = Token(
            client_id,
            person,
            scope,
            logged_in_at=now if logged_in_at is None else logged_in_at,
            expires_at=now + self.behaviour["expires_in"],
        )
        return access_token

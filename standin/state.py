"""The memory of one stand-in: its registered application, and the codes, tokens and requests since the last reset."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from .behaviour import DEFAULTS
from .people import make_openid

CLIENT_ID = "101000001"
CLIENT_SECRET = "00112233445566778899aabbccddeeff"
# The demo shop's callback. QQ has been seen to refuse a registered address that ends in a slash, so both are here.
CALLBACKS = ("http://127.0.0.1:8000/oauth/qq/callback/", "http://127.0.0.1:8000/oauth/qq/callback")

Fields = dict[str, str]  # the parameters of a request


@dataclass(frozen=True)
class Code:
    person: str
    redirect_uri: str
    scope: str
    created_at: float
    is_used: bool = False


@dataclass(frozen=True)
class Token:
    person: str
    scope: str
    logged_in_at: float
    expires_at: float
    is_revoked: bool = False


class State:
    def __init__(self, callbacks: Iterable[str], client_id: str, client_secret: str) -> None:
        self.callbacks = tuple(callbacks)
        self.client_id = client_id
        self.client_secret = client_secret
        self.reset()

    def reset(self) -> None:
        self.codes: dict[str, Code] = {}
        self.tokens: dict[str, Token] = {}
        self.refresh_tokens: dict[str, str] = {}  # refresh token -> its access token; removed when used
        self.requests: list[dict[str, Any]] = []
        self.behaviour = dict(DEFAULTS)

    def is_registered(self, redirect_uri: str) -> bool:
        """Compare scheme, host, port and path with the registered callbacks. Any query is allowed, no fragment."""
        registered = {callback.partition("?")[0] for callback in self.callbacks}
        return "#" not in redirect_uri and redirect_uri.partition("?")[0] in registered

    def get_openid(self, person: str) -> Any:
        return self.behaviour.get("openid", make_openid(person))

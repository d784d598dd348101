"""QQ Connect's OAuth 2.0 for one registered application: a website, or a phone app whose server exchanges the code."""

import logging
from typing import Any
from urllib.parse import quote_plus, urlencode

from .answers import OPENID, TOKEN, UNIONID, get_field
from .errors import NO_UNIONID_RIGHT, QQForeignToken, QQMisconfigured, QQUnavailable
from .upstream import API_URL, Client, Exchange, QQIdentity

logger = logging.getLogger(__name__)


class OAuthExchange(Exchange):
    """An exchange of OAuthQQ."""

    _client: "OAuthQQ"

    def get_access_token(self, code: str) -> str:
        return get_field(self._request_token(code), "access_token", TOKEN)

    def get_openid(self, access_token: str) -> str:
        return self._request_me(access_token).openid

    def identify(self, proof: str) -> QQIdentity:
        unionid = self._client.unionid
        answer = self._request_token(proof, "&need_openid=1")
        access_token = get_field(answer, "access_token", TOKEN)
        # QQ may omit the openid though it was requested.
        openid = get_field(answer, "openid", OPENID) if answer.get("openid") else None
        if openid and not unionid:
            return QQIdentity(openid=openid, client_id=self._client.client_id, access_token=access_token)
        return self._identify_by_token(access_token, openid, unionid=unionid)

    def _identify_by_token(self, access_token: str, openid: str | None, *, unionid: bool) -> QQIdentity:
        """Return the identity that /me gives. `openid`: the one already known, which must be the same."""
        try:
            identity = self._request_me(access_token, unionid=unionid)
        except QQMisconfigured as exc:
            if exc.number != NO_UNIONID_RIGHT:
                raise
            # Without the right to the unionid, QQ does not answer with the openid either. At most three requests.
            if openid:
                return QQIdentity(openid=openid, client_id=self._client.client_id, access_token=access_token)
            identity = self._request_me(access_token, retry=False)
        if openid and openid != identity.openid:
            raise QQUnavailable("two different openids for one code")
        return identity

    def _request_token(self, code: str, more: str = "") -> dict[str, Any]:
        return self._get("/oauth2.0/token", f"{self._client.token_query}&code={quote_plus(code)}{more}")

    def _request_me(self, access_token: str, *, unionid: bool = False, retry: bool = True) -> QQIdentity:
        query = urlencode({"access_token": access_token, "fmt": "json"} | ({"unionid": "1"} if unionid else {}))
        try:
            answer = self._get("/oauth2.0/me", query)
        except QQUnavailable as exc:
            if exc.number is not None or not retry:
                raise
            answer = self._get("/oauth2.0/me", query)  # unlike a code, an access_token can be used twice
        client_id = answer.get("client_id")
        if not isinstance(client_id, str) or client_id not in self._client.client_ids:
            # A token issued to another application must not log its owner in here (RFC 6749, 10.16).
            logger.error("QQ says the access_token belongs to another client_id than ours.")
            raise QQForeignToken("a token of another client_id")
        return QQIdentity(
            openid=get_field(answer, "openid", OPENID),
            unionid=get_field(answer, "unionid", UNIONID) if unionid and answer.get("unionid") else None,
            client_id=client_id,
            access_token=access_token,
        )


class OAuthQQ(Client[OAuthExchange]):
    """A registered application's client of QQ. Every method that calls QQ raises QQError."""

    exchange_class = OAuthExchange

    def __init__(
        self,
        *,
        client_id: str,
        client_secret: str,
        redirect_uri: str,
        api_url: str = API_URL,
        timeout: float = 5.0,
        max_concurrency: int = 48,
        unionid: bool = False,
    ) -> None:
        """Take the application's data as registered with QQ.

        `timeout`: seconds for all requests of an exchange. `max_concurrency`: exchanges at once in this process.
        `unionid`: also ask for the unionid, which takes one more request.
        """
        super().__init__(api_url=api_url, timeout=timeout, max_concurrency=max_concurrency)
        self.client_id = client_id
        self.client_ids = frozenset({client_id})  # the applications whose tokens are accepted
        self.redirect_uri = redirect_uri
        self.unionid = unionid
        # The part that all token requests share, encoded once. Contains the secret.
        self.token_query = urlencode(
            {
                "grant_type": "authorization_code",
                "client_id": client_id,
                "client_secret": client_secret,
                "redirect_uri": redirect_uri,
                "fmt": "json",
            }
        )

    def get_authorization_url(self, state: str, *, mobile: bool = False) -> str:
        """Return the address of QQ's login page, in its phone layout if `mobile`."""
        params = {
            "response_type": "code",
            "client_id": self.client_id,
            "redirect_uri": self.redirect_uri,
            "state": state,
            "scope": "get_user_info",
        }
        if mobile:
            params["display"] = "mobile"
        return f"{self.api_url}/oauth2.0/authorize?{urlencode(params)}"

    def get_access_token(self, code: str) -> str:
        """Exchange the authorization code, which QQ accepts once, for an access_token."""
        with self.exchange() as exchange:
            return exchange.get_access_token(code)

    def get_openid(self, access_token: str) -> str:
        """Return the openid of an access_token that was issued to this application."""
        with self.exchange() as exchange:
            return exchange.get_openid(access_token)

"""QQ's SDKs for phones. The app logs in through QQ's own app and sends our server what the SDK has returned.

Facts: 特殊问题-top10 (verify the token on the server) and Server-Side登录模式 (the SDK returns a code).
"""

from collections.abc import Iterable
from typing import Any
from urllib.parse import quote_plus, urlencode

from .client import OAuthExchange, OAuthQQ
from .errors import QQForeignAppToken, QQForeignToken, QQMisconfigured
from .upstream import QQIdentity

REDIRECT_URI = "auth://www.qq.com"  # what authors report QQ to accept for phones; the wiki calls it optional
BAD_REDIRECT_URI = 100010


class PhoneTokenExchange(OAuthExchange):
    """An exchange of PhoneTokenQQ."""

    def identify(self, proof: str) -> QQIdentity:
        try:
            return self._identify_by_token(proof, None, unionid=self._client.unionid)
        except QQForeignToken as exc:
            raise QQForeignAppToken(str(exc)) from None


class PhoneTokenQQ(OAuthQQ):
    """Checks an access_token that an app has got from QQ's SDK."""

    exchange_class = PhoneTokenExchange

    def __init__(self, client_ids: Iterable[str], **options: Any) -> None:
        """Take the APP IDs of the shop's own apps, and the options of OAuthQQ."""
        super().__init__(client_id="", client_secret="", redirect_uri="", **options)
        self.client_ids = frozenset(client_ids)


class PhoneCodeExchange(OAuthExchange):
    """An exchange of PhoneCodeQQ."""

    _client: "PhoneCodeQQ"

    def _request_token(self, code: str, more: str = "") -> dict[str, Any]:
        try:
            return super()._request_token(code, more)
        except QQMisconfigured as exc:
            if exc.number != BAD_REDIRECT_URI:
                raise
        query = f"{self._client.token_query_without_redirect}&code={quote_plus(code)}{more}"
        return self._get("/oauth2.0/token", query)


class PhoneCodeQQ(OAuthQQ):
    """Exchanges the code of the SDK's loginServerSide, which QQ accepts once."""

    exchange_class = PhoneCodeExchange

    def __init__(self, client_id: str, client_secret: str, **options: Any) -> None:
        super().__init__(client_id=client_id, client_secret=client_secret, redirect_uri=REDIRECT_URI, **options)
        self.token_query_without_redirect = self.token_query.replace(
            f"&{urlencode({'redirect_uri': REDIRECT_URI})}", ""
        )

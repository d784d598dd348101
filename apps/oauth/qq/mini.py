"""QQ's mini programs: jscode2session turns the code of qq.login() into an openid.

Facts: QQ's mini program pages (登录, code2Session).
"""

from typing import Any
from urllib.parse import urlencode

from .answers import OPENID, UNIONID, decode_answer, get_field
from .errors import QQError, QQRejected, QQUnavailable
from .upstream import Client, Exchange, QQIdentity

MINI_API_URL = "https://api.q.qq.com"
INVALID_CODE = 40029  # the user's; the other documented ones, -1 and 45011, are QQ's


class MiniExchange(Exchange):
    """An exchange of MiniQQ."""

    _client: "MiniQQ"

    def identify(self, proof: str) -> QQIdentity:
        query = urlencode({**self._client.credentials, "js_code": proof, "grant_type": "authorization_code"})
        # The answer also holds the session_key, which is not read: it decrypts data of the user that no login needs.
        answer = self._get("/sns/jscode2session", query, decode_mini_answer)
        return QQIdentity(
            openid=get_field(answer, "openid", OPENID),
            unionid=get_field(answer, "unionid", UNIONID) if self._client.unionid and answer.get("unionid") else None,
            client_id=self._client.client_id,
        )


class MiniQQ(Client[MiniExchange]):
    """A registered mini program's client of QQ."""

    exchange_class = MiniExchange
    service = "mini"

    def __init__(
        self,
        *,
        client_id: str,
        client_secret: str,
        api_url: str = MINI_API_URL,
        unionid: bool = False,
        **options: Any,
    ) -> None:
        """Take the mini program's own AppID and secret, which are none of QQ Connect's, and the options of Client.

        `unionid`: also return the unionid, which the answer has if the mini program belongs to a QQ Connect account.
        """
        super().__init__(api_url=api_url, **options)
        self.client_id = client_id
        self.unionid = unionid
        self.credentials = {"appid": client_id, "secret": client_secret}


def decode_mini_answer(body: bytes) -> dict[str, Any]:
    return decode_answer(body, number_names=("errcode",), make_error=make_mini_error)


def make_mini_error(number: int) -> QQError:
    error_class = QQRejected if number == INVALID_CODE else QQUnavailable
    return error_class(f"QQ answered with error {number}", number)

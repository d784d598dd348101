"""get_user_info: nickname and avatar, to greet a user with. Never needed for a login.

Facts: the wiki's get_user_info.
"""

import re
import unicodedata
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote, urlencode, urlsplit

from .upstream import API_URL, Client, Exchange, QQIdentity

MAX_NICKNAME = 64  # characters
MAX_AVATAR = 512  # characters, as in the binding's column
AVATAR = re.compile(r"https?://[\w.~:/?#@!$&()*+,;=%-]+", re.ASCII)  # nothing that could end an attribute of HTML
AVATAR_HOST = re.compile(r"(?:[a-z0-9-]+\.)*qlogo\.cn")
# Formatting characters that emoji and Asian scripts need: the joiners. The others turn the direction of text around.
JOINERS = "\u200c\u200d"


@dataclass(frozen=True, slots=True)
class Profile:
    nickname: str = ""
    avatar: str = ""  # an https URL without the openid, or ""


class ProfileExchange(Exchange):
    """An exchange of ProfileQQ."""

    def get_profile(self, identity: QQIdentity) -> Profile:
        query = {"access_token": identity.access_token, "oauth_consumer_key": identity.client_id}
        answer = self._get("/user/get_user_info", urlencode({**query, "openid": identity.openid}))
        return Profile(clean_nickname(answer.get("nickname")), choose_avatar(answer, identity.openid))


class ProfileQQ(Client[ProfileExchange]):
    """Asks QQ for profiles, with few slots and a circuit breaker of its own: its failures must not stop logins."""

    exchange_class = ProfileExchange
    service = "profile"
    share = 0.25

    def __init__(self, *, api_url: str = API_URL, timeout: float = 2.0, max_concurrency: int = 48) -> None:
        super().__init__(api_url=api_url, timeout=timeout, max_concurrency=max_concurrency)

    def get_profile(self, identity: QQIdentity) -> Profile:
        """Return the profile of a user whose access_token QQ has just issued."""
        with self.exchange() as exchange:
            return exchange.get_profile(identity)


def clean_nickname(nickname: Any) -> str:
    """Return the nickname as one line of text that cannot disturb the text around it; "" if there is none."""
    if not isinstance(nickname, str):
        return ""
    is_text = (char in JOINERS or unicodedata.category(char) not in ("Cc", "Cf", "Cs", "Zl", "Zp") for char in nickname)
    kept = "".join(char for char, kept in zip(nickname, is_text, strict=True) if kept)
    return " ".join(kept[: 4 * MAX_NICKNAME].split())[:MAX_NICKNAME]


def choose_avatar(answer: dict[str, Any], openid: str) -> str:
    """Return the largest avatar as an https URL; "" if each has the openid, which identifies the user, or is not QQ's.

    QQ writes http, and its servers answer https as well.
    """
    for name in ("figureurl_qq_2", "figureurl_qq_1"):
        url = answer.get(name)
        if not isinstance(url, str) or not AVATAR.fullmatch(url) or openid.lower() in unquote(url).lower():
            continue
        try:
            parts = urlsplit(url)
            host, port = parts.hostname or "", parts.port
        except ValueError:
            continue
        secure = parts._replace(scheme="https", netloc=host, fragment="").geturl()
        if port is None and not parts.username and AVATAR_HOST.fullmatch(host) and len(secure) <= MAX_AVATAR:
            return secure
    return ""

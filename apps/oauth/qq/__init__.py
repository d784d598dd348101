"""QQ Connect's OAuth 2.0. Imports neither Django nor the shop.

The facts about QQ come from its wiki: 使用Authorization_Code获取Access_Token, 获取用户OpenID_OAuth2.0,
UnionID介绍 and 公共返回码说明.
"""

from .client import OAuthQQ
from .errors import (
    QQBusy,
    QQCertificateError,
    QQCircuitOpen,
    QQError,
    QQForeignAppToken,
    QQForeignToken,
    QQMisconfigured,
    QQRejected,
    QQUnavailable,
)
from .mini import MINI_API_URL, MiniQQ
from .phone import PhoneCodeQQ, PhoneTokenQQ
from .profile import Profile, ProfileQQ
from .resilience import CIRCUIT_STATES
from .upstream import API_URL, Client, Exchange, QQIdentity, count_slots_in_use, forget_connections, get_circuits

__all__ = [
    "API_URL",
    "CIRCUIT_STATES",
    "MINI_API_URL",
    "Client",
    "Exchange",
    "MiniQQ",
    "OAuthQQ",
    "PhoneCodeQQ",
    "PhoneTokenQQ",
    "Profile",
    "ProfileQQ",
    "QQBusy",
    "QQCertificateError",
    "QQCircuitOpen",
    "QQError",
    "QQForeignAppToken",
    "QQForeignToken",
    "QQIdentity",
    "QQMisconfigured",
    "QQRejected",
    "QQUnavailable",
    "count_slots_in_use",
    "forget_connections",
    "get_circuits",
]

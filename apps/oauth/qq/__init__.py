"""QQ Connect's OAuth 2.0. Imports neither Django nor the shop.

The facts about QQ come from its wiki: 使用Authorization_Code获取Access_Token, 获取用户OpenID_OAuth2.0,
UnionID介绍 and 公共返回码说明.
"""

from .client import API_URL, Exchange, OAuthQQ, QQIdentity, forget_connections
from .errors import (
    QQBusy,
    QQCertificateError,
    QQCircuitOpen,
    QQError,
    QQForeignToken,
    QQMisconfigured,
    QQRejected,
    QQUnavailable,
)

__all__ = [
    "API_URL",
    "Exchange",
    "OAuthQQ",
    "QQBusy",
    "QQCertificateError",
    "QQCircuitOpen",
    "QQError",
    "QQForeignToken",
    "QQIdentity",
    "QQMisconfigured",
    "QQRejected",
    "QQUnavailable",
    "forget_connections",
]

"""The errors that have a code: its status, and its sentence for the user."""

import math

from django.utils.translation import gettext_noop as _
from rest_framework.exceptions import APIException

from .language import translate

# Seconds. For the database: locks and full connections pass sooner, restarts and failovers later.
RETRY_AFTER = {"cache_unavailable": 2, "database_unavailable": 5}

# code: (status, sentence). The sentence says what happened and what the user does next.
ERRORS = {
    "code_missing": (400, _("没有收到 QQ 的登录凭证，请在这个浏览器里再点一次 QQ 登录。")),
    "code_invalid": (400, _("登录链接已失效，请在这个浏览器里再点一次 QQ 登录。")),
    "state_missing": (400, _("登录链接不完整，请在这个浏览器里再点一次 QQ 登录。")),
    "state_invalid": (400, _("这次登录不是从这个浏览器发起的，或已超时，请在这个浏览器里再点一次 QQ 登录。")),
    "state_used": (400, _("登录链接已经用过，请在这个浏览器里再点一次 QQ 登录。")),
    "user_cancelled": (400, _("您取消了 QQ 登录。可以再点一次 QQ 登录，或用其他方式登录。")),
    "qq_rejected": (400, _("QQ 没有通过这次登录，请再点一次 QQ 登录。")),
    "qq_busy": (503, _("正在登录的人太多，请稍等片刻再试。")),
    "qq_unavailable": (503, _("QQ 暂时没有响应，请稍后再点一次 QQ 登录。")),
    "qq_misconfigured": (503, _("本店的 QQ 登录暂时不可用，请先用其他方式登录。")),
    "cache_unavailable": (503, _("登录服务暂时不可用，请稍后再试。")),
    "database_unavailable": (503, _("服务暂时不可用，请稍后再试。")),
    "account_refused": (403, _("这个账号不能使用 QQ 登录，请联系客服。")),
    "bind_token_missing": (400, _("缺少绑定凭证，请再点一次 QQ 登录。")),
    "bind_token_invalid": (400, _("绑定凭证已失效，请在这个浏览器里再点一次 QQ 登录。")),
    "bind_tries": (400, _("尝试次数过多，请再点一次 QQ 登录重新开始。")),
    "already_bound": (400, _("这个 QQ 已经绑定了账号，请再点一次 QQ 登录直接进入。")),
    "last_login_method": (400, _("这是账号唯一的登录方式。请先设置密码或绑定另一个 QQ，再解除绑定。")),
    "key_used": (400, _("这次登录已经用过，请再点一次 QQ 登录。")),
    "invalid": (400, _("请求内容有误，请检查后重试。")),
    "throttled": (429, _("操作太频繁，请稍后再试。")),
}


class QQLoginError(APIException):
    """An error of ERRORS, by its code."""

    def __init__(
        self,
        code: str,
        *,
        status: int | None = None,
        wait: float | None = None,
        reason: str | None = None,
        flow_id: str | None = None,
        number: int | None = None,
        message: str | None = None,
        fields: dict[str, str] | None = None,
    ) -> None:
        """Name the error.

        `status`: an HTTP status other than the table's. `wait`: seconds until the same call is worth another try, other
        than those of RETRY_AFTER.
        `reason`: the audit log's text in place of the code. `flow_id`: the login that the refused value belongs to.
        `number`: QQ's own, for the audit log. `message`: a sentence other than the table's. `fields`: of the body,
        beside the sentence and the code.
        """
        super().__init__(message or get_message(code), code)
        self.code = code
        self.status_code = status or ERRORS[code][0]
        self.wait = RETRY_AFTER.get(code) if wait is None else wait
        self.reason = reason or code
        self.flow_id = flow_id
        self.number = number
        self.fields = fields or {}


class CacheUnavailable(QQLoginError):
    """The cache remembers or counts nothing: nobody passes."""

    def __init__(self) -> None:
        super().__init__("cache_unavailable")


class DatabaseUnavailable(QQLoginError):
    """The database cannot answer now; database.py says when that is."""

    def __init__(self) -> None:
        super().__init__("database_unavailable")


class BodyTooLarge(APIException):
    status_code = 413

    def __init__(self) -> None:
        super().__init__(translate(_("请求内容太大。")))


def get_message(code: str) -> str:
    """Return the sentence of ERRORS in the active language."""
    return translate(ERRORS[code][1])


def get_retry_after(error: APIException) -> dict[str, str]:
    """Return the Retry-After header of an error whose call is worth another try; else no header."""
    wait: float | None = getattr(error, "wait", None)  # DRF's Throttled has one too
    return {} if wait is None else {"Retry-After": str(max(1, math.ceil(wait)))}

"""Whom QQ names for a flow's code: QQ is asked once a flow, however often and wherever the page asks us."""

import logging
import time
from collections.abc import Callable, Mapping
from functools import cache

from rest_framework.request import Request

from .audit import record
from .conf import conf
from .errors import QQLoginError
from .flow import COOKIELESS_SEALED_LIFE, Flow
from .qq import (
    OAuthQQ,
    QQBusy,
    QQError,
    QQForeignToken,
    QQIdentity,
    QQMisconfigured,
    QQRejected,
    QQUnavailable,
)

logger = logging.getLogger(__name__)

QQ_ERRORS: dict[type[QQError], str] = {
    QQMisconfigured: "qq_misconfigured",
    QQRejected: "qq_rejected",
    QQForeignToken: "qq_unavailable",
    QQUnavailable: "qq_unavailable",
}


def make_client() -> OAuthQQ:
    return _client(
        client_id=conf.CLIENT_ID,
        client_secret=conf.CLIENT_SECRET,
        redirect_uri=conf.REDIRECT_URI,
        api_url=conf.API_URL,
        timeout=conf.TIMEOUT,
        max_connections=conf.MAX_CONNECTIONS,
        unionid=conf.UNIONID,
    )


_client = cache(OAuthQQ)  # one for the settings there are


def identify(request: Request, flow: Flow, code: str | None, count: Callable[[], None]) -> QQIdentity:
    """Return whom QQ names for the code, or for the one callback/ kept. QQ is asked once a flow, however often we are.

    `count` is called, maybe twice, unless this is the call that takes the code to QQ. Raises QQLoginError, and what
    `count` does: ConnectionError too, for a cache that is gone and did not say so.
    """
    said, kept_code, is_back = flow.get_many("said", "code", "turned_away")
    code = code or kept_code
    if said is not None or is_back or code is None:
        count()
    if said is None:
        if code is None:
            raise QQLoginError("code_invalid")
        qq = make_client()
        try:
            with qq.exchange(bool(is_back)):
                taken_by = flow.claim(code)
                if taken_by is None:
                    said = _ask(qq, request, flow, code)
            if taken_by is not None:
                count()
            if taken_by == flow.id:
                with qq.waiting():
                    said = _wait(flow)
        except QQBusy as exc:
            flow.put("turned_away", True)
            # Without the cookie a sealed code does not live as long as some are told to wait.
            wait = exc.wait if flow.key else min(exc.wait, COOKIELESS_SEALED_LIFE - 10)
            raise QQLoginError("qq_busy", wait=wait) from exc
        except QQUnavailable as exc:  # left alone for a while: nothing was sent, and the flow is as it was
            count()
            raise QQLoginError("qq_unavailable") from exc
        if said is None:  # another flow has been to QQ with it
            flow.put("said", {"error": "code_invalid"})
            raise QQLoginError("code_invalid")
    if flow.key is None and not flow.add("collected", True):
        raise QQLoginError("code_invalid")  # without the cookie a sealed code works once
    if "error" in said:
        raise QQLoginError(said["error"])
    return QQIdentity(**said)


def _ask(qq: OAuthQQ, request: Request, flow: Flow, code: str) -> Mapping[str, str | None]:
    """Take the code to QQ, and note for whoever asks again what it said."""
    said: dict[str, str | None]
    try:
        identity = qq.identify(code)
        said = {"openid": identity.openid, "unionid": identity.unionid}
    except QQError as exc:
        level = logging.ERROR if isinstance(exc, QQMisconfigured) else logging.WARNING
        logger.log(level, "QQ did not name a person: %s: %s", type(exc).__name__, exc)
        outcome = "alarm" if isinstance(exc, (QQForeignToken, QQMisconfigured)) else "refused"
        record(request, "qq", outcome, reason=type(exc).__name__, number=exc.number)
        said = {"error": QQ_ERRORS[type(exc)]}
    flow.put("said", said)
    return said


def _wait(flow: Flow) -> Mapping[str, str | None]:
    """Wait for what QQ says to the call that asked first; not past the time that call has."""
    ends = time.monotonic() + conf.TIMEOUT + 1
    while time.monotonic() < ends:
        said: dict[str, str | None] | None = flow.get("said")
        if said is not None:
            return said
        time.sleep(0.05)
    gone = {"error": "qq_unavailable"}  # that worker has died
    flow.add("said", gone)
    return gone

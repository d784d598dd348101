"""Whom QQ names for a flow's code: QQ is asked once a flow, however often and wherever the page asks us."""

import logging
import time
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

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
        max_connections=conf.MAX_CONCURRENCY,
        unionid=conf.UNIONID,
    )


_client = cache(OAuthQQ)  # one for the settings there are


def identify(request: Request, flow: Flow, code: str | None, count: Callable[[], None]) -> QQIdentity:
    """Return whom QQ names for the code the page brought, or for the one callback/ kept.

    `count` is called unless this is the call that takes the code to QQ, or the flow's first that finds no place for it.
    Raises QQLoginError, and what `count` does: ConnectionError too, for a cache that is gone and did not say so.
    """
    qq, said, refusal = make_client(), None, None
    try:
        with qq.exchange(lambda: bool(flow.get("turned_away"))):
            fresh_code = flow.take("code") if code is None else _claim(flow, code)
            if fresh_code is not None:
                said = _ask(qq, request, flow, fresh_code)
    except (QQBusy, QQUnavailable) as exc:  # nothing was sent, and the flow is as it was
        refusal = exc
    if said is None:
        said = _recall(qq, flow, refusal, count)
    if flow.key is None and not flow.add("collected", True):
        raise QQLoginError("code_invalid")  # without the cookie a sealed code works once
    if "error" in said:
        raise QQLoginError(said["error"])
    return QQIdentity(**said)


def _claim(flow: Flow, code: str) -> str | None:
    """Return the code if this call is to take it to QQ, None if another one of the flow's is."""
    claimed_by = flow.claim(code)
    if claimed_by not in (None, flow.id):
        raise QQLoginError("code_invalid")
    return code if claimed_by is None else None


def _ask(qq: OAuthQQ, request: Request, flow: Flow, code: str) -> Mapping[str, Any]:
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


def _recall(qq: OAuthQQ, flow: Flow, refusal: QQError | None, count: Callable[[], None]) -> Mapping[str, Any]:
    """Return what QQ says to the call that asks, or asked, in place of this one."""
    said: Mapping[str, Any] | None = flow.get("said")
    is_first_refusal = said is None and isinstance(refusal, QQBusy) and flow.add("turned_away", True)
    if not is_first_refusal:
        count()
    if said is not None:
        return said
    if isinstance(refusal, QQBusy):
        wait = qq.promise()
        # Without the cookie a sealed code does not live as long as some are told to wait.
        raise QQLoginError("qq_busy", wait=wait if flow.key else min(wait, COOKIELESS_SEALED_LIFE - 10)) from refusal
    if refusal is not None:  # QQ is left alone for a while
        raise QQLoginError("qq_unavailable") from refusal
    if flow.get("state") is None:
        raise QQLoginError("code_invalid")  # nobody has taken the code either: the cache has lost the flow
    try:
        with qq.waiting():
            return _wait(flow)
    except QQBusy as exc:
        raise QQLoginError("qq_busy", wait=1) from exc


def _wait(flow: Flow) -> Mapping[str, Any]:
    """Wait for what QQ says to the call that asks; not past the time that call has."""
    ends = time.monotonic() + conf.TIMEOUT + 1
    while time.monotonic() < ends:
        said: Mapping[str, Any] | None = flow.get("said")
        if said is not None:
            return said
        time.sleep(0.05)
    gone = {"error": "qq_unavailable"}  # that worker has died
    return gone if flow.add("said", gone) else flow.get("said") or gone

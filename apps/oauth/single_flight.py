"""QQ is asked once per flow, however often and at however many workers the page asks us."""

import logging
import time
from functools import cache

from rest_framework.request import Request

from .audit import Event, record
from .conf import conf
from .errors import QQLoginError
from .flow.flow import Flow
from .flow.lifetimes import COOKIELESS_SEALED_CODE
from .flow.store import CodeClaim, Outcome
from .qq import (
    Exchange,
    OAuthQQ,
    QQBusy,
    QQCircuitOpen,
    QQError,
    QQForeignToken,
    QQIdentity,
    QQMisconfigured,
    QQRejected,
    QQUnavailable,
)
from .ratelimit import RateLimit

logger = logging.getLogger(__name__)

POLL_INTERVAL = 0.05  # seconds between two looks of a follower

ERROR_CODES: dict[type[QQError], str] = {
    QQMisconfigured: "qq_misconfigured",
    QQRejected: "qq_rejected",
    QQForeignToken: "qq_unavailable",
    QQUnavailable: "qq_unavailable",
}


def make_client() -> OAuthQQ:
    """Return the client for the current settings, the same object as long as they do not change."""
    return _make_client(
        client_id=conf.CLIENT_ID,
        client_secret=conf.CLIENT_SECRET,
        redirect_uri=conf.REDIRECT_URI,
        api_url=conf.API_URL,
        timeout=conf.TIMEOUT,
        max_concurrency=conf.MAX_CONCURRENCY,
        unionid=conf.UNIONID,
    )


_make_client = cache(OAuthQQ)


def resolve_identity(request: Request, flow: Flow, code: str | None, rate_limit: RateLimit) -> QQIdentity:
    """Return the user that QQ names for a flow.

    `code`: QQ's code where the page brings it itself (direct mode); None to take the one that callback/ kept.
    `rate_limit` counts each call that brings nothing new to QQ, except the flow's first rejection.
    Raises QQLoginError, RateLimited and CacheUnavailable.
    """
    outcome = _SingleFlight(request, flow, rate_limit).resolve(code)
    if flow.key is None and not flow.store.redeem_sealed_code():
        raise QQLoginError("code_invalid")  # without the cookie a sealed code works once
    if outcome.identity is None:
        raise QQLoginError(outcome.error or "qq_unavailable")
    return outcome.identity


class _SingleFlight:
    """One call of users/: it leads (asks QQ), follows (waits for the leader) or replays (QQ has answered)."""

    def __init__(self, request: Request, flow: Flow, rate_limit: RateLimit) -> None:
        self.request = request
        self.flow = flow
        self.store = flow.store
        self.rate_limit = rate_limit
        self.client = make_client()

    def resolve(self, code: str | None) -> Outcome:
        """Return what QQ said about the flow, asking it if no call has."""
        try:
            # The slot comes first: once popped, a code must go to QQ.
            with self.client.exchange() as exchange:
                fresh_code = self.store.pop_code() if code is None else self.claim(code)
                if fresh_code is not None:
                    return self.lead(exchange, fresh_code)
        except QQBusy as exc:
            outcome = self.store.get_outcome()
            if outcome is not None or not self.store.mark_rejected():
                self.rate_limit.hit(self.request)
            if outcome is None:
                raise self.reject(self.client.reserve()) from exc
            return outcome
        except QQCircuitOpen as exc:
            self.rate_limit.hit(self.request)
            outcome = self.store.get_outcome()
            if outcome is None:
                raise QQLoginError("qq_unavailable") from exc
            return outcome
        self.rate_limit.hit(self.request)
        return self.store.get_outcome() or self.follow()

    def claim(self, code: str) -> str | None:
        """Return the code if this call leads with it, None if another call of this flow does."""
        claim = self.store.claim_code(code)
        if claim is CodeClaim.FOREIGN:
            raise QQLoginError("code_invalid")
        return code if claim is CodeClaim.FIRST else None

    def lead(self, exchange: Exchange, code: str) -> Outcome:
        """Take the code to QQ, and save the outcome for repeats and followers."""
        try:
            outcome = Outcome(exchange.identify(code))
        except QQError as exc:
            is_alarm = isinstance(exc, (QQForeignToken, QQMisconfigured))
            level = logging.ERROR if isinstance(exc, QQMisconfigured) else logging.WARNING
            reason = type(exc).__name__
            logger.log(level, "QQ did not name a user: %s: %s", reason, exc)
            record(self.request, Event.QQ, "alarm" if is_alarm else "refused", reason=reason, number=exc.number)
            outcome = Outcome(error=ERROR_CODES[type(exc)])
        self.store.save_outcome(outcome)
        return outcome

    def follow(self) -> Outcome:
        """Wait until the leader has QQ's answer, but no longer than a leader may take."""
        if self.store.get_redeemed_query() is None:
            raise QQLoginError("code_invalid")  # the cache has lost the flow: there is no leader
        try:
            with self.client.follower_slot():
                ends = time.monotonic() + conf.TIMEOUT + 1
                while time.monotonic() < ends:
                    outcome = self.store.get_outcome()
                    if outcome is not None:
                        return outcome
                    time.sleep(POLL_INTERVAL)
        except QQBusy as exc:
            raise self.reject(1) from exc
        return self.store.settle_outcome(Outcome(error="qq_unavailable"))  # the leader's worker has died

    def reject(self, wait: float) -> QQLoginError:
        """Return the error for a call that found no slot: the page repeats it after `wait` seconds."""
        # Without the cookie the sealed code must still be alive by then.
        return QQLoginError("qq_busy", wait=wait if self.flow.key else min(wait, COOKIELESS_SEALED_CODE - 10))

"""QQ is asked once per flow, even if several workers get the page's call."""

import logging
import time
from contextlib import suppress
from typing import Any

from .audit import Event, Step, get_milliseconds
from .conf import conf
from .errors import CacheUnavailable, QQLoginError
from .flow.flow import Flow
from .flow.lifetimes import COOKIELESS_SEALED_CODE
from .flow.store import CodeClaim, Outcome
from .qq import (
    Client,
    Exchange,
    QQBusy,
    QQCertificateError,
    QQCircuitOpen,
    QQError,
    QQForeignAppToken,
    QQForeignToken,
    QQIdentity,
    QQMisconfigured,
    QQRejected,
)
from .ratelimit import RateLimit

logger = logging.getLogger(__name__)

POLL_INTERVAL = 0.05  # seconds between two cache reads of a follower

ERROR_CODES: dict[type[QQError], str] = {  # every other one: qq_unavailable
    QQMisconfigured: "qq_misconfigured",
    QQRejected: "qq_rejected",
    QQForeignAppToken: "qq_rejected",
}


def resolve_identity(
    step: Step,
    flow: Flow,
    client: Client[Any],
    proof: str | None,
    *,
    is_reusable: bool = False,
    rate_limit: RateLimit | None = None,
) -> QQIdentity:
    """Return the identity that QQ gives for a flow's code or token.

    `step`: the step of the audit log that this call belongs to. It gets `qq_ms` if this call asks QQ.
    `proof`: what the caller itself has sent; None to take the code that callback/ kept. `is_reusable`: it is no code
    but a token, which other logins may send too.
    `rate_limit`: counts this call, unless it leads or is the flow's first that found no slot. None: the caller has
    counted the call already.
    Raises QQLoginError, RateLimited and CacheUnavailable.
    """
    outcome = _SingleFlight(step, flow, client, rate_limit).resolve(proof, is_reusable)
    if outcome.identity is None:
        raise QQLoginError(outcome.error or "qq_unavailable")
    return outcome.identity


class _SingleFlight:
    """One call of users/: it leads (asks QQ), follows (waits for the leader) or replays (returns the saved outcome)."""

    def __init__(self, step: Step, flow: Flow, client: Client[Any], rate_limit: RateLimit | None) -> None:
        self.step = step
        self.flow = flow
        self.store = flow.store
        self.rate_limit = rate_limit
        self.client = client

    def resolve(self, proof: str | None, is_reusable: bool) -> Outcome:
        """Return QQ's answer about the flow; ask QQ if no call has."""
        # Calls that found no slot go before new ones. The cache is asked only while some are expected.
        is_new = self.client.expects_retries() and not self.store.was_rejected()
        try:
            # Take the slot before the code: a popped code cannot be put back.
            with self.client.exchange(is_new=is_new) as exchange:
                fresh = self.store.pop_code() if proof is None else self.claim(proof, is_reusable)
                if fresh is not None:
                    return self.lead(exchange, fresh)
        except (QQBusy, QQCircuitOpen) as exc:
            return self.replay(exc)
        self.count()
        return self.store.get_outcome() or self.follow()

    def count(self) -> None:
        if self.rate_limit is not None:
            self.rate_limit.hit(self.step.request)

    def claim(self, proof: str, is_reusable: bool) -> str | None:
        """Return the proof if this call leads with it, None if another call of this flow does."""
        if is_reusable:
            return proof if self.store.claim_token() else None
        claim = self.store.claim_code(proof)
        if claim is CodeClaim.FOREIGN:
            raise QQLoginError("qq_rejected" if self.flow.is_app else "code_invalid")
        return proof if claim is CodeClaim.FIRST else None

    def lead(self, exchange: Exchange, proof: str) -> Outcome:
        """Take the proof to QQ, and save the outcome for repeats and followers."""
        try:
            outcome = Outcome(self.ask(exchange, proof))
        except QQError as exc:
            is_alarm = isinstance(exc, (QQCertificateError, QQForeignToken, QQMisconfigured))
            level = logging.WARNING if isinstance(exc, QQForeignToken) or not is_alarm else logging.ERROR
            reason = type(exc).__name__
            logger.log(level, "QQ did not name a user: %s: %s", reason, exc, extra={"flow": self.flow.id})
            self.step.record(Event.QQ, "alarm" if is_alarm else "refused", reason=reason, number=exc.number)
            outcome = Outcome(error=ERROR_CODES.get(type(exc), "qq_unavailable"))
        with suppress(CacheUnavailable):  # the answer is in hand, so this call goes on
            self.store.save_outcome(outcome)
        return outcome

    def ask(self, exchange: Exchange, proof: str) -> QQIdentity:
        started = time.perf_counter()
        try:
            return exchange.identify(proof)
        finally:
            self.step.add(qq_ms=get_milliseconds(started))

    def replay(self, refusal: QQBusy | QQCircuitOpen) -> Outcome:
        """Return the saved outcome, as QQ cannot be called now; raise qq_busy or qq_unavailable if there is none."""
        outcome = self.store.get_outcome()
        is_first_rejection = outcome is None and isinstance(refusal, QQBusy) and self.store.mark_rejected()
        if not is_first_rejection:
            self.count()
        if outcome is not None:
            return outcome
        if isinstance(refusal, QQBusy):
            raise self.make_busy_error(self.client.schedule_retry()) from refusal
        raise QQLoginError("qq_unavailable") from refusal

    def follow(self) -> Outcome:
        """Wait until the leader has QQ's answer, but no longer than a leader may take."""
        if not self.store.is_state_redeemed():
            raise QQLoginError("code_invalid")  # the cache has lost the flow: there is no leader
        self.store.check_writable()  # otherwise the leader could not save its answer either
        try:
            with self.client.follower_slot():
                ends = time.monotonic() + conf.TIMEOUT + 1
                while time.monotonic() < ends:
                    outcome = self.store.get_outcome()
                    if outcome is not None:
                        return outcome
                    time.sleep(POLL_INTERVAL)
        except QQBusy as exc:
            raise self.make_busy_error(1) from exc
        # The leader's worker has died, or the cache did not take its answer.
        return self.store.settle_outcome(Outcome(error="cache_unavailable"))

    def make_busy_error(self, wait: float) -> QQLoginError:
        """Return the error for a call that found no slot: the page repeats it after `wait` seconds."""
        # Without the cookie the sealed code is too short-lived for a longer wait.
        return QQLoginError("qq_busy", wait=wait if self.flow.key else min(wait, COOKIELESS_SEALED_CODE - 10))

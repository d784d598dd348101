"""The cache entries of a flow, one named method each."""

import json
import time
from dataclasses import asdict, dataclass
from enum import Enum
from typing import Any

from django.utils.crypto import constant_time_compare

from .. import cache
from ..qq import Profile, QQIdentity
from .lifetimes import REMEMBERED, REMEMBERED_CODE, REMEMBERED_FORM, REPEATED_FORM, REPEATED_RETURN
from .signing import hash_text, hash_with_each_secret_key


@dataclass(frozen=True)
class Outcome:
    """QQ's answer about a flow: the identity, or the code of our error."""

    identity: QQIdentity | None = None
    error: str | None = None


class CodeClaim(Enum):
    FIRST = "no flow has sent this code before"
    REPEATED = "this flow has sent it before"
    FOREIGN = "another flow has sent it before"


class FlowStore:
    """The memory of one flow, shared by all workers, so that each step happens once.

    stage       entered by               remembered
    started     login/                   nothing: the state is in the cookie only
    returned    callback/                state redeemed, by which query, with which sealed code, for a repeat within a
                                         minute; QQ's code, claimed for this flow
    asking      the first users/ call    the code is popped: that call leads, others follow
    answered    QQ's answer              the outcome, which repeats replay
    bound       POST users/, bindings/   the form, for a repeat within a minute

    An app's flow begins with its call of app/ or mini/, which redeems the app's key as a state and then asks.

    Each entry outlives every value that can refer to it. All methods raise CacheUnavailable.
    """

    def __init__(self, flow_id: str) -> None:
        self.flow_id = flow_id

    # started -> returned

    def redeem_state(self, query_hash: str, sealed_code: str | None = None) -> bool:
        """Use the state up. Return False if it was used before.

        `query_hash`: the hash of the query that QQ sent the browser back with; a repeat must have the same.
        `sealed_code`: what callback/ is about to hand out. Saved in the same step, so that of two calls at once the
        second one finds it.
        """
        return self._add("state", {"query": query_hash, "sealed_code": sealed_code, "time": time.time()})

    def is_state_redeemed(self) -> bool:
        return self._get("state") is not None

    def is_redeemed_by(self, query_hash: str, within: float = float("inf")) -> bool:
        """Return whether the state was redeemed with this query, at most `within` seconds ago."""
        saved = self._get("state")
        return saved is not None and saved["query"] == query_hash and time.time() - saved["time"] <= within

    def get_sealed_code(self, query_hash: str) -> str | None:
        """Return the sealed code that callback/ handed out for this query within the last minute, else None."""
        saved = self._get("state")
        if saved is None or saved["query"] != query_hash or time.time() - saved["time"] > REPEATED_RETURN:
            return None
        sealed_code: str | None = saved["sealed_code"]
        return sealed_code

    def save_next(self, next: str) -> None:
        """Remember the page to return to, for a shop whose calls carry no cookie."""
        self._set("next", next)

    def get_next(self) -> str | None:
        next: str | None = self._get("next")
        return next

    def claim_code(self, code: str) -> CodeClaim:
        """Claim QQ's code for this flow: a code goes to QQ once, whichever flow sends it."""
        # With every key: during a key rotation some servers know the old key only. Sorted, so that two flows at once
        # cannot each claim one of two entries.
        for digest in sorted({*hash_with_each_secret_key("qq-login.seen-code", code)}):
            key = f"qq-login:code:{digest}"
            if not cache.add(key, self.flow_id, REMEMBERED):
                return CodeClaim.REPEATED if cache.get(key) == self.flow_id else CodeClaim.FOREIGN
        return CodeClaim.FIRST

    def claim_token(self) -> bool:
        """Claim the token that an app has sent for this flow. Another flow may send it too: QQ's last for months."""
        return self._add("token", True)

    def save_code(self, code: str) -> None:
        self._set("code", code, REMEMBERED_CODE)

    # returned -> asking -> answered

    def pop_code(self) -> str | None:
        """Return QQ's code to one caller, who leads; None to every other."""
        code: str | None = cache.pop(self._key("code"))
        return code

    def mark_rejected(self) -> bool:
        """Note that a call found no free slot. Return whether it is the flow's first."""
        return self._add("rejected", True)

    def was_rejected(self) -> bool:
        return self._get("rejected") is not None

    def save_outcome(self, outcome: Outcome) -> None:
        self._set("outcome", _to_dict(outcome))

    def get_outcome(self) -> Outcome | None:
        saved: dict[str, Any] | None = self._get("outcome")
        if saved is None:
            return None
        return Outcome(error=saved["error"]) if "error" in saved else Outcome(QQIdentity(**saved))

    def settle_outcome(self, outcome: Outcome) -> Outcome:
        """Save the outcome unless there is one. Return the one that counts."""
        return outcome if self._add("outcome", _to_dict(outcome)) else self.get_outcome() or outcome

    def check_writable(self) -> None:
        """Raise CacheUnavailable if the cache takes no writes, though it may still answer reads."""
        self._set("follower", True)

    def redeem_sealed_code(self) -> bool:
        """Use the sealed code up, which without a cookie works once. Return False if it was used before."""
        return self._add("sealed-code", True)

    def save_profile(self, profile: Profile) -> None:
        self._set("profile", asdict(profile))

    def get_profile(self) -> Profile | None:
        saved: dict[str, str] | None = self._get("profile")
        return None if saved is None else Profile(**saved)

    # answered -> bound

    def count_form(self) -> int:
        return cache.increment(self._key("bind-attempts"), REMEMBERED)

    def refund_form(self) -> None:
        cache.decrement(self._key("bind-attempts"))

    def save_binding(self, form: Any, user_id: Any) -> None:
        """Remember which form was bound to which user, in case the browser sends it again."""
        self._set(_name_binding(user_id), {"form": _hash_form(form), "time": time.time()}, REMEMBERED_FORM)

    def is_repeated_binding(self, form: Any, user_id: Any) -> bool:
        """Return whether this flow bound the very same form to this user within the last minute."""
        saved = self._get(_name_binding(user_id))
        return (
            saved is not None
            and constant_time_compare(saved["form"], _hash_form(form))
            and time.time() - saved["time"] <= REPEATED_FORM
        )

    def _add(self, name: str, value: Any) -> bool:
        return cache.add(self._key(name), value, REMEMBERED)

    def _set(self, name: str, value: Any, seconds: int = REMEMBERED) -> None:
        cache.set(self._key(name), value, seconds)

    def _get(self, name: str) -> Any:
        return cache.get(self._key(name))

    def _key(self, name: str) -> str:
        return f"qq-login:{self.flow_id}:{name}"


def _to_dict(outcome: Outcome) -> dict[str, str | None]:
    # Not the object itself: the worker that reads it may run another version of this code.
    if outcome.identity is None:
        return {"error": outcome.error}
    identity = outcome.identity
    return {"openid": identity.openid, "unionid": identity.unionid, "client_id": identity.client_id}


def _name_binding(user_id: Any) -> str:
    # One note for each user: the loser of a race between two servers of a cluster notes its own user, whom the commit
    # then refuses, and must not overwrite the winner's note.
    return f"binding:{hash_text(str(user_id))[:12]}"


def _hash_form(form: Any) -> str:
    return hash_with_each_secret_key("qq-login.form", json.dumps(form, sort_keys=True))[0]

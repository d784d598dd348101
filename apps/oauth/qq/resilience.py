"""Limits on the calls to a server that may be slow or down. Every time here is on the monotonic clock."""

import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

FAILURE_THRESHOLD = 5  # failures in a row open the circuit; any success resets the count
FAILURE_WINDOW = 10  # seconds within which they occur
RECOVERY_TIMEOUT = 30  # seconds until a probe
CIRCUIT_STATES = ("closed", "open", "half_open")

RETRY_SHARE = 0.9  # of the slots that become free are announced to rejected callers
KEPT_SHARE = 0.25  # of the slots is kept for rejected callers while any of them is expected
MAX_RETRY_WAIT = 50.0  # seconds: two of them and the page's own delays fit into the life of a sealed code


class Deadline:
    """A time budget that starts with the first use."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._end: float | None = None

    def remaining(self) -> float:
        """Return the seconds left; raises TimeoutError if there are none."""
        now = time.monotonic()
        if self._end is None:
            self._end = now + self._seconds
        seconds = self._end - now
        if seconds <= 0:
            raise TimeoutError
        return seconds


class BulkheadFull(Exception):
    """All slots are in use."""


class Slot:
    """A slot in use."""

    def __init__(self) -> None:
        self.taken_at = time.monotonic()
        self.is_measured = False  # set by the caller: whether this slot's duration counts in the mean


class Bulkhead:
    """At most `size` calls at once, so that a slow server does not occupy every thread of the process."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._lock = threading.Lock()
        self._in_use: dict[Slot, None] = {}  # the oldest first
        self._mean_duration = 0.0  # seconds; a moving average
        self._last_retry = 0.0  # the time given to the most recently rejected caller

    @property
    def in_use(self) -> int:
        return len(self._in_use)

    def expects_retries(self) -> bool:
        """Return whether the time given to a rejected caller is still to come."""
        return self._last_retry > time.monotonic()

    @contextmanager
    def slot(self, *, is_new: bool = False) -> Iterator[Slot]:
        """Take a slot; raises BulkheadFull at once if there is none.

        `is_new`: this caller was not rejected before, so it leaves some slots to those that were and are expected.
        """
        slot = Slot()
        with self._lock:
            kept = int(self._size * KEPT_SHARE) if is_new and self.expects_retries() else 0
            if len(self._in_use) >= self._size - kept:
                raise BulkheadFull
            self._in_use[slot] = None
        try:
            yield slot
        finally:
            with self._lock:
                del self._in_use[slot]
                if slot.is_measured:
                    seconds = time.monotonic() - slot.taken_at
                    self._mean_duration += (seconds - self._mean_duration) / 8 if self._mean_duration else seconds

    def schedule_retry(self) -> float:
        """Return the seconds after which a rejected caller should try again.

        Each caller gets a later time than the one before, at the rate at which slots become free.
        """
        with self._lock:
            now = time.monotonic()
            # When the server has just become slow, the oldest slot in use shows it sooner than the mean.
            oldest = next(iter(self._in_use), None)
            duration = max(self._mean_duration, now - oldest.taken_at if oldest else 0)
            next_free = max(self._last_retry, now) + duration / self._size / RETRY_SHARE
            self._last_retry = min(next_free, now + MAX_RETRY_WAIT)
            return self._last_retry - now


class CircuitOpen(Exception):
    """The server has failed repeatedly: it is not called for a while."""


class Attempt:
    """One attempt to use the server."""

    def __init__(self, is_probe: bool) -> None:
        self.is_probe = is_probe
        self.succeeded: bool | None = None  # set by the caller; None: the server was not called


class CircuitBreaker:
    """Stops calls to a failing server: they would only wait, and add to its load.

    Closed: all attempts pass. FAILURE_THRESHOLD failures in a row within FAILURE_WINDOW open the circuit: none passes.
    After RECOVERY_TIMEOUT it is half-open: one attempt, the probe, passes. Its success closes the circuit; if it
    fails, the next probe is RECOVERY_TIMEOUT after its start.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._failures: deque[float] = deque(maxlen=FAILURE_THRESHOLD)
        self._open_until: float | None = None  # None: closed

    @property
    def state(self) -> str:
        """One of CIRCUIT_STATES. A probe under way counts as open, because other calls are refused."""
        open_until = self._open_until
        if open_until is None:
            return "closed"
        return "open" if time.monotonic() < open_until else "half_open"

    @contextmanager
    def attempt(self) -> Iterator[Attempt]:
        """Yield an attempt whose `succeeded` the caller sets; raises CircuitOpen."""
        attempt = Attempt(is_probe=self._admit())
        try:
            yield attempt
        finally:
            self._record(attempt)

    def _admit(self) -> bool:
        """Return whether this attempt is the probe; raises CircuitOpen."""
        with self._lock:
            if self._open_until is None:
                return False
            now = time.monotonic()
            if now < self._open_until:
                raise CircuitOpen
            self._open_until = now + RECOVERY_TIMEOUT  # stands if the probe fails
            return True

    def _record(self, attempt: Attempt) -> None:
        with self._lock:
            if attempt.succeeded:
                self._failures.clear()
                self._open_until = None
            elif attempt.succeeded is False:
                now = time.monotonic()
                self._failures.append(now)
                if len(self._failures) == FAILURE_THRESHOLD and now - self._failures[0] <= FAILURE_WINDOW:
                    self._open_until = now + RECOVERY_TIMEOUT
            elif attempt.is_probe:
                self._open_until = time.monotonic()  # nothing was tried: the next attempt is the probe

"""Deadline, bulkhead and circuit breaker."""

from contextlib import ExitStack

import pytest

from apps.oauth.qq.resilience import (
    FAILURE_THRESHOLD,
    FAILURE_WINDOW,
    MAX_RESERVATION,
    RECOVERY_TIMEOUT,
    Bulkhead,
    BulkheadFull,
    CircuitBreaker,
    CircuitOpen,
    Deadline,
)
from tests.tools.requirements import requirement

pytestmark = pytest.mark.usefixtures("clock")


@pytest.fixture
def breaker():
    return CircuitBreaker()


def record(breaker, *results):
    """Make attempts with these results: True, False, or None for one that does not call the server."""
    for succeeded in results:
        with breaker.attempt() as attempt:
            attempt.succeeded = succeeded


def open_circuit(breaker):
    record(breaker, *[False] * FAILURE_THRESHOLD)


def is_open(breaker):
    try:
        record(breaker, None)
    except CircuitOpen:
        return True
    return False


def use(bulkhead, clock, seconds):
    """Use a slot for so many seconds."""
    with bulkhead.slot() as slot:
        slot.is_measured = True
        clock.shift(seconds)


def test_a_deadline_starts_at_its_first_use(clock):
    deadline = Deadline(5)
    clock.shift(60)
    assert deadline.remaining() == pytest.approx(5)
    clock.shift(4)
    assert deadline.remaining() == pytest.approx(1)
    clock.shift(1)
    with pytest.raises(TimeoutError):
        deadline.remaining()


@requirement("8.2")
def test_a_full_bulkhead_rejects_until_a_slot_is_freed():
    bulkhead = Bulkhead(2)
    with bulkhead.slot():
        with bulkhead.slot(), pytest.raises(BulkheadFull), bulkhead.slot():
            pass
        with bulkhead.slot():
            pass
    with pytest.raises(ZeroDivisionError), bulkhead.slot():
        raise ZeroDivisionError
    with bulkhead.slot(), bulkhead.slot():
        pass


@pytest.mark.parametrize("size", [1, 4])
def test_each_reservation_is_one_free_slot_later_than_the_one_before(clock, size):
    bulkhead = Bulkhead(size)
    use(bulkhead, clock, 1.8)
    wait = 1.8 / size / 0.9  # nine of ten slots are given to reservations
    assert [bulkhead.reserve() for _ in range(3)] == pytest.approx([wait, 2 * wait, 3 * wait])
    clock.shift(2 * wait)
    assert bulkhead.reserve() == pytest.approx(2 * wait)
    clock.shift(60)
    assert bulkhead.reserve() == pytest.approx(wait)


def test_the_mean_duration_of_a_slot_follows_slowly(clock):
    bulkhead = Bulkhead(1)
    assert bulkhead.reserve() == 0
    use(bulkhead, clock, 0.8)
    use(bulkhead, clock, 0)
    assert bulkhead.reserve() == pytest.approx(0.7 / 0.9)


def test_a_slot_without_a_request_does_not_count_in_the_mean(clock):
    bulkhead = Bulkhead(1)
    use(bulkhead, clock, 0.9)
    with bulkhead.slot():
        clock.shift(0.1)
    assert bulkhead.reserve() == pytest.approx(1.0)


def test_a_slow_slot_in_use_counts_before_it_ends(clock):
    bulkhead = Bulkhead(2)
    use(bulkhead, clock, 0.9)
    with bulkhead.slot():
        clock.shift(3.6)
        with bulkhead.slot():
            clock.shift(0.9)
            assert bulkhead.reserve() == pytest.approx(2.5)  # by the oldest, 4.5 s for two slots


def test_reservations_end_at_the_maximum(clock):
    bulkhead = Bulkhead(1)
    use(bulkhead, clock, 20)
    waits = [bulkhead.reserve() for _ in range(4)]
    assert waits == pytest.approx([20 / 0.9, 40 / 0.9, MAX_RESERVATION, MAX_RESERVATION])


@requirement("8.6")
def test_failures_in_a_row_open_the_circuit(breaker, clock):
    record(breaker, *[False] * (FAILURE_THRESHOLD - 1))
    assert not is_open(breaker)
    record(breaker, False)
    clock.shift(RECOVERY_TIMEOUT - 0.5)
    assert is_open(breaker)


def test_a_success_starts_the_count_anew(breaker):
    for _ in range(3):
        record(breaker, *[False] * (FAILURE_THRESHOLD - 1), True)
    assert not is_open(breaker)


def test_an_attempt_without_a_call_decides_nothing(breaker):
    record(breaker, *[False] * (FAILURE_THRESHOLD - 1), None, False)
    assert is_open(breaker)


@pytest.mark.parametrize(("seconds", "opens"), [(FAILURE_WINDOW, True), (FAILURE_WINDOW + 0.5, False)])
def test_only_the_last_failures_count_and_only_within_the_window(breaker, clock, seconds, opens):
    record(breaker, False)
    clock.shift(60)
    record(breaker, *[False] * (FAILURE_THRESHOLD - 1))
    clock.shift(seconds)
    record(breaker, False)
    assert is_open(breaker) == opens


@requirement("8.6")
def test_a_successful_probe_closes_the_circuit(breaker, clock):
    open_circuit(breaker)
    clock.shift(RECOVERY_TIMEOUT)
    record(breaker, True)
    record(breaker, *[False] * (FAILURE_THRESHOLD - 1))  # the earlier failures are forgotten
    assert not is_open(breaker)


@requirement("8.6")
def test_a_failed_probe_keeps_the_circuit_open(breaker, clock):
    open_circuit(breaker)
    clock.shift(RECOVERY_TIMEOUT)
    record(breaker, False)
    clock.shift(RECOVERY_TIMEOUT - 0.5)
    assert is_open(breaker)
    clock.shift(0.5)
    record(breaker, True)
    assert not is_open(breaker)


@requirement("8.6")
def test_only_one_attempt_probes(breaker, clock):
    open_circuit(breaker)
    clock.shift(RECOVERY_TIMEOUT)
    with breaker.attempt() as probe:
        assert is_open(breaker)
        probe.succeeded = True
    assert not is_open(breaker)


def test_a_probe_that_hangs_lets_another_one_probe(breaker, clock):
    open_circuit(breaker)
    clock.shift(RECOVERY_TIMEOUT)
    with breaker.attempt():
        clock.shift(RECOVERY_TIMEOUT)
        record(breaker, True)


def test_a_probe_without_a_call_leaves_the_probe_to_the_next_attempt(breaker, clock):
    """Otherwise one used code every half minute would keep everyone from a QQ that works again."""
    open_circuit(breaker)
    clock.shift(RECOVERY_TIMEOUT)
    record(breaker, None)
    with breaker.attempt():
        assert is_open(breaker)


def test_an_attempt_from_before_closes_the_circuit_if_it_succeeds(breaker):
    with ExitStack() as stack:
        stack.enter_context(breaker.attempt()).succeeded = True
        open_circuit(breaker)
        assert is_open(breaker)
    assert not is_open(breaker)

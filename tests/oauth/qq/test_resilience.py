"""Deadline, bulkhead and circuit breaker."""

import pytest

from apps.oauth.qq.resilience import Bulkhead, BulkheadFull, CircuitBreaker, CircuitOpen, Deadline
from tests.tools.requirements import requirement

pytestmark = pytest.mark.usefixtures("clock")


def test_deadline_starts_at_its_first_use(clock):
    deadline = Deadline(5)
    for seconds, remaining in ((60, 5), (4, 1)):
        clock.shift(seconds)
        assert deadline.remaining() == pytest.approx(remaining)
    clock.shift(1)
    with pytest.raises(TimeoutError):
        deadline.remaining()


# Bulkhead -------------------------------------------------------------------------------------------------------------


@requirement("8.7")
def test_full_bulkhead_rejects_until_a_slot_is_freed():
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


@pytest.fixture
def use(clock):
    """A function: use a slot for so many seconds."""

    def use(bulkhead, seconds):
        with bulkhead.slot() as slot:
            slot.is_measured = True
            clock.shift(seconds)

    return use


@pytest.mark.parametrize("size", [1, 4])
def test_each_rejected_caller_retries_one_free_slot_later(clock, use, size):
    bulkhead = Bulkhead(size)
    use(bulkhead, 1.8)
    wait = 1.8 / size / 0.9  # nine of ten free slots are announced
    assert [bulkhead.schedule_retry() for _ in range(3)] == pytest.approx([wait, 2 * wait, 3 * wait])
    clock.shift(2 * wait)
    assert bulkhead.schedule_retry() == pytest.approx(2 * wait)
    clock.shift(60)
    assert bulkhead.schedule_retry() == pytest.approx(wait)


def test_mean_duration_follows_slowly_and_ignores_slots_without_a_request(clock, use):
    bulkhead = Bulkhead(1)
    assert bulkhead.schedule_retry() == 0
    use(bulkhead, 0.8)
    use(bulkhead, 0)
    with bulkhead.slot():
        clock.shift(100)
    assert bulkhead.schedule_retry() == pytest.approx(0.7 / 0.9)


def test_slow_slot_in_use_counts_before_it_ends(clock, use):
    bulkhead = Bulkhead(2)
    use(bulkhead, 0.9)
    with bulkhead.slot():
        clock.shift(3.6)
        with bulkhead.slot():
            clock.shift(0.9)
            assert bulkhead.schedule_retry() == pytest.approx(2.5)  # by the oldest, 4.5 s for two slots


def test_waits_end_at_the_maximum(use):
    bulkhead = Bulkhead(1)
    use(bulkhead, 20)
    waits = [bulkhead.schedule_retry() for _ in range(4)]
    assert waits == pytest.approx([20 / 0.9, 40 / 0.9, 50, 50])


def test_new_caller_leaves_a_quarter_of_the_slots_to_expected_ones(clock, use):
    bulkhead = Bulkhead(4)
    use(bulkhead, 3.6)
    with bulkhead.slot(), bulkhead.slot(), bulkhead.slot():
        with bulkhead.slot(is_new=True):
            pass
        bulkhead.schedule_retry()  # in a second
        with pytest.raises(BulkheadFull), bulkhead.slot(is_new=True):
            pass
        with bulkhead.slot():
            pass
        clock.shift(1)
        with bulkhead.slot(is_new=True):
            pass


# Circuit breaker ------------------------------------------------------------------------------------------------------

SUCCESS, NO_CALL = True, None  # results of attempts
FOUR, FIVE = [False] * 4, [False] * 5  # failures


def is_open(breaker):
    try:
        with breaker.attempt():
            return False
    except CircuitOpen:
        return True


def test_attempt_without_a_call_leaves_a_closed_circuit_closed():
    breaker = CircuitBreaker()
    with breaker.attempt():
        pass
    with breaker.attempt():
        assert not is_open(breaker)


def run(breaker, clock, steps):
    """Make attempts with these results, let these numbers of seconds pass, and check the state where it is named."""
    for step in steps:
        if step in ("open", "closed"):
            assert is_open(breaker) == (step == "open")
        elif isinstance(step, (bool, type(None))):
            with breaker.attempt() as attempt:
                attempt.succeeded = step
        else:
            clock.shift(step)


@requirement("8.6")
@pytest.mark.parametrize(
    "steps",
    [
        pytest.param([*FOUR, "closed", False, 29.5, "open"], id="failures in a row open it"),
        pytest.param([*FOUR, SUCCESS] * 3 + ["closed"], id="a success starts the count anew"),
        pytest.param([*FOUR, NO_CALL, False, "open"], id="an attempt without a call decides nothing"),
        pytest.param([False, 60, *FOUR, 10, False, "open"], id="failures within the window"),
        pytest.param([False, 60, *FOUR, 10.5, False, "closed"], id="failures over a longer time"),
        pytest.param([*FIVE, 30, SUCCESS, *FOUR, "closed"], id="a successful probe closes it"),
        pytest.param([*FIVE, 30, False, 29.5, "open", 0.5, SUCCESS, "closed"], id="a failed probe opens it"),
    ],
)
def test_circuit_opens_and_closes(clock, steps):
    run(CircuitBreaker(), clock, steps)


@requirement("8.6")
def test_only_one_attempt_probes_and_one_without_a_call_leaves_that_to_the_next(clock):
    breaker = CircuitBreaker()
    run(breaker, clock, [*FIVE, 30, NO_CALL])  # else a used code every half minute would keep it open
    with breaker.attempt() as probe:
        assert is_open(breaker)
        probe.succeeded = True
    assert not is_open(breaker)


def test_state_says_what_the_next_attempt_meets(clock):
    breaker = CircuitBreaker()
    assert breaker.state == "closed"
    run(breaker, clock, FIVE)
    assert breaker.state == "open"
    clock.shift(30)
    assert breaker.state == "half_open"
    with breaker.attempt():
        assert breaker.state == "open"
    assert breaker.state == "half_open"


def test_hanging_probe_lets_another_attempt_probe(clock):
    breaker = CircuitBreaker()
    run(breaker, clock, [*FIVE, 30])
    with breaker.attempt():
        run(breaker, clock, [30, SUCCESS])


def test_attempt_from_before_closes_the_circuit_if_it_succeeds(clock):
    breaker = CircuitBreaker()
    with breaker.attempt() as attempt:
        attempt.succeeded = True
        run(breaker, clock, [*FIVE, "open"])
    assert not is_open(breaker)

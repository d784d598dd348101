"""A QQ that fails again and again is left alone for half a minute, and then tried by one."""

import pytest
import time_machine

from apps.oauth.qq import QQRejected, QQUnavailable
from tests.conftest import query_of
from tests.oauth.qq.test_client import asked, make_client

FAULTY = {"token": {"fault": "502"}}


@pytest.fixture(autouse=True)
def clock(qq):
    with time_machine.travel(1_800_000_000, tick=False) as clock:
        yield clock


@pytest.fixture
def client(qq):
    return make_client(qq)


def fail(client, times=1):
    for _ in range(times):
        with pytest.raises(QQUnavailable):
            client.identify("C0DE")


@pytest.mark.parametrize("fault", ["502", "reset", "html"])
def test_the_sixth_call_after_five_failures_is_not_made(qq, client, clock, fault):
    qq.behave(token={"fault": fault})
    fail(client, 6)
    assert len(asked(qq)) == 5
    clock.shift(29)
    fail(client)
    assert len(asked(qq)) == 5


def test_the_first_answer_after_half_a_minute_opens_the_way(qq, client, clock):
    qq.behave(**FAULTY)
    fail(client, 5)
    qq.behave(token=None)
    clock.shift(30)
    for _ in range(2):
        with pytest.raises(QQRejected):
            client.identify("C0DE")
    qq.behave(**FAULTY)
    fail(client, 5)  # the five of before are forgotten
    assert len(asked(qq)) == 12


def test_a_trial_that_fails_begins_another_rest(qq, client, clock):
    qq.behave(**FAULTY)
    fail(client, 5)
    clock.shift(30)
    fail(client, 2)
    assert len(asked(qq)) == 6
    clock.shift(29)
    fail(client)
    assert len(asked(qq)) == 6
    clock.shift(1)
    fail(client)
    assert len(asked(qq)) == 7


def test_while_one_call_tries_the_others_are_spared(qq, client, clock):
    qq.behave(**FAULTY)
    fail(client, 5)
    clock.shift(30)
    breaker = client._connections._breaker
    breaker.admit()  # the one that tries, still without an answer
    fail(client)
    assert len(asked(qq)) == 5


def test_failures_with_an_answer_between_them_are_no_row(qq, client):
    for _ in range(3):
        qq.behave(**FAULTY)
        fail(client, 4)
        qq.behave(token={"fault": "error", "number": 100020})
        with pytest.raises(QQRejected):
            client.identify("C0DE")
    assert len(asked(qq)) == 15


def test_failures_with_a_login_between_them_are_no_row(qq, client):
    for _ in range(2):
        qq.behave(**FAULTY)
        fail(client, 4)
        qq.behave(token=None)
        code = query_of(qq.sign_in(client.get_authorization_url("s" * 43), "小明"))["code"]
        assert client.identify(code).openid == qq.openid("小明")
    assert len(asked(qq)) == 10


def test_failures_over_more_than_ten_seconds_are_no_row(qq, client, clock):
    qq.behave(**FAULTY)
    for _ in range(10):
        fail(client)
        clock.shift(2.6)
    assert len(asked(qq)) == 10


@pytest.mark.parametrize(("seconds", "asked_in_all"), [(10, 6), (10.5, 9)])
def test_five_in_a_row_are_the_last_five_and_within_ten_seconds(qq, client, clock, seconds, asked_in_all):
    qq.behave(**FAULTY)
    fail(client)
    clock.shift(60)
    fail(client, 3)
    clock.shift(0.5)
    fail(client)
    clock.shift(seconds - 0.5)
    fail(client, 5)
    assert len(asked(qq)) == asked_in_all


def test_a_clock_that_was_set_back_makes_no_rest_longer(qq, client, clock):
    qq.behave(**FAULTY)
    fail(client, 5)
    clock.shift(-3600)
    fail(client)
    assert len(asked(qq)) == 6


@pytest.mark.parametrize("number", [100017, 123456])
def test_an_answer_with_a_number_is_an_answer(qq, client, number):
    """Else anybody could keep everybody out with five codes that upset QQ."""
    qq.behave(token={"fault": "error", "number": number})
    fail(client, 8)
    assert len(asked(qq)) == 8


def test_an_exchange_that_sends_nothing_decides_nothing(qq, client, clock):
    qq.behave(**FAULTY)
    fail(client, 4)
    with client.exchange():
        pass
    fail(client, 2)
    assert len(asked(qq)) == 5


def test_who_is_let_through_and_sends_nothing_takes_nobodys_trial(qq, client, clock):
    """Else one who comes with a spent code every half minute keeps everybody from a QQ that is well again."""
    qq.behave(**FAULTY)
    fail(client, 5)
    qq.behave(token=None)
    clock.shift(30)
    with client.exchange():
        pass
    with pytest.raises(QQRejected):
        client.identify("C0DE")
    assert len(asked(qq)) == 6


def test_the_next_one_then_tries_alone(qq, client, clock):
    qq.behave(**FAULTY)
    fail(client, 5)
    clock.shift(30)
    with client.exchange():
        pass
    fail(client, 2)
    assert len(asked(qq)) == 6


def test_meanwhile_a_shopper_is_told_at_once_and_his_code_stays_good(browser, other_browser, qq, clock, binding):
    code = browser.arrive()
    qq.behave(**FAULTY)
    for _ in range(5):
        assert other_browser.collect(other_browser.arrive()).json()["code"] == "qq_unavailable"
    qq.behave(token=None)
    spared = browser.collect(code)
    assert (spared.status_code, spared.json()["code"]) == (503, "qq_unavailable")
    assert len(qq.requests("/oauth2.0/token")) == 5
    clock.shift(30)
    assert browser.collect(code).json()["user_id"] == binding.user_id

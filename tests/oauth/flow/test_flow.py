"""The flow's cookie: its life, its size, its number in one browser; clocks that differ."""

from random import Random
from string import ascii_letters

import pytest

from tests.conftest import error_of, flow_serializer
from tests.tools.requirements import requirement

NAME = "qq_flow_0123456789ab"
INVALID = {"error": "state_invalid"}


@requirement("1.4", "11 start")
def test_oldest_of_twelve_flows_are_dropped_though_all_are_of_one_second(clock, browser):
    addresses = []
    for _ in range(12):
        addresses.append(browser.sign_in())
        clock.shift(0.02)
    assert [browser.come_back(address) == INVALID for address in addresses] == [True] * 2 + [False] * 10


def test_cookie_of_a_version_without_milliseconds_works_and_has_its_place(clock, browser, other_browser):
    address = browser.sign_in()
    ((name, value),) = browser.cookies.items()
    claims = flow_serializer("flow").loads(value)
    browser.add_cookies({name: flow_serializer("flow").dumps({key: claims[key] for key in claims.keys() - {"at"}})})
    other_browser.add_cookies(browser.cookies)
    clock.shift(1)
    for _ in range(10):
        assert name in browser.cookies
        browser.start()
    assert name not in browser.cookies
    assert other_browser.come_back(address).keys() == {"code", "state"}


@requirement("2.4")
def test_cookies_of_all_flows_have_at_most_three_kibibytes(clock, browser):
    letters = Random(1)
    for _ in range(10):
        target = "/" + "".join(letters.choices(ascii_letters, k=511))
        address = browser.sign_in(next=target)
        clock.shift(1)
        assert sum(len(name) + len(value) for name, value in browser.cookies.items()) <= 3072
    assert 3 <= len(browser.cookies) <= 4
    assert browser.come_back(address)["state"] == target


@pytest.mark.parametrize(
    "name", ["qq_flow_a@", "qq_flow_é", "qq_flow_(", "qq_flow_", "qq_flow_0123456789abc", "qq_flow_x/y"]
)
def test_cookie_with_a_similar_name_is_left_alone(browser, name):
    response = browser.get("/oauth/qq/login/", HTTP_COOKIE=f"{name}=x".encode().decode("latin-1"))
    assert response.status_code == 302
    assert len(response.cookies) == 1


@requirement("1.9")
def test_foreign_flow_cookies_are_deleted_ten_at_a_time(browser):
    """More would make an answer whose headers are too long for a proxy."""
    browser.add_cookies({f"qq_flow_{number:012x}": "planted" for number in range(30)})
    cookies = browser.get("/oauth/qq/login/").cookies.values()
    deleted = [(cookie["path"], cookie["samesite"]) for cookie in cookies if cookie["max-age"] == 0]
    assert deleted == [("/", "Lax")] * 10


@requirement("1.2")
@pytest.mark.parametrize("forged", [{"state": "f" * 43}, {"key": "another"}, {"id": "0123456789ab"}])
def test_every_part_of_the_cookie_is_compared(browser, forged):
    """A second line of defence, if a cookie signed by us comes under another flow's name."""
    code, address = browser.arrive(), browser.sign_in()
    for name, value in browser.cookies.items():
        claims = flow_serializer("flow").loads(value)
        assert name == f"qq_flow_{claims['id']}"
        browser.add_cookies({name: flow_serializer("flow").dumps(claims | forged)})
    if "key" not in forged:
        assert browser.come_back(address) == INVALID
    if "state" not in forged:
        assert error_of(browser.redeem_code(code)) == (400, "code_invalid")


def test_cookie_that_is_too_long_is_not_read(browser):
    address = browser.sign_in()
    ((name, value),) = browser.cookies.items()
    padding = "".join(Random(1).choices(ascii_letters, k=4000))  # compression cannot shorten it
    claims = flow_serializer("flow").loads(value) | {"padding": padding}
    browser.add_cookies({name: flow_serializer("flow").dumps(claims)})
    assert browser.come_back(address) == INVALID


@requirement("1.4", "4.3", "4.8")
@pytest.mark.parametrize(
    ("value", "life", "error"),
    [("state", 600, "state_invalid"), ("sealed code", 120, "code_invalid"), ("bind token", 600, "bind_token_invalid")],
)
def test_values_expire_and_clocks_may_differ_by_a_minute(clock, browser, value, life, error):
    for seconds, accepted in ((life, True), (life + 1, False), (-60, True), (-61, False)):
        match value:
            case "state":
                address = browser.sign_in()
                clock.shift(seconds)
                outcome = browser.come_back(address).get("error")
            case "sealed code":
                code = browser.arrive()
                clock.shift(seconds)
                outcome = browser.redeem_code(code).json().get("code")
            case "bind token":  # accepted: only the rest of the form is refused
                form = {"access_token": browser.get_bind_token()}
                clock.shift(seconds)
                answer = browser.bind(form).json()
                outcome = None if "mobile" in answer else answer["code"]
        assert outcome == (None if accepted else error)


@requirement("4.8")
@pytest.mark.parametrize(("seconds", "alarms"), [(-5, 0), (-6, 1), (-60, 1), (-61, 1), (30, 0)])
def test_clocks_that_differ_raise_an_alarm(clock, browser, caplog, seconds, alarms):
    address = browser.sign_in()
    clock.shift(seconds)
    browser.come_back(address)
    logged = [(record.levelname, record.getMessage()) for record in caplog.records if "clocks" in record.getMessage()]
    text = f"The clocks of the shop's servers differ by {-seconds} seconds or more."
    assert logged == [("ERROR", text)] * alarms

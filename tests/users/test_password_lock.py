"""Wrong passwords lock an account, for longer each time, whichever form they come from."""

import pytest

from tests.conftest import MOBILE, PASSWORD, Browser, Phone
from tests.tools.requirements import requirement
from tests.users import texts
from tests.users.checks import assert_error, assert_logged_in, assert_too_often
from tests.users.helpers import OTHER_MOBILE, log_in, post, simultaneously

DAY = 24 * 3600


@pytest.fixture
def guess(new_client):
    """Try wrong passwords, each from a new address."""

    def guess(*names):
        for name in names:
            response = log_in(new_client(), name, "another horse")
            assert_error(response, 400, "invalid", texts.LOGIN_WRONG, non_field_errors=[texts.LOGIN_WRONG])

    return guess


@requirement("6.1", "6.9", "11 bind, failed")
def test_locks_grow_from_a_minute_to_an_hour(clock, account, new_client, guess):
    for minutes in (1, 2, 4, 8, 16, 32, 60, 60):
        guess(*[MOBILE] * 5)
        assert_too_often(log_in(new_client()), minutes * 60)
        clock.shift(minutes * 60 - 1)
        assert_too_often(log_in(new_client()), 1)
        clock.shift(1)
    assert log_in(new_client()).status_code == 200


def test_success_clears_failures_and_locks(clock, account, new_client, guess):
    guess(*[MOBILE] * 5)
    clock.shift(60)
    for _ in range(3):
        assert log_in(new_client()).status_code == 200
        guess(*[MOBILE] * 4)
    guess(MOBILE)
    assert_too_often(log_in(new_client()), 60)


def test_failures_are_forgotten_after_five_minutes_but_ten_a_day_lock_too(clock, account, new_client, guess):
    guess(*[MOBILE] * 4)
    clock.shift(299)
    guess(MOBILE)
    assert_too_often(log_in(new_client()), 60)
    clock.shift(DAY)
    for seconds in (60, 120):
        for number in (4, 1, 4, 1):
            clock.shift(300)
            guess(*[MOBILE] * number)
        assert_too_often(log_in(new_client()), seconds)
    clock.shift(120)
    assert log_in(new_client()).status_code == 200


@pytest.mark.parametrize(("age", "seconds"), [(DAY - 1, 120), (DAY, 60)])
def test_locks_are_remembered_for_a_day(clock, account, new_client, guess, age, seconds):
    guess(*[MOBILE] * 5)
    clock.shift(age)
    guess(*[MOBILE] * 5)
    assert_too_often(log_in(new_client()), seconds)


@requirement("6.2")
@pytest.mark.parametrize(
    ("mobile", "names"),
    [
        (MOBILE, ["zhang3", MOBILE, "１３８１２３４５６７８", f"{MOBILE} ", f" {MOBILE}"]),
        (None, ["zhang3", "ZHANG3", " zhang3", "zhàng3", "ｚｈａｎｇ3 "]),
        (None, ["nobody", "NOBODY", "nobody", "Nobody", "nobödy"]),
        (None, [OTHER_MOBILE, "１３９００００００００", f"{OTHER_MOBILE} ", f" {OTHER_MOBILE}", OTHER_MOBILE]),
    ],
)
def test_all_spellings_of_an_account_share_one_lock(clock, users, new_client, guess, mobile, names):
    users.create_user("zhang3", password=PASSWORD, mobile=mobile)
    users.create_user("li4", password=PASSWORD)
    guess(*names)
    for name in names:
        assert_too_often(log_in(new_client(), name), 60)
    assert log_in(new_client(), "li4").status_code == 200


@requirement("6.1", "11 bind, failed")
def test_login_and_bind_share_one_lock(clock, account, qq, new_client, tmp_path, guess):
    phone = Phone(tmp_path, new_client())
    for person in ("小明", "小红"):
        browser = Browser(qq)
        form = {"mobile": MOBILE, "password": "another horse", "access_token": browser.get_bind_token(person)}
        form["sms_code"] = phone.receive_code()
        for _ in range(2):
            assert list(browser.bind(form).json()) == ["password", "message", "code"]
        clock.shift(60)
    guess(MOBILE)
    assert_too_often(browser.bind(form | {"password": PASSWORD}), 60)
    assert_too_often(log_in(new_client()), 60)
    clock.shift(60)
    assert browser.bind(form | {"password": PASSWORD}).status_code == 200


@requirement("6.1")
@pytest.mark.django_db(transaction=True)
def test_five_of_many_simultaneous_guesses_are_hashed(hasher, account, new_client):
    guessers, names = [new_client() for _ in range(50)], ["zhang3", MOBILE]
    hasher.hashed = 0
    answers = simultaneously(lambda number: log_in(guessers[number], names[number % 2], f"horse {number}"), 50)
    assert sorted(answer.status_code for answer in answers) == [400] * 5 + [429] * 45
    assert {answer["Retry-After"] for answer in answers if answer.status_code == 429} <= {"60", "59", "58", "57", "56"}
    assert hasher.hashed == 5
    assert log_in(new_client()).status_code == 429


@requirement("6.9")
def test_password_reset_opens_a_locked_account(clock, account, new_client, tmp_path, guess):
    guess(*[MOBILE] * 5)
    owner = new_client()
    assert_too_often(log_in(owner), 60)
    form = {"mobile": MOBILE, "password": "new correct horse", "sms_code": Phone(tmp_path, owner).receive_code()}
    assert post(owner, "/password/", form).status_code == 200
    assert_logged_in(owner, log_in(owner, password="new correct horse"), account)


def test_admin_login_has_the_same_limits(clock, rf, users):
    from django.contrib.admin import site

    users.create_superuser("boss", password=PASSWORD, mobile=MOBILE)

    def submit(number, password, name="boss"):
        request = rf.post("/", {"username": name, "password": password}, REMOTE_ADDR=f"203.0.113.{number}")
        form = site.login_form(request, data=request.POST)
        return form.is_valid() or [error.code for errors in form.errors.as_data().values() for error in errors]

    assert submit(0, PASSWORD) is True
    assert [submit(number, "another horse") for number in range(6)] == [["invalid_login"]] * 5 + [["throttled"]]
    assert submit(7, PASSWORD) == ["throttled"]
    assert [submit(8, "x", f"nobody{number}") for number in range(11)] == [["invalid_login"]] * 10 + [["throttled"]]
    assert submit(9, "") == ["required"]
    assert submit(9, PASSWORD) == ["throttled"]  # an incomplete form has cleared nothing

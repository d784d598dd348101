"""A hundred tries at the same moment, in two workers that share a Redis: never more than the limit pass.

The number of tries that passed is read from the shop's answers and from the messages it sent. The same limits, one
call after the other: tests/users/test_limits.py, tests/users/test_sms.py, tests/oauth/test_ratelimit.py.
"""

import time
from uuid import uuid4

import pytest
from django.contrib.auth import get_user_model

from tests.e2e.stops import SETTINGS
from tests.tools.processes import Visitor, random_address
from tests.tools.requirements import requirement
from tests.tools.shoppers import (
    PASSWORD,
    Shopper,
    a_few_at_a_time,
    at_once,
    database_of_the_tests,
    new_mobile,
    read_page,
    shop_and_qq,
    status_and_code,
    tally,
)

pytestmark = pytest.mark.servers

CALLS = 100


@pytest.fixture(scope="module")
def running_shop(django_db_setup, tmp_path_factory):
    settings = {"DATABASE_URL": database_of_the_tests(), "DJANGO_SETTINGS_MODULE": SETTINGS, "workers": 2}
    with shop_and_qq(tmp_path_factory.mktemp("var"), **settings, threads=32) as running:
        yield running


@pytest.fixture
def new_shopper(running_shop, transactional_db):
    shop, qq = running_shop
    qq.reset()
    return lambda: Shopper([shop], qq)


@pytest.fixture
def url(running_shop):
    return running_shop[0].url


def forged(address):
    """Headers of a caller at this address who claims to be a proxy for another client each time."""
    return {"X_Forwarded_For": f"{random_address()}, {address}"}


def in_one_minute(send):
    """Return the answers of send(address). Repeat it if a minute ended meanwhile: limits count by calendar minutes."""
    while True:
        minute = time.time() // 60
        answers = send(random_address())
        if time.time() // 60 == minute:
            return answers


def assert_passed(number, answers, passed=(400, "invalid")):
    """This many answers have this status and code; all others are "throttled" and say when to try again."""
    assert tally(answers) == {passed: number, (429, "throttled"): len(answers) - number}
    assert_retry_after([answer for answer in answers if answer.status == 429])


def assert_retry_after(answers):
    assert all(1 <= int(answer.headers["Retry-After"]) <= 3600 for answer in answers)


def wrong_form(bind_token):
    return {"mobile": new_mobile(), "password": PASSWORD, "sms_code": "000000", "access_token": bind_token}


# By address -----------------------------------------------------------------------------------------------------------


@requirement("9.7", "11 start")
def test_60_of_100_starts_from_one_address_pass(url, running_shop, transactional_db):
    def send(address):
        start = f"{url}/oauth/qq/login/?next=/cart"
        return at_once(*[lambda: Visitor().get(start, **forged(address))] * CALLS)

    answers = in_one_minute(send)
    assert {answer.status for answer in answers} == {302}
    at_qq = [answer for answer in answers if answer.headers["Location"].startswith(running_shop[1].url)]
    refused = [answer for answer in answers if answer not in at_qq]
    assert (len(at_qq), len(refused)) == (60, CALLS - 60)
    assert all(read_page(answer.headers["Location"])["error"] == "throttled" for answer in refused)
    assert not any(answer.headers["Set-Cookie"] for answer in refused)
    assert_retry_after(refused)


@requirement("11 callback")
def test_30_of_50_callbacks_from_one_address_pass_and_the_others_can_be_repeated(new_shopper):
    def send(address):
        shoppers = [new_shopper() for _ in range(50)]
        callbacks = a_few_at_a_time([shopper.sign_in for shopper in shoppers])
        pairs = list(zip(shoppers, callbacks, strict=True))
        answers = at_once(
            *(lambda s=s, callback=callback: s.visitor.get(callback, **forged(address)) for s, callback in pairs)
        )
        return list(zip(answers, pairs, strict=True))

    pages = [(read_page(answer.headers["Location"]), *pair) for answer, pair in in_one_minute(send)]
    refused = [(page["error"], shopper, callback) for page, shopper, callback in pages if "code" not in page]
    assert [error for error, *_ in refused] == ["throttled"] * 20
    _, shopper, callback = refused[0]
    assert "code" in shopper.come_back(callback)  # from another address: nothing was used up


@requirement("11 bind, failed")
def test_10_of_100_wrong_forms_from_one_address_pass(new_shopper):
    shoppers = [new_shopper() for _ in range(CALLS // 2)]
    bind_tokens = a_few_at_a_time([shopper.get_bind_token for shopper in shoppers])

    def send(address):
        forms = list(zip(shoppers, map(wrong_form, bind_tokens), strict=True))
        return at_once(*(lambda s=s, form=form: s.bind(form, **forged(address)) for s, form in forms * 2))

    assert_passed(10, in_one_minute(send))


@requirement("6.1")
def test_10_of_100_wrong_passwords_from_one_address_pass(url, transactional_db):
    address = random_address()
    logins = [{"username": new_mobile(), "password": PASSWORD} for _ in range(CALLS)]
    login_url = f"{url}/authorizations/"
    assert_passed(
        10, at_once(*(lambda login=login: Visitor().post(login_url, login, **forged(address)) for login in logins))
    )


# By flow, account and number ------------------------------------------------------------------------------------------


@requirement("9.7", "11 bind, failed")
def test_5_of_100_wrong_forms_of_one_flow_pass_from_whatever_address(new_shopper):
    shopper = new_shopper()
    form = wrong_form(shopper.get_bind_token())
    answers = at_once(*[lambda: shopper.bind(form, X_Forwarded_For=random_address())] * CALLS)
    assert tally(answers) == {(400, "invalid"): 5, (400, "bind_tries"): CALLS - 5}


@requirement("6.1")
def test_5_of_100_wrong_passwords_of_one_account_pass_and_then_even_the_right_one_is_refused(new_shopper, url):
    shopper, mobile = new_shopper(), new_mobile()
    get_user_model().objects.create_user("zhang3", password=PASSWORD, mobile=mobile)
    form = shopper.fill_in(mobile)

    def log_in(name, password):
        return Visitor().post(f"{url}/authorizations/", {"username": name, "password": password})

    answers = at_once(*(lambda name=name: log_in(name, "wrong horse") for name in ["zhang3", mobile] * (CALLS // 2)))
    assert_passed(5, answers)

    right = log_in("zhang3", PASSWORD)
    assert right.status == 429
    assert right.body in [answer.body for answer in answers]
    assert status_and_code(shopper.bind(form)) == (429, "throttled")  # login and bind share one lock
    assert_passed(5, at_once(*[lambda: log_in("li4", PASSWORD)] * CALLS))  # the same without an account


@requirement("6.3")
def test_200_wrong_guesses_end_an_sms_code(new_shopper):
    victim, mobile = new_shopper(), new_mobile()
    form = victim.fill_in(mobile)
    attackers = [new_shopper() for _ in range(40)]
    bind_tokens = a_few_at_a_time([attacker.get_bind_token for attacker in attackers])
    right = int(form["sms_code"])
    guesses = [
        (attacker, {**form, "access_token": bind_token, "sms_code": f"{(right + number) % 10**6:06}"})
        for number, (attacker, bind_token) in enumerate(list(zip(attackers, bind_tokens, strict=True)) * 5, start=1)
    ]
    answers = at_once(*(lambda s=attacker, guess=guess: s.bind(guess) for attacker, guess in guesses))
    answers.append(victim.bind(form))  # the right code
    assert tally(answers) == {(400, "invalid"): 201}
    assert {answer.body for answer in answers} == {answers[0].body}
    assert not get_user_model().objects.exists()


# SMS ------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def ask_at_once(running_shop, transactional_db):
    """Ask for SMS codes at the same moment; return the answers and how many messages were sent."""
    shop = running_shop[0]

    def count_messages():
        log = shop.var / "sms.log"
        return len(log.read_text().splitlines()) if log.exists() else 0

    def ask_at_once(mobiles, image_codes=None, **headers):
        image_codes = image_codes or a_few_at_a_time([lambda: read_image_code(shop)] * len(mobiles))
        before = count_messages()
        calls = [f"{shop.url}/sms_codes/{mobile}/?{code}" for mobile, code in zip(mobiles, image_codes, strict=True)]
        answers = at_once(*(lambda call=call: Visitor().get(call, **headers) for call in calls))
        return answers, count_messages() - before

    return ask_at_once


def read_image_code(shop):
    """Return the query that solves a new image code."""
    image_code_id = str(uuid4())
    assert Visitor().get(f"{shop.url}/image_codes/{image_code_id}/").status == 200
    return f"text={shop.last_line('captcha.log', id=image_code_id)['text']}&image_code_id={image_code_id}"


@requirement("6.4", "11 SMS send")
def test_20_requests_at_once_send_1_sms_to_one_number(ask_at_once):
    for _ in range(5):
        answers, sent = ask_at_once([new_mobile()] * 20)
        assert_passed(1, answers, passed=(200, None))
        assert sent == 1


@requirement("6.5")
def test_1_image_code_used_20_times_at_once_sends_1_sms(running_shop, ask_at_once):
    for _ in range(10):
        answers, sent = ask_at_once([new_mobile() for _ in range(20)], [read_image_code(running_shop[0])] * 20)
        assert tally(answers) == {(200, None): 1, (400, "invalid"): 19}
        assert sent == 1


@requirement("6.4", "11 SMS send")
def test_20_of_40_sms_requests_from_one_address_pass(ask_at_once):
    answers, sent = ask_at_once([new_mobile() for _ in range(40)], **forged(random_address()))
    assert_passed(20, answers, passed=(200, None))
    assert sent == 20

"""A hundred tries at the same moment, in two workers that share a Redis: never more than the limit pass.

The number of tries that passed is read from the shop's answers and from the messages it sent. The same limits, one
call after the other: tests/users/test_limits.py, tests/users/test_sms.py, tests/oauth/test_ratelimit.py.
"""

from functools import partial

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
    each_at_once,
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
def url(running_shop, transactional_db):
    return running_shop[0].url


def forged(address):
    """Headers of a caller at this address who claims to be a proxy for another client each time."""
    return {"X_Forwarded_For": f"{random_address()}, {address}"}


def assert_passed(number, answers, passed=(400, "invalid")):
    """This many answers have this status and code; all others are "throttled" and say when to try again."""
    assert tally(answers) == {passed: number, (429, "throttled"): len(answers) - number}
    assert_retry_after(answer for answer in answers if answer.status == 429)


def assert_retry_after(answers):
    assert all(1 <= int(answer.headers["Retry-After"]) <= 3600 for answer in answers)


def wrong_form(bind_token):
    return {"mobile": new_mobile(), "password": PASSWORD, "sms_code": "000000", "access_token": bind_token}


# By address -----------------------------------------------------------------------------------------------------------


@requirement("9.7", "11 start")
def test_60_of_100_starts_from_one_address_pass(url, running_shop):
    start, address = f"{url}/oauth/qq/login/?next=/cart", random_address()
    answers = at_once(*[lambda: Visitor().get(start, **forged(address))] * CALLS)
    assert {answer.status for answer in answers} == {302}
    at_qq = [answer for answer in answers if answer.headers["Location"].startswith(running_shop[1].url)]
    refused = [answer for answer in answers if answer not in at_qq]
    assert (len(at_qq), len(refused)) == (60, CALLS - 60)
    assert all(read_page(answer.headers["Location"])["error"] == "throttled" for answer in refused)
    assert not any(answer.headers["Set-Cookie"] for answer in refused)
    assert_retry_after(refused)


@requirement("11 callback")
def test_30_of_50_callbacks_from_one_address_pass_and_the_others_can_be_repeated(new_shopper):
    address, shoppers = random_address(), [new_shopper() for _ in range(50)]
    callbacks = a_few_at_a_time([shopper.sign_in for shopper in shoppers])
    answers = each_at_once(lambda s, callback: s.visitor.get(callback, **forged(address)), shoppers, callbacks)
    pages = zip([read_page(answer.headers["Location"]) for answer in answers], shoppers, callbacks, strict=True)
    refused = [(page["error"], shopper, callback) for page, shopper, callback in pages if "code" not in page]
    assert [error for error, *_ in refused] == ["throttled"] * 20
    _, shopper, callback = refused[0]
    assert "code" in shopper.come_back(callback)  # from another address: nothing was used up


@requirement("11 bind, failed")
def test_10_of_100_wrong_forms_from_one_address_pass(new_shopper):
    address, shoppers = random_address(), [new_shopper() for _ in range(CALLS // 2)] * 2
    forms = [wrong_form(token) for token in a_few_at_a_time([s.get_bind_token for s in shoppers[: CALLS // 2]])] * 2
    assert_passed(10, each_at_once(lambda shopper, form: shopper.bind(form, **forged(address)), shoppers, forms))


@requirement("6.1")
def test_10_of_100_wrong_passwords_from_one_address_pass(url):
    address = random_address()

    def log_in():
        login = {"username": new_mobile(), "password": PASSWORD}
        return Visitor().post(f"{url}/authorizations/", login, **forged(address))

    assert_passed(10, at_once(*[log_in] * CALLS))


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

    answers = each_at_once(partial(log_in, password="wrong horse"), ["zhang3", mobile] * (CALLS // 2))
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
        {**form, "access_token": bind_token, "sms_code": f"{(right + number) % 10**6:06}"}
        for number, bind_token in enumerate(bind_tokens * 5, start=1)
    ]
    answers = each_at_once(Shopper.bind, attackers * 5, guesses)
    answers.append(victim.bind(form))  # the right code
    assert tally(answers) == {(400, "invalid"): 201}
    assert {answer.body for answer in answers} == {answers[0].body}
    assert not get_user_model().objects.exists()


# SMS ------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def ask_at_once(running_shop, transactional_db):
    """Ask for SMS codes at the same moment; return the answers and how many messages were sent."""
    shop = running_shop[0]
    log = shop.var / "sms.log"

    def count_messages():
        return len(log.read_text().splitlines()) if log.exists() else 0

    def ask_at_once(mobiles, share_image_code=False, **headers):
        addresses = a_few_at_a_time([partial(shop.sms_address, Visitor(), mobile) for mobile in mobiles])
        if share_image_code:
            shared = addresses[0].partition("?")[2]
            addresses = [f"{address.partition('?')[0]}?{shared}" for address in addresses]
        before = count_messages()
        answers = each_at_once(lambda address: Visitor().get(address, **headers), addresses)
        return answers, count_messages() - before

    return ask_at_once


@requirement("6.4", "11 SMS send")
def test_20_requests_at_once_send_1_sms_to_one_number(ask_at_once):
    for _ in range(5):
        answers, sent = ask_at_once([new_mobile()] * 20)
        assert_passed(1, answers, passed=(200, None))
        assert sent == 1


@requirement("6.5")
def test_1_image_code_used_20_times_at_once_sends_1_sms(ask_at_once):
    for _ in range(10):
        answers, sent = ask_at_once([new_mobile() for _ in range(20)], share_image_code=True)
        assert tally(answers) == {(200, None): 1, (400, "invalid"): 19}
        assert sent == 1


@requirement("6.4", "11 SMS send")
def test_20_of_40_sms_requests_from_one_address_pass(ask_at_once):
    answers, sent = ask_at_once([new_mobile() for _ in range(40)], **forged(random_address()))
    assert_passed(20, answers, passed=(200, None))
    assert sent == 20

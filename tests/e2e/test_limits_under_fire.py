"""A hundred tries at the same moment, in two workers on one Redis: never more than the limit are made.

How many were made is read from what the shop answers to a try that was made, and from the messages it sent. The same
limits one call after the other: test_limits.py, test_sms.py, test_throttles.py.
"""

import time
from collections import Counter
from uuid import uuid4

import pytest
from django.contrib.auth import get_user_model

from tests.e2e.crashing_seams import SETTINGS
from tests.tools.processes import Visitor, random_address
from tests.tools.shoppers import (
    PASSWORD,
    Shopper,
    a_few_at_a_time,
    at_once,
    database_of_the_tests,
    new_mobile,
    read_page,
    shop_and_qq,
    tally,
    told,
)

pytestmark = pytest.mark.servers

FIRE = 100


@pytest.fixture(scope="module")
def running_shop(django_db_setup, tmp_path_factory):
    settings = {"DATABASE_URL": database_of_the_tests(), "DJANGO_SETTINGS_MODULE": SETTINGS, "workers": 2}
    with shop_and_qq(tmp_path_factory.mktemp("var"), **settings, threads=32) as running:
        yield running


@pytest.fixture
def new_shopper(running_shop, transactional_db):
    """A function: somebody new with a browser of their own."""
    shop, qq = running_shop
    qq.reset()
    return lambda: Shopper([shop], qq)


@pytest.fixture
def url(running_shop):
    return running_shop[0].url


def forged(address):
    """The headers of a caller from this address who claims to be a proxy for somebody else, each time for another."""
    return {"X_Forwarded_For": f"{random_address()}, {address}"}


def in_one_minute(fire):
    """Fire again, at another target, if the minute has ended meanwhile: these limits count by the clock's minutes."""
    while True:
        minute = time.time() // 60
        answers = fire()
        if time.time() // 60 == minute:
            return answers


def assert_says_when(answers):
    """Whoever is turned away is told when to come again."""
    waits = [int(answer.headers["Retry-After"]) for answer in answers]
    assert waits
    assert all(1 <= wait <= 3600 for wait in waits)


def refused(answers):
    return [answer for answer in answers if answer.status == 429]


def wrong_form(bind_token):
    return {"mobile": new_mobile(), "password": PASSWORD, "sms_code": "000000", "access_token": bind_token}


# By address -----------------------------------------------------------------------------------------------------------


def test_sixty_of_a_hundred_starts_from_one_address_go_to_qq(new_shopper, url, running_shop):
    def fire():
        address = random_address()
        visitors = [Visitor() for _ in range(FIRE)]
        start = f"{url}/oauth/qq/login/?next=/cart"
        return at_once(*(lambda v=v: v.get(start, **forged(address)) for v in visitors))

    answers = in_one_minute(fire)
    assert {answer.status for answer in answers} == {302}
    at_qq = [answer for answer in answers if answer.headers["Location"].startswith(running_shop[1].url)]
    rest = [answer for answer in answers if answer not in at_qq]
    assert (len(at_qq), len(rest)) == (60, FIRE - 60)
    assert all(read_page(answer.headers["Location"])["error"] == "throttled" for answer in rest)
    assert not any(answer.headers["Set-Cookie"] for answer in rest)
    assert_says_when(rest)


def test_thirty_of_fifty_callbacks_from_one_address_get_in_and_the_others_later(new_shopper):
    def fire():
        shoppers = [new_shopper() for _ in range(50)]
        backs = a_few_at_a_time([shopper.sign_in for shopper in shoppers])
        address = random_address()
        together = list(zip(shoppers, backs, strict=True))
        calls = (lambda s=shopper, back=back: s.visitor.get(back, **forged(address)) for shopper, back in together)
        return list(zip(at_once(*calls), together, strict=True))

    arrivals = in_one_minute(fire)
    pages = [(read_page(answer.headers["Location"]), *who) for answer, who in arrivals]
    turned_away = [(shopper, back) for page, shopper, back in pages if "code" not in page]
    assert len(turned_away) == 20
    assert {page["error"] for page, *_ in pages if "code" not in page} == {"throttled"}
    shopper, back = turned_away[0]
    assert "code" in shopper.come_back(back)  # from an address that has calls left: nothing was used up


def test_sixty_of_a_hundred_calls_of_the_page_from_one_address_are_looked_at(new_shopper):
    def fire():
        address, shopper = random_address(), new_shopper()
        return at_once(*[lambda: shopper.collect("no-code", **forged(address))] * FIRE)

    answers = in_one_minute(fire)
    assert tally(answers) == {(400, "code_invalid"): 60, (429, "throttled"): 40}
    assert_says_when(refused(answers))


def test_ten_of_a_hundred_wrong_forms_from_one_address_are_looked_at(new_shopper):
    shoppers = [new_shopper() for _ in range(50)]
    bind_tokens = a_few_at_a_time([shopper.get_bind_token for shopper in shoppers])

    def fire():
        address = random_address()
        forms = [(shopper, wrong_form(bind_token)) for shopper, bind_token in zip(shoppers, bind_tokens, strict=True)]
        return at_once(*(lambda s=s, form=form: s.bind(form, **forged(address)) for s, form in forms * 2))

    answers = in_one_minute(fire)
    assert tally(answers) == {(400, "invalid"): 10, (429, "throttled"): FIRE - 10}
    assert_says_when(refused(answers))


def test_ten_of_a_hundred_wrong_passwords_from_one_address_are_looked_at(new_shopper, url):
    address, visitor = random_address(), Visitor()
    logins = [{"username": new_mobile(), "password": PASSWORD} for _ in range(FIRE)]
    calls = (lambda login=login: visitor.post(f"{url}/authorizations/", login, **forged(address)) for login in logins)
    answers = at_once(*calls)
    assert Counter(answer.status for answer in answers) == {400: 10, 429: FIRE - 10}
    assert_says_when(refused(answers))


# By what is tried -----------------------------------------------------------------------------------------------------


def test_five_of_a_hundred_wrong_forms_of_one_login_are_looked_at_wherever_they_come_from(new_shopper):
    shopper = new_shopper()
    form = wrong_form(shopper.get_bind_token())
    addresses = [random_address() for _ in range(FIRE)]
    answers = at_once(*(lambda address=address: shopper.bind(form, X_Forwarded_For=address) for address in addresses))
    assert tally(answers) == {(400, "invalid"): 5, (400, "bind_tries"): FIRE - 5}


def test_five_of_a_hundred_wrong_passwords_of_one_account_are_looked_at_and_then_not_even_the_right_one(
    new_shopper, url
):
    shopper, mobile = new_shopper(), new_mobile()
    get_user_model().objects.create_user("zhang3", password=PASSWORD, mobile=mobile)
    form = shopper.fill_in(mobile)  # somebody who has the number too

    def log_in(name, password):
        return Visitor().post(f"{url}/authorizations/", {"username": name, "password": password})

    names = ["zhang3", mobile] * (FIRE // 2)
    answers = at_once(*(lambda name=name: log_in(name, "wrong horse") for name in names))
    assert Counter(answer.status for answer in answers) == {400: 5, 429: FIRE - 5}
    assert_says_when(refused(answers))

    right = log_in("zhang3", PASSWORD)
    assert (right.status, right.body) == (429, refused(answers)[0].body)
    assert told(shopper.bind(form)) == (429, "throttled")  # one lock for every door
    answers = at_once(*[lambda: log_in("li4", PASSWORD)] * FIRE)
    assert Counter(answer.status for answer in answers) == {400: 5, 429: FIRE - 5}  # as if there were an account


def test_after_two_hundred_wrong_guesses_not_even_the_right_sms_code_is_taken(new_shopper):
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
    assert tally(answers) == {(400, "invalid"): 200}
    assert {answer.body for answer in answers} == {answers[0].body}
    refused = victim.bind(form)
    assert (refused.status, refused.body) == (400, answers[0].body)
    assert not get_user_model().objects.exists()


# SMS ------------------------------------------------------------------------------------------------------------------


class Asker:
    """Somebody who has read an image code and may ask for an SMS once."""

    def __init__(self, shop):
        self.shop, self.visitor = shop, Visitor()

    def read_picture(self):
        picture = str(uuid4())
        assert self.visitor.get(f"{self.shop.url}/image_codes/{picture}/").status == 200
        text = self.shop.last_line("captcha.log", id=picture)["text"]
        self.query = f"text={text}&image_code_id={picture}"
        return self

    def ask(self, mobile, **headers):
        return self.visitor.get(f"{self.shop.url}/sms_codes/{mobile}/?{self.query}", **headers)


@pytest.fixture
def new_askers(running_shop, transactional_db):
    def new_askers(number):
        return a_few_at_a_time([Asker(running_shop[0]).read_picture for _ in range(number)])

    return new_askers


def count_messages(shop):
    log = shop.var / "sms.log"
    return len(log.read_text().splitlines()) if log.exists() else 0


@pytest.mark.parametrize("round", range(5))
def test_twenty_askers_at_once_send_one_sms_to_one_number(running_shop, new_askers, round):
    mobile, before = new_mobile(), count_messages(running_shop[0])
    answers = at_once(*(lambda asker=asker: asker.ask(mobile) for asker in new_askers(20)))
    assert Counter(answer.status for answer in answers) == {200: 1, 429: 19}
    assert_says_when(refused(answers))
    assert count_messages(running_shop[0]) == before + 1


def test_one_image_code_sends_one_sms_however_often_it_is_used_at_once(running_shop, new_askers):
    for asker in new_askers(10):
        before = count_messages(running_shop[0])
        answers = at_once(*[lambda asker=asker: asker.ask(new_mobile())] * 20)
        assert Counter(answer.status for answer in answers) == {200: 1, 400: 19}
        assert count_messages(running_shop[0]) == before + 1


def test_one_address_sends_twenty_sms_an_hour_whatever_it_says_it_is(running_shop, new_askers):
    before, address = count_messages(running_shop[0]), random_address()
    askers = new_askers(40)
    answers = at_once(*(lambda asker=asker: asker.ask(new_mobile(), **forged(address)) for asker in askers))
    assert Counter(answer.status for answer in answers) == {200: 20, 429: 20}
    assert_says_when(refused(answers))
    assert count_messages(running_shop[0]) == before + 20

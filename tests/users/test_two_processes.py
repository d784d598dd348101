"""Two processes of one shop, which share its limits and its tokens."""

import os
import secrets
from collections import Counter
from urllib.parse import urlencode
from uuid import uuid4

import pytest
from django.db import connection

from tests.conftest import PASSWORD
from tests.tools import processes
from tests.tools.requirements import requirement
from tests.users.helpers import at_once

pytestmark = [pytest.mark.servers, pytest.mark.django_db(transaction=True)]


@pytest.fixture(scope="module")
def two_processes(django_db_setup, tmp_path_factory):
    var = tmp_path_factory.mktemp("var")
    server = os.environ["DATABASE_URL"].rpartition("/")[0]
    environ = {"DATABASE_URL": f"{server}/{connection.settings_dict['NAME']}"}
    with processes.shop(var, **environ) as first, processes.shop(var, **environ) as second:
        yield first, second


@pytest.fixture
def user(users, settings):
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.PBKDF2PasswordHasher"]  # that of the processes
    return users.create_user(f"zhang_{secrets.token_hex(4)}", password=PASSWORD)


@requirement("6.1")
def test_five_of_a_hundred_simultaneous_guesses_are_compared(two_processes, user):
    def guess(number):
        visitor = processes.Visitor(f"203.0.{number // 250}.{number % 250}")
        form = {"username": user.username, "password": f"horse {number}"}
        return visitor.post(f"{two_processes[number % 2].url}/authorizations/", form).status

    assert Counter(at_once(guess, 100)) == {400: 5, 429: 95}
    assert Counter(at_once(guess, 10)) == {429: 10}


@requirement("6.4")
def test_one_of_twenty_simultaneous_requests_sends_an_sms(two_processes, users):
    mobile = f"13{secrets.randbelow(10**9):09}"
    visitors = [processes.Visitor() for _ in range(20)]
    answers = []
    for visitor in visitors:
        image_code_id = str(uuid4())
        visitor.get(f"{two_processes[0].url}/image_codes/{image_code_id}/")
        text = two_processes[0].last_line("captcha.log", id=image_code_id)["text"]
        answers.append(urlencode({"text": text, "image_code_id": image_code_id}))

    def ask(number):
        return visitors[number].get(f"{two_processes[number % 2].url}/sms_codes/{mobile}/?{answers[number]}").status

    assert sorted(at_once(ask, 20)) == [200] + [429] * 19


@requirement("5.4")
def test_changed_password_ends_the_tokens_at_both_processes_at_once(two_processes, user):
    visitor = processes.Visitor()
    form = {"username": user.username, "password": PASSWORD}
    token = visitor.post(f"{two_processes[0].url}/authorizations/", form).json()["token"]

    def statuses():
        return [visitor.get(f"{shop.url}/user/", Authorization=f"JWT {token}").status for shop in two_processes]

    assert statuses() == [200, 200]
    user.set_password("another horse")
    user.save()
    assert statuses() == [401, 401]

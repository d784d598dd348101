"""The account serializer: which account a mobile, a password and an SMS code lead to."""

import re
from threading import Barrier

import pytest
from django.core.cache import cache
from django.db import transaction
from rest_framework.exceptions import ValidationError

from apps.users import sms
from tests.conftest import MOBILE, PASSWORD
from tests.tools.requirements import requirement
from tests.users import texts
from tests.users.checks import assert_invalid, get_errors
from tests.users.helpers import OTHER_MOBILE, make_serializer, other_code, post, simultaneously

ATTEMPT, OTHER_ATTEMPT = "0123456789ab", "ba9876543210"
WRONG_CODE = {"sms_code": [texts.SMS_CODE_WRONG]}
WRONG_PASSWORD = {"password": [texts.BIND_PASSWORD_WRONG]}


@requirement("7.8")
def test_new_mobile_gets_an_account_with_an_unguessable_username_also_after_a_rollback(proof, users):
    serializer = make_serializer(proof)
    assert serializer.is_valid()
    with transaction.atomic():
        serializer.save()
        transaction.set_rollback(True)
    assert not users.exists()
    user = serializer.save()
    assert serializer.save() == users.get() == user
    assert (user.mobile, user.is_active, user.is_staff) == (MOBILE, True, False)
    assert user.check_password(PASSWORD)
    assert re.fullmatch("user_[0-9a-f]{16}", user.username)


@pytest.mark.parametrize("flags", [{}, {"is_active": False}, {"is_staff": True}])
def test_known_mobile_gets_its_account_and_the_caller_judges_its_state(account, proof, users, flags):
    users.update(**flags)
    for _ in range(4):  # a wrong password costs no new SMS
        assert get_errors(make_serializer(proof | {"password": "another horse"})) == WRONG_PASSWORD
    serializer = make_serializer(proof)
    assert serializer.is_valid()
    assert serializer.save() == users.get() == account


def test_account_created_meanwhile_is_used_only_with_its_password(proof, users):
    serializer = make_serializer(proof)
    assert serializer.is_valid()
    account = users.create_user("zhang3", password="another horse", mobile=MOBILE)
    with transaction.atomic(), pytest.raises(ValidationError) as refused:
        serializer.save()
    assert refused.value.detail == WRONG_PASSWORD
    account.set_password(PASSWORD)
    account.save()
    with transaction.atomic():
        assert serializer.save() == users.get() == account


@pytest.mark.servers
@pytest.mark.django_db(transaction=True)
def test_two_simultaneous_new_accounts_on_one_mobile_become_one(phone, users):
    serializers, both_inside = [], Barrier(2, timeout=10)
    for _ in range(2):  # each with its own SMS code, both before there is an account
        cache.clear()  # the second code need not wait
        serializers.append(make_serializer({"mobile": MOBILE, "password": PASSWORD, "sms_code": phone.receive_code()}))
        assert serializers[-1].is_valid()

    def save(number):
        with transaction.atomic():
            users.exists()  # a transaction that has already read must still see what the other one commits
            both_inside.wait()
            return serializers[number].save().pk

    assert simultaneously(save, 2) == [users.get().pk] * 2


@requirement("6.3")
def test_mistyped_password_costs_no_new_sms_for_ten_minutes(clock, account, phone, proof):
    clock.shift(240)
    assert get_errors(make_serializer(proof | {"password": "another horse"}, attempt=ATTEMPT)) == WRONG_PASSWORD
    phone.receive_code()  # the proof outlives a new code
    clock.shift(599)
    assert make_serializer(proof, attempt=ATTEMPT).is_valid()
    assert make_serializer(proof, attempt=ATTEMPT).is_valid()  # sent twice, as after a rollback
    clock.shift(1)
    assert get_errors(make_serializer(proof, attempt=ATTEMPT)) == WRONG_CODE


@requirement("6.3")
def test_code_serves_one_mobile_in_the_attempt_that_used_it(account, proof, client):
    wrong = proof | {"sms_code": other_code(proof["sms_code"])}
    for _ in range(2):
        assert get_errors(make_serializer(wrong, attempt=ATTEMPT)) == WRONG_CODE
    assert get_errors(make_serializer(proof | {"password": "another horse"}, attempt=ATTEMPT)) == WRONG_PASSWORD
    assert get_errors(make_serializer(proof, attempt=OTHER_ATTEMPT)) == WRONG_CODE
    assert get_errors(make_serializer(proof)) == WRONG_CODE
    assert get_errors(make_serializer(proof | {"mobile": OTHER_MOBILE}, attempt=ATTEMPT)) == WRONG_CODE
    assert_invalid(post(client, "/password/", proof), "sms_code", texts.SMS_CODE_WRONG)
    assert make_serializer(proof, attempt=ATTEMPT).is_valid()


@requirement("6.3")
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("has_attempt", [True, False])
def test_one_of_many_simultaneous_forms_gets_the_code(proof, has_attempt):
    def ask(number):
        return make_serializer(proof, **({"attempt": f"{number:012x}"} if has_attempt else {})).is_valid()

    assert sorted(simultaneously(ask)) == [False] * 7 + [True]


@requirement("6.3")
def test_crash_between_code_and_proof_costs_no_new_sms(account, proof):
    assert sms.claim_code(sms.find_code(MOBILE, proof["sms_code"], ATTEMPT), ATTEMPT)
    assert get_errors(make_serializer(proof, attempt=OTHER_ATTEMPT)) == WRONG_CODE
    assert make_serializer(proof, attempt=ATTEMPT).is_valid()

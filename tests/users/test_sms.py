"""SMS codes: how they are sent and checked, and that nothing passes while the cache is down."""

import re
import secrets
from datetime import datetime, timedelta
from uuid import uuid4

import pytest
from django.core.cache.backends.locmem import LocMemCache
from django.core.checks import run_checks
from django.test import Client

from apps.users import sms
from tests.conftest import MOBILE, PASSWORD
from tests.tools.requirements import requirement
from tests.users import texts
from tests.users.checks import assert_error, assert_invalid, assert_too_often, get_errors
from tests.users.helpers import OTHER_MOBILE, get_token, make_serializer, other_code, post, simultaneously

WRONG = {"sms_code": [texts.SMS_CODE_WRONG]}


def test_development_back_end_prints_the_message_and_writes_it_to_a_private_file(phone, capsys):
    code = phone.receive_code()
    line = phone.last_line("sms.log")
    text = f"【美多商城】您的验证码是{code}，5分钟内有效，请勿告诉他人。"
    assert re.fullmatch("[0-9]{6}", code)
    assert line == {"mobile": MOBILE, "text": text, "time": line["time"]}
    assert datetime.fromisoformat(line["time"]).utcoffset() == timedelta(0)
    assert text in capsys.readouterr().out
    assert (phone.var / "sms.log").stat().st_mode & 0o777 == 0o600


def refuse_to_send(mobile, code, minutes):
    raise sms.SMSError("the provider says no")


def test_failure_of_the_provider_is_reported_and_begins_the_wait_of_a_minute(phone, settings, clock):
    settings.SMS_BACKEND = f"{__name__}.refuse_to_send"
    assert_error(phone.ask_for_code(), 503, "sms_unavailable", "短信发送失败，请稍后再试。")
    settings.SMS_BACKEND = "apps.users.development.send_sms"
    assert_too_often(phone.ask_for_code(), 60)
    clock.shift(60)
    assert phone.receive_code()


@pytest.mark.parametrize("path", ["no.such.function", "apps.users.sms.LIFETIME", "nonsense"])
def test_check_refuses_a_back_end_that_is_not_a_function(settings, path):
    settings.SMS_BACKEND = path
    assert [error.id for error in run_checks() if error.id.startswith("users.")] == ["users.E001"]


@requirement("6.3")
@pytest.mark.parametrize(("age", "is_valid"), [(299, True), (300, False)])
def test_code_lives_five_minutes(clock, proof, age, is_valid):
    clock.shift(age)
    assert make_serializer(proof).is_valid() is is_valid


@requirement("6.3")
def test_code_works_once_for_its_mobile(account, proof, phone):
    other = phone.receive_code(OTHER_MOBILE)
    if other != proof["sms_code"]:
        assert get_errors(make_serializer(proof | {"sms_code": other})) == WRONG
    assert make_serializer(proof).is_valid()
    for context in ({}, {"attempt": "0123456789ab"}):
        assert get_errors(make_serializer(proof, **context)) == WRONG


@requirement("6.3")
def test_new_code_replaces_the_old_and_has_its_own_tries(clock, phone, proof):
    for _ in range(5):
        get_errors(make_serializer(proof | {"sms_code": other_code(proof["sms_code"])}))
    code = proof["sms_code"]
    while code == proof["sms_code"]:  # two equal codes in a row are possible
        clock.shift(60)
        code = phone.receive_code()
    assert get_errors(make_serializer(proof)) == WRONG
    assert make_serializer(proof | {"sms_code": code}).is_valid()


@requirement("6.3", "11 SMS check")
@pytest.mark.parametrize(("tries", "is_valid"), [(4, True), (5, False)])
def test_fifth_wrong_try_ends_the_code(proof, tries, is_valid):
    for _ in range(tries):
        assert get_errors(make_serializer(proof | {"sms_code": other_code(proof["sms_code"])})) == WRONG
    assert make_serializer(proof).is_valid() is is_valid


@pytest.fixture
def compared(monkeypatch):
    """The SMS codes that are compared with the right one."""
    compared, compare = [], secrets.compare_digest

    def record(one, other):
        if re.fullmatch(b"[0-9]{6}", one):
            compared.append(other)
        return compare(one, other)

    monkeypatch.setattr(secrets, "compare_digest", record)
    return compared


@requirement("6.3")
def test_five_of_many_simultaneous_guesses_are_compared(registration, compared):
    right = int(registration["sms_code"])
    guesses = [f"{(right + number) % 10**6:06}" for number in range(1, 51)]

    def guess(number):
        return post(Client(REMOTE_ADDR=f"203.0.113.{number}"), "/users/", registration | {"sms_code": guesses[number]})

    assert {answer.status_code for answer in simultaneously(guess, 50)} == {400}
    assert len(compared) == 5
    assert_invalid(post(Client(), "/users/", registration), "sms_code", texts.SMS_CODE_WRONG)


@requirement("6.7")
def test_common_password_of_a_new_account_costs_no_new_sms_however_often(registration, compared):
    common = registration | {"password": "password1", "password2": "password1"}
    for answer in simultaneously(lambda _: post(Client(), "/users/", common), 3):
        assert_invalid(answer, "password", texts.PASSWORD_COMMON)
    for _ in range(6):
        assert get_errors(make_serializer(common)) == {"password": [texts.PASSWORD_COMMON]}
    assert len(compared) == 9
    assert make_serializer(registration).is_valid()


@requirement("9.8")
@pytest.mark.parametrize(
    ("backend", "location"),
    [("redis.RedisCache", "redis://127.0.0.1:9"), ("memcached.PyMemcacheCache", "127.0.0.1:9")],
)
def test_without_the_cache_counted_calls_are_refused_and_the_rest_works(client, account, settings, backend, location):
    headers = {"Authorization": f"JWT {get_token(client)}"}
    form = {"mobile": MOBILE, "username": "xiaoming", "password": PASSWORD, "password2": PASSWORD, "allow": True}
    form |= {"sms_code": "123456", "old_password": PASSWORD}
    settings.CACHES = {"default": {"BACKEND": f"django.core.cache.backends.{backend}", "LOCATION": location}}
    for response in (
        client.get(f"/image_codes/{uuid4()}/"),
        client.get(f"/sms_codes/{MOBILE}/", {"text": "abcd", "image_code_id": str(uuid4())}),
        client.get("/usernames/zhang3/count/"),
        client.get(f"/mobiles/{MOBILE}/count/"),
        post(client, "/authorizations/", form),
        post(client, "/users/", form),
        post(client, "/password/", form),
        client.put("/user/password/", form, content_type="application/json", headers=headers),
    ):
        assert_error(response, 503, "cache_unavailable", "登录服务暂时不可用，请稍后再试。")
    assert client.get("/user/", headers=headers).status_code == 200
    account.refresh_from_db()
    assert account.check_password(PASSWORD)


class LateCache(LocMemCache):
    """A cache whose answer to the first claim of an SMS code comes too late."""

    is_late = False

    def add(self, key, *args, **kwargs):
        added = super().add(key, *args, **kwargs)
        if LateCache.is_late and "sms_claim" in key:
            LateCache.is_late = False
            raise TimeoutError
        return added


@pytest.fixture
def late_cache(use_cache, monkeypatch):
    use_cache(f"{__name__}.LateCache")
    monkeypatch.setattr(LateCache, "is_late", True)


def test_claim_that_the_cache_answers_too_late_uses_no_code_up(late_cache, client, registration):
    assert_error(post(client, "/users/", registration), 503, "cache_unavailable", "登录服务暂时不可用，请稍后再试。")
    assert post(client, "/users/", registration).status_code == 201

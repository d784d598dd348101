"""Image codes and SMS codes, and what a number proved by one is worth."""

import re
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone
from threading import Barrier
from uuid import uuid4

import pytest
import time_machine
from django.core.cache import cache
from django.core.checks import run_checks
from django.db import connection, transaction
from django.test import Client, RequestFactory
from PIL import Image

from apps.oauth.errors import CacheUnavailable
from apps.users import image_codes, sms
from apps.users.serializers import AccountSerializer
from tests.conftest import MOBILE, PASSWORD, Phone
from tests.users.test_views import at_once, post, stopped_clock

SMS_CODE_WRONG = "短信验证码错误或已过期。"
IMAGE_CODE_WRONG = "图形验证码错误或已过期。"


@pytest.fixture
def users(django_user_model):
    return django_user_model.objects


@pytest.fixture
def clock(settings):
    with stopped_clock(settings) as clock:
        yield clock


@pytest.fixture
def proof(phone, db):
    """What the account serializer gets from somebody who holds the phone."""
    return {"mobile": MOBILE, "password": PASSWORD, "sms_code": phone.receive_code()}


def ask_account(data, **context):
    """Hand the account serializer a form as a login view does."""
    return AccountSerializer(data=data, context={"request": RequestFactory().post("/"), **context})


def other_code(code):
    return f"{(int(code) + 1) % 10**6:06}"


def refusal(data, **context):
    serializer = ask_account(data, **context)
    assert not serializer.is_valid()
    return serializer.errors


# Image codes


def test_image_code_is_a_picture_that_nobody_keeps(client, phone):
    response = client.get(f"/image_codes/{uuid4()}/", headers={"Accept": "image/png"})
    assert response.status_code == 200
    assert response["Content-Type"] == "image/png"
    assert response["Cache-Control"] == "no-store"
    assert response.content.startswith(b"\x89PNG")


def test_image_code_is_readable_by_a_picture_library(client, tmp_path):
    path = tmp_path / "code.png"
    path.write_bytes(client.get(f"/image_codes/{uuid4()}/").content)
    with Image.open(path) as image:
        assert image.size == (160, 60)


def read_image_code(client, phone):
    """Ask for an image code; return its id and its text."""
    image_code_id = str(uuid4())
    client.get(f"/image_codes/{image_code_id}/")
    line = phone.last_line("captcha.log")
    assert line == {"id": image_code_id, "text": line["text"], "time": line["time"]}
    assert datetime.fromisoformat(line["time"]).utcoffset() == timedelta(0)
    return {"image_code_id": image_code_id, "text": line["text"]}


@pytest.fixture
def image_code(client, phone):
    return read_image_code(client, phone)


def ask_for_sms(client, image_code, mobile=MOBILE):
    return client.get(f"/sms_codes/{mobile}/", image_code)


def assert_image_code_refused(response):
    assert response.status_code == 400
    assert response.json() == {"code": "invalid", "message": IMAGE_CODE_WRONG, "text": [IMAGE_CODE_WRONG]}


def test_answers_are_written_down_only_where_asked(client, settings, tmp_path):
    settings.CAPTCHA_LOG = ""
    client.get(f"/image_codes/{uuid4()}/")
    assert not (tmp_path / "captcha.log").exists()


def test_letters_of_an_image_code_may_be_small(client, image_code):
    response = ask_for_sms(client, image_code | {"text": image_code["text"].lower()})
    assert response.status_code == 200
    assert response.json() == {"message": "OK"}


def test_wrong_image_code_spends_it(client, image_code, tmp_path):
    assert_image_code_refused(ask_for_sms(client, image_code | {"text": "0000"}))
    assert_image_code_refused(ask_for_sms(client, image_code))
    assert not (tmp_path / "sms.log").exists()


def test_right_image_code_spends_it(client, image_code):
    assert ask_for_sms(client, image_code).status_code == 200
    assert_image_code_refused(ask_for_sms(client, image_code, "13900000000"))


def test_image_code_lasts_five_minutes(client, phone):
    start = datetime.now(timezone.utc)
    for age, status in [(299, 200), (300, 400)]:
        with time_machine.travel(start, tick=False) as clock:
            image_code_id = str(uuid4())
            client.get(f"/image_codes/{image_code_id}/")
            text = phone.last_line("captcha.log")["text"]
            clock.shift(age)
            mobile = f"1390000{age:04}"
            assert ask_for_sms(client, {"image_code_id": image_code_id, "text": text}, mobile).status_code == status


def test_image_code_is_checked_once_however_many_ask(client, image_code):
    checked = at_once(lambda _: image_codes.check(image_code["image_code_id"], image_code["text"]))
    assert sorted(checked) == [False] * 7 + [True]


@pytest.mark.parametrize(
    ("query", "field", "sentence"),
    [
        ({"text": ""}, "text", "请输入图形验证码。"),
        ({"text": "x" * 1000}, "text", IMAGE_CODE_WRONG),
        ({"text": "a\0b"}, "text", IMAGE_CODE_WRONG),
        ({"image_code_id": "no id"}, "image_code_id", IMAGE_CODE_WRONG),
        ({"image_code_id": ""}, "image_code_id", IMAGE_CODE_WRONG),
    ],
)
def test_sms_is_refused_for_a_garbled_image_code(client, image_code, query, field, sentence):
    response = ask_for_sms(client, image_code | query)
    assert response.status_code == 400
    assert response.json() == {"code": "invalid", "message": sentence, field: [sentence]}


def test_sms_is_refused_for_what_is_no_number(client, image_code):
    response = ask_for_sms(client, image_code, "123")
    assert response.status_code == 400
    assert response.json() == {"code": "invalid", "message": "手机号格式不正确。", "mobile": ["手机号格式不正确。"]}


# SMS codes


def test_development_back_end_prints_the_message_and_writes_a_line(phone, capsys):
    code = phone.receive_code()
    line = phone.last_line("sms.log")
    text = f"【美多商城】您的验证码是{code}，5分钟内有效，请勿告诉他人。"
    assert line == {"mobile": MOBILE, "text": text, "time": line["time"]}
    assert datetime.fromisoformat(line["time"]).utcoffset() == timedelta(0)
    assert re.fullmatch("[0-9]{6}", code)
    assert text in capsys.readouterr().out
    assert (phone.var / "sms.log").stat().st_mode & 0o777 == 0o600


def test_second_sms_has_to_wait_a_minute(phone, clock):
    phone.receive_code()
    clock.shift(59)
    response = phone.ask_for_code()
    assert response.status_code == 429
    assert response["Retry-After"] == "1"
    assert response.json() == {"code": "throttled", "message": "操作太频繁，请稍后再试。"}
    clock.shift(1)
    assert phone.ask_for_code().json() == {"message": "OK"}


def test_wait_of_one_number_is_not_that_of_another(phone):
    phone.receive_code()
    assert phone.ask_for_code("13900000000").json() == {"message": "OK"}


def test_one_sms_is_sent_however_many_ask(tmp_path):
    shoppers = [Client(REMOTE_ADDR=f"198.51.100.{number}") for number in range(20)]
    read = [read_image_code(shopper, Phone(tmp_path, shopper)) for shopper in shoppers]

    def send(number):
        return ask_for_sms(shoppers[number], read[number]).status_code

    assert sorted(at_once(send, 20)) == [200] + [429] * 19
    assert len((tmp_path / "sms.log").read_text().splitlines()) == 1


def test_new_code_kills_the_old(clock, phone, db):
    proof = {"mobile": MOBILE, "password": PASSWORD, "sms_code": phone.receive_code()}
    clock.shift(60)
    code = phone.receive_code()
    while code == proof["sms_code"]:  # one time in a million
        clock.shift(60)
        code = phone.receive_code()
    assert refusal(proof) == {"sms_code": [SMS_CODE_WRONG]}
    assert ask_account(proof | {"sms_code": code}).is_valid()


def refuse_message(mobile, code, minutes):
    raise sms.SMSError("the provider says no")


def test_provider_that_fails_is_told_to_the_shopper(phone, settings):
    settings.SMS_BACKEND = f"{__name__}.refuse_message"
    response = phone.ask_for_code()
    assert response.status_code == 503
    assert response.json() == {"code": "sms_unavailable", "message": "短信发送失败，请稍后再试。"}


@pytest.mark.parametrize("path", ["no.such.function", "apps.users.sms.LIFETIME", "nonsense"])
def test_back_end_that_is_no_function_is_found_at_the_start(settings, path):
    settings.SMS_BACKEND = path
    assert [error.id for error in run_checks() if error.id.startswith("users.")] == ["users.E001"]


def evaluated(guesses):
    """Make the guesses at the same moment; return which of them were compared."""
    compared = []

    class Guess(str):
        def __str__(self):
            compared.append(self[:])
            return self[:]

    at_once(lambda number: sms.find_code(MOBILE, Guess(guesses[number]), "somebody"), len(guesses))
    return compared


def test_guesses_at_the_same_moment_are_five_a_code(proof):
    wrong = [f"{(int(proof['sms_code']) + number) % 10**6:06}" for number in range(1, 201)]
    assert len(evaluated(wrong)) == 5
    assert refusal(proof) == {"sms_code": [SMS_CODE_WRONG]}


def test_a_code_is_read_right_however_many_know_it(proof):
    assert len(evaluated([proof["sms_code"]] * 3)) == 3
    assert ask_account(proof).is_valid()


def test_right_code_is_no_try(proof):
    for _ in range(6):
        assert refusal(proof | {"password": "password1"}) == {"password": ["这个密码太常见了。"]}
    assert ask_account(proof).is_valid()


def test_a_new_code_has_tries_of_its_own(clock, phone, account):
    for _ in range(2):
        code = phone.receive_code()
        for _ in range(5):
            refusal({"mobile": MOBILE, "password": PASSWORD, "sms_code": other_code(code)})
        clock.shift(60)
    data = {"mobile": MOBILE, "password": PASSWORD, "sms_code": phone.receive_code()}
    assert ask_account(data).is_valid()


# What is proved within one attempt to log in

ATTEMPT, OTHER_ATTEMPT = "0123456789ab", "ba9876543210"


def test_mistyped_password_costs_no_new_sms_within_an_attempt(clock, account, phone):
    data = {"mobile": MOBILE, "password": PASSWORD, "sms_code": phone.receive_code()}
    clock.shift(299)
    assert list(refusal(data | {"password": "another horse"}, attempt=ATTEMPT)) == ["password"]
    clock.shift(599)  # the code has ended, and the proof has not
    assert ask_account(data, attempt=ATTEMPT).is_valid()
    assert ask_account(data, attempt=ATTEMPT).is_valid()  # sent twice, as after a rollback
    clock.shift(1)
    assert refusal(data, attempt=ATTEMPT) == {"sms_code": [SMS_CODE_WRONG]}


def test_proof_outlives_a_new_code_for_the_number(clock, account, phone):
    data = {"mobile": MOBILE, "password": PASSWORD, "sms_code": phone.receive_code()}
    refusal(data | {"password": "another horse"}, attempt=ATTEMPT)
    clock.shift(60)
    phone.receive_code()
    assert ask_account(data, attempt=ATTEMPT).is_valid()


def test_code_serves_one_attempt_and_no_other(account, proof, client):
    assert list(refusal(proof | {"password": "another horse"}, attempt=ATTEMPT)) == ["password"]
    assert refusal(proof, attempt=OTHER_ATTEMPT) == {"sms_code": [SMS_CODE_WRONG]}
    assert refusal(proof) == {"sms_code": [SMS_CODE_WRONG]}
    response = post(client, "/password/", proof)
    assert response.json() == {"code": "invalid", "message": SMS_CODE_WRONG, "sms_code": [SMS_CODE_WRONG]}
    assert ask_account(proof, attempt=ATTEMPT).is_valid()


def test_code_of_a_registration_serves_no_attempt(account, proof):
    assert ask_account(proof).is_valid()
    assert refusal(proof, attempt=ATTEMPT) == {"sms_code": [SMS_CODE_WRONG]}


@pytest.mark.django_db(transaction=True)
def test_one_of_many_attempts_gets_the_code(account, proof):
    checked = at_once(lambda number: ask_account(proof, attempt=f"{number:012x}").is_valid())
    assert sorted(checked) == [False] * 7 + [True]


def test_process_that_died_halfway_costs_no_new_sms(account, proof):
    # Claimed, and the proof not yet remembered.
    assert sms.claim_code(sms.find_code(MOBILE, proof["sms_code"], ATTEMPT), ATTEMPT)
    assert refusal(proof, attempt=OTHER_ATTEMPT) == {"sms_code": [SMS_CODE_WRONG]}
    assert ask_account(proof, attempt=ATTEMPT).is_valid()


def test_proof_is_of_one_number(account, proof):
    assert ask_account(proof, attempt=ATTEMPT).is_valid()
    other = proof | {"mobile": "13900000000"}
    assert refusal(other, attempt=ATTEMPT) == {"sms_code": [SMS_CODE_WRONG]}


def test_wrong_code_proves_nothing_to_an_attempt(account, proof):
    refusal(proof | {"sms_code": other_code(proof["sms_code"])}, attempt=ATTEMPT)
    assert not sms.is_proved(MOBILE, ATTEMPT)
    assert ask_account(proof, attempt=ATTEMPT).is_valid()


# The account behind a number


def test_new_number_gets_an_account_with_an_unguessable_name(proof, users):
    serializer = ask_account(proof)
    assert serializer.is_valid()
    user = serializer.save()
    assert users.get() == user
    assert user.mobile == MOBILE
    assert user.check_password(PASSWORD)
    assert re.fullmatch("user_[0-9a-f]{16}", user.username)
    assert (user.is_active, user.is_staff) == (True, False)


def test_known_number_gets_its_account(account, proof, users):
    serializer = ask_account(proof)
    assert serializer.is_valid()
    assert serializer.save() == account
    assert users.get() == account


@pytest.mark.parametrize("flag", [{"is_active": False}, {"is_staff": True}])
def test_whether_an_account_may_go_on_is_left_to_the_caller(account, proof, users, flag):
    users.update(**flag)
    serializer = ask_account(proof)
    assert serializer.is_valid()
    assert serializer.save() == account


def test_wrong_sms_code_tells_nothing_of_the_account(account, proof):
    wrong = proof | {"sms_code": other_code(proof["sms_code"])}
    expected = {"sms_code": [SMS_CODE_WRONG]}
    assert refusal(wrong) == expected
    assert refusal(wrong | {"password": "another horse"}) == expected
    assert refusal(wrong | {"mobile": "13900000000"}) == expected


def test_wrong_password_costs_no_new_sms_and_is_told_with_the_way_out(account, proof):
    wrong = proof | {"password": "another horse"}
    for _ in range(4):
        assert refusal(wrong) == {"password": ["手机号或密码不正确。忘记密码的话，可以用短信验证码重设密码。"]}
    assert ask_account(proof).is_valid()


def test_common_password_is_refused_for_a_new_account(proof, users):
    assert refusal(proof | {"password": "password1"}) == {"password": ["这个密码太常见了。"]}
    assert ask_account(proof).is_valid()


def test_sms_code_works_once(account, proof):
    assert ask_account(proof).is_valid()
    assert refusal(proof) == {"sms_code": [SMS_CODE_WRONG]}


def test_sms_code_is_used_up_by_one_however_many_try(proof):
    code_id = sms.find_code(MOBILE, proof["sms_code"], "somebody")
    assert sorted(at_once(lambda number: sms.claim_code(code_id, f"claimant {number}"))) == [False] * 7 + [True]


def test_sms_code_of_another_number_does_not_count(proof, phone):
    other = phone.receive_code("13900000000")
    if other != proof["sms_code"]:
        assert refusal(proof | {"sms_code": other}) == {"sms_code": [SMS_CODE_WRONG]}


def test_sms_code_dies_of_five_wrong_tries(account, proof):
    wrong = proof | {"sms_code": other_code(proof["sms_code"])}
    for _ in range(5):
        refusal(wrong)
    assert refusal(proof) == {"sms_code": [SMS_CODE_WRONG]}


def test_sms_code_survives_four_wrong_tries(account, proof):
    wrong = proof | {"sms_code": other_code(proof["sms_code"])}
    for _ in range(4):
        refusal(wrong)
    assert ask_account(proof).is_valid()


@pytest.mark.parametrize(("age", "holds"), [(299, True), (300, False)])
def test_sms_code_lasts_five_minutes(account, phone, age, holds):
    with time_machine.travel(time.time(), tick=False) as clock:
        data = {"mobile": MOBILE, "password": PASSWORD, "sms_code": phone.receive_code()}
        clock.shift(age)
        assert ask_account(data).is_valid() is holds


def test_save_may_be_repeated_after_a_rollback(proof, users):
    serializer = ask_account(proof)
    assert serializer.is_valid()

    with transaction.atomic():
        serializer.save()
        transaction.set_rollback(True)
    assert not users.exists()
    assert serializer.save() == users.get()
    assert serializer.save() == users.get()


def test_account_made_meanwhile_with_the_same_password_is_taken(proof, users):
    serializer = ask_account(proof)
    assert serializer.is_valid()
    account = users.create_user("zhang3", password=PASSWORD, mobile=MOBILE)
    with transaction.atomic():
        assert serializer.save() == account
    assert users.get() == account


def test_account_made_meanwhile_with_another_password_is_not_taken(proof, users):
    serializer = ask_account(proof)
    assert serializer.is_valid()
    account = users.create_user("zhang3", password="another horse", mobile=MOBILE)
    with transaction.atomic(), pytest.raises(Exception, match="手机号或密码不正确"):
        serializer.save()
    assert users.get() == account


@pytest.mark.servers
@pytest.mark.django_db(transaction=True)
def test_two_new_accounts_on_one_number_at_once_become_one(phone, users):
    serializers = []
    for _ in range(2):  # each with an SMS code of its own, both before there is an account
        cache.clear()  # the second code need not wait
        data = {"mobile": MOBILE, "password": PASSWORD, "sms_code": phone.receive_code()}
        serializers.append(ask_account(data))
        assert serializers[-1].is_valid()
    both_inside = Barrier(2, timeout=10)

    def save(serializer):
        try:
            with transaction.atomic():
                users.exists()  # a transaction that has already looked must see what another one commits
                both_inside.wait()
                return serializer.save().pk
        finally:
            connection.close()

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(save, serializers)) == [users.get().pk] * 2


# The cache is down


REDIS = {"BACKEND": "django.core.cache.backends.redis.RedisCache", "LOCATION": "redis://127.0.0.1:9"}
MEMCACHED = {"BACKEND": "django.core.cache.backends.memcached.PyMemcacheCache", "LOCATION": "127.0.0.1:9"}


@pytest.mark.parametrize("cache_settings", [REDIS, MEMCACHED], ids=["redis", "memcached"])
def test_where_the_cache_is_down_nobody_passes_and_the_rest_goes_on(client, account, settings, cache_settings):
    login = post(client, "/authorizations/", {"username": MOBILE, "password": PASSWORD}).json()
    headers = {"Authorization": f"JWT {login['token']}"}
    form = {"mobile": MOBILE, "username": "xiaoming", "password": PASSWORD, "password2": PASSWORD, "allow": True}
    form |= {"sms_code": "123456", "old_password": PASSWORD}
    settings.CACHES = {"default": cache_settings}
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
        assert response.status_code == 503
        assert response.json() == {"code": "cache_unavailable", "message": "登录服务暂时不可用，请稍后再试。"}
    with pytest.raises(CacheUnavailable):  # which the QQ login answers with a 503 of its own
        ask_account(form, attempt=ATTEMPT).is_valid()
    assert client.get("/user/", headers=headers).status_code == 200
    account.refresh_from_db()
    assert account.check_password(PASSWORD)

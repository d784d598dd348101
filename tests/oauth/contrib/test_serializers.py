"""The form for shops that keep SMS codes in Redis: mobile, password and SMS code."""

from contextlib import nullcontext

import pytest
import time_machine
from django.test import RequestFactory
from django.utils.module_loading import import_string
from django.utils.translation import override
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request

from apps.oauth.account_lock import make_account_key, unlock
from apps.oauth.contrib.meiduo import AccountSerializer
from apps.oauth.contrib.meiduo.serializers import DELETE_IF_EQUAL
from apps.oauth.ratelimit import RateLimited
from apps.users.models import User
from tests.conftest import MOBILE, PASSWORD, Browser
from tests.tools import processes
from tests.tools.requirements import requirement
from tests.users.helpers import OTHER_MOBILE, simultaneously

pytestmark = pytest.mark.servers

CODE, WRONG_CODE, ATTEMPT, OTHER_ATTEMPT = "024680", "024681", "0123456789ab", "ba9876543210"
SIMILARITY = "UserAttributeSimilarityValidator"
SMS_CODE_WRONG = {"sms_code": ["短信验证码错误或已过期。"]}
PASSWORD_WRONG = {"password": ["手机号或密码不正确。"]}


@pytest.fixture(autouse=True)
def chinese():
    with override("zh-hans"):  # the view activates a language; serializers alone would use that of an earlier test
        yield


class OtherNamesSerializer(AccountSerializer):
    connection = "code"
    key = "sms:{mobile}:bind"


@pytest.fixture
def codes(shop):
    """A connection to the Redis in which the shop stores SMS codes, and one code in it."""
    location = shop.CACHES["default"]["LOCATION"]
    shop.CACHES = {**shop.CACHES, "verify_codes": {"BACKEND": "django_redis.cache.RedisCache", "LOCATION": location}}
    shop.QQ_ACCOUNT_SERIALIZER = "apps.oauth.contrib.meiduo.AccountSerializer"
    connection = import_string("django_redis.get_redis_connection")("verify_codes")
    connection.set(f"sms_{MOBILE}", CODE, ex=300)
    yield connection
    connection.flushdb()


@pytest.fixture
def bind(browser):
    """A function: send the form with this bind token and these changes."""
    form = {"mobile": MOBILE, "password": PASSWORD, "sms_code": CODE, "access_token": browser.get_bind_token()}
    return lambda headers=None, **changes: browser.bind(form | changes, headers=headers)


def fill_in(attempt=ATTEMPT, address="198.18.0.1", serializer=AccountSerializer, **changes):
    """Return the serializer as the view makes it."""
    context = {"request": Request(RequestFactory().post("/", REMOTE_ADDR=address)), "view": None, "attempt": attempt}
    return serializer(data={"mobile": MOBILE, "password": PASSWORD, "sms_code": CODE} | changes, context=context)


def fill_in_elsewhere(number, **changes):
    """Return the serializer of another login at another address."""
    return fill_in(attempt=f"{number:012x}", address=f"198.18.1.{number}", **changes)


def validated(**changes):
    serializer = fill_in(**changes)
    assert serializer.is_valid()
    return serializer


def errors_of(serializer):
    serializer.is_valid()
    return serializer.errors


def test_new_mobile_gets_an_account_and_the_code_is_deleted(codes, bind, shop):
    shop.DATABASE_ROUTERS = ["tests.oauth.test_binding.ReadFromReplica"]
    user_id = bind().json()["id"]
    user = User.objects.using("default").get()
    assert (user.pk, user.username, user.mobile, user.check_password(PASSWORD)) == (user_id, MOBILE, MOBILE, True)
    assert codes.get(f"sms_{MOBILE}") is None


def test_existing_account_is_bound_by_its_password(codes, bind, account, shop):
    shop.DATABASE_ROUTERS = ["tests.oauth.test_binding.ReadFromReplica"]
    refused = bind(password="another horse")
    body = {**PASSWORD_WRONG, "message": "手机号或密码不正确。", "code": "invalid"}
    assert (refused.status_code, refused.json()) == (400, body)
    assert bind().json()["id"] == account.pk


def test_subclass_sets_connection_and_key_and_may_decode_responses(codes, shop, account):
    codes_cache = shop.CACHES["verify_codes"]
    location = f"{codes_cache['LOCATION'].rpartition('/')[0]}/1"
    options = {"CONNECTION_POOL_KWARGS": {"decode_responses": True}}
    shop.CACHES = {**shop.CACHES, "code": {**codes_cache, "LOCATION": location, "OPTIONS": options}}
    other_codes = import_string("django_redis.get_redis_connection")("code")
    for connection, key in ((codes, f"sms:{MOBILE}:bind"), (other_codes, f"sms_{MOBILE}")):
        connection.set(key, CODE, ex=300)
    assert errors_of(fill_in(serializer=OtherNamesSerializer)) == SMS_CODE_WRONG
    other_codes.set(f"sms:{MOBILE}:bind", CODE, ex=300)
    assert errors_of(fill_in(serializer=OtherNamesSerializer)) == {}
    assert other_codes.keys() == [f"sms_{MOBILE}"]
    other_codes.flushdb()


def test_errors_are_english_if_the_browser_prefers_it(codes, bind):
    english = {"Accept-Language": "en"}
    assert bind(english, mobile="1381234567", password="short", sms_code="").json() == {
        "mobile": ["This is not a mobile number."],
        "password": ["The password must have 8 to 128 characters."],
        "sms_code": ["Please enter the SMS code."],
        "message": "This is not a mobile number.",
        "code": "invalid",
    }
    assert bind(english, sms_code=WRONG_CODE).json()["message"] == "The SMS code is wrong or no longer valid."


@pytest.mark.parametrize(
    ("field", "missing", "malformed", "values"),
    [
        ("mobile", "请输入手机号。", "手机号格式不正确。",
         ["12812345678", f"{MOBILE}\n", f" {MOBILE}", f"+86{MOBILE}", "1381234567٨", int(MOBILE), [MOBILE]]),
        ("password", "请输入密码。", "密码长度应为 8 到 128 个字符。",
         ["short77", "x" * 129, "x" * 1_000_000, "correct\x00horse", "correct\ud800horse", 12345678]),
        ("sms_code", "请输入短信验证码。", "短信验证码是 6 位数字。",
         ["12345", "1234567", "12345٨", "123456\n", 123456]),
    ],
)  # fmt: skip
def test_missing_and_malformed_fields_have_their_own_messages(field, missing, malformed, values):
    for value in (None, ""):
        assert errors_of(fill_in(**{field: value})) == {field: [missing]}
    for value in values:
        assert errors_of(fill_in(**{field: value})) == {field: [malformed]}


@requirement("6.7")
@pytest.mark.parametrize("password", [MOBILE, f" {MOBILE}", " " * 8, "\u3000" * 8])
def test_mobile_or_blanks_are_no_password_of_a_new_account(codes, bind, shop, password):
    shop.AUTH_PASSWORD_VALIDATORS = []
    sentence = "密码不能是手机号，也不能全是空格。"
    body = {"password": [sentence], "message": sentence, "code": "invalid"}
    assert bind(password=password).json() == body
    sentence = "The password must not be the mobile number or consist of blanks only."
    assert bind({"Accept-Language": "en"}, password=password).json()["message"] == sentence


@requirement("6.7")
def test_shops_own_password_rules_hold_and_know_the_user(codes, db, shop):
    assert errors_of(fill_in(password="password1")) == {"password": ["这个密码太常见了。"]}
    shop.AUTH_PASSWORD_VALIDATORS = [{"NAME": f"django.contrib.auth.password_validation.{SIMILARITY}"}]
    assert errors_of(fill_in(password=f"{MOBILE}a")) == {"password": ["密码跟 用户名 太相似了。"]}


@requirement("6.7")
@pytest.mark.parametrize("password", [" spaces at both ends ", "八个字也是密码的", "line\nline", "x" * 128])
def test_password_is_not_altered(codes, db, password):
    assert validated(password=password).save().check_password(password)


def test_code_is_used_up_but_proves_the_mobile_to_this_login_for_ten_minutes(codes, clock, account):
    assert errors_of(fill_in(password="another horse")) == PASSWORD_WRONG
    assert codes.get(f"sms_{MOBILE}") is None
    assert errors_of(fill_in(OTHER_ATTEMPT)) == errors_of(fill_in(mobile=OTHER_MOBILE)) == SMS_CODE_WRONG
    for seconds, sms_code in ((0, CODE), (599, WRONG_CODE)):
        clock.shift(seconds)
        assert fill_in(sms_code=sms_code).is_valid()
    clock.shift(1)
    assert errors_of(fill_in()) == SMS_CODE_WRONG


@requirement("6.3")
@pytest.mark.parametrize("is_deleted", [False, True])
def test_form_can_be_repeated_after_a_crash(codes, account, is_deleted):
    assert fill_in().redeem_code(MOBILE, CODE)  # the process dies before it stores the proof
    if not is_deleted:
        codes.set(f"sms_{MOBILE}", CODE)  # or even before it deletes the code
    assert errors_of(fill_in(OTHER_ATTEMPT)) == SMS_CODE_WRONG
    assert fill_in().is_valid()


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(("make_form", "accepted"), [(lambda _: fill_in(), 4), (fill_in_elsewhere, 1)])
def test_of_simultaneous_forms_those_of_one_login_are_accepted(codes, account, make_form, accepted):
    assert sum(simultaneously(lambda number: make_form(number).is_valid(), 4)) == accepted


def test_newer_code_is_not_deleted(codes):
    codes.set(f"sms_{OTHER_MOBILE}", "135790")
    deleted = codes.eval(DELETE_IF_EQUAL, 1, f"sms_{OTHER_MOBILE}", CODE)
    assert (deleted, codes.get(f"sms_{OTHER_MOBILE}")) == (0, b"135790")


@requirement("6.3")
def test_code_is_void_after_five_wrong_guesses_and_the_next_code_has_five_of_its_own(codes, account):
    for _ in range(4):
        assert errors_of(fill_in(sms_code=WRONG_CODE)) == SMS_CODE_WRONG
    assert fill_in().is_valid()
    codes.set(f"sms_{MOBILE}", "135790", ex=300)
    for _ in range(5):
        assert errors_of(fill_in(OTHER_ATTEMPT)) == SMS_CODE_WRONG
    assert errors_of(fill_in(OTHER_ATTEMPT, sms_code="135790")) == SMS_CODE_WRONG
    codes.set(f"sms_{MOBILE}", "975310", ex=300)
    assert fill_in(OTHER_ATTEMPT, sms_code="975310").is_valid()


@requirement("6.3", "9.7")
@pytest.mark.django_db(transaction=True)
def test_simultaneous_guesses_void_the_code(codes, account):
    assert not any(simultaneously(lambda number: fill_in_elsewhere(number, sms_code=f"{number:06}").is_valid(), 20))
    assert errors_of(fill_in()) == SMS_CODE_WRONG


@requirement("11 SMS check")
def test_one_address_has_thirty_wrong_codes_an_hour_and_right_ones_do_not_count(codes, account):
    with time_machine.travel(1_800_000_000, tick=False) as clock:
        for number in range(30):
            assert errors_of(fill_in(f"{number:012x}", mobile=OTHER_MOBILE)) == SMS_CODE_WRONG
        clock.shift(600)
        with pytest.raises(RateLimited) as refused:
            fill_in().is_valid()
        assert refused.value.wait == 3000
        for number in range(31):
            codes.set(f"sms_{MOBILE}", f"{number:06}", ex=300)
            assert fill_in(f"{number:012x}", address="198.18.0.2", sms_code=f"{number:06}").is_valid()


@requirement("6.6")
@pytest.mark.parametrize("kind", ["no account", "an account", "a disabled account"])
def test_nothing_is_revealed_about_the_account_before_the_mobile_is_proved(codes, bind, kind):
    if kind != "no account":
        User.objects.create_user("zhang3", PASSWORD, mobile=MOBILE, is_active=kind == "an account")
    body = {**SMS_CODE_WRONG, "message": SMS_CODE_WRONG["sms_code"][0], "code": "invalid"}
    for password in (PASSWORD, "another horse", "password"):
        refused = bind(password=password, sms_code=WRONG_CODE)
        assert (refused.status_code, refused.json()) == (400, body)


@requirement("9.8")
def test_unreachable_redis_is_cache_unavailable(codes, shop, bind):
    away = {"BACKEND": "django_redis.cache.RedisCache", "LOCATION": f"redis://127.0.0.1:{processes.free_port()}/0"}
    shop.CACHES = {**shop.CACHES, "verify_codes": away}
    refused = bind()
    assert (refused.status_code, refused.json()["code"]) == (503, "cache_unavailable")


@requirement("6.1")
def test_wrong_passwords_lock_the_account_longer_each_time(codes, clock, account):
    assert fill_in().is_valid()  # proves the mobile
    for _ in range(3):
        for _ in range(4):
            assert errors_of(fill_in(password="another horse")) == PASSWORD_WRONG
        assert fill_in().is_valid()  # resets the count
    for seconds_passed, lock in ((0, 60), (60, 120)):
        clock.shift(seconds_passed)
        for _ in range(5):
            assert errors_of(fill_in(password="another horse")) == PASSWORD_WRONG
        with pytest.raises(RateLimited) as refused:
            fill_in().is_valid()
        assert refused.value.wait == lock
    account.set_password("yet another horse")  # a new password is not locked
    account.save()
    assert fill_in(password="yet another horse").is_valid()


def test_locked_account_gets_429_which_is_no_failed_try_of_the_login(codes, bind, account):
    for _ in range(4):
        assert bind(password="another horse").status_code == 400
    with pytest.raises(ValidationError):
        fill_in().check_password(account, "another horse")
    for _ in range(3):
        refused = bind()
        assert (refused.status_code, refused["Retry-After"], refused.json()["code"]) == (429, "60", "throttled")
    unlock(make_account_key(account))
    assert bind().status_code == 200


@pytest.mark.parametrize("change", [{"password": "!"}, {"mobile": OTHER_MOBILE}, None])
def test_account_that_has_changed_is_not_bound(codes, account, change):
    serializer = validated()
    User.objects.filter(pk=account.pk).update(**change) if change else account.delete()
    with pytest.raises(ValidationError) as refused:
        serializer.save()
    assert refused.value.detail == PASSWORD_WRONG


def test_account_with_a_new_hash_of_the_same_password_is_bound(codes, account):
    serializer = validated()
    account.set_password(PASSWORD)
    account.save()
    assert serializer.save() == account


@requirement("7.5")
@pytest.mark.parametrize("password", [PASSWORD, "another horse"])
def test_account_created_meanwhile_needs_its_password(codes, db, password):
    serializer = validated()
    account = User.objects.create_user("li4", password=password, mobile=MOBILE)
    with nullcontext() if password == PASSWORD else pytest.raises(ValidationError):
        assert serializer.save() == account
    assert User.objects.get() == account


def test_mobile_taken_as_a_username_gets_another_username(codes, db):
    User.objects.create_user(MOBILE, password=PASSWORD, mobile=OTHER_MOBILE)
    account = validated().save()
    assert (account.mobile, account.username[:12]) == (MOBILE, f"{MOBILE}_")


@requirement("7.5")
@pytest.mark.django_db(transaction=True)
def test_simultaneous_logins_with_one_new_mobile_create_one_account(codes, qq):
    browsers = [Browser(qq, REMOTE_ADDR=f"198.18.0.{number}") for number in range(4)]
    forms = []
    for number, browser in enumerate(browsers):
        codes.set(f"sms_{MOBILE}", f"{number:06}", ex=300)
        form = {"mobile": MOBILE, "sms_code": f"{number:06}", "access_token": browser.get_bind_token(f"小明 {number}")}
        assert "password" in browser.bind({**form, "password": "password"}).json()  # the mobile is proved
        forms.append({**form, "password": PASSWORD})
    answers = simultaneously(lambda number: browsers[number].bind(forms[number]), 4)
    assert [answer.status_code for answer in answers] == [200] * 4
    assert User.objects.get().username == MOBILE


@requirement("15.13")
def test_form_without_a_password_binds_by_the_sms_code_alone(browser, codes, shop):
    shop.QQ_ACCOUNT_SERIALIZER = "apps.oauth.contrib.meiduo.MobileAccountSerializer"
    form = {"mobile": MOBILE, "sms_code": WRONG_CODE, "access_token": browser.get_bind_token()}
    assert browser.bind(form).json()["sms_code"]
    made = browser.bind(form | {"sms_code": CODE}).json()
    assert not User.objects.get(pk=made["id"]).has_usable_password()
    codes.set(f"sms_{MOBILE}", WRONG_CODE, ex=300)  # the next one
    form["access_token"] = browser.get_bind_token("李思思")
    assert browser.bind(form).json()["id"] == made["id"]

"""Password reset by SMS and password change; and that no answer reveals whether a mobile has an account."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from apps.oauth.models import OAuthQQUser
from apps.users.models import User
from apps.users.serializers import AccountSerializer
from tests.conftest import MOBILE, PASSWORD, Phone
from tests.tools.requirements import requirement
from tests.users.helpers import (
    BIND_PASSWORD_WRONG,
    DAY,
    LOGIN_ENDED,
    LOGIN_WRONG,
    MINUTE,
    MOBILE_MALFORMED,
    NO_TOKEN,
    PASSWORD_COMMON,
    PASSWORD_LENGTH,
    SMS_CODE_WRONG,
    assert_error,
    assert_invalid,
    assert_logged_in,
    assert_too_often,
    assert_unauthorized,
    get_token,
    get_user,
    log_in,
    other_code,
    post,
)

NEW_PASSWORD = "new correct horse"


@pytest.fixture
def reset(proof):
    """The form of a user who holds the phone."""
    return proof | {"password": NEW_PASSWORD}


def change(client, token, old_password=PASSWORD, password=NEW_PASSWORD):
    form = {"old_password": old_password, "password": password}
    headers = {"Authorization": f"JWT {token}"} if token else {}
    return client.put("/user/password/", form, content_type="application/json", headers=headers)


# Reset ----------------------------------------------------------------------------------------------------------------


@requirement("5.4", "6.8", "7.2")
def test_reset_sets_the_password_ends_earlier_logins_and_changes_nothing_else(client, account, token, reset):
    extra = {"is_staff": True, "is_superuser": True, "username": "root", "user_id": 1, "token_generation": 9}
    assert_logged_in(client, post(client, "/password/", reset | extra), account)
    assert_unauthorized(get_user(client, token))
    assert log_in(client).status_code == 400
    assert_logged_in(client, log_in(client, password=NEW_PASSWORD), account)
    account.refresh_from_db()
    assert (account.username, account.is_staff, account.is_superuser) == ("zhang3", False, False)
    assert account.token_generation == 1
    assert_invalid(post(client, "/password/", reset), "sms_code", SMS_CODE_WRONG)  # the code is used up


@pytest.mark.parametrize(
    ("field", "value", "sentence"),
    [
        ("sms_code", "12345", "短信验证码是 6 位数字。"),
        ("password", "short", PASSWORD_LENGTH),
        ("password", "x" * 129, PASSWORD_LENGTH),
        ("password", "password1", PASSWORD_COMMON),
        ("mobile", f"{MOBILE} ", MOBILE_MALFORMED),
    ],
)
def test_wrong_field_of_a_reset_costs_no_new_sms(client, account, reset, field, value, sentence):
    assert_invalid(post(client, "/password/", reset | {field: value}), field, sentence)
    account.refresh_from_db()
    assert account.check_password(PASSWORD)
    assert post(client, "/password/", reset).status_code == 200


def test_reset_without_an_account_points_to_registration_where_the_code_still_works(client, users, reset):
    sentence = "该手机号还没有账号。请用 QQ 登录并绑定这个手机号，账号会自动创建。"
    assert_invalid(post(client, "/password/", reset), "mobile", sentence)
    form = reset | {"username": "xiaoming", "password2": NEW_PASSWORD, "allow": True}
    assert post(client, "/users/", form).status_code == 201


@requirement("7.9")
@pytest.mark.parametrize("flags", [{"is_active": False}, {"is_staff": True}, {"is_superuser": True}])
def test_disabled_and_staff_accounts_have_no_reset(client, users, account, reset, flags):
    users.update(**flags)
    assert_invalid(post(client, "/password/", reset), "mobile", "该账号不能用短信重设密码，请联系客服。")
    account.refresh_from_db()
    assert account.check_password(PASSWORD)


@requirement("7.1")
def test_owner_of_a_mobile_takes_over_an_account_that_a_stranger_made_on_it(browser, phone, clock, users):
    stranger = Client()
    users.create_user("squatter", password="the stranger's", mobile=MOBILE)
    strangers_token = get_token(stranger, MOBILE, "the stranger's")
    form = {"mobile": MOBILE, "password": PASSWORD, "access_token": browser.get_bind_token()}
    assert_invalid(browser.bind(form | {"sms_code": phone.receive_code()}), "password", BIND_PASSWORD_WRONG)
    assert not OAuthQQUser.objects.exists()
    clock.shift(MINUTE)
    reset = {"mobile": MOBILE, "password": NEW_PASSWORD, "sms_code": phone.receive_code()}
    assert post(browser.client, "/password/", reset).status_code == 200
    assert_unauthorized(get_user(stranger, strangers_token))
    assert log_in(stranger, MOBILE, "the stranger's").status_code == 400
    clock.shift(MINUTE)
    form |= {"password": NEW_PASSWORD, "sms_code": phone.receive_code()}
    assert browser.bind(form).status_code == 200


@requirement("7.2", "7.7")
@pytest.mark.parametrize("unbinds", [True, False])
def test_reset_unbinds_all_qqs_where_the_setting_says_so(browser, client, binding, reset, settings, unbinds):
    settings.RESET_UNBINDS_QQ = unbinds
    OAuthQQUser.objects.create(user=binding.user, openid="A" * 32)
    assert post(client, "/password/", reset | {"sms_code": other_code(reset["sms_code"])}).status_code == 400
    assert OAuthQQUser.objects.count() == 2
    assert post(client, "/password/", reset).status_code == 200
    answer = browser.collect(browser.arrive()).json()
    assert answer.keys() == ({"access_token", "next"} if unbinds else {"token", "user_id", "username", "next"})
    assert OAuthQQUser.objects.count() == (0 if unbinds else 2)


class OvertakenSerializer(AccountSerializer):
    """Right after the password was found right, its owner sets another one by SMS."""

    def validate(self, attrs):
        attrs = super().validate(attrs)
        owner = User.objects.get(mobile=attrs["mobile"])
        owner.set_password(NEW_PASSWORD)
        owner.save()
        return attrs


def test_bind_overtaken_by_a_reset_binds_nothing(browser, account, form, settings):
    settings.QQ_ACCOUNT_SERIALIZER = f"{__name__}.OvertakenSerializer"
    assert_invalid(browser.bind(form), "password", BIND_PASSWORD_WRONG)
    assert not OAuthQQUser.objects.exists()


# Change ---------------------------------------------------------------------------------------------------------------


@requirement("5.4")
def test_change_of_the_password_ends_earlier_logins(client, account, token):
    assert_logged_in(client, change(client, token), account)
    assert_unauthorized(get_user(client, token))
    assert log_in(client).status_code == 400
    assert_logged_in(client, log_in(client, password=NEW_PASSWORD), account)


@pytest.mark.parametrize(
    ("form", "field", "sentence"),
    [
        ({"old_password": ""}, "old_password", "请输入原密码。"),
        ({"old_password": "another horse"}, "old_password", "原密码不正确。"),
        ({"password": "short"}, "password", PASSWORD_LENGTH),
        ({"password": "password1"}, "password", PASSWORD_COMMON),
    ],
)
def test_wrong_field_of_a_change_is_named(client, token, form, field, sentence):
    assert_invalid(change(client, token, **form), field, sentence)
    assert get_user(client, token).status_code == 200


def test_change_needs_a_login(client, account):
    assert_unauthorized(change(client, None), NO_TOKEN)
    assert_unauthorized(change(client, "spoiled"))
    account.refresh_from_db()
    assert account.check_password(PASSWORD)


def test_guesses_at_the_old_password_and_at_the_login_are_counted_together(client, clock, token):
    for _ in range(3):
        assert change(client, token, "another horse").status_code == 400
    for _ in range(2):
        assert log_in(client, password="another horse").status_code == 400
    assert_too_often(change(client, token), MINUTE)
    clock.shift(MINUTE)
    assert change(client, token).status_code == 200


class OvertakingValidator:
    """A password validator; while the new password is checked, the owner sets another one."""

    def validate(self, password, user=None):
        owner = User.objects.get(mobile=MOBILE)
        owner.set_password("the owner's password")
        owner.save()


def test_change_overtaken_by_another_change_is_refused(client, account, token, settings):
    settings.AUTH_PASSWORD_VALIDATORS = [{"NAME": f"{__name__}.OvertakingValidator"}]
    assert_unauthorized(change(client, token))
    account.refresh_from_db()
    assert account.check_password("the owner's password")


@pytest.mark.servers  # SQLite in memory does not wait for a table that another thread writes
@pytest.mark.django_db(transaction=True)
def test_one_of_many_simultaneous_changes_is_made(client, token):
    passwords = [f"horse number {number}" for number in range(4)]

    def try_to_change(password):
        try:
            return change(Client(), token, password=password)
        finally:
            connection.close()

    with ThreadPoolExecutor(4) as pool:
        answers = dict(zip(passwords, pool.map(try_to_change, passwords), strict=True))
    done = [password for password, answer in answers.items() if answer.status_code == 200]
    assert len(done) == 1
    assert {answer.json()["message"] for answer in answers.values() if answer.status_code != 200} == {LOGIN_ENDED}
    assert log_in(client, password=done[0]).status_code == 200


def test_too_long_old_password_is_not_hashed(hasher, client, token):
    hasher.hashed = 0
    assert_invalid(change(client, token, "x" * 129), "old_password", "原密码不正确。")
    assert hasher.hashed == 0


# Accounts are not revealed --------------------------------------------------------------------------------------------

KINDS = ["none", "present", "other password", "no password", "disabled", "staff", "bound to another QQ"]


@pytest.fixture
def measure(hasher):
    """Measure a call: its whole answer, its password hashes and its database queries."""

    def measure(call, *arguments, **options):
        hasher.hashed = 0
        with CaptureQueriesContext(connection) as queries:
            response = call(*arguments, **options)
        return {
            "status": response.status_code,
            "body": response.content.decode(),
            "headers": dict(response.headers),
            "hashes": hasher.hashed,
            "queries": len(queries),
        }

    return measure


def make_account(users, kind):
    users.all().delete()
    if kind == "none":
        return
    user = users.create_user("zhang3", password=PASSWORD, mobile=MOBILE)
    if kind == "other password":
        user.set_password("another horse")
    elif kind == "no password":
        user.set_unusable_password()
    user.is_active = kind != "disabled"
    user.is_staff = kind == "staff"
    user.save()
    if kind == "bound to another QQ":
        OAuthQQUser.objects.create(user=user, openid="F" * 32)


@requirement("6.6")
@pytest.mark.parametrize("password", [PASSWORD, "wrong password", "password1", " edges are its own "])
def test_bind_reveals_no_account_before_the_mobile_is_proved(browser, form, users, measure, password):
    form |= {"sms_code": other_code(form["sms_code"]), "password": password}
    answers = []
    for person, kind in enumerate(KINDS):
        make_account(users, kind)
        form["access_token"] = browser.get_bind_token(f"person {person}")
        answers.append(measure(browser.bind, form))
    assert answers == [answers[0]] * len(KINDS)
    assert (answers[0]["status"], answers[0]["hashes"]) == (400, 0)
    assert SMS_CODE_WRONG in answers[0]["body"]


@requirement("6.6")
@pytest.mark.parametrize("path", ["/password/", "/users/"])
def test_reset_and_registration_reveal_no_account_before_the_mobile_is_proved(client, users, measure, path):
    form = {"username": "zhang3", "password2": PASSWORD, "allow": True}
    form |= {"mobile": MOBILE, "password": PASSWORD, "sms_code": "123456"}
    answers = []
    for kind in KINDS:
        make_account(users, kind)
        answers.append(measure(post, client, path, form))
    assert answers == [answers[0]] * len(KINDS)
    assert (answers[0]["status"], answers[0]["hashes"], answers[0]["queries"]) == (400, 0, 0)


@requirement("6.6", "6.7")
@pytest.mark.parametrize("name", ["zhang3", MOBILE])
@pytest.mark.parametrize(
    ("password", "kinds", "hashes"),
    [
        ("wrong password", KINDS, 1),
        ("x", KINDS, 1),
        ("x" * 129, KINDS, 0),  # too long to be hashed
        (PASSWORD, ["none", "other password", "no password", "disabled"], 1),
    ],
)
def test_failed_login_reveals_no_account(client, clock, users, measure, name, password, kinds, hashes):
    answers = []
    for kind in kinds:
        make_account(users, kind)
        answers.append(measure(log_in, client, name, password))
        clock.shift(300)  # so that no lock begins
    assert answers == [answers[0]] * len(kinds)
    assert (answers[0]["status"], answers[0]["hashes"]) == (400, hashes)
    make_account(users, kinds[-1])
    refused = log_in(client, name, password)
    assert_error(refused, 400, "invalid", LOGIN_WRONG, non_field_errors=[LOGIN_WRONG])


@requirement("6.6")
@pytest.mark.parametrize("name", ["zhang3", MOBILE])
def test_locked_login_reveals_no_account(clock, users, measure, name):
    answers = []
    for number, kind in enumerate(KINDS):
        make_account(users, kind)
        client = Client(REMOTE_ADDR=f"203.0.113.{number}")
        answers.append([measure(log_in, client, name, "wrong password") for _ in range(5)])
        answers[-1].append(measure(log_in, client, name))
        clock.shift(1)
        answers[-1].append(measure(log_in, client, name))
        clock.shift(DAY)
    assert answers == [answers[0]] * len(KINDS)
    locked = [(answer["status"], answer["headers"].get("Retry-After"), answer["hashes"]) for answer in answers[0]]
    assert locked == [(400, None, 1)] * 5 + [(429, "60", 0), (429, "59", 0)]


@requirement("6.6")
def test_sms_and_its_refusal_reveal_no_account(users, measure, tmp_path, clock):
    answers = []
    for number, kind in enumerate(KINDS):
        make_account(users, kind)
        phone = Phone(tmp_path, Client(REMOTE_ADDR=f"203.0.113.{number}"))
        answers.append([measure(phone.ask_for_code), measure(phone.ask_for_code)])
        clock.shift(DAY)
    assert answers == [answers[0]] * len(KINDS)
    assert [answer["status"] for answer in answers[0]] == [200, 429]

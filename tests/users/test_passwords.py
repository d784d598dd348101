"""A forgotten password and a changed one; and that who has not proved anything learns nothing."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from rest_framework.exceptions import AuthenticationFailed

from apps.oauth.models import OAuthQQUser
from apps.users.models import User
from apps.users.serializers import AccountSerializer, PasswordChangeSerializer
from tests.conftest import MOBILE, PASSWORD, Phone
from tests.users.test_views import (
    LOGIN_ENDED,
    CountingHasher,
    assert_refused,
    get_user,
    log_in,
    post,
    stopped_clock,
)

NEW_PASSWORD = "new correct horse"
SMS_CODE_WRONG = "短信验证码错误或已过期。"


@pytest.fixture
def clock(settings):
    with stopped_clock(settings) as clock:
        yield clock


@pytest.fixture
def users(django_user_model, db):
    return django_user_model.objects


@pytest.fixture
def reset(phone, db):
    """The form of somebody who holds the phone."""
    return {"mobile": MOBILE, "password": NEW_PASSWORD, "sms_code": phone.receive_code()}


@pytest.fixture
def token(client, account):
    return log_in(client)["token"]


def change(client, token, old_password=PASSWORD, password=NEW_PASSWORD):
    form = {"old_password": old_password, "password": password}
    headers = {"Authorization": f"JWT {token}"} if token else {}
    return client.put("/user/password/", form, content_type="application/json", headers=headers)


# Forgotten


def test_who_holds_the_phone_sets_a_new_password_and_is_logged_in(client, account, token, reset):
    response = post(client, "/password/", reset)
    assert response.status_code == 200
    assert response["Cache-Control"] == "no-store"
    answer = response.json()
    assert get_user(client, answer.pop("token")).status_code == 200
    assert answer == {"user_id": account.pk, "username": "zhang3"}
    assert_refused(get_user(client, token))
    assert "token" in log_in(client, password=NEW_PASSWORD)
    assert "token" not in log_in(client)


@pytest.mark.parametrize(
    ("form", "field", "sentence"),
    [
        ({"sms_code": "12345"}, "sms_code", "短信验证码是 6 位数字。"),
        ({"password": "short"}, "password", "密码长度应为 8 到 128 个字符。"),
        ({"password": "x" * 129}, "password", "密码长度应为 8 到 128 个字符。"),
        ({"password": "password1"}, "password", "这个密码太常见了。"),
        ({"mobile": f"{MOBILE} "}, "mobile", "手机号格式不正确。"),
        ({"mobile": "13900000000"}, "sms_code", SMS_CODE_WRONG),
    ],
)
def test_wrong_field_of_a_reset_is_named_and_costs_no_new_sms(client, account, reset, form, field, sentence):
    response = post(client, "/password/", reset | form)
    assert response.status_code == 400
    assert response.json() == {"code": "invalid", "message": sentence, field: [sentence]}
    account.refresh_from_db()
    assert account.check_password(PASSWORD)
    assert post(client, "/password/", reset).status_code == 200


def test_number_without_an_account_is_told_where_to_go_and_may_use_its_code_there(client, users, reset):
    response = post(client, "/password/", reset)
    sentence = "该手机号还没有账号。请用 QQ 登录并绑定这个手机号，账号会自动创建。"
    assert response.status_code == 400
    assert response.json() == {"code": "invalid", "message": sentence, "mobile": [sentence]}
    form = reset | {"username": "xiaoming", "password2": NEW_PASSWORD, "allow": True}
    assert post(client, "/users/", form).status_code == 201


@pytest.mark.parametrize("flags", [{"is_active": False}, {"is_staff": True}, {"is_superuser": True}])
def test_an_sms_opens_no_disabled_and_no_staff_account(client, users, account, reset, flags):
    users.update(**flags)
    response = post(client, "/password/", reset)
    sentence = "该账号不能用短信重设密码，请联系客服。"
    assert response.status_code == 400
    assert response.json() == {"code": "invalid", "message": sentence, "mobile": [sentence]}
    account.refresh_from_db()
    assert account.check_password(PASSWORD)


def test_a_reset_uses_its_code_up(client, account, reset):
    assert post(client, "/password/", reset).status_code == 200
    response = post(client, "/password/", reset | {"password": "a third horse"})
    assert response.json() == {"code": "invalid", "message": SMS_CODE_WRONG, "sms_code": [SMS_CODE_WRONG]}
    assert "token" in log_in(client, password=NEW_PASSWORD)


def test_fields_a_reset_does_not_ask_for_are_ignored(client, users, account, reset):
    extra = {"is_staff": True, "is_superuser": True, "username": "root", "user_id": 1, "token_generation": 9}
    assert post(client, "/password/", reset | extra).status_code == 200
    user = users.get()
    assert (user.username, user.is_staff, user.is_superuser, user.token_generation) == ("zhang3", False, False, 1)


def test_an_account_somebody_made_on_a_number_that_is_not_his_is_won_back(browser, form, phone, clock, users):
    """An old row: nobody ever proved the number, and a stranger knows the password."""
    squatter = Client()
    users.create_user("squatter", password="the stranger's", mobile=MOBILE)
    strangers_token = log_in(squatter, MOBILE, "the stranger's")["token"]
    form = form | {"access_token": browser.get_bind_token(), "sms_code": phone.receive_code()}
    refused = browser.bind(form)
    assert refused.status_code == 400
    sentence = "手机号或密码不正确。忘记密码的话，可以用短信验证码重设密码。"
    assert refused.json() == {"password": [sentence], "message": sentence, "code": "invalid"}
    assert not OAuthQQUser.objects.exists()

    clock.shift(60)
    reset = {"mobile": MOBILE, "password": NEW_PASSWORD, "sms_code": phone.receive_code()}
    assert post(browser.client, "/password/", reset).status_code == 200
    assert_refused(get_user(squatter, strangers_token))
    assert "token" not in log_in(squatter, MOBILE, "the stranger's")
    clock.shift(60)
    form |= {"password": NEW_PASSWORD, "sms_code": phone.receive_code()}
    assert browser.bind(form).status_code == 200


# Changed


@pytest.mark.parametrize("unbinds", [True, False])
def test_a_reset_takes_the_qqs_off_the_account_where_the_shop_wants_it(
    browser, client, binding, reset, settings, unbinds
):
    """Whoever was in the account may have bound a QQ of his own."""
    settings.RESET_UNBINDS_QQ = unbinds
    OAuthQQUser.objects.create(user=binding.user, openid="A" * 32)
    assert post(client, "/password/", reset).status_code == 200
    answer = browser.collect(browser.arrive()).json()
    assert answer.keys() == ({"access_token", "next"} if unbinds else {"token", "user_id", "username", "next"})
    assert OAuthQQUser.objects.count() == (0 if unbinds else 2)


class Overtaken(AccountSerializer):
    """A bind whose password was right a moment ago: then its owner has set another one by SMS."""

    def validate(self, attrs):
        attrs = super().validate(attrs)
        reset = User.objects.get(pk=self.account.pk)
        reset.set_password(NEW_PASSWORD)
        reset.save()
        return attrs


def test_a_bind_that_a_reset_overtakes_binds_nothing(browser, account, form, settings):
    settings.QQ_ACCOUNT_SERIALIZER = f"{__name__}.Overtaken"
    response = browser.bind(form)
    assert (response.status_code, response.json()["code"]) == (400, "invalid")
    assert not OAuthQQUser.objects.exists()


def test_a_reset_that_is_refused_takes_no_qq_off(client, binding, reset):
    assert post(client, "/password/", reset | {"sms_code": "000000"}).status_code == 400
    assert OAuthQQUser.objects.count() == 1


def test_changed_password_ends_the_logins_of_before(client, account, token):
    response = change(client, token)
    assert response.status_code == 200
    assert response["Cache-Control"] == "no-store"
    answer = response.json()
    assert_refused(get_user(client, token))
    assert get_user(client, answer.pop("token")).status_code == 200
    assert answer == {"user_id": account.pk, "username": "zhang3"}
    assert "token" in log_in(client, password=NEW_PASSWORD)
    assert "token" not in log_in(client)


@pytest.mark.parametrize(
    ("form", "field", "sentence"),
    [
        ({"old_password": ""}, "old_password", "请输入原密码。"),
        ({"old_password": "another horse"}, "old_password", "原密码不正确。"),
        ({"old_password": "x" * 10_000}, "old_password", "原密码不正确。"),
        ({"password": "short"}, "password", "密码长度应为 8 到 128 个字符。"),
        ({"password": "password1"}, "password", "这个密码太常见了。"),
    ],
)
def test_wrong_field_of_a_change_is_named(client, token, form, field, sentence):
    response = change(client, token, **form)
    assert response.status_code == 400
    assert response.json() == {"code": "invalid", "message": sentence, field: [sentence]}
    assert get_user(client, token).status_code == 200


def test_who_is_not_logged_in_changes_nothing(client, account):
    assert_refused(change(client, None), "身份认证信息未提供。")
    assert_refused(change(client, "spoiled"))
    account.refresh_from_db()
    assert account.check_password(PASSWORD)


def test_guesses_at_the_old_password_are_counted_with_those_of_logins(client, clock, token):
    for _ in range(3):
        assert change(client, token, "another horse").status_code == 400
    for _ in range(2):
        assert "token" not in log_in(client, password="another horse")
    response = change(client, token)
    assert (response.status_code, response["Retry-After"]) == (429, "60")
    clock.shift(60)
    assert change(client, token).status_code == 200


@pytest.mark.servers  # SQLite's memory does not wait for a table that another thread writes
@pytest.mark.django_db(transaction=True)
def test_of_changes_at_the_same_moment_one_is_made(client, token):
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
    assert "token" in log_in(client, password=done[0])


def test_change_that_was_overtaken_is_not_made(rf, account):
    """Whoever knows the old password must not undo what its owner does at the same moment."""
    changes = []
    for password in ("horse number 1", "horse number 2"):
        request = rf.put("/")
        request.user = type(account).objects.get()
        changes.append(PasswordChangeSerializer(data={"old_password": PASSWORD, "password": password}))
        changes[-1].context["request"] = request
        assert changes[-1].is_valid()
    assert changes[0].save() == account
    with pytest.raises(AuthenticationFailed):
        changes[1].save()
    account.refresh_from_db()
    assert account.check_password("horse number 1")


def test_huge_old_password_is_not_hashed(client, token, settings):
    settings.PASSWORD_HASHERS = [f"{CountingHasher.__module__}.CountingHasher", *settings.PASSWORD_HASHERS]
    CountingHasher.hashed = 0
    assert change(client, token, "x" * 10_000).status_code == 400
    assert change(client, token, "x" * 129).status_code == 400
    assert CountingHasher.hashed == 0


# Nothing learnt

KINDS = ["none", "present", "other password", "no password", "disabled", "staff", "bound to another QQ"]


@pytest.fixture
def counted(settings):
    """Measure a call: all of its answer, how many hashes it took and how many questions to the database."""
    settings.PASSWORD_HASHERS = [f"{CountingHasher.__module__}.CountingHasher"]

    def count(call):
        CountingHasher.hashed = 0
        with CaptureQueriesContext(connection) as queries:
            response = call()
        return response.status_code, response.content, dict(response.headers), CountingHasher.hashed, len(queries)

    return count


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


@pytest.mark.parametrize("password", [PASSWORD, "wrong password", "password1", " edges are its own "])
def test_bind_tells_nothing_before_the_number_is_proved(browser, form, users, counted, password):
    wrong = form | {"sms_code": "000000" if form["sms_code"] != "000000" else "111111", "password": password}
    told = []
    for person, kind in enumerate(KINDS):
        make_account(users, kind)
        bind_token = browser.get_bind_token(f"person {person}")
        told.append(counted(lambda bind_token=bind_token: browser.bind(wrong | {"access_token": bind_token})))
    assert told == [told[0]] * len(KINDS)
    status, content, _, hashed, _ = told[0]
    assert (status, hashed) == (400, 0)
    assert SMS_CODE_WRONG in content.decode()


@pytest.mark.parametrize("path", ["/password/", "/users/"])
def test_reset_and_registration_tell_nothing_before_the_number_is_proved(client, users, counted, path):
    form = {"username": "zhang3", "password2": PASSWORD, "allow": True}
    form |= {"mobile": MOBILE, "password": PASSWORD, "sms_code": "123456"}
    told = []
    for kind in KINDS:
        make_account(users, kind)
        told.append(counted(lambda: post(client, path, form)))
    assert told == [told[0]] * len(KINDS)
    assert (told[0][0], told[0][3], told[0][4]) == (400, 0, 0)


@pytest.mark.parametrize("name", ["zhang3", MOBILE])
@pytest.mark.parametrize(("password", "hashes"), [("wrong password", 1), ("x", 1), ("x" * 129, 0)])
def test_failed_login_tells_nothing(client, clock, users, counted, name, password, hashes):
    told = []
    for kind in KINDS:
        make_account(users, kind)
        told.append(counted(lambda: post(client, "/authorizations/", {"username": name, "password": password})))
        clock.shift(300)  # so that no lock begins
    assert told == [told[0]] * len(KINDS)
    assert (told[0][0], told[0][3]) == (400, hashes)


@pytest.mark.parametrize("name", ["zhang3", MOBILE])
def test_right_password_of_a_disabled_account_is_answered_like_a_wrong_one(client, users, counted, name):
    make_account(users, "disabled")
    told = [
        counted(lambda password=password: post(client, "/authorizations/", {"username": name, "password": password}))
        for password in (PASSWORD, "wrong password")
    ]
    assert told[0] == told[1]


@pytest.mark.parametrize("name", ["zhang3", MOBILE])
def test_login_that_is_locked_tells_nothing(clock, users, counted, name):
    told = []
    for number, kind in enumerate(KINDS):
        make_account(users, kind)
        client = Client(REMOTE_ADDR=f"203.0.113.{number}")
        for password in ["wrong password"] * 5 + [PASSWORD]:
            form = {"username": name, "password": password}
            last = counted(lambda client=client, form=form: post(client, "/authorizations/", form))
        told.append(last)
        clock.shift(24 * 3600)
    assert told == [told[0]] * len(KINDS)
    assert (told[0][0], told[0][2]["Retry-After"], told[0][3]) == (429, "60", 0)


def test_sms_and_its_refusal_tell_nothing(users, counted, tmp_path, clock):
    told = []
    for number, kind in enumerate(KINDS):
        make_account(users, kind)
        phone = Phone(tmp_path, Client(REMOTE_ADDR=f"203.0.113.{number}"))
        told.append((counted(phone.ask_for_code), counted(phone.ask_for_code)))
        clock.shift(24 * 3600)
    assert told == [told[0]] * len(KINDS)
    assert [answer[0] for answer in told[0]] == [200, 429]

"""Password reset by SMS and password change; and that no answer reveals whether a mobile has an account."""

import pytest
from django.db import OperationalError, connection
from django.db.models.signals import post_save
from django.test import Client
from django.test.utils import CaptureQueriesContext

from apps.oauth.models import OAuthQQUser
from apps.oauth.signals import qq_unbound
from apps.users.models import User
from apps.users.serializers import AccountSerializer
from apps.users.signals import password_was_reset
from tests.conftest import MOBILE, PASSWORD, Phone
from tests.tools.requirements import requirement
from tests.users import texts
from tests.users.checks import assert_invalid, assert_logged_in, assert_too_often, assert_unauthorized
from tests.users.helpers import get_token, get_user, log_in, other_code, post, simultaneously

NEW_PASSWORD = "new correct horse"


@pytest.fixture
def reset(proof):
    """The reset form, filled in by the owner of the phone."""
    return proof | {"password": NEW_PASSWORD}


def change(client, token, old_password=PASSWORD, password=NEW_PASSWORD):
    form = {"old_password": old_password, "password": password}
    headers = {"Authorization": f"JWT {token}"} if token else {}
    return client.put("/user/password/", form, content_type="application/json", headers=headers)


@requirement("5.4", "6.8", "7.2")
def test_reset_sets_the_password_ends_earlier_logins_and_changes_nothing_else(client, account, token, reset):
    extra = {"is_staff": True, "is_superuser": True, "username": "root", "user_id": 1, "token_generation": 9}
    for password, sentence in (("short", texts.PASSWORD_LENGTH), ("password1", texts.PASSWORD_COMMON)):
        assert_invalid(post(client, "/password/", reset | {"password": password}), "password", sentence)
    assert get_user(client, token).status_code == 200
    assert_logged_in(client, post(client, "/password/", reset | extra), account)
    assert_unauthorized(get_user(client, token))
    assert log_in(client).status_code == 400
    assert_logged_in(client, log_in(client, password=NEW_PASSWORD), account)
    unchanged = {"username": "zhang3", "is_staff": False, "is_superuser": False}
    assert User.objects.filter(token_generation=1, **unchanged).exists()
    assert_invalid(post(client, "/password/", reset), "sms_code", texts.SMS_CODE_WRONG)  # the code is used up


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
    assert users.get().check_password(PASSWORD)


GUESSABLE = [
    *((blanks, texts.PASSWORD_BLANK) for blanks in (" " * 8, "\u3000" * 8, " \t" * 4)),
    *((mobile, texts.PASSWORD_LIKE_MOBILE) for mobile in (MOBILE, "138-1234-5678", f"a{MOBILE}")),
]


@requirement("6.7")
@pytest.mark.parametrize(("password", "sentence"), GUESSABLE)
def test_password_of_blanks_or_like_the_mobile_is_refused(browser, client, registration, password, sentence):
    form = registration | {"password": password, "password2": password, "access_token": browser.get_bind_token()}
    for answer in (post(client, "/users/", form), post(client, "/password/", form), browser.bind(form)):
        assert_invalid(answer, "password", sentence)


@requirement("6.7")
def test_password_like_the_username_is_refused(client, registration, account, token):
    for username in ("xiaoming", "XIAOMING1"):
        guessable = {"username": "XiaoMing", "password": username, "password2": username}
        assert_invalid(post(client, "/users/", registration | guessable), "password", texts.PASSWORD_LIKE_USERNAME)
    reset = registration | {"password": "zhang3!!"}
    assert_invalid(post(client, "/password/", reset), "password", texts.PASSWORD_LIKE_USERNAME)
    assert_invalid(change(client, token, password="zhang3!!"), "password", texts.PASSWORD_LIKE_USERNAME)
    english = post(client, "/password/", registration | {"password": MOBILE}, **{"Accept-Language": "en"})
    assert english.json()["message"] == "The password is too similar to the mobile number."
    english = post(client, "/password/", registration | {"password": " " * 8}, **{"Accept-Language": "en"})
    assert english.json()["message"] == "The password must not consist of blanks only."


def test_date_that_shares_digits_with_the_mobile_is_accepted(client, registration):
    form = registration | {"password": "18765432", "password2": "18765432"}
    assert post(client, "/users/", form).status_code == 201


@requirement("7.1")
def test_owner_of_a_mobile_takes_over_an_account_that_a_stranger_registered(browser, phone, clock, users):
    stranger = Client()
    users.create_user("squatter", password="the stranger's", mobile=MOBILE)
    stolen_token = get_token(stranger, MOBILE, "the stranger's")
    form = {"mobile": MOBILE, "password": NEW_PASSWORD, "access_token": browser.get_bind_token()}
    assert_invalid(browser.bind(form | {"sms_code": phone.receive_code()}), "password", texts.BIND_PASSWORD_WRONG)
    clock.shift(60)
    assert post(browser.client, "/password/", form | {"sms_code": phone.receive_code()}).status_code == 200
    assert_unauthorized(get_user(stranger, stolen_token))
    assert log_in(stranger, MOBILE, "the stranger's").status_code == 400
    clock.shift(60)
    assert browser.bind(form | {"sms_code": phone.receive_code()}).status_code == 200


@requirement("7.2", "7.7")
@pytest.mark.parametrize("unbinds", [True, False])
def test_reset_unbinds_all_qqs_where_the_setting_says_so(
    browser, client, binding, reset, settings, unbinds, connect, django_capture_on_commit_callbacks
):
    settings.RESET_UNBINDS_QQ, heard = unbinds, []
    connect(lambda user, reason, **_: heard.append((user, reason)), qq_unbound)
    OAuthQQUser.objects.create(user=binding.user, openid="A" * 32)
    assert post(client, "/password/", reset | {"sms_code": other_code(reset["sms_code"])}).status_code == 400
    assert OAuthQQUser.objects.count() == 2
    with django_capture_on_commit_callbacks(execute=True):
        assert post(client, "/password/", reset).status_code == 200
    assert heard == [(binding.user, "password_reset")] * (2 if unbinds else 0)
    answer = browser.redeem_code(browser.arrive()).json()
    bind_token, login = {"access_token", "fields", "next"}, {"token", "user_id", "username", "next"}
    assert answer.keys() == (bind_token if unbinds else login)
    assert OAuthQQUser.objects.count() == (0 if unbinds else 2)


@pytest.fixture
def lose_conflict(connect):
    """A function that lets a cluster roll back the next transaction that sends a signal."""
    errors = [OperationalError(1213, "Deadlock found when trying to get lock")]

    def fail(**kwargs):
        if errors:
            raise errors.pop()

    return lambda signal: connect(fail, signal, sender=User)


def test_registration_that_a_cluster_has_rolled_back_is_repeated(client, registration, lose_conflict):
    lose_conflict(post_save)
    assert post(client, "/users/", registration).status_code == 201


@requirement("5.4")
@pytest.mark.parametrize("form", ["change", "reset"])
def test_new_password_that_a_cluster_has_rolled_back_is_saved_again(client, account, token, reset, lose_conflict, form):
    lose_conflict(password_was_reset if form == "reset" else post_save)
    answer = post(client, "/password/", reset) if form == "reset" else change(client, token)
    assert_logged_in(client, answer, account)
    assert_unauthorized(get_user(client, token))
    assert_logged_in(client, log_in(client, password=NEW_PASSWORD), account)


def set_password_meanwhile(password):
    owner = User.objects.get(mobile=MOBILE)
    owner.set_password(password)
    owner.save()


class OvertakenSerializer(AccountSerializer):  # while it is used, the owner of the account sets another password
    def validate(self, attrs):
        attrs = super().validate(attrs)
        set_password_meanwhile(NEW_PASSWORD)
        return attrs


def test_bind_overtaken_by_a_reset_binds_nothing(browser, account, form, settings):
    settings.QQ_ACCOUNT_SERIALIZER = f"{__name__}.OvertakenSerializer"
    assert_invalid(browser.bind(form), "password", texts.BIND_PASSWORD_WRONG)
    assert not OAuthQQUser.objects.exists()


@requirement("5.4")
def test_change_of_the_password_ends_earlier_logins(client, account, token):
    assert_logged_in(client, change(client, token), account)
    for response in (get_user(client, token), change(client, token)):
        assert_unauthorized(response)
    assert_unauthorized(change(client, None), texts.NO_TOKEN)
    assert log_in(client).status_code == 400
    assert_logged_in(client, log_in(client, password=NEW_PASSWORD), account)


@pytest.mark.parametrize(
    ("form", "field", "sentence", "hashes"),
    [
        ({"old_password": ""}, "old_password", "请输入原密码。", 0),
        ({"old_password": "x" * 129}, "old_password", "原密码不正确。", 0),
        ({"old_password": "another horse"}, "old_password", "原密码不正确。", 1),
        ({"password": "short"}, "password", texts.PASSWORD_LENGTH, 0),
        ({"password": "password1"}, "password", texts.PASSWORD_COMMON, 1),
    ],
)
def test_wrong_field_of_a_change_is_named(hasher, client, token, form, field, sentence, hashes):
    hasher.hashed = 0
    assert_invalid(change(client, token, **form), field, sentence)
    assert hasher.hashed == hashes
    assert get_user(client, token).status_code == 200


def test_guesses_at_the_old_password_and_at_the_login_are_counted_together(client, clock, token):
    guesses = [change(client, token, "another horse") for _ in range(3)]
    guesses += [log_in(client, password="another horse") for _ in range(2)]
    assert [answer.status_code for answer in guesses] == [400] * 5
    assert_too_often(change(client, token), 60)
    clock.shift(60)
    assert change(client, token).status_code == 200


class OvertakingValidator:  # while it checks the new password, the owner of the account sets another one
    def validate(self, password, user=None):
        set_password_meanwhile("another horse")


def test_change_overtaken_by_another_change_is_refused(client, account, token, settings):
    settings.AUTH_PASSWORD_VALIDATORS = [{"NAME": f"{__name__}.OvertakingValidator"}]
    assert_unauthorized(change(client, token))
    assert User.objects.get().check_password("another horse")


@pytest.mark.servers  # SQLite in memory does not wait for a table that another thread writes
@pytest.mark.django_db(transaction=True)
def test_one_of_many_simultaneous_changes_is_made(client, token):
    answers = simultaneously(lambda number: change(Client(), token, password=f"horse number {number}"), 4)
    statuses = [answer.status_code for answer in answers]
    assert sorted(statuses) == [200, 401, 401, 401]
    assert log_in(client, password=f"horse number {statuses.index(200)}").status_code == 200


# The accounts a mobile may have, by what differs from a plain one.
KINDS = {"none": None, "plain": {}, "other password": {"password": "another horse"}, "no password": {"password": None}}
KINDS |= {"disabled": {"is_active": False}, "staff": {"is_staff": True}, "bound to another QQ": {}}


@pytest.fixture
def answer_for_all(users, hasher):
    """Return the answers of `call(number)`, which must be the same for each kind of account.

    Each answer is (status, hashes, queries, headers, body).
    """

    def measure(call, number):
        hasher.hashed = 0
        with CaptureQueriesContext(connection) as queries:
            response = call(number)
        return response.status_code, hasher.hashed, len(queries), dict(response.headers), response.content.decode()

    def answer_for_all(*calls, kinds=KINDS):
        answers = []
        for number, kind in enumerate(kinds):
            users.all().delete()
            if kind != "none":
                user = users.create_user("zhang3", mobile=MOBILE, **{"password": PASSWORD, **KINDS[kind]})
            if kind == "bound to another QQ":
                OAuthQQUser.objects.create(user=user, openid="F" * 32)
            answers.append([measure(call, number) for call in calls])
        assert answers == [answers[0]] * len(kinds)
        return answers[0]

    return answer_for_all


@requirement("6.6")
@pytest.mark.parametrize("password", [PASSWORD, "wrong password", "password1"])
def test_bind_reveals_no_account_before_the_mobile_is_proved(browser, form, answer_for_all, password):
    form |= {"sms_code": other_code(form["sms_code"]), "password": password}
    tokens = [browser.get_bind_token(f"person {number}") for number in range(len(KINDS))]
    ((status, hashes, *_, body),) = answer_for_all(lambda number: browser.bind(form | {"access_token": tokens[number]}))
    assert (status, hashes, texts.SMS_CODE_WRONG in body) == (400, 0, True)


@requirement("6.6")
@pytest.mark.parametrize("path", ["/password/", "/users/"])
def test_reset_and_registration_reveal_no_account_before_the_mobile_is_proved(client, answer_for_all, path):
    form = {"username": "zhang3", "password2": PASSWORD, "allow": True}
    form |= {"mobile": MOBILE, "password": PASSWORD, "sms_code": "123456"}
    ((status, hashes, queries, *_),) = answer_for_all(lambda _: post(client, path, form))
    assert (status, hashes, queries) == (400, 0, 0)


@requirement("6.6", "6.7")
@pytest.mark.parametrize("name", ["zhang3", MOBILE])
@pytest.mark.parametrize(
    ("password", "kinds", "expected_hashes"),
    [("x", KINDS, 1), ("x" * 129, KINDS, 0), (PASSWORD, ["none", "other password", "no password", "disabled"], 1)],
)
def test_failed_login_reveals_no_account(new_client, answer_for_all, clock, name, password, kinds, expected_hashes):
    def try_to_log_in(_):
        clock.shift(300)  # so that no lock begins
        return log_in(new_client(), name, password)

    ((status, hashes, *_, body),) = answer_for_all(try_to_log_in, kinds=kinds)
    assert (status, hashes, texts.LOGIN_WRONG in body) == (400, expected_hashes, True)


@requirement("6.6")
@pytest.mark.parametrize("name", ["zhang3", MOBILE])
def test_locked_login_reveals_no_account(clock, new_client, answer_for_all, name):
    def guess(_, password="wrong password", days_later=0):
        clock.shift(days_later * 86_400)
        return log_in(new_client(), name, password)

    answers = answer_for_all(lambda _: guess(_, days_later=1), *[guess] * 4, lambda _: guess(_, PASSWORD))
    assert [(status, hashes) for status, hashes, *_ in answers] == [(400, 1)] * 5 + [(429, 0)]
    assert answers[-1][3]["Retry-After"] == "60"


@requirement("6.6")
def test_sms_and_its_refusal_reveal_no_account(answer_for_all, tmp_path, new_client, clock):
    def ask(_, days_later=0):
        clock.shift(days_later * 86_400)
        return Phone(tmp_path, new_client()).ask_for_code()

    assert [status for status, *_ in answer_for_all(lambda _: ask(_, days_later=1), ask)] == [200, 429]

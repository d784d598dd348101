"""Registration, login, profile, the checks whether a name is taken, and malformed requests."""

import pytest
from django.core.exceptions import ValidationError

from tests.conftest import MOBILE, PASSWORD
from tests.tools.requirements import requirement
from tests.users import texts
from tests.users.checks import assert_error, assert_invalid, assert_logged_in
from tests.users.helpers import OTHER_MOBILE, get_token, get_user, log_in, other_code, post

USERNAME_MISSING = "请输入用户名。"
USERNAME_SHAPE = "用户名应为 5 到 20 个字符，可以用文字、数字和 @ . + - _ 这些符号。"
USERNAME_IS_MOBILE = "用户名不能是手机号。"
TERMS = "请阅读并同意用户协议。"


@requirement("6.8")
def test_registration_creates_the_account_and_ignores_all_other_fields(client, registration, users):
    extra = {"is_staff": True, "is_superuser": True, "id": 77, "email_active": True, "token_generation": 9}
    response = post(client, "/users/", registration | extra)
    user = users.get()
    assert (response.status_code, response["Cache-Control"]) == (201, "no-store")
    answer = response.json()
    assert get_user(client, answer.pop("token")).status_code == 200
    assert answer == {"id": user.pk, "username": "xiaoming", "mobile": "138****5678"}
    assert user.pk != 77
    assert user.check_password(PASSWORD)
    assert (user.is_staff, user.is_superuser, user.email_active, user.token_generation) == (False, False, False, 0)


WRONG_FIELDS = [
    ("username", USERNAME_MISSING, ["", None]),
    ("username", USERNAME_SHAPE, ["four", "x" * 21, "xiao ming"]),
    ("username", USERNAME_IS_MOBILE, [OTHER_MOBILE, "１３９００００００００"]),
    ("password", texts.PASSWORD_LENGTH, ["short", "x" * 129, [PASSWORD]]),
    ("password2", "请再次输入密码。", [""]),
    ("password2", "两次输入的密码不一致。", [f"{PASSWORD} "]),
    ("mobile", "请输入手机号。", [""]),
    ("mobile", texts.MOBILE_MALFORMED, ["12345678901", f"{MOBILE}\n", f" {MOBILE}", f"+86{MOBILE}", "1381234567٨"]),
    ("sms_code", "请输入短信验证码。", [""]),
    ("sms_code", "短信验证码是 6 位数字。", ["12345", "12345６"]),
    ("allow", TERMS, [False, None, {}]),
]


@requirement("6.2")
@pytest.mark.parametrize(("field", "sentence", "values"), WRONG_FIELDS)
def test_wrong_field_gets_its_own_sentence_and_costs_no_new_sms(client, registration, users, field, sentence, values):
    for value in values:
        assert_invalid(post(client, "/users/", registration | {field: value}), field, sentence)
    assert not users.exists()
    assert post(client, "/users/", registration).status_code == 201


def test_each_missing_field_is_named(client, db):
    fields = {"username": [USERNAME_MISSING], "password": ["请输入密码。"], "password2": ["请再次输入密码。"]}
    fields |= {"mobile": ["请输入手机号。"], "sms_code": ["请输入短信验证码。"], "allow": [TERMS]}
    assert_error(post(client, "/users/", {}), 400, "invalid", USERNAME_MISSING, **fields)


@pytest.mark.parametrize(
    ("change", "field", "sentence"),
    [({"username": "zhang3"}, "username", "该用户名已被使用。"), ({}, "mobile", "该手机号已注册。")],
)
def test_taken_name_is_revealed_only_with_the_sms_code(client, account, registration, users, change, field, sentence):
    wrong = registration | change | {"sms_code": other_code(registration["sms_code"])}
    assert_invalid(post(client, "/users/", wrong), "sms_code", texts.SMS_CODE_WRONG)
    assert_invalid(post(client, "/users/", registration | change), field, sentence)
    assert users.get() == account


def test_model_refuses_a_username_that_looks_like_a_mobile(django_user_model):
    with pytest.raises(ValidationError) as refused:
        django_user_model(username=OTHER_MOBILE, password="x").full_clean()
    assert refused.value.message_dict == {"username": [USERNAME_IS_MOBILE]}


@requirement("6.7")
def test_login_accepts_username_or_mobile_the_exact_password_and_an_old_token(client, users):
    user = users.create_user("zhang3", password=f" {PASSWORD} ", mobile=MOBILE)
    for name in ("zhang3", MOBILE):
        assert_logged_in(client, log_in(client, name, f" {PASSWORD} ", Authorization="JWT spoiled"), user)
        response = log_in(client, name, PASSWORD)
        assert_error(response, 400, "invalid", texts.LOGIN_WRONG, non_field_errors=[texts.LOGIN_WRONG])


@requirement("10.7")
def test_profile_shows_the_owner_of_the_token_with_a_masked_mobile(client, account, users):
    users.create_superuser("boss", password=PASSWORD)
    boss = users.create_superuser("boss2", password=PASSWORD)  # accounts of staff need no mobile
    for user, mobile in ((account, "138****5678"), (boss, None)):
        response = get_user(client, get_token(client, user.username))
        assert (response.status_code, response["Cache-Control"]) == (200, "no-store")
        profile = {"id": user.pk, "username": user.username, "mobile": mobile, "email": "", "email_active": False}
        assert response.json() == profile


@pytest.mark.parametrize(("kind", "taken", "free"), [("username", "zhang3", "小明"), ("mobile", MOBILE, OTHER_MOBILE)])
def test_count_shows_whether_a_name_is_taken(client, account, kind, taken, free):
    for name, count in ((taken, 1), (free, 0)):
        response = client.get(f"/{kind}s/{name}/count/")
        assert (response.status_code, response.json()) == (200, {kind: name, "count": count})


@pytest.mark.parametrize("malformed", ["123", "1381234567%D9%A8", f"{MOBILE}%0A", "%00"])
def test_count_of_a_malformed_mobile_is_refused(client, db, malformed):
    assert_invalid(client.get(f"/mobiles/{malformed}/count/"), "mobile", texts.MOBILE_MALFORMED)


WRONG_TYPES = ['"a\\u0000b"', '"\\ud800"', "[]", "{}", "true", "[" * 980 + "]" * 980]


@pytest.mark.parametrize("value", WRONG_TYPES, ids=range(6))
def test_body_or_value_of_the_wrong_type_is_refused(client, db, value):
    fields = ("username", "password", "password2", "mobile", "sms_code", "allow")
    for path in ("/users/", "/authorizations/", "/password/"):
        for body in ("", value, *(f'{{"{field}": {value}}}' for field in fields)):
            assert post(client, path, body).status_code == 400
        for malformed in ("[" * 5000, "{", "NaN", b"\xff\xfe", '{"a": 1, "a": 2}'):
            assert_error(post(client, path, malformed), 400, "invalid", "请求内容不是有效的 JSON。")


@requirement("10.7")
def test_admin_masks_mobiles(rf, account):
    from django.contrib.admin import site

    admin = site.get_model_admin(type(account))
    assert admin.masked_mobile(account) == "138****5678"
    assert admin.masked_mobile(type(account)()) == ""
    assert "mobile" not in str(admin.get_fieldsets(rf.get("/"), account)).replace("masked_mobile", "")

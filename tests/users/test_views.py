"""The shop's own accounts: registering, logging in, tokens, SMS and image codes, and what is refused."""

import base64
import hmac
import json
import random
import string
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from threading import Barrier

import jwt
import pytest
import time_machine
from django.contrib.auth.hashers import PBKDF2PasswordHasher
from django.core.cache import cache
from django.core.exceptions import ValidationError
from django.db import connections

from tests.conftest import MOBILE, PASSWORD

SMS_CODE_WRONG = "短信验证码错误或已过期。"
IMAGE_CODE_WRONG = "图形验证码错误或已过期。"
LOGIN_ENDED = "登录已失效，请重新登录。"
HOUR = 3600


@pytest.fixture
def users(django_user_model):
    return django_user_model.objects


@pytest.fixture
def registration(phone, db):
    """The registration form, filled in right."""
    return {
        "username": "xiaoming",
        "password": PASSWORD,
        "password2": PASSWORD,
        "mobile": MOBILE,
        "sms_code": phone.receive_code(),
        "allow": True,
    }


@pytest.fixture
def proof(phone, db):
    """What the account serializer gets from somebody who holds the phone."""
    return {"mobile": MOBILE, "password": PASSWORD, "sms_code": phone.receive_code()}


@pytest.fixture
def token(client, account):
    return log_in(client)["token"]


def post(client, path, data, **headers):
    return client.post(path, data, content_type="application/json", headers=headers)


def log_in(client, username=MOBILE, password=PASSWORD):
    return post(client, "/authorizations/", {"username": username, "password": password}).json()


def get_user(client, token):
    return client.get("/user/", headers={"Authorization": f"JWT {token}"})


def at_once(call, times=8):
    """Make a call from as many threads, which start together and tell it their number; return what they got."""
    start = Barrier(times, timeout=30)

    def wait_and_call(number):
        start.wait()
        try:
            return call(number)
        finally:
            connections.close_all()

    with ThreadPoolExecutor(times) as pool:
        return list(pool.map(wait_and_call, range(times)))


@contextmanager
def stopped_clock(settings):
    """A clock that only the test moves. With a cache of this process's own, as Redis counts its seconds by itself."""
    options = {"MAX_ENTRIES": 100_000}
    local = {"BACKEND": "django.core.cache.backends.locmem.LocMemCache", "LOCATION": "stopped", "OPTIONS": options}
    settings.CACHES = {"default": local}
    cache.clear()
    with time_machine.travel(datetime(2030, 1, 1, tzinfo=timezone.utc), tick=False) as clock:
        yield clock


def other_code(code):
    return f"{(int(code) + 1) % 10**6:06}"


def refusal(serializer):
    assert not serializer.is_valid()
    return serializer.errors


# Registering


def test_registration_makes_an_account_and_logs_it_in(client, registration, users):
    response = post(client, "/users/", registration)
    user = users.get()
    assert response.status_code == 201
    assert response["Cache-Control"] == "no-store"
    answer = response.json()
    assert get_user(client, answer.pop("token")).status_code == 200
    assert answer == {"id": user.pk, "username": "xiaoming", "mobile": "138****5678"}
    assert user.check_password(PASSWORD)


@pytest.mark.parametrize(
    ("change", "field", "sentence"),
    [
        ({"username": ""}, "username", "请输入用户名。"),
        ({"username": None}, "username", "请输入用户名。"),
        ({"username": "four"}, "username", "用户名应为 5 到 20 个字符，可以用文字、数字和 @ . + - _ 这些符号。"),
        ({"username": "x" * 21}, "username", "用户名应为 5 到 20 个字符，可以用文字、数字和 @ . + - _ 这些符号。"),
        ({"username": "xiao ming"}, "username", "用户名应为 5 到 20 个字符，可以用文字、数字和 @ . + - _ 这些符号。"),
        ({"username": "13900000000"}, "username", "用户名不能是手机号。"),
        ({"username": "１３９００００００００"}, "username", "用户名不能是手机号。"),
        ({"password": "short"}, "password", "密码长度应为 8 到 128 个字符。"),
        ({"password": "x" * 129}, "password", "密码长度应为 8 到 128 个字符。"),
        ({"password": ["correct horse"]}, "password", "密码长度应为 8 到 128 个字符。"),
        ({"password2": ""}, "password2", "请再次输入密码。"),
        ({"password2": f"{PASSWORD} "}, "password2", "两次输入的密码不一致。"),
        ({"mobile": ""}, "mobile", "请输入手机号。"),
        ({"mobile": "12345678901"}, "mobile", "手机号格式不正确。"),
        ({"mobile": f"{MOBILE}\n"}, "mobile", "手机号格式不正确。"),
        ({"mobile": f" {MOBILE}"}, "mobile", "手机号格式不正确。"),
        ({"mobile": f"+86{MOBILE}"}, "mobile", "手机号格式不正确。"),
        ({"mobile": "1381234567٨"}, "mobile", "手机号格式不正确。"),
        ({"sms_code": ""}, "sms_code", "请输入短信验证码。"),
        ({"sms_code": "12345"}, "sms_code", "短信验证码是 6 位数字。"),
        ({"sms_code": "12345６"}, "sms_code", "短信验证码是 6 位数字。"),
        ({"allow": False}, "allow", "请阅读并同意用户协议。"),
        ({"allow": None}, "allow", "请阅读并同意用户协议。"),
        ({"allow": {}}, "allow", "请阅读并同意用户协议。"),
        ({"password": "12345678", "password2": "12345678"}, "password", "这个密码太常见了。"),
    ],
)
def test_wrong_field_is_refused_with_its_own_sentence(client, registration, users, change, field, sentence):
    response = post(client, "/users/", registration | change)
    assert response.status_code == 400
    assert response.json() == {"code": "invalid", "message": sentence, field: [sentence]}
    assert not users.exists()


def test_missing_fields_are_all_named(client, db):
    response = post(client, "/users/", {})
    assert response.status_code == 400
    assert response.json() == {
        "code": "invalid",
        "message": "请输入用户名。",
        "username": ["请输入用户名。"],
        "password": ["请输入密码。"],
        "password2": ["请再次输入密码。"],
        "mobile": ["请输入手机号。"],
        "sms_code": ["请输入短信验证码。"],
        "allow": ["请阅读并同意用户协议。"],
    }


def test_mistake_in_the_form_costs_no_new_sms(client, registration):
    post(client, "/users/", registration | {"password": "12345678", "password2": "12345678"})
    assert post(client, "/users/", registration).status_code == 201


@pytest.mark.parametrize(
    ("change", "field", "sentence"),
    [
        ({"username": "zhang3"}, "username", "该用户名已被使用。"),
        ({}, "mobile", "该手机号已注册。"),
    ],
)
def test_taken_name_or_number_is_refused(client, account, registration, users, change, field, sentence):
    response = post(client, "/users/", registration | change)
    assert response.status_code == 400
    assert response.json() == {"code": "invalid", "message": sentence, field: [sentence]}
    assert users.get() == account


def test_taken_number_is_not_told_without_the_sms_code(client, account, registration):
    wrong = registration | {"sms_code": other_code(registration["sms_code"])}
    response = post(client, "/users/", wrong)
    assert response.status_code == 400
    assert response.json() == {"code": "invalid", "message": SMS_CODE_WRONG, "sms_code": [SMS_CODE_WRONG]}


def test_fields_nobody_asked_for_are_ignored(client, registration, users):
    extra = {"is_staff": True, "is_superuser": True, "id": 77, "email_active": True, "token_generation": 9}
    assert post(client, "/users/", registration | extra).status_code == 201
    user = users.get()
    assert (user.is_staff, user.is_superuser, user.email_active, user.token_generation) == (False, False, False, 0)
    assert user.pk != 77


def test_username_that_looks_like_a_mobile_is_refused_by_the_model(django_user_model):
    with pytest.raises(ValidationError) as refused:
        django_user_model(username="13900000000", password="x").full_clean()
    assert refused.value.message_dict == {"username": ["用户名不能是手机号。"]}


def test_staff_may_be_without_a_mobile(users, client, db):
    users.create_superuser("boss", password=PASSWORD)
    users.create_superuser("boss2", password=PASSWORD)
    token = log_in(client, "boss")["token"]
    assert get_user(client, token).json() == {
        "id": users.get(username="boss").pk,
        "username": "boss",
        "mobile": None,
        "email": "",
        "email_active": False,
    }


# Logging in


@pytest.mark.parametrize("name", ["zhang3", MOBILE])
def test_login_by_username_or_mobile(client, account, name):
    response = post(client, "/authorizations/", {"username": name, "password": PASSWORD})
    assert response.status_code == 200
    assert response["Cache-Control"] == "no-store"
    answer = response.json()
    assert get_user(client, answer.pop("token")).status_code == 200
    assert answer == {"user_id": account.pk, "username": "zhang3"}


class CountingHasher(PBKDF2PasswordHasher):
    iterations = 1000
    hashed = 0

    def encode(self, password, salt, iterations=None):
        type(self).hashed += 1
        return super().encode(password, salt, iterations)


@pytest.mark.parametrize("name", ["zhang3", MOBILE, "nobody", "13900000000", "disabled", "13700000000"])
def test_refused_login_tells_nothing_and_works_the_same(client, settings, users, db, name):
    settings.PASSWORD_HASHERS = [f"{__name__}.CountingHasher"]
    users.create_user("zhang3", password=PASSWORD, mobile=MOBILE)
    users.create_user("disabled", password="another horse", mobile="13700000000", is_active=False)
    CountingHasher.hashed = 0
    response = post(client, "/authorizations/", {"username": name, "password": "another horse"})
    assert response.status_code == 400
    assert response.json() == {
        "code": "invalid",
        "message": "账号或密码不正确。",
        "non_field_errors": ["账号或密码不正确。"],
    }
    assert CountingHasher.hashed == 1


def test_huge_password_is_not_hashed(client, settings, account):
    settings.PASSWORD_HASHERS = [f"{__name__}.CountingHasher"]
    CountingHasher.hashed = 0
    response = post(client, "/authorizations/", {"username": "zhang3", "password": "x" * 15_000})
    assert response.status_code == 400
    assert response.json() == {
        "code": "invalid",
        "message": "账号或密码不正确。",
        "non_field_errors": ["账号或密码不正确。"],
    }
    assert CountingHasher.hashed == 0


def test_spaces_at_the_edges_belong_to_the_password(client, users, db):
    users.create_user("zhang3", password=f" {PASSWORD} ")
    assert "token" in log_in(client, "zhang3", f" {PASSWORD} ")
    assert "token" not in log_in(client, "zhang3", PASSWORD)


def test_old_token_does_not_get_in_the_way_of_a_login(client, account):
    form = {"username": MOBILE, "password": PASSWORD}
    assert post(client, "/authorizations/", form, Authorization="JWT spoiled").status_code == 200


def test_profile_belongs_to_the_token(client, account, token):
    response = get_user(client, token)
    assert response.status_code == 200
    assert response["Cache-Control"] == "no-store"
    assert response.json() == {
        "id": account.pk,
        "username": "zhang3",
        "mobile": "138****5678",
        "email": "",
        "email_active": False,
    }


@pytest.mark.parametrize(
    ("path", "answer"),
    [
        ("/usernames/zhang3/count/", {"username": "zhang3", "count": 1}),
        ("/usernames/li4/count/", {"username": "li4", "count": 0}),
        ("/usernames/小明/count/", {"username": "小明", "count": 0}),
        (f"/mobiles/{MOBILE}/count/", {"mobile": MOBILE, "count": 1}),
        ("/mobiles/13900000000/count/", {"mobile": "13900000000", "count": 0}),
    ],
)
def test_count_says_whether_a_name_or_number_is_taken(client, account, path, answer):
    response = client.get(path)
    assert response.status_code == 200
    assert response.json() == answer


@pytest.mark.parametrize("mobile", ["123", "1381234567%D9%A8", f"{MOBILE}%0A", "%00"])
def test_count_of_what_is_no_number_is_refused(client, db, mobile):
    response = client.get(f"/mobiles/{mobile}/count/")
    assert response.status_code == 400
    assert response.json() == {"code": "invalid", "message": "手机号格式不正确。", "mobile": ["手机号格式不正确。"]}


# Tokens


def test_token_holds_these_claims_and_no_others(account, token, settings):
    claims = jwt.decode(token, settings.SIMPLE_JWT["SIGNING_KEY"], algorithms=["HS256"])
    assert jwt.get_unverified_header(token) == {"alg": "HS256", "typ": "JWT"}
    assert claims == {
        "user_id": account.pk,
        "username": "zhang3",
        "gen": 0,
        "iat": claims["iat"],
        "exp": claims["iat"] + 24 * HOUR,
        "jti": claims["jti"],
    }
    assert claims["iat"] == pytest.approx(time.time(), abs=60)
    assert len(claims["jti"]) == 32


def assert_refused(response, message=LOGIN_ENDED):
    assert response.status_code == 401
    assert response["WWW-Authenticate"] == 'JWT realm="api"'
    assert response.json() == {"code": "not_authenticated", "message": message}


def test_token_ends_on_its_second(client, account):
    start = datetime(2030, 1, 1, tzinfo=timezone.utc)
    with time_machine.travel(start, tick=False) as clock:
        token = log_in(client)["token"]
        clock.move_to(start + timedelta(hours=24, seconds=-1))
        assert get_user(client, token).status_code == 200
        clock.move_to(start + timedelta(hours=24))
        assert_refused(get_user(client, token))


def test_token_of_a_server_whose_clock_is_ahead_is_taken(client, account):
    start = datetime(2030, 1, 1, tzinfo=timezone.utc)
    with time_machine.travel(start, tick=False) as clock:
        token = log_in(client)["token"]
        clock.move_to(start - timedelta(seconds=30))
        assert get_user(client, token).status_code == 200


@pytest.mark.parametrize("fields", [None, ["password"], {"password", "email"}])
def test_changed_password_ends_every_token_of_before(client, account, token, fields):
    account.set_password("another horse")
    account.save(update_fields=fields)
    assert_refused(get_user(client, token))
    assert get_user(client, log_in(client, password="another horse")["token"]).status_code == 200


def test_password_saved_later_than_the_rest_ends_the_tokens(client, account, token):
    account.set_password("another horse")
    account.save(update_fields=["email"])
    assert get_user(client, token).status_code == 200
    account.save(update_fields=["password"])
    assert_refused(get_user(client, token))


def test_password_taken_away_ends_the_tokens(client, account, token):
    account.set_unusable_password()
    account.save()
    assert_refused(get_user(client, token))


def test_two_password_changes_from_one_copy_each_raise_the_generation(account, users):
    copies = [users.get(), users.get()]
    for number, copy in enumerate(copies):
        copy.set_password(f"horse number {number}")
        copy.save()
    assert [copy.token_generation for copy in copies] == [1, 2]


def test_saving_something_else_leaves_the_tokens_alive(client, account, token):
    account.email = "zhang3@example.com"
    account.save()
    assert get_user(client, token).status_code == 200


def test_better_hash_of_the_same_password_leaves_the_tokens_alive(client, account, token, settings):
    settings.PASSWORD_HASHERS = [f"{__name__}.CountingHasher", *settings.PASSWORD_HASHERS]
    before = account.password
    log_in(client)
    account.refresh_from_db()
    assert account.password != before
    assert get_user(client, token).status_code == 200


def test_token_of_a_disabled_account_is_refused(client, account, token):
    account.is_active = False
    account.save()
    assert_refused(get_user(client, token))


def test_token_of_a_deleted_account_is_refused(client, account, token):
    account.delete()
    assert_refused(get_user(client, token))


def test_without_a_token_there_is_no_profile(client, db):
    assert_refused(client.get("/user/"), "身份认证信息未提供。")


def encode(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


@pytest.mark.parametrize(
    "header",
    [
        "JWT",
        "JWT a b",
        "JWT .",
        "JWT ..",
        "JWT a.b.c",
        "JWT é.é.é",
        "JWT ☃",
        "JWT " + "x" * 8000,
        "JWT " + encode(b"[" * 6000) + ".e30.AAAA",
        "JWT " + encode(b"1") + ".e30.AAAA",
        "JWT " + encode(b'{"alg": ["HS256"]}') + ".e30.AAAA",
        "JWT " + encode(b'{"alg": "HS256", "n": ' + b"1" * 5000 + b"}") + ".e30.AAAA",
    ],
    ids=range(12),
)
def test_garbled_header_is_refused(client, db, header):
    assert_refused(client.get("/user/", headers={"Authorization": header}))


def test_any_garbage_is_refused(client, account, token):
    characters = string.printable + "é\x80☃\x00"
    chance = random.Random(7)
    for _ in range(300):
        header = chance.choice(["JWT ", "JWT  ", "Bearer ", "jwt\t", ""])
        header += "".join(chance.choices(characters, k=chance.randrange(60)))
        assert get(client, header).status_code == 401, header
    for place in range(len(token) - 1):  # the last letter of base64 carries bits that mean nothing
        bent = token[:place] + ("A" if token[place] != "A" else "B") + token[place + 1 :]
        assert get_user(client, bent).status_code == 401, bent


def get(client, header):
    return client.get("/user/", headers={"Authorization": header})


@pytest.mark.parametrize(
    ("change", "key", "algorithm", "header"),
    [
        ({}, "another key of thirty-two bytes and more", "HS256", {}),
        ({}, None, "none", {}),
        ({}, "the shop's", "HS512", {}),
        ({}, "the shop's", "HS256", {"crit": ["unknown"]}),
        ({"gen": 1}, "the shop's", "HS256", {}),
        ({"gen": None}, "the shop's", "HS256", {}),
        ({"user_id": None}, "the shop's", "HS256", {}),
        ({"exp": None}, "the shop's", "HS256", {}),
        ({"jti": None}, "the shop's", "HS256", {}),
        ({"exp": 1_000_000_000}, "the shop's", "HS256", {}),
        ({"exp": "tomorrow"}, "the shop's", "HS256", {}),
        ({"iat": 5_000_000_000, "exp": 5_000_086_400}, "the shop's", "HS256", {}),
        ({"nbf": 5_000_000_000}, "the shop's", "HS256", {}),
        ({"user_id": [1]}, "the shop's", "HS256", {}),
        ({"user_id": "1 OR 1=1"}, "the shop's", "HS256", {}),
        ({"gen": "0 "}, "the shop's", "HS256", {}),
        ({"gen": {"a": 1}}, "the shop's", "HS256", {}),
        ({"user_id": 2**70}, "the shop's", "HS256", {}),
        ({}, "k", "HS256", {"jku": "https://attacker.example/keys"}),
        ({}, "k", "HS256", {"kid": "../../dev/null"}),
        ({}, "k", "HS256", {"jwk": {"kty": "oct", "k": "aw"}}),
    ],
)
@pytest.mark.filterwarnings("ignore:The HMAC key")
def test_forged_token_is_refused(client, token, settings, change, key, algorithm, header):
    claims = jwt.decode(token, options={"verify_signature": False}) | change
    claims = {name: value for name, value in claims.items() if value is not None}
    if key == "the shop's":
        key = settings.SIMPLE_JWT["SIGNING_KEY"]
    if algorithm == "HS512":
        key = key.ljust(64, "x")  # the library would warn of a shorter one
    assert_refused(get_user(client, jwt.encode(claims, key, algorithm=algorithm, headers=header)))


@pytest.mark.parametrize(
    "algorithm", ["none", "None", "HS512", "HS384", "RS256", "ES256", "", None, ["HS256"], "hs256"]
)
def test_token_that_names_another_algorithm_is_refused(client, token, settings, algorithm):
    """The signature is the one our key makes: only the name differs."""
    claims = token.split(".")[1]
    signed = f"{encode(json.dumps({'alg': algorithm, 'typ': 'JWT'}).encode())}.{claims}"
    for key in (settings.SIMPLE_JWT["SIGNING_KEY"].encode(), b""):
        for hash in ("sha256", "sha512"):
            assert_refused(get_user(client, f"{signed}.{encode(hmac.digest(key, signed.encode(), hash))}"))
    assert_refused(get_user(client, f"{signed}."))
    assert_refused(get_user(client, signed))


def test_token_without_its_signature_is_refused(client, token):
    unsigned = token.rpartition(".")[0]
    for bent in (unsigned, f"{unsigned}.", f"{unsigned}.AAAA", f"{token}.", f"{token}.AAAA"):
        assert_refused(get_user(client, bent))


def test_token_signed_with_an_empty_key_is_refused(client, token):
    signed = token.rpartition(".")[0]
    assert_refused(get_user(client, f"{signed}.{encode(hmac.digest(b'', signed.encode(), 'sha256'))}"))


@pytest.mark.parametrize(
    "header",
    [
        {"jku": "http://127.0.0.1:9/keys"},
        {"x5u": "http://127.0.0.1:9/keys"},
        {"kid": "../../etc/passwd"},
        {"jwk": {"kty": "oct", "k": "aw"}},
    ],
)
def test_header_that_names_another_key_is_not_followed(client, account, token, settings, header):
    claims = jwt.decode(token, options={"verify_signature": False})
    token = jwt.encode(claims, settings.SIMPLE_JWT["SIGNING_KEY"], headers=header)
    assert get_user(client, token).json()["id"] == account.pk


OLD_KEY, NEW_KEY = "the old key of the shop, long enough", "the new key of the shop, long enough"


def test_tokens_of_before_a_key_change_are_good_while_the_old_key_is_listed(client, account, settings):
    settings.SIMPLE_JWT = settings.SIMPLE_JWT | {"SIGNING_KEY": OLD_KEY}
    old = log_in(client)["token"]
    settings.SIMPLE_JWT = settings.SIMPLE_JWT | {"SIGNING_KEY": NEW_KEY}
    assert_refused(get_user(client, old))
    settings.JWT_SIGNING_KEY_FALLBACKS = ["an unrelated key of the shop, long enough", OLD_KEY]
    assert get_user(client, old).status_code == 200
    new = log_in(client)["token"]
    assert jwt.decode(new, NEW_KEY, algorithms=["HS256"])["user_id"] == account.pk
    settings.JWT_SIGNING_KEY_FALLBACKS = []
    assert get_user(client, new).status_code == 200
    assert_refused(get_user(client, old))


def test_token_of_an_older_key_ends_on_its_second_too(client, account, settings):
    start = datetime(2030, 1, 1, tzinfo=timezone.utc)
    with time_machine.travel(start, tick=False) as clock:
        settings.SIMPLE_JWT = settings.SIMPLE_JWT | {"SIGNING_KEY": OLD_KEY}
        old = log_in(client)["token"]
        settings.SIMPLE_JWT = settings.SIMPLE_JWT | {"SIGNING_KEY": NEW_KEY}
        settings.JWT_SIGNING_KEY_FALLBACKS = [OLD_KEY]
        clock.move_to(start + timedelta(hours=24, seconds=-1))
        assert get_user(client, old).status_code == 200
        clock.move_to(start + timedelta(hours=24))
        assert_refused(get_user(client, old))


# Bodies that nobody's form sends


@pytest.mark.parametrize("path", ["/authorizations/", "/users/"])
@pytest.mark.parametrize(
    "body",
    [
        "[" * 5000,
        '{"a":' * 3000,
        "{",
        "",
        "NaN",
        b"\xff\xfe",
        '{"username": "a", "username": "b"}',
        '{"username": ' + "1" * 5000 + "}",
    ],
)
def test_body_that_is_no_json_is_refused(client, db, path, body):
    response = post(client, path, body)
    assert response.status_code == 400
    if body:
        assert response.json() == {"code": "invalid", "message": "请求内容不是有效的 JSON。"}


@pytest.mark.parametrize("body", ["[]", "1", "null", '"text"', "true"])
def test_body_that_is_no_object_is_refused(client, db, body):
    response = post(client, "/users/", body)
    assert response.status_code == 400
    assert set(response.json()) >= {"message", "code"}


@pytest.mark.parametrize(
    "value",
    ['"a\\u0000b"', '"\\ud800"', "[]", "{}", "true", "[" * 980 + "]" * 980],
    ids=["nul", "half a character", "list", "object", "boolean", "deep list"],
)
def test_values_of_the_wrong_kind_are_refused(client, db, value):
    fields = ("username", "password", "password2", "mobile", "sms_code", "allow")
    for field in fields:
        assert post(client, "/users/", f'{{"{field}": {value}}}').status_code == 400
        assert post(client, "/authorizations/", f'{{"{field}": {value}}}').status_code == 400


def test_huge_body_is_refused(client, db):
    response = post(client, "/authorizations/", json.dumps({"username": "x" * 10**6, "password": PASSWORD}))
    assert response.status_code == 413
    assert response.json() == {"code": "invalid", "message": "请求内容太大。"}


def test_body_that_is_not_called_json_is_refused(client, db):
    response = client.post(
        "/authorizations/", "username=a&password=b", content_type="application/x-www-form-urlencoded"
    )
    assert response.status_code == 415
    assert set(response.json()) == {"message", "code"}


def test_unknown_address_is_answered_in_json(client, db):
    response = client.get("/nowhere/")
    assert response.status_code == 404
    assert response.json() == {"code": "not_found", "message": "没有找到。"}


def test_unknown_address_is_a_page_for_a_browser(client, db):
    response = client.get("/cart", headers={"Accept": "text/html,*/*;q=0.8"})
    assert response.status_code == 404
    assert "没有这个页面" in response.content.decode()


def test_method_nobody_offers_is_answered_in_json(client, db):
    response = client.delete("/authorizations/", headers={"Accept": "text/html"})
    assert response.status_code == 405
    assert response.json() == {"code": "invalid", "message": "方法 “DELETE” 不被允许。"}


def test_errors_are_english_for_those_who_ask(client, account):
    response = post(client, "/authorizations/", {"username": "zhang3", "password": "x"}, **{"Accept-Language": "en"})
    sentence = "The account or the password is wrong."
    assert response.json() == {"code": "invalid", "message": sentence, "non_field_errors": [sentence]}


# The admin


def test_admin_shows_numbers_masked(rf, account, users):
    from django.contrib.admin import site

    admin = site.get_model_admin(type(account))
    assert admin.masked_mobile(account) == "138****5678"
    assert "mobile" not in str(admin.get_fieldsets(rf.get("/"), account)).replace("masked_mobile", "")
    assert admin.masked_mobile(type(account)()) == ""

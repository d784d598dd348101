"""POST users/: binding an openid to an account."""

import hashlib
import json
import logging
import re
import secrets
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from socket import gaierror

import pytest
import time_machine
from apps.oauth.old_errors import ERRORS, sentence
from django.contrib.auth import authenticate, get_user_model
from django.core.cache import cache
from django.core.cache.backends.locmem import LocMemCache
from django.core.exceptions import PermissionDenied, RequestDataTooBig
from django.db import IntegrityError, OperationalError, connection
from django.db.models.signals import pre_save
from django.http import Http404, UnreadablePostError
from django.test.utils import CaptureQueriesContext
from django.utils.translation import override
from itsdangerous import URLSafeTimedSerializer
from redis.exceptions import RedisError
from rest_framework.exceptions import APIException, Throttled, ValidationError
from rest_framework.serializers import CharField, IntegerField, Serializer

from apps.oauth.models import OAuthQQUser
from apps.oauth.signals import qq_bound, qq_logged_in
from tests.conftest import MOBILE, PASSWORD, Browser

ROOT = Path(__file__).resolve().parents[2]


def refusal(response, code, status=400):
    """Check status and code; return the rest."""
    body = response.json()
    assert (response.status_code, body.pop("code")) == (status, code)
    assert body.pop("message")
    return body


@pytest.fixture
def users(django_user_model):
    return django_user_model.objects


def test_a_new_shopper_gets_an_account_and_is_logged_in(browser, form, users, qq):
    response = browser.bind(form)
    body = response.json()
    token = body.pop("token")
    user = users.get(mobile=MOBILE)
    assert response.status_code == 200
    assert body == {"user_id": user.pk, "id": user.pk, "username": user.username, "next": "/cart"}
    assert browser.get("/user/", headers={"authorization": f"JWT {token}"}).json()["id"] == user.pk
    assert authenticate(username=MOBILE, password=PASSWORD) == user
    assert MOBILE not in user.username
    assert qq.openid("小明") not in user.username
    (binding,) = OAuthQQUser.objects.all()
    assert (binding.user_id, binding.openid, binding.unionid) == (user.pk, qq.openid("小明"), None)
    assert str(binding) == f"{qq.openid('小明')[:6]}…"


def test_the_second_login_goes_straight_in(browser, other_browser, form, users):
    browser.bind(form)
    response = other_browser.collect(other_browser.arrive())
    assert response.json()["user_id"] == users.get().pk


def test_an_account_of_before_is_bound_with_its_password(browser, account, form, users):
    assert browser.bind(form).json()["user_id"] == account.pk
    assert users.count() == 1


def test_a_form_whose_answer_got_lost_may_be_sent_again(browser, form, users):
    heard = []

    def hear(signal, **kwargs):
        heard.append(signal is qq_bound)

    qq_bound.connect(hear)
    qq_logged_in.connect(hear)
    with time_machine.travel(time.time(), tick=False) as clock:
        first = browser.bind(form).json()
        clock.shift(60)
        again = browser.bind(dict(reversed(form.items())))
    qq_bound.disconnect(hear)
    qq_logged_in.disconnect(hear)
    second = again.json()
    assert again.status_code == 200
    for answer in (first, second):
        assert browser.get("/user/", headers={"authorization": f"JWT {answer.pop('token')}"}).status_code == 200
    assert first == second
    assert heard == [True, False, False]  # a second login, and no second binding
    assert (users.count(), OAuthQQUser.objects.count()) == (1, 1)


@pytest.mark.parametrize(
    "change",
    [
        {"password": "another horse"},
        {"mobile": "13900000000"},
        {"sms_code": "000000"},
        {"extra": 1},
    ],
    ids=str,
)
def test_a_form_that_differs_in_anything_is_no_repeat(browser, form, change):
    assert browser.bind(form).status_code == 200
    refusal(browser.bind(form | change), "already_bound")
    assert browser.bind(form).status_code == 200


def test_a_form_is_no_repeat_after_a_minute(browser, form):
    with time_machine.travel(time.time(), tick=False) as clock:
        assert browser.bind(form).status_code == 200
        clock.shift(61)
        refusal(browser.bind(form), "already_bound")


def test_a_form_is_no_repeat_in_another_browser_nor_in_another_flow(browser, other_browser, form):
    late = browser.get_bind_token()
    assert browser.bind(form).status_code == 200
    refusal(other_browser.bind(form), "bind_token_invalid")
    refusal(browser.bind(form | {"access_token": late}), "already_bound")


def test_a_repeat_is_refused_once_the_openid_is_somebody_elses(browser, form, users):
    assert browser.bind(form).status_code == 200
    OAuthQQUser.objects.update(user=users.create_user("another"))
    refusal(browser.bind(form), "already_bound")


def test_a_repeat_of_a_disabled_account_is_refused(browser, form, users):
    assert browser.bind(form).status_code == 200
    users.update(is_active=False)
    refusal(browser.bind(form), "account_refused")


def test_every_try_of_one_flow_is_told_by_the_same_name(browser, form, shop):
    shop.QQ_ACCOUNT_SERIALIZER = f"{__name__}.Telling"
    other_flow = form | {"access_token": browser.get_bind_token("小红")}
    attempts = [browser.bind(data).json()["attempt"] for data in (form, form | {"sms_code": "111111"}, other_flow)]
    assert re.fullmatch("[0-9a-f]{12}", attempts[0][0])
    assert attempts[0] == attempts[1]
    assert attempts[2] != attempts[0]


def test_the_shops_serializer_is_told_the_request_and_the_view(browser, form, shop):
    shop.QQ_ACCOUNT_SERIALIZER = f"{__name__}.Telling"
    told = browser.bind(form).json()
    assert (told["request"], told["view"]) == (["POST"], ["QQTokenView"])


class Telling(Serializer):
    def validate(self, attrs):
        told = {"request": self.context["request"].method, "view": type(self.context["view"]).__name__}
        raise ValidationError({"attempt": self.context["attempt"], **told})


@pytest.mark.parametrize("page", ["http://testserver/back.html", "http://testserver:80/", "http://TESTSERVER/a?b#c"])
def test_the_shops_page_may_bind(browser, form, shop, page):
    shop.QQ_CALLBACK_PAGE, shop.QQ_REDIRECT_URI = page, "http://api.testserver/oauth/qq/callback/"
    assert browser.bind(form, headers={"origin": "http://testserver"}).status_code == 200


@pytest.mark.parametrize(
    "origin",
    [
        "null",
        "",
        "https://testserver",
        "http://testserver:8080",
        "http://testserver.evil.example",
        "http://evil.example",
        "http://[",
        "http://testserver:99999",
    ],
)
def test_no_other_page_may_bind(browser, form, origin, users):
    assert refusal(browser.bind(form, headers={"origin": origin}), "invalid", 403) == {}
    assert users.count() == 0
    assert browser.bind(form).status_code == 200


def test_an_account_may_have_several_qqs(browser, binding, account, phone):
    bind_token = browser.get_bind_token("小红")
    form = {"mobile": MOBILE, "password": PASSWORD, "sms_code": phone.receive_code(), "access_token": bind_token}
    assert browser.bind(form).status_code == 200
    assert OAuthQQUser.objects.filter(user=account).count() == 2


def test_the_unionid_is_kept_where_it_was_asked_for(browser, shop, form, qq):
    shop.QQ_UNIONID = True
    form["access_token"] = browser.get_bind_token()
    browser.bind(form)
    assert OAuthQQUser.objects.get().unionid.startswith("UID_")


def test_both_signals_are_heard_once(browser, form, users):
    heard = []

    def hear(signal, sender, request, user, response, **kwargs):
        heard.append((signal is qq_bound, user.pk, response.data["user_id"]))

    qq_bound.connect(hear)
    qq_logged_in.connect(hear)
    try:
        browser.bind(form)
    finally:
        qq_bound.disconnect(hear)
        qq_logged_in.disconnect(hear)
    assert heard == [(True, users.get().pk, users.get().pk), (False, users.get().pk, users.get().pk)]


@pytest.mark.parametrize(
    ("bind_token", "code"),
    [
        (None, "bind_token_missing"),
        ("", "bind_token_missing"),
        ("made.up.token", "bind_token_invalid"),
        (7, "bind_token_invalid"),
        (["a"], "bind_token_invalid"),
        ({"a": "b"}, "bind_token_invalid"),
        (True, "bind_token_invalid"),
        ("x" * 10_000, "bind_token_invalid"),
        ("\x00", "bind_token_invalid"),
        ("\ud800", "bind_token_invalid"),
        ("车" * 10, "bind_token_invalid"),
    ],
)
def test_a_bind_token_that_is_none_is_refused(browser, form, bind_token, code, users):
    form["access_token"] = bind_token
    assert refusal(browser.bind(form), code) == {}
    del form["access_token"]
    assert refusal(browser.bind(form | {"openid": "A" * 32}), "bind_token_missing") == {}
    assert users.count() == 0


def test_a_bind_token_with_any_letter_changed_is_refused(browser, form, users, no_limits):
    whole = form["access_token"]
    for place in range(len(whole) - 1):  # the last letter of base64 carries bits that mean nothing
        form["access_token"] = whole[:place] + ("A" if whole[place] != "A" else "B") + whole[place + 1 :]
        refusal(browser.bind(form), "bind_token_invalid")
    assert users.count() == 0


def test_a_bind_token_of_another_browser_is_refused_and_stays_good_in_its_own(browser, other_browser, form):
    refusal(other_browser.bind(form), "bind_token_invalid")
    other_browser.arrive()
    refusal(other_browser.bind(form), "bind_token_invalid")
    assert browser.bind(form).status_code == 200


@pytest.mark.parametrize(("seconds", "accepted"), [(600, True), (601, False), (-60, True), (-61, False)])
def test_a_bind_token_lives_ten_minutes(browser, phone, seconds, accepted, db):
    with time_machine.travel(1_800_000_000, tick=False) as clock:
        bind_token = browser.get_bind_token()
        clock.shift(seconds)
        form = {"mobile": MOBILE, "password": PASSWORD, "sms_code": phone.receive_code(), "access_token": bind_token}
        response = browser.bind(form)
        assert response.status_code == 200 if accepted else refusal(response, "bind_token_invalid") == {}


def test_no_signed_value_serves_for_another(browser, form):
    cookie = next(value.value for value in browser.client.cookies.values() if value.key.startswith("qq_flow_"))
    sealed = browser.arrive("小红")
    for value in (cookie, sealed):
        refusal(browser.bind(form | {"access_token": value}), "bind_token_invalid")
    for value in (cookie, form["access_token"]):
        assert browser.collect(value).json()["code"] == "code_invalid"
    name = next(iter(browser.client.cookies))
    for value in (sealed, form["access_token"]):
        browser.client.cookies[name] = value
        refusal(browser.bind(form), "bind_token_invalid")


def test_a_value_says_itself_what_it_is_for(browser, form, shop):
    """Were the salts ever mixed up, a sealed code would still not be a bind token."""
    bind_token = form["access_token"]
    options = {"key_derivation": "hmac", "digest_method": hashlib.sha256}
    signer = URLSafeTimedSerializer([shop.SECRET_KEY], salt="qq-login.bind.v1", signer_kwargs=options)
    held = signer.loads(bind_token)
    assert held["type"] == "bind"
    for type in ("code", None):
        refusal(browser.bind(form | {"access_token": signer.dumps(held | {"type": type})}), "bind_token_invalid")
    assert browser.bind(form | {"access_token": signer.dumps(held)}).status_code == 200


def test_values_of_before_a_key_change_are_good_while_the_old_key_is_listed(browser, form, shop):
    old = shop.SECRET_KEY
    shop.SECRET_KEY, shop.SECRET_KEY_FALLBACKS = "n" * 50, ["unrelated" * 6, old]
    code = browser.arrive("小红")  # signed with the new key
    shop.SECRET_KEY_FALLBACKS = []
    assert browser.collect(code).status_code == 200
    refusal(browser.bind(form), "bind_token_invalid")
    shop.SECRET_KEY_FALLBACKS = [old]
    assert browser.bind(form).status_code == 200


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("sms_code", "000000"),
        ("sms_code", ""),
        ("sms_code", None),
        ("sms_code", 123456.5),
        ("password", "wrong password"),
        ("password", ""),
        ("mobile", "12345"),
        ("mobile", "１３８１２３４５６７８"),
        ("mobile", MOBILE + "\n"),
        ("mobile", ["13812345678"]),
        ("mobile", {"a": 1}),
        ("mobile", "\x00"),
        ("mobile", "\ud800"),
        ("password", "\ud800" * 8),
    ],
)
def test_a_wrong_field_is_named_and_nothing_is_lost(browser, account, form, field, value):
    if form["sms_code"] == value:
        value = "111111"
    rest = refusal(browser.bind(form | {field: value}), "invalid")
    assert list(rest) == [field]
    assert browser.bind(form).status_code == 200  # the same SMS code, the same bind token


def test_an_sms_code_is_good_for_one_bind(browser, form, phone):
    assert browser.bind(form).status_code == 200
    again = form | {"access_token": browser.get_bind_token("小红")}
    assert list(refusal(browser.bind(again), "invalid")) == ["sms_code"]


def test_an_sms_code_of_another_mobile_does_not_count(browser, form, users):
    assert list(refusal(browser.bind(form | {"mobile": "13900000000"}), "invalid")) == ["sms_code"]
    assert users.count() == 0


def test_five_failed_tries_end_the_flow_with_all_its_bind_tokens(browser, form, qq, users):
    sealed = browser.arrive("小红")
    tokens = [browser.collect(sealed).json()["access_token"] for _ in range(6)]
    for bind_token in tokens[:5]:
        refusal(browser.bind(form | {"access_token": bind_token, "password": ""}), "invalid")
    assert refusal(browser.bind(form | {"access_token": tokens[5]}), "bind_tries") == {}
    assert users.count() == 0
    assert browser.bind(form).status_code == 200  # another flow of the same browser


def test_tries_are_remembered_as_long_as_the_flow_can_last(browser, form):
    with time_machine.travel(time.time(), tick=False) as clock:
        form["access_token"] = browser.get_bind_token()
        for _ in range(5):
            refusal(browser.bind(form | {"password": ""}), "invalid")
        clock.shift(599)
        refusal(browser.bind(form), "bind_tries")


def test_what_never_reaches_the_form_is_no_try(browser, form):
    for _ in range(10):
        refusal(browser.bind(form | {"access_token": "bent"}), "bind_token_invalid")
        refusal(browser.client.post("/oauth/qq/users/", b"{", content_type="application/json"), "invalid")
    assert browser.bind(form).status_code == 200


def test_a_bound_openid_is_not_bound_again(browser, other_browser, form, users, phone):
    late = other_browser.get_bind_token()
    assert browser.bind(form).status_code == 200
    refusal(browser.bind(form | {"password": "another horse"}), "already_bound")
    other = form | {"access_token": late, "mobile": "13900000000", "sms_code": phone.receive_code("13900000000")}
    assert refusal(other_browser.bind(other), "already_bound") == {}
    assert (users.count(), OAuthQQUser.objects.count()) == (1, 1)


@pytest.mark.parametrize("fields", [{"is_active": False}, {"is_staff": True}, {"is_superuser": True}])
def test_a_disabled_or_staff_account_is_not_bound(browser, account, form, fields):
    for name, value in fields.items():
        setattr(account, name, value)
    account.save()
    assert refusal(browser.bind(form), "account_refused") == {}
    assert OAuthQQUser.objects.count() == 0


def test_fields_that_are_not_asked_for_change_nothing(browser, form, users):
    extra = {"is_staff": True, "is_superuser": True, "username": "root", "user_id": 1, "openid": "B" * 32, "id": 7}
    assert browser.bind(form | extra).status_code == 200
    user = users.get()
    assert (user.is_staff, user.is_superuser) == (False, False)
    assert user.username != "root"
    assert OAuthQQUser.objects.get().openid != "B" * 32


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"{", 400),
        (b"[]", 400),
        (b"7", 400),
        (b'"text"', 400),
        (b"null", 400),
        (b'{"access_token": "a", "access_token": "b"}', 400),
        (b"\xff\xfe{\x00}\x00", 400),
        (b'{"access_token": "\xff"}', 400),
        (b"[" * 5000, 400),
        (b'{"a":' * 2000, 400),
        (b'{"access_token": "' + b"a" * 1_000_000 + b'"}', 413),
        (b'{"mobile": "' + b"1" * 20_000 + b'"}', 413),
    ],
    ids=lambda value: repr(value[:12]) if isinstance(value, bytes) else None,
)
def test_a_body_that_is_no_short_json_object_is_refused(browser, shop, db, body, status):
    shop.DATA_UPLOAD_MAX_MEMORY_SIZE = 10_000_000  # the shop's own bound does not help here
    response = browser.client.post("/oauth/qq/users/", body, content_type="application/json")
    code = "bind_token_missing" if body == b"" else "invalid"
    assert refusal(response, code, status) == {}


@pytest.mark.parametrize(
    "content_type",
    ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "application/jsonx", ""],
)
def test_only_json_is_read(browser, form, content_type):
    response = browser.client.post("/oauth/qq/users/", json.dumps(form), content_type=content_type)
    assert refusal(response, "invalid", 415) == {}
    good = browser.client.post("/oauth/qq/users/", json.dumps(form), content_type="Application/JSON; charset=utf-8")
    assert good.status_code == 200


@pytest.mark.parametrize("method", ["put", "patch", "delete", "head"])
def test_other_methods_are_refused(browser, db, method):
    assert getattr(browser.client, method)("/oauth/qq/users/").status_code == 405


# What a shop's own account serializer may raise


class Impatient(Serializer):
    mobile = CharField()

    def validate(self, attrs):
        error = {
            "throttled": Throttled(wait=6.2),
            "later": None,
            "down": ServiceDown("短信服务不可用"),
            "list": ValidationError(["第一句", "第二句"]),
            "named": ValidationError({"message": ["字段的一句"], "code": ["x"]}),
            "nested": ValidationError({"mobile": {"deep": ["里面的一句"]}}),
            "redis": RedisError("gone"),
            "hanging redis": TimeoutError("slow"),
            "lost memcached": gaierror("no such host"),
            "too big for django": RequestDataTooBig(),
            "hung up": UnreadablePostError("reset"),
            "404": Http404("没有这个号码"),
            "403": PermissionDenied("不行"),
        }[attrs["mobile"]]
        if error is not None:
            raise error
        return attrs

    def save(self):
        raise Throttled(wait=6.2)


class ServiceDown(APIException):
    status_code = 503


@pytest.mark.parametrize(
    ("mobile", "status", "code", "message"),
    [
        ("throttled", 429, "throttled", "操作太频繁，请稍后再试。"),
        ("later", 429, "throttled", "操作太频繁，请稍后再试。"),
        ("down", 503, "invalid", "短信服务不可用"),
        ("list", 400, "invalid", "第一句"),
        ("named", 400, "invalid", "字段的一句"),
        ("nested", 400, "invalid", "里面的一句"),
        ("redis", 503, "cache_unavailable", "登录服务暂时不可用，请稍后再试。"),
        ("hanging redis", 503, "cache_unavailable", "登录服务暂时不可用，请稍后再试。"),
        ("lost memcached", 503, "cache_unavailable", "登录服务暂时不可用，请稍后再试。"),
        ("too big for django", 413, "invalid", "请求内容太大。"),
        ("hung up", 400, "invalid", "请求内容有误，请检查后重试。"),
        ("404", 404, "invalid", "未找到。"),
        ("403", 403, "invalid", "您没有执行该操作的权限。"),
    ],
)
def test_an_error_of_the_shops_serializer_has_the_same_shape(browser, form, shop, mobile, status, code, message):
    shop.QQ_ACCOUNT_SERIALIZER = f"{__name__}.Impatient"
    response = browser.bind(form | {"mobile": mobile})
    body = response.json()
    assert (response.status_code, body["code"], body["message"]) == (status, code, message)
    assert response.headers.get("Retry-After") == ("7" if status == 429 else None)


@pytest.mark.parametrize("mobile", ["throttled", "later"])
def test_a_try_that_a_limit_refuses_is_no_try(browser, form, shop, mobile):
    serializer, shop.QQ_ACCOUNT_SERIALIZER = shop.QQ_ACCOUNT_SERIALIZER, f"{__name__}.Impatient"
    for _ in range(12):
        assert browser.bind(form | {"mobile": mobile}).status_code == 429
    shop.QQ_ACCOUNT_SERIALIZER = serializer
    assert browser.bind(form).status_code == 200


class Anybody(Serializer):
    def create(self, validated_data):
        return get_user_model().objects.create_user(secrets.token_hex(8))


def test_a_bug_after_the_bind_fails_no_try_of_the_address(qq, shop, db):
    shop.QQ_ACCOUNT_SERIALIZER, shop.QQ_LOGIN_PAYLOAD = f"{__name__}.Anybody", "builtins.print"  # which returns nothing
    for number in range(11):  # one more than may fail
        browser = Browser(qq, raise_request_exception=False)
        assert browser.bind({"access_token": browser.get_bind_token(f"小明 {number}")}).status_code == 500
    assert OAuthQQUser.objects.count() == 11


class CannotTakeBack(LocMemCache):
    """A cache that goes away once the openid is bound."""

    def decr(self, *args, **kwargs):
        raise RedisError("gone")


def test_a_bind_is_answered_and_heard_of_though_the_cache_goes_away_after_it(browser, shop, db, caplog):
    heard = []

    def hear(**kwargs):
        heard.append(kwargs["user"].pk)

    shop.CACHES = {"default": {"BACKEND": f"{__name__}.CannotTakeBack", "LOCATION": "gone"}}
    shop.QQ_ACCOUNT_SERIALIZER = f"{__name__}.Plain"
    qq_bound.connect(hear)
    try:
        with caplog.at_level(logging.DEBUG, "apps.oauth.old_errors"):
            answer = browser.bind({"access_token": browser.get_bind_token()})
    finally:
        qq_bound.disconnect(hear)
    assert answer.status_code == 200
    assert heard == [answer.json()["id"]]
    told = [record for record in caplog.records if record.name == "apps.oauth.old_errors"]
    assert [record.getMessage() for record in told] == [
        "The cache is out of reach: redis.exceptions.RedisError",
        "It was asked here:",
    ]
    assert told[1].exc_info[0] is RedisError


def test_a_neighbours_failures_do_not_use_up_a_logins_tries(browser, other_browser, form):
    with time_machine.travel(1_800_000_000, tick=False) as clock:
        form["access_token"] = browser.get_bind_token()
        for number in range(10):
            other_browser.bind({"access_token": other_browser.get_bind_token(f"邻居{number}")})
        for _ in range(7):
            assert browser.bind(form | {"password": ""}).status_code == 429
        clock.shift(60)
        assert list(refusal(browser.bind(form | {"password": ""}), "invalid")) == ["password"]


class Speechless(Serializer):
    """A shop that refuses without a word."""

    def save(self):
        raise ValidationError({})


def test_a_refusal_that_names_no_field_is_told_all_the_same(browser, form, shop):
    shop.QQ_ACCOUNT_SERIALIZER = f"{__name__}.Speechless"
    assert refusal(browser.bind(form), "invalid") == {}


class Clashing(Serializer):
    """A shop whose save() fails on a constraint of its own."""

    def save(self):
        raise IntegrityError("a clash of the shop's own")


def test_a_clash_of_the_shops_own_is_not_called_already_bound(browser, form, shop):
    shop.QQ_ACCOUNT_SERIALIZER = f"{__name__}.Clashing"
    with pytest.raises(Exception, match="the shop's own"):
        browser.bind(form)


class Blocked(Serializer):
    """A shop whose save() finds another transaction in its way, as often as the form says."""

    number = IntegerField()
    times = IntegerField()
    tried = 0

    def save(self):
        self.tried += 1
        if self.tried <= self.validated_data["times"]:
            raise OperationalError(self.validated_data["number"], "another transaction is in the way")
        return get_user_model().objects.create_user("patient")


def test_a_bind_that_ran_into_a_deadlock_is_done_once_more(browser, form, shop, qq):
    shop.QQ_ACCOUNT_SERIALIZER = f"{__name__}.Blocked"
    assert browser.bind(form | {"number": 1213, "times": 1}).json()["username"] == "patient"
    (binding,) = OAuthQQUser.objects.all()
    assert (binding.user.username, binding.openid) == ("patient", qq.openid("小明"))
    assert browser.bind(form | {"number": 1213, "times": 1}).status_code == 200  # the repeat of it knows it too


class Plain(Serializer):
    """A shop whose serializer is as DRF's documentation shows one."""

    def create(self, validated_data):
        return get_user_model().objects.create_user("patient", password=PASSWORD)


class Finding(Plain):
    """One that finds the account while it validates, for DRF to update."""

    def validate(self, attrs):
        self.instance = get_user_model().objects.get(username="zhang3")
        return attrs

    def update(self, instance, validated_data):
        return instance


@pytest.mark.parametrize(("serializer", "username"), [("Plain", "patient"), ("Finding", "zhang3")])
def test_a_bind_is_done_once_more_by_a_serializer_of_drfs_kind(browser, form, shop, account, serializer, username):
    shop.QQ_ACCOUNT_SERIALIZER = f"{__name__}.{serializer}"
    deadlocks = [OperationalError(1213, "another transaction is in the way")]

    def be_in_the_way(**kwargs):
        if deadlocks:
            raise deadlocks.pop()

    pre_save.connect(be_in_the_way, sender=OAuthQQUser)
    try:
        assert browser.bind(form).status_code == 200
    finally:
        pre_save.disconnect(be_in_the_way, sender=OAuthQQUser)
    (binding,) = OAuthQQUser.objects.all()
    assert binding.user.username == username
    assert binding.user.check_password(PASSWORD)


@pytest.mark.parametrize(("number", "times"), [(1213, 2), (1205, 1)])
def test_a_bind_is_not_done_a_third_time_nor_after_another_fault(browser, form, shop, users, number, times):
    shop.QQ_ACCOUNT_SERIALIZER = f"{__name__}.Blocked"
    with pytest.raises(OperationalError, match="in the way"):
        browser.bind(form | {"number": number, "times": times})
    assert (users.count(), OAuthQQUser.objects.count()) == (0, 0)


class Rival(Serializer):
    """A shop where somebody else binds the openid while this bind is under way."""

    def save(self):
        with ThreadPoolExecutor(1) as elsewhere:
            elsewhere.submit(self.bind_elsewhere).result()
        return get_user_model().objects.create_user("loser")

    def bind_elsewhere(self):
        winner = get_user_model().objects.create_user("winner")
        OAuthQQUser.objects.create(openid=self.initial_data["openid"], user=winner)
        connection.close()


@pytest.mark.servers
@pytest.mark.django_db(transaction=True)
def test_who_loses_the_race_for_an_openid_is_told_so_and_leaves_nothing(browser, form, shop, qq, users):
    shop.QQ_ACCOUNT_SERIALIZER = f"{__name__}.Rival"
    assert refusal(browser.bind(form | {"openid": qq.openid("小明")}), "already_bound") == {}
    assert [user.username for user in users.all()] == ["winner"]
    assert OAuthQQUser.objects.get().user.username == "winner"


class ReadingElsewhere:
    """Database routing of a shop that reads from a replica, which cannot be asked yet about what was just written."""

    def db_for_read(self, model, **hints):
        return "replica"


def test_a_form_that_is_sent_again_is_not_looked_up_at_a_replica(browser, form, shop):
    assert browser.bind(form).status_code == 200
    shop.DATABASE_ROUTERS = [f"{__name__}.ReadingElsewhere"]
    assert browser.bind(form).status_code == 200
    assert refusal(browser.bind(form | {"password": "another password"}), "already_bound") == {}


@pytest.mark.servers
@pytest.mark.django_db(transaction=True)
def test_who_lost_the_race_is_not_looked_up_at_a_replica(browser, form, shop, qq):
    shop.QQ_ACCOUNT_SERIALIZER = f"{__name__}.Rival"
    shop.DATABASE_ROUTERS = [f"{__name__}.ReadingElsewhere"]
    assert refusal(browser.bind(form | {"openid": qq.openid("小明")}), "already_bound") == {}


def test_an_openid_that_differs_in_case_only_is_another_persons(browser, account, form, qq, users):
    OAuthQQUser.objects.create(user=account, openid=qq.openid("小明").lower())
    other = form | {"mobile": "13900000000"}
    assert list(refusal(browser.bind(other), "invalid")) == ["sms_code"]
    assert browser.bind(form).status_code == 200
    assert OAuthQQUser.objects.count() == 2


@pytest.mark.servers
def test_the_database_itself_compares_openids_exactly(db):
    with connection.cursor() as cursor:
        cursor.execute("SHOW FULL COLUMNS FROM tb_oauth_qq WHERE Field = 'openid'")
        columns = [column[0] for column in cursor.description]
        assert dict(zip(columns, cursor.fetchone(), strict=True))["Collation"] == "utf8mb4_bin"


@pytest.fixture
def column_without_case(transactional_db):
    """The openids' column as a shop may have it from before."""
    type = "ALTER TABLE tb_oauth_qq MODIFY openid varchar(64) CHARACTER SET utf8mb4 COLLATE {} NOT NULL"
    with connection.cursor() as cursor:
        cursor.execute(type.format("utf8mb4_general_ci"))
        yield
        cursor.execute("DELETE FROM tb_oauth_qq")
        cursor.execute(type.format("utf8mb4_bin"))


@pytest.mark.servers
def test_where_the_database_compares_without_case_nobody_is_taken_for_another(column_without_case, request, qq):
    account, browser, form = (request.getfixturevalue(name) for name in ("account", "browser", "form"))
    OAuthQQUser.objects.create(user=account, openid=qq.openid("小明").lower())
    assert "access_token" in browser.collect(browser.arrive()).json()
    assert refusal(browser.bind(form), "already_bound") == {}


# Languages


def test_a_bind_is_two_look_ups_and_a_row_for_each_thing_made(browser, form):
    assert statements_of(browser, form) == ["SELECT", "SELECT", "INSERT", "INSERT"]


def test_a_bind_to_an_account_looks_it_up_once_more_under_a_lock(browser, form, account):
    assert statements_of(browser, form) == ["SELECT", "SELECT", "SELECT", "INSERT"]


def statements_of(browser, form):
    with CaptureQueriesContext(connection) as queries:
        assert browser.bind(form).status_code == 200
    verbs = [query["sql"].split()[0] for query in queries]
    return [verb for verb in verbs if verb not in ("SAVEPOINT", "RELEASE")]  # BEGIN and COMMIT outside of tests


@pytest.mark.parametrize(
    ("accept_language", "chinese"),
    [
        ("", True),
        ("zh-CN,zh;q=0.9,en;q=0.8", True),
        ("en-US,en;q=0.9,zh;q=0.8", False),
        ("fr,en;q=0.5", False),
        ("fr", True),
        ("x" * 5000, True),
        ("zh;q=0.1,en;q=0.2", False),
        ("en;q=0", True),
    ],
)
@pytest.mark.parametrize("shop_language", ["zh-hans", "en-us"])
def test_the_sentence_is_in_the_shoppers_language(browser, shop, db, accept_language, chinese, shop_language):
    shop.LANGUAGE_CODE = shop_language
    response = browser.bind({}, headers={"accept-language": accept_language})
    chinese_text, english_text = (
        "缺少绑定凭证，请再点一次 QQ 登录。",
        "The proof of your QQ login is missing. Please press QQ login once more.",
    )
    assert response.json() == {"code": "bind_token_missing", "message": chinese_text if chinese else english_text}


@pytest.mark.parametrize("code", ERRORS)
def test_every_error_has_an_english_sentence_and_a_row_in_the_documents(code):
    with override("en"):
        assert sentence(code).isascii()
    with override("zh-hans"):
        assert sentence(code) == ERRORS[code][1]
    for page in ("http-api.md", "http-api.zh.md"):
        row = next(
            line
            for line in (ROOT / "docs" / page).read_text("utf-8").splitlines()
            if line.startswith("|") and f"`{code}`" in line
        )
        assert str(ERRORS[code][0]) in row


def test_field_errors_are_in_the_shoppers_language_too(browser, form):
    chinese = browser.bind(form | {"mobile": ""}).json()
    english = browser.bind(form | {"mobile": ""}, headers={"accept-language": "en"}).json()
    assert chinese["message"] == chinese["mobile"][0]
    assert english["message"] == english["mobile"][0]
    assert english["message"].isascii()


# The cache


def test_a_flow_the_cache_has_forgotten_opens_nothing(browser, form):
    cache.clear()
    assert list(refusal(browser.bind(form), "invalid")) == ["sms_code"]

"""bindings/: a signed-in user lists, adds and removes QQs."""

import logging
from contextlib import contextmanager
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
from django.core.cache.backends.locmem import LocMemCache
from django.db import IntegrityError, OperationalError
from django.db.models.signals import pre_delete, pre_save
from django.test import Client
from redis.exceptions import RedisError
from rest_framework.serializers import CharField, Serializer

from apps.oauth.account_lock import unlock
from apps.oauth.audit import NO_COOKIE_HINTS
from apps.oauth.models import OAuthQQUser
from apps.oauth.signals import qq_bound, qq_logged_in, qq_unbound
from apps.users.backends import get_account_key
from apps.users.models import User
from apps.users.sms_serializers import ConfirmSerializer
from apps.users.tokens import login_payload
from tests.conftest import MOBILE, PASSWORD, Browser, error_of, invalid_fields
from tests.tools.requirements import requirement

BINDINGS = "/oauth/qq/bindings/"


class SignedIn(Browser):
    """The browser of a user who is signed in with the shop's own login."""

    def __init__(self, qq, user):
        super().__init__(qq)
        self.user = user

    @property
    def headers(self):
        return {"authorization": f"JWT {login_payload(self.user, None)['token']}"} if self.user else {}

    def start(self, next="/account", purpose="bind"):
        answer = self.get(f"/oauth/qq/authorization/?{urlencode({'next': next, 'purpose': purpose})}").json()
        address = urlsplit(answer["login_url"])
        return self.get(f"{address.path}?{address.query}")["Location"]

    def redeem_code(self, code, **options):
        return super().redeem_code(code, headers=self.headers, **options)

    def list(self):
        return self.get(BINDINGS, headers=self.headers)

    def link(self, token, **changes):
        form = {"access_token": token, "password": PASSWORD} | changes
        return self.client.post(BINDINGS, form, content_type="application/json", headers=self.headers)

    def unlink(self, id, **form):
        form = form or {"password": PASSWORD}
        return self.client.delete(f"{BINDINGS}{id}/", form, content_type="application/json", headers=self.headers)


@pytest.fixture
def user(qq, account):
    return SignedIn(qq, account)


@pytest.fixture
def other(qq, django_user_model):
    return SignedIn(qq, django_user_model.objects.create_user("li4", password=PASSWORD, mobile="13900000001"))


@pytest.fixture
def sent(connect):
    sent = []
    connect(lambda **kwargs: sent.append(kwargs["signal"]), qq_bound, qq_logged_in, qq_unbound)
    return sent


def test_user_adds_lists_and_removes_a_qq(user, qq, sent, django_capture_on_commit_callbacks):
    assert user.list().json() == []
    token = user.redeem_code(user.arrive(next="/account")).json()
    assert token.keys() == {"access_token", "fields", "next"}
    assert token["fields"] == ["password", "sms_code"]
    assert token["next"] == "/account"
    added = user.link(token["access_token"])
    assert added.status_code == 201
    (listed,) = user.list().json()
    assert listed == added.json()
    shown = {name: listed[name] for name in ("openid", "nickname", "avatar", "app")}
    assert shown == {"openid": f"{qq.openid('小明')[:6]}…", "nickname": "", "avatar": "", "app": qq.client_id}
    assert OAuthQQUser.objects.get().user_id == user.user.pk
    browser = Browser(qq)
    assert browser.redeem_code(browser.arrive()).json()["user_id"] == user.user.pk
    with django_capture_on_commit_callbacks(execute=True):
        removed = user.unlink(listed["id"])
    assert (removed.status_code, removed.content, user.list().json()) == (204, b"", [])
    assert sent == [qq_bound, qq_logged_in, qq_unbound]


def test_same_form_again_is_no_error_and_adds_nothing(user, sent):
    token = user.get_bind_token()
    assert [user.link(token).status_code for _ in range(2)] == [201, 200]
    assert (OAuthQQUser.objects.count(), sent) == (1, [qq_bound])


@requirement("15.9")
def test_bound_qq_is_refused_and_only_whose_it_is_is_said(user, other, binding):
    for browser, whose in ((user, "this"), (other, "another"), (SignedIn(user.qq, None), None)):
        answer = browser.redeem_code(browser.arrive())
        body = answer.json()
        assert (answer.status_code, body["code"], body.get("account")) == (400, "already_bound", whose)
        assert body.keys() - {"account"} == {"message", "code"}
        assert user.user.username not in answer.content.decode()


@requirement("15.9")
def test_invalid_login_token_is_nobodys(user, binding):
    code = user.arrive()
    for token in ("JWT a.b.c", "JWT", "Basic YTpi"):
        answer = user.get("/oauth/qq/users/", {"code": code}, headers={"authorization": token})
        assert error_of(answer) == (400, "already_bound")


@requirement("15.9")
def test_qq_bound_meanwhile_is_refused(user, other):
    first, second = user.get_bind_token(), other.get_bind_token()
    assert user.link(first).status_code == 201
    answer = other.link(second)
    assert (answer.status_code, answer.json()["code"], answer.json()["account"]) == (400, "already_bound", "another")
    assert OAuthQQUser.objects.get().user_id == user.user.pk


@requirement("15.5")
def test_calls_need_the_shops_own_authentication(user):
    token = user.get_bind_token()
    headers = [{}, {"authorization": "JWT made.up.token"}, {"authorization": "Bearer x"}]
    for each in headers:
        for call in (user.client.get, user.client.post):
            form = {} if call == user.client.get else {"access_token": token, "password": PASSWORD}
            answer = call(BINDINGS, form, content_type="application/json", headers=each)
            assert (answer.status_code, answer.json()["code"]) == (401, "not_authenticated")
    assert user.client.delete(f"{BINDINGS}1/").status_code == 401
    assert OAuthQQUser.objects.count() == 0


@requirement("15.5")
def test_bind_token_works_in_the_browser_of_its_flow_only(user, other, shop):
    planted = other.get_bind_token()
    assert error_of(user.link(planted)) == (400, "bind_token_invalid")
    shop.QQ_REQUIRE_COOKIE = False
    planted = other.get_bind_token()
    assert error_of(user.link(planted)) == (400, "bind_token_invalid")


@requirement("15.5")
def test_planted_callback_adds_nothing_without_the_users_confirmation(user):
    """Another's finished flow, opened in this browser: its state is not this browser's."""
    address = SignedIn(user.qq, None).sign_in("李思思")
    assert user.come_back(address)["error"] == "state_invalid"
    assert OAuthQQUser.objects.count() == 0


@requirement("15.5")
@pytest.mark.parametrize("method", ["post", "delete"])
def test_other_origins_are_refused_before_they_are_counted(user, binding, set_rates, method):
    set_rates(qq_bind="1/min")
    path = BINDINGS if method == "post" else f"{BINDINGS}{binding.pk}/"
    headers = {**user.headers, "origin": "http://evil.example"}
    call = getattr(user.client, method)
    for _ in range(3):
        answer = call(path, {"password": PASSWORD}, content_type="application/json", headers=headers)
        assert answer.status_code == 403
    assert user.unlink(binding.pk).status_code == 204


@requirement("15.6")
def test_token_alone_changes_nothing(user, binding):
    token = user.get_bind_token("李思思")
    for form in ({}, {"password": ""}, {"password": "wrong password"}, {"password": None}, {"password": ["a"]}):
        assert user.link(token, **({"password": ""} | form)).status_code == 400
        assert user.unlink(binding.pk, **(form or {"nothing": 1})).status_code in (400, 429)
    assert [each.pk for each in OAuthQQUser.objects.all()] == [binding.pk]


@requirement("15.6")
def test_wrong_confirmations_lock_the_account_like_any_wrong_password(user, binding, no_limits):
    answers = [user.unlink(binding.pk, password="wrong password").status_code for _ in range(7)]
    assert (answers[0], answers[-1]) == (400, 429)
    assert user.unlink(binding.pk).status_code == 429
    form = {"username": user.user.username, "password": PASSWORD}
    assert user.client.post("/authorizations/", form, content_type="application/json").status_code == 429


@requirement("15.6")
def test_five_wrong_confirmations_end_the_flow(user, no_limits):
    token = user.get_bind_token()
    answers = [user.link(token, password="", sms_code="000000").status_code for _ in range(5)]
    assert answers == [400] * 5
    assert error_of(user.link(token)) == (400, "bind_tries")


def test_sms_code_confirms_too(user, phone):
    assert user.link(user.get_bind_token(), password="", sms_code="000000").status_code == 400
    code = phone.receive_code(MOBILE)
    form = {"access_token": user.get_bind_token("李思思"), "sms_code": code}
    answer = user.client.post(BINDINGS, form, content_type="application/json", headers=user.headers)
    assert answer.status_code == 201
    assert user.unlink(answer.json()["id"], sms_code=code).status_code == 400  # it is used up


@requirement("15.7")
def test_flow_that_adds_a_qq_logs_nobody_in(user, binding, other, phone):
    token = user.get_bind_token("李思思")
    form = {"access_token": token, "mobile": "13900000002", "password": PASSWORD, "sms_code": "123456"}
    assert error_of(user.bind(form)) == (400, "bind_token_invalid")
    assert error_of(user.link(Browser.get_bind_token(LoginFlow(user.qq, user.user), "李思思"))) == (
        400,
        "bind_token_invalid",
    )
    body = user.redeem_code(user.arrive("小明")).json()
    assert "token" not in body


class LoginFlow(SignedIn):
    def start(self, next="/account", purpose=""):
        return super().start(next, purpose)


@requirement("15.7")
def test_login_flow_of_the_same_browser_adds_nothing(user):
    login = LoginFlow(user.qq, user.user)
    token = login.get_bind_token()
    assert error_of(login.link(token)) == (400, "bind_token_invalid")


@requirement("15.8")
def test_last_way_to_log_in_stays(user, binding, phone):
    user.user.set_unusable_password()
    user.user.save()
    user.user.refresh_from_db()
    assert error_of(user.unlink(binding.pk, sms_code=phone.receive_code(MOBILE))) == (400, "last_login_method")
    OAuthQQUser.objects.create(user=user.user, openid="B" * 32)
    phone.client.cookies.clear()
    assert OAuthQQUser.objects.count() == 2


def test_binding_of_another_user_is_not_there(user, other, binding):
    assert error_of(user.unlink(10**30)) == (404, "not_found")
    assert error_of(other.unlink(binding.pk)) == (404, "not_found")
    assert error_of(user.unlink(binding.pk + 1)) == (404, "not_found")
    assert OAuthQQUser.objects.count() == 1


@pytest.mark.parametrize("field", ["is_staff", "is_superuser"])
def test_staff_add_no_qq(user, field):
    setattr(user.user, field, True)
    user.user.save()
    assert error_of(user.link(user.get_bind_token())) == (403, "account_refused")


def test_shop_chooses_its_own_confirmation(user, shop):
    shop.QQ_CONFIRM_SERIALIZER = f"{__name__}.PinSerializer"
    token = user.get_bind_token()
    assert invalid_fields(user.link(token)) == ["pin"]
    assert user.link(token, pin="1234").status_code == 201


class PinSerializer(Serializer):
    pin = CharField()


def test_app_of_a_signed_in_user_adds_a_qq(user, qq):
    key, form = "k" * 43, {"access_token": qq.app_token("小明"), "purpose": "bind"}
    answer = Client().post("/oauth/qq/app/", form | {"key": key}, content_type="application/json")
    assert answer.json().keys() == {"access_token"}
    token = answer.json()["access_token"]
    assert error_of(user.link(token)) == (400, "bind_token_invalid")
    assert user.link(token, key=key).status_code == 201
    assert OAuthQQUser.objects.get().openid == qq.openid("小明", qq.app_id)


def test_purpose_is_read_as_it_is_written(user):
    for purpose in ("login", "BIND", "bind,bind"):
        address = user.get(f"/oauth/qq/authorization/?{urlencode({'purpose': purpose})}").json()["login_url"]
        assert "purpose" not in parse_qs(urlsplit(address).query)


# In the middle of a call ----------------------------------------------------------------------------------------------


class Interrupted(ConfirmSerializer):
    """Something happens between the confirmation and the change."""

    interrupt = None

    def validate(self, attrs):
        attrs = super().validate(attrs)
        type(self).interrupt(self.context["request"].user.pk)
        return attrs


def change_account(**changes):
    def change(pk):
        account = User.objects.get(pk=pk)
        for name, value in changes.items():
            setattr(account, name, value)
        account.save()

    return change


def vars_of(account):
    return {name: getattr(account, name) for name in ("username", "mobile", "password", "is_active", "is_staff")}


def reset_password(pk):
    account = User.objects.get(pk=pk)
    account.set_password("the owner's new one")
    account.save()


ENDED, REFUSED = (401, "not_authenticated"), (403, "account_refused")
INTERRUPTIONS = {
    "password reset": (reset_password, ENDED, ENDED),
    "deleted": (lambda pk: User.objects.get(pk=pk).delete(), ENDED, ENDED),
    "disabled": (change_account(is_active=False), ENDED, ENDED),
    "staff": (change_account(is_staff=True), REFUSED, None),  # staff may remove a QQ
}


@pytest.fixture
def interrupt(shop):
    """A function that sets what happens."""

    def interrupt(function):
        shop.QQ_CONFIRM_SERIALIZER, Interrupted.interrupt = f"{__name__}.Interrupted", staticmethod(function)

    return interrupt


@requirement("15.6", "15.8")
@pytest.mark.parametrize(("happens", "at_link", "at_unlink"), INTERRUPTIONS.values(), ids=INTERRUPTIONS)
def test_account_that_changes_after_the_confirmation_is_left_alone(
    user, binding, interrupt, happens, at_link, at_unlink
):
    token = user.get_bind_token("李思思")
    interrupt(happens)
    if at_unlink:
        assert error_of(user.unlink(binding.pk)) == at_unlink
        User.objects.update_or_create(pk=user.user.pk, defaults=vars_of(user.user))
    assert error_of(user.link(token)) == at_link
    assert not OAuthQQUser.objects.filter(openid=user.qq.openid("李思思")).exists()


def test_binding_removed_by_another_call_is_not_there(user, binding, interrupt):
    interrupt(lambda pk: OAuthQQUser.objects.filter(user=pk).delete())
    assert error_of(user.unlink(binding.pk)) == (404, "not_found")


@requirement("15.9")
@pytest.mark.parametrize("whose", ["this", "another"])
def test_qq_bound_by_another_call_after_the_confirmation(user, other, interrupt, whose):
    owner, token = (user if whose == "this" else other).user, user.get_bind_token()
    interrupt(lambda pk: OAuthQQUser.objects.create(user=owner, openid=user.qq.openid("小明")))
    answer = user.link(token)
    expected = (200, None) if whose == "this" else (400, "another")
    assert (answer.status_code, answer.json().get("account")) == expected
    assert OAuthQQUser.objects.get().user_id == owner.pk


def test_clash_with_a_binding_that_is_then_removed_is_none(user, connect):
    errors = [IntegrityError("Duplicate entry")]

    def clash(**kwargs):
        if errors:
            raise errors.pop()

    connect(clash, pre_save, sender=OAuthQQUser)
    assert user.link(user.get_bind_token()).status_code == 201


def test_clash_that_is_not_over_the_openid_stays_a_bug(user, connect):
    def clash(**kwargs):
        raise IntegrityError("another column")

    connect(clash, pre_save, sender=OAuthQQUser)
    with pytest.raises(IntegrityError, match="another column"):
        user.link(user.get_bind_token())


# Limits and outages ---------------------------------------------------------------------------------------------------


@requirement("15.6")
def test_locked_account_costs_the_flow_no_try(user, no_limits):
    token = user.get_bind_token()
    for _ in range(4):
        assert user.link(token, password="wrong password").status_code == 400
    with locked_by_an_attacker(user):
        assert [user.link(token).status_code for _ in range(7)] == [429] * 7
    assert user.link(token).status_code == 201


@contextmanager
def locked_by_an_attacker(user):
    form = {"username": user.user.username, "password": "wrong"}
    while Client().post("/authorizations/", form, content_type="application/json").status_code != 429:
        pass
    yield
    unlock(get_account_key(user.user))


@pytest.mark.parametrize("change", ["link", "unlink"])
def test_outage_after_the_confirmation_costs_no_sms_code_and_no_try(user, binding, phone, connect, change, set_rates):
    set_rates(qq_bind_failed="1/min")
    errors = [OperationalError(number, "") for number in (2006, 1205, 1213, 1213)]

    def fail(**kwargs):
        if errors:
            raise errors.pop(0)

    token, code = user.get_bind_token("李思思"), phone.receive_code(MOBILE)

    def send():
        if change == "unlink":
            return user.unlink(binding.pk, sms_code=code)
        form = {"access_token": token, "sms_code": code}
        return user.client.post(BINDINGS, form, content_type="application/json", headers=user.headers)

    connect(fail, pre_save if change == "link" else pre_delete, sender=OAuthQQUser)
    assert [error_of(send()) for _ in range(3)] == [(503, "database_unavailable")] * 3
    assert send().status_code == (201 if change == "link" else 204)


class FailingNote(LocMemCache):
    """It does not store which form was bound to whom, twice."""

    failures = 2

    def set(self, key, *args, **kwargs):
        if ":binding:" in key and FailingNote.failures:
            FailingNote.failures -= 1
            raise RedisError("gone")
        return super().set(key, *args, **kwargs)


def test_cache_that_fails_within_the_transaction_binds_nothing(user, use_cache, set_rates):
    use_cache(f"{__name__}.FailingNote")
    set_rates(qq_bind_failed="1/min")
    token = user.get_bind_token()
    for _ in range(2):
        assert error_of(user.link(token)) == (503, "cache_unavailable")
        assert OAuthQQUser.objects.count() == 0
    assert user.link(token).status_code == 201


@requirement("10.4")
def test_refused_and_done_removals_are_recorded(user, binding, caplog):
    caplog.set_level(logging.INFO, "meiduo.audit")
    user.unlink(binding.pk, password="wrong password")
    user.unlink(binding.pk)
    refused, done = (record for record in caplog.records if record.name == "meiduo.audit")
    assert (refused.msg, refused.outcome, refused.reason, refused.field) == ("unbind", "refused", "invalid", "password")
    assert (done.msg, done.outcome, done.reason) == ("unbind", "ok", "by the user")
    assert (refused.openid, refused.user_id) == (done.openid, done.user_id)


# Purposes -------------------------------------------------------------------------------------------------------------


@requirement("15.7")
def test_flow_without_a_cookie_adds_nothing(user, shop, caplog):
    """Its address and User-Agent are enough for a login at most."""
    shop.QQ_REQUIRE_COOKIE = False
    code, token = user.arrive(), user.get_bind_token("李思思")
    user.client.cookies.clear()
    assert error_of(user.redeem_code(code)) == (400, "code_invalid")
    assert error_of(user.link(token)) == (400, "bind_token_invalid")
    hints = [record.hint for record in caplog.records if getattr(record, "reason", "") == "no_cookie"]
    assert hints == [NO_COOKIE_HINTS["login"], NO_COOKIE_HINTS["link"]]
    login = LoginFlow(user.qq, user.user)
    code = login.arrive()
    login.client.cookies.clear()
    token = login.redeem_code(code).json()["access_token"]
    assert error_of(login.link(token)) == (400, "bind_token_invalid")


@requirement("15.7")
def test_purposes_are_kept_apart_in_direct_mode(user, shop, binding):
    shop.QQ_REDIRECT_URI = shop.QQ_CALLBACK_PAGE
    query = urlsplit(user.sign_in("小明")).query
    answer = user.get(f"/oauth/qq/users/?{query}", headers=user.headers)
    assert (answer.status_code, answer.json()["code"], answer.json()["account"]) == (400, "already_bound", "this")
    query = urlsplit(user.sign_in("李思思")).query
    token = user.get(f"/oauth/qq/users/?{query}", headers=user.headers).json()["access_token"]
    form = {"access_token": token, "mobile": "13900000002", "password": PASSWORD, "sms_code": "123456"}
    assert error_of(user.bind(form)) == (400, "bind_token_invalid")
    assert user.link(token).status_code == 201

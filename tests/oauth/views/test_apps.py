"""POST app/ and mini/: the logins of phone apps and of the QQ mini program, which have no cookies."""

import json
import logging
import secrets
from contextlib import contextmanager

import pytest
from django.db import connection
from django.test import Client

from apps.oauth.clients import _make_code_client
from apps.oauth.models import OAuthQQUser
from apps.oauth.signals import qq_bound, qq_logged_in
from tests.conftest import MOBILE, PASSWORD, error_of, fill_in, grouped, invalid_fields
from tests.tools.requirements import requirement

DOORS = ("app", "app with a code", "mini")
BROWSER_HEADERS = [{"origin": "http://testserver"}, {"origin": "null"}, {"sec-fetch-site": "same-origin"}]


class App:
    """A phone app, or the mini program: it has no cookies, and makes the key of each login."""

    def __init__(self, qq, door="app", person="小明"):
        self.qq, self.door, self.person = qq, door, person
        self.key = secrets.token_urlsafe(32)

    def prove(self, person=None):
        """Log in at QQ; return what QQ's SDK hands to the app."""
        person = person or self.person
        if self.door == "mini":
            return {"code": self.qq.mini_code(person)}
        if self.door == "app":
            return {"access_token": self.qq.app_token(person)}
        return {"code": self.qq.app_code(person)}

    def send(self, proof=None, headers=None, **changes):
        path = "/oauth/qq/mini/" if self.door == "mini" else "/oauth/qq/app/"
        form = {"key": self.key, **(self.prove() if proof is None else proof), **changes}
        return self.post(path, form, headers)

    def bind(self, form, **changes):
        return self.post("/oauth/qq/users/", form | {"key": self.key} | changes)

    def post(self, path, form, headers=None):
        return Client().post(path, form, content_type="application/json", headers=headers)


@pytest.fixture(params=DOORS)
def app(request, qq, db):
    return App(qq, request.param)


def get_openid(qq, door, person="小明"):
    return qq.openid(person, qq.mini_app_id if door == "mini" else qq.app_id)


@requirement("15.2")
def test_first_login_binds_and_the_next_logs_in(app, qq, phone, connect):
    sent = []
    connect(lambda **kwargs: sent.append(kwargs["signal"]), qq_bound, qq_logged_in)
    first = app.send()
    assert first.status_code == 200
    assert first.json().keys() == {"access_token"}
    form = fill_in(phone, first.json()["access_token"])
    bound = app.bind(form)
    assert bound.json().keys() == {"token", "user_id", "username", "id"}
    again = App(qq, app.door).send().json()
    assert again.keys() == {"token", "user_id", "username"}
    assert again["user_id"] == bound.json()["id"]
    binding = OAuthQQUser.objects.get()
    assert binding.openid == get_openid(qq, app.door)
    assert binding.client_id == (qq.mini_app_id if app.door == "mini" else qq.app_id)
    assert sent == [qq_bound, qq_logged_in, qq_logged_in]
    headers = {"authorization": f"JWT {again['token']}"}
    assert Client().get("/user/", headers=headers).json()["id"] == bound.json()["id"]


@requirement("15.1")
def test_token_of_a_foreign_application_is_refused_with_an_alarm(qq, db, caplog):
    app = App(qq)
    for client_id in (qq.client_id, qq.mini_app_id, "1106999999"):
        token = qq.app_token("小明", client_id=client_id)
        app.key = secrets.token_urlsafe(32)
        assert error_of(app.send({"access_token": token})) == (400, "qq_rejected")
    alarms = [record for record in caplog.records if getattr(record, "outcome", "") == "alarm"]
    assert [alarm.reason for alarm in alarms] == ["QQForeignAppToken"] * 3


@requirement("15.1")
def test_openid_that_the_app_sends_is_compared_and_never_used(qq, db, caplog):
    good, stranger = {"access_token": qq.app_token("小明")}, qq.openid("李思思", qq.app_id)
    answer = App(qq).send(good, openid=stranger)
    assert error_of(answer) == (400, "qq_rejected")
    assert [record.outcome for record in caplog.records if record.name == "meiduo.audit"] == ["alarm", "refused"]
    assert App(qq).send(good, openid=qq.openid("小明", qq.app_id).lower()).status_code == 200


@requirement("15.2")
def test_bind_token_needs_the_key_of_its_login(app, qq, phone):
    form = fill_in(phone, app.send().json()["access_token"])
    for key in (secrets.token_urlsafe(32), app.key[:-1], "", "\ud800", None, 7, [app.key], {"a": app.key}):
        assert error_of(app.bind(form, key=key)) == (400, "bind_token_invalid")
    without_key = app.post("/oauth/qq/users/", form)
    assert error_of(without_key) == (400, "bind_token_invalid")
    assert app.bind(form).status_code == 200


@requirement("15.2")
@pytest.mark.parametrize("key", [None, "", "k" * 42, "k" * 129, "k" * 42 + "/", "k" * 43 + "\n", 10**43, ["k" * 43]])
def test_key_must_be_long_and_random_characters(app, key):
    assert invalid_fields(app.send(key=key)) == ["key"]


@requirement("15.2")
def test_key_is_for_one_login(app):
    proof = app.prove()
    first, again, other = app.send(proof), app.send(proof), app.send()
    assert first.json().keys() == again.json().keys() == {"access_token"}
    assert error_of(other) == (400, "key_used")
    assert error_of(app.send(proof, purpose="bind")) == (400, "key_used")


@requirement("15.2")
def test_call_may_be_repeated_for_two_minutes(app, clock):
    proof = app.prove()
    assert app.send(proof).status_code == 200
    clock.shift(120)
    assert app.send(proof).status_code == 200
    clock.shift(1)
    assert error_of(app.send(proof)) == (400, "key_used")


@requirement("15.3")
@pytest.mark.parametrize("headers", BROWSER_HEADERS)
def test_call_of_a_page_is_refused_before_it_is_counted(app, qq, set_rates, headers):
    set_rates(qq_login="1/min")
    proof = app.prove()
    for _ in range(3):
        assert error_of(app.send(proof, headers)) == (403, "invalid")
    assert app.send(proof).status_code == 200


@requirement("15.4")
@pytest.mark.parametrize("door", ["mini", "app with a code"])
def test_code_works_for_one_login(qq, db, door):
    first, thief = App(qq, door), App(qq, door)
    proof = first.prove()
    assert first.send(proof).status_code == 200
    assert error_of(thief.send(proof)) == (400, "qq_rejected")
    path = "/sns/jscode2session" if door == "mini" else "/oauth2.0/token"
    assert len(qq.requests(path)) == 1


@requirement("15.4")
def test_session_key_goes_nowhere(qq, db, caplog):
    key = "c2Vzc2lvbi1rZXktY2FuYXJ5"
    answer = {"errcode": 0, "openid": "A" * 32, "session_key": key, "unionid": ""}
    qq.behave(jscode2session={"fault": "body", "body": json.dumps(answer)})
    response = App(qq, "mini").send()
    assert response.status_code == 200
    assert key not in response.content.decode() + caplog.text


@pytest.mark.parametrize(
    ("number", "expected"),
    [(40029, (400, "qq_rejected")), (-1, (503, "qq_unavailable")), (45011, (503, "qq_unavailable"))],
)
def test_errors_of_the_mini_program_have_their_cause(qq, db, number, expected, caplog):
    qq.behave(jscode2session={"fault": "error", "number": number})
    assert error_of(App(qq, "mini").send()) == expected
    assert next(record.number for record in caplog.records if getattr(record, "message", "") == "qq") == number


@pytest.mark.parametrize("behaviour", ["optional", "required", "refused"])
def test_code_of_an_app_is_exchanged_whatever_qq_thinks_of_redirect_uri(qq, db, behaviour):
    qq.behave(app_redirect_uri=behaviour)
    assert App(qq, "app with a code").send().status_code == 200


def test_wrong_app_key_is_the_operators(qq, db, shop):
    shop.QQ_APP_IDS = {qq.app_id: "wrong"}
    assert error_of(App(qq, "app with a code").send()) == (503, "qq_misconfigured")


def test_app_key_is_needed_for_a_code_only(qq, db, shop):
    shop.QQ_APP_IDS = [qq.app_id]
    assert App(qq).send().status_code == 200
    assert invalid_fields(App(qq, "app with a code").send()) == ["client_id"]
    shop.QQ_APP_IDS = {qq.app_id: qq.app_secret, "1106000009": "another key"}
    app = App(qq, "app with a code")
    assert invalid_fields(app.send()) == ["client_id"]  # which of the two?
    assert app.send(client_id=qq.app_id).status_code == 200


def test_door_is_closed_unless_it_is_configured(app, shop):
    shop.QQ_APP_IDS, shop.QQ_MINI_APP_ID = (), ""
    assert error_of(app.send()) == (404, "not_found")


@pytest.mark.parametrize(
    ("field", "value"),
    grouped(
        access_token=[None, "", ["a"], "a b", "x" * 513, 7],
        openid=["A" * 31, "G" * 32, 7],
        purpose=["", "unbind", 7, "\ud800"],
        client_id=["abc", "", "1" * 33],
        code=["1"],  # beside the access_token
    ),
)
def test_malformed_field_is_named(qq, db, field, value):
    app = App(qq)
    assert invalid_fields(app.send(**{field: value})) == ["access_token" if field == "code" else field]


def test_app_sends_something(qq, db):
    assert invalid_fields(App(qq).send({})) == ["access_token"]
    assert error_of(App(qq, "mini").send({})) == (400, "invalid")
    assert App(qq).post("/oauth/qq/app/", ["key"]).status_code == 400


def test_refused_calls_are_limited(app, set_rates):
    set_rates(qq_login="2/min")
    for _ in range(2):
        assert invalid_fields(app.send(key="short")) == ["key"]
    assert app.send(key="short").status_code == 429
    assert app.send().status_code == 429


def test_successful_logins_of_one_address_are_not_limited(qq, db, set_rates):
    set_rates(qq_login="1/min")
    assert [App(qq).send().status_code for _ in range(4)] == [200] * 4


def test_one_token_is_limited_whatever_the_key_and_the_address(qq, db, set_rates, set_proxies):
    set_rates(qq_login="2/min")
    set_proxies(1)
    token = {"access_token": qq.app_token("小明")}
    headers = [{"x-forwarded-for": f"198.18.0.{number}"} for number in range(3)]
    assert [App(qq).send(token, each).status_code for each in headers] == [200, 200, 429]
    assert len(qq.requests("/oauth2.0/me")) == 2


def test_outage_of_qq_is_no_failure_of_the_address(app, qq, set_rates):
    set_rates(qq_login="1/min")
    broken = {name: {"fault": "502"} for name in ("me", "token", "jscode2session")}
    qq.behave(**broken)
    assert error_of(app.send()) == (503, "qq_unavailable")
    qq.behave(**dict.fromkeys(broken))
    assert App(qq, app.door).send().status_code == 200


@pytest.mark.parametrize("field", ["is_staff", "is_superuser", "is_active"])
def test_staff_and_disabled_accounts_are_refused(app, qq, account, field):
    setattr(account, field, field != "is_active")
    account.save()
    OAuthQQUser.objects.create(user=account, openid=get_openid(qq, app.door))
    assert error_of(app.send()) == (403, "account_refused")


def test_values_of_one_door_are_worthless_at_another(app, browser, phone):
    web, native = browser.get_bind_token(), app.send().json()["access_token"]
    form = fill_in(phone, web)
    assert error_of(app.bind(form)) == (400, "bind_token_invalid")  # without the cookie
    assert error_of(browser.bind(form | {"access_token": native})) == (400, "bind_token_invalid")


def test_audit_names_the_door(app, caplog):
    caplog.set_level(logging.INFO, "meiduo.audit")
    app.send()
    fields = [vars(record) for record in caplog.records if record.name == "meiduo.audit"]
    assert [(each["msg"], each["door"], "qq_ms" in each) for each in fields] == [
        ("bind_token", app.door.split()[0], True)
    ]


@requirement("15.10")
def test_unionid_logs_in_across_the_shops_applications(app, qq, shop, account, connect):
    shop.QQ_UNIONID = True
    sent = []
    connect(lambda **kwargs: sent.append(kwargs["user"].pk), qq_bound)
    OAuthQQUser.objects.create(user=account, openid=qq.openid("小明"), unionid=qq.unionid("小明"))
    assert app.send().json()["user_id"] == account.pk
    added = OAuthQQUser.objects.get(openid=get_openid(qq, app.door))
    assert (added.user_id, added.unionid) == (account.pk, qq.unionid("小明"))
    assert App(qq, app.door).send().json()["user_id"] == account.pk
    assert sent == [account.pk]


@requirement("15.10")
def test_unionid_of_several_users_of_none_or_of_staff_binds_nobody(qq, shop, account, django_user_model):
    shop.QQ_UNIONID = True
    unionid = qq.unionid("小明")
    other = django_user_model.objects.create_user("li4", mobile="13900000001", password=PASSWORD)
    OAuthQQUser.objects.create(user=account, openid="A" * 32, unionid=unionid)
    second = OAuthQQUser.objects.create(user=other, openid="B" * 32, unionid=unionid)
    assert App(qq).send().json().keys() == {"access_token"}
    second.delete()
    qq.behave(unionid="no_right")
    assert App(qq).send().json().keys() == {"access_token"}
    qq.behave(unionid="granted")
    shop.QQ_UNIONID = False
    assert App(qq).send().json().keys() == {"access_token"}
    shop.QQ_UNIONID, account.is_staff = True, True
    account.save()
    assert error_of(App(qq).send()) == (403, "account_refused")
    assert OAuthQQUser.objects.count() == 1


def test_own_mobile_is_not_in_the_way(app, phone, account):
    """An existing account is bound with its password, as on the web."""
    form = fill_in(phone, app.send().json()["access_token"])
    assert app.bind(form).json()["id"] == account.pk
    assert account.mobile == MOBILE


@requirement("15.10")
def test_unionid_is_stored_only_where_the_shop_asks_for_it(qq, phone, account):
    app = App(qq, "mini")
    assert app.bind(fill_in(phone, app.send().json()["access_token"])).status_code == 200
    assert OAuthQQUser.objects.get().unionid is None


@requirement("15.10")
@pytest.mark.parametrize("unionid", ["", None, "uid_1", "UID_1 ", 7, ["UID_1"]])
def test_only_the_very_unionid_logs_in(qq, shop, account, unionid):
    shop.QQ_UNIONID = True
    OAuthQQUser.objects.create(user=account, openid="A" * 32, unionid="UID_1")
    OAuthQQUser.objects.create(user=account, openid="B" * 32, unionid="")
    answer = {"client_id": qq.app_id, "openid": "C" * 32, "unionid": unionid}
    qq.behave(me={"fault": "body", "body": json.dumps(answer)})
    assert App(qq).send().json().keys() in ({"access_token"}, {"message", "code"})
    assert OAuthQQUser.objects.count() == 2


@pytest.fixture
def at_savepoint():
    """A context manager: do something when a transaction begins, once."""

    @contextmanager
    def at_savepoint(act):
        begun = []

        def begin(run, sql, *arguments):
            if sql.startswith("SAVEPOINT") and not begun:
                begun.append(sql)
                act()
            return run(sql, *arguments)

        with connection.execute_wrapper(begin):
            yield
        assert begun

    return at_savepoint


@requirement("15.10")
def test_openid_bound_at_that_moment_by_another_call_logs_in(qq, shop, account, at_savepoint):
    shop.QQ_UNIONID = True
    OAuthQQUser.objects.create(user=account, openid="A" * 32, unionid=qq.unionid("小明"))
    with at_savepoint(lambda: OAuthQQUser.objects.create(user=account, openid=qq.openid("小明", qq.app_id))):
        assert App(qq).send().json()["user_id"] == account.pk
    assert OAuthQQUser.objects.count() == 2


@requirement("15.10")
def test_unionid_of_a_binding_removed_at_that_moment_lets_nobody_in(qq, shop, account, at_savepoint):
    """Its owner may have removed it because the QQ is a thief's."""
    shop.QQ_UNIONID = True
    OAuthQQUser.objects.create(user=account, openid="A" * 32, unionid=qq.unionid("小明"))
    with at_savepoint(OAuthQQUser.objects.all().delete):
        assert App(qq).send().json().keys() == {"access_token"}
    assert OAuthQQUser.objects.count() == 0


@requirement("15.10", "10.4")
def test_binding_by_unionid_is_recorded_with_its_login(qq, shop, account, caplog):
    caplog.set_level(logging.INFO, "meiduo.audit")
    shop.QQ_UNIONID = True
    OAuthQQUser.objects.create(user=account, openid="A" * 32, unionid=qq.unionid("小明"))
    App(qq).send()
    bind, login = (record for record in caplog.records if record.name == "meiduo.audit")
    assert (bind.msg, bind.reason, bind.door, bind.user_id) == ("bind", "unionid", "app", account.pk)
    assert (login.msg, login.flow, login.openid) == ("login", bind.flow, bind.openid)


def test_made_up_application_ids_fill_no_memory(qq, db, no_limits):
    before = _make_code_client.cache_info().currsize
    for number in range(5):
        assert invalid_fields(App(qq, "app with a code").send(client_id=f"99{number}")) == ["client_id"]
    assert _make_code_client.cache_info().currsize == before

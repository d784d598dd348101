"""POST users/: the form binds the openid of a bind token to an account."""

import re

import pytest
from django.contrib.auth import authenticate
from django.db import connection
from django.test.utils import CaptureQueriesContext
from rest_framework.exceptions import Throttled, ValidationError
from rest_framework.serializers import CharField, Serializer

from apps.oauth.models import OAuthQQUser
from apps.oauth.signals import qq_bound, qq_logged_in
from tests.conftest import MOBILE, PASSWORD, error_of, flow_serializer, grouped, invalid_fields
from tests.tools.requirements import requirement

OTHER_MOBILE = "13900000000"
WRONG_MOBILES = [
    "12345", "１３８１２３４５６７８", f"{MOBILE}\n", [MOBILE], {"a": 1}, "\x00", "\ud800", OTHER_MOBILE,
]  # fmt: skip
WRONG_TOKENS = ["made.up.token", 7, ["a"], {"a": "b"}, True, "x" * 10_000, "\x00", "\ud800", "车" * 10]
OTHER_ORIGINS = [
    "null", "", "https://testserver", "http://testserver:8080", "http://testserver.evil.example",
    "http://evil.example", "http://[", "http://testserver:99999",
]  # fmt: skip


@pytest.fixture
def users(django_user_model):
    return django_user_model.objects


def count_rows(users):
    return users.count(), OAuthQQUser.objects.count()


def verbs(queries):
    """Return the verbs of queries without those of transactions."""
    found = [query["sql"].split()[0] for query in queries]
    return [verb for verb in found if verb not in ("SAVEPOINT", "RELEASE")]


@requirement("1.12", "6.8", "7.8")
def test_new_user_gets_an_account_from_these_fields_only_and_is_logged_in(browser, other_browser, form, users, qq):
    extra = {"is_staff": True, "is_superuser": True, "username": "root", "user_id": 1, "openid": "B" * 32, "id": 7}
    with CaptureQueriesContext(connection) as queries:
        response = browser.bind(form | extra)
    assert verbs(queries) == ["SELECT", "SELECT", "INSERT", "INSERT"]
    body = response.json()
    token = body.pop("token")
    user = users.get(mobile=MOBILE)
    assert response.status_code == 200
    assert body == {"user_id": user.pk, "id": user.pk, "username": user.username, "next": "/cart"}
    assert browser.get("/user/", headers={"authorization": f"JWT {token}"}).json()["id"] == user.pk
    assert authenticate(username=MOBILE, password=PASSWORD) == user
    assert (user.is_staff, user.is_superuser) == (False, False)
    assert not any(text in user.username for text in (MOBILE, qq.openid("小明"), "root"))
    binding = OAuthQQUser.objects.get()
    assert (binding.user_id, binding.openid, binding.unionid) == (user.pk, qq.openid("小明"), None)
    assert str(binding) == f"{qq.openid('小明')[:6]}…"
    assert other_browser.redeem_code(other_browser.arrive()).json()["user_id"] == user.pk


@requirement("7.4")
def test_existing_account_is_bound_with_its_password_and_may_have_several_qqs(browser, account, form, users):
    OAuthQQUser.objects.create(user=account, openid="A" * 32)
    with CaptureQueriesContext(connection) as queries:
        assert browser.bind(form).json()["user_id"] == account.pk
    assert verbs(queries) == ["SELECT", "SELECT", "UPDATE", "SELECT", "INSERT"]
    assert (users.count(), OAuthQQUser.objects.filter(user=account).count()) == (1, 2)


def test_unionid_is_stored_if_the_shop_asks_for_it(browser, shop, form):
    shop.QQ_UNIONID = True
    browser.bind(form | {"access_token": browser.get_bind_token()})
    assert OAuthQQUser.objects.get().unionid.startswith("UID_")


# Sent again -----------------------------------------------------------------------------------------------------------


@requirement("4.2")
def test_form_may_be_sent_again_if_its_answer_got_lost(clock, browser, form, users, connect):
    signals = []

    def receive(signal, sender, request, user, response, **kwargs):
        signals.append((signal, user.pk, response.data["user_id"]))

    connect(receive, qq_bound, qq_logged_in)
    first = browser.bind(form)
    clock.shift(60)
    second = browser.bind(dict(reversed(form.items())))
    answers = [first.json(), second.json()]
    for answer in answers:
        assert browser.get("/user/", headers={"authorization": f"JWT {answer.pop('token')}"}).status_code == 200
    assert answers[0] == answers[1]
    ids = (users.get().pk,) * 2  # a second login, not a second binding
    assert signals == [(qq_bound, *ids), (qq_logged_in, *ids), (qq_logged_in, *ids)]
    assert count_rows(users) == (1, 1)
    clock.shift(1)
    assert error_of(browser.bind(form)) == (400, "already_bound")


@requirement("4.2", "7.3")
def test_changed_form_or_one_of_another_flow_is_not_a_repeat(browser, form, users):
    other_flow = browser.get_bind_token()
    assert browser.bind(form).status_code == 200
    changes = [{"password": "another horse"}, {"mobile": OTHER_MOBILE}, {"sms_code": "000000"}, {"extra": 1}]
    for change in (*changes, {"access_token": other_flow}):
        assert error_of(browser.bind(form | change)) == (400, "already_bound")
    assert count_rows(users) == (1, 1)
    assert browser.bind(form).status_code == 200


@requirement("5.5")
def test_repeat_is_refused_if_the_account_is_disabled_or_the_openid_rebound(browser, form, users):
    assert browser.bind(form).status_code == 200
    users.update(is_active=False)
    assert error_of(browser.bind(form)) == (400, "account_refused")
    OAuthQQUser.objects.update(user=users.create_user("another"))
    assert error_of(browser.bind(form)) == (400, "already_bound")


# Refused --------------------------------------------------------------------------------------------------------------


@requirement("3.3")
def test_openids_are_compared_with_case(browser, account, request, qq):
    OAuthQQUser.objects.create(user=account, openid=qq.openid("小明").lower())
    form = request.getfixturevalue("form")  # whose bind token shows that nobody was logged in
    assert browser.bind(form).status_code == 200
    assert OAuthQQUser.objects.count() == 2


@requirement("5.5", "7.9")
@pytest.mark.parametrize("fields", [{"is_active": False}, {"is_staff": True}, {"is_superuser": True}])
def test_disabled_or_staff_account_is_not_bound(browser, account, form, users, fields):
    users.update(**fields)
    assert error_of(browser.bind(form)) == (400, "account_refused")
    assert OAuthQQUser.objects.count() == 0


@pytest.mark.parametrize(
    ("field", "value"),
    grouped(
        sms_code=["000000", "", None, 123456.5],
        password=["wrong password", "", "\ud800" * 8],
        mobile=WRONG_MOBILES,
    ),
)
def test_wrong_field_is_named_and_costs_neither_sms_code_nor_bind_token(browser, account, form, users, field, value):
    if form["sms_code"] == value:
        value = "111111"
    blamed = "sms_code" if value == OTHER_MOBILE else field  # the code was sent to another number
    assert invalid_fields(browser.bind(form | {field: value})) == [blamed]
    assert count_rows(users) == (1, 0)
    assert browser.bind(form).status_code == 200


@requirement("9.4")
def test_number_in_place_of_a_text_is_refused(browser, form):
    form["password"] = "905173628461"
    for field in ("mobile", "password", "sms_code"):
        assert invalid_fields(browser.bind(form | {field: int(form[field])})) == [field]
    assert browser.bind(form).status_code == 200


@requirement("11 bind, failed", "4.2")
def test_five_failed_tries_end_the_flow_with_all_its_bind_tokens(clock, browser, form, users):
    sealed = browser.arrive("小红")
    *tokens, last = [browser.redeem_code(sealed).json()["access_token"] for _ in range(6)]
    for bind_token in tokens:
        assert invalid_fields(browser.bind(form | {"access_token": bind_token, "password": ""})) == ["password"]
    clock.shift(599)
    assert error_of(browser.bind(form | {"access_token": last})) == (400, "bind_tries")
    assert users.count() == 0


def test_other_flows_and_calls_without_a_form_cost_no_try(browser, form):
    other_flow = form | {"access_token": browser.get_bind_token("小红"), "password": ""}
    for _ in range(5):
        assert browser.bind(other_flow).status_code == 400
        assert error_of(browser.bind(form | {"access_token": "malformed"})) == (400, "bind_token_invalid")
        assert error_of(browser.bind("{")) == (400, "invalid")
    assert browser.bind(form).status_code == 200


def test_failed_tries_from_the_same_address_cost_no_try_of_this_flow(clock, browser, other_browser, form):
    for number in range(10):
        other_browser.bind({"access_token": other_browser.get_bind_token(f"neighbour {number}")})
    for _ in range(7):
        assert error_of(browser.bind(form | {"password": ""})) == (429, "throttled")
    clock.shift(60)
    assert invalid_fields(browser.bind(form | {"password": ""})) == ["password"]


# The bind token -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "bind_token"),
    grouped(bind_token_missing=[None, ""], bind_token_invalid=WRONG_TOKENS),
)
def test_missing_or_malformed_bind_token_is_refused(browser, db, code, bind_token):
    assert error_of(browser.bind({"access_token": bind_token})) == (400, code)


@requirement("4.1")
def test_bind_token_works_only_in_its_own_browser(browser, other_browser, form):
    assert error_of(other_browser.bind(form)) == (400, "bind_token_invalid")
    other_browser.arrive()
    assert error_of(other_browser.bind(form)) == (400, "bind_token_invalid")
    assert browser.bind(form).status_code == 200


@requirement("4.4")
@pytest.mark.parametrize(("type", "accepted"), [("bind", True), ("code", False), (None, False)])
def test_signed_value_names_its_purpose_too(browser, form, type, accepted):
    """A second line of defence, if salts were mixed up."""
    claims = flow_serializer("bind").loads(form["access_token"]) | {"type": type}
    answer = browser.bind(form | {"access_token": flow_serializer("bind").dumps(claims)})
    assert answer.status_code == 200 if accepted else error_of(answer) == (400, "bind_token_invalid")


# The shop's page ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", ["http://testserver/back.html", "http://testserver:80/", "http://TESTSERVER/a?b#c"])
def test_shops_own_page_may_bind(browser, form, shop, page):
    shop.QQ_CALLBACK_PAGE, shop.QQ_REDIRECT_URI = page, "http://api.testserver/oauth/qq/callback/"
    assert browser.bind(form, headers={"origin": "http://testserver"}).status_code == 200


@requirement("9.1")
@pytest.mark.parametrize("origin", OTHER_ORIGINS)
def test_page_of_another_origin_may_not_bind(browser, form, shop, origin, users):
    for page in (shop.QQ_CALLBACK_PAGE, ""):
        shop.QQ_CALLBACK_PAGE = page
        refused = browser.bind(form, headers={"origin": origin})
        assert (refused.status_code, refused.json()) == (403, {"message": "请从本店的页面登录。", "code": "invalid"})
    assert users.count() == 0
    assert browser.bind(form).status_code == 200


# The shop's serializer ------------------------------------------------------------------------------------------------


class Echo(Serializer):
    def validate(self, attrs):
        request, view = self.context["request"], self.context["view"]
        raise ValidationError({"attempt": self.context["attempt"], "call": [request.method, view.request is request]})


def test_serializer_gets_request_view_and_one_attempt_id_per_flow(browser, form, shop):
    shop.QQ_ACCOUNT_SERIALIZER = f"{__name__}.Echo"
    other_flow = form | {"access_token": browser.get_bind_token("小红")}
    first, second, other = [browser.bind(data).json() for data in (form, form | {"sms_code": "111111"}, other_flow)]
    assert re.fullmatch("[0-9a-f]{12}", *first["attempt"])
    assert first["attempt"] == second["attempt"] != other["attempt"]
    assert first["call"] == ["POST", "True"]


class Limited(Serializer):
    mobile = CharField()

    def validate(self, attrs):
        if attrs["mobile"] == "at once":
            raise Throttled(wait=6.2)
        return attrs

    def save(self):
        raise Throttled(wait=6.2)


@pytest.mark.parametrize("mobile", ["at once", "in save"])
def test_try_refused_by_a_limit_of_the_shop_is_not_counted(browser, form, shop, mobile):
    serializer, shop.QQ_ACCOUNT_SERIALIZER = shop.QQ_ACCOUNT_SERIALIZER, f"{__name__}.Limited"
    for _ in range(12):
        answer = browser.bind(form | {"mobile": mobile})
        assert (error_of(answer), answer["Retry-After"]) == ((429, "throttled"), "7")
    shop.QQ_ACCOUNT_SERIALIZER = serializer
    assert browser.bind(form).status_code == 200

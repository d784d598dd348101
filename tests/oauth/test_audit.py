"""The audit log and its signal: one event a step, enough to investigate by, nothing to break in with."""

import logging
import re

import pytest

from apps.oauth.signals import qq_audited
from tests.conftest import MOBILE, Browser

ALWAYS = {"request_id", "address", "outcome"}


class Listener(logging.Handler):
    """Hears the signal as a shop would, and the log as a handler does."""

    def __init__(self):
        super().__init__()
        self.records = []
        self.heard = []

    def emit(self, record):
        self.records.append(record)

    def hear(self, sender, request, event, fields, **kwargs):
        assert request.META["REQUEST_ID"] == fields["request_id"]
        assert self.records[-1].getMessage() == event
        assert fields.items() <= vars(self.records[-1]).items()
        assert fields.keys() >= ALWAYS
        self.heard.append((event, fields))

    def events(self, name=None):
        return [(event, fields) for event, fields in self.heard if name in (None, event)]

    def last(self, name):
        return {key: value for key, value in self.events(name)[-1][1].items() if key not in ("request_id", "address")}


@pytest.fixture
def audit():
    listener = Listener()
    logger = logging.getLogger("meiduo.audit")
    logger.addHandler(listener)
    qq_audited.connect(listener.hear)
    yield listener
    qq_audited.disconnect(listener.hear)
    logger.removeHandler(listener)


def test_every_step_of_a_first_and_a_second_login_is_recorded(audit, browser, form, django_user_model):
    browser.bind(form)
    browser.collect(browser.arrive())
    user = django_user_model.objects.get()
    openid = audit.last("bind_token")["openid"]
    assert re.fullmatch("[0-9a-f]{12}", openid)
    told = [(event, {k: v for k, v in fields.items() if k not in ALWAYS}) for event, fields in audit.events()]
    assert told == [
        ("start", {}),
        ("callback", {}),
        ("bind_token", {"openid": openid}),
        ("sms", {"mobile": "138****5678"}),
        ("bind", {"openid": openid, "mobile": "138****5678", "user_id": user.pk}),
        ("start", {}),
        ("callback", {}),
        ("login", {"openid": openid, "user_id": user.pk}),
    ]
    assert {fields["outcome"] for _, fields in audit.events()} == {"ok"}
    assert {fields["address"] for _, fields in audit.events()} == {"127.0.0.1"}
    assert len({fields["request_id"] for _, fields in audit.events()}) == 8


def test_a_refusal_is_recorded_with_its_reason(audit, browser, other_browser, form):
    browser.get("/oauth/qq/callback/?code=C")
    assert audit.last("callback") == {"outcome": "refused", "reason": "state_missing"}
    browser.collect("made.up.code")
    assert audit.last("login") == {"outcome": "refused", "reason": "code_invalid"}
    other_browser.start()
    other_browser.bind(form)
    assert audit.last("bind") == {"outcome": "refused", "reason": "bind_token_invalid"}
    browser.bind(form | {"password": ""})
    refused = audit.last("bind")
    assert re.fullmatch("[0-9a-f]{12}", refused.pop("openid"))
    assert refused == {"outcome": "refused", "reason": "invalid", "field": "password", "mobile": "138****5678"}
    browser.bind(form)
    bound = audit.last("bind")
    browser.bind(form)
    assert audit.last("bind") == bound | {"reason": "repeated"}
    browser.bind(form | {"password": "another horse"})
    assert audit.last("bind")["reason"] == "already_bound"
    levels = {record.levelname for record in audit.records if getattr(record, "outcome", "") == "refused"}
    assert levels == {"WARNING"}


def test_a_start_without_an_application_is_recorded(audit, browser, shop):
    shop.QQ_CLIENT_ID = ""
    browser.get("/oauth/qq/login/")
    assert audit.last("start") == {"outcome": "refused", "reason": "qq_misconfigured"}


def test_a_disabled_account_that_comes_is_named(audit, browser, account, binding):
    account.is_active = False
    account.save()
    browser.collect(browser.arrive())
    refused = audit.last("login")
    assert (refused["outcome"], refused["reason"], refused["user_id"]) == ("refused", "account_refused", account.pk)


@pytest.mark.parametrize(
    "mobile", ["138123456789", "1381234567", f" {MOBILE}", "１３８１２３４５６７８", None, [MOBILE]]
)
def test_what_is_no_mobile_number_is_not_recorded_as_one(audit, browser, form, mobile):
    browser.bind(form | {"mobile": mobile})
    assert "mobile" not in audit.last("bind")


@pytest.mark.parametrize(
    ("behaviour", "outcome", "reason", "number"),
    [
        ({"token": {"fault": "error", "number": 100020}}, "refused", "QQRejected", 100020),
        ({"token": {"fault": "html"}}, "refused", "QQUnavailable", None),
        ({"token": {"fault": "error", "number": 100009}}, "alarm", "QQMisconfigured", 100009),
        ({"ignore_need_openid": True, "client_id": "101000002"}, "alarm", "QQForeignToken", None),
    ],
)
def test_a_failure_of_qq_is_recorded_by_its_class_and_alarms_whom_it_must(
    audit, browser, qq, behaviour, outcome, reason, number
):
    qq.behave(**behaviour)
    browser.collect(browser.arrive())
    numbered = {} if number is None else {"number": number}
    assert audit.last("qq") == {"outcome": outcome, "reason": reason, **numbered}
    levels = [record.levelname for record in audit.records if record.getMessage() == "qq"]
    assert levels == ["ERROR" if outcome == "alarm" else "WARNING"]


def test_a_page_that_sends_no_cookie_is_told_from_one_that_is_late(audit, browser, other_browser):
    code, bind_token = browser.arrive(), browser.get_bind_token()
    stranger = Browser(browser.qq)
    for answer, event in (
        (stranger.collect(code), "login"),
        (stranger.bind({"access_token": bind_token}), "bind"),
    ):
        assert answer.json()["code"] in ("code_invalid", "bind_token_invalid")
        assert audit.last(event)["reason"] == "no_cookie"
    other_browser.arrive()
    other_browser.collect(code)
    assert audit.last("login")["reason"] == "code_invalid"


def test_a_limit_that_is_hit_is_recorded_by_its_name(audit, browser, shop):
    shop.REST_FRAMEWORK = {**shop.REST_FRAMEWORK, "DEFAULT_THROTTLE_RATES": {"qq_login": "1/min"}}
    browser.collect("a")
    browser.collect("a")
    assert audit.last("limit") == {"outcome": "refused", "limit": "qq_login"}
    assert audit.last("login")["reason"] == "throttled"
    assert len({fields["request_id"] for _, fields in audit.events()[-2:]}) == 1  # as of one call


@pytest.mark.parametrize(
    ("sent", "is_taken"),
    [("a1b2-c3d4_E5", True), ("short", False), ("x" * 65, False), ("with blanks in it", False), ("车" * 10, False)],
)
def test_the_request_is_named_by_the_proxy_or_by_us(audit, browser, shop, sent, is_taken):
    shop.REST_FRAMEWORK = {**shop.REST_FRAMEWORK, "NUM_PROXIES": 1}
    browser.get("/oauth/qq/login/", headers={"x-request-id": sent.encode().decode("latin-1")})
    ((_, fields),) = audit.events()
    assert (fields["request_id"] == sent) == is_taken
    assert re.fullmatch("[A-Za-z0-9_-]{8,64}", fields["request_id"])


def test_a_request_is_not_named_by_a_stranger(audit, browser, db):
    browser.get("/oauth/qq/login/", headers={"x-request-id": "bind-of-user-1"})
    ((_, fields),) = audit.events()
    assert fields["request_id"] != "bind-of-user-1"


def test_events_of_one_person_are_told_from_anothers_and_lead_to_nobody(audit, browser, qq, shop):
    for person in ("小明", "小红", "小明"):
        browser.get_bind_token(person)
    shop.SECRET_KEY = "n" * 50
    browser.get_bind_token("小明")
    first, other, again, keyed_anew = (fields["openid"] for _, fields in audit.events("bind_token"))
    assert first == again
    assert len({first, other, keyed_anew}) == 3
    assert first.upper() not in qq.openid("小明")


def test_a_listener_that_fails_costs_nobody_his_login(browser, binding):
    def fail(**kwargs):
        raise RuntimeError("the shop's listener")

    qq_audited.connect(fail)
    try:
        assert browser.collect(browser.arrive()).status_code == 200
    finally:
        qq_audited.disconnect(fail)


def test_a_call_that_is_no_step_is_not_recorded(audit, browser, db):
    browser.client.put("/oauth/qq/users/")
    browser.client.head("/oauth/qq/login/")
    browser.get("/oauth/qq/authorization/")
    browser.get("/oauth/qq/login/", headers={"sec-purpose": "prefetch"})
    assert audit.events() == []

"""The audit log and its signal: one event per step, with enough to investigate and nothing secret."""

import logging
import re
from unittest.mock import ANY

import pytest
from django.core.exceptions import PermissionDenied

from apps.oauth.audit import NO_COOKIE_HINTS
from apps.oauth.models import OAuthQQUser
from apps.oauth.signals import qq_audited, qq_bound
from tests.conftest import CALLBACK, MOBILE, PAGE, Browser, error_of, query_of
from tests.tools.requirements import requirement

OK = {"outcome": "ok"}
REFUSED = {"outcome": "refused"}
ASKED_QQ = {"qq_ms": ANY}
HASH = "[0-9a-f]{12}"


class Audit(logging.Handler):
    """Collects events from both the signal and the log, and checks that they agree."""

    def __init__(self):
        super().__init__()
        self.records = []
        self.events = []

    def emit(self, record):
        self.records.append(record)

    def receive(self, sender, request, event, fields, **kwargs):
        assert request.META["qq_login.request_id"] == fields["request_id"]
        assert self.records[-1].getMessage() == event
        assert fields.items() <= vars(self.records[-1]).items()
        assert fields.keys() >= {"request_id", "address", "outcome"}
        assert event == "limit" or 0 <= fields.get("qq_ms", 0) <= fields["duration_ms"]
        self.events.append((event, fields))

    def steps(self):
        """Return [(event, fields without those that each request has), …]."""
        of_request = ("request_id", "address", "duration_ms")
        return [(event, {k: v for k, v in fields.items() if k not in of_request}) for event, fields in self.events]

    def last(self, event):
        return next(fields for name, fields in reversed(self.steps()) if name == event)


@pytest.fixture
def audit(connect):
    audit = Audit()
    logger = logging.getLogger("meiduo.audit")
    logger.addHandler(audit)
    connect(audit.receive, qq_audited)
    yield audit
    logger.removeHandler(audit)


@requirement("5.8", "10.4")
def test_every_step_of_a_first_and_a_second_login_is_recorded(audit, browser, form, django_user_model):
    browser.bind(form)
    browser.redeem_code(browser.arrive())
    user = django_user_model.objects.get()
    openid = audit.last("bind_token")["openid"]
    assert re.fullmatch(HASH, openid)
    first, second = ({"flow": name.removeprefix("qq_flow_")} for name in browser.cookies)
    bind = {"openid": openid, "mobile": "138****5678", "form": "AccountSerializer"}
    assert audit.steps() == [
        ("start", OK | first),
        ("callback", OK | first),
        ("bind_token", OK | first | {"openid": openid} | ASKED_QQ),
        ("sms", OK | {"mobile": "138****5678"}),
        ("bind", OK | first | bind | {"user_id": user.pk}),
        ("start", OK | second),
        ("callback", OK | second),
        ("login", OK | second | {"openid": openid, "user_id": user.pk} | ASKED_QQ),
    ]
    assert {fields["address"] for _, fields in audit.events} == {"127.0.0.1"}
    assert len({fields["request_id"] for _, fields in audit.events}) == 8


@requirement("10.4")
def test_refusal_is_recorded_as_a_warning_with_its_reason(audit, browser, other_browser, form, shop, django_user_model):
    flow = {"flow": audit.last("start")["flow"]}
    browser.get("/oauth/qq/callback/?code=C")
    assert audit.last("callback") == REFUSED | {"reason": "state_missing"}
    browser.redeem_code("made.up.code")
    assert audit.last("login") == REFUSED | {"reason": "code_invalid"}
    other_browser.start()
    other_browser.bind(form)
    assert audit.last("bind") == REFUSED | flow | {"reason": "bind_token_invalid"}
    browser.bind(form | {"password": ""})
    refused = audit.last("bind")
    assert re.fullmatch(HASH, refused.pop("openid"))
    named = {"mobile": "138****5678", "form": "AccountSerializer"}
    assert refused == REFUSED | flow | {"reason": "invalid", "field": "password"} | named
    browser.bind(form)
    bound = audit.last("bind")
    browser.bind(form)
    assert audit.last("bind") == bound | {"reason": "repeated"}
    browser.bind(form | {"password": "another horse"})
    assert audit.last("bind")["reason"] == "already_bound"
    django_user_model.objects.update(is_active=False)
    browser.redeem_code(browser.arrive())
    named = {"openid": bound["openid"], "user_id": bound["user_id"], "flow": audit.last("start")["flow"]}
    assert audit.last("login") == REFUSED | {"reason": "account_refused"} | named | ASKED_QQ
    shop.QQ_CLIENT_ID = ""
    browser.get("/oauth/qq/login/")
    assert audit.last("start") == REFUSED | {"reason": "qq_misconfigured"}
    levels = {record.levelname for record in audit.records if getattr(record, "outcome", "") == "refused"}
    assert levels == {"WARNING"}


@requirement("10.4")
@pytest.mark.parametrize("direct", [False, True])
def test_refused_return_from_qq_belongs_to_its_flow(audit, browser, other_browser, qq, shop, direct):
    shop.QQ_REDIRECT_URI, path, event = (PAGE, "users", "login") if direct else (CALLBACK, "callback", "callback")
    other_browser.sign_in()
    returned = query_of(browser.sign_in())
    flow = {"flow": audit.last("start")["flow"]}
    for each, query, reason in (
        (Browser(qq), returned, {"reason": "no_cookie", "hint": NO_COOKIE_HINTS[event]}),
        (other_browser, returned, {"reason": "state_invalid"}),
        (browser, returned | {"usercancel": "1"}, {"reason": "user_cancelled"}),
        (browser, returned, {"reason": "state_used"}),
    ):
        each.get(f"/oauth/qq/{path}/", data=query)
        assert audit.last(event) == REFUSED | flow | reason


@requirement("10.4")
def test_time_of_qq_is_recorded_for_calls_that_asked_it(audit, browser, qq, binding):
    qq.behave(token={"fault": "slow", "seconds": 0.1, "times": 1})
    code = browser.arrive()
    browser.redeem_code(code)
    assert audit.last("login")["qq_ms"] >= 100
    browser.redeem_code(code)
    assert "qq_ms" not in audit.last("login")
    qq.behave(token={"fault": "error", "number": 100020})
    browser.redeem_code(browser.arrive())
    failed = REFUSED | {"flow": audit.last("start")["flow"], "qq_ms": audit.last("qq")["qq_ms"]}
    assert audit.last("qq") == failed | {"reason": "QQRejected", "number": 100020}
    assert audit.last("login") == failed | {"reason": "qq_rejected"}


@pytest.mark.parametrize(
    ("query", "number"),
    [("error=100010", 100010), ("code=100010&msg=x", 100010), ("error=server_error", None), ("msg=x", None)],
)
def test_number_that_qq_sends_the_browser_back_with_is_recorded(audit, browser, query, number):
    browser.get(f"/oauth/qq/callback/?state={query_of(browser.start())['state']}&{query}")
    recorded = {"flow": audit.last("start")["flow"], "reason": "qq_rejected"} | ({"number": number} if number else {})
    assert audit.last("callback") == REFUSED | recorded


def refuse(*args, **kwargs):
    raise PermissionDenied


@pytest.mark.parametrize("place", ["payload", "receiver"])
def test_login_refused_by_the_shop_after_the_bind_is_recorded(audit, browser, form, shop, connect, place):
    if place == "payload":
        shop.QQ_LOGIN_PAYLOAD = f"{__name__}.refuse"
    else:
        connect(refuse, qq_bound)
    assert error_of(browser.bind(form)) == (403, "invalid")
    (fields,) = (fields for event, fields in audit.steps() if event == "bind")
    named = {"openid": fields["openid"], "mobile": "138****5678", "user_id": OAuthQQUser.objects.get().user_id}
    named["form"] = "AccountSerializer"
    assert fields == REFUSED | {"reason": "invalid", "flow": audit.last("start")["flow"]} | named


def test_text_that_is_not_a_mobile_number_is_not_recorded(audit, browser, form):
    for mobile in ("138123456789", "1381234567", f" {MOBILE}", "１３８１２３４５６７８", None, [MOBILE]):
        browser.bind(form | {"mobile": mobile})
        assert "mobile" not in audit.last("bind")


def test_missing_cookie_and_wrong_cookie_have_different_reasons(audit, browser, other_browser, qq):
    code, bind_token = browser.arrive(), browser.get_bind_token()
    first, second = ({"flow": fields["flow"]} for event, fields in audit.steps() if event == "start")
    without_cookie = Browser(qq)
    no_cookie = REFUSED | {"reason": "no_cookie", "hint": NO_COOKIE_HINTS["login"]}
    assert without_cookie.redeem_code(code).json()["code"] == "code_invalid"
    assert audit.last("login") == no_cookie | first
    assert without_cookie.bind({"access_token": bind_token}).json()["code"] == "bind_token_invalid"
    assert audit.last("bind") == no_cookie | second
    other_browser.arrive()
    other_browser.redeem_code(code)
    assert audit.last("login") == REFUSED | first | {"reason": "code_invalid"}


def test_repeated_callback_is_recorded_as_such(audit, browser):
    address = browser.sign_in()
    browser.come_back(address)
    browser.come_back(address)
    (_, start), *callbacks = audit.steps()
    flow = OK | {"flow": start["flow"]}
    assert callbacks == [("callback", flow), ("callback", flow | {"reason": "repeated"})]


@requirement("10.4")
def test_limit_is_recorded_by_its_name_with_the_same_request(audit, browser, set_rates):
    set_rates(qq_login="1/hour")
    browser.redeem_code("a")
    browser.redeem_code("a")
    assert audit.last("limit") == REFUSED | {"limit": "qq_login"}
    assert audit.last("login") == REFUSED | {"reason": "throttled"}
    assert len({fields["request_id"] for _, fields in audit.events[-2:]}) == 1


def test_request_id_comes_from_a_trusted_proxy_or_is_made(audit, browser, set_proxies):
    def request_id(header):
        browser.get("/oauth/qq/login/", headers={"x-request-id": header.encode().decode("latin-1")})
        return audit.events[-1][1]["request_id"]

    made = "[0-9a-f]{32}"
    assert re.fullmatch(made, request_id("sent-by-the-client"))
    set_proxies(1)
    assert request_id("a1b2-c3d4_E5") == "a1b2-c3d4_E5"
    for malformed in ("short", "x" * 65, "with blanks in it", "车" * 10):
        assert re.fullmatch(made, request_id(malformed))


def test_openid_is_recorded_as_a_keyed_hash(audit, browser, qq, shop):
    for person in ("小明", "小红", "小明"):
        browser.get_bind_token(person)
    shop.SECRET_KEY = "n" * 50
    browser.get_bind_token("小明")
    first, other, again, other_key = (fields["openid"] for event, fields in audit.events if event == "bind_token")
    assert first == again
    assert len({first, other, other_key}) == 3
    assert first.upper() not in qq.openid("小明")


def test_failing_receiver_does_not_fail_the_login(browser, binding, connect):
    def fail(**kwargs):
        raise RuntimeError("a receiver of the shop")

    connect(fail, qq_audited)
    assert browser.redeem_code(browser.arrive()).status_code == 200


def test_other_calls_are_not_recorded(audit, browser):
    browser.client.put("/oauth/qq/users/")
    browser.client.head("/oauth/qq/login/")
    browser.get("/oauth/qq/authorization/")
    browser.get("/oauth/qq/login/", headers={"sec-purpose": "prefetch"})
    assert audit.events == []

"""Figures for Prometheus: each step is counted once, and nobody can create time series."""

import pytest
from django.core.management import call_command
from prometheus_client import REGISTRY

from apps.oauth.clients import make_web_client
from apps.oauth.contrib import prometheus
from apps.oauth.models import OAuthQQUser
from apps.oauth.qq.resilience import FAILURE_THRESHOLD
from apps.oauth.signals import qq_audited
from tests.conftest import MOBILE, Browser, fill_in

qq_audited.disconnect(prometheus.count_event)  # which its import has connected: other tests do without


def read():
    """Return {(name, label values…): value} of our samples that are not 0."""
    return {
        (sample.name, *sample.labels.values()): sample.value
        for metric in REGISTRY.collect()
        for sample in metric.samples
        if sample.name.startswith("qq_login_") and sample.value and not sample.name.endswith("_created")
    }


class Figures:
    def __init__(self):
        self.before = read()

    def changes(self, name):
        """Return {label values: how much it has grown} of one figure."""
        after = read()
        grown = {key: after[key] - self.before.get(key, 0) for key in after if key[0] == name}
        return {" ".join(filter(None, key[1:])): value for key, value in grown.items() if value}


@pytest.fixture
def figures(connect):
    connect(prometheus.count_event, qq_audited)
    return Figures()


def test_each_step_is_counted_once_with_its_outcome_and_reason(figures, browser, phone):
    form = fill_in(phone, browser.get_bind_token())
    browser.bind(form | {"password": ""})
    browser.bind(form)
    browser.bind(form)
    browser.redeem_code(browser.arrive())
    browser.redeem_code("made.up.code")
    assert figures.changes("qq_login_events_total") == {
        "start ok": 2,
        "callback ok": 2,
        "bind_token ok": 1,
        "sms ok": 1,
        "bind refused invalid": 1,
        "bind ok": 1,
        "bind ok repeated": 1,
        "login ok": 1,
        "login refused code_invalid": 1,
    }
    assert figures.changes("qq_login_qq_seconds_count") == {"": 2}


def test_failures_of_qq_are_counted_by_class_and_number_and_its_time_once(figures, browser, qq, binding):
    for fault in ({"fault": "error", "number": 100020}, {"fault": "502"}, {"fault": "error", "number": 100008}):
        qq.behave(token=fault)
        browser.redeem_code(browser.arrive())
    assert figures.changes("qq_login_qq_errors_total") == {
        "QQRejected 100020": 1,
        "QQUnavailable": 1,
        "QQMisconfigured 100008": 1,
    }
    assert figures.changes("qq_login_qq_seconds_count") == {"": 3}
    counted = figures.changes("qq_login_events_total")
    assert {key: value for key, value in counted.items() if key.startswith(("qq", "login"))} == {
        "qq refused QQRejected": 1,
        "qq refused QQUnavailable": 1,
        "qq alarm QQMisconfigured": 1,
        "login refused qq_rejected": 1,
        "login refused qq_unavailable": 1,
        "login refused qq_misconfigured": 1,
    }


def test_login_that_binds_by_the_unionid_counts_the_time_of_qq_once(figures, browser, qq, shop, account):
    shop.QQ_UNIONID = True
    OAuthQQUser.objects.create(user=account, openid="A" * 32, unionid=qq.unionid("小明"))
    browser.redeem_code(browser.arrive())
    assert figures.changes("qq_login_events_total")["bind ok unionid"] == 1
    assert figures.changes("qq_login_qq_seconds_count") == {"": 1}


def test_limits_are_counted_by_name(figures, browser, set_rates):
    set_rates(qq_login="1/hour")
    for _ in range(3):
        browser.redeem_code("a")
    assert figures.changes("qq_login_limits_total") == {"qq_login": 2}


def test_slots_and_circuits_are_sampled(shop, qq, browser):
    def circuit():
        prometheus.sample()
        return {key[2] for key in read() if key[:2] == ("qq_login_circuits", "connect")}

    shop.QQ_MAX_CONCURRENCY = 3
    client = make_web_client()
    with client.exchange(), client.exchange():
        prometheus.sample()
        assert (read()["qq_login_slots",], read()["qq_login_slots_in_use",]) == (3, 2)
    assert circuit() == {"closed"}
    qq.behave(token={"fault": "502"})
    for _ in range(FAILURE_THRESHOLD):
        browser.redeem_code(browser.arrive())
    assert circuit() == {"open"}
    assert ("qq_login_slots_in_use",) not in read()


def test_no_caller_and_no_answer_of_qq_creates_a_time_series(
    figures, browser, qq, binding, set_proxies, django_capture_on_commit_callbacks
):
    set_proxies(1)
    for text in ("x", "小明", 'a"b\\n', "y" * 5000, "{}", "100010", "-1", "9" * 30):
        stranger = Browser(qq)
        state = stranger.start(text).partition("state=")[2].partition("&")[0]
        stranger.get("/oauth/qq/callback/", {"state": state, "error": text, "msg": text})
        stranger.get("/oauth/qq/callback/", {"state": text, "code": text}, headers={"x-request-id": "a1b2c3d4"})
        stranger.get(
            "/oauth/qq/users/", {"code": text}, headers={"x-forwarded-for": text[:20].encode().decode("latin-1")}
        )
        stranger.bind({"mobile": text, "password": text, "sms_code": text, "access_token": text, text: text})
        stranger.client.post("/authorizations/", {"username": text, "password": text}, content_type="application/json")
        stranger.client.post("/oauth/qq/app/", {"access_token": text, "key": text}, content_type="application/json")
    for number in (999_999_999, -5, 100020):
        qq.behave(token={"fault": "error", "number": number})
        browser.redeem_code(browser.arrive())
    qq.behave(token=None)
    with django_capture_on_commit_callbacks(execute=True):
        call_command("qq_bindings", "unbind", MOBILE, "--reason=typed by an employee", "--yes", verbosity=0)
    counted = figures.changes("qq_login_events_total")
    words = {word for key in counted for word in key.split()}
    known = {value for value in vars(prometheus.Event).values() if isinstance(value, str)} | prometheus.get_reasons()
    assert words - known <= {"ok", "refused", "alarm", "other", "password_login"}
    assert counted["unbind ok other"] == 1
    assert figures.changes("qq_login_qq_errors_total") == {"QQUnavailable other": 2, "QQRejected 100020": 1}
    assert len(counted) < 25


def test_error_codes_of_the_shop_are_counted_by_name():
    from apps.users.sms import SMSUnavailable

    assert SMSUnavailable.error_code in prometheus.get_reasons()

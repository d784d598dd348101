"""What the shop's accounts leave for whoever investigates, and what they never leave."""

import logging
import re

import pytest
from django.test import Client

from apps.oauth.audit import record as audit
from apps.oauth.signals import qq_audited as audited
from apps.users import sms
from tests.conftest import MOBILE, PASSWORD, Phone
from tests.users.test_views import log_in, post, stopped_clock

MASKED = "138****5678"
STANDARD = set(vars(logging.makeLogRecord({}))) | {"message", "asctime"}


@pytest.fixture
def clock(settings):
    with stopped_clock(settings) as clock:
        yield clock


@pytest.fixture
def records(caplog):
    """The records so far: level, event and what it holds, without what differs each time."""
    caplog.set_level(logging.DEBUG)

    def read():
        found = []
        for record in caplog.records:
            if record.name == "meiduo.audit":
                fields = {name: value for name, value in vars(record).items() if name not in STANDARD}
                assert re.fullmatch("[0-9a-f]{32}", fields.pop("request_id"))
                assert fields.pop("address") == "127.0.0.1"
                found.append((record.levelname, record.getMessage(), fields))
        caplog.clear()
        return found

    return read


def test_logins_are_recorded(client, account, records):
    log_in(client)
    log_in(client, password="another horse")
    log_in(client, "nobody")
    refused = {"outcome": "refused", "reason": "invalid", "field": "non_field_errors"}
    assert records() == [
        ("INFO", "password_login", {"outcome": "ok", "mobile": MASKED, "user_id": account.pk}),
        (
            "WARNING",
            "password_login",
            {"mobile": MASKED, **refused},
        ),
        ("WARNING", "password_login", refused),
    ]


def test_sms_are_recorded(phone, client, settings, records):
    client.get(f"/sms_codes/{MOBILE}/", {"text": "abcd", "image_code_id": "00000000-0000-4000-8000-000000000000"})
    phone.ask_for_code()
    phone.ask_for_code()
    settings.SMS_BACKEND = f"{__name__}.fail_to_send"
    phone.ask_for_code("13900000000")
    assert records() == [
        ("WARNING", "sms", {"outcome": "refused", "mobile": MASKED, "reason": "invalid", "field": "text"}),
        ("INFO", "sms", {"outcome": "ok", "mobile": MASKED}),
        ("WARNING", "limit", {"outcome": "refused", "limit": "sms_cool_down"}),
        ("WARNING", "sms", {"outcome": "refused", "mobile": MASKED, "reason": "throttled"}),
        ("WARNING", "sms", {"outcome": "refused", "mobile": "139****0000", "reason": "sms_unavailable"}),
    ]


def fail_to_send(mobile, code, minutes):
    raise sms.SMSError


def test_ceiling_of_sms_is_an_alarm(phone, settings, records):
    settings.SMS_HOURLY_CEILING = 0
    phone.ask_for_code()
    assert records() == [
        ("WARNING", "limit", {"outcome": "refused", "limit": "sms_ceiling"}),
        ("ERROR", "sms_ceiling", {"outcome": "alarm", "limit": "sms_ceiling"}),
        ("WARNING", "sms", {"outcome": "refused", "mobile": MASKED, "reason": "throttled"}),
    ]


def test_registration_reset_and_change_are_recorded(client, clock, phone, users, records):
    form = {"username": "xiaoming", "password": PASSWORD, "password2": PASSWORD, "mobile": MOBILE, "allow": True}
    form |= {"sms_code": phone.receive_code()}
    records()
    token = post(client, "/users/", form).json()["token"]
    user = users.get()
    post(client, "/users/", form)
    headers = {"Authorization": f"JWT {token}"}
    for old_password in ("another horse", PASSWORD):
        passwords = {"old_password": old_password, "password": "a second horse"}
        client.put("/user/password/", passwords, content_type="application/json", headers=headers)
    clock.shift(60)
    reset = {"mobile": MOBILE, "password": "a third horse", "sms_code": phone.receive_code()}
    post(client, "/password/", reset)
    post(client, "/password/", reset)
    mine = {"mobile": MASKED, "user_id": user.pk}
    wrong = {"outcome": "refused", "reason": "invalid"}
    assert [record for record in records() if record[1] != "sms"] == [
        ("INFO", "registration", {"outcome": "ok", **mine}),
        ("WARNING", "registration", {**wrong, "field": "sms_code", "mobile": MASKED}),
        (
            "WARNING",
            "password_change",
            {**wrong, "field": "old_password", "user_id": user.pk},
        ),
        ("INFO", "password_change", {"outcome": "ok", "user_id": user.pk}),
        ("INFO", "password_reset", {"outcome": "ok", **mine}),
        (
            "WARNING",
            "password_reset",
            {**wrong, "field": "sms_code", "mobile": MASKED},
        ),
    ]


@pytest.fixture
def users(django_user_model, db):
    return django_user_model.objects


def test_a_limit_is_recorded_by_its_name(client, account, records):
    for _ in range(5):
        log_in(client, password="another horse")
    records()
    log_in(client)
    assert records() == [
        ("WARNING", "limit", {"outcome": "refused", "limit": "password"}),
        ("WARNING", "password_login", {"outcome": "refused", "mobile": MASKED, "reason": "throttled"}),
    ]


def test_a_shop_may_listen(client, account, caplog):
    heard = []

    def hear(request, event, fields, **kwargs):
        heard.append((request.path, event, fields["outcome"], fields["user_id"]))
        raise RuntimeError("a listener that fails keeps nobody out")

    audited.connect(hear)
    try:
        assert "token" in log_in(client)
    finally:
        audited.disconnect(hear)
    assert heard == [("/authorizations/", "password_login", "ok", account.pk)]


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("a-proxys_ID-1", True),
        ("x" * 64, True),
        ("short", False),
        ("x" * 65, False),
        ("line\nbreak", False),
    ],
)
def test_all_records_of_a_request_have_one_id_and_a_proxys_is_kept(rf, settings, caplog, given, kept):
    settings.REST_FRAMEWORK = {**settings.REST_FRAMEWORK, "NUM_PROXIES": 1}
    request = rf.get("/", headers={"X-Request-Id": given})
    audit(request, "one", "ok")
    audit(request, "two", "alarm")
    first, second = (record.request_id for record in caplog.records)
    assert first == second == request.META["REQUEST_ID"]
    assert (first == given) is kept
    assert re.fullmatch("[A-Za-z0-9_-]{8,64}", first)


def test_an_id_is_no_strangers_to_give(rf, caplog):
    audit(rf.get("/", headers={"X-Request-Id": "bind-of-user-1"}), "one", "ok")
    assert caplog.records[0].request_id != "bind-of-user-1"


def test_no_log_holds_a_secret_or_a_whole_number(clock, account, users, tmp_path, caplog):
    caplog.set_level(logging.DEBUG)
    client = Client()
    phone = Phone(tmp_path, client)
    secrets = {PASSWORD, "another horse", "a second horse", "a third horse"}
    token = log_in(client)["token"]
    log_in(client, password="another horse")
    secrets |= {token, phone.receive_code(), phone.last_line("captcha.log")["text"]}
    clock.shift(60)
    reset = {"mobile": MOBILE, "password": "a second horse", "sms_code": phone.receive_code()}
    secrets |= {reset["sms_code"], phone.last_line("captcha.log")["text"]}
    token = post(client, "/password/", reset).json()["token"]
    headers = {"Authorization": f"JWT {token}"}
    passwords = {"old_password": "a second horse", "password": "a third horse"}
    secrets.add(token)
    client.put("/user/password/", passwords, content_type="application/json", headers=headers)
    post(client, "/users/", reset)
    for _ in range(6):
        log_in(client, password=PASSWORD)
    told = "\n".join(f"{record.getMessage()} {vars(record)}" for record in caplog.records)
    assert told
    assert [secret for secret in {*secrets, MOBILE} if secret in told] == []

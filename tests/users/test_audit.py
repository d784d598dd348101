"""The audit events of the shop's accounts: the record of each call, and that no secret is recorded."""

import logging
import re

import pytest

from apps.users import sms
from tests.conftest import MOBILE, PASSWORD
from tests.tools.requirements import requirement
from tests.users.helpers import OTHER_MOBILE, log_in, post

MASKED = "138****5678"
STANDARD = set(vars(logging.makeLogRecord({}))) | {"message", "asctime"}


@pytest.fixture
def events(caplog):
    """A function that returns the events since its last call, without what differs at each run."""
    caplog.set_level(logging.DEBUG)

    def read():
        found = []
        for record in [record for record in caplog.records if record.name == "meiduo.audit"]:
            fields = {name: value for name, value in vars(record).items() if name not in STANDARD}
            assert re.fullmatch("[0-9a-f]{32}", fields.pop("request_id"))
            assert fields.pop("address") == "127.0.0.1"
            assert fields.pop("duration_ms", 0) >= 0  # of steps; others belong to the step with the same request_id
            found.append((record.levelname, record.getMessage(), fields))
        caplog.clear()
        return found

    return read


def ok(event, **fields):
    return ("INFO", event, {"outcome": "ok", **fields})


def refused(event, reason=None, **fields):
    return ("WARNING", event, {"outcome": "refused", **({"reason": reason} if reason else {}), **fields})


@requirement("5.8", "10.4")
def test_logins_are_recorded(client, account, events):
    log_in(client)
    for name in ("nobody", "98765432109", *[MOBILE] * 6):  # the digits may be a password in the wrong field
        log_in(client, name, "another horse")
    wrong = refused("password_login", "invalid", field="non_field_errors", mobile=MASKED)
    assert events() == [
        ok("password_login", mobile=MASKED, user_id=account.pk),
        *[refused("password_login", "invalid", field="non_field_errors")] * 2,
        *[wrong] * 5,
        refused("limit", limit="password"),
        refused("password_login", "throttled", mobile=MASKED),
    ]


def fail_to_send(mobile, code, minutes):
    raise sms.SMSError


@requirement("10.4")
def test_sms_are_recorded(phone, client, settings, events):
    client.get(f"/sms_codes/{MOBILE}/", {"text": "abcd", "image_code_id": "00000000-0000-4000-8000-000000000000"})
    phone.ask_for_code()
    phone.ask_for_code()
    settings.SMS_BACKEND = f"{__name__}.fail_to_send"
    phone.ask_for_code(OTHER_MOBILE)
    assert events() == [
        refused("sms", "invalid", field="text", mobile=MASKED),
        ok("sms", mobile=MASKED),
        refused("limit", limit="sms_cool_down"),
        refused("sms", "throttled", mobile=MASKED),
        refused("sms", "sms_unavailable", mobile="139****0000"),
    ]


@requirement("10.2", "10.4")
def test_registration_change_and_reset_are_recorded_without_secrets(
    client, clock, phone, registration, users, events, caplog
):
    events()
    token = post(client, "/users/", registration).json()["token"]
    user = users.get()
    post(client, "/users/", registration)
    for old_password in ("another horse", PASSWORD):
        passwords = {"old_password": old_password, "password": "a second horse"}
        headers = {"Authorization": f"JWT {token}"}
        client.put("/user/password/", passwords, content_type="application/json", headers=headers)
    clock.shift(60)
    reset = {"mobile": MOBILE, "password": "a third horse", "sms_code": phone.receive_code()}
    new_token = post(client, "/password/", reset).json()["token"]
    post(client, "/password/", reset)
    log = "\n".join(f"{record.getMessage()} {vars(record)}" for record in caplog.records)
    assert [event for event in events() if event[1] != "sms"] == [
        ok("registration", mobile=MASKED, user_id=user.pk),
        refused("registration", "invalid", field="sms_code", mobile=MASKED),
        refused("password_change", "invalid", field="old_password", user_id=user.pk),
        ok("password_change", user_id=user.pk),
        ok("password_reset", mobile=MASKED, user_id=user.pk),
        refused("password_reset", "invalid", field="sms_code", mobile=MASKED),
    ]
    passwords = {PASSWORD, "another horse", "a second horse", "a third horse"}
    codes = {registration["sms_code"], reset["sms_code"], phone.last_line("captcha.log")["text"]}
    assert [secret for secret in {MOBILE, token, new_token, *passwords, *codes} if secret in log] == []

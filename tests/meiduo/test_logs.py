"""What the shop writes down, and what it must not."""

import io
import json
import logging
from datetime import datetime, timezone

import pytest
import time_machine
from django.contrib.auth.signals import user_logged_in
from django.core import mail
from django.test import Client
from django.utils.log import AdminEmailHandler

from meiduo.logs import WithoutSecrets, clean
from tests.conftest import (
    MOBILE,
    PASSWORD,
    Browser,
    Phone,
    SecretLogged,
    refuse_secrets,
    refusing_secrets_in_logs,
    shop_handlers,
)
from tests.tools import processes

STATE = "Zk3vQ9xW2mB7nL5pR8tY4uI6oA1sD0fG-hJcVbNqEwX"
JWT = f"eyJhbGciOiJIUzI1NiJ9.eyJ1c2VyX2lkIjoxfQ.{STATE}"
SIGNED = f"eyJmbG93IjoiYSJ9.aSVXrg.{STATE}"
DJANGO_SIGNED = f"InNlY3JldCI:1vNk3B:{STATE}"
QQ_CODE = "9A5F3C0E7B1D4A6688FFEEDDCCBBAA00"
LINES = "a\r\nb\x1b[31mc\u2028d\x7f"


# Cleaning -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("GET /oauth/qq/users/?code=a&state=b HTTP/1.1", "GET /oauth/qq/users/ HTTP/1.1"),
        ("/sms_codes/13812345678/", "/sms_codes/138****5678/"),
        ("of user13812345678, +8613912345678.", "of user138****5678, +86139****5678."),
        ("/sms_codes/008613812345678/", "/sms_codes/0086138****5678/"),
        ("/sms_codes/138-1234-5678/, +86-138-1234-5678.", "/sms_codes/138****5678/, +86-138****5678."),
        ("number 813812345678 is none", None),
        ("/image_codes/f0a1b138-4567-8901-a2b3-0123456789ab/", None),
        ("/image_codes/0123a4b5-a138-4567-8901a2b3c4d5/", None),
        ("took 153 2048 1024, 138-12345678", None),
        (f"Authorization: JWT {JWT}", "Authorization: JWT ***"),
        ("unsigned eyJhbGciOiJub25lIn0.eyJ1c2VyX2lkIjoxfQ.", "unsigned ***"),
        (f"bind token {SIGNED} refused", "bind token *** refused"),
        (f"compressed .{SIGNED}", "compressed .***"),
        (f"qq_flow_0123456789ab={SIGNED}; Path=/", "qq_flow_0123456789ab=***; Path=/"),
        (f"reset link {DJANGO_SIGNED}", "reset link ***"),
        (f"state '{STATE}'", "state '***'"),
        (f"QQ's code {QQ_CODE}", "QQ's code ***"),
        ("request 0123456789abcdef0123456789abcdef", "request 0123456789abcdef0123456789abcdef"),
        ("in test_a_cache_that_does_not_count_is_an_outage_and_no_free_try", None),
        ("/usr/lib/python3/dist-packages/rest_framework/authentication.py", None),
    ],
)
def test_what_lets_somebody_in_is_taken_out_of_a_text(text, cleaned):
    assert clean(text) == (text if cleaned is None else cleaned)


@pytest.fixture
def written():
    """Log through the shop's own handlers, their filters and formatters. Returns what is in their streams."""

    def written(name, *arguments, level=logging.WARNING, **options):
        stream = io.StringIO()
        streams = [(handler, handler.setStream(stream)) for handler in shop_handlers()]
        try:
            logging.getLogger(name).log(level, *arguments, **options)
        finally:
            for handler, old in streams:
                handler.setStream(old)
        return stream.getvalue()

    return written


def test_a_message_is_cleaned_whole_and_not_only_its_arguments(written):
    line = written("apps", f"of {MOBILE}: %s and %s", {"code": QQ_CODE}, ValueError(STATE))
    assert line.endswith("WARNING apps: of 138****5678: {'code': '***'} and ***\n")


def test_a_message_cannot_pass_for_two(written):
    line = written("apps", "a %s", LINES)
    assert line.endswith(" a a\\r\\nb\\x1b[31mc\\u2028d\\x7f\n")


class Speechless:
    def __str__(self):
        raise AttributeError("half made")


@pytest.mark.parametrize(
    "arguments", [("%d", MOBILE), ("%s %s", "a"), ("%(name)s", {"a": 1}), ("%(name)s", "a"), ("%s", Speechless())]
)
def test_a_message_that_cannot_be_written_out_is_no_error_of_whoever_logs(written, arguments):
    assert f" some.library: {arguments[0]} (cannot be written out: " in written("some.library", *arguments)
    assert written("some.library", Speechless()).endswith("Speechless'> (cannot be written out: AttributeError)\n")


def test_a_test_fails_in_which_a_message_cannot_be_written_out():
    with pytest.raises(SecretLogged), refusing_secrets_in_logs():
        logging.getLogger("apps").warning("%d", "three")


def test_a_long_message_is_cut(written):
    for long in ("a", "eyJ", "?", "1", "F ", "a."):
        assert len(written("apps", long * 100_000)) < 2100


def test_a_traceback_is_cleaned_and_no_line_of_it_can_pass_for_a_record(written):
    try:
        raise ValueError(f"{JWT}\n2026-01-01 00:00:00,000 INFO apps: forged {MOBILE}\x1b[31m")
    except ValueError:
        lines = written("apps", "failed", exc_info=True).splitlines()
    assert lines[1] == "    Traceback (most recent call last):"
    assert lines[-2:] == ["    ValueError: ***", "    2026-01-01 00:00:00,000 INFO apps: forged 138****5678\\x1b[31m"]
    assert all(line.startswith("    ") for line in lines[1:])


# Audit events ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("level", [logging.INFO, logging.WARNING, logging.ERROR])
def test_an_audit_event_is_one_line_of_json_with_its_time_in_utc(written, level):
    fields = {
        "request_id": "0" * 32,
        "address": "2001:db8::1",
        "outcome": "ok",
        "mobile": "138****5678",
        "user_id": 7,
    }
    with time_machine.travel(datetime(2026, 1, 2, 3, 4, 5, 678000, tzinfo=timezone.utc), tick=False):
        line = written("meiduo.audit", "bind", level=level, extra=fields)
    assert line.count("\n") == 1
    time = "2026-01-02T03:04:05.678000+00:00"
    assert json.loads(line) == {"level": logging.getLevelName(level), "event": "bind", "time": time, **fields}


def test_what_a_stranger_sends_stays_one_short_record(written):
    line = written("meiduo.audit", "limit", extra={"limit": LINES, "reason": "x" * 10_000})
    assert line.splitlines() == [line.rstrip("\n")]
    assert line.isascii()
    event = json.loads(line)
    assert event["limit"] == "a\\r\\nb\\x1b[31mc\\u2028d\\x7f"
    assert event["reason"] == "x" * 200


def test_an_audit_event_is_cleaned_though_nothing_in_it_should_need_it(written):
    event = json.loads(written("meiduo.audit", "login", extra={"reason": f"{JWT} of {MOBILE}", "openid": QQ_CODE}))
    assert (event["reason"], event["openid"]) == ("*** of 138****5678", "***")


def test_a_request_id_is_written_as_it_is_whatever_its_digits_look_like(written):
    request_id = f"41e{MOBILE}a40258d7c6b5a4f3e2"
    assert json.loads(written("meiduo.audit", "login", extra={"request_id": request_id}))["request_id"] == request_id


# No secret in any log -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("secret", [MOBILE, PASSWORD, JWT, SIGNED, DJANGO_SIGNED, STATE, QQ_CODE])
def test_a_secret_in_a_log_is_seen(secret):
    with pytest.raises(SecretLogged):
        refuse_secrets(f"a line\nWARNING apps: {secret}\n")


@pytest.mark.parametrize("name", ["SECRET_KEY", "JWT_SIGNING_KEY", "QQ_CLIENT_SECRET"])
def test_a_key_in_a_log_is_seen(settings, name):
    with pytest.raises(SecretLogged):
        refuse_secrets(f"WARNING apps: {getattr(settings, name)}")


@pytest.mark.parametrize("name", ["apps.users", "django.request", "meiduo.audit", "django.server", "anyone"])
def test_a_test_fails_whose_logs_hold_the_password_be_it_at_debug_level(name):
    with pytest.raises(SecretLogged), refusing_secrets_in_logs():
        logging.getLogger(name).debug("tried %s", PASSWORD)


def test_a_test_fails_whose_logs_hold_an_sms_code_or_the_answer_to_an_image(phone, db):
    sms_code = phone.receive_code()
    for code in (sms_code, phone.last_line("captcha.log")["text"]):
        with pytest.raises(SecretLogged), refusing_secrets_in_logs():
            logging.getLogger("apps").info("sent %s", code)


def test_a_test_passes_whose_logs_hold_nothing():
    with refusing_secrets_in_logs():
        logging.getLogger("apps").debug("nothing")


# Error reports --------------------------------------------------------------------------------------------------------


@pytest.fixture
def reports(settings):
    """What reaches the operator of unhandled errors: Django's mails, with all they can hold, and the log."""
    settings.ADMINS = [("Operator", "operator@shop.test")]
    settings.CACHE_URL = "redis://:CANARY@cache.test"  # a setting whose name does not say that it holds a password
    handler, stream = AdminEmailHandler(include_html=True), io.StringIO()
    handler.addFilter(WithoutSecrets())
    logging.getLogger("django.request").addHandler(handler)
    streams = [(entry, entry.setStream(stream)) for entry in shop_handlers()]

    def reports():
        (message,) = mail.outbox
        ((html, _),) = message.alternatives
        return [message.subject, message.body, html, stream.getvalue()]

    yield reports
    logging.getLogger("django.request").removeHandler(handler)
    for entry, old in streams:
        entry.setStream(old)


class Broken(Exception):
    pass


def broken_payload(user, request):
    anything = [PASSWORD, STATE]  # a report shows the variables on the way
    raise Broken(f"with {MOBILE} and {JWT}", len(anything))


def broken_sms(mobile, code, minutes):
    raise Broken(mobile)


def check(reports, *secrets):
    subject, *texts = reports
    for text in (subject, *texts):
        refuse_secrets(text)
        assert not [secret for secret in ("CANARY", *secrets) if secret in text]
    assert all("Broken" in text and "test_logs.py" in text for text in texts)


def test_an_error_while_logging_in_by_qq_is_reported_without_secrets(settings, qq, binding, reports):
    settings.QQ_LOGIN_PAYLOAD = f"{__name__}.broken_payload"
    browser = Browser(qq, raise_request_exception=False)
    code = browser.arrive()
    assert browser.collect(code).status_code == 500
    check(reports(), code, *(morsel.value for morsel in browser.client.cookies.values()))


def test_an_error_while_binding_is_reported_without_secrets(settings, qq, db, phone, reports):
    settings.QQ_LOGIN_PAYLOAD = f"{__name__}.broken_payload"
    browser = Browser(qq, raise_request_exception=False)
    token, sms_code = browser.get_bind_token(), phone.receive_code()
    form = {"mobile": MOBILE, "password": PASSWORD, "sms_code": sms_code, "access_token": token}
    assert browser.bind(form).status_code == 500
    check(reports(), token, sms_code, *(morsel.value for morsel in browser.client.cookies.values()))


def test_an_error_while_logging_in_by_password_is_reported_without_secrets(account, reports):
    def break_down(request, **kwargs):
        broken_payload(None, request)

    user_logged_in.connect(break_down)
    try:
        client = Client(raise_request_exception=False)
        form = {"username": MOBILE, "password": PASSWORD}
        response = client.post(
            "/authorizations/?code=CANARY",
            form,
            content_type="application/json",
            **{"HTTP_AUTHORIZATION": f"JWT {JWT}"},
        )
    finally:
        user_logged_in.disconnect(break_down)
    assert response.status_code == 500
    check(reports())


def test_an_error_while_sending_an_sms_is_reported_without_the_number(settings, db, tmp_path, reports):
    settings.SMS_BACKEND = f"{__name__}.broken_sms"
    assert Phone(tmp_path, Client(raise_request_exception=False)).ask_for_code().status_code == 500
    check(reports())
    assert reports()[0].endswith("/sms_codes/138****5678/")


# Gunicorn's -----------------------------------------------------------------------------------------------------------


def test_neither_query_nor_number_nor_a_forged_line_is_in_the_access_log(tmp_path):
    settings = {
        "DATABASE_URL": "",
        "CACHE_URL": "",
        "GUNICORN_CMD_ARGS": "--config=python:meiduo.server --access-logfile=-",
    }
    with processes.shop(tmp_path, **settings) as shop:
        visitor = processes.Visitor()
        visitor.get(f"{shop.url}/sms_codes/{MOBILE}/?text=CANARY", Referer=f"{shop.url}/?code=CANARY")
        visitor.get(f"{shop.url}/oauth/qq/users/?code=CANARY%0a{STATE}", Authorization=f"JWT {JWT}")
        visitor.get(f"{shop.url}/usernames/a%0d%0a%1b[31m%20forged%20%22/count/")
    (log,) = (path.read_text() for path in tmp_path.glob("shop-*.log"))
    refuse_secrets(log)
    assert "CANARY" not in log
    assert '"GET /sms_codes/138****5678/" 400 ' in log
    assert '"GET /oauth/qq/users/" 400 ' in log
    assert '"GET /usernames/a\\r\\n\\x1b[31m forged \\"/count/" 200 ' in log

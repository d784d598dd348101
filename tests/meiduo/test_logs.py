"""Logs and error reports hold enough to investigate, and no secret."""

import io
import json
import logging
import socket
from datetime import datetime
from zoneinfo import ZoneInfo

import pytest
import time_machine
from django.contrib.auth.signals import user_logged_in
from django.core import mail
from django.utils.log import AdminEmailHandler

from meiduo.logs import make_formatter
from tests.conftest import MOBILE, PASSWORD, SecretLogged, refuse_secrets, refusing_secrets_in_logs, shop_handlers
from tests.tools.requirements import requirement

STATE = "Zk3vQ9xW2mB7nL5pR8tY4uI6oA1sD0fG-hJcVbNqEwX"
JWT = f"eyJhbGciOiJIUzI1NiJ9.eyJ1c2VyX2lkIjoxfQ.{STATE}"
SIGNED = f"eyJmbG93IjoiYSJ9.aSVXrg.{STATE}"
DJANGO_SIGNED = f"InNlY3JldCI:1vNk3B:{STATE}"
QQ_CODE = "9A5F3C0E7B1D4A6688FFEEDDCCBBAA00"
HARMLESS = ["id 813812345678", "took 153 2048 1024, 138-12345678", "/image_codes/0123a4b5-a138-4567-8901a2b3c4d5/"]
HARMLESS += ["request 0123456789abcdef0123456789abcdef", "in test_code_serves_one_mobile_in_the_attempt_that_used_it"]
END = f" host={socket.gethostname()}\n"  # of a line of text
LINES, ESCAPED_LINES = "a\r\nb\x1b[31mc\u2028d\x7f", "a\\r\\nb\\x1b[31mc\\u2028d\\x7f"


@pytest.fixture
def log_stream(monkeypatch):
    """The stream that the shop's own handlers write to."""
    stream = io.StringIO()
    for handler in shop_handlers():
        monkeypatch.setattr(handler, "stream", stream)
    return stream


@pytest.fixture
def written(log_stream):
    """Log through the shop's own handlers, filters and formatters; return the text they write."""

    def written(name, *arguments, level=logging.WARNING, **options):
        start = log_stream.tell()
        logging.getLogger(name).log(level, *arguments, **options)
        return log_stream.getvalue()[start:]

    return written


@pytest.fixture
def as_json(monkeypatch):
    """A function: from now on the shop's own handlers write as with LOG_FORMAT=json."""

    def as_json():
        monkeypatch.setenv("LOG_FORMAT", "json")
        for handler in shop_handlers():
            monkeypatch.setattr(handler, "formatter", make_formatter())

    return as_json


@requirement("10.3")
@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("GET /oauth/qq/users/?code=a&state=b HTTP/1.1", "GET /oauth/qq/users/ HTTP/1.1"),
        ("of user13812345678, +8613912345678.", "of user138****5678, +86139****5678."),
        ("/sms_codes/008613812345678/", "/sms_codes/0086138****5678/"),
        ("/sms_codes/138-1234-5678/, +86-138-1234-5678.", "/sms_codes/138****5678/, +86-138****5678."),
        (f"Authorization: JWT {JWT}", "Authorization: JWT ***"),
        ("unsigned eyJhbGciOiJub25lIn0.eyJ1c2VyX2lkIjoxfQ.", "unsigned ***"),
        (f"bind token {SIGNED} refused", "bind token *** refused"),
        (f"compressed .{SIGNED}", "compressed .***"),
        (f"qq_flow_0123456789ab={SIGNED}; Path=/", "qq_flow_0123456789ab=***; Path=/"),
        (f"reset link {DJANGO_SIGNED}", "reset link ***"),
        (f"state '{STATE}'", "state '***'"),
        (f"QQ's code {QQ_CODE}", "QQ's code ***"),
        ((f"of {MOBILE}: %s and %s", {"code": QQ_CODE}, ValueError(STATE)), "of 138****5678: {'code': '***'} and ***"),
        (("a %s", LINES), f"a {ESCAPED_LINES}"),
        *((text, text) for text in HARMLESS),
    ],
)
def test_message_is_one_line_without_secrets_and_whole_mobiles(written, text, cleaned):
    arguments = text if isinstance(text, tuple) else (text,)
    assert written("apps", *arguments).endswith(f"WARNING apps: {cleaned}{END}")


class Speechless:
    def __str__(self):
        raise AttributeError("half made")


@pytest.mark.parametrize(
    "arguments", [("%d", MOBILE), ("%s %s", "a"), ("%(name)s", {"a": 1}), ("%(name)s", "a"), ("%s", Speechless())]
)
def test_message_that_cannot_be_formatted_is_logged_without_an_error(written, arguments):
    assert f" some.library: {arguments[0]} (cannot be written out: " in written("some.library", *arguments)
    assert written("some.library", Speechless()).endswith(f"Speechless'> (cannot be written out: AttributeError){END}")


def test_long_message_is_cut(written):
    assert all(len(written("apps", text * 100_000)) < 2100 for text in ("a", "eyJ", "?", "1", "F ", "a."))


@requirement("10.3")
def test_traceback_is_cleaned_and_indented_or_one_field(written, as_json):
    try:
        raise ValueError(f"{JWT}\n2026-01-01 00:00:00,000 INFO apps: forged {MOBILE}\x1b[31m")
    except ValueError:
        lines = written("apps", "failed", exc_info=True).splitlines()
        as_json()
        line = written("apps", "failed", exc_info=True)
    assert lines[1] == "    Traceback (most recent call last):"
    assert lines[-2:] == ["    ValueError: ***", "    2026-01-01 00:00:00,000 INFO apps: forged 138****5678\\x1b[31m"]
    assert all(line.startswith("    ") for line in lines[1:])
    in_json = json.loads(line)["traceback"].splitlines()
    assert [in_json[0], *in_json[-2:]] == [line.removeprefix("    ") for line in (lines[1], *lines[-2:])]
    assert line.count("\n") == 1


def test_long_traceback_keeps_its_ends_and_a_stack_is_one(written, as_json):
    as_json()
    try:
        raise ValueError("a" * 100_000 + "the end")
    except ValueError:
        line = written("apps", "failed", exc_info=True)
    assert len(line) < 16 * 1024
    assert json.loads(line)["traceback"].startswith("Traceback (most recent call last):\n")
    assert json.loads(line)["traceback"].endswith("the end")
    assert json.loads(written("apps", "here", stack_info=True))["traceback"].startswith("Stack (most recent call last)")


NOW = datetime(2026, 1, 2, 11, 4, 5, 250000, tzinfo=ZoneInfo("Asia/Shanghai"))  # time_machine makes it the local zone
FIELDS = {  # as logged, and as written; the first two contain the digits of a mobile by chance
    "request_id": (f"41e{MOBILE}a40258d7c6b5a4f3e2", f"41e{MOBILE}a40258d7c6b5a4f3e2"),
    "flow": (f"{MOBILE}a", f"{MOBILE}a"),
    "address": ("2001:db8::1", "2001:db8::1"),
    "duration_ms": (1.5, 1.5),
    "limit": (LINES, ESCAPED_LINES),
    "reason": ("x" * 10_000, "x" * 200),
    "openid": (QQ_CODE, "***"),
    "page": (f"{JWT} of {MOBILE}", "*** of 138****5678"),
    "hint": ('"a"=b', '"a"=b'),
    "form": ({"code": QQ_CODE, "mobile": MOBILE}, "{'code': '***', 'mobile': '138****5678'}"),
}
AS_TEXT = FIELDS | {"page": ("", '"*** of 138****5678"')}
AS_TEXT |= {"hint": ("", r'"\"a\"=b"'), "form": ("", json.dumps(FIELDS["form"][1]))}


@requirement("10.3", "10.5")
@pytest.mark.parametrize("level", ["INFO", "WARNING", "ERROR"])
def test_audit_event_is_one_clean_line_in_utc_and_keeps_its_ids(written, as_json, level):
    fields = {name: logged for name, (logged, _) in FIELDS.items()}

    def write():
        return written("meiduo.audit", "bind", level=getattr(logging, level), extra={**fields, "field": None})

    with time_machine.travel(NOW, tick=False):
        text = write()
        as_json()
        line = write()
    written_fields = " ".join(f"{name}={value}" for name, (_, value) in AS_TEXT.items())
    assert text == f"2026-01-02T03:04:05.250Z {level} meiduo.audit: bind {written_fields}{END}"
    assert (line.splitlines(), line.isascii()) == ([line.rstrip("\n")], True)
    head = {"time": "2026-01-02T03:04:05.250Z", "level": level, "logger": "meiduo.audit", "message": "bind"}
    named = {name: value for name, (_, value) in FIELDS.items()}
    assert json.loads(line) == {**head, **named, "host": socket.gethostname()}


def test_line_about_a_request_has_its_id_and_nothing_else_of_it(rf, written, as_json):
    request = rf.get("/oauth/qq/users/?code=CANARY")
    extra = {"request": request, "status_code": 404}
    text = written("django.request", "Not Found: %s", request.path, extra=extra)
    request_id = request.META["qq_login.request_id"]
    assert text.endswith(f"Not Found: /oauth/qq/users/ status_code=404 request_id={request_id}{END}")
    as_json()
    line = json.loads(written("django.request", "Not Found: %s", request.path, extra=extra))
    assert (line["request_id"], line["status_code"]) == (request_id, 404)
    assert "request" not in line
    connection = {"request": socket.socket(), "server_time": "02/Jan/2026 11:04:05"}  # of runserver, in local time
    with connection["request"]:
        line = json.loads(written("django.server", "a", extra=connection))
    assert line.keys() == {"time", "level", "logger", "message", "host"}


@requirement("10.2")
def test_each_kind_of_secret_is_found(settings, phone, db):
    secrets = [getattr(settings, name) for name in ("SECRET_KEY", "JWT_SIGNING_KEY", "QQ_CLIENT_SECRET")]
    secrets += [phone.receive_code(), phone.last_line("captcha.log")["text"], MOBILE, PASSWORD]
    for secret in (*secrets, JWT, SIGNED, DJANGO_SIGNED, STATE, QQ_CODE):
        with pytest.raises(SecretLogged):
            refuse_secrets(f"a line\nWARNING apps: {secret}\n")


@requirement("10.2")
@pytest.mark.parametrize("name", ["apps.users", "django.request", "meiduo.audit", "django.server", "any.library"])
def test_logged_secret_or_malformed_message_fails_a_test(name):
    with refusing_secrets_in_logs():
        logging.getLogger(name).debug("nothing")
    for logger, message in ((name, ("tried %s", PASSWORD)), ("apps", ("%d", "three"))):
        with pytest.raises(SecretLogged), refusing_secrets_in_logs():
            logging.getLogger(logger).debug(*message)


@pytest.fixture
def reports(settings, admins, log_stream):
    """Return the reports of an unhandled error: the subject and both bodies of Django's mail, and the log."""
    settings.CACHE_URL = "redis://:CANARY@cache.test"  # Django does not know that this setting holds a password
    handler = AdminEmailHandler(include_html=True)
    handler.filters = [each for entry in shop_handlers() for each in entry.filters]
    logging.getLogger("django.request").addHandler(handler)

    def reports():
        (message,) = mail.outbox
        ((html, _),) = message.alternatives
        return [message.subject, message.body, html, log_stream.getvalue()]

    yield reports
    logging.getLogger("django.request").removeHandler(handler)


def broken(*args, **kwargs):
    """A payload function, a receiver and an SMS back end that fail."""
    variables = [PASSWORD, STATE]  # a report shows the variables of each frame
    raise LookupError(f"with {MOBILE} and {JWT}", len(variables))


def log_in_by_qq(browser, phone):
    code = browser.arrive()
    return browser.redeem_code(code), [code]


def bind(browser, phone):
    token, sms_code = browser.get_bind_token("小红"), phone.receive_code()
    form = {"mobile": MOBILE, "password": PASSWORD, "sms_code": sms_code, "access_token": token}
    return browser.bind(form), [token, sms_code]


def log_in_by_password(browser, phone):
    form, headers = {"username": MOBILE, "password": PASSWORD}, {"Authorization": f"JWT {JWT}"}
    return browser.client.post("/authorizations/?code=CANARY", form, "application/json", headers=headers), []


def send_sms(browser, phone):
    return phone.ask_for_code(), []


@requirement("4.5", "10.2")
@pytest.mark.parametrize("call", [log_in_by_qq, bind, log_in_by_password, send_sms])
@pytest.mark.parametrize("log_format", ["text", "json"])
def test_error_report_names_the_error_and_holds_no_secret(
    settings, connect, browser, phone, binding, reports, as_json, call, log_format
):
    if log_format == "json":
        as_json()
    settings.QQ_LOGIN_PAYLOAD = f"{__name__}.broken"
    if call is log_in_by_password:
        connect(broken, user_logged_in)
    if call is send_sms:
        settings.SMS_BACKEND = f"{__name__}.broken"
    browser.client.raise_request_exception = phone.client.raise_request_exception = False
    response, secrets = call(browser, phone)
    assert response.status_code == 500
    subject, *texts = reports()
    secrets += ["CANARY", *(morsel.value for morsel in browser.client.cookies.values())]
    refuse_secrets("\n".join((subject, *texts)))
    assert not [secret for secret in secrets for text in (subject, *texts) if secret in text]
    assert all("LookupError" in text and "test_logs.py" in text for text in texts)
    assert subject.endswith(response.request["PATH_INFO"].replace(MOBILE, "138****5678"))

"""Traces: the spans of logins that succeed and fail are useful, and contain no secret."""

import json
import re

import pytest
from opentelemetry.instrumentation.django import DjangoInstrumentor
from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode

from apps.oauth.contrib.opentelemetry import RedactingExporter, add_request_id
from tests.conftest import MOBILE, PAGE, PASSWORD, Browser, query_of, refuse_secrets
from tests.tools import remote_users
from tests.tools.requirements import requirement

CANARY = "CANARY"
CONTEXT = SpanContext(trace_id=1, span_id=2, is_remote=False)


class Trace:
    """The spans of a test, as they were made and as they are sent."""

    def __init__(self):
        self.raw, self.sent = InMemorySpanExporter(), InMemorySpanExporter()
        self.provider = TracerProvider()
        for exporter in (self.raw, RedactingExporter(self.sent)):
            self.provider.add_span_processor(SimpleSpanProcessor(exporter))


def text_of(spans):
    """Return all that spans say, without their ids: the digits of an id may look like a mobile number by chance."""
    return "\n".join(
        json.dumps([span.name, span.status.description, describe(span), *map(describe, (*span.events, *span.links))])
        for span in spans
    )


def describe(part):
    return {name: str(value) for name, value in (part.attributes or {}).items()}


def send(attributes):
    """Return the attributes that are sent of a span with these."""
    trace = Trace()
    trace.provider.get_tracer("test").start_span("SELECT", attributes=attributes).end()
    (span,) = trace.sent.get_finished_spans()
    return dict(span.attributes)


@pytest.fixture
def trace(as_documented):
    trace, instrumentor = Trace(), DjangoInstrumentor()
    instrumentor.instrument(
        tracer_provider=trace.provider, meter_provider=NoOpMeterProvider(), request_hook=add_request_id
    )
    yield trace
    instrumentor.uninstrument()


@pytest.fixture
def browser(trace, qq, db):
    return Browser(qq, raise_request_exception=False)


def broken(user, request):
    try:
        raise LookupError(f"no points for {MOBILE}")
    except LookupError as exc:
        raise ValueError(f"failed with {request.COOKIES}") from exc


@requirement("15.17")
@pytest.mark.parametrize("direct", [False, True])
def test_spans_of_a_whole_login_and_of_failures_contain_no_secret(trace, browser, phone, shop, qq, direct):
    shop.QQ_REDIRECT_URI = PAGE if direct else shop.QQ_REDIRECT_URI
    address = browser.sign_in()
    sent = query_of(address if direct else browser.get(address)["Location"])
    bind_token = browser.get("/oauth/qq/users/", sent).json()["access_token"]
    form = {"mobile": MOBILE, "password": PASSWORD, "access_token": bind_token, "sms_code": phone.receive_code()}
    assert browser.bind({**form, "sms_code": "000000"}).status_code == 400
    token = browser.bind(form).json()["token"]
    secrets = [*query_of(address).values(), *sent.values(), *form.values(), *browser.cookies.values(), token]

    shop.QQ_LOGIN_PAYLOAD = f"{__name__}.broken"
    sent = query_of(browser.sign_in() if direct else browser.get(browser.sign_in())["Location"])
    headers = {"Authorization": f"JWT {token}", "Referer": f"{PAGE}?code={sent['code']}"}
    assert browser.get("/oauth/qq/users/", sent, headers=headers).status_code == 500
    assert browser.get(f"/nowhere/{MOBILE}/", {"code": sent["code"]}).status_code == 404
    secrets += [*sent.values(), *browser.cookies.values(), qq.openid("小明")]

    raw, text = text_of(trace.raw.get_finished_spans()), text_of(trace.sent.get_finished_spans())
    assert [secret for secret in (sent["code"], MOBILE) if secret not in raw] == []
    refuse_secrets(text)
    assert [secret for secret in secrets if secret in text] == []
    spans = trace.sent.get_finished_spans()
    assert {"GET oauth/qq/login/", "GET oauth/qq/users/", "POST oauth/qq/users/", "GET"} <= {s.name for s in spans}
    (failed,) = (span for span in spans if span.attributes["http.status_code"] == 500)
    assert failed.attributes["http.route"] == "oauth/qq/users/"
    assert re.fullmatch("[0-9a-f]{32}", failed.attributes["request_id"])
    assert [dict(event.attributes) for event in failed.events] == [{"exception.type": "ValueError"}]
    assert (failed.status.status_code, failed.status.description) == (StatusCode.ERROR, None)


URL = f"/oauth/qq/users/?code={CANARY}"
DROPPED = {
    **dict.fromkeys(
        ["http.url", "http.target", "url.full", "url.path", "url.query", "http.request.method_original"], URL
    ),
    **{f"http.request.header.{name}": (CANARY,) for name in ("authorization", "cookie", "referer")},
    **dict.fromkeys(
        ["http.response.header.set_cookie", "db.statement.parameters", "db.user", "client.address"], CANARY
    ),
    **dict.fromkeys(["exception.message", "exception.stacktrace", "an.attribute.of.tomorrow"], CANARY),
}


@requirement("15.17")
def test_unknown_attributes_of_spans_events_and_links_are_dropped():
    kept = {"http.route": "oauth/qq/users/", "server.port": 80}
    trace = Trace()
    link = Link(CONTEXT, DROPPED | kept)
    span = trace.provider.get_tracer("test").start_span(
        f"GET /sms_codes/{MOBILE}/?code={CANARY}", kind=SpanKind.SERVER, attributes=DROPPED | kept, links=[link]
    )
    span.add_event("exception", DROPPED | kept, timestamp=3)
    span.set_status(Status(StatusCode.ERROR, CANARY))
    span.end()
    (raw,), (sent,) = trace.raw.get_finished_spans(), trace.sent.get_finished_spans()
    assert CANARY in text_of([raw])
    assert CANARY not in sent.to_json()
    assert (sent.name, sent.kind, sent.context) == ("GET /sms_codes/138****5678/", SpanKind.SERVER, raw.context)
    assert (sent.start_time, sent.end_time, sent.resource) == (raw.start_time, raw.end_time, raw.resource)
    assert sent.instrumentation_scope == raw.instrumentation_scope
    assert [dict(part.attributes) for part in (sent, *sent.events, *sent.links)] == [kept] * 3
    assert ([event.timestamp for event in sent.events], [link.context for link in sent.links]) == ([3], [CONTEXT])


@requirement("15.17")
@pytest.mark.parametrize(
    ("statement", "sent"),
    [
        (
            "SELECT (1) AS `a` FROM `t_2` WHERE `id` = %s LIMIT 21",
            "SELECT (?) AS `a` FROM `t_2` WHERE `id` = %s LIMIT ?",
        ),
        (f"SELECT * FROM users WHERE mobile = {MOBILE}", "SELECT * FROM users WHERE mobile = ?"),
        (f"UPDATE t SET code = '{CANARY}' WHERE a = 'x'", "UPDATE t SET code = …"),
        (rf"SELECT 'it\'s {CANARY}'", "SELECT …"),
        (f'SELECT "{CANARY}"', "SELECT …"),
        (f"SELECT 0x{CANARY.encode().hex()}", "SELECT ?"),
    ],
)
@pytest.mark.parametrize("names", [("db.system", "db.statement"), ("db.system.name", "db.query.text")])
def test_sql_is_sent_without_its_values(names, statement, sent):
    assert send(dict(zip(names, ("mysql", statement), strict=True))) == dict(zip(names, ("mysql", sent), strict=True))


@requirement("15.17")
@pytest.mark.parametrize("names", [("db.system", "db.statement"), ("db.system.name", "db.query.text")])
@pytest.mark.parametrize("system", ["redis", "memcached", "a.database.of.tomorrow"])
def test_keys_and_values_of_other_databases_are_not_sent(names, system):
    assert send(dict(zip(names, (system, f"set sms_{MOBILE} {CANARY}"), strict=True))) == {names[0]: system}
    assert send({names[1]: f"SELECT {CANARY}"}) == {}


def test_shop_may_keep_more_and_the_exporter_behind_is_flushed_and_shut_down():
    calls = []

    class Exporter(SpanExporter):
        def export(self, spans):
            calls.append([dict(span.attributes) for span in spans])
            return SpanExportResult.FAILURE

        def shutdown(self):
            calls.append("shutdown")

        def force_flush(self, timeout_millis):
            calls.append(timeout_millis)
            return False

    exporter = RedactingExporter(Exporter(), keep=["shop.order"])
    span = ReadableSpan("order", CONTEXT, attributes={"shop.order": 7, "shop.user": MOBILE})
    assert (exporter.export([span]), exporter.force_flush(5)) == (SpanExportResult.FAILURE, False)
    exporter.shutdown()
    assert calls == [[{"shop.order": 7}], 5, "shutdown"]


@requirement("15.17")
@pytest.mark.servers
@pytest.mark.parametrize("conventions", ["", "http/dup,database/dup"])
def test_spans_of_a_shop_under_gunicorn_name_queries_and_commands_without_values(tmp_path, conventions):
    environ = {"OTEL_TRACES_EXPORTER": "console", "OTEL_SEMCONV_STABILITY_OPT_IN": conventions}
    environ["OTEL_BSP_SCHEDULE_DELAY"] = "600000"  # the worker sends the spans at its end, after all its lines
    mobile = remote_users.new_mobile()
    with remote_users.shop_and_qq(tmp_path, **environ) as (shop, qq):
        user = remote_users.RemoteUser([shop], qq)
        address = user.sign_in()
        code = user.come_back(address)["code"]
        bind_token = user.redeem_code(code).json()["access_token"]
        user.visitor.get(f"{shop.url}/oauth_callback.html?code={code}")
        form = user.fill_in(mobile, bind_token)
        token = user.bind(form).json()["token"]
        assert user.visitor.get(f"{shop.url}/readyz").status == 200
    (log,) = tmp_path.glob("shop-*.log")
    spans = [json.loads(span) for span in re.findall(r"^\{$.*?^\}$", log.read_text(), re.MULTILINE | re.DOTALL)]
    assert {"GET oauth/qq/users/", "POST oauth/qq/users/", "GET", "SELECT", "INSERT", "SET", "GETDEL"} <= {
        span["name"] for span in spans
    }
    assert {span["kind"] for span in spans if span["parent_id"] is None} == {"SpanKind.SERVER"}  # calls only, no probe
    text = "\n".join(json.dumps([span["name"], span["status"], span["attributes"], span["events"]]) for span in spans)
    assert "INSERT INTO `tb_oauth_qq` (" in text
    assert ("http.request.method" in text, "db.query.text" in text) == (bool(conventions), bool(conventions))
    refuse_secrets(text)
    secrets = [
        *query_of(address).values(),
        code,
        *form.values(),
        token,
        *(cookie.value for cookie in user.visitor.cookies),
    ]
    assert [secret for secret in secrets if secret in text] == []

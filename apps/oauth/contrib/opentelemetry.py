"""OpenTelemetry traces without secrets: an exporter around the shop's own, and a hook that joins traces and logs.

The instrumentations write whole addresses (QQ's code and state), texts of exceptions and SQL statements into spans.
Their attributes change from version to version, so this exporter lets known ones pass and drops all others.
"""

import re
from collections.abc import Collection, Mapping, Sequence

from django.http import HttpRequest
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.trace import Link, Span, Status
from opentelemetry.util.types import AttributeValue

from ..redaction import mask_mobiles

# Of the semantic conventions before 1.23 and after. Not the path, which has mobile numbers in some shops: http.route
# is enough. Not the status's description and the stack trace, which contain the exception's text.
KEPT = frozenset(
    {
        "request_id",
        "error.type",
        "exception.type",
        "http.user_agent",
        "user_agent.original",
        "http.method",
        "http.request.method",
        "http.route",
        "http.scheme",
        "url.scheme",
        "http.flavor",
        "network.protocol.version",
        "http.status_code",
        "http.response.status_code",
        "net.host.name",
        "net.host.port",
        "net.peer.name",
        "net.peer.port",
        "server.address",
        "server.port",
        "db.system",
        "db.system.name",
        "db.name",
        "db.namespace",
        "db.operation",
        "db.operation.name",
    }
)
STATEMENTS = {"db.statement": "db.system", "db.query.text": "db.system.name"}  # whose value is SQL or not
SQL = frozenset({"mysql", "mariadb", "postgresql", "sqlite", "oracle", "oracle.db"})  # others list keys and values
QUOTE = re.compile(r"""['"]""")
NUMBER = re.compile(r"\b[0-9]\w*")


class RedactingExporter(SpanExporter):
    """Export spans through another exporter, without secrets and personal data.

    `keep`: more attributes that pass, such as the shop's own. Their values are not changed.
    """

    def __init__(self, exporter: SpanExporter, keep: Collection[str] = ()) -> None:
        self.exporter = exporter
        self.kept = KEPT.union(keep)

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        return self.exporter.export([self.redact(span) for span in spans])

    def shutdown(self) -> None:
        self.exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return self.exporter.force_flush(timeout_millis)

    def redact(self, span: ReadableSpan) -> ReadableSpan:
        return ReadableSpan(
            name=mask_mobiles(span.name.partition("?")[0]),  # the WSGI instrumentation names a span by its path
            context=span.context,
            parent=span.parent,
            resource=span.resource,
            attributes=self.select(span.attributes),
            events=[Event(event.name, self.select(event.attributes), event.timestamp) for event in span.events],
            links=[Link(link.context, self.select(link.attributes)) for link in span.links],
            kind=span.kind,
            status=Status(span.status.status_code),
            start_time=span.start_time,
            end_time=span.end_time,
            instrumentation_scope=span.instrumentation_scope,
        )

    def select(self, attributes: Mapping[str, AttributeValue] | None) -> dict[str, AttributeValue]:
        given = attributes or {}
        selected = {name: value for name, value in given.items() if name in self.kept}
        for name, system in STATEMENTS.items():
            if name in given and given.get(system) in SQL:
                selected[name] = cut_statement(str(given[name]))
        return selected


def cut_statement(statement: str) -> str:
    """Return the SQL up to its first quotation mark, with ? for numbers. Django's own has placeholders instead.

    Where a quoted value ends depends on the server's modes, so nothing after its start is safe.
    """
    before, *rest = QUOTE.split(statement, maxsplit=1)
    return NUMBER.sub("?", before) + ("…" if rest else "")


def add_request_id(span: Span, request: HttpRequest) -> None:
    """Give the span of a request the id that its lines in the logs have. For DjangoInstrumentor's `request_hook`."""
    from ..audit import get_request_id  # not above: a shop imports this module before Django is set up

    span.set_attribute("request_id", get_request_id(request.META))

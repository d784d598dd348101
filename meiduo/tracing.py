"""OpenTelemetry traces of a process that serves calls, switched on by OTEL_TRACES_EXPORTER."""

from importlib.metadata import entry_points

from opentelemetry import trace
from opentelemetry.instrumentation.django import DjangoInstrumentor
from opentelemetry.instrumentation.mysqlclient import MySQLClientInstrumentor
from opentelemetry.instrumentation.redis import RedisInstrumentor
from opentelemetry.instrumentation.utils import suppress_instrumentation
from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from apps.oauth.contrib.opentelemetry import RedactingExporter, add_request_id


def start(exporter):
    """Trace calls, Redis commands and queries; send the spans, without secrets, by the exporter of this name.

    wsgi.py calls it in each worker. `opentelemetry-instrument gunicorn` would send secrets, and would read the settings
    in gunicorn's main process, so that a reload would not read them again.
    """
    (entry_point,) = entry_points(group="opentelemetry_traces_exporter", name=exporter)
    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(RedactingExporter(entry_point.load()())))
    trace.set_tracer_provider(provider)
    # No metrics: those of a page that a middleware answers have its address with code and state.
    DjangoInstrumentor().instrument(request_hook=add_request_id, meter_provider=NoOpMeterProvider())
    RedisInstrumentor().instrument()
    MySQLClientInstrumentor().instrument()


def ignore_checks(dependencies):
    """Make no spans of the checks for /readyz. They belong to no call: each query would be a trace, every second."""
    for dependency in dependencies:
        dependency.check = suppress_instrumentation()(dependency.check)

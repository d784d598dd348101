#!/bin/bash
# opentelemetry-instrumentation-django 0.66b1 with Django 5.2.19: under the new names for HTTP, the path can be missing.
#
# With OTEL_SEMCONV_STABILITY_OPT_IN=http a span has url.path and url.query only if the server puts RAW_URI or
# REQUEST_URI into the WSGI environment. PEP 3333 knows neither; gunicorn sets RAW_URI, wsgiref and with it `runserver`
# do not. The old names have the whole URL in both cases. For a 404 the new span is named "GET" and has no route either:
# nothing tells what was asked for. Expected: url.path, which the conventions require, from SCRIPT_NAME and PATH_INFO.
#
# Seen (GET /nothing/?page=2, answered with 404):
#   old names, wsgiref: GET: http.url=http://127.0.0.1/nothing/?page=2
#   new names, wsgiref: GET:
#   new names, RAW_URI set: GET: url.path=/nothing/ url.query=page=2
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check Django==5.2.19 \
    opentelemetry-instrumentation-django==0.66b1 opentelemetry-sdk==1.45.1
cat > "$folder/try.py" <<'PYTHON'
import http.client
import os
import sys
import threading
from wsgiref.simple_server import make_server

from django.conf import settings
from django.core.wsgi import get_wsgi_application
from opentelemetry.instrumentation.django import DjangoInstrumentor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

if len(sys.argv) > 1:
    os.environ["OTEL_SEMCONV_STABILITY_OPT_IN"] = "http"
urlpatterns, spans, provider = [], InMemorySpanExporter(), TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(spans))
settings.configure(ROOT_URLCONF=__name__, ALLOWED_HOSTS=["*"], MIDDLEWARE=[], LOGGING_CONFIG=None)
DjangoInstrumentor().instrument(tracer_provider=provider)
app, target = get_wsgi_application(), "/nothing/?page=2"
more = {"RAW_URI": target} if "RAW_URI" in sys.argv else {}
server = make_server("127.0.0.1", 0, lambda environ, start: app(environ | more, start))
thread = threading.Thread(target=server.handle_request)
thread.start()
connection = http.client.HTTPConnection(*server.server_address)
connection.request("GET", target)
assert connection.getresponse().status == 404
thread.join()
(span,) = spans.get_finished_spans()
found = [f"{k}={v}" for k, v in span.attributes.items() if "nothing" in str(v) or "page" in str(v)]
print(" ".join([f"{span.name}:", *found]).replace(f":{server.server_port}/", "/"))
PYTHON

try() { "$folder/venv/bin/python" "$folder/try.py" "$@" 2>> "$folder/log"; }
seen=$(
    echo "old names, wsgiref: $(try)"
    echo "new names, wsgiref: $(try new)"
    echo "new names, RAW_URI set: $(try new RAW_URI)"
)
echo "$seen"
diff <(sed -n 's/^#   //p' "$0") <(echo "$seen")

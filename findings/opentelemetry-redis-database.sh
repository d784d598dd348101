#!/bin/bash
# opentelemetry-instrumentation-redis 0.66b1 with redis-py 8.1.0: under the new names the database's number is missing.
#
# With OTEL_SEMCONV_STABILITY_OPT_IN=database nothing in a span tells which of the server's databases was used, though
# the conventions have db.namespace for it; the instrumentation of mysqlclient fills that in. The name of the command is
# not in db.operation.name either, only in the name of the span. Even with "database/dup", the number appears under its
# old name alone. Expected: db.namespace "3" wherever db.redis.database_index was 3.
#
# Seen (GET in database 3):
#   old names: db.redis.database_index=3 db.statement=GET ? db.system=redis
#   database: db.query.text=GET ? db.system.name=redis
#   database/dup: db.query.text=GET ? db.redis.database_index=3 db.statement=GET ? db.system.name=redis db.system=redis
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check redis==8.1.0 \
    opentelemetry-instrumentation-redis==0.66b1 opentelemetry-sdk==1.45.1

cat > "$folder/try.py" <<'PYTHON'
import socket

from opentelemetry.instrumentation.redis import RedisInstrumentor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from redis import Redis
from redis.exceptions import ConnectionError

spans, provider = InMemorySpanExporter(), TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(spans))
RedisInstrumentor().instrument(tracer_provider=provider)
with socket.create_server(("127.0.0.1", 0)) as free:
    address = free.getsockname()
try:
    Redis(*address, db=3, retry=None).get("key")  # nothing listens there; the span is the same
except ConnectionError:
    pass
(span,) = spans.get_finished_spans()
print(*sorted(f"{k}={v}" for k, v in span.attributes.items() if k.startswith("db.") and not k.endswith("_length")))
PYTHON

try() { OTEL_SEMCONV_STABILITY_OPT_IN=$1 "$folder/venv/bin/python" "$folder/try.py"; }
seen=$(echo "old names: $(try "")"; for names in database database/dup; do echo "$names: $(try $names)"; done)
echo "$seen"
diff <(sed -n 's/^#   //p' "$0") <(echo "$seen")

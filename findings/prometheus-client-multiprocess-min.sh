#!/bin/bash
# prometheus-client 0.26.0, several processes: a gauge in the mode "min" or "max" counts processes that never set it.
#
# A gauge without labels has the value 0 in each process that imports it. In the mode "min" one process that has not set
# its gauge yet, or never does, as the server's main process or a worker for other jobs, makes the minimum 0; in "max"
# it hides values below 0. A metrics server then shows 0, say, free connections though no process has measured that.
# The mode "mostrecent" skips such a process, and so does a gauge with labels. Expected: all of them do.
#
# Seen (one process sets the gauge, another only defines it):
#   min, set to 5: 0.0
#   max, set to -5: 0.0
#   mostrecent, set to 5: 5.0
#   min with a label, set to 5: 5.0
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check prometheus-client==0.26.0

cat > "$folder/worker.py" <<'PYTHON'
import sys

from prometheus_client import Gauge

mode, labels, *values = sys.argv[1:]
gauge = Gauge("free", "Free connections", labels.split(), multiprocess_mode=mode)
for value in values:
    (gauge.labels("db") if labels else gauge).set(float(value))
PYTHON

cat > "$folder/show.py" <<'PYTHON'
from prometheus_client import CollectorRegistry
from prometheus_client.multiprocess import MultiProcessCollector

registry = CollectorRegistry()
MultiProcessCollector(registry)
print(*(sample.value for metric in registry.collect() for sample in metric.samples))
PYTHON

try() {  # mode, labels, value
    export PROMETHEUS_MULTIPROC_DIR; PROMETHEUS_MULTIPROC_DIR=$(mktemp -d -p "$folder")
    "$folder/venv/bin/python" "$folder/worker.py" "$1" "$2" "$3"
    "$folder/venv/bin/python" "$folder/worker.py" "$1" "$2"
    "$folder/venv/bin/python" "$folder/show.py"
}
seen=$(
    echo "min, set to 5: $(try min "" 5)"
    echo "max, set to -5: $(try max "" -5)"
    echo "mostrecent, set to 5: $(try mostrecent "" 5)"
    echo "min with a label, set to 5: $(try min pool 5)"
)
echo "$seen"
diff <(sed -n 's/^#   //p' "$0") <(echo "$seen")

#!/bin/bash
# granian 2.8.9: `--uds-permissions 666` gives the socket other permissions than 666.
#
# `--help` names the value "OCTAL INTEGER", but it is read as decimal unless it begins with 0: 666 is 0o1232. The socket
# then has the sticky bit, and its owner, group and others get -w-, -wx and -w-. Only 0666 does what 666 does in chmod.
#
# Seen:
#   --uds-permissions 666: 1232
#   --uds-permissions 0666: 666
set -euo pipefail
script=$(realpath "$0") folder=$(mktemp -d)
stop() { [ -z "${server:-}" ] || { kill "$server"; wait "$server" || true; }; rm -rf "$folder"; }
trap stop EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check granian==2.8.9

cd "$folder"
cat > shop.py <<'PYTHON'
def app(environ, start_response):
    start_response("204 No Content", [])
    return []
PYTHON

seen=$folder/seen
for value in 666 0666; do
    venv/bin/granian --interface wsgi --uds "$value.sock" --uds-permissions "$value" shop:app > log 2>&1 &
    server=$!
    for _ in {1..100}; do grep -q "Started worker-1" log && break; sleep 0.1; done
    echo "--uds-permissions $value: $(stat --format=%a "$value.sock")" >> "$seen"
    kill "$server"
    wait "$server" || true
    server=
done
cat "$seen"
diff <(sed -n 's/^#   //p' "$script") "$seen"

#!/bin/bash
# gunicorn 27.0.1, threaded worker: a view answers a POST without reading its body, as for 404 or 413.
#
# gunicorn reads the rest of the body away, but only below 65,536 bytes. From there on it closes the connection,
# although its answer says "Connection: keep-alive". A proxy that keeps its upstream connections, as nginx does with
# `keepalive`, believes the answer and can lose the next request, perhaps another user's: a POST is not sent again.
#
# Seen:
#   body of 65535 bytes: 413, Connection: keep-alive, next request: 413
#   body of 65536 bytes: 413, Connection: keep-alive, next request: the connection is closed
set -euo pipefail
script=$(realpath "$0") folder=$(mktemp -d)
stop() { [ -z "${server:-}" ] || { kill "$server"; wait "$server" || true; }; rm -rf "$folder"; }
trap stop EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check gunicorn==27.0.1

cat > "$folder/shop.py" <<'PYTHON'
def app(environ, start_response):
    start_response("413 Content Too Large", [("Content-Length", "0")])
    return []
PYTHON

cat > "$folder/try.py" <<'PYTHON'
import http.client
import sys
import time

port = int(sys.argv[1])
for size in 65535, 65536:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    for _ in range(100):
        try:
            connection.connect()
            break
        except ConnectionRefusedError:  # it does not listen yet
            time.sleep(0.1)
    connection.auto_open = False
    connection.request("POST", "/", bytes(size))
    response = connection.getresponse()
    response.read()
    answer = f"{response.status}, Connection: {response.headers['Connection']}"
    time.sleep(1)  # so that a close can arrive
    try:
        connection.request("GET", "/")
        result = connection.getresponse().status
    except (ConnectionError, http.client.HTTPException):
        result = "the connection is closed"
    print(f"body of {size} bytes: {answer}, next request: {result}")
PYTHON

cd "$folder"
port=$(python3 -c 'import socket; s = socket.create_server(("127.0.0.1", 0)); print(s.getsockname()[1])')
venv/bin/gunicorn --bind "127.0.0.1:$port" --threads 2 --no-control-socket shop:app > log 2>&1 &
server=$!
seen=$(venv/bin/python try.py "$port")
echo "$seen"
diff <(sed -n 's/^#   //p' "$script") <(echo "$seen")

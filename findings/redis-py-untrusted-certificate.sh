#!/bin/bash
# redis-py 8.1.0: a server whose certificate is not trusted.
#
# The error is a plain ConnectionError ("Error 1 connecting to …"), as for a server that is down. It has no __cause__
# and no attribute for the reason: only __context__ and the text show that TLS failed. Asking again cannot help, but
# redis-py makes eleven connections, with pauses between them, before it raises.
#
# Seen:
#   class: redis.exceptions.ConnectionError
#   __cause__: None
#   __context__: SSLCertVerificationError
#   connections: 11
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check redis==8.1.0 trustme==1.2.1

cat > "$folder/try.py" <<'PYTHON'
import socket
import ssl
import threading

import redis
import trustme

context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
server = socket.create_server(("127.0.0.1", 0))
connections = []


def serve():
    while True:
        connection, _ = server.accept()
        connections.append(connection)
        try:
            context.wrap_socket(connection, server_side=True)
        except OSError:
            connection.close()


threading.Thread(target=serve, daemon=True).start()
try:
    redis.Redis("127.0.0.1", server.getsockname()[1], ssl=True).ping()
except redis.ConnectionError as error:
    print(f"class: {type(error).__module__}.{type(error).__name__}")
    print("__cause__:", error.__cause__)
    print("__context__:", type(error.__context__).__name__)
    print("connections:", len(connections))
PYTHON

seen=$("$folder/venv/bin/python" "$folder/try.py")
echo "$seen"
diff <(sed -n 's/^#   //p' "$0") <(echo "$seen")

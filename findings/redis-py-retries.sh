#!/bin/bash
# redis-py 8.1.0 with Django 5.2.19: how often a client tries depends on how it was made.
#
# Redis("host") repeats a failed command 10 times with pauses. The default for it is an argument of this constructor
# only: Redis.from_url(), a pool, and so Django's RedisCache, do not try again, and nor does a client of
# Sentinel.master_for(), though its master is expected to change. Timeouts and keep-alive are the same for all.
# Expected: the same retries for the same server, however it is named.
#
# Seen (connections to a server that closes each of them, for one ping or get):
#   Redis(host, port): 11
#   Redis.from_url(url): 1
#   Redis(connection_pool=ConnectionPool(host, port)): 1
#   Django's RedisCache: 1
#   retries of a connection of master_for(): 0
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check Django==5.2.19 redis==8.1.0

cat > "$folder/try.py" <<'PYTHON'
import socket
import threading

from django.conf import settings
from django.core.cache import cache
from redis import ConnectionError, ConnectionPool, Redis
from redis.sentinel import Sentinel
server = socket.create_server(("127.0.0.1", 0))
(host, port), connections = server.getsockname(), []


def serve():
    while True:
        connections.append(server.accept()[0])
        connections[-1].close()


threading.Thread(target=serve, daemon=True).start()
url = f"redis://{host}:{port}/0"
settings.configure(CACHES={"default": {"BACKEND": "django.core.cache.backends.redis.RedisCache", "LOCATION": url}})
pool = ConnectionPool(host=host, port=port)
calls = {
    "Redis(host, port)": Redis(host, port).ping,
    "Redis.from_url(url)": Redis.from_url(url).ping,
    "Redis(connection_pool=ConnectionPool(host, port))": Redis(connection_pool=pool).ping,
    "Django's RedisCache": lambda: cache.get("key"),
}
for name, call in calls.items():
    connections.clear()
    try:
        call()
    except ConnectionError:
        print(f"{name}: {len(connections)}")
connection = Sentinel([(host, port)]).master_for("shop").connection_pool.make_connection()
print("retries of a connection of master_for():", connection.retry.get_retries())
PYTHON
seen=$("$folder/venv/bin/python" "$folder/try.py")
echo "$seen"
diff <(sed -n 's/^#   //p' "$0") <(echo "$seen")

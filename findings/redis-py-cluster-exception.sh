#!/bin/bash
# redis-py 8.1.0: a RedisCluster that reaches no node raises an error that is not a RedisError.
#
# It is a RedisClusterException, whose only base is Exception. Code that catches redis.RedisError, or ConnectionError,
# to do without Redis while it is down works with a single server and with Sentinel, and fails with a cluster. The
# refused connection is its __cause__. The errors ClusterError and ClusterDownError of the same module are RedisErrors.
# Expected: a RedisError, as with a single server.
#
# Seen (nothing listens at the address):
#   Redis: ConnectionError, a RedisError: True
#   Sentinel: MasterNotFoundError, a RedisError: True
#   RedisCluster: RedisClusterException, a RedisError: False
#   its bases: Exception; its __cause__: ConnectionError
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check redis==8.1.0

cat > "$folder/try.py" <<'PYTHON'
import socket

from redis import Redis, RedisCluster, RedisError
from redis.sentinel import Sentinel

with socket.create_server(("127.0.0.1", 0)) as free:
    host, port = free.getsockname()
calls = {
    "Redis": lambda: Redis(host, port, retry=None).ping(),
    "Sentinel": lambda: Sentinel([(host, port)], retry=None).master_for("shop").ping(),
    "RedisCluster": lambda: RedisCluster(host, port).ping(),
}
for name, call in calls.items():
    try:
        call()
    except Exception as error:
        print(f"{name}: {type(error).__name__}, a RedisError: {isinstance(error, RedisError)}")
        last = error
bases = " ".join(base.__name__ for base in type(last).__bases__)
print(f"its bases: {bases}; its __cause__: {type(last.__cause__).__name__}")
PYTHON

seen=$("$folder/venv/bin/python" "$folder/try.py")
echo "$seen"
diff <(sed -n 's/^#   //p' "$0") <(echo "$seen")

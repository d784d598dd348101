#!/bin/bash
# django-redis 7.0.0 with redis-py 8.1.0 and Redis 7.0.15: REDIS_CLIENT_CLASS "redis.cluster.RedisCluster".
#
# django-redis gives the client a connection pool made from LOCATION, in which a RedisCluster finds no node. With a node
# in REDIS_CLIENT_KWARGS it starts, learns all nodes, and uses this one pool for each: every command goes to the server
# in LOCATION. A key there works; one of another node is redirected to the same server until redis-py gives up.
# Expected: the whole cluster, or an error at the start.
#
# Seen (cache.set() in a cluster of two nodes; LOCATION names the first):
#   without REDIS_CLIENT_KWARGS: RedisClusterException
#   a key of the first node: done
#   a key of the second node: ClusterError
#   the second key with RedisCluster itself: done
set -euo pipefail
script=$(realpath "$0") folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder" && python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check Django==5.2.19 django-redis==7.0.0 redis==8.1.0
apt-get download -qq redis-tools=5:7.0.15-1~deb12u10 libatomic1=12.2.0-14+deb12u1 libjemalloc2=5.3.0-1 liblzf1=3.6-3
for package in *.deb; do dpkg-deb --extract "$package" root; done
cat > try.py <<'PYTHON'
import contextlib, socket, subprocess, time
from django.conf import settings
from django.core.cache import caches
from redis import Redis, RedisCluster
with contextlib.ExitStack() as stack:
    reserved = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(4)]
    *ports, bus_1, bus_2 = (listener.getsockname()[1] for listener in reserved)
cache = {"BACKEND": "django_redis.cache.RedisCache", "LOCATION": f"redis://127.0.0.1:{ports[0]}/0"}
plain = {"REDIS_CLIENT_CLASS": "redis.cluster.RedisCluster"}
full = plain | {"REDIS_CLIENT_KWARGS": {"host": "127.0.0.1", "port": ports[0]}}
settings.configure(CACHES={"default": cache | {"OPTIONS": plain}, "full": cache | {"OPTIONS": full}})
with contextlib.ExitStack() as stack:
    for port, bus in zip(ports, (bus_1, bus_2)):
        command = f"redis-server --port {port} --bind 127.0.0.1 --cluster-enabled yes --cluster-port {bus}"
        command += f" --cluster-config-file {port}.conf"  # the program acts as the one by whose name it is called
        server = subprocess.Popen(command.split(), executable="root/usr/bin/redis-check-rdb", stdout=subprocess.DEVNULL)
        stack.callback(lambda server=server: (server.kill(), server.wait()))
    first, second = servers = [Redis("127.0.0.1", port) for port in ports]
    first.execute_command("CLUSTER ADDSLOTSRANGE", 0, 8191)
    second.execute_command("CLUSTER ADDSLOTSRANGE", 8192, 16383)
    first.execute_command("CLUSTER MEET", "127.0.0.1", ports[1], bus_2)
    end = time.monotonic() + 60
    while "fail" in [server.execute_command("CLUSTER INFO")["cluster_state"] for server in servers]:
        assert time.monotonic() < end, "too late"
        time.sleep(0.1)
    calls = {
        "without REDIS_CLIENT_KWARGS": lambda: caches["default"].set("b", 1),
        "a key of the first node": lambda: caches["full"].set("b", 1),  # ":1:b" has the slot 4205
        "a key of the second node": lambda: caches["full"].set("a", 1),  # ":1:a" has the slot 8206
        "the second key with RedisCluster itself": lambda: RedisCluster("127.0.0.1", ports[0]).set(":1:a", 1),
    }
    for name, call in calls.items():
        try:
            print(f"{name}:", "done" if call() else "not done")
        except Exception as error:
            print(f"{name}:", type(error).__name__)
PYTHON
LD_LIBRARY_PATH=$(echo root/usr/lib/*-linux-gnu) venv/bin/python try.py | tee seen
diff <(sed -n 's/^#   //p' "$script") seen

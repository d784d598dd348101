#!/bin/bash
# redis-py 8.1.0 with Redis 7.0.15: a client with one connection, as of Redis.client(), never finds the new master.
#
# Sentinel closes the clients' connections to the demoted server. The next command connects again by itself, without
# asking Sentinel: it goes to the old address, and so does every later one. The call fails with the text that announces
# the change, however often it is repeated. Only a pool asks Sentinel, so the client that the first one was made from
# recovers. Expected: a connection managed by Sentinel asks it whenever it connects.
#
# Seen (after SENTINEL FAILOVER, once Sentinel names the new master):
#   10th try with one connection: The previous master is now a slave (it asked the old server: True)
#   pool: True
set -euo pipefail
script=$(realpath "$0") folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check redis==8.1.0
apt-get download -qq redis-tools=5:7.0.15-1~deb12u10 libatomic1=12.2.0-14+deb12u1 libjemalloc2=5.3.0-1 liblzf1=3.6-3
for package in *.deb; do dpkg-deb --extract "$package" root; done
cat > try.py <<'PYTHON'
import contextlib, pathlib, socket, subprocess, time

from redis import ConnectionError, Redis
from redis.sentinel import Sentinel

with contextlib.ExitStack() as stack:
    reserved = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(3)]
    watcher, old, new = (listener.getsockname()[1] for listener in reserved)
roles = {old: "", new: f"replicaof 127.0.0.1 {old}", watcher: f"sentinel monitor shop 127.0.0.1 {old} 1"}
with contextlib.ExitStack() as stack:
    for port, role in roles.items():
        pathlib.Path(f"{port}.conf").write_text(f"port {port}\nbind 127.0.0.1\ndbfilename {port}.rdb\n{role}\n")
        # The program acts as the one by whose name it is called.
        command = ["redis-sentinel" if port == watcher else "redis-server", f"{port}.conf"]
        server = subprocess.Popen(command, executable="root/usr/bin/redis-check-rdb", stdout=subprocess.DEVNULL)
        stack.callback(lambda server=server: (server.kill(), server.wait()))

    def wait(condition):
        end = time.monotonic() + 60
        while not condition():
            assert time.monotonic() < end, "too late"
            time.sleep(0.02)

    redis, sentinel = Redis("127.0.0.1", watcher), Sentinel([("127.0.0.1", watcher)])
    pool = sentinel.master_for("shop")
    wait(lambda: [x["master-link-status"] for x in redis.sentinel_slaves("shop")] == ["ok"])
    single = pool.client()
    redis.execute_command("SENTINEL", "FAILOVER", "shop")
    wait(lambda: sentinel.discover_master("shop")[1] == new and Redis("127.0.0.1", old).role()[0] == b"slave")
    for _ in range(10):
        try:
            last = single.set("key", 2)
        except ConnectionError as error:
            last = error
    print(f"10th try with one connection: {last} (it asked the old server: {single.connection.port == old})")
    print("pool:", pool.set("key", 3))
PYTHON
seen=$(LD_LIBRARY_PATH=$(echo root/usr/lib/*-linux-gnu) venv/bin/python try.py)
echo "$seen"
diff <(sed -n 's/^#   //p' "$script") <(echo "$seen")

#!/bin/bash
# redis-py 8.1.0 with Redis 7.0.15: discover_master() during a failover names the old master longer than Sentinel does.
#
# It reads SENTINEL MASTERS, where the Sentinel that leads a failover keeps the old address until all replicas follow
# the new master: here a second, and longer if they have much to copy. SENTINEL GET-MASTER-ADDR-BY-NAME, which Redis
# tells clients to ask, names the new master once it is promoted. Expected: both name the same server. In a planned
# failover the old one still takes writes in between; they are lost.
#
# Seen (after SENTINEL FAILOVER, once GET-MASTER-ADDR-BY-NAME names the new master):
#   discover_master() names the old master: True
#   SET there: True
#   the key is there after the failover: False
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

from redis import Redis
from redis.sentinel import Sentinel

with contextlib.ExitStack() as stack:
    reserved = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(4)]
    watcher, old, *_ = ports = [listener.getsockname()[1] for listener in reserved]
with contextlib.ExitStack() as stack:
    for port in ports:
        role = f"replicaof 127.0.0.1 {old}" if port not in (watcher, old) else ""
        role = f"sentinel monitor shop 127.0.0.1 {old} 1" if port == watcher else role
        pathlib.Path(f"{port}.conf").write_text(f"port {port}\nbind 127.0.0.1\ndbfilename {port}.rdb\n{role}\n")
        # The program acts as the one by whose name it is called.
        command = ["redis-sentinel" if port == watcher else "redis-server", f"{port}.conf"]
        server = subprocess.Popen(command, executable="root/usr/bin/redis-check-rdb", stdout=subprocess.DEVNULL)
        stack.callback(lambda server=server: (server.kill(), server.wait()))
    redis, sentinel = Redis("127.0.0.1", watcher), Sentinel([("127.0.0.1", watcher)])

    def wait(condition):
        end = time.monotonic() + 60
        while not condition():
            assert time.monotonic() < end, "too late"
            time.sleep(0.02)

    wait(lambda: [x["master-link-status"] for x in redis.sentinel_slaves("shop")] == ["ok"] * 2)
    redis.execute_command("SENTINEL", "FAILOVER", "shop")
    wait(lambda: redis.sentinel_get_master_addr_by_name("shop")[1] != old)
    discovered = sentinel.discover_master("shop")
    print("discover_master() names the old master:", discovered[1] == old)
    print("SET there:", Redis(*discovered).set("key", "value"))
    wait(lambda: sentinel.discover_master("shop")[1] != old)
    print("the key is there after the failover:", bool(Redis(*sentinel.discover_master("shop")).exists("key")))
PYTHON

seen=$(LD_LIBRARY_PATH=$(echo root/usr/lib/*-linux-gnu) venv/bin/python try.py)
echo "$seen"
diff <(sed -n 's/^#   //p' "$script") <(echo "$seen")

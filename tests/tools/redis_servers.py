"""Runs several Redis servers on loopback: a master with replicas and Sentinels, or a Redis Cluster.

    with sentinel_group(folder) as group:
        group.url                    # for CACHE_URL; group.service and group.password are in it
        group.master()               # the Server that the Sentinels name as the master
        group.fail_over()            # a planned one, as an operator orders it; returns when the Sentinels agree
        old = group.master()
        old.kill()                   # kill -9; the Sentinels promote a replica after `down_after` ms and a little more
        group.wait_for_master(other_than=old)
        old.start()                  # comes back empty. At once after kill(): before the Sentinels notice
        old.pause(); old.resume()    # hangs: connections stay open and nothing is answered (SIGSTOP)
        group.sentinels[0].kill()

    with redis_cluster(folder) as cluster:
        cluster.url, cluster.nodes   # three masters, and a replica of each if `replicas=1`
        cluster.node_of("a key").kill()

All are Server objects: .port, .client() (a new redis-py client), .kill(), .start(), .pause(), .resume().
Nothing is saved on disk, so a server that was killed starts empty. Sentinel writes each server's role to its
configuration file, as on a real machine.
"""

import os
import secrets
import signal
import subprocess
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import quote

from redis import Redis
from redis.crc import key_slot
from redis.exceptions import RedisError

from tests.tools.processes import HOST, find_redis, free_port, named_server, wait_until

SLOTS = 16384


class Server:
    """A Redis, or a Sentinel, with a configuration file of its own."""

    def __init__(self, folder: Path, lines, *, arguments=(), port=None, password=None):
        # free_port() may name one again that another server here will listen on, but does not yet.
        port = port or next(port for port in iter(free_port, None) if not (folder / str(port)).exists())
        self.port, self.password, self.process = port, password, None
        self.folder = folder / str(self.port)
        self.folder.mkdir(parents=True)
        self.arguments, config = arguments, self.folder / "redis.conf"
        config.write_text("\n".join([f"port {self.port}", f"bind {HOST}", f"dir {self.folder}", *lines, ""]))
        self.command = [*(named_server("CACHE_SERVER") or ["redis-server"]), str(config), *arguments]

    def start(self):
        executable = None if named_server("CACHE_SERVER") else find_redis()
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                self.command, executable=executable, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        wait_until(self.answers, f"the server on port {self.port} answers")

    def answers(self):
        assert self.process.poll() is None, (self.folder / "log").read_text(errors="replace")
        try:
            with self.client() as client:
                return client.ping()
        except RedisError:
            return False

    def client(self, **options):
        return Redis(HOST, self.port, password=self.password, **{"socket_timeout": 5} | options)

    def kill(self):
        """End it at once, as kill -9 does."""
        self.process.kill()
        self.process.wait()

    def pause(self):
        """Let it hang: its connections stay open, and nothing is answered."""
        os.kill(self.process.pid, signal.SIGSTOP)

    def resume(self):
        os.kill(self.process.pid, signal.SIGCONT)

    def stop(self):
        if self.process:
            self.kill()  # it has nothing to save


class SentinelGroup:
    def __init__(self, servers, sentinels, service, password):
        self.servers, self.sentinels, self.service, self.password = servers, sentinels, service, password
        hosts, secret = ",".join(f"{HOST}:{sentinel.port}" for sentinel in sentinels), quote(password, safe="")
        self.url = f"redis+sentinel://:{secret}@{hosts}/{service}/0?sentinel_password={secret}"

    def master(self):
        """Return the server that the first living Sentinel names."""
        sentinel = next(sentinel for sentinel in self.sentinels if sentinel.process.poll() is None)
        return self._named_by(sentinel)

    def replicas(self):
        return [server for server in self.servers if server is not self.master()]

    def fail_over(self, *, pause_writes=0):
        """Make a replica the master, while the old one still runs. Return the new master.

        `pause_writes`: milliseconds for which the old one lets writes wait, so that none is lost.
        """
        old = self.master()
        if pause_writes:
            with old.client() as client:
                client.client_pause(pause_writes, all=False)
        with self.sentinels[0].client() as client:
            client.execute_command("SENTINEL", "FAILOVER", self.service)
        return self.wait_for_master(other_than=old)

    def wait_for_master(self, other_than):
        """Wait until all living Sentinels name one other server, which takes writes. Return it."""
        living = [sentinel for sentinel in self.sentinels if sentinel.process.poll() is None]

        def agreed():
            named = {self._named_by(sentinel) for sentinel in living}
            return len(named) == 1 and other_than not in named and _role_of(*named) == "master"

        wait_until(agreed, "the Sentinels agree on another master")
        return self.master()

    def _named_by(self, sentinel):
        with sentinel.client() as client:
            _, port = client.sentinel_get_master_addr_by_name(self.service)
        return next(server for server in self.servers if server.port == port)


@contextmanager
def sentinel_group(folder, *, replicas=2, down_after=1000, failover_timeout=6000, options=()):
    """Run a master, its replicas and three Sentinels.

    `down_after`, `failover_timeout`: milliseconds, as in Sentinel's configuration. `options`: further lines of the
    servers' configuration, as "min-replicas-to-write 1".
    """
    # Ports are used again: the Sentinels of another group must neither join this one nor command its servers.
    service, password = f"shop-{secrets.token_hex(4)}", f"{secrets.token_hex(8)}@/"
    lines = ['save ""', "appendonly no", "repl-diskless-sync-delay 0", *options]
    lines += [f"requirepass {password}", f"masterauth {password}"]
    master = Server(folder, lines, password=password)
    followers = [
        Server(folder, [*lines, f"replicaof {HOST} {master.port}"], password=password) for _ in range(replicas)
    ]
    # Each knows the others from the start. To find them takes Sentinels several seconds.
    ids = {free_port(): secrets.token_hex(20) for _ in range(3)}
    sentinels = []
    for port, own_id in ids.items():
        watch = [
            f"sentinel myid {own_id}",
            f"sentinel monitor {service} {HOST} {master.port} 2",
            f"sentinel down-after-milliseconds {service} {down_after}",
            f"sentinel failover-timeout {service} {failover_timeout}",
            f"sentinel auth-pass {service} {password}",
            f"requirepass {password}",
            f"sentinel sentinel-pass {password}",
            *(f"sentinel known-replica {service} {HOST} {follower.port}" for follower in followers),
            *(f"sentinel known-sentinel {service} {HOST} {other} {ids[other]}" for other in ids if other != port),
        ]
        sentinels.append(Server(folder, watch, arguments=["--sentinel"], port=port, password=password))
    group = SentinelGroup([master, *followers], sentinels, service, password)
    with _running([*group.servers, *sentinels]):
        wait_until(lambda: all(_is_in_step(follower) for follower in followers), "the replicas have a copy")
        wait_until(
            lambda: all(_sees_all(sentinel, service, replicas) for sentinel in sentinels), "the Sentinels see all"
        )
        yield group


class RedisCluster:
    def __init__(self, nodes, masters):
        self.nodes, self._masters = nodes, masters
        self.url = "redis+cluster://" + ",".join(f"{HOST}:{node.port}" for node in nodes)

    def node_of(self, key):
        """Return the master that held the key at the start: before any replica took its place."""
        return self.nodes[key_slot(key.encode()) * self._masters // SLOTS]


@contextmanager
def redis_cluster(folder, *, masters=3, replicas=0, node_timeout=1000):
    """Run a Redis Cluster. `replicas`: of each master. `node_timeout`: milliseconds until a node counts as dead."""
    lines = ['save ""', "appendonly no", "cluster-enabled yes", f"cluster-node-timeout {node_timeout}"]
    # Otherwise the bus's port, 10,000 higher, could be above the last one or taken.
    nodes = [Server(folder, [*lines, f"cluster-port {free_port()}"]) for _ in range(masters * (1 + replicas))]
    with _running(nodes), ExitStack() as stack:
        clients = [stack.enter_context(node.client()) for node in nodes]
        for index, client in enumerate(clients[:masters]):
            first, end_ = SLOTS * index // masters, SLOTS * (index + 1) // masters
            client.execute_command("CLUSTER", "ADDSLOTSRANGE", first, end_ - 1)
            client.execute_command("CLUSTER", "SET-CONFIG-EPOCH", index + 1)
        for node in nodes[1:]:
            bus = node.client().config_get("cluster-port")["cluster-port"]
            clients[0].execute_command("CLUSTER", "MEET", HOST, node.port, bus)
        wait_until(lambda: all(_knows(client, len(nodes)) for client in clients), "the nodes have met")
        for index, client in enumerate(clients[masters:]):
            client.execute_command("CLUSTER", "REPLICATE", clients[index % masters].execute_command("CLUSTER MYID"))
        wait_until(lambda: all(_is_up(client) for client in clients), "the cluster is up")
        wait_until(lambda: all(_is_in_step(node) for node in nodes[masters:]), "the replicas have a copy")
        yield RedisCluster(nodes, masters)


@contextmanager
def _running(servers):
    with ExitStack() as stack:
        for server in servers:
            stack.callback(server.stop)
            server.start()
        yield


def _role_of(server):
    with server.client() as client:
        return client.role()[0].decode()


def _is_in_step(replica):
    with replica.client() as client:
        return client.info("replication").get("master_link_status") == "up"


def _sees_all(sentinel, service, replicas):
    with sentinel.client() as client:
        state = client.sentinel_masters()[service]
    return state["is_master"] and (state["num-slaves"], state["num-other-sentinels"]) == (replicas, 2)


def _knows(client, nodes):
    info = client.execute_command("CLUSTER INFO")
    return int(info["cluster_known_nodes"]) == nodes


def _is_up(client):
    return client.execute_command("CLUSTER INFO")["cluster_state"] == "ok"

"""Starts a cluster of MariaDB Galera nodes on this machine, and does to them what happens to machines.

It needs the packages galera-4 and rsync, and the scripts wsrep_sst_… of mariadb-server: packages.py installs them.
"""

import os
import re
import signal
import subprocess
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from tests.tools import processes
from tests.tools.processes import AS_ROOT, HOST, find, find_galera, free_port, wait_until

with suppress(ImportError):  # without it, no test that needs a database server runs
    import MySQLdb


def missing() -> list[str]:
    """Return what this machine lacks for a cluster. Only the installed MariaDB can be a node."""
    if processes.named_server("DATABASE_SERVER"):
        return ["installed MariaDB, as DATABASE_SERVER is set"]
    programs = ("mariadbd", "mariadb-install-db", "rsync", "wsrep_sst_rsync")
    lacking = [program for program in programs if not find(program)]
    return lacking if find_galera() else [*lacking, "galera-4"]


@dataclass
class Node:
    """One server. Its `url` has the form of DATABASE_URL."""

    name: str
    folder: Path
    url: str
    cluster: "Galera"
    group_port: int = field(default_factory=free_port)
    transfer_port: int = field(default_factory=free_port)  # of changes
    copy_port: int = field(default_factory=free_port)  # of the whole data
    process: subprocess.Popen | None = None
    isolated: bool = False

    @property
    def port(self) -> int:
        return urlsplit(self.url).port

    def launch(self, *, first: bool = False) -> None:
        """Start the server. `first`: it begins the cluster instead of joining it. It is ready after wait()."""
        server = [find("mariadbd"), "--no-defaults", f"--datadir={self.folder / 'database'}", *AS_ROOT]
        server += [f"--tmpdir={self.folder}", f"--socket={self.folder / 'node.sock'}", f"--port={self.port}"]
        server += [f"--bind-address={HOST}", f"--pid-file={self.folder / 'node.pid'}", "--skip-name-resolve"]
        # The data must survive a kill -9, but not a power failure.
        server += ["--innodb-flush-log-at-trx-commit=2", "--innodb-doublewrite=0", "--innodb-buffer-pool-size=32M"]
        server += ["--binlog-format=ROW", "--innodb-autoinc-lock-mode=2", *self.cluster.options]
        provider = {
            "base_host": HOST,
            "base_port": self.group_port,
            "gmcast.listen_addr": f"tcp://{HOST}:{self.group_port}",
            "ist.recv_addr": f"{HOST}:{self.transfer_port}",
            "gcache.size": "64M",
        }
        group = ",".join(f"{HOST}:{node.group_port}" for node in self.cluster.nodes)
        wsrep = [
            "--wsrep-on=ON",
            f"--wsrep-provider={find_galera()}",
            f"--wsrep-provider-options={';'.join(f'{name}={value}' for name, value in provider.items())}",
            f"--wsrep-cluster-address=gcomm://{group}",
            f"--wsrep-node-name={self.name}",
            f"--wsrep-node-address={HOST}:{self.group_port}",
            "--wsrep-sst-method=rsync",
            f"--wsrep-sst-receive-address={HOST}:{self.copy_port}",
            "--wsrep-slave-threads=2",
            *(["--wsrep-new-cluster"] if first else self._find_position(server)),
        ]
        environ = os.environ | {"PATH": f"{self.folder.parent}:{os.environ['PATH']}:/usr/sbin:/sbin"}
        with self.log.open("ab") as output:
            options = {"stdin": subprocess.DEVNULL, "stdout": output, "stderr": output, "env": environ}
            self.process = subprocess.Popen([*server, *wsrep], **options)

    def _find_position(self, server: list[str]) -> list[str]:
        """Return the option that says where a killed server stopped, so that it only fetches what it missed."""
        if not self.log.exists():
            return []
        done = subprocess.run([*server, "--wsrep-recover"], capture_output=True, encoding="utf-8", errors="replace")
        found = re.findall(r"Recovered position: *(\S+)", done.stdout + done.stderr)
        return [f"--wsrep-start-position={found[-1]}"] if found else []

    @property
    def log(self) -> Path:
        return self.folder / "node.log"

    def wait(self, seconds: int = processes.SECONDS_TO_START) -> None:
        """Wait until the server takes part and answers."""

        def ready() -> bool:
            assert self.process.poll() is None, f"{self.name} has ended:\n{self.log.read_text(errors='replace')}"
            return self.is_ready()

        wait_until(ready, f"{self.name} is a member of the cluster", seconds)

    def start(self) -> None:
        """Start a server that was stopped or killed, and wait until it has caught up."""
        self.launch()
        self.wait()

    def stop(self) -> None:
        """End the server as a planned restart does."""
        self.process.terminate()
        processes.end(self.process)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def pause(self) -> None:
        """Let the server hang, as on a machine that swaps. The others expel it after 5 s."""
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def isolate(self) -> None:
        """Cut the server off from the others: clients still reach it. It has lost its quorum after some seconds."""
        self.query("SET GLOBAL wsrep_provider_options = 'gmcast.isolate=1'")
        self.isolated = True

    def heal(self) -> None:
        self.query("SET GLOBAL wsrep_provider_options = 'gmcast.isolate=0'")
        self.isolated = False

    def is_ready(self) -> bool:
        try:
            return self.status("wsrep_ready") == "ON"
        except MySQLdb.Error:
            return False

    def status(self, name: str) -> str | None:
        rows = self.query("SHOW GLOBAL STATUS LIKE %s", name)
        return rows[0][1] if rows else None

    def query(self, sql: str, *parameters: object) -> tuple:
        """Run a statement in a connection of its own, committed by itself; return the rows."""
        connection = self.connect()
        try:
            with connection.cursor() as cursor:
                cursor.execute(sql, parameters or None)
                return cursor.fetchall()
        finally:
            connection.close()

    def connect(self, **options: object) -> "MySQLdb.Connection":
        return connect(self.url, **options)


@dataclass
class Galera:
    nodes: list[Node] = field(default_factory=list)
    options: tuple[str, ...] = ()  # of mariadbd

    def cut_quorum(self) -> None:
        """Cut every server off from every other; wait until none has a quorum."""
        for node in self.nodes:
            node.isolate()
        for node in self.nodes:
            wait_until(lambda node=node: not node.is_ready(), f"{node.name} has lost its quorum")

    def heal(self) -> None:
        """Connect all servers again; wait until they are one cluster."""
        for node in self.nodes:
            if node.isolated:
                node.heal()
        self.wait()

    def wait(self) -> None:
        """Wait until all running servers are one cluster."""
        running = [node for node in self.nodes if node.process and node.process.poll() is None]
        for node in running:
            node.wait()
        size = str(len(running))
        wait_until(lambda: {node.status("wsrep_cluster_size") for node in running} == {size}, f"{size} nodes are one")


@contextmanager
def galera(folder: Path, count: int = 3, *options: str):
    """Run a cluster with an empty database `meiduo`; the block gets a Galera. `options`: more of each server."""
    folder.mkdir(exist_ok=True)
    with processes.database(folder) as url:  # creates the system tables, the database and its account
        connect(url).close()  # it listens before the account is there
        parts = urlsplit(url)
    cluster = Galera(options=options)
    for number in range(1, count + 1):
        name = f"node{number}"
        (folder / name).mkdir()
        address = parts._replace(netloc=f"{parts.username}:{parts.password}@{HOST}:{free_port()}").geturl()
        cluster.nodes.append(Node(name, folder / name, address, cluster))
    (folder / "database").rename(folder / "node1" / "database")  # the others get a copy when they join
    for node in cluster.nodes[1:]:
        (node.folder / "database").mkdir()
    copy_scripts(folder)
    with ExitStack() as stack:
        for node in cluster.nodes:  # one after the other: joining at once takes longer
            stack.callback(end, node)
            node.launch(first=node is cluster.nodes[0])
            node.wait()
        yield cluster


def connect(url: str, **options: object) -> "MySQLdb.Connection":
    parts = urlsplit(url)
    account = {"user": parts.username, "passwd": parts.password, "db": parts.path[1:]}
    options = {"autocommit": True, "charset": "utf8mb4", "connect_timeout": 10, "read_timeout": 30} | options
    return MySQLdb.connect(host=HOST, port=parts.port, **account, **options)


def copy_scripts(folder: Path) -> None:
    """Put the scripts of the state transfer into the folder, so that they work for root too."""
    source = Path(find("wsrep_sst_rsync")).parent
    for name in ("wsrep_sst_common", "wsrep_sst_rsync"):
        text = (source / name).read_text("utf-8")
        if AS_ROOT:  # the daemon of rsync would run as nobody
            text = text.replace("use chroot = no\n", "use chroot = no\nuid = root\ngid = root\n")
        (folder / name).write_text(text, "utf-8")
        (folder / name).chmod(0o755)


def end(node: Node) -> None:
    """Kill the server, and print the end of its log, which pytest shows with a failed test."""
    if node.log.exists():
        lines = node.log.read_text(errors="replace").splitlines()
        print(f"-- log of {node.name}", *lines[-60:], sep="\n")
    if node.process and node.process.poll() is None:
        node.process.send_signal(signal.SIGCONT)
        node.process.kill()  # a clean end would wait for the others
        node.process.wait()

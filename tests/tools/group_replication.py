"""Starts a group of MySQL servers with Group Replication on this machine, and does to them what happens to machines.

The MySQL is the one of `make test-versions`, which is unpacked into ~/.cache/meiduo-qq-login.
"""

import secrets
import shutil
import signal
import subprocess
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

from tests.tools import debian, processes
from tests.tools.processes import AS_ROOT, HOST, free_port, wait_until

with suppress(ImportError):  # without it, no test that needs a database server runs
    import MySQLdb

ONLINE = "SELECT COUNT(*) FROM performance_schema.replication_group_members WHERE member_state = 'ONLINE'"
IS_PRIMARY = (
    "SELECT member_role FROM performance_schema.replication_group_members"
    " WHERE member_id = @@server_uuid AND member_state = 'ONLINE'"
)


@dataclass
class Member:
    """One server. Its `url` has the form of DATABASE_URL."""

    number: int
    folder: Path
    group: "Group"
    port: int = field(default_factory=free_port)
    group_port: int = field(default_factory=free_port)
    process: subprocess.Popen | None = None

    @property
    def url(self) -> str:
        return f"mysql://shop:{self.group.password}@{HOST}:{self.port}/meiduo"

    def launch(self) -> None:
        """Start the server, and wait until it listens. It is not in the group yet."""
        seeds = ",".join(f"{HOST}:{member.group_port}" for member in self.group.members)
        command = [*self.group.server, f"--datadir={self.folder / 'database'}", f"--tmpdir={self.folder}"]
        command += [f"--port={self.port}", f"--bind-address={HOST}", f"--socket={self.folder / 'm.sock'}"]
        command += [f"--pid-file={self.folder / 'm.pid'}", "--mysqlx=OFF", "--skip-name-resolve"]
        command += [f"--server-id={self.number}", f"--report-host={HOST}", f"--report-port={self.port}"]
        command += ["--gtid-mode=ON", "--enforce-gtid-consistency=ON", "--innodb-buffer-pool-size=32M"]
        # The data must survive a kill -9, but not a power failure.
        command += ["--innodb-flush-log-at-trx-commit=2", "--innodb-doublewrite=0", "--sync-binlog=0"]
        command += ["--plugin-load-add=group_replication.so"]
        options = {
            "group-name": self.group.name,
            "local-address": f"{HOST}:{self.group_port}",
            "group-seeds": seeds,
            "start-on-boot": "OFF",
            "recovery-get-public-key": "ON",
            **self.group.options,
        }
        command += [f"--loose-group-replication-{name}={value}" for name, value in options.items()]
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
        wait_until(self._answers, f"member {self.number} answers")

    def _answers(self) -> bool:
        assert self.process.poll() is None, f"member {self.number} has ended:\n{self.log.read_text(errors='replace')}"
        try:
            self.query("SELECT 1")
        except MySQLdb.Error:
            return False
        return True

    @property
    def log(self) -> Path:
        return self.folder / "member.log"

    def join(self, *, first: bool = False) -> None:
        """Enter the group, and wait until the server has caught up. `first`: begin the group."""
        self.query(f"SET GLOBAL group_replication_bootstrap_group = {first:d}")
        self.query(f"START GROUP_REPLICATION USER = 'shop', PASSWORD = '{self.group.password}'")
        self.query("SET GLOBAL group_replication_bootstrap_group = 0")
        wait_until(lambda: self.role is not None, f"member {self.number} is in the group")

    def start(self) -> None:
        """Start a server that was stopped or killed, and let it enter the group again."""
        self.launch()
        self.join()

    def stop(self) -> None:
        self.process.terminate()
        processes.end(self.process)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def pause(self) -> None:
        """Let the server hang. The others expel it after about 10 s."""
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    @property
    def role(self) -> str | None:
        """PRIMARY or SECONDARY; None outside the group."""
        rows = self.query(IS_PRIMARY)
        return rows[0][0] if rows else None

    def become_primary(self) -> None:
        ((server_uuid,),) = self.query("SELECT @@server_uuid")
        self.query("SELECT group_replication_set_as_primary(%s)", server_uuid)

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
        account = {"user": "shop", "passwd": self.group.password, "db": "meiduo"}
        options = {"autocommit": True, "charset": "utf8mb4", "connect_timeout": 2, "read_timeout": 60} | options
        return MySQLdb.connect(host=HOST, port=self.port, **account, **options)


@dataclass
class Group:
    server: list[str]
    options: dict[str, str]  # of group_replication, with - and without the prefix
    members: list[Member] = field(default_factory=list)
    name: str = field(default_factory=lambda: str(uuid4()))
    password: str = field(default_factory=lambda: secrets.token_hex(16))

    @property
    def primary(self) -> Member:
        """The first primary among the servers that run."""
        return next(member for member in self.running if member.role == "PRIMARY")

    @property
    def running(self) -> list[Member]:
        return [member for member in self.members if member.process and member.process.poll() is None]

    def wait_for_primary(self) -> Member:
        """Wait until the servers that run have a primary that takes writes; return it."""

        def takes_writes() -> bool:
            try:
                return self.primary.query("SELECT @@super_read_only") == ((0,),)
            except (StopIteration, MySQLdb.Error):
                return False

        wait_until(takes_writes, "the group has a primary")
        return self.primary


@contextmanager
def group_replication(folder: Path, count: int = 3, **options: str):
    """Run a single-primary group with an empty database `meiduo`; the block gets a Group.

    `options`: those of group_replication, with _ and without the prefix, as in unreachable_majority_timeout="5".
    Raises NotAvailable if no MySQL can be had.
    """
    root = debian.unpack(debian.CACHE / "MySQL-9.7", "sid", "mysql-server-core")
    server = [*debian.through_loader(root, "usr/sbin/mysqld"), "--no-defaults", *AS_ROOT]
    server += [f"--basedir={root / 'usr'}", f"--plugin-dir={root / 'usr/lib/mysql/plugin'}", "--secure-file-priv=NULL"]
    group = Group(server, {name.replace("_", "-"): value for name, value in options.items()})
    folder.mkdir(exist_ok=True)
    setup = folder / "setup.sql"
    setup.write_text(
        "CREATE DATABASE meiduo CHARACTER SET utf8mb4;\n"
        f"CREATE USER shop@'{HOST}' IDENTIFIED BY '{group.password}';\n"
        f"GRANT ALL ON *.* TO shop@'{HOST}' WITH GRANT OPTION;\n"
    )
    data = folder / "database"
    with (folder / "setup.log").open("ab") as output:
        initialize = [*server, f"--datadir={data}", f"--tmpdir={folder}", "--initialize"]
        subprocess.run([*initialize, f"--init-file={setup}"], stdout=output, stderr=output, check=True)
    (data / "auto.cnf").unlink(missing_ok=True)  # each server makes an id of its own
    group.members += [Member(number, folder / f"member{number}", group) for number in range(1, count + 1)]
    with ExitStack() as stack:
        for member in group.members:
            member.folder.mkdir()
            shutil.copytree(data, member.folder / "database")
            stack.callback(end, member)
            member.launch()
            member.query("RESET BINARY LOGS AND GTIDS")  # all members begin with the same history: none
            member.join(first=member is group.members[0])
        yield group


def end(member: Member) -> None:
    if member.process and member.process.poll() is None:
        member.process.send_signal(signal.SIGCONT)
        member.process.kill()  # a clean end would wait for the others
        member.process.wait()

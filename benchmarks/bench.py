"""Runs MariaDB, Redis, the upstream and the contestants' servers, and measures windows.

A window is the middle of one load run. The CPU time that the server used in it, divided by the logins that the upstream
counted in it, is the cost of a login.
"""

import json
import os
import platform
import queue
import random
import re
import resource
import secrets
import ssl
import subprocess
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from benchmarks import measure
from benchmarks.servers import BEFORE, MIGRATED_BY, OURS, Contestant, extract, get_versions, python_of
from benchmarks.upstream import CLIENT_ID, CLIENT_SECRET
from tests.tools import processes
from tests.tools.processes import HOST, ROOT, running, wait_until

PERSONS = 50_000  # users and bindings in each contestant's tables
PASSWORD = "correct horse"

CORES = sorted(os.sched_getaffinity(0))
SERVER_CORES, OTHER_CORES = set(CORES[:1]), set(CORES[1:]) or set(CORES)


@dataclass(frozen=True)
class Server:
    contestant: Contestant
    port: int
    pid: int
    var: Path

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"

    @property
    def worker(self) -> int:
        return measure.process_tree(self.pid)[-1]


@dataclass
class Snapshot:
    time: float
    cpu: dict[str, float]
    counted: dict[str, int]


@dataclass
class Window:
    begin: float
    seconds: float
    logins: int  # as the upstream counted them
    calls_to_qq: int
    cpu: dict[str, float]  # seconds, by process: the server and everything around it
    records: dict[str, list[Any]] = field(repr=False)  # of the whole run, see load.Records

    @property
    def rate(self) -> float:
        return self.logins / self.seconds

    def cpu_ms(self, process: str = "server") -> float:
        """Return the CPU time of a login."""
        return 1000 * self.cpu[process] / self.logins if self.logins else float("nan")

    def inside(self, name: str) -> list[Any]:
        """Return the calls or flows that ended in the window, or the probes that began in it."""
        at = 0 if name == "probes" else 1  # a probe may never get an answer
        return [each for each in self.records[name] if self.begin <= each[at] < self.begin + self.seconds]

    def latencies(self, name: str = "calls") -> list[float]:
        """Return seconds. A probe without an answer counts as having waited until the end."""
        end = self.begin + self.seconds
        return [(each[1] or max(end, each[0])) - each[0] for each in self.inside(name)]

    def figures(self) -> dict[str, Any]:
        latencies = self.latencies()
        return {
            "logins_per_second": round(self.rate, 1),
            "logins": self.logins,
            "seconds": round(self.seconds, 2),
            "calls_to_qq": round(self.calls_to_qq / max(self.logins, 1), 2),
            "cpu_ms": round(self.cpu_ms(), 4),
            "busy": {process: round(used / self.seconds, 3) for process, used in self.cpu.items()},
            "others_cpu_ms": {process: round(self.cpu_ms(process), 4) for process in self.cpu if process != "server"},
            "p50_ms": percentile(latencies, 50),
            "p99_ms": percentile(latencies, 99),
            "statuses": Counter(str(call[2]) for call in self.inside("calls")),
        }


def percentile(seconds: list[float], percent: float) -> float:
    """Return milliseconds."""
    if not seconds:
        return float("nan")
    return round(1000 * sorted(seconds)[min(int(len(seconds) * percent / 100), len(seconds) - 1)], 2)


class Load:
    """A running load program; load.py says which lines it reads and writes."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self.process = process
        self.lines: queue.Queue[str] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout
        for line in self.process.stdout:
            self.lines.put(line)
        self.lines.put("")

    def send(self, line: str) -> None:
        assert self.process.stdin
        self.process.stdin.write(f"{line}\n")
        self.process.stdin.flush()

    def wait_for(self, word: str, seconds: float = 600) -> bool:
        """Wait until the program writes the word. Return False if it does not in time."""
        ends = time.monotonic() + seconds
        while (remaining := ends - time.monotonic()) > 0:
            try:
                line = self.lines.get(timeout=remaining)
            except queue.Empty:
                return False
            assert line, "the load program ended unexpectedly"
            if line.strip() == word:
                return True
        return False

    def stop(self) -> dict[str, list[Any]]:
        """Stop the load and return its records."""
        self.send("stop")
        while not (line := self.lines.get(timeout=60)).startswith("{"):
            assert line, "the load program ended unexpectedly"
        records: dict[str, list[Any]] = json.loads(line)
        return records


class Bench:
    def __init__(
        self, stack: ExitStack, seconds: float, rounds: int, *, quick: bool = False, rivals: tuple[str, ...] = ()
    ) -> None:
        self.seconds, self.rounds, self.quick, self.rivals = seconds, rounds, quick, rivals
        os.sched_setaffinity(0, OTHER_CORES)
        _, maximum = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (maximum, maximum))
        self.folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="meiduo-bench-")))
        self.database = stack.enter_context(processes.database(self.folder))
        self.cache = stack.enter_context(processes.redis(self.folder))
        self.ca_file = self.folder / "ca.pem"
        self.upstream = stack.enter_context(self._running_upstream())
        self.stores = self._write_trust_stores()
        self.rates: dict[tuple[str, float], float] = {}  # the last logins/s, by contestant and QQ's delay
        self.delay = 0.0
        self.keys = {name: secrets.token_urlsafe(64) for name in ("SECRET_KEY", "JWT_SIGNING_KEY")}
        self._unused_persons = iter(random.sample(range(1, PERSONS + 1), PERSONS))
        self.pids = {
            "upstream": self.upstream.pid,
            "mariadb": int((self.folder / "database.pid").read_text()),
            "redis": int(measure.redis_info(self.cache, "server")["process_id"]),
        }
        measure.sql(self.database, "SET GLOBAL max_connections = 1000")

    @contextmanager
    def _running_upstream(self) -> Iterator["subprocess.Popen[bytes]"]:
        log = self.folder / "upstream.log"
        command = [python_of("tools"), "-m", "benchmarks.upstream", "--ca-file", str(self.ca_file)]
        with running(command, log, cwd=ROOT, start_new_session=True) as process:
            wait_until(lambda: log.read_text().endswith("\n") or process.poll() is not None, "the upstream listens")
            assert process.poll() is None, log.read_text()
            self.qq_port, self.control_port = map(int, log.read_text().split())
            yield process

    def _write_trust_stores(self) -> dict[str, Path]:
        """Return two trust stores: the system's certificate authorities and ours; ours alone."""
        candidates = (ssl.get_default_verify_paths().cafile, "/etc/ssl/certs/ca-certificates.crt")
        system = next((Path(path) for path in candidates if path and Path(path).is_file()), None)
        assert system, "This system has no file of certificate authorities. On Debian: apt-get install ca-certificates"
        both = self.folder / "system-and-ca.pem"
        both.write_bytes(system.read_bytes() + self.ca_file.read_bytes())
        return {"system": both, "one": self.ca_file}

    def describe(self) -> dict[str, Any]:
        """Return the machine and the versions that the results belong to."""
        model = re.search(r"^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text(), re.M)
        return {
            "time": time.strftime("%Y-%m-%d %H:%M"),
            "CPU": f"{model[1] if model else platform.machine()}, {len(CORES)} cores",
            "load average": round(os.getloadavg()[0], 2),
            "certificates": self.stores["system"].read_text().count("BEGIN CERTIFICATE") - 1,
            "versions": {
                "Python": platform.python_version(),
                "OpenSSL": ssl.OPENSSL_VERSION.split()[1],
                "MariaDB": measure.sql(self.database, "SELECT VERSION()")[0][0].partition("-")[0],
                "Redis": measure.redis_info(self.cache, "server")["redis_version"],
                **get_versions(),
            },
        }

    def set_upstream(self, **changes: Any) -> dict[str, int]:
        """Change how the upstream behaves (see upstream.Behaviour); return its counters."""
        self.delay = changes.get("delay", self.delay)
        return measure.control(self.control_port, **changes)

    def pick_persons(self, count: int) -> list[int]:
        """Return random users that no earlier call returned: the shop limits what one user may try."""
        return list(islice(self._unused_persons, count))

    # Contestants

    def get_database_url(self, name: str) -> str:
        return f"{self.database.rpartition('/')[0]}/{name}"

    def get_source(self, contestant: Contestant) -> Path:
        """Return the folder with the contestant's code; another commit's is extracted first."""
        if not contestant.revision:
            return ROOT
        folder = self.folder / contestant.name
        if not folder.exists():
            extract(contestant.revision, folder)
        return folder

    def get_var(self, contestant: Contestant) -> Path:
        """Return the folder for the contestant's logs."""
        folder = self.folder / f"var-{contestant.database}"
        folder.mkdir(exist_ok=True)
        return folder

    def environ(self, contestant: Contestant, port: int, store: str, database: str) -> dict[str, str]:
        var = self.get_var(contestant)
        url = f"http://{HOST}:{port}"
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ}
        trusted = str(self.stores[store])
        return {
            **kept,
            "PYTHONUTF8": "1",
            "PYTHONDONTWRITEBYTECODE": "1",
            "DJANGO_SETTINGS_MODULE": contestant.settings,
            "WEB_CONCURRENCY": "1",
            "DATABASE_URL": self.get_database_url(database),
            # Another database of the same Redis, so that the two builds do not read each other's entries.
            "CACHE_URL": f"{self.cache.removesuffix('/0')}/{int(contestant is BEFORE)}",
            "DRAIN_SECONDS": "0",
            "NUM_PROXIES": "1",
            "VAR_DIR": str(var),
            "CAPTCHA_LOG": str(var / "captcha.log"),
            "SMS_HOURLY_CEILING": "100000",
            "QQ_API_URL": f"https://{HOST}:{self.qq_port}",
            "QQ_CLIENT_ID": CLIENT_ID,
            "QQ_CLIENT_SECRET": CLIENT_SECRET,
            "QQ_REDIRECT_URI": f"{url}/oauth/qq/callback/",
            "QQ_CALLBACK_PAGE": f"{url}/oauth_callback.html",
            "SSL_CERT_FILE": trusted,
            "REQUESTS_CA_BUNDLE": trusted,  # requests ignores SSL_CERT_FILE
            **self.keys,
            **contestant.environ,
        }

    def prepare_database(self, contestant: Contestant, name: str = "", bindings: int = PERSONS) -> None:
        """Create the contestant's tables by its own migrations, and fill them."""
        name = name or contestant.database
        if measure.sql(self.database, f"SHOW DATABASES LIKE '{name}'"):
            return
        measure.sql(self.database, f"CREATE DATABASE {name} CHARACTER SET utf8mb4")
        environ = self.environ(contestant, 1, "one", name)
        command = [contestant.python(), "-m", "django", "migrate", "--run-syncdb", "--verbosity=0", "--skip-checks"]
        subprocess.run(command, cwd=self.get_source(contestant), env=environ, stdin=subprocess.DEVNULL, check=True)
        fill = FILLED[contestant.database].format(
            users=PERSONS, bindings=bindings, password=self.hash_password(contestant)
        )
        measure.sql(self.get_database_url(name), fill)

    def hash_password(self, contestant: Contestant) -> str:
        program = f"from django.contrib.auth.hashers import make_password as make; print(make({PASSWORD!r}))"
        return self.run_program(program, contestant).strip()

    def run_program(self, program: str, contestant: Contestant = OURS) -> str:
        """Run a short program with a shop's settings on the server's core; return its output."""
        with self.start_program(program, contestant) as process:
            output, _ = process.communicate()
        assert process.returncode == 0, output
        return output

    def start_program(self, program: str, contestant: Contestant) -> subprocess.Popen[str]:
        """Start a program like run_program does. It reads from a pipe and ends with it."""
        return subprocess.Popen(
            [contestant.python(), "-c", f"import django; django.setup(); {program}"],
            cwd=self.get_source(contestant),
            env=self.environ(contestant, 1, "one", contestant.database),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,  # errors go to the terminal
            encoding="utf-8",
            preexec_fn=lambda: os.sched_setaffinity(0, SERVER_CORES),
        )

    @contextmanager
    def serve(
        self, contestant: Contestant, *, store: str = "one", database: str = "", cores: set[int] = SERVER_CORES
    ) -> Iterator[Server]:
        """Run a contestant's server while the block runs."""
        database = database or contestant.database
        self.prepare_database(MIGRATED_BY[contestant.database], database)
        port = processes.free_port()
        log = self.folder / f"{contestant.name}-{port}.log"
        parts = {"address": f"{HOST}:{port}", "port": port}
        command = [contestant.python(), *(part.format(**parts) for part in contestant.command)]
        environ = self.environ(contestant, port, store, database)
        options: dict[str, Any] = {"cwd": self.get_source(contestant), "env": environ, "start_new_session": True}
        with running(command, log, preexec_fn=lambda: os.sched_setaffinity(0, cores), **options) as process:
            try:
                url = f"http://{HOST}:{port}"
                wait_until(lambda: process.poll() is not None or processes.answers(url), f"{contestant.name} answers")
                assert process.poll() is None, f"{contestant.title} ended unexpectedly"
                yield Server(contestant, port, process.pid, self.get_var(contestant))
            except AssertionError:
                print(log.read_text(errors="replace")[-4000:])
                raise

    # Windows

    @contextmanager
    def load(self, server: Server, *, cores: set[int] = OTHER_CORES, **job: Any) -> Iterator[Load]:
        """Start a load program and let it prepare. The block sends `go`."""
        job = {"port": server.port, "kind": server.contestant.kind, "persons": PERSONS, **job}
        command = [python_of("tools"), "-m", "benchmarks.load"]
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "encoding": "utf-8"}
        options: dict[str, Any] = {"cwd": ROOT, "start_new_session": True, **pipes}
        with subprocess.Popen(command, preexec_fn=lambda: os.sched_setaffinity(0, cores), **options) as process:
            try:
                load = Load(process)
                load.send(json.dumps(job))
                assert load.wait_for("ready"), "the load program was not ready in time"
                yield load
            finally:
                process.kill()

    def snapshot(self, server: Server, load: Load) -> Snapshot:
        pids = {**self.pids, "load": load.process.pid}
        cpu = {name: measure.cpu_seconds([pid]) for name, pid in pids.items()}
        cpu["server"] = measure.cpu_seconds(measure.process_tree(server.pid))
        return Snapshot(time.monotonic(), cpu, self.set_upstream())

    def window(self, server: Server, *, warm_up: float = 2, seconds: float = 0, **job: Any) -> Window:
        """Run a load on the server and measure its middle."""
        seconds = seconds or self.seconds
        key = server.contestant.name, self.delay
        if server.contestant.kind == "ours" and "flows" not in job:
            expected = job.get("rate") or self.rates.get(key) or self.rates.get(("ours", 0), 500)
            job["flows"] = int(1.3 * expected * (warm_up + seconds)) + job.get("clients", 0)
        while True:
            with self.load(server, **job) as load:
                load.send("go")
                time.sleep(warm_up)
                before = self.snapshot(server, load)
                # The window ends before the prepared logins run out: the load must be steady until its end.
                is_short = load.wait_for("low", seconds=seconds)
                after = self.snapshot(server, load)
                window = between(before, after, load.stop())
            assert window.logins, "no login reached the upstream"
            if not is_short or window.seconds > 0.7 * seconds:
                break
            job["flows"] = int(1.5 * job["flows"])  # the server was faster than expected: repeat
        if job.get("clients"):
            self.rates[key] = max(window.rate, 50)
        return window

    def use_up(self, server: Server, **job: Any) -> Window:
        """Measure from the first to the last of the logins that the load has prepared."""
        with self.load(server, **job) as load:
            before = self.snapshot(server, load)
            load.send("go")
            assert load.wait_for("done"), "the load program was not done in time"
            after = self.snapshot(server, load)
            return between(before, after, load.stop())


def between(before: Snapshot, after: Snapshot, records: dict[str, list[Any]]) -> Window:
    counted = {name: after.counted[name] - before.counted[name] for name in after.counted}
    return Window(
        begin=before.time,
        seconds=after.time - before.time,
        logins=counted["token"],
        calls_to_qq=counted["token"] + counted["me"] + counted["get_user_info"],
        cpu={name: after.cpu[name] - before.cpu[name] for name in after.cpu},
        records=records,
    )


# Person n has the openid UPPER(MD5(n)) and is bound to user n, whose mobile is 13000000000 + n. Where there are more
# bindings than users, each user has several. Without checks MariaDB sorts first and builds each index at once.
FILLED = {
    "ours": """
        SET SESSION unique_checks = 0, foreign_key_checks = 0;
        INSERT INTO tb_users (id, password, is_superuser, username, first_name, last_name, email, is_staff, is_active,
                              date_joined, mobile, email_active, token_generation)
        SELECT seq, '{password}', 0, CONCAT('sample_', seq), '', '', '', 0, 1, NOW(), 13000000000 + seq, 0, 0
        FROM seq_1_to_{users};
        INSERT INTO tb_oauth_qq (openid, user_id, create_time, update_time)
        SELECT UPPER(MD5(seq)), (seq - 1) % {users} + 1, NOW(), NOW() FROM seq_1_to_{bindings};
        ANALYZE TABLE tb_users, tb_oauth_qq;
    """,
    "tutorial": """
        INSERT INTO tb_users (id, password, is_superuser, username, first_name, last_name, email, is_staff, is_active,
                              date_joined, mobile)
        SELECT seq, '{password}', 0, CONCAT('sample_', seq), '', '', '', 0, 1, NOW(), 13000000000 + seq
        FROM seq_1_to_{users};
        INSERT INTO tb_oauth_qq (openid, user_id, create_time, update_time)
        SELECT UPPER(MD5(seq)), seq, NOW(), NOW() FROM seq_1_to_{bindings};
        ANALYZE TABLE tb_users, tb_oauth_qq;
    """,
    "peer": """
        INSERT INTO auth_user (id, password, is_superuser, username, first_name, last_name, email, is_staff, is_active,
                               date_joined)
        SELECT seq, '{password}', 0, CONCAT('sample_', seq), '', '', '', 0, 1, NOW() FROM seq_1_to_{users};
        INSERT INTO social_auth_usersocialauth (id, user_id, provider, uid, extra_data, created, modified)
        SELECT seq, seq, 'qq', UPPER(MD5(seq)), '{{}}', NOW(), NOW() FROM seq_1_to_{bindings};
        ANALYZE TABLE auth_user, social_auth_usersocialauth;
    """,
}
FILLED["build_before"] = FILLED["ours"]

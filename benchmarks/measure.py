"""Reads what processes and servers have used so far: CPU, memory, statements."""

import json
import os
import re
import socket
import subprocess
from collections import Counter
from collections.abc import Iterable
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tests.tools.processes import find

TICKS = os.sysconf("SC_CLK_TCK")


def process_tree(pid: int) -> list[int]:
    """Return a process and all its descendants."""
    parents = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parents[int(folder.name)] = int(_stat(int(folder.name))[1])
        except OSError:  # it has just ended
            continue
    found = [pid]
    for member in found:
        found += [child for child, parent in parents.items() if parent == member]
    return found


def cpu_seconds(pids: Iterable[int]) -> float:
    """Return the user and system time of the processes and of their children that have ended."""
    return sum(sum(map(int, _stat(pid)[11:15])) for pid in pids) / TICKS


def _stat(pid: int) -> list[str]:
    # The fields after the name, which may contain blanks and brackets.
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def memory(pid: int) -> dict[str, float]:
    """Return a process's memory in MB: resident, and proportional (shared pages are divided among their users)."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return {name: int(re.findall(rf"^{name}: +(\d+) kB", text, re.M)[0]) / 1024 for name in ("Rss", "Pss")}


def threads(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/task").iterdir()))


def sql(database_url: str, statements: str) -> list[list[str]]:
    """Run statements with the MariaDB client; return their rows."""
    url = urlsplit(database_url)
    client = find("mariadb")
    assert client, "the MariaDB client is not installed"
    command = [client, "--no-defaults", f"--host={url.hostname}", f"--port={url.port}", f"--user={url.username}"]
    command += ["--batch", "--skip-column-names", url.path.lstrip("/")]
    environ = {**os.environ, "MYSQL_PWD": url.password or ""}
    done = subprocess.run(command, input=statements, env=environ, capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stderr
    return [line.split("\t") for line in done.stdout.splitlines()]


def statements(database_url: str) -> Counter[str]:
    """Return how many SQL statements of each kind MariaDB has run."""
    rows = sql(database_url, "SHOW GLOBAL STATUS WHERE Variable_name LIKE 'Com\\_%' OR Variable_name = 'Questions'")
    return Counter({name: int(value) for name, value in rows if value.isdigit()})


def redis_info(cache_url: str, section: str) -> dict[str, str]:
    url = urlsplit(cache_url)
    with socket.create_connection((url.hostname, url.port)) as sock, sock.makefile("rb") as answer:
        sock.sendall(f"INFO {section}\r\n".encode())
        text = answer.read(int(answer.readline()[1:])).decode()
    return dict(line.split(":", 1) for line in text.splitlines() if ":" in line)


def redis_commands(cache_url: str) -> Counter[str]:
    """Return how many commands of each kind Redis has run."""
    info = redis_info(cache_url, "commandstats")
    calls = {name.removeprefix("cmdstat_"): int(re.findall(r"calls=(\d+)", value)[0]) for name, value in info.items()}
    calls.pop("info", None)
    return Counter(calls)


def control(port: int, **changes: Any) -> dict[str, int]:
    """Change how the upstream behaves; return its counters."""
    connection = HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("PUT", "/", json.dumps(changes))
        counted: dict[str, int] = json.loads(connection.getresponse().read())
        return counted
    finally:
        connection.close()

"""`make test`: style, types, and all tests on SQLite, on MariaDB and Redis, and in Chromium. Arguments go to pytest.

Run as root on Debian, it first installs missing packages, but none that starts a service. Its servers use free loopback
ports and a temporary folder, so no other server of the machine is touched.

If something is missing, everything else still runs, and the last lines list what did not. The exit code is 0 if
everything that ran has passed; with CI=true, only if everything ran.

Standard library only: this program installs the rest.
"""

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import NoReturn
from xml.etree import ElementTree

import processes
from processes import ROOT, find, find_redis

# Everything runs on MariaDB and Redis. These tests also run on SQLite and local memory, where developers work: their
# results depend on transactions, unique keys, SQL dialect, or on how the cache counts and adds.
ON_SQLITE_TOO = [
    "tests/oauth/views",
    "tests/oauth/test_binding.py",
    "tests/oauth/test_ratelimit.py",
    "tests/oauth/test_counters.py",
    "tests/oauth/test_migrations.py",
    "tests/oauth/test_admin.py",
    "tests/users",
    "tests/e2e/test_fuzz.py",  # on SQLite only
]
# Nothing else of the caller's environment: its DATABASE_URL or QQ_… would lead the tests to real servers.
KEPT = ("PATH", "HOME", "USER", "LANG", "LC_ALL", "TMPDIR", "TERM", "CI", "PYTHONDONTWRITEBYTECODE", "PYTEST_ADDOPTS")
NO_TESTS = 5  # pytest's exit code
TIMEOUT = 15 * 60  # seconds a step may take; a few minutes are usual


class Run:
    def __init__(self, arguments: Sequence[str], folder: Path) -> None:
        self.arguments = arguments
        self.folder = folder
        self.steps: list[tuple[bool, str]] = []
        self.passed = self.failed = 0
        self.ran: set[str] = set()
        self.skipped: dict[str, str] = {}  # tests and the reasons
        self.not_run: list[str] = []

    def step(self, name: str, *command: str | Path, good: Sequence[int] = (0,), **environ: str) -> bool:
        """Run a Python module; return whether its exit code is good."""
        print(f"\n== {name}", flush=True)
        start = time.monotonic()
        kept = {name: os.environ[name] for name in KEPT if name in os.environ}
        environ = kept | {"PYTHONUTF8": "1", "VAR_DIR": str(self.folder / f"var-{len(self.steps)}")} | environ
        is_good = call([sys.executable, "-m", *map(str, command)], environ) in good
        self.steps.append((is_good, f"{name} ({time.monotonic() - start:.0f} s)"))
        return is_good

    def check(self, name: str, *command: str | Path) -> None:
        self.count(passed=int(is_good := self.step(name, *command)), failed=int(not is_good))

    def pytest(self, name: str, markers: str, *paths: str, data_file: str | None = None, **environ: str) -> None:
        measured = ["coverage", "run", f"--data-file={self.folder / data_file}", "-m"] if data_file else []
        report = self.folder / f"report-{len(self.steps)}.xml"
        options = ["-m", markers, f"--junit-xml={report}", "-o", "faulthandler_timeout=120"]
        selected = self.arguments or paths  # tests chosen by the caller run on every database
        good = (0, NO_TESTS) if self.arguments else (0,)
        is_good = self.step(name, *measured, "pytest", *options, *selected, good=good, **environ)
        passed = failed = 0
        for test in ElementTree.parse(report).iter("testcase") if report.exists() else ():
            full_name = f"{test.get('classname')}::{test.get('name')}"
            if (skipped := test.find("skipped")) is not None:
                self.skipped[full_name] = skipped.get("message", "")
                continue
            self.ran.add(full_name)
            is_failed = test.find("failure") is not None or test.find("error") is not None
            passed, failed = passed + (not is_failed), failed + is_failed
        self.count(passed, failed or int(not is_good))

    def count(self, passed: int, failed: int) -> None:
        self.passed += passed
        self.failed += failed

    def summary(self) -> int:
        """Print the results; return the exit code."""
        print("\n== Summary")
        for is_good, name in self.steps:
            print(f"{'passed' if is_good else 'FAILED':8}{name}")
        skipped = [(test.partition("::")[0], why) for test, why in self.skipped.items() if test not in self.ran]
        self.not_run += [f"{number} of {file}: {why}" for (file, why), number in Counter(skipped).items()]
        if self.not_run:
            lines = ["NOT EVERYTHING WAS TESTED. These did not run:", *self.not_run]
            print("", "!" * 80, *(f"!!  {line}" for line in lines), "!" * 80, sep="\n")
        print(f"{self.passed} passed, {self.failed} failed", flush=True)
        is_incomplete = self.not_run and os.environ.get("CI") == "true"
        return 1 if is_incomplete or not all(is_good for is_good, _ in self.steps) else 0


def call(command: Sequence[str], environ: Mapping[str, str]) -> int:
    """Run a command and return its exit code. After the timeout, or if we are stopped, let it clean up."""
    process = subprocess.Popen(command, cwd=ROOT, env=environ, stdin=subprocess.DEVNULL)
    try:
        return process.wait(TIMEOUT)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGINT)
        return end(process) or 1
    except KeyboardInterrupt:  # the terminal has sent it to every process
        end(process)
        raise
    except BaseException:
        process.send_signal(signal.SIGINT)  # on SIGTERM, pytest would not end what its tests have started
        end(process)
        raise


def end(process: "subprocess.Popen[bytes]") -> int:
    try:
        return process.wait(30)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()


def install_packages() -> None:
    """As root on Debian, install what is missing. A failure is no error: the other tests still run."""
    wanted = {
        # The packages mariadb-server and redis-server would start services.
        "MariaDB": (has_mariadb(), ["mariadb-server-core", "mariadb-client-core"]),
        "Redis": (find_redis() is not None, ["redis-tools"]),
        "memcached": (runs("memcached", "-V"), []),
        "nginx": (runs("nginx", "-v"), []),
        "Chromium": (find("chromium") is not None, ["chromium"]),
        "a Chinese font": (is_installed("fonts-noto-cjk"), ["fonts-noto-cjk"]),
        "mysqlclient": (has_mysqlclient(), compiler_packages()),
    }
    missing = {name: packages for name, (is_there, packages) in wanted.items() if not is_there}
    if not missing:
        return
    if os.geteuid() != 0 or not find("apt-get"):
        print("Not root on Debian, so these are not installed:", *(p for names in missing.values() for p in names))
        return
    apt_get = ["apt-get", "-qq", "-o", "DPkg::Lock::Timeout=300", "-o", "Dpkg::Use-Pty=0"]
    environ = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    call([*apt_get, "update"], environ)
    # --no-remove: never replace another server of this machine.
    install = [*apt_get, "install", "--yes", "--no-install-recommends", "--no-remove"]
    for name, packages in missing.items():  # separately, so that one missing package does not prevent the others
        print(f"== Installing {name}: {shlex.join(packages)}".rstrip(": "), flush=True)
        if packages:
            call([*install, *packages], environ)
        else:
            unpack(name, install, environ)


def unpack(program: str, install: Sequence[str], environ: Mapping[str, str]) -> None:
    """Copy a Debian program next to our Python. Its package starts a service, so only its libraries are installed."""
    with tempfile.TemporaryDirectory() as folder:
        download = ["apt-get", "-qq", "-o", "APT::Sandbox::User=root", "download", program]
        subprocess.run(download, cwd=folder, stdin=subprocess.DEVNULL, check=False)
        for package in Path(folder).glob("*.deb"):
            needed = output_of("dpkg-deb", "--field", str(package), "Depends")
            call([*install, "--no-upgrade", *re.findall(r"\blib[\w.+-]+", needed)], environ)
            subprocess.run(["dpkg-deb", "--extract", package, folder], check=False)
            for found in Path(folder).glob(f"usr/*bin/{program}"):
                shutil.copy(found, sysconfig.get_path("scripts"))


def output_of(*command: str) -> str:
    return subprocess.run(command, capture_output=True, encoding="utf-8", check=False).stdout


def runs(program: str, option: str) -> bool:
    path = find(program)
    return path is not None and subprocess.run([path, option], capture_output=True, check=False).returncode == 0


def has_mariadb() -> bool:
    return all(map(find, ("mariadbd", "mariadb-install-db", "my_print_defaults")))


def has_mysqlclient() -> bool:
    return runs(sys.executable, "-cimport MySQLdb")


def is_installed(package: str) -> bool:
    query = ("dpkg-query", "--show", "--showformat=${db:Status-Status}", package)
    return not find("dpkg-query") or output_of(*query) == "installed"


def compiler_packages() -> list[str]:
    headers = Path(sysconfig.get_path("include")) / "Python.h"
    return ["gcc", "libc6-dev", "libmariadb-dev", "pkg-config", *([] if headers.exists() else ["python3-dev"])]


def pip_install(requirements: str) -> bool:
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", requirements]
    return call(command, os.environ) == 0


def main(arguments: Sequence[str]) -> int:
    install_packages()
    print("== Installing the Python packages into .venv", flush=True)
    if not pip_install("tests/requirements.txt"):
        sys.exit("The Python packages of tests/requirements.txt cannot be installed.")
    if not has_mysqlclient():
        pip_install("requirements.txt")

    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="meiduo-test-")))
        run = Run(arguments, folder)
        run.check("Style", "ruff", "check")
        run.check("Format", "ruff", "format", "--check")
        run.check("Types", "mypy")

        needed = {"MariaDB": has_mariadb(), "mysqlclient": has_mysqlclient(), "Redis": find_redis() is not None}
        absent = " and no ".join(name for name, is_there in needed.items() if not is_there)
        on_sqlite = ["tests"] if absent else ON_SQLITE_TOO
        run.pytest("SQLite and local memory", "not browser and not servers", *on_sqlite, data_file="coverage-sqlite")
        if absent:
            run.not_run.append(f"all tests on MariaDB and Redis, and those marked servers: no {absent}")
            run.not_run.append("the check that every branch of apps/oauth is tested: some run only on MariaDB")
        else:
            with processes.mariadb(folder) as database_url, processes.redis(folder) as cache_url:
                servers = {"DATABASE_URL": database_url, "CACHE_URL": cache_url}
                run.pytest("MariaDB and Redis", "not browser", data_file="coverage-mariadb", **servers)
        if find("chromium"):
            run.pytest("Chromium", "browser")
        else:
            run.not_run.append("the tests marked browser: no chromium")
        if not absent and not arguments:  # some tests do not cover everything
            combined = f"--data-file={folder / 'coverage'}"
            run.check("Coverage", "coverage", "combine", combined, *sorted(folder.glob("coverage-*")))
            run.check("Every branch of apps/oauth is tested", "coverage", "report", combined)
        return run.summary()


def stop(*_: object) -> NoReturn:
    for ending in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(ending, signal.SIG_IGN)  # a second signal must not interrupt the cleaning up
    sys.exit("Stopped.")


if __name__ == "__main__":
    for ending in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(ending, stop)
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit("Stopped.")

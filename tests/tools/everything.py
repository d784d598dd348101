"""Try everything the project claims: `make test`. Arguments are handed to pytest.

The style, the types, and the tests: on SQLite and local memory, then on a MariaDB and a Redis of its own and behind
nginx, then in Chromium. As root on Debian it installs the packages that are missing for that, only such as bring no
service; the servers listen on free loopback ports, live in a temporary folder and end with this program, so that no
server of the machine is touched.

Where something cannot be had, the rest runs all the same, and the last lines say which tests did not. The exit code is
0 if all that ran has passed; with CI=true also only if everything ran.

Standard library only, as it is what installs the rest.
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

# Of the caller's environment: its DATABASE_URL or QQ_… would turn the tests into other ones, or against real servers.
KEPT = ("PATH", "HOME", "USER", "LANG", "LC_ALL", "TMPDIR", "TERM", "CI", "PYTHONDONTWRITEBYTECODE", "PYTEST_ADDOPTS")
NO_TESTS = 5  # pytest's exit code
PATIENCE = 15 * 60  # seconds: each step takes a few minutes at most, on a slow machine too


class Run:
    """What has been done so far, and how it went."""

    def __init__(self, arguments: Sequence[str], folder: Path) -> None:
        self.arguments = arguments
        self.folder = folder
        self.results: list[tuple[bool, str]] = []
        self.not_run: list[str] = []
        self.ran: set[str] = set()  # tests, on whatever database
        self.skipped: dict[str, str] = {}  # tests, and why

    def step(self, name: str, *command: str | Path, good: Sequence[int] = (0,), **environ: str) -> None:
        """Run a Python module and note whether it liked what it saw."""
        print(f"\n== {name}", flush=True)
        start = time.monotonic()
        kept = {name: os.environ[name] for name in KEPT if name in os.environ}
        environ = kept | {"PYTHONUTF8": "1", "VAR_DIR": str(self.folder / "var")} | environ
        status = call([sys.executable, "-m", *map(str, command)], environ)
        self.results.append((status in good, f"{name} ({time.monotonic() - start:.0f} s)"))

    def pytest(self, name: str, markers: str, data_file: str | None = None, **environ: str) -> None:
        good = (0, NO_TESTS) if self.arguments else (0,)
        measured = ["coverage", "run", f"--data-file={self.folder / data_file}", "-m"] if data_file else []
        environ = {"VAR_DIR": str(self.folder / f"var-{len(self.results)}"), **environ}
        report = self.folder / f"report-{len(self.results)}.xml"
        options = ["-m", markers, f"--junit-xml={report}"]
        options += ["-o", "faulthandler_timeout=120"]  # a test that hangs says where
        self.step(name, *measured, "pytest", *options, *self.arguments, good=good, **environ)
        for test in ElementTree.parse(report).iter("testcase") if report.exists() else ():
            full_name = f"{test.get('classname')}::{test.get('name')}"
            reason = test.find("skipped")
            if reason is None:
                self.ran.add(full_name)
            else:
                self.skipped[full_name] = reason.get("message", "")

    def summary(self) -> int:
        """Print how everything went; return the exit code."""
        print("\n== In short")
        for is_good, name in self.results:
            print(f"{'passed' if is_good else 'FAILED':8}{name}")
        skipped = [(test.partition("::")[0], why) for test, why in self.skipped.items() if test not in self.ran]
        for (file, why), number in Counter(skipped).items():
            self.not_run.append(f"{number} of {file}: {why}")
        if self.not_run:
            lines = ["NOT EVERYTHING WAS TESTED. These did not run:", *self.not_run]
            print("", "!" * 80, *(f"!!  {line}" for line in lines), "!" * 80, sep="\n")
        all_good = all(is_good for is_good, _ in self.results)
        return 0 if all_good and not (self.not_run and os.environ.get("CI") == "true") else 1


def call(command: Sequence[str], environ: Mapping[str, str]) -> int:
    """Run a command to its end and return its exit code. Stopped ourselves, or out of patience, let it clean up."""
    process = subprocess.Popen(command, cwd=ROOT, env=environ, stdin=subprocess.DEVNULL)
    try:
        return process.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGINT)
        return end(process) or 1
    except KeyboardInterrupt:  # the terminal sends it to each of its processes
        end(process)
        raise
    except BaseException:
        process.send_signal(signal.SIGINT)  # pytest ends on SIGTERM without ending what its tests have started
        end(process)
        raise


def end(process: "subprocess.Popen[bytes]") -> int:
    """Wait for a process that was asked to end; kill it if it does not."""
    try:
        return process.wait(30)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()


def install_packages() -> None:
    """As root on a Debian, install the packages of what is missing. Failing is no error: the rest goes on."""
    wanted = {
        # Without the services that the packages mariadb-server and redis-server start and keep.
        "MariaDB": (has_mariadb(), ["mariadb-server-core", "mariadb-client-core"]),
        "Redis": (find_redis() is not None, ["redis-tools"]),
        "memcached": (runs("memcached", "-V"), []),
        "nginx": (runs("nginx", "-v"), []),
        "Chromium": (find("chromium") is not None, ["chromium"]),
        "Chinese letters": (is_installed("fonts-noto-cjk"), ["fonts-noto-cjk"]),
        "mysqlclient": (has_mysqlclient(), compiler_packages()),
    }
    missing = {name: packages for name, (is_there, packages) in wanted.items() if not is_there}
    if not missing:
        return
    if os.geteuid() != 0 or not find("apt-get"):
        print("Not root on a Debian, so these are not installed:", *(p for names in missing.values() for p in names))
        return
    apt_get = ["apt-get", "-qq", "-o", "DPkg::Lock::Timeout=300", "-o", "Dpkg::Use-Pty=0"]
    environ = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    call([*apt_get, "update"], environ)
    # --no-remove: where another server of this machine would have to go, it stays and we do without.
    install = [*apt_get, "install", "--yes", "--no-install-recommends", "--no-remove"]
    for name, packages in missing.items():  # one by one: what cannot be had keeps nothing else away
        print(f"== Installing {name}: {shlex.join(packages)}".rstrip(": "), flush=True)
        if packages:
            call([*install, *packages], environ)
        else:
            unpack(name, install, environ)


def unpack(program: str, install: Sequence[str], environ: Mapping[str, str]) -> None:
    """Put a Debian program beside our Python. Its package starts a service, so only the libraries are installed."""
    with tempfile.TemporaryDirectory() as folder:
        download = ["apt-get", "-qq", "-o", "APT::Sandbox::User=root", "download", program]
        subprocess.run(download, cwd=folder, stdin=subprocess.DEVNULL, check=False)
        for package in Path(folder).glob("*.deb"):
            ask = ["dpkg-deb", "--field", package, "Depends"]
            needed = subprocess.run(ask, capture_output=True, encoding="utf-8", check=False).stdout
            call([*install, "--no-upgrade", *re.findall(r"\blib[\w.+-]+", needed)], environ)
            subprocess.run(["dpkg-deb", "--extract", package, folder], check=False)
            for found in Path(folder).glob(f"usr/*bin/{program}"):
                shutil.copy(found, sysconfig.get_path("scripts"))


def runs(program: str, option: str) -> bool:
    path = find(program)
    return path is not None and subprocess.run([path, option], capture_output=True, check=False).returncode == 0


def has_mariadb() -> bool:
    return all(map(find, ("mariadbd", "mariadb-install-db", "my_print_defaults")))


def has_mysqlclient() -> bool:
    return subprocess.run([sys.executable, "-c", "import MySQLdb"], capture_output=True, check=False).returncode == 0


def is_installed(package: str) -> bool:
    if not find("dpkg-query"):
        return True
    query = ["dpkg-query", "--show", "--showformat=${db:Status-Status}", package]
    return subprocess.run(query, capture_output=True, encoding="utf-8", check=False).stdout == "installed"


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
        run.step("Style", "ruff", "check")
        run.step("Format", "ruff", "format", "--check")
        run.step("Types", "mypy")
        run.pytest("Tests on SQLite and local memory", "not browser and not servers", "coverage-sqlite")

        needed = {"MariaDB": has_mariadb(), "mysqlclient": has_mysqlclient(), "Redis": find_redis() is not None}
        if all(needed.values()):
            with processes.mariadb(folder) as database_url, processes.redis(folder) as cache_url:
                environ = {"DATABASE_URL": database_url, "CACHE_URL": cache_url}
                run.pytest("Tests on MariaDB and Redis", "not browser", "coverage-mariadb", **environ)
        else:
            absent = " and no ".join(name for name, is_there in needed.items() if not is_there)
            run.not_run.append(f"all tests on MariaDB and Redis, the races among them (-m servers): no {absent}")

        if find("chromium"):
            run.pytest("Tests in Chromium", "browser")
        else:
            run.not_run.append("the tests in a browser (-m browser): no chromium")

        measured = sorted(folder.glob("coverage-*"))
        if len(measured) < 2:
            run.not_run.append("the check that every branch of apps/oauth is tested: some only are on MariaDB")
        elif not arguments:  # a choice of tests covers a part only
            combined = f"--data-file={folder / 'coverage'}"
            run.step("Coverage", "coverage", "combine", combined, *measured)
            run.step("Every branch of apps/oauth is tested", "coverage", "report", combined)
        return run.summary()


def stop(*_: object) -> NoReturn:
    for ending in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(ending, signal.SIG_IGN)  # a second one must not cut short what the first one began
    sys.exit("Stopped.")


if __name__ == "__main__":
    for ending in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(ending, stop)
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit("Stopped.")

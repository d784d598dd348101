"""`make test`: style, types, and all tests on SQLite, on MariaDB and Redis, and in Chromium. Arguments go to pytest.

It first installs missing packages (packages.py). Its servers use free loopback ports and a temporary folder, so that no
other server of the machine is touched. Two steps run at the same time, and the output of each is printed at its end;
with arguments, one after another.

If something is missing, everything else still runs, and the last lines list what did not. The exit code is 0 if
everything that ran has passed; with CI=true, only if everything ran.

Standard library only: this program installs the rest.
"""

import itertools
import os
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Any, NoReturn
from xml.etree import ElementTree

import packages
import processes
from processes import ROOT

# Paths of the tests, by steps. Measuring coverage doubles the cost of a test, so only the tests of apps/oauth are
# measured, without the files that try most examples; they reach every branch.
MEASURED = "apps/oauth, measured"
UNMEASURED = ["tests/oauth/test_properties.py", "tests/oauth/test_old_tables.py"]
FOLDERS = sorted(f"tests/{path.parent.name}" for path in ROOT.glob("tests/*/__init__.py"))
EVERYTHING = {
    MEASURED: ["tests/oauth", *(f"--ignore={file}" for file in UNMEASURED)],
    "e2e": ["tests/e2e"],
    "everything else": [*UNMEASURED, *(path for path in FOLDERS if path not in ("tests/oauth", "tests/e2e"))],
}
# Everything runs on MariaDB and Redis. These tests also run on SQLite and local memory, where developers work: their
# results depend on transactions, unique keys or SQL, or on how the cache counts and adds.
MODULES = (
    "test_binding",
    "test_ratelimit",
    "test_cache",
    "test_migrations",
    "test_old_tables",
    "test_user_lookup",
    "test_admin",
)
ON_SQLITE_TOO = {
    MEASURED: ["tests/oauth/test_qq_doctor.py"],  # only it has branches that no test on MariaDB reaches
    "everything else": [
        *(f"tests/oauth/{name}.py" for name in MODULES),
        *("tests/oauth/views", "tests/users"),
        "tests/e2e/test_fuzz.py",  # runs on SQLite only
    ],
}
# Nothing else of the caller's environment: its DATABASE_URL or QQ_… would lead the tests to real servers.
KEPT = (
    *("PATH", "HOME", "USER", "LANG", "LC_ALL", "TMPDIR", "TERM", "CI", "PYTHONDONTWRITEBYTECODE", "PYTEST_ADDOPTS"),
    *("DATABASE_SERVER", "CACHE_SERVER"),  # processes.py starts these instead of the installed servers
)
NO_TESTS = 5  # pytest's exit code
TIMEOUT = 30 * 60  # seconds a step may take; a few minutes are usual
Job = Callable[[], None]


class Run:
    def __init__(self, arguments: Sequence[str], folder: Path, python: str = sys.executable) -> None:
        self.arguments, self.folder, self.python = arguments, folder, python
        self.steps: list[tuple[bool, str]] = []
        self.passed = self.failed = 0
        self.ran: set[str] = set()
        self.skipped: dict[str, str] = {}  # tests and the reasons
        self.not_run: list[str] = []
        self.numbers = itertools.count()  # of files
        self.lock = Lock()  # of the results and the output
        self.is_parallel = self.is_stopped = False

    def do(self, *jobs: Job) -> None:
        """Do the jobs, two at the same time; with arguments, one after another."""
        if self.arguments:
            for job in jobs:
                job()
            return
        self.is_parallel = True  # otherwise the output of a step is printed at once
        with ThreadPoolExecutor(2) as pool:
            try:
                for done in [pool.submit(job) for job in jobs]:
                    done.result()
            except BaseException as exc:
                self.is_stopped = True
                pool.shutdown(wait=False, cancel_futures=True)
                processes.end_calls(exc)
                raise
        self.is_parallel = False

    def step(self, name: str, *command: str | Path, good: Sequence[int] = (0,), **environ: str) -> bool:
        """Run a module of `python`; return whether its exit code is good."""
        if self.is_stopped:
            return False
        number = next(self.numbers)
        with self.lock:
            print(f"\n-- {name} begins" if self.is_parallel else f"\n== {name}", flush=True)
        start = time.monotonic()
        kept = {name: os.environ[name] for name in KEPT if name in os.environ}
        environ = kept | {"PYTHONUTF8": "1", "VAR_DIR": str(self.folder / f"var-{number}")} | environ
        output = self.folder / f"output-{number}" if self.is_parallel else None
        is_good = processes.call([self.python, "-m", *map(str, command)], environ, TIMEOUT, output=output) in good
        with self.lock:
            self.steps.append((is_good, f"{name} ({time.monotonic() - start:.0f} s)"))
            if output:
                print(f"\n== {name}", flush=True)
                sys.stdout.buffer.write(output.read_bytes())
                sys.stdout.flush()
        return is_good

    def check(self, name: str, *command: str | Path) -> None:
        self.count(self.step(name, *command))

    def pytest(self, name: str, markers: str, *paths: str, measured: bool = False, **environ: str) -> None:
        number = next(self.numbers)
        report = self.folder / f"report-{number}.xml"
        coverage = ["coverage", "run", f"--data-file={self.folder / f'coverage-{number}'}", "-m"]
        options = ["-m", markers, f"--junit-xml={report}", "-o", "faulthandler_timeout=120"]
        command = [*(coverage if measured else []), "pytest", *options, *(self.arguments or paths)]
        is_good = self.step(name, *command, good=(0, NO_TESTS) if self.arguments else (0,), **environ)
        has_failure = False
        for test in ElementTree.parse(report).iter("testcase") if report.exists() else ():
            name, results = f"{test.get('classname')}::{test.get('name')}", {part.tag: part for part in test}
            if "skipped" in results:
                self.skipped[name] = results["skipped"].get("message", "")
            else:
                self.ran.add(name)
                has_passed = not results.keys() & {"failure", "error"}
                has_failure |= not has_passed
                self.count(has_passed)
        if not (is_good or has_failure):
            self.count(False)

    def pytest_on_servers(self, name: str, markers: str, *paths: str, measured: bool = False) -> None:
        """Run the tests with a MariaDB and a Redis of their own."""
        folder = self.folder / f"servers-{next(self.numbers)}"
        folder.mkdir()
        with processes.database(folder) as database_url, processes.redis(folder) as cache_url:
            urls = {"DATABASE_URL": database_url, "CACHE_URL": cache_url}
            self.pytest(name, markers, *paths, measured=measured, **urls)

    def jobs(self, run: Callable[..., None], servers: str, markers: str, steps: dict[str, list[str]]) -> list[Job]:
        """Return jobs that run the tests of these steps; or, if the caller has chosen tests, one that runs those."""
        if self.arguments:
            return [partial(run, servers, markers)]
        return [
            partial(run, f"{servers}: {name}", markers, *paths, measured=name == MEASURED)
            for name, paths in steps.items()
        ]

    def count(self, is_good: bool) -> None:
        with self.lock:
            self.passed, self.failed = self.passed + is_good, self.failed + (not is_good)

    def summary(self) -> int:
        """Print the results; return the exit code."""
        print("\n== Summary")
        for is_good, name in self.steps:
            print(f"{'passed' if is_good else 'FAILED':8}{name}")
        skipped = [(test.partition("::")[0], why) for test, why in self.skipped.items() if test not in self.ran]
        self.not_run += [f"{number} of {file}: {why}" for (file, why), number in Counter(skipped).items()]
        if self.not_run:
            print("", "!!  NOT EVERYTHING WAS TESTED. These did not run:", *self.not_run, sep="\n!!  ")
        print(f"{self.passed} passed, {self.failed} failed", flush=True)
        is_incomplete = self.not_run and os.environ.get("CI") == "true"
        return 1 if is_incomplete or not all(is_good for is_good, _ in self.steps) else 0


def main(arguments: Sequence[str]) -> int:
    packages.install()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="meiduo-test-")))
        run = Run(arguments, folder)
        run.check("Style", "ruff", "check")
        run.check("Format", "ruff", "format", "--check")
        run.check("Types", "mypy")

        absent = " and no ".join(name for name in ("MariaDB", "mysqlclient", "Redis") if name in packages.missing())
        on_sqlite = EVERYTHING if absent else ON_SQLITE_TOO
        jobs = run.jobs(run.pytest, "SQLite and local memory", "not browser and not servers and not cluster", on_sqlite)
        if absent:
            run.not_run.append(f"all tests on MariaDB and Redis, and those marked servers: no {absent}")
            run.not_run.append("the check that every branch of apps/oauth is tested: some run only on MariaDB")
        else:
            jobs += run.jobs(run.pytest_on_servers, "MariaDB and Redis", "not browser and not cluster", EVERYTHING)
        if processes.find("chromium"):
            jobs.append(partial(run.pytest, "Chromium", "browser", "tests/e2e", "tests/shops"))
        else:
            run.not_run.append("the tests marked browser: no chromium")
        run.do(*jobs)
        if not absent and not arguments:  # some tests do not cover everything
            combined = f"--data-file={folder / 'coverage'}"
            run.check("Coverage", "coverage", "combine", combined, *sorted(folder.glob("coverage-*")))
            run.check("Every branch of apps/oauth is tested", "coverage", "report", combined)
        return run.summary()


def on_signal(handler: Any) -> None:
    for ending in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(ending, handler)


def stop(*_: object) -> NoReturn:
    on_signal(signal.SIG_IGN)  # a second signal must not interrupt the cleaning up
    sys.exit("Stopped.")


if __name__ == "__main__":
    on_signal(stop)
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit("Stopped.")

"""`make test-versions`: the tests on each version in the README's table. ARGS="MySQL 3.10" chooses rows by words.

It installs what `make test` installs. Other Pythons and servers are unpacked into ~/.cache/meiduo-qq-login. The last
lines show the result of each row, and what could not be had. The exit code is 1 if a row failed.
"""

import os
import subprocess
import sys
import sysconfig
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import debian
import packages
import processes
from debian import NotAvailable
from everything import Run, on_signal, stop
from processes import ROOT

# The tests that meet database or cache.
WITH_SERVERS = (
    *("tests/oauth", "tests/users", "tests/e2e", "tests/shops"),
    *("--ignore=tests/oauth/qq", "--ignore=tests/oauth/test_properties.py"),
)


@dataclass(frozen=True)
class Row:
    versions: dict[str, str]  # of a Python row, all but Python's and Django's are the newest of today
    paths: tuple[str, ...] = ("tests",)
    pins: tuple[str, ...] = ()  # requirements beside those of the tests
    forced: tuple[str, ...] = ()  # and against them

    @property
    def name(self) -> str:
        return ", ".join(f"{name} {version}" for name, version in self.versions.items())


def newest(python: str, django: str) -> Row:
    versions = {"Python": python, "Django": django, "DRF": "3.18", "itsdangerous": "2.2"}
    return Row(versions, pins=(f"Django=={django}.*",))


ROWS = (
    Row(
        {"Python": "3.10", "Django": "5.2", "DRF": "3.18", "itsdangerous": "2.0"},
        ("tests", "--ignore=tests/tools/test_supply_chain.py"),  # this shop asks for itsdangerous 2.2
        pins=("Django==5.2.18", "djangorestframework==3.18.2", "httptools==0.8.0"),
        forced=("itsdangerous==2.0.0",),
    ),
    newest("3.11", "5.2"),
    newest("3.12", "6.0"),
    newest("3.13", "6.1"),
    newest("3.14", "6.1"),
    newest("3.15", "6.1"),
    Row({"MariaDB": "10.11", "Redis": "7"}, WITH_SERVERS),
    Row({"MariaDB": "11.8", "Redis": "8"}, WITH_SERVERS),
    Row({"MySQL": "9.7", "Valkey": "9"}, WITH_SERVERS),
)
# What can be unpacked: Debian release, packages, program. Pythons 3.10 and 3.12 are in none; pyenv has them.
DEBIAN = {
    "Python 3.13": ("trixie", ["python3.13", "python3.13-dev"], "usr/bin/python3.13"),
    "Python 3.14": ("sid", ["python3.14", "python3.14-dev"], "usr/bin/python3.14"),
    "Python 3.15": ("sid", ["python3.15", "python3.15-dev"], "usr/bin/python3.15"),
    "MariaDB 11.8": ("trixie", ["mariadb-server-core"], "usr/sbin/mariadbd"),
    "MySQL 9.7": ("sid", ["mysql-server-core"], "usr/sbin/mysqld"),
    "Redis 8": ("trixie", ["redis-server"], "usr/bin/redis-server"),
    "Valkey 9": ("sid", ["valkey-server"], "usr/bin/valkey-server"),
}
SERVERS = dict.fromkeys(("MariaDB", "MySQL"), "DATABASE_SERVER") | dict.fromkeys(("Redis", "Valkey"), "CACHE_SERVER")
PACKAGES = {"Django": "django", "DRF": "djangorestframework", "itsdangerous": "itsdangerous"}


def make_table() -> str:
    """Return the README's table."""
    found: dict[str, dict[str, None]] = {}
    for row in ROWS:
        for name, version in row.versions.items():
            found.setdefault(name, {})[version] = None
    lists = map(list, found.values())
    versions = (f"{listed[0]}–{listed[-1]}" if len(listed) > 3 else ", ".join(listed) for listed in lists)
    return f"| {' | '.join(found)} |\n|{'---|' * len(found)}\n| {' | '.join(versions)} |\n"


def run_row(row: Row, folder: Path) -> tuple[Run, str]:
    """Run the tests of a row; return the results and the exact versions.

    Raises NotAvailable; CalledProcessError or AssertionError if pip or a server fails.
    """
    python = make_environment(row, folder) if "Python" in row.versions else sys.executable
    exact = {"Python": debian.read_version(python)} | read_packages(python)
    unpacked = {}
    for name in filter(SERVERS.get, row.versions):
        command = find_server(name, row.versions[name])
        exact[name] = debian.read_version(*command)
        if len(command) > 1:
            unpacked[SERVERS[name]] = " ".join(command)
    for name, version in row.versions.items():
        if not f"{exact[name]}.".startswith(f"{version}."):
            raise NotAvailable(f"{name} is {exact[name]} here")
    os.environ.update(unpacked)  # for the servers started here, and those that tests start
    try:
        run = Run([], folder, python)
        with processes.database(folder) as database_url, processes.redis(folder) as cache_url:
            servers = {"DATABASE_URL": database_url, "CACHE_URL": cache_url}
            run.pytest(row.name, "not browser and not cluster", *row.paths, **servers)
    finally:
        for variable in unpacked:
            del os.environ[variable]
    return run, ", ".join(map(" ".join, exact.items()))


def make_environment(row: Row, folder: Path) -> str:
    """Return the Python of a new virtual environment with the row's packages."""
    base, python = find_python(row.versions["Python"]), str(folder / "venv/bin/python")
    print(f"\n== Installing the packages of {row.name}", flush=True)
    debian.run(base, "-m", "venv", "--without-pip", str(folder / "venv"))
    # Not the pip of that Python: an unpacked one has none.
    debian.run(sys.executable, "-m", "pip", "download", "--no-deps", "--dest", str(folder), "pip")
    wheel = next(folder.glob("pip-*.whl"))
    pip = ["install", "--quiet", "--disable-pip-version-check"]
    debian.run(python, f"{wheel}/pip", *pip, "--no-index", str(wheel))
    # Debian's header pyconfig.h of an unpacked Python includes another one from there.
    environ = os.environ | {"CFLAGS": f"-idirafter {Path(base).parents[1] / 'include'}"}
    wanted = ["-r", packages.REQUIREMENTS, "-r", "requirements.txt", *row.pins]
    for arguments in (wanted, ["--no-deps", *row.forced]) if row.forced else (wanted,):
        subprocess.run([python, "-m", "pip", *pip, *arguments], cwd=ROOT, env=environ, check=True)
    return python


def find_python(version: str) -> str:
    """Return the path of a Python that is installed, by pyenv or for all, or unpacked."""
    if found := sorted(Path.home().glob(f".pyenv/versions/{version}.*/bin/python{version}")):
        return str(found[-1])  # before pyenv's entry on the PATH, which runs only the versions chosen there
    if program := processes.find(f"python{version}"):
        return program
    return debian.make_python(unpack("Python", version)[0], version)


def find_server(name: str, version: str) -> list[str]:
    if f"{name} {version}" in DEBIAN:
        return debian.through_loader(*unpack(name, version))
    program = processes.find_redis() if name == "Redis" else processes.find("mariadbd")
    return [program or name]


def unpack(name: str, version: str) -> tuple[Path, str]:
    """Return the folder of an unpacked program, and the program's path in it."""
    if f"{name} {version}" not in DEBIAN:
        raise NotAvailable(f"{name} {version} is not installed")
    suite, names, program = DEBIAN[f"{name} {version}"]
    print(f"\n== Unpacking {name} {version} from Debian {suite}", flush=True)
    return debian.unpack(debian.CACHE / f"{name}-{version}", suite, *names), program


def read_packages(python: str) -> dict[str, str]:
    script = "import sys; from importlib.metadata import version; print(*map(version, sys.argv[1:]))"
    return dict(zip(PACKAGES, debian.run(python, "-c", script, *PACKAGES.values()).split(), strict=True))


def main(arguments: list[str]) -> int:
    rows = [row for row in ROWS if not arguments or any(word in row.name for word in arguments)]
    if not rows:
        sys.exit(f"No row has one of these words: {' '.join(arguments)}")
    packages.install()
    os.environ["PATH"] += f"{os.pathsep}{sysconfig.get_path('scripts')}"  # there packages.py puts nginx and memcached
    passed, failed, missing = [], [], []
    for row in rows:
        start = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="meiduo-versions-") as folder:
            try:
                run, exact = run_row(row, Path(folder))
            except NotAvailable as exc:
                missing.append(f"{row.name}: {exc}")
                continue
            except (subprocess.CalledProcessError, AssertionError) as exc:  # by pip; by a server that does not start
                failed.append(f"FAILED  {row.name}: {exc}")
                continue
        seconds = f"{time.monotonic() - start:.0f} s"
        figures = f"{run.passed} passed, {run.failed} failed, {len(run.skipped)} skipped, {seconds}\n{'':8}{exact}"
        if run.passed and all(is_good for is_good, _ in run.steps):
            passed.append(f"passed  {row.name}: {figures}")
        else:
            failed.append(f"FAILED  {row.name}: {figures}")
    print("\n== Versions", *passed, *failed, sep="\n")
    if missing:
        print("", "NOT EVERY VERSION WAS TESTED. These could not be had:", *missing, sep="\n!!  ")
    return 1 if failed else 0


if __name__ == "__main__":
    on_signal(stop)
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit("Stopped.")

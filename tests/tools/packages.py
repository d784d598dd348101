"""Installs the packages of `make test`: Python packages into .venv and, as root on Debian, system packages.

Nothing that starts a service is installed. Standard library only: this runs before anything else is installed.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from processes import ROOT, call, find, find_galera, find_redis

REQUIREMENTS = "tests/requirements.txt"
FAST_PIP = 26  # pip 23, which comes with Python 3.11, needs 90 s of CPU for these packages, this one 64
# {program: (its package, the names of the files)}, where they are not the program's name
UNPACKED = {"promtool": ("prometheus", "promtool"), "wsrep_sst_rsync": ("mariadb-server", "wsrep_sst_*")}


def install() -> None:
    """Install everything that is missing. Only the Python packages of the tests must succeed."""
    if wanted := missing():
        install_debian_packages(wanted)
    print("== Installing the Python packages into .venv", flush=True)
    if int(version("pip").partition(".")[0]) < FAST_PIP:
        pip_install("--upgrade", "pip")
    if not pip_install("-r", REQUIREMENTS):
        sys.exit(f"The Python packages of {REQUIREMENTS} cannot be installed.")
    if "mysqlclient" in missing():
        pip_install("-r", "requirements.txt")


def missing() -> dict[str, list[str]]:
    """Return what is missing, with the Debian packages to install. The packages of servers would start services."""
    headers = Path(sysconfig.get_path("include")) / "Python.h"
    compiler = ["gcc", "libc6-dev", "libmariadb-dev", "pkg-config", *([] if headers.exists() else ["python3-dev"])]
    mariadb = all(map(find, ("mariadbd", "mariadb-install-db", "my_print_defaults")))
    wanted = {
        "MariaDB": (mariadb, ["mariadb-server-core", "mariadb-client-core"]),
        "Redis": (find_redis(), ["redis-tools"]),
        "memcached": (runs("memcached", "-V"), []),  # [] = see unpack()
        "nginx": (runs("nginx", "-v"), []),
        "Galera": (
            all(map(find, ("rsync", "ss", "ps"))) and find_galera(),
            ["galera-4", "rsync", "iproute2", "procps"],
        ),
        "wsrep_sst_rsync": (find("wsrep_sst_rsync"), []),
        "haproxy": (runs("haproxy", "-v"), []),
        "promtool": (runs("promtool", "--version"), []),
        "Chromium": (find("chromium"), ["chromium"]),
        "a Chinese font": (has_chinese_font(), ["fonts-noto-cjk"]),
        "mysqlclient": (runs(sys.executable, "-cimport MySQLdb"), compiler),
    }
    return {name: packages for name, (is_there, packages) in wanted.items() if not is_there}


def install_debian_packages(wanted: dict[str, list[str]]) -> None:
    if os.geteuid() != 0 or not find("apt-get"):
        print("Not installed, as this is not root on Debian:", ", ".join(wanted))
        return
    apt_get = ["apt-get", "-qq", "-o", "DPkg::Lock::Timeout=300", "-o", "Dpkg::Use-Pty=0"]
    run(*apt_get, "update")
    # --no-remove: never replace another server of this machine.
    install = [*apt_get, "install", "--yes", "--no-install-recommends", "--no-remove"]
    for name, packages in wanted.items():  # separately, so that one failure does not prevent the others
        print(f"== Installing {name}: {shlex.join(packages)}".rstrip(": "), flush=True)
        if packages:
            run(*install, *packages)
        else:
            unpack(name, install)


def unpack(program: str, install: Sequence[str]) -> None:
    """Copy a Debian program next to our Python. Its package starts a service, so only its libraries are installed.

    Those of prometheus's pages, libjs-…, and of mariadb-server's backups, libdbi-perl, are not.
    """
    package, names = UNPACKED.get(program, (program, program))
    with tempfile.TemporaryDirectory() as folder:
        run("apt-get", "-qq", "-o", "APT::Sandbox::User=root", "download", package, cwd=Path(folder))
        for file in map(str, Path(folder).glob("*.deb")):
            needed = output_of("dpkg-deb", "--field", file, "Depends")
            run(*install, "--no-upgrade", *re.findall(r"\blib(?!js-|dbi-)[\w.+-]+", needed))
            run("dpkg-deb", "--extract", file, folder)
            for found in Path(folder).glob(f"usr/*bin/{names}"):
                shutil.copy(found, sysconfig.get_path("scripts"))


def pip_install(*arguments: str) -> bool:
    options = ["--quiet", "--disable-pip-version-check"]
    return run(sys.executable, "-m", "pip", "install", *options, *arguments) == 0


def run(*command: str, cwd: Path = ROOT) -> int:
    return call(command, os.environ | {"DEBIAN_FRONTEND": "noninteractive"}, cwd=cwd)


def output_of(*command: str) -> str:
    return subprocess.run(command, capture_output=True, encoding="utf-8", check=False).stdout


def runs(program: str, option: str) -> bool:
    path = find(program)
    return path is not None and subprocess.run([path, option], capture_output=True, check=False).returncode == 0


def has_chinese_font() -> bool:
    query = ("dpkg-query", "--show", "--showformat=${db:Status-Status}", "fonts-noto-cjk")
    return not find("dpkg-query") or output_of(*query) == "installed"

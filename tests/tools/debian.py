"""Unpacks programs of another Debian release into a folder. Nothing of the system is changed, and root is not needed.

A program from there runs through the loader and with the libraries that were unpacked beside it.
"""

import os
import re
import shlex
import shutil
import subprocess
import tempfile
from pathlib import Path

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "meiduo-qq-login"
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"


class NotAvailable(Exception):
    """The reason, in words, why something cannot be had on this machine."""


def unpack(folder: Path, suite: str, *packages: str) -> Path:
    """Download packages and what they depend on, and unpack them; return the folder that is their `/`.

    A folder that is complete from an earlier call stays as it is. Raises NotAvailable.
    """
    root = folder / "root"
    if root.exists():
        return root
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as unfinished:
        apt, draft = Path(unfinished) / "apt", Path(unfinished) / "root"
        for part in ("lists/partial", "archives/partial"):
            (apt / part).mkdir(parents=True)
        (apt / "status").touch()  # as if nothing was installed, so that every library comes along
        (apt / "sources.list").write_text(f"deb [signed-by={KEYRING}] {find_mirror()} {suite} main\n")
        apt_get(apt, "update")
        apt_get(apt, "install", "--download-only", "--yes", "--no-install-recommends", *packages)
        for name in ("lib", "lib64", "bin", "sbin"):  # links, as Debian has had them since its release 12
            (draft / "usr" / name).mkdir(parents=True, exist_ok=True)
            (draft / name).symlink_to(f"usr/{name}")
        for package in (apt / "archives").glob("*.deb"):
            run("dpkg-deb", "--extract", str(package), str(draft))
        draft.rename(root)
    return root


def find_mirror() -> str:
    """Return the address of the mirror that this system's apt uses."""
    listed = run("apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages", "Origin: Debian")
    mirrors = [address for address in listed.split() if "security" not in address]
    if not mirrors:
        raise NotAvailable("apt has no Debian mirror")
    return mirrors[0]


def apt_get(apt: Path, *arguments: str) -> None:
    options = {
        "Dir::State": apt,
        "Dir::State::status": apt / "status",
        "Dir::Cache": apt,
        "Dir::Etc::SourceList": apt / "sources.list",
        "Dir::Etc::SourceParts": "/dev/null",
        "Dir::Etc::PreferencesParts": "/dev/null",
        "APT::Sandbox::User": "root",
    }
    run("apt-get", "-qq", *(f"-o{name}={value}" for name, value in options.items()), *arguments)


def run(*command: str) -> str:
    """Return the output of a command. Raises NotAvailable with the last line of its error."""
    if not shutil.which(command[0]):
        raise NotAvailable(f"there is no {command[0]}")
    environ = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    done = subprocess.run(command, env=environ, stdin=subprocess.DEVNULL, capture_output=True, encoding="utf-8")
    if done.returncode != 0:
        last_line = done.stderr.strip().rpartition("\n")[2]
        raise NotAvailable(f"{command[0]} failed: {last_line}")
    return done.stdout


def through_loader(root: Path, program: str) -> list[str]:
    """Return the command that runs a program of an unpacked folder, as in "usr/sbin/mysqld"."""
    loaders = [*root.glob("usr/lib64/ld-linux-*.so.*"), *root.glob("usr/lib/ld-linux-*.so.*")]
    libraries = [str(path) for path in root.glob("usr/lib/*-linux-gnu")]
    if not (loaders and libraries and (root / program).exists()):
        raise NotAvailable(f"{root} has no {program} that runs here")
    return [str(loaders[0]), "--library-path", ":".join(libraries), str(root / program)]


def make_python(root: Path, version: str) -> str:
    """Return the path of an unpacked Python that runs under its own name, so that it can make virtual environments."""
    python, real = root / f"usr/bin/python{version}", root / f"usr/bin/python{version}.unpacked"
    if not real.exists():
        python.rename(real)
    loader, *options, program = through_loader(root, f"usr/bin/{real.name}")
    # Python finds its environment by the name it is called by.
    python.write_text(f'#!/bin/sh\nexec {shlex.join([loader, *options])} --argv0 "$0" {shlex.quote(program)} "$@"\n')
    python.chmod(0o755)
    return str(python)


def read_version(*command: str) -> str:
    """Return the number that a program prints with --version, as in "9.7.4"."""
    found = re.search(r"\d+\.\d+\.\d+", run(*command, "--version"))
    return found[0] if found else "unknown"

"""The repository contains no secret, and no dependency with known vulnerabilities is required or installed."""

import re
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from tests.tools.processes import ROOT
from tests.tools.requirements import requirement

# The first versions without known vulnerabilities.
SAFE = {
    "django": "5.2.18",
    "djangorestframework": "3.18.2",
    "djangorestframework-simplejwt": "5.5.1",
    "httptools": "0.8",
    "itsdangerous": "2.2",
    "pyjwt": "2.15",
}
SAFE_IF_INSTALLED = {"requests": "2.33", "urllib3": "2.7"}
UNMAINTAINED = ("djangorestframework-jwt", "drf-jwt")

SECRET = re.compile(
    r"""
    (?<![\w/+-])[0-9a-fA-F]{32,}(?![\w/+-]) |  # such as QQ's APP Key
    (?<![\w/+-])(?=[\w/+-]*[A-Z])(?=[\w/+-]*[a-z])(?=[\w/+-]*[0-9])[\w/+-]{40,} |
    eyJ[\w-]{10,}\. |
    -----BEGIN[ ][A-Z ]*PRIVATE[ ]KEY |
    :// (?!user:password@) [^/\s:"']+ : [^/\s@"'{]+ @
    """,
    re.VERBOSE | re.ASCII,
)
SECRET_FILES = re.compile(r"(^|/)(\.env|var/|id_(rsa|ed25519))|\.(pem|key|p12|pfx|sqlite3?|env|log)$")


def read_requirements(*files):
    """Return {name: Requirement} of the files and those they include."""
    found = {}
    for file in files:
        for line in file.read_text(encoding="utf-8").splitlines():
            line = line.partition("#")[0].strip()
            if line.startswith("-r "):
                found |= read_requirements(file.parent / line[3:])
            elif line:
                found[canonicalize_name(Requirement(line).name)] = Requirement(line)
    return found


REQUIRED = read_requirements(ROOT / "requirements.txt")
ALL_REQUIRED = read_requirements(ROOT / "tests/requirements.txt") | REQUIRED


def installed(name):
    try:
        return Version(version(name))
    except PackageNotFoundError:
        return None


@pytest.mark.parametrize("name", ALL_REQUIRED)
def test_each_requirement_has_a_minimum_version_and_is_met(name):
    assert [part for part in ALL_REQUIRED[name].specifier if part.operator == ">="]
    if name != "mysqlclient":  # compiled, and optional for the tests
        assert version(name) in ALL_REQUIRED[name].specifier


@requirement("10.11")
@pytest.mark.parametrize("name", SAFE)
def test_no_vulnerable_version_is_allowed(name):
    minimum = min(Version(part.version) for part in REQUIRED[name].specifier if part.operator == ">=")
    assert minimum >= Version(SAFE[name])


@requirement("10.11")
@pytest.mark.parametrize("name", SAFE | SAFE_IF_INSTALLED)
def test_no_vulnerable_version_is_installed(name):
    found = installed(name)
    assert found >= Version((SAFE | SAFE_IF_INSTALLED)[name]) if found else name in SAFE_IF_INSTALLED


@requirement("10.11")
@pytest.mark.parametrize("name", UNMAINTAINED)
def test_no_unmaintained_library_is_installed(name):
    assert not installed(name)


def test_installed_packages_are_compatible():
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "check"]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stdout


@pytest.fixture
def tracked_files():
    command = ["git", "ls-files", "-z"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, encoding="utf-8", check=False)
    if done.returncode != 0:
        pytest.skip("not a git repository")
    return [name for name in done.stdout.split("\0") if name]


@requirement("10.1")
def test_no_key_or_data_file_is_under_version_control(tracked_files):
    assert not [name for name in tracked_files if SECRET_FILES.search(name)]


@requirement("10.1")
def test_no_secret_is_under_version_control(tracked_files):
    found = []
    for name in tracked_files:
        # Those of the tests and the stand-in are samples; settings.py refuses the stand-in's in production.
        if (ROOT / name).is_file() and not name.startswith(("tests/", "standin/")):
            text = (ROOT / name).read_bytes().decode("utf-8", "ignore")
            is_binary = "\0" in text
            found += [(name, secret[0]) for secret in SECRET.finditer(text) if not is_binary]
    assert not found


@pytest.mark.parametrize(
    "secret",
    [
        'QQ_CLIENT_SECRET = "9a5f3c0e7b1d4a6688ffeeddccbbaa00"',
        "SECRET_KEY=Zk3vQ9xW2mB7nL5pR8tY4uI6oA1sD0fG-hJcVbNqEwXr",
        "'django-insecure-4x9k2m7q1w8e5r3t6y0uIoPaSdFgHjKlZxCvBnM'",
        "-----BEGIN RSA PRIVATE KEY-----",
        "DATABASE_URL=mysql://shop:s3cret@db/meiduo",
        "eyJhbGciOiJIUzI1NiJ9.eyJ1c2VyX2lkIjoxfQ.",
    ],
)
def test_secret_is_recognized(secret):
    assert SECRET.search(secret)

"""The repository contains no secret, and no dependency with known vulnerabilities is required or installed."""

import re
import subprocess
import sys
from importlib.metadata import distributions, version

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
UNMAINTAINED = {"djangorestframework-jwt", "drf-jwt"}

SECRET = re.compile(
    r"""
    (?<![\w/+-])[0-9a-fA-F]{32,}(?![\w/+-]) |  # such as QQ's APP Key
    (?<![\w/+-])(?!sha256-[\w/+]{43}=)               # not the hash of a script, in a content security policy
        (?=[\w/+-]*[A-Z])(?=[\w/+-]*[a-z])(?=[\w/+-]*[0-9])[\w/+-]{40,} |
    eyJ[\w-]{10,}\. |
    -----BEGIN[ ][A-Z ]*PRIVATE[ ]KEY |
    :// (?!user:password@) [^/\s:"']+ : [^/\s@"'{]+ @
    """,
    re.VERBOSE | re.ASCII,
)
SECRET_FILES = re.compile(r"(^|/)(\.env(?!\.example$)|var/|id_(rsa|ed25519))|\.(pem|key|p12|pfx|sqlite3?|env|log)$")


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
@pytest.mark.parametrize("series", [["5.2.17", "5.2.18"], ["6.0.8", "6.0.9"], ["6.1.1", "6.1.2"], ["6.1", "6.1.3"]])
def test_each_series_of_django_begins_with_its_first_safe_version(series):
    (packaged,) = re.findall('"(Django>.+)"', (ROOT / "pyproject.toml").read_text("utf-8"))
    for allowed in (REQUIRED["django"].specifier, Requirement(packaged).specifier):
        assert [version in allowed for version in series] == [False, True]


@requirement("10.11")
def test_no_vulnerable_or_unmaintained_version_is_installed():
    installed = {canonicalize_name(found.name): Version(found.version) for found in distributions()}
    assert SAFE.keys() <= installed.keys()
    assert not installed.keys() & UNMAINTAINED
    for name, safe in (SAFE | SAFE_IF_INSTALLED).items():
        assert name not in installed or installed[name] >= Version(safe)


def test_installed_packages_are_compatible():
    check = [sys.executable, "-m", "pip", "--disable-pip-version-check", "check"]
    assert subprocess.run(check, check=False).returncode == 0


@requirement("10.1")
def test_no_secret_key_or_data_file_is_under_version_control():
    done = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, encoding="utf-8", check=False)
    if done.returncode != 0:
        pytest.skip("not a git repository")
    found = []
    for name in filter(None, done.stdout.split("\0")):
        found += [name] if SECRET_FILES.search(name) else []
        # Those of the tests and the stand-in are samples; settings.py refuses the stand-in's in production.
        if (ROOT / name).is_file() and not name.startswith(("tests/", "standin/")):
            text = (ROOT / name).read_bytes().decode("utf-8", "ignore")
            found += [(name, secret[0]) for secret in SECRET.finditer(text) if "\0" not in text]
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

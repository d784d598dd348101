"""What the shop is made of: no secret in its files, no library with known holes."""

import re
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from tests.tools.processes import ROOT

# The first versions without the holes known of them.
SAFE = {
    "django": "5.2.18",
    "djangorestframework": "3.18.2",
    "djangorestframework-simplejwt": "5.5.1",
    "httptools": "0.8",
    "itsdangerous": "2.2",
    "pyjwt": "2.15",
}
SAFE_IF_THERE = {"requests": "2.33", "urllib3": "2.7"}
UNMAINTAINED = ("djangorestframework-jwt", "drf-jwt")

SECRET = re.compile(
    r"""
    (?<![\w/+-])[0-9a-fA-F]{32,}(?![\w/+-]) |  # QQ's APP Key is one of these
    (?<![\w/+-])(?=[\w/+-]*[A-Z])(?=[\w/+-]*[a-z])(?=[\w/+-]*[0-9])[\w/+-]{40,} |
    eyJ[\w-]{10,}\. |
    -----BEGIN[ ][A-Z ]*PRIVATE[ ]KEY |
    :// (?!user:password@) [^/\s:"']+ : [^/\s@"'{]+ @
    """,
    re.VERBOSE | re.ASCII,
)
SECRET_FILES = re.compile(r"(^|/)(\.env|var/|id_(rsa|ed25519))|\.(pem|key|p12|pfx|sqlite3?|env|log)$")


def requirements(*files):
    """Return what requirement files ask for, those they include too."""
    for file in files:
        for line in file.read_text(encoding="utf-8").splitlines():
            line = line.partition("#")[0].strip()
            if line.startswith("-r "):
                yield from requirements(file.parent / line[3:])
            elif line:
                yield Requirement(line)


ASKED = {canonicalize_name(r.name): r for r in requirements(ROOT / "requirements.txt", ROOT / "tests/requirements.txt")}


@pytest.mark.parametrize("name", SAFE)
def test_no_version_with_known_holes_is_asked_for(name):
    assert name in {canonicalize_name(r.name) for r in requirements(ROOT / "requirements.txt")}
    least = min(Version(part.version) for part in ASKED[name].specifier if part.operator == ">=")
    assert least >= Version(SAFE[name])


@pytest.mark.parametrize("name", ASKED)
def test_each_requirement_says_its_least_version_and_is_met(name):
    assert [part for part in ASKED[name].specifier if part.operator == ">="]
    if name != "mysqlclient":  # which has to be compiled, and need not be there
        assert version(name) in ASKED[name].specifier


@pytest.mark.parametrize("name", SAFE | SAFE_IF_THERE)
def test_no_version_with_known_holes_is_installed(name):
    try:
        installed = version(name)
    except PackageNotFoundError:
        assert name in SAFE_IF_THERE
    else:
        assert Version(installed) >= Version((SAFE | SAFE_IF_THERE)[name])


@pytest.mark.parametrize("name", UNMAINTAINED)
def test_no_library_is_installed_that_nobody_maintains(name):
    with pytest.raises(PackageNotFoundError):
        version(name)


def test_what_is_installed_fits_together():
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "check"]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stdout


def tracked_files():
    command = ["git", "ls-files", "-z"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, encoding="utf-8", check=False)
    if done.returncode != 0:
        pytest.skip("not a clone of the repository")
    return [name for name in done.stdout.split("\0") if name]


def test_no_file_under_version_control_is_one_of_keys_or_data():
    assert not [name for name in tracked_files() if SECRET_FILES.search(name)]


def test_no_secret_is_under_version_control():
    found = []
    for name in tracked_files():
        # The samples of the tests, and the pretend QQ's, are no secrets; settings.py refuses the latter in production.
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
def test_a_secret_would_be_seen(secret):
    assert SECRET.search(secret)

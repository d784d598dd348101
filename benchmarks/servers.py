"""The contestants: what each needs, in a virtual environment of its own, and how its server is started."""

import subprocess
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path

from tests.tools.processes import ROOT

VENVS = Path(__file__).parent / ".venvs"

REQUIREMENTS = {
    "tools": ["uvloop", "trustme"],  # for the upstream and the load
    # django-environ and python-json-logger are for the build before.
    "ours": ["-r", "requirements.txt", "django-environ", "python-json-logger"],
    "tutorial": ["Django>=5.2,<5.3", "djangorestframework", "PyJWT", "mysqlclient", "gunicorn"],
    "peer": [
        "rest-social-auth>=10",
        "social-auth-app-django",
        "social-auth-core",
        "Django>=5.2,<5.3",
        "djangorestframework",
        "djangorestframework-simplejwt",
        "mysqlclient",
        "gunicorn",
    ],
    # Chromium, the stand-in, and the shops that it logs in to.
    "page": ["-r", "meiduo/requirements.txt", "-r", "standin/requirements.txt", "playwright", "pytest", "trustme"],
    "bare": ["uvicorn", "uvloop", "httptools", "aiohttp", "asyncmy", "PyJWT", "redis[hiredis]"],
}
REPORTED = {  # packages whose versions are printed with the results
    "ours": ["Django", "djangorestframework", "gunicorn", "mysqlclient", "redis"],
    "peer": ["rest-social-auth", "social-auth-core", "requests"],
    "bare": ["uvicorn", "uvloop", "httptools", "aiohttp", "asyncmy"],
}


@dataclass(frozen=True, kw_only=True)
class Contestant:
    name: str
    title: str
    venv: str
    kind: str  # how the load asks for a login, see load.Job
    command: tuple[str, ...]
    settings: str = ""  # DJANGO_SETTINGS_MODULE
    revision: str = ""  # the git commit to serve; empty: the files of this folder
    concurrency: int  # logins that it works on at once
    calls: int  # requests to QQ per login
    database: str = "ours"
    environ: dict[str, str] = field(default_factory=dict)

    def python(self) -> str:
        return python_of(self.venv)


# As `make serve` and deploy/ set it.
TUNABLES = "glibc.malloc.mmap_threshold=1048576:glibc.malloc.arena_max=1:glibc.malloc.tcache_max=256"
GUNICORN = ("-m", "gunicorn", "--workers=1", "--bind={address}")
WSGI = "django.core.wsgi:get_wsgi_application()"
ASGI = ("-m", "uvicorn", "benchmarks.contestants.bare:app", "--port={port}", "--loop=uvloop", "--http=httptools")

OURS = Contestant(
    name="ours",
    title="ours",
    venv="ours",
    kind="ours",
    command=("-m", "gunicorn", "-c", "python:meiduo.server", "--bind={address}", "meiduo.wsgi"),
    settings="meiduo.settings",
    concurrency=48,
    calls=1,
    environ={"GLIBC_TUNABLES": TUNABLES},
)
# The last commit before the work on speed of which README.md tells.
BEFORE = replace(
    OURS,
    name="before",
    title="the build before",
    revision="16925fa19d91",
    database="build_before",  # BEFORE is a word of SQL
    environ={},
)
OURS_128 = replace(
    OURS,
    name="ours_128",
    title="ours, 128 threads",
    command=(*OURS.command, "--threads=128"),
    concurrency=96,
    environ=OURS.environ | {"QQ_MAX_CONCURRENCY": "96"},
)
# Both get more threads than gunicorn's default of one, with which they would mostly wait.
TUTORIAL = Contestant(
    name="tutorial",
    title="the tutorial's way",
    venv="tutorial",
    kind="tutorial",
    command=(*GUNICORN, "--threads=32", WSGI),
    settings="benchmarks.contestants.tutorial.settings",
    concurrency=32,
    calls=2,
    database="tutorial",
)
PEER = Contestant(
    name="peer",
    title="rest-social-auth",
    venv="peer",
    kind="peer",
    command=(*GUNICORN, "--threads=32", WSGI),
    settings="benchmarks.contestants.peer.settings",
    concurrency=32,
    calls=3,
    database="peer",
)
BARE = Contestant(
    name="bare",
    title="bare limit",
    venv="bare",
    kind="tutorial",
    command=(*ASGI, "--no-access-log", "--log-level=warning", "--backlog=2048"),
    concurrency=1000,
    calls=1,
)
MIGRATED_BY = {each.database: each for each in (OURS, BEFORE, TUTORIAL, PEER)}


def bare_with_redis(trips: int) -> Contestant:
    return replace(BARE, name="bare_redis", title="bare limit + Redis", environ={"BARE_REDIS_TRIPS": str(trips)})


def python_of(venv: str) -> str:
    return str(VENVS / venv / "bin" / "python")


def install() -> None:
    """Create the virtual environments, and recreate those whose requirements have changed."""
    for name, requirements in REQUIREMENTS.items():
        wanted = f"{sys.version}\n{requirements}\n{(ROOT / 'meiduo/requirements.txt').read_text()}"
        note = VENVS / name / "installed"
        if note.exists() and note.read_text() == wanted:
            continue
        print(f"Installing the packages of {name}", flush=True)
        subprocess.run([sys.executable, "-m", "venv", "--clear", VENVS / name], check=True)
        pip = [python_of(name), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, *requirements], cwd=ROOT, check=True)
        note.write_text(wanted)


def extract(revision: str, folder: Path) -> None:
    """Write the files of a git commit to a new folder."""
    folder.mkdir()
    archive = folder.with_suffix(".tar")
    done = subprocess.run(
        ["git", "archive", f"--output={archive}", revision],
        cwd=ROOT,
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == 0, f"{done.stderr}The build before is read from git: the whole history must be there."
    subprocess.run(["tar", "-xf", archive, "-C", folder], check=True)


def get_versions() -> dict[str, str]:
    """Return the versions of the packages that the results depend on."""
    found = {}
    for venv, names in REPORTED.items():
        program = "import sys, importlib.metadata as m; print(*map(m.version, sys.argv[1:]))"
        command = [python_of(venv), "-c", program, *names]
        done = subprocess.run(command, capture_output=True, encoding="utf-8", check=True)
        found |= dict(zip(names, done.stdout.split(), strict=True))
    return found

"""Who takes part: what each needs, in a virtual environment of its own, and how it is started."""

import subprocess
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path

from tests.tools.processes import ROOT

VENVS = Path(__file__).parent / ".venvs"

REQUIREMENTS = {
    "tools": ["uvloop", "trustme"],  # the upstream and the load
    "ours": ["-r", "requirements.txt"],
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
    "bare": ["uvicorn", "uvloop", "httptools", "aiohttp", "asyncmy", "PyJWT", "redis[hiredis]"],
}
SHOWN = {  # whose versions a reader wants to know
    "ours": ["Django", "djangorestframework", "gunicorn", "mysqlclient", "redis"],
    "peer": ["rest-social-auth", "social-auth-core", "requests"],
    "bare": ["uvicorn", "uvloop", "httptools", "aiohttp", "asyncmy"],
}


@dataclass(frozen=True, kw_only=True)
class Contestant:
    name: str
    title: str
    venv: str
    kind: str  # of a Job
    command: tuple[str, ...]
    settings: str = ""  # Django's
    places: int  # logins it works at, at once
    calls: int  # to QQ, a login
    database: str = "ours"
    environ: dict[str, str] = field(default_factory=dict)

    def python(self) -> str:
        return python_of(self.venv)


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
    places=48,
    calls=1,
)
OURS_128 = replace(
    OURS,
    name="ours_128",
    title="ours, 128 threads",
    command=(*OURS.command, "--threads=128"),
    places=96,
    environ={"QQ_MAX_CONNECTIONS": "96"},
)
# Both with more threads than gunicorn gives by itself: one at a time, they would wait most of the time.
TUTORIAL = Contestant(
    name="tutorial",
    title="the tutorial's way",
    venv="tutorial",
    kind="tutorial",
    command=(*GUNICORN, "--threads=32", WSGI),
    settings="benchmarks.contestants.tutorial.settings",
    places=32,
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
    places=32,
    calls=3,
    database="peer",
)
BARE = Contestant(
    name="bare",
    title="bare limit",
    venv="bare",
    kind="tutorial",
    command=(*ASGI, "--no-access-log", "--log-level=warning", "--backlog=2048"),
    places=1000,
    calls=1,
)


def bare_with_redis(trips: int) -> Contestant:
    return replace(BARE, name="bare_redis", title="bare limit + Redis", environ={"BARE_REDIS_TRIPS": str(trips)})


def python_of(venv: str) -> str:
    return str(VENVS / venv / "bin" / "python")


def install() -> None:
    """Make the virtual environments, and again what has changed."""
    for name, requirements in REQUIREMENTS.items():
        wanted = f"{sys.version}\n{requirements}\n{(ROOT / 'meiduo/requirements.txt').read_text()}"
        note = VENVS / name / "installed"
        if note.exists() and note.read_text() == wanted:
            continue
        print(f"Installing what {name} needs", flush=True)
        subprocess.run([sys.executable, "-m", "venv", "--clear", VENVS / name], check=True)
        pip = [python_of(name), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, *requirements], cwd=ROOT, check=True)
        note.write_text(wanted)


def versions() -> dict[str, str]:
    """Return the versions of what the figures hang on."""
    found = {}
    for venv, names in SHOWN.items():
        ask = "import sys, importlib.metadata as m; print(*map(m.version, sys.argv[1:]))"
        told = subprocess.run([python_of(venv), "-c", ask, *names], capture_output=True, encoding="utf-8", check=True)
        found |= dict(zip(names, told.stdout.split(), strict=True))
    return found

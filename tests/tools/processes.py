"""Real processes for tests: the shop under gunicorn, MariaDB, Redis and memcached, each on a free loopback port.

Standard library only: tests/tools/everything.py uses it before anything else is installed.
"""

import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from email.message import Message
from http.cookiejar import CookieJar
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlencode, urlsplit
from urllib.request import HTTPCookieProcessor, HTTPRedirectHandler, ProxyHandler, Request, build_opener
from uuid import uuid4

ROOT = Path(__file__).resolve().parents[2]
HOST = "127.0.0.1"
SECONDS_TO_START = 60
SECONDS_TO_END = 10


# The shop -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Shop:
    url: str
    var: Path
    process: "subprocess.Popen[bytes]"

    def receive_sms_code(self, visitor: "Visitor", mobile: str) -> str:
        """Ask for an SMS code as the page does, and read it where a developer's machine keeps it."""
        image_code_id = str(uuid4())
        assert visitor.get(f"{self.url}/image_codes/{image_code_id}/").status == 200
        text = self.last_line("captcha.log", id=image_code_id)["text"]
        asked = urlencode({"text": text, "image_code_id": image_code_id})
        answer = visitor.get(f"{self.url}/sms_codes/{mobile}/?{asked}")
        assert (answer.status, answer.json()) == (200, {"message": "OK"})
        sentence = self.last_line("sms.log", mobile=mobile)["text"].partition("，")[0]
        return "".join(char for char in sentence if char.isdigit())

    def last_line(self, name: str, **fields: str) -> dict[str, str]:
        """Return the last JSON line of a file in the shop's folder that has these fields."""
        whole = (self.var / name).read_text(encoding="utf-8").rpartition("\n")[0]  # another line may be half written
        lines: Iterable[dict[str, str]] = map(json.loads, whole.splitlines())
        return [line for line in lines if fields.items() <= line.items()][-1]


@contextmanager
def shop(
    var: Path,
    qq: Any = None,
    *,
    listener: socket.socket | None = None,
    workers: int = 1,
    threads: int = 16,
    wsgi: str = "meiduo.wsgi",
    database: str = "default",
    cwd: Path = ROOT,
    **environ: str,
) -> Iterator[Shop]:
    """Migrate the `database` of this name, and serve the shop by gunicorn while the block runs.

    `var` keeps its files; shops that are one shop share it, as their keys are in it. `qq` is a running stand-in,
    which must know the callback: make a `listener` with `listen()` first and start it with `callback_of(listener)`.
    `environ` adds to the shop's settings or replaces them; DATABASE_URL and CACHE_URL are those in force unless given.
    What gunicorn says is printed at the end: pytest shows it beside a test that failed.
    """
    listener = listener or listen()
    url = address_of(listener)
    environ = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("QQ_", "STANDIN_"))},
        "DJANGO_SETTINGS_MODULE": "meiduo.settings",
        "PYTHONUTF8": "1",
        "VAR_DIR": str(var),
        "CAPTCHA_LOG": str(var / "captcha.log"),
        "NUM_PROXIES": "1",  # so that each visitor has an address of his own, as in life
        "QQ_REDIRECT_URI": callback_of(listener),
        "QQ_CALLBACK_PAGE": f"{url}/oauth_callback.html",
        **({"QQ_API_URL": qq.url, "QQ_CLIENT_ID": qq.client_id, "QQ_CLIENT_SECRET": qq.client_secret} if qq else {}),
        **environ,
    }
    manage(environ, "migrate", f"--database={database}", "--verbosity=0", "--skip-checks", cwd=cwd)
    log = var / f"shop-{listener.getsockname()[1]}.log"
    gunicorn = [sys.executable, "-m", "gunicorn", wsgi, f"--bind=fd://{listener.fileno()}", "--no-control-socket"]
    gunicorn += [f"--workers={workers}", "--worker-class=gthread", f"--threads={threads}", "--graceful-timeout=1"]
    try:
        # The socket listens already, so the first call waits in it until the shop is there to answer.
        with running(gunicorn, log, cwd=cwd, env=environ, pass_fds=[listener.fileno()]) as process:
            listener.close()  # else calls to a shop that has ended would wait in it for ever
            wait_until(lambda: process.poll() is not None or answers(url), f"gunicorn answers at {url}")
            assert process.poll() is None, "gunicorn has ended by itself"
            yield Shop(url, var, process)
    finally:
        listener.close()
        print(f"-- what gunicorn said at {url}", log.read_text(encoding="utf-8") if log.exists() else "", sep="\n")


def manage(environ: dict[str, str], *arguments: str, cwd: Path = ROOT) -> str:
    """Run a command of Django's and return what it printed. Raises AssertionError with that if it failed."""
    command = [sys.executable, "-m", "django", *arguments]
    done = subprocess.run(
        command, cwd=cwd, env=environ, stdin=subprocess.DEVNULL, capture_output=True, encoding="utf-8", check=False
    )
    assert done.returncode == 0, f"django {arguments[0]}:\n{done.stdout}{done.stderr}"
    return done.stdout + done.stderr


def listen() -> socket.socket:
    """Return a socket that listens on a free port."""
    return socket.create_server((HOST, 0))


def address_of(listener: socket.socket) -> str:
    return f"http://{HOST}:{listener.getsockname()[1]}"


def callback_of(listener: socket.socket) -> str:
    """Return the callback of a shop that is going to listen there, as one registers it with QQ."""
    return f"{address_of(listener)}/oauth/qq/callback/"


# Whoever calls it -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Message
    body: bytes
    url: str  # where redirects ended

    def json(self) -> Any:
        return json.loads(self.body)


class StaysHere(HTTPRedirectHandler):
    def redirect_request(self, *args: Any) -> None:
        return None


class Visitor:
    """One person's browser over real HTTP: it keeps cookies, and follows redirects where it is told to.

    It calls from an address of its own, told to the shop as a proxy would.
    """

    def __init__(self, address: str | None = None) -> None:
        self.address = address or random_address()
        self.cookies = CookieJar()
        shared = ProxyHandler({}), HTTPCookieProcessor(self.cookies)
        self._following, self._staying = build_opener(*shared), build_opener(*shared, StaysHere)

    def get(self, url: str, *, follow: bool = False, **headers: str) -> Answer:
        """GET an address. A header is given by its name with _ for -."""
        return self._send(Request(url, headers=_names(headers)), follow)

    def post(self, url: str, fields: Any, **headers: str) -> Answer:
        """POST the fields as JSON."""
        headers = {"Content_Type": "application/json", **headers}
        return self._send(Request(url, json.dumps(fields).encode(), _names(headers)), False)

    def submit(self, url: str, fields: Any, *, follow: bool = False) -> Answer:
        """POST the fields as a form does."""
        return self._send(Request(url, urlencode(fields).encode()), follow)

    def _send(self, request: Request, follow: bool) -> Answer:
        if not request.has_header("X-forwarded-for"):
            request.add_header("X-Forwarded-For", self.address)
        opener = self._following if follow else self._staying
        try:
            response = opener.open(request, timeout=60)
        except HTTPError as error:
            response = error
        with response:
            return Answer(response.status, response.headers, response.read(), response.url)


def random_address() -> str:
    """Return an address for documentation and tests (RFC 2544), which nobody has."""
    return f"198.{18 + secrets.randbelow(2)}.{secrets.randbelow(256)}.{secrets.randbelow(256)}"


def _names(headers: dict[str, str]) -> dict[str, str]:
    return {name.replace("_", "-"): value for name, value in headers.items()}


# Servers --------------------------------------------------------------------------------------------------------------


def find(*programs: str) -> str | None:
    """Return the path of the first of the programs that this machine has."""
    # The last two are not on everybody's PATH, and the first holds what everything.py puts beside our Python.
    folders = sysconfig.get_path("scripts"), os.environ.get("PATH", ""), "/usr/sbin", "/sbin"
    path = os.pathsep.join(folders)
    return next((found for program in programs if (found := shutil.which(program, path=path))), None)


def find_redis() -> str | None:
    # One binary in Debian, whose package redis-tools has it without a service: it goes by the name it is called.
    return find("redis-server", "redis-check-rdb")


@contextmanager
def redis(folder: Path, port: int | None = None) -> Iterator[str]:
    """Run a Redis that keeps nothing on disk; the block gets its address as CACHE_URL wants it."""
    port = port or free_port()
    options = {"port": port, "bind": HOST, "dir": folder, "save": "", "appendonly": "no"}
    options |= {"maxmemory-policy": "noeviction", "daemonize": "no"}
    command = ["redis-server", *(str(part) for name, value in options.items() for part in (f"--{name}", value))]
    with running(command, folder / "redis.log", executable=find_redis()) as process:
        wait_until(lambda: process.poll() is not None or accepts(port), "Redis listens")
        assert process.poll() is None, "Redis has ended by itself"
        yield f"redis://{HOST}:{port}/0"


@contextmanager
def memcached(folder: Path) -> Iterator[str]:
    """Run a memcached; the block gets its address as CACHES wants it."""
    port = free_port()
    server = find("memcached")
    assert server, "no memcached"
    user = ["--user=root"] if os.geteuid() == 0 else []
    with running([server, f"--listen={HOST}", f"--port={port}", *user], folder / "memcached.log") as process:
        wait_until(lambda: process.poll() is not None or accepts(port), "memcached listens")
        assert process.poll() is None, "memcached has ended by itself"
        yield f"{HOST}:{port}"


@contextmanager
def mariadb(folder: Path, url: str | None = None) -> Iterator[str]:
    """Run a MariaDB with an empty database; the block gets its address as DATABASE_URL wants it.

    With the `url` it had before it goes on with what it has kept in the folder.
    """
    data, socket_path, log = folder / "mariadb", folder / "mariadb.sock", folder / "mariadb.log"
    user = ["--user=root"] if os.geteuid() == 0 else []
    server = find("mariadbd")
    assert server, "no mariadbd"
    port = (url and urlsplit(url).port) or free_port()
    options = [f"--datadir={data}", f"--socket={socket_path}", f"--port={port}", f"--bind-address={HOST}"]
    options += [f"--pid-file={folder / 'mariadb.pid'}", *user]
    # Thrown away at the end, so it need not outlive a power cut; but a kill -9 it does.
    options += ["--innodb-flush-log-at-trx-commit=2", "--innodb-doublewrite=0", "--skip-log-bin"]
    # A MariaDB that starts takes away what another one has lying in the folder for temporary tables.
    options += ["--skip-name-resolve", f"--tmpdir={folder}"]
    if not url:
        install, password = find("mariadb-install-db"), secrets.token_hex(16)
        assert install, "no mariadb-install-db"
        # root is known by its user id on the socket: no account without a password listens on the port.
        command = [install, "--no-defaults", f"--datadir={data}", "--skip-test-db", *user]
        command += ["--auth-root-authentication-method=socket"]
        with log.open("wb") as output:
            subprocess.run(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, check=True)
        first_words = folder / "mariadb.sql"
        first_words.write_text(
            "CREATE DATABASE meiduo CHARACTER SET utf8mb4;\n"
            f"CREATE USER shop@'{HOST}' IDENTIFIED BY '{password}';\n"
            f"GRANT ALL ON *.* TO shop@'{HOST}';\n"
        )
        options += [f"--init-file={first_words}"]
        url = f"mysql://shop:{password}@{HOST}:{port}/meiduo"
    with running([server, "--no-defaults", *options], log) as process:
        wait_until(lambda: process.poll() is not None or accepts(port), "MariaDB listens")
        assert process.poll() is None, f"MariaDB has ended by itself:\n{log.read_text(errors='replace')}"
        yield url


# What they are made of ------------------------------------------------------------------------------------------------


@contextmanager
def running(command: Sequence[str], log: Path, **options: Any) -> "Iterator[subprocess.Popen[bytes]]":
    """Run a program, its output going to `log`, and end it when the block does."""
    with log.open("ab") as output:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, **options)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(SECONDS_TO_END)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def wait_until(is_so: Callable[[], Any], what: str, seconds: float = SECONDS_TO_START) -> None:
    """Return as soon as something is so. Raises AssertionError, naming `what`, if it is not in time."""
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline, f"{seconds} seconds have not been enough until {what}"
        time.sleep(0.02)


def free_port() -> int:
    with closing(listen()) as listener:
        port: int = listener.getsockname()[1]
        return port


def accepts(port: int) -> bool:
    """Tell whether something listens on the port."""
    with socket.socket() as client:
        return client.connect_ex((HOST, port)) == 0


def answers(url: str) -> bool:
    """Tell whether an HTTP server answers, whatever it says."""
    try:
        Visitor().get(url)
    except OSError:
        return False
    return True

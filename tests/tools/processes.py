"""Starts the shop under gunicorn, MariaDB, Redis and memcached for tests, each on a free loopback port.

Standard library only: everything.py uses it before anything else is installed.
"""

import json
import os
import re
import secrets
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import time
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from email.message import Message
from http.cookiejar import CookieJar
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import HTTPCookieProcessor, HTTPRedirectHandler, ProxyHandler, Request, build_opener
from uuid import uuid4

ROOT = Path(__file__).resolve().parents[2]
HOST = "127.0.0.1"
SECONDS_TO_START = 60
SECONDS_TO_END = 10
AS_ROOT = ["--user=root"] if os.geteuid() == 0 else []  # without it, these servers refuse to run as root


@dataclass(frozen=True)
class Shop:
    url: str
    var: Path
    process: subprocess.Popen

    def sms_address(self, visitor, mobile):
        """Solve an image code; return the address that sends an SMS code to this number."""
        image_code_id = str(uuid4())
        assert visitor.get(f"{self.url}/image_codes/{image_code_id}/").status == 200
        text = self.last_line("captcha.log", id=image_code_id)["text"]
        return f"{self.url}/sms_codes/{mobile}/?text={text}&image_code_id={image_code_id}"

    def receive_sms_code(self, visitor, mobile):
        """Ask for an SMS code and read it from the shop's log."""
        answer = visitor.get(self.sms_address(visitor, mobile))
        assert (answer.status, answer.json()) == (200, {"message": "OK"})
        return "".join(re.findall("[0-9]", self.last_line("sms.log", mobile=mobile)["text"].partition("，")[0]))

    def last_line(self, name, **fields):
        """Return the last JSON line of a file in the shop's folder that has these fields."""
        whole = (self.var / name).read_text(encoding="utf-8").rpartition("\n")[0]  # without a half-written line
        return [line for line in map(json.loads, whole.splitlines()) if fields.items() <= line.items()][-1]


@contextmanager
def shop(
    var,
    qq=None,
    *,
    listener=None,
    workers=1,
    threads=16,
    wsgi="meiduo.wsgi",
    database="default",
    cwd=ROOT,
    output=None,
    **environ,
):
    """Migrate the `database` alias and serve the shop under gunicorn while the block runs.

    `var` holds the shop's files and keys: several processes of one shop share it. `qq` is a stand-in that knows the
    shop's callback, which callback_of(listener) returns. `environ` adds to the shop's environment, whose DATABASE_URL
    and CACHE_URL are inherited. gunicorn's output goes to the file `output`; without one it is printed at the end, so
    that pytest shows it with a failed test.
    """
    listener = listener or listen()
    url = address_of(listener)
    environ = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("QQ_", "STANDIN_"))},
        "DJANGO_SETTINGS_MODULE": "meiduo.settings",
        "PYTHONUTF8": "1",
        "VAR_DIR": str(var),
        "CAPTCHA_LOG": str(var / "captcha.log"),
        "DRAIN_SECONDS": "0",
        "NUM_PROXIES": "1",  # so that each Visitor has an address of its own
        "QQ_REDIRECT_URI": callback_of(listener),
        "QQ_CALLBACK_PAGE": f"{url}/oauth_callback.html",
        **(settings_of(qq) if qq else {}),
        **environ,
    }
    manage(environ, "migrate", f"--database={database}", "--verbosity=0", "--skip-checks", cwd=cwd)
    log = var / f"shop-{listener.getsockname()[1]}.log"
    gunicorn = [sys.executable, "-m", "gunicorn", wsgi, f"--bind=fd://{listener.fileno()}", "--no-control-socket"]
    gunicorn += [f"--workers={workers}", "--worker-class=gthread", f"--threads={threads}", "--graceful-timeout=1"]
    try:
        # The socket already listens, so the first call waits until the shop answers it.
        with running(gunicorn, output or log, cwd=cwd, env=environ, pass_fds=[listener.fileno()]) as process:
            listener.close()  # otherwise calls to a shop that has ended would wait forever
            wait_until(lambda: process.poll() is not None or answers(url), f"gunicorn answers at {url}")
            assert process.poll() is None, "gunicorn has ended"
            yield Shop(url, var, process)
    finally:
        listener.close()
        print(f"-- output of gunicorn at {url}", log.read_text(encoding="utf-8") if log.exists() else "", sep="\n")


def settings_of(qq):
    """Return the settings of a shop that calls this stand-in."""
    return {
        "QQ_API_URL": qq.url,
        "QQ_CLIENT_ID": qq.client_id,
        "QQ_CLIENT_SECRET": qq.client_secret,
        "QQ_APP_IDS": f"{qq.app_id}={qq.app_secret}",
        "QQ_MINI_API_URL": qq.url,
        "QQ_MINI_APP_ID": qq.mini_app_id,
        "QQ_MINI_APP_SECRET": qq.mini_app_secret,
    }


def manage(environ, *arguments, cwd=ROOT):
    """Run a Django command and return its output. Raises AssertionError with the output if it failed."""
    command, options = [sys.executable, "-m", "django", *arguments], {"cwd": cwd, "env": environ, "encoding": "utf-8"}
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False, **options)
    assert done.returncode == 0, f"django {arguments[0]}:\n{done.stdout}{done.stderr}"
    return done.stdout + done.stderr


def listen():
    """Return a socket that listens on a free port."""
    return socket.create_server((HOST, 0))


def address_of(listener):
    return f"http://{HOST}:{listener.getsockname()[1]}"


def callback_of(listener):
    """Return the callback address of a shop that will use this socket, as it is registered with QQ."""
    return f"{address_of(listener)}/oauth/qq/callback/"


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Message
    body: bytes
    url: str  # after redirects

    def json(self):
        return json.loads(self.body)


class StaysHere(HTTPRedirectHandler):
    def redirect_request(self, *args):
        return None


class Visitor:
    """A browser over real HTTP, without scripts: it keeps cookies and follows redirects if asked to.

    It has an address of its own, which it sends in X-Forwarded-For as a proxy would.
    """

    def __init__(self, address=None):
        self.address = address or random_address()
        self.cookies = CookieJar()
        shared = ProxyHandler({}), HTTPCookieProcessor(self.cookies)
        self._following, self._staying = build_opener(*shared), build_opener(*shared, StaysHere)

    def get(self, url, *, follow=False, **headers):
        """GET an address; headers are written with _ instead of -."""
        return self._send(url, None, headers, follow)

    def post(self, url, fields, **headers):
        """POST the fields as JSON."""
        return self._send(url, json.dumps(fields).encode(), {"Content_Type": "application/json", **headers})

    def delete(self, url, fields, **headers):
        """DELETE with the fields as JSON."""
        headers = {"Content_Type": "application/json", **headers}
        return self._send(url, json.dumps(fields).encode(), headers, method="DELETE")

    def _send(self, url, body, headers, follow=False, method=None):
        headers = {"X_Forwarded_For": self.address, **headers}
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        request = Request(url, body, named, method=method)
        try:
            response = (self._following if follow else self._staying).open(request, timeout=60)
        except HTTPError as error:
            response = error
        with response:
            return Answer(response.status, response.headers, response.read(), response.url)


def random_address():
    """Return an address from the range for benchmarks (RFC 2544), which no real client has."""
    return f"198.{18 + secrets.randbelow(2)}.{secrets.randbelow(256)}.{secrets.randbelow(256)}"


def find(*programs):
    """Return the path of the first of these programs that is installed."""
    # The first folder is where packages.py puts programs; the last two are not on every user's PATH.
    path = os.pathsep.join((sysconfig.get_path("scripts"), os.environ.get("PATH", ""), "/usr/sbin", "/sbin"))
    return next(filter(None, (shutil.which(program, path=path) for program in programs)), None)


def find_redis():
    # Debian has one binary under several names; its package redis-tools contains it without the service.
    return find("redis-server", "redis-check-rdb")


def find_galera():
    """Return the path of the library that makes MariaDB a node of a cluster."""
    paths = ("/usr/lib/galera/libgalera_smm.so", "/usr/lib/libgalera_smm.so")
    return next(filter(os.path.exists, paths), None)


def named_server(variable):
    """Return the command in this environment variable, which runs a server instead of the installed one, or [].

    It ends with the path of the program. Before that may be a loader with the libraries of another Debian.
    """
    return shlex.split(os.environ.get(variable, ""))


@contextmanager
def redis(folder, port=None):
    """Run a Redis without files on disk; the block gets its address in the form of CACHE_URL.

    CACHE_SERVER may name another Redis, or a Valkey.
    """
    port = port or free_port()
    named = named_server("CACHE_SERVER")
    command = [*(named or ["redis-server"]), "--bind", HOST, "--port", str(port), "--dir", str(folder), "--save", ""]
    command += ["--appendonly", "no", "--maxmemory-policy", "noeviction", "--daemonize", "no"]
    with listening(port, command, folder / "redis.log", executable=None if named else find_redis()):
        yield f"redis://{HOST}:{port}/0"


@contextmanager
def memcached(folder):
    """Run a memcached; the block gets its address in the form of CACHES."""
    command = [find("memcached") or "memcached", f"--listen={HOST}", f"--port={(port := free_port())}", *AS_ROOT]
    with listening(port, command, folder / "memcached.log"):
        yield f"{HOST}:{port}"


@contextmanager
def database(folder, url=None, *more_options):
    """Run a MariaDB with an empty database; the block gets its address in the form of DATABASE_URL.

    With the `url` of an earlier run it continues with the data in the folder. Its socket is database.sock there.
    DATABASE_SERVER may name another MariaDB, or a MySQL.
    """
    data, log, named = folder / "database", folder / "database.log", named_server("DATABASE_SERVER")
    server = [*(named or [find("mariadbd") or "mariadbd"]), "--no-defaults", f"--datadir={data}", *AS_ROOT]
    # At its start, MariaDB deletes the temporary tables of any other MariaDB in the same folder.
    server += [f"--tmpdir={folder}", *more_options]
    if named:
        server += [f"--basedir={Path(named[-1]).parents[1]}", f"--secure-file-priv={folder}"]
    port = (url and urlsplit(url).port) or free_port()
    options = [f"--socket={folder / 'database.sock'}", f"--port={port}", f"--bind-address={HOST}"]
    options += [f"--pid-file={folder / 'database.pid'}", "--skip-name-resolve", "--loose-mysqlx=OFF"]
    # The data must survive a kill -9, but not a power failure.
    options += ["--innodb-flush-log-at-trx-commit=2", "--innodb-doublewrite=0", "--skip-log-bin"]
    if not url:
        password, setup = secrets.token_hex(16), folder / "database.sql"
        with log.open("wb") as output:
            install(named, server, data, output)
        setup.write_text(
            "CREATE DATABASE meiduo CHARACTER SET utf8mb4;\n"
            f"CREATE USER shop@'{HOST}' IDENTIFIED BY '{password}', shop@localhost IDENTIFIED BY '{password}';\n"
            f"GRANT ALL ON *.* TO shop@'{HOST}', shop@localhost WITH GRANT OPTION;\n"
            f"REVOKE READ_ONLY ADMIN ON *.* FROM shop@'{HOST}', shop@localhost;\n"  # so that --read-only means the shop
        )
        options += [f"--init-file={setup}"]
        url = f"mysql://shop:{password}@{HOST}:{port}/meiduo"
    with listening(port, [*server, *options], log):
        yield url


def install(named, server, data, output):
    """Create the system tables in the data folder. No account without a password is open on the port."""
    sql = None
    if not named:
        command = [find("mariadb-install-db") or "mariadb-install-db", "--no-defaults", f"--datadir={data}", *AS_ROOT]
        # root is authenticated by its user id on the socket.
        command += ["--skip-test-db", "--auth-root-authentication-method=socket"]
    elif (scripts := Path(named[-1]).parents[1] / "share" / "mariadb").exists():
        # What mariadb-install-db does, which cannot start a program through a loader.
        names = ("system_tables", "performance_tables", "system_tables_data")
        texts = [(scripts / f"mariadb_{name}.sql").read_text("utf-8") for name in names]
        sql = "\n".join(["CREATE DATABASE mysql;", "USE mysql;", "SET @auth_root_socket = 'root';", *texts])
        data.mkdir()
        command = [*server, "--bootstrap"]
    else:
        command = [*server, "--initialize"]  # MySQL; root gets a random password
    subprocess.run(command, input=sql or "", encoding="utf-8", stdout=output, stderr=output, check=True)


@contextmanager
def running(command, log, **options):
    """Run a program while the block runs; its output goes to `log`."""
    with log.open("ab") as output:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, **options)
    try:
        yield process
    finally:
        process.terminate()
        end(process)


@contextmanager
def listening(port, command, log, **options):
    """Run a server; the block starts when the port accepts connections."""
    with running(command, log, **options) as process:
        wait_until(lambda: process.poll() is not None or accepts(port), f"{command[0]} listens")
        assert process.poll() is None, f"{command[0]} has ended:\n{log.read_text(errors='replace')}"
        yield


calls = set()  # the processes of call(), which may run in several threads


def call(command, environ, timeout=None, cwd=ROOT, output=None):
    """Run a command and return its exit code. After the timeout, or if we are stopped, let it clean up.

    Its output goes to the file `output`, or where ours goes.
    """
    with output.open("wb") if output else nullcontext() as file:
        options = {"stdin": subprocess.DEVNULL, "stdout": file, "stderr": file}
        process = subprocess.Popen(command, cwd=cwd, env=environ, **options)
    calls.add(process)
    try:
        return process.wait(timeout)
    except BaseException as exc:
        end_calls(exc, [process])
        if isinstance(exc, subprocess.TimeoutExpired):
            return process.returncode or 1
        raise
    finally:
        calls.discard(process)


def end_calls(exc, called=calls):
    """End called processes because of this exception, and let them clean up."""
    called = list(called)
    if not isinstance(exc, KeyboardInterrupt):  # the terminal has sent that to every process
        for process in called:
            process.send_signal(signal.SIGINT)  # on SIGTERM, pytest would not end the processes of its tests
    for process in called:
        end(process, 30)


def end(process, seconds=SECONDS_TO_END):
    """Wait for a process that was asked to end; kill it after some seconds."""
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def wait_until(condition, what, seconds=SECONDS_TO_START):
    """Return as soon as the condition is true. Raises AssertionError after these seconds, naming `what`."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} seconds: {what}"
        time.sleep(0.02)


def free_port():
    with listen() as listener:
        return listener.getsockname()[1]


def accepts(port):
    """Return whether something listens on the port."""
    with socket.socket() as client:
        return client.connect_ex((HOST, port)) == 0


def answers(url):
    """Return whether an HTTP server answers, with any status."""
    try:
        Visitor().get(url)
    except OSError:
        return False
    return True

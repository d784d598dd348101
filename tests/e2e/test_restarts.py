"""Restarts and reloads of the shop under load, behind the proxies of deploy/, cost no call."""

import os
import signal
import socket
import ssl
import sys
import threading
from collections import Counter
from contextlib import ExitStack, closing, contextmanager
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from urllib.parse import urlsplit

import pytest

from tests.e2e import proxies
from tests.meiduo.test_settings import PRODUCTION
from tests.tools import processes
from tests.tools.processes import HOST, ROOT, Visitor

pytestmark = [
    pytest.mark.servers,
    pytest.mark.skipif(not processes.find("nginx"), reason="no nginx"),
    pytest.mark.skipif(not processes.find("haproxy"), reason="no haproxy"),
]

CLIENTS = 6
PATH = "/usernames/nobody/count/"  # asks database and cache


@pytest.fixture(scope="module", autouse=True)
def migrated(tmp_path_factory):
    environ = {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "meiduo.settings",
        "VAR_DIR": str(tmp_path_factory.mktemp("var")),
    }
    processes.manage(environ, "migrate", "--verbosity=0", "--skip-checks")


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    folder = tmp_path_factory.mktemp("certificate")
    with proxies.certificate(folder):
        yield folder


class Server:
    """A shop's server that can be started again at its address, as `make serve` starts it."""

    def __init__(self, folder, address, stack, config="python:meiduo.server", **environ):
        self.folder, self.address, self.stack, self.config = folder, address, stack, config
        self.environ = PRODUCTION | {"ALLOWED_HOSTS": HOST, "WEB_CONCURRENCY": "2", "THREADS": "16"} | environ
        self.environ |= {name: os.environ[name] for name in ("DATABASE_URL", "CACHE_URL", "PATH")}
        self.log = folder / f"{address.rpartition('/')[2]}.log"
        stack.callback(lambda: print(self.log.read_text()))
        self.start()

    def start(self):
        command = [sys.executable, "-m", "gunicorn", "-c", self.config, "--bind", self.address]
        running = processes.running([*command, "meiduo.wsgi"], self.log, cwd=ROOT, env=self.environ)
        self.process = self.stack.enter_context(running)

    def end(self, results):
        """Let the server end while a call is running, which it must finish, and others arrive."""
        is_socket = self.address.startswith("unix:")
        with socket.socket(socket.AF_UNIX if is_socket else socket.AF_INET) as client:
            client.settimeout(30)
            client.connect(self.address[5:] if is_socket else (HOST, int(self.address.rpartition(":")[2])))
            head = "POST /authorizations/ HTTP/1.1", f"Host: {HOST}", "X-Forwarded-Proto: https"
            head += "Expect: 100-continue", "Content-Type: application/json", "Content-Length: 2", "", ""
            client.sendall("\r\n".join(head).encode())
            assert client.recv(100).startswith(b"HTTP/1.1 100 ")
            self.process.terminate()
            processes.wait_until(lambda: "Handling signal: term" in self.log.read_text(), "the server stops")
            wait_for_calls(results, 30)
            client.sendall(b"{}")
            assert client.recv(100).startswith(b"HTTP/1.1 400 ")
        assert self.process.wait(30) == 0


@contextmanager
def load(url):
    """Send calls from several clients while the block runs, which gets a Counter of the results so far.

    Half of the clients keep their connections.
    """
    results, is_over = Counter(), threading.Event()
    context = ssl.create_default_context()

    def call_again_and_again(keeps):
        connection = HTTPSConnection(urlsplit(url).netloc, timeout=30, context=context)
        while not is_over.is_set():
            try:
                connection.request("GET", PATH, headers={"X-Forwarded-For": processes.random_address()})
                response = connection.getresponse()
                response.read()
                results[response.status] += 1
            except (OSError, HTTPException) as error:
                results[type(error).__name__] += 1
                connection.close()
            if not keeps:
                connection.close()
            is_over.wait(0.03)
        connection.close()

    threads = [threading.Thread(target=call_again_and_again, args=[number % 2]) for number in range(CLIENTS)]
    for thread in threads:
        thread.start()
    try:
        yield results
    finally:
        is_over.set()
        for thread in threads:
            thread.join()


def wait_for_calls(results, number=100):
    """Wait until this many more calls are answered."""
    before = results.total()
    processes.wait_until(lambda: results.total() >= before + number, "calls are answered")


def is_ready(url):
    try:
        return Visitor().get(f"{url}/readyz").status == 200
    except OSError:  # it does not listen yet
        return False


@pytest.mark.parametrize("behind_nginx", [False, True], ids=["ports", "sockets-behind-nginx"])
def test_rolling_restart_under_load_costs_no_call(certificate, tmp_path, behind_nginx):
    with ExitStack() as stack:
        servers, urls = [], []
        # One more proxy than there are, so that each call can have an address, and with it a limit, of its own.
        environ = {"NUM_PROXIES": str(2 + behind_nginx), "DRAIN_SECONDS": "3"}
        for number in range(2):
            address, url = (f"{HOST}:{processes.free_port()}",) * 2
            if behind_nginx:
                address = f"unix:{tmp_path}/{number}.sock"
                _, url = stack.enter_context(proxies.nginx(tmp_path / f"nginx{number}", certificate, address))
            servers.append(Server(tmp_path, address, stack, **environ))
            urls.append(url if behind_nginx else f"http://{url}")
        processes.wait_until(lambda: all(map(is_ready, urls)), "both servers are ready")
        tls = f" ssl verify required ca-file {certificate}/authority.pem" if behind_nginx else ""
        shops = [urlsplit(url).netloc + tls for url in urls]
        _, url = stack.enter_context(proxies.haproxy(tmp_path, certificate, *shops))
        log = tmp_path / "haproxy.log"
        with load(url) as results:
            wait_for_calls(results)
            servers[0].end(results)
            servers[0].start()
            processes.wait_until(lambda: "shops/shop1 is UP" in log.read_text(), "haproxy uses the first server again")
            wait_for_calls(results)
            servers[1].end(results)
            wait_for_calls(results)
        servers[0].process.terminate()
        print(*[line for line in log.read_text().splitlines() if '" 200 ' not in line][-40:], sep="\n")
    assert results.keys() == {200}


def test_reload_under_load_costs_no_call(certificate, tmp_path):
    address = f"unix:{tmp_path}/shop.sock"
    with ExitStack() as stack:
        _, url = stack.enter_context(proxies.nginx(tmp_path / "nginx", certificate, address))
        server = Server(tmp_path, address, stack, NUM_PROXIES="2", DRAIN_SECONDS="0")
        processes.wait_until(lambda: is_ready(url), "the server is ready")
        with load(url) as results:
            wait_for_calls(results)
            server.process.send_signal(signal.SIGHUP)
            processes.wait_until(
                lambda: server.log.read_text().count("Worker exiting") == 2, "the old workers have ended"
            )
            wait_for_calls(results)
            assert is_ready(url)
    assert results.keys() == {200}


@pytest.mark.parametrize("second_signal", [signal.SIGTERM, signal.SIGQUIT])
def test_draining_server_serves_but_is_not_ready_until_a_second_signal_ends_it(tmp_path, second_signal):
    address = f"{HOST}:{processes.free_port()}"
    with ExitStack() as stack:
        server = Server(tmp_path, address, stack, NUM_PROXIES="1", DRAIN_SECONDS="60", ALLOWED_HOSTS="api.shop.test")
        processes.wait_until(lambda: is_ready(f"http://{address}"), "the server is ready")
        kept = [stack.enter_context(closing(HTTPConnection(address))) for _ in range(8)]  # to both workers
        for connection in kept:
            assert read(connection, "/healthz") == (200, "keep-alive")
        server.process.terminate()
        processes.wait_until(lambda: not is_ready(f"http://{address}"), "the server drains")
        for connection in kept:
            assert read(connection, "/readyz") == (503, "close")
            assert read(connection, "/healthz") == (200, "close")
            assert read(connection, PATH) == (200, "close")
        server.process.send_signal(second_signal)
        assert server.process.wait(processes.SECONDS_TO_END) == 0


def test_signal_to_a_worker_that_has_just_been_forked_drains_nothing(tmp_path):
    (tmp_path / "config.py").write_text(
        "import os\nfrom meiduo.server import *\npost_fork = lambda server, worker: os.kill(os.getpid(), 15)\n"
    )
    address = f"{HOST}:{processes.free_port()}"
    with ExitStack() as stack:
        Server(tmp_path, address, stack, NUM_PROXIES="1", config=f"{tmp_path}/config.py")
        processes.wait_until(lambda: is_ready(f"http://{address}"), "the server is ready")


def read(connection, path):
    """Return the status of a GET, and whether the server closes the connection."""
    connection.request("GET", path, headers={"Host": "api.shop.test", "X-Forwarded-Proto": "https"})
    with connection.getresponse() as response:
        response.read()
        return response.status, response.headers["Connection"]

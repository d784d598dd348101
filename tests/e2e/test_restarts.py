"""Restarts and reloads of the shop under load, behind the proxies of deploy/, cost no call."""

import os
import ssl
import sys
import threading
from collections import Counter
from contextlib import ExitStack, contextmanager
from http.client import HTTPException, HTTPSConnection
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


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    folder = tmp_path_factory.mktemp("certificate")
    environ = {**os.environ, "DJANGO_SETTINGS_MODULE": "meiduo.settings", "VAR_DIR": str(folder)}
    processes.manage(environ, "migrate", "--verbosity=0", "--skip-checks")
    with proxies.certificate(folder):
        yield folder


class Server:
    """A shop's server that can be started again at its address, as `make serve` starts it."""

    def __init__(self, folder, address, stack, **environ):
        self.folder, self.address, self.stack = folder, address, stack
        self.environ = PRODUCTION | {"ALLOWED_HOSTS": HOST, "WEB_CONCURRENCY": "2", "THREADS": "16"} | environ
        self.environ |= {name: os.environ[name] for name in ("DATABASE_URL", "CACHE_URL", "PATH")}
        self.log = folder / f"{address.rpartition('/')[2]}.log"
        self.start()

    def start(self):
        command = [sys.executable, "-m", "gunicorn", "-c", "python:meiduo.server", "--bind", self.address]
        running = processes.running([*command, "meiduo.wsgi"], self.log, cwd=ROOT, env=self.environ)
        self.process = self.stack.enter_context(running)

    def end(self):
        self.process.terminate()
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
        environ = {"NUM_PROXIES": str(2 + behind_nginx), "DRAIN_SECONDS": os.environ.get("TRY_DRAIN", "2")}
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
            servers[0].end()
            servers[0].start()
            processes.wait_until(lambda: "shops/shop1 is UP" in log.read_text(), "haproxy uses the first server again")
            wait_for_calls(results)
            servers[1].end()
            wait_for_calls(results)
        print(results, *[x for x in log.read_text().splitlines() if "HTTP" not in x and '" 200 ' not in x][-40:], sep="\n")
    assert results.keys() == {200}

"""The probes as kubelet and proxies call them: by IP address and without TLS. What the shop is ready for is tested in
tests/e2e/test_crashes.py."""

import os
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from threading import Event
from urllib.parse import urlsplit

import pytest

from apps.oauth.errors import CacheUnavailable
from meiduo import health
from tests.meiduo.test_settings import PRODUCTION
from tests.tools import processes
from tests.tools.requirements import requirement

pytestmark = pytest.mark.servers


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """The shop in production mode, on https behind a proxy."""
    environ = PRODUCTION | {name: os.environ[name] for name in ("DATABASE_URL", "CACHE_URL")} | {"NUM_PROXIES": "1"}
    with processes.shop(tmp_path_factory.mktemp("shop"), CAPTCHA_LOG="", **environ) as shop:
        yield shop


def call(served, method, path):
    connection = HTTPConnection(urlsplit(served.url).netloc, timeout=30)
    connection.request(method, path, headers={"Accept-Language": "en", "Origin": "https://evil.example"})
    with connection.getresponse() as response:
        headers = {name for name in response.headers if name not in ("Server", "Date", "Connection")}
        body = response.read().decode()
    connection.close()
    return response.status, headers, body


HEADERS = {"Content-Type", "Content-Length", "Cache-Control", "X-Content-Type-Options"}


@requirement("15.16")
@pytest.mark.parametrize(("path", "body"), [("/healthz", '{"status": "alive"}'), ("/readyz", '{"status": "ready"}')])
def test_probe_needs_no_host_and_no_tls_and_reveals_nothing(served, path, body):
    assert call(served, "GET", path) == (200, HEADERS, body)
    assert call(served, "HEAD", path) == (200, HEADERS, "")


@pytest.mark.parametrize(
    ("method", "path"), [("POST", "/readyz"), ("GET", "/readyz/"), ("GET", "/healthz/x"), ("GET", "/")]
)
def test_every_other_call_is_djangos(served, method, path):
    assert call(served, method, path)[0] == 400  # an address is no host of ALLOWED_HOSTS


def test_probe_does_not_wait_for_a_server_that_failed_before(monkeypatch):
    monkeypatch.setattr(health, "MAX_AGE", -1)
    monkeypatch.setattr(health, "PATIENCE", 30)
    comes_back, checks = Event(), []

    def check():
        checks.append(1)
        if len(checks) == 1:
            raise CacheUnavailable
        comes_back.wait()

    dependency = health.Dependency("cache", check)

    def probe():
        dependency.start()
        return dependency.is_ready()

    with ThreadPoolExecutor() as pool:
        assert not probe()
        try:
            assert not pool.submit(probe).result(10)
        finally:
            comes_back.set()
        processes.wait_until(probe, "it is ready again")

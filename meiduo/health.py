"""/healthz and /readyz, for kubelet and for proxies.

They are answered before Django: probes come over http to an IP address, which ALLOWED_HOSTS and the redirect to https
would refuse. An answer says only ready or not; the log says why.
"""

import logging
import time
from concurrent.futures import ThreadPoolExecutor, wait
from threading import Lock

from django.core.cache import cache
from django.db import Error, OperationalError, close_old_connections, connection

from apps.oauth.database import name_error
from apps.oauth.errors import CacheUnavailable
from apps.oauth.models import OAuthQQUser

from . import draining

logger = logging.getLogger(__name__)

MAX_AGE = 1  # seconds for which a result answers further probes
PATIENCE = 2  # seconds to wait for a result; the drivers wait longer for a silent server
HEADERS = [
    ("Content-Type", "application/json"),
    ("Cache-Control", "no-store"),
    ("X-Content-Type-Options", "nosniff"),
]


def check_database():
    close_old_connections()
    try:
        OAuthQQUser.objects.exists()  # a table: a Galera node without a quorum still answers SELECT 1
        if connection.vendor == "mysql":
            with connection.cursor() as cursor:
                cursor.execute("SELECT @@global.read_only")
                if cursor.fetchone()[0] not in (0, "OFF"):  # newer MariaDB has several kinds of read-only
                    raise OperationalError(1290)  # as a write would be answered
    except Error:
        connection.close()  # the next check may reach a better server
        raise


def check_cache():
    cache.set("readyz", "1", 60)  # a replica refuses it
    if cache.get("readyz") is None:
        raise CacheUnavailable


class Dependency:
    """A server that the shop cannot do without. `check` raises an error if it cannot serve.

    The check runs in a thread of its own, which has one connection: a flood of probes costs one check a second.
    """

    def __init__(self, name, check):
        self.name, self.check = name, check
        self.executor, self.lock = ThreadPoolExecutor(1), Lock()
        self.started, self.result, self.was_ready, self.patience = 0.0, None, True, PATIENCE

    def start(self):
        """Start a check unless one is running or has just ended."""
        with self.lock:
            if self.result is None or (self.result.done() and time.monotonic() > self.started + MAX_AGE):
                # After a failure the next probes do not wait: each would hold a thread of the shop.
                self.patience = 0 if self.result and self.result.exception() else PATIENCE
                self.started, self.result = time.monotonic(), self.executor.submit(self.check)

    def is_ready(self):
        result = self.result
        wait([result], self.started + self.patience - time.monotonic())
        error = result.exception() if result.done() else TimeoutError()
        with self.lock:
            if error and self.was_ready:
                logger.error("Not ready: the %s cannot serve: %s", self.name, name_error(error))
            elif not error and not self.was_ready:
                logger.warning("The %s can serve again.", self.name)
            self.was_ready = not error
        return not error


dependencies = [Dependency("database", check_database), Dependency("cache", check_cache)]


def is_ready():
    """Return whether this server can serve calls, and will for some more seconds."""
    if draining.has_begun():
        return False
    for dependency in dependencies:
        dependency.start()
    found = [dependency.is_ready() for dependency in dependencies]  # of each, so that each failure is logged
    return all(found)


def answer_probes(application):
    """Wrap a WSGI application: answer /healthz, for the process alone, and /readyz."""

    def handle(environ, start_response):
        path, method = environ["PATH_INFO"], environ["REQUEST_METHOD"]
        if path not in ("/healthz", "/readyz") or method not in ("GET", "HEAD"):
            return application(environ, start_response)
        if path == "/healthz":
            status, body = "200 OK", b'{"status": "alive"}'
        elif is_ready():
            status, body = "200 OK", b'{"status": "ready"}'
        else:
            status, body = "503 Service Unavailable", b'{"status": "not ready"}'
        start_response(status, [*HEADERS, ("Content-Length", str(len(body)))])
        return [body] if method == "GET" else []

    return handle

"""Serves the figures of all workers to Prometheus, on a port of its own. The hooks of server.py call this.

prometheus-client keeps the figures in files, which outlive a worker: counters do not fall when one is killed. By
default a file belongs to a process id, so that each worker leaves two behind, and after weeks of reloads a scrape would
read thousands. Here a file belongs to a number that the next worker takes over, and counts on in.

Any worker answers on the port, for all of them. The master opens it, hands out the numbers, and does no more.
"""

import itertools
import logging
import os
import shutil
import socket
import tempfile
import threading
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path

logger = logging.getLogger(__name__)

KINDS = ("counter", "histogram", "gauge_livesum")  # of the figures in contrib/prometheus.py, by their files' names
MAX_SCRAPES = 8  # at once, in each worker
FILE_SIZE = 128 * 1024  # bytes: a figure with its labels takes about 200


class Metrics:
    def __init__(self, host, port):
        """Open the port; raises OSError."""
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.listener = socket.create_server((host, port), family=family)
        self.folder = Path(tempfile.mkdtemp(prefix="meiduo-metrics-"))  # only its owner can read it
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(self.folder)

    # In the master

    def assign_number(self, server, worker):
        """Give a new worker the lowest number that no other one has, and None if the disk is full."""
        taken = {other.metrics_number for other in server.WORKERS.values()}
        number = next(number for number in itertools.count() if number not in taken)
        try:
            for kind in KINDS:
                reserve(self.folder / f"{kind}_{number}.db")
            worker.metrics_number = number
        except OSError as exc:
            server.log.error("A worker runs without figures: %s", exc.strerror)
            worker.metrics_number = None

    def forget_gauges(self, worker):
        """Remove the gauges of a worker that has ended, however it ended.

        Not by prometheus-client's mark_process_dead(): no fault of an import may end the master.
        """
        with suppress(OSError):
            for path in self.folder.glob(f"gauge_live*_{worker.metrics_number}.db"):
                path.unlink()

    def close(self):
        self.listener.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    # In a worker

    def use_number(self, worker):
        """Make prometheus-client keep this worker's figures under its number. Must come before the first metric."""
        from prometheus_client import values

        values.ValueClass = values.MultiProcessValue(lambda: worker.metrics_number)

    def serve(self):
        """Record figures and answer on the port from now on."""
        from apps.oauth.contrib import prometheus
        from apps.users.events import Event

        prometheus.EVENTS.labels(Event.SMS_CEILING, "alarm", "")  # like ALARMS there
        prometheus.start_sampling()
        threading.Thread(target=Server(self.listener).serve_forever, args=(None,), daemon=True).start()


class Server(ThreadingHTTPServer):
    """Answers on a port that is open. A client that sends a byte now and then keeps its thread, so these are few."""

    def __init__(self, listener):
        self.slots = threading.BoundedSemaphore(MAX_SCRAPES)
        super().__init__(None, Handler, bind_and_activate=False)
        self.socket.close()
        self.socket = listener

    def verify_request(self, request, client_address):
        return self.slots.acquire(blocking=False)

    def process_request_thread(self, request, client_address):
        try:
            super().process_request_thread(request, client_address)
        finally:
            self.slots.release()

    def handle_error(self, request, client_address):
        logger.warning("A scrape failed.", exc_info=True)


class Handler(BaseHTTPRequestHandler):
    timeout = 5  # seconds for each read and write

    def do_GET(self):
        from prometheus_client import CollectorRegistry, generate_latest
        from prometheus_client.multiprocess import MultiProcessCollector

        if self.path.partition("?")[0] != "/metrics":
            self.send_error(404)
            return
        registry = CollectorRegistry()  # the default one adds the versions of Python and its build
        MultiProcessCollector(registry)
        body = generate_latest(registry)
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def version_string(self):
        return "metrics"  # the default names Python's version

    def log_message(self, *args):
        """Do not log each scrape."""


def reserve(path):
    """Create a file of zeros, which prometheus-client takes for a new one.

    It creates its own without the space on the disk; if that is full, the kernel kills the worker at a write (SIGBUS).
    """
    if not path.exists():
        try:
            path.write_bytes(bytes(FILE_SIZE))
        except OSError:
            path.unlink(missing_ok=True)
            raise


def is_private(host):
    """Return whether only this machine or its network reaches an address. 0.0.0.0 and :: are every address.

    100.64.0.0/10, where some clouds have their pods, is not public either.
    """
    ip = ip_address(host)
    ip = getattr(ip, "ipv4_mapped", None) or ip
    return not ip.is_global and not ip.is_unspecified

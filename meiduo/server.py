"""gunicorn's configuration: `gunicorn -c python:meiduo.server meiduo.wsgi`, with --bind and other options.

gunicorn's own defaults limit a request's line and headers, and drop headers with an underscore in their name, which
Django could not tell from those with a hyphen.
"""

import logging
import os
import runpy
import signal
import sys

from django.core.exceptions import ImproperlyConfigured
from gunicorn.glogging import Logger

from meiduo import draining
from meiduo.environment import Env, between
from meiduo.log_stream import BoundedHandler
from meiduo.logs import WithoutSecrets, make_formatter
from meiduo.metrics import Metrics, is_private


def refuse(sentence):
    """End gunicorn with a line of the log."""
    record = {"name": "gunicorn.error", "levelname": "CRITICAL", "msg": f"The shop does not start. {sentence}"}
    sys.exit(make_formatter().format(logging.makeLogRecord(record)))


env = Env()
workers = env.int("WEB_CONCURRENCY", os.cpu_count() or 1, validate=between(1))
threads = env.int("THREADS", 64, validate=between(1))  # settings.py lets three quarters of them wait for QQ
# Within this time proxies see /readyz fail. deploy/meiduo.service waits for 60 and gunicorn's 30.
drain_seconds = env.int("DRAIN_SECONDS", 5, validate=between(0, 60))
metrics_address = env.listener("METRICS", "")  # for Prometheus; see metrics.py
metrics_is_public = env.bool("METRICS_PUBLIC", False)
metrics = None
try:
    env.seal()
except ImproperlyConfigured as exc:
    refuse(exc)

worker_class = "gthread"
keepalive = 75  # seconds; longer than nginx's (60, in deploy/ 20), which must not send into a connection that closes
control_socket_disable = True  # all shops of a user would share its path
# NUM_PROXIES alone decides which proxies to trust. Through a Unix socket gunicorn would trust every call.
forwarded_allow_ips, forwarder_headers, secure_scheme_headers = "", "", {}

# Used with --access-logfile; nginx has its own log, and the audit log has each login.
access_log_format = '%(h)s "%(m)s %(U)s" %(s)s %(b)s'  # the path without its query


class logger_class(Logger):
    def setup(self, cfg):
        super().setup(cfg)
        for handler in (*self.error_log.handlers, *self.access_log.handlers):
            handler.setFormatter(make_formatter())
            handler.addFilter(WithoutSecrets())

    def _set_handler(self, log, output, fmt, stream=None):
        """Write to stdout and stderr without blocking requests."""
        super()._set_handler(log, output, fmt, stream)
        if output == "-":
            log.removeHandler(self._get_gunicorn_handler(log))
            handler = BoundedHandler(stream)
            handler._gunicorn = True  # so that gunicorn replaces it when it reloads
            log.addHandler(handler)

    def access(self, resp, req, environ, request_time):
        """Log a call, with the fields that Django's lines and the audit log have too."""
        if not self.access_log_enabled:
            return
        from apps.oauth.audit import get_request_id  # not above: the workers would inherit it through a reload

        atoms = self.atoms_wrapper_class(self.atoms(resp, req, environ, request_time))
        fields = {"request_id": get_request_id(environ), "duration_ms": round(atoms["D"] / 1000, 1)}
        self.access_log.info(self.cfg.access_log_format, atoms, extra=fields | {"status_code": int(atoms["s"])})


def on_starting(server):
    """Check the settings once and report a fault in one sentence; otherwise each worker prints a traceback."""
    try:
        # Not imported: the workers would inherit the module, so that a reload would not read the settings again.
        settings = runpy.run_module("meiduo.settings")
    except ImproperlyConfigured as exc:
        refuse(exc)
    if server.cfg.workers > 1 and "LOCATION" not in settings["CACHE"]:
        refuse(
            "CACHE_URL is not set, so each worker would remember used codes for itself. "
            "Set a Redis that all of them share, or use one worker: WEB_CONCURRENCY=1"
        )
    if metrics_address:
        open_metrics()


def open_metrics():
    global metrics
    if not metrics_is_public and not is_private(metrics_address[0]):
        refuse(
            "METRICS is an address that strangers may reach. Name one of this machine or its private network, as in "
            "METRICS=127.0.0.1:9100; or set METRICS_PUBLIC=True if a firewall keeps strangers away."
        )
    try:
        metrics = Metrics(*metrics_address)
    except OSError as exc:
        refuse(f"METRICS cannot be opened: {exc.strerror}.")


def pre_fork(server, worker):
    if metrics:
        metrics.assign_number(server, worker)


def post_fork(server, worker):
    if metrics and worker.metrics_number is not None:
        metrics.use_number(worker)


def post_worker_init(worker):
    if metrics and worker.metrics_number is not None:
        metrics.serve()


def child_exit(server, worker):
    if metrics:
        metrics.forget_gauges(worker)


def on_exit(server):
    if metrics:
        metrics.close()


def when_ready(server):
    """On SIGTERM, fail /readyz and serve on for DRAIN_SECONDS, then stop. A second SIGTERM stops at once.

    While gunicorn stops, the kernel still accepts calls on its port, and resets them at the end.
    """
    stop = signal.getsignal(signal.SIGTERM)  # gunicorn's

    def drain(number, frame):
        # A worker that has just been forked still has this handler.
        if drain_seconds and os.getpid() == server.pid and not draining.has_begun():
            draining.begin()
            server.log.info("Draining: /readyz fails, and this server stops in %d seconds.", drain_seconds)
            signal.setitimer(signal.ITIMER_REAL, drain_seconds)
        else:
            stop(signal.SIGTERM, frame)

    signal.signal(signal.SIGTERM, drain)
    signal.signal(signal.SIGALRM, drain)  # from the timer


def pre_request(worker, request):
    """End kept connections while draining: where nobody asks /readyz, their owners connect to another server."""
    if draining.has_begun():
        request.force_close()

"""
How gunicorn serves the shop: `gunicorn -c python:meiduo.server meiduo.wsgi`, with --bind and whatever else differs.

Left as gunicorn has them, as they are right: its limits on a request's line and headers, and that it drops a header
with an underscore in its name, which Django could not tell from the one with a hyphen.
"""

import os
import re
import runpy
import sys

from django.core.exceptions import ImproperlyConfigured
from gunicorn.glogging import Logger

from meiduo.logs import WithoutSecrets


def whole_number(name, otherwise):
    """Return the whole number from 1 that the environment gives; ends the process, naming it, for anything else."""
    text = os.environ.get(name, "").strip() or str(otherwise)
    if not re.fullmatch("[1-9][0-9]{0,5}", text):
        sys.exit(f"The shop does not start. {name} cannot be read: write a whole number from 1.")
    return int(text)


worker_class = "gthread"
workers = whole_number("WEB_CONCURRENCY", os.cpu_count() or 1)
threads = whole_number("THREADS", 64)  # settings.py lets three quarters of them wait for QQ
keepalive = 75  # seconds; longer than nginx keeps its own (60, in deploy/ 20): it must not send into a closing one
control_socket_disable = True  # one path for all shops of a user, and nobody asks it
forwarded_allow_ips = ""  # what a proxy says is judged in one place, by NUM_PROXIES

# Where --access-logfile asks for one. nginx has its own, and the audit log has each login.
access_log_format = '%(t)s %(h)s "%(m)s %(U)s" %(s)s %(b)s %(M)sms'  # the path without its query


class logger_class(Logger):
    def setup(self, cfg):
        super().setup(cfg)
        for handler in (*self.error_log.handlers, *self.access_log.handlers):
            handler.addFilter(WithoutSecrets())


def on_starting(server):
    """Say in one sentence what the settings refuse, where each worker would print a traceback."""
    try:
        # Not imported: the workers would inherit the module, and a reload would go by the old one.
        settings = runpy.run_module("meiduo.settings")
    except ImproperlyConfigured as exc:
        sys.exit(f"The shop does not start. {exc}")
    if server.cfg.workers > 1 and "locmem" in settings["CACHE_URL"]:
        sys.exit(
            "The shop does not start. CACHE_URL is not set, so each worker would remember for itself which codes are "
            "used up. Give it a Redis that all of them share, or be content with one: WEB_CONCURRENCY=1"
        )

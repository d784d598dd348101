"""
How gunicorn serves the shop: `gunicorn -c python:meiduo.server meiduo.wsgi`, with --bind and whatever else differs.

Left as gunicorn has them, as they are right: its limits on a request's line and headers, and that it drops a header
with an underscore in its name, which Django could not tell from the one with a hyphen.
"""

import os

from gunicorn.glogging import Logger

from meiduo.logs import WithoutSecrets

worker_class = "gthread"
workers = int(os.environ.get("WEB_CONCURRENCY") or os.cpu_count() or 1)
threads = 64  # most of them may wait for QQ; QQ_MAX_CONNECTIONS leaves the others to the pages
control_socket_disable = True  # one path for all shops of a user, and nobody asks it
forwarded_allow_ips = ""  # what a proxy says is judged in one place, by NUM_PROXIES

accesslog = "-"
access_log_format = '%(t)s %(h)s "%(m)s %(U)s" %(s)s %(b)s %(M)sms'  # the path without its query


class logger_class(Logger):
    def setup(self, cfg):
        super().setup(cfg)
        for handler in (*self.error_log.handlers, *self.access_log.handlers):
            handler.addFilter(WithoutSecrets())

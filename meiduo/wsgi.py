import logging
import os
import sys

from django.conf import settings
from django.core.cache import close_caches
from django.core.checks import run_checks
from django.core.signals import request_finished, request_started
from django.core.wsgi import get_wsgi_application
from django.db import close_old_connections, reset_queries

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "meiduo.settings")
if settings.TRACES_EXPORTER != "none":
    from meiduo import tracing

    tracing.start(settings.TRACES_EXPORTER)  # adds its middleware, which the next line loads

application = get_wsgi_application()
# Here, and not for the commands of manage.py. No connection is open yet.
settings.DATABASES["default"]["OPTIONS"] |= settings.OPTIONS_OF_CALLS

from meiduo.health import answer_probes, dependencies  # noqa: E402  these need Django to be set up
from meiduo.middleware import replace_bad_content_type  # noqa: E402

application = answer_probes(replace_bad_content_type(application))
if settings.TRACES_EXPORTER != "none":
    tracing.ignore_checks(dependencies)

# Django calls these at each request, which costs 4 % of a login. No cache that CACHE_URL can name has anything to
# close. Queries are kept with DEBUG only. Old connections to the database are closed at the end of a request too.
request_finished.disconnect(close_caches)
request_started.disconnect(close_old_connections)
if not settings.DEBUG:
    request_started.disconnect(reset_queries)

# gunicorn runs no system checks, so a wrong setting would only show at the first login. No database: by default Django
# 6.1 asks MySQL for its version here, and a shop whose database is down must still start.
messages = [
    message
    for message in run_checks(include_deployment_checks=settings.PRODUCTION, databases=[])
    if not message.is_silenced()
]
for message in messages:
    logging.getLogger(__name__).log(message.level, "%s: %s %s", message.id, message.msg, message.hint or "")
if any(message.is_serious() for message in messages):
    sys.exit(3)  # with this status gunicorn stops instead of starting the worker again

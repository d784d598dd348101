import io
import os
import sys

from django.conf import settings
from django.core.management import call_command
from django.core.management.base import SystemCheckError
from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "meiduo.settings")
application = get_wsgi_application()
# Here, and not for the commands of manage.py. No connection is open yet.
settings.DATABASES["default"]["OPTIONS"] |= settings.OPTIONS_OF_CALLS

from meiduo.middleware import replace_bad_content_type  # noqa: E402  it needs Django to be set up

application = replace_bad_content_type(application)

# gunicorn runs no system checks, so a wrong setting would only show at the first login. The checks report to stderr;
# stdout would only get the line "no issues".
try:
    call_command("check", deploy=settings.PRODUCTION, stdout=io.StringIO())
except SystemCheckError as exc:
    print(exc, file=sys.stderr)
    sys.exit(3)  # with this status gunicorn stops instead of starting the worker again

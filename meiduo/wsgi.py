import io
import os
import sys

from django.conf import settings
from django.core.management import call_command
from django.core.management.base import SystemCheckError
from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "meiduo.settings")
application = get_wsgi_application()

from meiduo.middleware import plain_content_types_only  # noqa: E402  it imports what needs Django set up

application = plain_content_types_only(application)

# gunicorn runs no system checks of its own: without this a wrong setting would show at the first shopper's login.
# What is found goes to stderr; only the line "no issues" is left out.
try:
    call_command("check", deploy=settings.PRODUCTION, stdout=io.StringIO())
except SystemCheckError as exc:
    print(exc, file=sys.stderr)
    sys.exit(3)  # at any other status gunicorn would try again, for ever

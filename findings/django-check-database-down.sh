#!/bin/bash
# Django 5.2.19 and 6.1.3 with mysqlclient 2.3.2: `manage.py check` while MySQL is down. It needs Python 3.12 or newer.
#
# check without --database inspects code and settings only, and in 5.2 it passes. 6.1 still leaves out the checks tagged
# "database", but hands all connections to the checks of models. One model with a CharField is then enough to connect to
# MySQL, and check ends with an OperationalError, as in a build that has no database. `--tag models` does not help.
#
# Seen:
#   Django 5.2.19, check: passed
#   Django 5.2.19, check --tag models: passed
#   Django 6.1.3, check: OperationalError 2002
#   Django 6.1.3, check --tag models: OperationalError 2002
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
for python in python3 python3.{12..15} ~/.pyenv/versions/3.1[2-9]*/bin/python3; do
    "$python" -c 'import sys; sys.exit(sys.version_info < (3, 12))' 2> "$folder/log" && break
    python=
done
[ -n "$python" ] || { echo "There is no Python 3.12 or newer." >&2; exit 2; }

cat > "$folder/try.py" <<'PYTHON'
import socket

import django
from django.conf import settings
from django.core.management import call_command
from django.db import OperationalError

with socket.create_server(("127.0.0.1", 0)) as closed:
    port = closed.getsockname()[1]
database = {"ENGINE": "django.db.backends.mysql", "HOST": "127.0.0.1", "PORT": port}
settings.configure(DATABASES={"default": database}, INSTALLED_APPS=["django.contrib.contenttypes"])
django.setup()
for arguments in ["check"], ["check", "--tag", "models"]:
    try:
        call_command(*arguments)
        result = "passed"
    except OperationalError as error:
        result = f"OperationalError {error.args[0]}"
    print(f"Django {django.__version__}, {' '.join(arguments)}: {result}")
PYTHON

for version in 5.2.19 6.1.3; do
    "$python" -m venv "$folder/$version"
    "$folder/$version/bin/pip" install --quiet --disable-pip-version-check "Django==$version" mysqlclient==2.3.2
done
seen=$(for version in 5.2.19 6.1.3; do "$folder/$version/bin/python" "$folder/try.py" | grep '^Django'; done)
echo "$seen"
diff <(sed -n 's/^#   //p' "$0") <(echo "$seen")

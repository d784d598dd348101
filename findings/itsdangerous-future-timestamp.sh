#!/bin/bash
# itsdangerous 2.2.0 and Django 5.2.19: a signed value dated one second in the future, as from another server whose
# clock is a little ahead.
#
# itsdangerous refuses it as soon as max_age is given, as SignatureExpired ("Signature age -1 < 0 seconds"). Django's
# signing accepts it. A value that was signed a moment ago can thus be called expired on the next server.
#
# Seen:
#   itsdangerous, no max_age: accepted
#   itsdangerous, max_age=60: SignatureExpired: Signature age -1 < 0 seconds
#   Django, max_age=60: accepted
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
    itsdangerous==2.2.0 Django==5.2.19 time-machine==3.6.0

cat > "$folder/try.py" <<'PYTHON'
import time_machine
from django.core.signing import TimestampSigner
from itsdangerous import URLSafeTimedSerializer


def load(name, function, *arguments, **options):
    try:
        function(*arguments, **options)
        print(f"{name}: accepted")
    except Exception as error:
        print(f"{name}: {type(error).__name__}: {error}")


serializer, signer = URLSafeTimedSerializer("key"), TimestampSigner(key="key")
with time_machine.travel(1_700_000_001, tick=False):
    value, django_value = serializer.dumps("x"), signer.sign("x")
with time_machine.travel(1_700_000_000, tick=False):
    load("itsdangerous, no max_age", serializer.loads, value)
    load("itsdangerous, max_age=60", serializer.loads, value, max_age=60)
    load("Django, max_age=60", signer.unsign, django_value, max_age=60)
PYTHON

seen=$(DJANGO_SETTINGS_MODULE=django.conf.global_settings "$folder/venv/bin/python" "$folder/try.py")
echo "$seen"
diff <(sed -n 's/^#   //p' "$0") <(echo "$seen")

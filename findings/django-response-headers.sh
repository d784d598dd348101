#!/bin/bash
# Django 5.2.19: HttpResponse.headers looks like a dict, but its methods return other values.
#
# pop() returns the pair (name, value), and None for a missing name instead of KeyError. setdefault() always returns
# None. There is no update(). Code that is correct for a dict then works with a tuple or with None, without an error.
#
# Seen:
#   pop, present: ('X-A', '1')
#   pop, missing: None
#   setdefault, present: None
#   setdefault, missing: None
#   has update: False
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check Django==5.2.19

cat > "$folder/try.py" <<'PYTHON'
from django.conf import settings
from django.http import HttpResponse

settings.configure()
headers = HttpResponse(headers={"X-A": "1", "X-B": "2"}).headers
print("pop, present:", headers.pop("X-A"))
print("pop, missing:", headers.pop("X-A"))
print("setdefault, present:", headers.setdefault("X-B", "3"))
print("setdefault, missing:", headers.setdefault("X-C", "3"))
print("has update:", hasattr(headers, "update"))
PYTHON

seen=$("$folder/venv/bin/python" "$folder/try.py")
echo "$seen"
diff <(sed -n 's/^#   //p' "$0") <(echo "$seen")

#!/bin/bash
# Django 5.2.19 on SQLite: introspection fails at a generated column whose function has three arguments.
#
# get_table_description() and get_constraints() raise IndexError, so inspectdb and tools that read an old table by them
# fail. A generated column without commas is read.
#
# Seen:
#   a + 1: ok / ok
#   substr(b, 1, 6): IndexError / IndexError
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check Django==5.2.19

cat > "$folder/try.py" <<'PYTHON'
from django.conf import settings
from django.db import connection

settings.configure(DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}})


def read(method, cursor, table):
    try:
        method(cursor, table)
    except IndexError as exc:
        return type(exc).__name__
    return "ok"


with connection.cursor() as cursor:
    for table, expression in {"one": "a + 1", "two": "substr(b, 1, 6)"}.items():
        cursor.execute(f"CREATE TABLE {table} (a integer, b varchar(64), c varchar(6) AS ({expression}))")
        methods = connection.introspection.get_table_description, connection.introspection.get_constraints
        print(f"{expression}:", " / ".join(read(method, cursor, table) for method in methods))
PYTHON

seen=$("$folder/venv/bin/python" "$folder/try.py")
echo "$seen"
diff <(sed -n 's/^#   //p' "$0") <(echo "$seen")

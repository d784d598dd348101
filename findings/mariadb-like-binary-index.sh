#!/bin/bash
# Django 5.2.19 with mysqlclient 2.3.2 on MariaDB 10.11.19: `startswith` uses no index, even on a column in utf8mb4_bin.
#
# Django writes LIKE BINARY 'x12%' for it, and MariaDB then reads all rows, though `= BINARY 'x12'` uses the index of
# the same column. Plain LIKE, which Django writes for `istartswith`, reads a range of the index. In utf8mb4_bin both
# find the same rows, so the lookup that promises to ignore case is the fast one, and does not ignore it.
#
# Seen (EXPLAIN: how the rows are found; rows):
#   startswith: ALL; 111 rows
#   istartswith: range; 111 rows
#   istartswith in capitals: range; 0 rows
#   = BINARY: ref; 1 rows
set -euo pipefail
script=$(realpath "$0") folder=$(mktemp -d)
stop() { [ -z "${server:-}" ] || { kill "$server"; wait "$server" || true; }; rm -rf "$folder"; }
trap stop EXIT
as_root=(); [ "$(id -u)" -ne 0 ] || as_root=(--user=root)
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check Django==5.2.19 mysqlclient==2.3.2

cat > "$folder/try.py" <<'PYTHON'
import django
from django.conf import settings
from django.db import connection, models

mysql = {"ENGINE": "django.db.backends.mysql", "NAME": "test", "OPTIONS": {"unix_socket": "sock"}}
settings.configure(DATABASES={"default": mysql})
django.setup()


class Binding(models.Model):
    openid = models.CharField(max_length=64, db_index=True, db_collation="utf8mb4_bin")
    user = models.IntegerField(default=1)

    class Meta:
        app_label = "shop"


with connection.schema_editor() as editor:
    editor.create_model(Binding)
Binding.objects.bulk_create(Binding(openid=f"x{number}") for number in range(2000))
queries = {
    "startswith": Binding.objects.filter(openid__startswith="x12"),
    "istartswith": Binding.objects.filter(openid__istartswith="x12"),
    "istartswith in capitals": Binding.objects.filter(openid__istartswith="X12"),
    "= BINARY": Binding.objects.extra(where=["openid = BINARY 'x12'"]),
}
for name, query in queries.items():
    print(f"{name}: {query.explain().split()[3]}; {query.count()} rows")
PYTHON

cd "$folder"
mariadb-install-db --no-defaults --datadir="$folder/data" "${as_root[@]}" > install.log 2>&1
PATH=$PATH:/usr/sbin mariadbd --no-defaults --datadir="$folder/data" --skip-networking --skip-grant-tables \
    --socket="$folder/sock" --pid-file="$folder/pid" "${as_root[@]}" > server.log 2>&1 &
server=$!
for _ in {1..100}; do [ -S sock ] && break; sleep 0.1; done
seen=$(venv/bin/python try.py)
echo "$seen"
diff <(sed -n 's/^#   //p' "$script") <(echo "$seen")

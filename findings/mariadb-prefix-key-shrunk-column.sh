#!/bin/bash
# MariaDB 10.11.19 (queried by PyMySQL 1.2.4): a key over a prefix of a column, KEY (a(100)), when the column is made as
# short as the prefix and then long again, as a migration and its reversal do.
#
# The key silently becomes one over the whole column, and stays one: SHOW CREATE TABLE has KEY (a), and SUB_PART is
# NULL. Neither ALTER names the key. If the column becomes too long for a whole key, its key gets the longest prefix
# instead.
#
# Seen (the key in SHOW CREATE TABLE, SUB_PART):
#   varchar(255): KEY `k` (`a`(100)), 100
#   varchar(100): KEY `k` (`a`), None
#   varchar(255) again: KEY `k` (`a`), None
#   varchar(1000): KEY `k` (`a`(768)), 768
set -euo pipefail
script=$(realpath "$0") folder=$(mktemp -d)
stop() { [ -z "${server:-}" ] || { kill "$server"; wait "$server" || true; }; rm -rf "$folder"; }
trap stop EXIT
as_root=(); [ "$(id -u)" -ne 0 ] || as_root=(--user=root)
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check PyMySQL==1.2.4

cat > "$folder/try.py" <<'PYTHON'
import re

import pymysql


def change(title, statement):
    cursor.execute(statement)
    cursor.execute("SHOW CREATE TABLE t")
    key = re.search("KEY .*", cursor.fetchone()[1])[0]
    cursor.execute("SELECT sub_part FROM information_schema.statistics WHERE table_name = 't'")
    print(f"{title}: {key}, {cursor.fetchone()[0]}")


cursor = pymysql.connect(unix_socket="sock", database="test").cursor()
change("varchar(255)", "CREATE TABLE t (a varchar(255), KEY k (a(100))) CHARSET utf8mb4")
change("varchar(100)", "ALTER TABLE t MODIFY a varchar(100)")
change("varchar(255) again", "ALTER TABLE t MODIFY a varchar(255)")
change("varchar(1000)", "ALTER TABLE t MODIFY a varchar(1000)")
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

#!/bin/bash
# mysqlclient 2.3.2 (over libmariadb 3.3.20 of Debian 12), with a MariaDB 10.11 that offers TLS.
#
# The option `ssl` is a dict or True. Text is accepted too, such as "True" or '{"ca": "…"}', which is what an option in
# a URL or an environment variable becomes. It is ignored without a message, and the connection is plain text: text
# passes the test for a mapping, and a missing key is no error.
#
# Seen (the cipher of the connection):
#   ssl=True: TLS_AES_256_GCM_SHA384
#   ssl={'ca': 'ca.pem'}: TLS_AES_256_GCM_SHA384
#   ssl='True': none
#   ssl='{"ca": "ca.pem"}': none
set -euo pipefail
script=$(realpath "$0") folder=$(mktemp -d)
stop() { [ -z "${server:-}" ] || { kill "$server"; wait "$server" || true; }; rm -rf "$folder"; }
trap stop EXIT
as_root=(); [ "$(id -u)" -ne 0 ] || as_root=(--user=root)
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check mysqlclient==2.3.2 trustme==1.2.1

cat > "$folder/try.py" <<'PYTHON'
import sys, time, MySQLdb

port = int(sys.argv[1])
for ssl in True, {"ca": "ca.pem"}, "True", '{"ca": "ca.pem"}':
    for _ in range(100):
        try:
            connection = MySQLdb.connect(host="127.0.0.1", port=port, user="shop", password="password", ssl=ssl)
            break
        except MySQLdb.OperationalError as error:
            if error.args[0] != 2002:  # it does not listen yet
                raise
            time.sleep(0.1)
    cursor = connection.cursor()
    cursor.execute("SHOW SESSION STATUS LIKE 'Ssl_cipher'")
    print(f"ssl={ssl!r}:", cursor.fetchone()[1] or "none")
PYTHON

cd "$folder"
venv/bin/python -m trustme --quiet --identities 127.0.0.1
mv client.pem ca.pem
mariadb-install-db --no-defaults --datadir="$folder/data" --skip-test-db "${as_root[@]}" > install.log 2>&1
echo "CREATE USER shop@'127.0.0.1' IDENTIFIED BY 'password';" > start.sql
port=$(python3 -c 'import socket; s = socket.create_server(("127.0.0.1", 0)); print(s.getsockname()[1])')
PATH=$PATH:/usr/sbin mariadbd --no-defaults --datadir="$folder/data" --bind-address=127.0.0.1 --port="$port" \
    --socket="$folder/sock" --pid-file="$folder/pid" --skip-name-resolve --init-file="$folder/start.sql" \
    --ssl-ca="$folder/ca.pem" --ssl-cert="$folder/server.pem" --ssl-key="$folder/server.key" "${as_root[@]}" > server.log 2>&1 &
server=$!
seen=$(venv/bin/python try.py "$port")
echo "$seen"
diff <(sed -n 's/^#   //p' "$script") <(echo "$seen")

#!/bin/bash
# mysqlclient 2.3.2 (over libmariadb 3.3.20 of Debian 12) and PyMySQL 1.2.4: which time-out bounds the wait for the
# greeting of a server that accepts the connection and then is silent, as one that is overloaded or being stopped?
#
# It is the opposite one in each. In mysqlclient read_timeout does nothing until the handshake is over, and
# connect_timeout bounds it. In PyMySQL connect_timeout ends with TCP's connection, and read_timeout bounds the
# greeting. Code that replaces one by the other (install_as_MySQLdb) thus needs both options.
#
# The server below is silent for five seconds and then closes; each time-out is one second.
#
# Seen (who ended the wait):
#   mysqlclient, read_timeout: the server
#   mysqlclient, connect_timeout: the time-out
#   PyMySQL, read_timeout: the time-out
#   PyMySQL, connect_timeout: the server
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check mysqlclient==2.3.2 PyMySQL==1.2.4

cat > "$folder/try.py" <<'PYTHON'
import socket
import threading
import time

import MySQLdb
import pymysql


def be_silent(server, closed):
    connection, _ = server.accept()
    time.sleep(5)
    closed.set()
    connection.close()


for name, driver in {"mysqlclient": MySQLdb, "PyMySQL": pymysql}.items():
    for option in "read_timeout", "connect_timeout":
        server, closed = socket.create_server(("127.0.0.1", 0)), threading.Event()
        thread = threading.Thread(target=be_silent, args=(server, closed))
        thread.start()
        try:
            driver.connect(host="127.0.0.1", port=server.getsockname()[1], user="shop", **{option: 1})
        except driver.OperationalError:
            print(f"{name}, {option}: the {'server' if closed.is_set() else 'time-out'}")
        thread.join()
        server.close()
PYTHON

seen=$("$folder/venv/bin/python" "$folder/try.py")
echo "$seen"
diff <(sed -n 's/^#   //p' "$0") <(echo "$seen")

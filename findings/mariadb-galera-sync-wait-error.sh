#!/bin/bash
# MariaDB 10.11.19 with galera-4 26.4.23: with `wsrep_sync_wait = 1`, SELECT VERSION() can end in a lock wait timeout.
#
# A node without quorum refuses to read tables with 1047, "WSREP has not yet prepared node for application use", at
# which a client goes to another node. It answers a SELECT without a table, which drivers send when they connect. With
# wsrep_sync_wait = 1 it says 1205 instead, "Lock wait timeout exceeded; try restarting transaction", where nothing is
# locked and no transaction can be restarted. SHOW is still answered. Expected: the answer, or 1047.
#
# Seen (with 0; with 1):
#   SELECT VERSION(): answered; 1205
#   SELECT @@sql_mode: answered; 1205
#   SELECT COUNT(*) FROM shop.users: 1047; 1047
#   SHOW VARIABLES LIKE 'version': answered; answered
set -euo pipefail
script=$(realpath "$0") folder=$(mktemp -d)
stop() { [ -z "${server:-}" ] || { kill -9 "$server"; wait "$server" 2> /dev/null || true; }; rm -rf "$folder"; }
trap stop EXIT
as_root=(); [ "$(id -u)" -ne 0 ] || as_root=(--user=root)
cd "$folder"
[[ $(PATH=$PATH:/usr/sbin mariadbd --version) == *" 10.11.19-MariaDB"* ]] || { echo "needs MariaDB 10.11.19" >&2; exit 1; }
apt-get download -qq galera-4=26.4.23-0+deb12u1
dpkg-deb --extract galera-4_*.deb galera
mariadb-install-db --no-defaults --datadir="$folder/data" "${as_root[@]}" > install.log 2>&1

read -r group transfer < <(python3 -c '
import socket
listeners = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
print(*(listener.getsockname()[1] for listener in listeners))')
provider="base_host=127.0.0.1;base_port=$group;gmcast.listen_addr=tcp://127.0.0.1:$group;gcache.size=16M"
provider+=";ist.recv_addr=127.0.0.1:$transfer"
PATH=$PATH:/usr/sbin mariadbd --no-defaults --datadir="$folder/data" --socket="$folder/sock" --pid-file="$folder/pid" \
    --skip-networking --skip-grant-tables --binlog-format=ROW --innodb-autoinc-lock-mode=2 --wsrep-on=ON \
    --wsrep-provider="$folder/galera/usr/lib/libgalera_smm.so" --wsrep-provider-options="$provider" \
    --wsrep-node-address="127.0.0.1:$group" --wsrep-cluster-address=gcomm:// "${as_root[@]}" > server.log 2>&1 &
server=$!

ask() { mariadb --no-defaults --socket=sock --skip-column-names --execute="$1" 2>&1 || true; }
wait_ready() {
    for _ in {1..300}; do [[ $(ask "SHOW STATUS LIKE 'wsrep_ready'") != *"$1" ]] || return 0; sleep 0.1; done
    return 1
}
try() { ask "SET wsrep_sync_wait = $1; $2" | awk '/^ERROR/ {code = $2} END {print code ? code : "answered"}'; }

wait_ready ON
ask "CREATE DATABASE shop; CREATE TABLE shop.users (id INT PRIMARY KEY)"
ask "SET GLOBAL wsrep_cluster_address = 'gcomm://127.0.0.1:$transfer'"  # a cluster that does not answer
wait_ready OFF
seen=$(
    for query in "SELECT VERSION()" "SELECT @@sql_mode" "SELECT COUNT(*) FROM shop.users" \
        "SHOW VARIABLES LIKE 'version'"; do
        echo "$query: $(try 0 "$query"); $(try 1 "$query")"
    done
)
echo "$seen"
diff <(sed -n 's/^#   //p' "$script") <(echo "$seen")

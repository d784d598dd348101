"""Runs haproxy in front of the app servers, as deploy/haproxy.cfg has it, and in front of the database's nodes."""

import csv
import socket
from contextlib import contextmanager

from tests.e2e.proxies import adapt
from tests.tools.processes import HOST, find, listening

SETTINGS = """
global
    stats socket {socket}
"""
# The check asks the node what it is to its cluster. haproxy's own mysql-check, and SELECT 1, pass at a node that has
# lost its quorum and refuses every table. When a node fails its check, the connections kept there are closed.
DATABASE = """
defaults
    mode tcp
    timeout client 1h
    timeout server 1h
    timeout connect 2s
    timeout check 2s
    option redispatch 1

listen {name}
    bind {host}:{port}
    option tcp-check
{check}
    default-server check inter 500 fall 2 rise 2 on-marked-down shutdown-sessions
{servers}
"""
MONITOR = "haproxy_check"  # an account without a password and without rights
QUERY, ROW = "SHOW GLOBAL STATUS LIKE 'wsrep_local_state'", ("wsrep_local_state", "4")  # 4: synced


def make_database(name, port, nodes):
    """Return the part for one app server: calls go to the first node, and to another one while that is away."""
    servers = "\n".join(
        f"    server {node.name} {HOST}:{node.port}{' backup' if node is not nodes[0] else ''}" for node in nodes
    )
    return DATABASE.format(name=name, host=HOST, port=port, check=make_check(), servers=servers)


def make_check():
    """Return the lines that log in and compare one row, in MySQL's protocol."""
    abilities = 0x8200  # protocol 4.1 with its authentication
    login = abilities.to_bytes(4, "little") + bytes(3) + b"\x01!" + bytes(23) + MONITOR.encode() + bytes(2)
    steps = [
        "connect",
        f"expect binary {b'mysql_native_password'.hex()}",
        f"send-binary {make_packet(1, login)}",
        "expect binary 07000002000000",  # OK
        f"send-binary {make_packet(0, bytes([3]) + QUERY.encode())}",
        f"expect binary {''.join(f'{len(value):02x}{value.encode().hex()}' for value in ROW)}",
        f"send-binary {make_packet(0, bytes([1]))}",  # bye
    ]
    return "\n".join(f"    tcp-check {step}" for step in steps)


def make_packet(number, payload):
    return (len(payload).to_bytes(3, "little") + bytes([number]) + payload).hex()


def make_shop(port, servers):
    """Return deploy/haproxy.cfg for these two app servers, {name: port}, without TLS."""
    replacements = {
        r"bind :80\n": f"bind {HOST}:{port}\n",
        r" +bind :443 .*\n": "",
        r" +http-request redirect prefix .*\n": "",
        r"X-Forwarded-Proto https": "X-Forwarded-Proto http",
    }
    for number, (name, own) in enumerate(servers.items(), 1):
        replacements[rf"server shop{number} .*"] = f"server {name} {HOST}:{own}"
    return adapt("haproxy.cfg", replacements)


class Haproxy:
    def __init__(self, socket):
        self.socket = socket

    def states(self):
        """Return {(proxy, server): state}, as in {("shops", "app1"): "UP"}."""
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(self.socket)
            client.sendall(b"show stat\n")
            text = b"".join(iter(lambda: client.recv(65536), b"")).decode()
        rows = csv.DictReader(text.removeprefix("# ").splitlines())
        return {
            (row["pxname"], row["svname"]): row["status"]
            for row in rows
            if row["svname"] not in ("FRONTEND", "BACKEND")
        }


@contextmanager
def haproxy(folder, port, *parts):
    """Run haproxy with these parts of a configuration; `port` is one that it listens on."""
    config, socket = folder / "haproxy.cfg", str(folder / "haproxy.sock")
    config.write_text("".join([SETTINGS.format(socket=socket), *parts]))
    with listening(port, [find("haproxy"), "-db", "-f", str(config)], folder / "haproxy.log"):
        yield Haproxy(socket)

"""Measures how long `migrate` takes to adopt a big old table, beside a plain ALTER TABLE of the same table.

    .venv/bin/python -m benchmarks.old_table                     ten million rows on a MariaDB of its own
    .venv/bin/python -m benchmarks.old_table --rows 1000000
    .venv/bin/python -m benchmarks.old_table --database-url mysql://…    an empty database of another server

The table is a tutorial shop's: an index on openid that is not unique, with the foreign key to the users and without.
While each of them runs, two other connections read a binding and write one every 20 ms. Their longest waits show the
locks.
"""

import argparse
import os
import random
import resource
import secrets
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import MySQLdb

from tests.tools import processes
from tests.tools.processes import ROOT

USERS = 1_000_000
TABLE = """
    CREATE TABLE tb_oauth_qq (
        id bigint NOT NULL AUTO_INCREMENT PRIMARY KEY,
        create_time datetime(6) NOT NULL, update_time datetime(6) NOT NULL,
        openid varchar(64) COLLATE utf8mb4_unicode_ci NOT NULL, user_id bigint NOT NULL,
        KEY old_user (user_id), KEY old_openid (openid) {foreign_key}
    ) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_unicode_ci
"""
FOREIGN_KEY = ", CONSTRAINT old_user_fk FOREIGN KEY (user_id) REFERENCES tb_users (id)"
DIGITS = "(SELECT 0 AS n" + "".join(f" UNION ALL SELECT {digit}" for digit in range(1, 10)) + ")"
PLAIN = """
    ALTER TABLE tb_oauth_qq
    CHANGE openid openid varchar(64) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
    ADD COLUMN unionid varchar(64) NULL, ADD UNIQUE KEY plain_openid (openid), ADD KEY plain_unionid (unionid)
"""


class Database:
    def __init__(self, url: str) -> None:
        self.url, parts = url, urlsplit(url)
        self.options: dict[str, Any] = {
            "host": parts.hostname, "port": parts.port, "user": parts.username, "password": parts.password or "",
            "database": parts.path.strip("/"), "charset": "utf8mb4", "autocommit": True,
        }  # fmt: skip

    def connect(self) -> Any:
        return MySQLdb.connect(**self.options)

    def run(self, *statements: str) -> Any:
        connection = self.connect()
        try:
            with connection.cursor() as cursor:
                for statement in statements:
                    cursor.execute(statement)
                return cursor.fetchall()
        finally:
            connection.close()

    def manage(self, *arguments: str) -> None:
        keys = {name: secrets.token_urlsafe(64) for name in ("SECRET_KEY", "JWT_SIGNING_KEY")}
        environ = {**os.environ, **keys, "DATABASE_URL": self.url, "DJANGO_SETTINGS_MODULE": "meiduo.settings"}
        command = [sys.executable, "-m", "django", *arguments, "--verbosity=0", "--skip-checks"]
        subprocess.run(command, cwd=ROOT, env=environ, stdin=subprocess.DEVNULL, check=True)


class Probe:
    """Reads and writes bindings while the block runs; afterwards knows the longest wait of each, in seconds."""

    def __init__(self, database: Database, rows: int) -> None:
        self.database, self.rows = database, rows
        self.longest = {"read": 0.0, "write": 0.0}
        self.done = threading.Event()

    def __enter__(self) -> "Probe":
        self.threads = [threading.Thread(target=self.loop, args=(what,)) for what in self.longest]
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.done.set()
        for thread in self.threads:
            thread.join()

    def loop(self, what: str) -> None:
        connection = self.database.connect()
        cursor = connection.cursor()
        while not self.done.wait(0.02):
            number = random.randint(1, self.rows)
            begin = time.monotonic()
            if what == "read":
                cursor.execute(f"SELECT user_id FROM tb_oauth_qq WHERE openid = UPPER(LEFT(SHA2({number}, 256), 32))")
            else:
                cursor.execute(
                    "INSERT INTO tb_oauth_qq (openid, user_id, create_time, update_time)"
                    f" VALUES ('{secrets.token_hex(16).upper()}', {number % USERS + 1}, NOW(), NOW())"
                )
            self.longest[what] = max(self.longest[what], time.monotonic() - begin)
        connection.close()


@contextmanager
def measured(title: str, database: Database, rows: int) -> Iterator[dict[str, float]]:
    figures: dict[str, float] = {}
    with Probe(database, rows) as probe:
        begin = time.monotonic()
        yield figures
        figures["seconds"] = time.monotonic() - begin
    waits = ", ".join(f"longest {what} {seconds:.1f} s" for what, seconds in probe.longest.items())
    print(f"  {title}: {figures['seconds']:.1f} s; {waits}", flush=True)


def fill(database: Database, rows: int, foreign_key: str) -> None:
    places = range(len(str(rows - 1)))
    digits = ", ".join(f"{DIGITS} AS d{place}" for place in places)
    number = " + ".join(f"{10**place} * d{place}.n" for place in places) + " + 1"
    database.run(
        "DROP TABLE IF EXISTS tb_oauth_qq, tb_oauth_qq_adopted, tb_oauth_qq_merged",
        "DELETE FROM django_migrations WHERE app = 'oauth'",
        TABLE.format(foreign_key=foreign_key),
        "SET SESSION unique_checks = 0, foreign_key_checks = 0",
        "INSERT INTO tb_oauth_qq (openid, user_id, create_time, update_time)"
        f" SELECT UPPER(LEFT(SHA2({number}, 256), 32)), ({number}) % {USERS} + 1, NOW(), NOW() FROM {digits}"
        f" WHERE {number} <= {rows}",
        "ANALYZE TABLE tb_oauth_qq",
    )


def compare(database: Database, rows: int, foreign_key: str) -> None:
    print(f"{rows:,} rows, {'with' if foreign_key else 'without'} a foreign key", flush=True)
    ways = {"plain ALTER TABLE": lambda: database.run(PLAIN), "migrate": lambda: database.manage("migrate", "oauth")}
    seconds = {}
    for title, way in ways.items():
        fill(database, rows, foreign_key)
        with measured(title, database, rows) as figures:
            way()
        seconds[title] = figures["seconds"]
    with measured("migrate oauth zero", database, rows):
        database.manage("migrate", "oauth", "zero")
    print(f"  migrate ÷ plain ALTER TABLE: {seconds['migrate'] / seconds['plain ALTER TABLE']:.2f}×", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.old_table")
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--database-url", help="of an empty database; default: a MariaDB of its own")
    arguments = parser.parse_args()
    with ExitStack() as stack:
        url = arguments.database_url
        if not url:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="meiduo-old-table-")))
            url = stack.enter_context(processes.database(folder, None, "--innodb-buffer-pool-size=2G"))
        database = Database(url)
        print(database.run("SELECT VERSION()")[0][0], flush=True)
        database.manage("migrate")
        number = " + ".join(f"{10**place} * d{place}.n" for place in range(6)) + " + 1"
        database.run(
            "INSERT INTO tb_users (id, password, is_superuser, username, first_name, last_name, email, is_staff,"
            " is_active, date_joined, mobile, email_active, token_generation)"
            f" SELECT {number}, '', 0, CONCAT('sample_', {number}), '', '', '', 0, 1, NOW(), 13000000000 + {number},"
            " 0, 0"
            f" FROM {', '.join(f'{DIGITS} AS d{place}' for place in range(6))}"
        )
        for foreign_key in (FOREIGN_KEY, ""):
            compare(database, arguments.rows, foreign_key)
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    print(f"memory of the largest process started, at most: {peak:.0f} MB", flush=True)


if __name__ == "__main__":
    main()

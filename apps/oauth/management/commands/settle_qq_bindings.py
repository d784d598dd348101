"""Settle which user keeps an openid that an old table binds to several, so that `migrate` can make it unique."""

import json
import os
from argparse import ArgumentParser
from collections.abc import Iterable, Iterator
from datetime import datetime, timezone
from itertools import groupby
from operator import itemgetter
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import DEFAULT_DB_ALIAS, connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from ...models import shorten

LISTED = 50  # rows; more fill a terminal and help nobody

Row = dict[str, Any]


def exactly(connection: BaseDatabaseWrapper, column: str = "openid") -> str:
    """SQL for an openid as the unique key is going to compare it, whatever the old column's collation."""
    return f"CONVERT({column} USING utf8mb4) COLLATE utf8mb4_bin" if connection.vendor == "mysql" else column


def name_command(command: str, connection: BaseDatabaseWrapper) -> str:
    """Return what to type so that a command of Django's looks at this database."""
    is_default = connection.alias == DEFAULT_DB_ALIAS
    return f"manage.py {command}" if is_default else f"manage.py {command} --database {connection.alias}"


class Clashes:
    """What keeps the openids of the table from being unique. Only counts are kept, however large the table."""

    def __init__(self, connection: BaseDatabaseWrapper) -> None:
        self.connection = connection
        exact = exactly(connection)
        with connection.cursor() as cursor:
            cursor.execute(f"""
                SELECT
                    COUNT(CASE WHEN users > 1 THEN 1 END), SUM(CASE WHEN users > 1 THEN copies END),
                    SUM(copies - users)
                FROM (
                    SELECT COUNT(*) AS copies, COUNT(DISTINCT user_id) AS users
                    FROM tb_oauth_qq WHERE openid IS NOT NULL GROUP BY {exact} HAVING COUNT(*) > 1
                ) AS clashes
            """)  # noqa: S608  (nothing in it comes from outside)
            self.contested, self.contested_rows, self.repeated = (int(number or 0) for number in cursor.fetchone())

    def refuse_contested(self) -> None:
        """Raise CommandError with a list if an openid is bound to different users."""
        if not self.contested:
            return
        lines = [
            f"Openids that tb_oauth_qq binds to different users: {self.contested}, in {self.contested_rows} rows."
            " A migration cannot say whose they are, so nothing was changed.",
            *map(describe, contested_rows(self.connection, LISTED)),
        ]
        if self.contested_rows > LISTED:
            lines.append(f"  … and {self.contested_rows - LISTED} more rows")
        settle = name_command("settle_qq_bindings", self.connection)
        lines += [
            "Say who keeps them, then migrate again (--dry-run only shows what would be removed):",
            f"  {settle} --keep earliest",
            f"  {settle} --keep latest",
            f"  {settle} --keep-id ID …",
        ]
        raise CommandError("\n".join(lines))


def contested_rows(connection: BaseDatabaseWrapper, limit: int | None = None) -> Iterator[Row]:
    """Return the rows whose openid different users have, openid by openid (`held`), the earliest first."""
    exact = exactly(connection)
    with connection.cursor() as cursor:
        cursor.execute(f"""
            SELECT bound.*, contested.held
            FROM tb_oauth_qq AS bound
            JOIN (
                SELECT {exact} AS held FROM tb_oauth_qq GROUP BY {exact} HAVING MIN(user_id) <> MAX(user_id)
            ) AS contested ON {exactly(connection, "bound.openid")} = contested.held
            ORDER BY contested.held, bound.create_time, bound.id {f"LIMIT {limit}" if limit else ""}
        """)  # noqa: S608  (as above)
        names = [column[0] for column in cursor.description]
        for row in cursor:
            yield dict(zip(names, row, strict=True))


def describe(row: Row) -> str:
    openid = shorten(row["openid"]) if row["openid"].strip() else "(empty)"
    return f"  {openid}: row {row['id']}, user {row['user_id']}, bound {row['create_time']}"


class Command(BaseCommand):
    help = "Remove the rows by which an openid is bound to different users, all but one, and keep them in a file."
    requires_system_checks = ()  # the data can be settled before the settings are

    def add_arguments(self, parser: ArgumentParser) -> None:
        kept = parser.add_mutually_exclusive_group(required=True)
        kept.add_argument("--keep", choices=["earliest", "latest"], help="which row of each openid stays")
        kept.add_argument("--keep-id", type=int, nargs="+", metavar="ID", help="the rows that stay; others may wait")
        parser.add_argument("--to", metavar="FILE", help="a new file for what is removed, a JSON line a row")
        parser.add_argument("--dry-run", action="store_true", help="only show what would be removed")
        parser.add_argument("--database", default=DEFAULT_DB_ALIAS, choices=list(connections))

    def handle(self, *, keep: str, keep_id: list[int], to: str | None, dry_run: bool, database: str, **_: Any) -> None:
        connection = connections[database]
        with transaction.atomic(database):
            contested = [list(rows) for _, rows in groupby(contested_rows(connection), itemgetter("held"))]
            if not contested:
                self.stdout.write("Nothing to settle: no openid is bound to different users.")
                return
            removed = list(choose(contested, keep, set(keep_id or ())))
            for row in removed:
                self.stdout.write(f"{describe(row)}; row {row['kept']} stays")
            if dry_run:
                self.stdout.write(f"Rows that would be removed: {len(removed)}.")
                return
            path = to or f"qq_bindings_removed_{datetime.now(timezone.utc):%Y%m%dT%H%M%SZ}.jsonl"
            write(path, removed)
            try:
                remove(connection, removed)
            except BaseException:
                os.unlink(path)
                raise
        waiting = len(contested) - len({row["held"] for row in removed})
        self.stdout.write(f"Rows removed: {len(removed)}, kept in {path}. Openids still to settle: {waiting}.")


def choose(contested: Iterable[list[Row]], keep: str, keep_ids: set[int]) -> Iterator[Row]:
    """Return the rows to remove, each with the id of the one that is `kept`."""
    for rows in contested:
        if keep:
            kept_id = rows[0 if keep == "earliest" else -1]["id"]
        else:
            named = keep_ids & {row["id"] for row in rows}
            keep_ids = keep_ids - named
            if len(named) > 1:
                raise CommandError(f"Rows {', '.join(map(str, sorted(named)))} have one openid: name one of them.")
            if not named:
                continue
            kept_id = named.pop()
        yield from ({**row, "kept": kept_id} for row in rows if row["id"] != kept_id)
    if keep_ids:
        raise CommandError(f"No openid of different users in: row {', '.join(map(str, sorted(keep_ids)))}.")


def write(path: str, rows: Iterable[Row]) -> None:
    """Write the rows to a new file for its owner alone, and have them on the disk before this returns."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as exc:
        raise CommandError(f"Nothing was removed, as {path} cannot be made: {exc.strerror}.") from exc
    with open(descriptor, "w", encoding="utf-8") as file:
        for row in rows:
            fields = {name: value for name, value in row.items() if name != "held"}
            file.write(json.dumps(fields, ensure_ascii=False, default=str) + "\n")
        file.flush()
        os.fsync(descriptor)


def remove(connection: BaseDatabaseWrapper, rows: list[Row]) -> None:
    with connection.cursor() as cursor:
        # Not by the model: its table has no unionid yet.
        cursor.executemany("DELETE FROM tb_oauth_qq WHERE id = %s", [(row["id"],) for row in rows])
        if cursor.rowcount != len(rows):
            raise CommandError("Nothing was removed, as the bindings have changed meanwhile. Try again.")

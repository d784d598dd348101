"""Choose which user keeps an openid that an old table binds to several users, so that `migrate` can make it unique."""

import json
import os
from argparse import ArgumentParser
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime, timezone
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.management.base import BaseCommand, CommandError
from django.db import DEFAULT_DB_ALIAS, connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from ...migrations._rows import Rows, find_users
from ...migrations._table import read_table
from ...redaction import shorten_openid
from ..leftovers import FILES

Row = dict[str, Any]


class Command(BaseCommand):
    help = "Where an openid is bound to different users, keep one row and move the others to a file."
    requires_system_checks = ()  # the data may be resolved before the settings are complete

    def add_arguments(self, parser: ArgumentParser) -> None:
        kept = parser.add_mutually_exclusive_group(required=True)
        kept.add_argument("--keep", choices=["earliest", "latest"], help="which row of each openid to keep")
        kept.add_argument("--keep-id", type=int, nargs="+", metavar="ID", help="keep these rows; skip other openids")
        parser.add_argument("--to", metavar="FILE", help="a new file for the removed rows (default: one in VAR_DIR)")
        parser.add_argument("--dry-run", action="store_true", help="only show what would be removed")
        parser.add_argument("--database", default=DEFAULT_DB_ALIAS, choices=list(connections))

    def handle(self, *, keep: str, keep_id: list[int], to: str | None, dry_run: bool, database: str, **_: Any) -> None:
        connection = connections[database]
        with transaction.atomic(database):
            conflicts = [list(rows) for _, rows in groupby(select_conflicting_rows(connection), itemgetter("exact"))]
            if not conflicts:
                self.stdout.write("Nothing to resolve: no openid is bound to different users.")
                return
            removed = list(choose_rows_to_remove(conflicts, keep, set(keep_id or ())))
            for row in removed:
                self.stdout.write(f"{describe(row)}; row {row['kept']} stays")
            if dry_run:
                self.stdout.write(f"Rows that would be removed: {len(removed)}.")
                return
            path = to or make_path()
            with saved_rows(path, removed):
                delete_rows(connection, removed)
        remaining = len(conflicts) - len({row["exact"] for row in removed})
        self.stdout.write(f"Rows removed: {len(removed)}, kept in {path}. Openids still to resolve: {remaining}.")


def select_conflicting_rows(connection: BaseDatabaseWrapper) -> Iterator[Row]:
    """Return the rows whose openid different users have, grouped by `exact`, the earliest of each group first.

    Rows whose user is gone do not count: the migration moves them away.
    """
    table = read_table(connection)
    if not table or not table.openid:
        raise CommandError("There is no table tb_oauth_qq with a column openid or open_id: nothing to resolve.")
    rows = Rows(connection, table, find_users(connection, get_user_model()))
    with connection.cursor() as cursor:
        cursor.execute(rows.select_conflicts("bound.*, exact"))
        names = [column[0].lower() for column in cursor.description]
        for row in cursor:
            yield dict(zip(names, row, strict=True))


def choose_rows_to_remove(conflicts: Iterable[list[Row]], keep: str, keep_ids: set[int]) -> Iterator[Row]:
    """Return the rows to remove, each with the id of the row that stays as `kept`."""
    for rows in conflicts:
        if keep:
            kept_id = rows[0 if keep == "earliest" else -1]["id"]
        else:
            chosen = keep_ids & {row["id"] for row in rows}
            keep_ids = keep_ids - chosen
            if len(chosen) > 1:
                raise CommandError(f"Rows {', '.join(map(str, sorted(chosen)))} have one openid: name one of them.")
            if not chosen:
                continue
            kept_id = chosen.pop()
        yield from ({**row, "kept": kept_id} for row in rows if row["id"] != kept_id)
    if keep_ids:
        raise CommandError(f"No openid of different users in: row {', '.join(map(str, sorted(keep_ids)))}.")


def describe(row: Row) -> str:
    openid = shorten_openid(row["exact"]) if row["exact"].strip() else "(empty)"
    bound = f", bound {row['create_time']}" if "create_time" in row else ""
    return f"  {openid}: row {row['id']}, user {row['user_id']}{bound}"


def make_path() -> str:
    """Return the path of a new file in settings.VAR_DIR, the folder in which some projects keep their private files."""
    folder = getattr(settings, "VAR_DIR", None)
    if not folder:  # never the current folder: it is a checkout or is served, and the file has whole openids
        problem = "Nothing was removed: add --to FILE, the path of a new file outside of your code."
        raise CommandError(f"{problem} It will hold the removed rows with their openids.")
    return str(Path(folder) / FILES.replace("*", f"{datetime.now(timezone.utc):%Y%m%dT%H%M%SZ}"))


@contextmanager
def saved_rows(path: str, rows: Iterable[Row]) -> Iterator[None]:
    """Save the rows to a new file that only its owner can read. Delete the file if the block raises an error."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as exc:
        raise CommandError(f"Nothing was removed: cannot create {path}: {exc.strerror}.") from exc
    with ExitStack() as on_error:
        on_error.callback(os.unlink, path)
        with open(descriptor, "w", encoding="utf-8") as file:
            for row in rows:
                fields = {name: value for name, value in row.items() if name != "exact"}
                file.write(json.dumps(fields, ensure_ascii=False, default=str) + "\n")
            file.flush()
            os.fsync(descriptor)
        yield
        on_error.pop_all()


def delete_rows(connection: BaseDatabaseWrapper, rows: list[Row]) -> None:
    with connection.cursor() as cursor:
        # Not through the model: this table has no unionid yet.
        cursor.executemany("DELETE FROM tb_oauth_qq WHERE id = %s", [(row["id"],) for row in rows])
        if cursor.rowcount != len(rows):
            raise CommandError("Nothing was removed: the bindings have changed in the meantime. Try again.")

"""Data of a person outside the bindings: rows that a migration moved, and lines that qq_resolve_duplicates saved."""

import json
import os
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import CommandError
from django.db.backends.base.base import BaseDatabaseWrapper

from ..migrations._rows import Rows
from ..migrations._table import MERGED, read_table

FILES = "qq_bindings_removed_*.jsonl"  # in settings.VAR_DIR

Row = dict[str, Any]


@dataclass(frozen=True)
class Person:
    user_id: Any  # as the database has it; None if no account is known
    openids: Sequence[str]

    def is_in(self, row: Row) -> bool:
        is_theirs = self.user_id is not None and str(row.get("user_id")) == str(self.user_id)
        return is_theirs or row.get("openid", row.get("open_id")) in self.openids


class MergedRows:
    """The person's rows of tb_oauth_qq_merged, if there is such a table."""

    def __init__(self, connection: BaseDatabaseWrapper, person: Person) -> None:
        self.connection, self.table = connection, read_table(connection, MERGED)
        self.values = [person.user_id, *person.openids]
        if self.table:
            openid = Rows(connection, self.table, None).exact(MERGED)
            placeholders = ", ".join(["%s"] * len(person.openids))
            self.where = f"user_id = %s OR {openid} IN ({placeholders})"  # true for nobody if the user is NULL

    def read(self) -> list[Row]:
        if not self.table:
            return []
        with self.connection.cursor() as cursor:
            cursor.execute(f"SELECT * FROM {MERGED} WHERE {self.where}", self.values)  # noqa: S608
            names = [column[0].lower() for column in cursor.description]
            return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]

    def delete(self) -> int:
        if not self.table:
            return 0
        with self.connection.cursor() as cursor:
            cursor.execute(f"DELETE FROM {MERGED} WHERE {self.where}", self.values)  # noqa: S608
            return int(cursor.rowcount)


class SavedLines:
    """The person's lines of one file that qq_resolve_duplicates wrote."""

    def __init__(self, path: Path, person: Person) -> None:
        self.path = path
        self.theirs: list[Row] = []
        self.others: list[str] = []
        try:
            text = path.read_text("utf-8")
        except (OSError, UnicodeDecodeError) as exc:
            why = exc.strerror if isinstance(exc, OSError) else "it is not text"
            raise CommandError(f"Nothing was done: {path} cannot be read: {why}.") from None
        for number, line in enumerate(filter(None, text.split("\n")), 1):
            row = read_row(line)
            if row is None:
                raise CommandError(f"Nothing was done: line {number} of {path} is none of qq_resolve_duplicates.")
            if person.is_in(row):
                self.theirs.append(row)
            else:
                self.others.append(f"{line}\n")

    def delete(self) -> int:
        """Replace the file by one without these lines: a crash must not leave half a file, and no draft."""
        try:
            if self.theirs:
                with tempfile.TemporaryDirectory(dir=self.path.parent) as folder:  # only its owner can read it
                    draft, old = Path(folder) / self.path.name, self.path.stat()
                    draft.touch(0o600)
                    os.chown(draft, old.st_uid, old.st_gid)  # the command may run as root
                    draft.write_text("".join(self.others), "utf-8")
                    os.replace(draft, self.path)
        except OSError as exc:
            raise CommandError(f"Not erased: {self.path} cannot be replaced: {exc.strerror}.") from exc
        return len(self.theirs)


def read_row(line: str) -> Row | None:
    try:
        row = json.loads(line)
    except ValueError:
        return None
    return row if isinstance(row, dict) else None


def find_files(named: Iterable[str]) -> list[Path]:
    """Return the files in VAR_DIR, and those named."""
    folder = getattr(settings, "VAR_DIR", None)
    return sorted({path.resolve() for path in [*(Path(folder).glob(FILES) if folder else ()), *map(Path, named)]})

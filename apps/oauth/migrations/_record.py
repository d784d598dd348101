"""
The record of an adopted table: one row of JSON in `tb_oauth_qq_adopted`, from which the migration goes back.

A part of the migrations, so it is frozen, and imports nothing of the app.
"""

import json
from dataclasses import asdict, dataclass, field
from typing import Any

from django.core.management.base import CommandError

from ._changes import Changes
from ._table import RECORD, read_table, run


@dataclass(frozen=True)
class Record:
    by: str  # "0001", which found the table, or "0003", because the old app had recorded a 0001 of its own
    definition: Any  # of the old table, as in Table.definition
    collation: str | None  # the old table's default
    changes: Changes = field(default_factory=Changes)  # empty before them, and after they are undone


def read_record(connection):
    """Return the Record, or None. A migration that died may have left an empty table."""
    found = read_table(connection, RECORD)
    if found and "record" not in found.columns:
        raise CommandError(f"{RECORD} is not the record that this app makes: rename it. Then migrate again.")
    rows = run(connection, f"SELECT record FROM {RECORD}") if found else ()
    if not rows:
        return None
    record = json.loads(rows[0][0])
    changes = Changes(record["added"], record["keys"], record["modified"])
    return Record(record["by"], record["definition"], record["collation"], changes)


def write_record(connection, record):
    text, options = ("longtext", " ENGINE=InnoDB") if connection.vendor == "mysql" else ("text", "")
    columns = f"id integer NOT NULL PRIMARY KEY, record {text} NOT NULL"
    run(connection, f"CREATE TABLE IF NOT EXISTS {RECORD} ({columns}){options}")
    fields = asdict(record)
    changes = fields.pop("changes")
    run(connection, f"REPLACE INTO {RECORD} (id, record) VALUES (1, %s)", [json.dumps(fields | changes)])


def drop_record(connection):
    run(connection, f"DROP TABLE IF EXISTS {RECORD}")

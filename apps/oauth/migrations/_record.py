"""
The record of an adopted table: one row of JSON in `tb_oauth_qq_adopted`, from which the migration goes back.

    by           "0001", which found the table, or "0003", because the old app had recorded a 0001 of its own
    state        found: nothing is changed yet; adopting: changes have begun; adopted; restored: changed back
    definition   of the old table, as in Table.definition
    collation    the old table's default collation
    added        columns
    keys         names of added keys
    modified     {column: {"old_name", "old", "new"}}, with the definitions before and after
    no_nulls     columns that were NOT NULL
    lengths      {column: characters} of columns that were shorter

A part of the migrations, so it is frozen, and imports nothing of the app.
"""

import json

from ._table import RECORD, read_table, run


def read_record(connection):
    """Return the record as a dict, or None. A migration that died may have left an empty table."""
    rows = run(connection, f"SELECT record FROM {RECORD}") if read_table(connection, RECORD) else ()
    return json.loads(rows[0][0]) if rows else None


def write_record(connection, record):
    text, options = ("longtext", " ENGINE=InnoDB") if connection.vendor == "mysql" else ("text", "")
    if not read_table(connection, RECORD):
        run(connection, f"CREATE TABLE {RECORD} (id integer NOT NULL PRIMARY KEY, record {text} NOT NULL){options}")
    run(connection, f"REPLACE INTO {RECORD} (id, record) VALUES (1, %s)", [json.dumps(record)])


def drop_record(connection):
    run(connection, f"DROP TABLE IF EXISTS {RECORD}")

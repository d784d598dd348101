"""
Adopt the table that a shop had before this app, and give it back as it was.

Forward looks at the table itself, whatever migrations are recorded, and decides once: there is none, so create it;
adopt it; or refuse, in a sentence, and change nothing. Before the first change, the old definition and the changes are
recorded in the database, and backward undoes what this record says and nothing else. Each step can run again after a
migration that died: MySQL and MariaDB cannot roll back DDL.

A part of the migrations, so it is frozen, and imports nothing of the app.
"""

import re
from contextlib import contextmanager, suppress
from dataclasses import asdict

from django.conf import settings
from django.core.management.base import CommandError
from django.db import DatabaseError, Error

from ._changes import apply_changes, is_applied, plan_changes, undo_changes
from ._progress import showing_progress
from ._record import drop_record, read_record, write_record
from ._refusals import explain_look_alikes, find_obstacle, find_reason
from ._rows import Rows, find_users
from ._table import MERGED, TABLE, is_ours, read_table, run

# A shop may have the year 0000 in its rows, an id 0, or quotes of its own. Texts must not be cut.
SQL_MODE = "STRICT_ALL_TABLES,NO_AUTO_VALUE_ON_ZERO,ALLOW_INVALID_DATES"


def find_old_table(apps, schema_editor):
    """For 0001 forward: whether the table is there. Then it is recorded, and not changed yet."""
    connection = schema_editor.connection
    with session(connection):
        table = read_table(connection)
        if table is None:
            prepare_creation(connection)
        elif (read_record(connection) or {"state": "restored"})["state"] == "restored":
            with explaining("convert", "The table is unchanged"):
                prepare(connection, table, apps)  # refuses before anything is recorded, the migrations included
                write_record(connection, describe(table, "0001", "found"))
        return table is not None


def leave_old_table(schema_editor):
    """For 0001 backward: whether the table is the shop's, or not there, and must not be dropped."""
    connection = schema_editor.connection
    table, record = read_table(connection), read_record(connection)
    if table is None or not is_ours(table):
        drop_record(connection)
        return True
    # Only the record tells the shop's table from our own if both look the same. So it stays, lest this step, repeated
    # after it died, should drop the table.
    return record is not None


def adopt(apps, schema_editor):
    """0003 forward."""
    connection = schema_editor.connection
    with session(connection):
        table, record = read_table(connection), read_record(connection)
        if table is None:
            prepare_creation(connection)
            schema_editor.create_model(apps.get_model("oauth", "OAuthQQUser"))
        elif record is None and is_ours(table) and not run(connection, f"SELECT 1 FROM {TABLE} LIMIT 1"):
            pass  # 0001 has created it
        elif record and record["state"] == "adopting" and is_applied(table, record):
            write_record(connection, record | {"state": "adopted"})  # the migration had died after its last change
        else:
            convert(connection, table, record, apps)


def convert(connection, table, record, apps):
    with explaining("convert", "The table is unchanged"):
        rows, orphans, repeated, changes = prepare(connection, table, apps)
    by = record["by"] if record else "0003"
    new = describe(table, by, "adopting", changes)
    if record and record["state"] == "adopted":  # somebody has changed the table since: keep what it was before
        new = record | {name: {**new[name], **record[name]} for name in ("added", "keys", "modified")}
        new["no_nulls"] = sorted({*record["no_nulls"], *changes.no_nulls})
        new["lengths"] = {**changes.lengths, **record["lengths"]}
    with explaining("convert", "The table is unchanged"):
        write_record(connection, new)
    with undoing_on_error(connection, record, rows):
        if orphans[0] or repeated:
            with showing_progress(connection, "Moving rows", table):
                rows.move(orphans[0], repeated)
        with showing_progress(connection, f"Converting {TABLE}", table):
            apply_changes(connection, table, changes)
    write_record(connection, new | {"state": "adopted"})
    if orphans[0]:
        print(f"\n    {orphans[0]} rows whose user is gone ({orphans[1]}) are now in {MERGED}. ", end="")
    if repeated:
        print(f"\n    {repeated} rows that repeated a user's openid are now in {MERGED}. ", end="")


def prepare(connection, table, apps):
    """Return the Rows, the number of orphans with their ids, that of repeated rows, and the Changes.

    Raises CommandError if the table cannot be adopted as it is.
    """
    users = find_users(connection, apps.get_model(settings.AUTH_USER_MODEL))
    if reason := find_reason(connection, table, users):
        raise CommandError(reason)
    rows = Rows(connection, table, users)
    with showing_progress(connection, f"Checking {TABLE}", table):
        orphans = rows.find_orphans()
        conflicts, conflicting_rows, repeated = rows.count_duplicates()
    if conflicts:
        raise CommandError(rows.explain_conflicts(conflicts, conflicting_rows))
    if (orphans[0] or repeated) and (reason := find_obstacle(connection, table, rows, orphans[0])):
        raise CommandError(reason)
    return rows, orphans, repeated, plan_changes(connection, table)


def prepare_creation(connection):
    """Raise CommandError if the table may be there under another name; forget a record of a table that is gone."""
    if reason := explain_look_alikes(connection):
        raise CommandError(reason)
    drop_record(connection)


def describe(table, by, state, changes=None):
    changed = asdict(changes) if changes else {"added": {}, "keys": {}, "modified": {}, "no_nulls": [], "lengths": {}}
    return {"by": by, "state": state, "definition": table.definition, "collation": table.collation, **changed}


def restore(apps, schema_editor):
    """0003 backward. Without a record, the table is this app's, or nothing was changed."""
    connection = schema_editor.connection
    with session(connection):
        table, record = read_table(connection), read_record(connection)
        if table is None or record is None:
            return
        users = find_users(connection, apps.get_model(settings.AUTH_USER_MODEL))
        if record["state"] in ("adopting", "adopted"):
            if table.definition != record["definition"]:
                with explaining("restore", f"{TABLE} is still converted"), showing_progress(
                    connection, f"Restoring {TABLE}", table
                ):
                    undo_changes(connection, table, record)
                table = read_table(connection)
            with explaining("restore", f"Rows in {MERGED} are not returned yet: migrate back again, and it continues"):
                give_back(connection, Rows(connection, table, users))
        if record["by"] == "0001" or is_ours(table):  # 0001 backward needs it to know that the table is the shop's
            write_record(connection, record | {"state": "restored"})
        else:
            drop_record(connection)


def give_back(connection, rows):
    is_mysql = connection.vendor == "mysql"
    if is_mysql:  # a row whose user is gone comes back as it was
        run(connection, "SET SESSION foreign_key_checks = 0")
    try:
        rows.give_back()
    finally:
        if is_mysql:
            run(connection, "SET SESSION foreign_key_checks = 1")


@contextmanager
def undoing_on_error(connection, record, rows):
    """Return the rows that were moved if the database refuses a change."""
    try:
        yield
    except DatabaseError as exc:
        state = "The table is unchanged."  # on SQLite, Django rolls back
        if connection.vendor == "mysql":
            state = "It is not known whether anything was changed: migrate again, and it continues."
            with suppress(Error), session(connection):  # the connection may be gone, or Django has made a new one
                give_back(connection, rows)
                if record:
                    write_record(connection, record)
                else:
                    drop_record(connection)
                state = "The table is unchanged."
        raise CommandError(f"The database refuses to convert {TABLE}: {quote_engine(exc)}. {state}") from exc


@contextmanager
def explaining(work, state):
    try:
        yield
    except DatabaseError as exc:
        raise CommandError(f"The database refuses to {work} {TABLE}: {quote_engine(exc)}. {state}.") from exc


def quote_engine(exc):
    """Return the words of the server without whole openids."""
    text = f"{exc.args[1]} ({exc.args[0]})" if len(exc.args) > 1 else str(exc)
    return re.sub("([0-9A-Fa-f]{6})[0-9A-Fa-f]{26}", r"\1…", text)


@contextmanager
def session(connection):
    """Make the database's session independent of the shop's settings."""
    if connection.vendor != "mysql":
        yield
        return
    ((mode,),) = run(connection, "SELECT @@SESSION.sql_mode")
    run(connection, f"SET SESSION sql_mode = '{SQL_MODE}', sql_quote_show_create = 1")
    try:
        yield
    finally:
        with suppress(Error):  # the connection may be gone
            run(connection, "SET SESSION sql_mode = %s", [mode])

"""
Adopt the table that a shop had before this app, and give it back as it was.

Forward looks at the table itself, whatever migrations are recorded, and decides once: there is none, so create it;
adopt it; or refuse, in a sentence, and change nothing. Before the first change, the old definition and the changes are
recorded in the database, and backward undoes what this record says and nothing else. Each step can run again after a
migration that died: MySQL and MariaDB cannot roll back DDL.

A part of the migrations, so it is frozen, and imports nothing of the app.
"""

from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import NamedTuple

from django.conf import settings
from django.core.management.base import CommandError
from django.db import DatabaseError, Error

from ._changes import Changes, apply_changes, plan_changes, undo_changes
from ._move_refusals import check_move
from ._progress import showing_progress
from ._record import Record, drop_record, read_record, write_record
from ._refusals import check_own_columns, check_table, refusal
from ._rows import Rows, find_users
from ._session import session
from ._table import ADDED_LATER, MERGED, RECORD, TABLE, is_ours, list_tables, read_table, run
from ._trial import check_new_binding, explain_error

ACTIONS = {  # by the error of MySQL and MariaDB
    1062: "Delete or correct one of the rows",
    1142: "Grant this right to the user in DATABASES",
    1205: "End the transaction that uses the table (SHOW PROCESSLIST), or wait for its end",
}


class Plan(NamedTuple):
    rows: Rows
    orphans: int  # rows whose user is gone
    orphan_ids: str
    repeated: int  # rows that repeat another
    changes: Changes


def find_old_table(apps, schema_editor):
    """For 0001 forward: whether the table is there. Then it is recorded, and not changed yet."""
    connection = schema_editor.connection
    with session(connection):
        table, record = read_table(connection), read_record(connection)
        if table is None:
            prepare_creation(connection)
        elif record is None or not record.changes:
            plan_adoption(connection, table, None, apps)  # refuses before 0001 and 0002 are recorded
            with explaining("convert", "The table is unchanged"):
                write_record(connection, Record("0001", table.definition, table.collation))
        return table is not None


def leave_old_table(apps, schema_editor):
    """For 0001 backward: whether the table is the shop's, or not there, and must not be dropped."""
    connection = schema_editor.connection
    with session(connection):
        restore(apps, schema_editor)  # 0003 has done it, unless it was taken back with --fake
        table, record = read_table(connection), read_record(connection)
        if table is None or not is_ours(table):
            with explaining("restore", f"Only {RECORD} is still there"):
                drop_record(connection)
            return True
        # Only the record tells the shop's table from our own if both look the same. So it stays: otherwise this
        # step, repeated after it died, would drop the table.
        return record is not None


def adopt(apps, schema_editor):
    """0003 forward."""
    connection = schema_editor.connection
    with session(connection):
        table, record = read_table(connection), read_record(connection)
        if table is None:
            prepare_creation(connection)
            schema_editor.create_model(apps.get_model("oauth", "OAuthQQUser"))
        elif record or not is_ours(table) or run(connection, f"SELECT 1 FROM {TABLE} LIMIT 1"):
            convert(connection, table, record, apps)
        # Otherwise 0001 has just created it.


def prepare_creation(connection):
    """Raise CommandError if the table may be there under another name; forget a record of a table that is gone."""
    found = []
    for name in list_tables(connection):
        if "qq" in name.lower() and name not in (MERGED, RECORD):
            table = read_table(connection, name)
            if table and table.openid and "user_id" in table.columns:
                found.append(name)
    if found:
        raise refusal(
            f"There is no table {TABLE}, but {' and '.join(sorted(found))} may hold the bindings of QQ: if so, rename"
            f" it to {TABLE}; if not, rename it so that its name has no qq in it."
        )
    drop_record(connection)


def plan_adoption(connection, table, record, apps):
    """Return the Plan. Raises CommandError if the table cannot be adopted as it is."""
    with explaining("convert", "The table is unchanged"):
        users = find_users(connection, apps.get_model(settings.AUTH_USER_MODEL))
        check_table(connection, table, users)
        check_own_columns(table, record)
        rows = Rows(connection, table, users)
        with showing_progress(connection, f"Checking {TABLE}"):
            orphans, orphan_ids = rows.find_orphans()
            conflicts, conflicting_rows, repeated = rows.count_duplicates()
        if conflicts:
            raise CommandError(rows.explain_conflicts(conflicts, conflicting_rows))
        if orphans or repeated:
            check_move(connection, table, rows, orphans, is_adopted=bool(record and record.changes))
        check_new_binding(rows)
        return Plan(rows, orphans, orphan_ids, repeated, plan_changes(connection, table))


def convert(connection, table, record, apps):
    plan = plan_adoption(connection, table, record, apps)
    if record and record.changes:  # the migration had died, or somebody has changed the table since
        new = replace(record, changes=record.changes | plan.changes)
    else:
        new = Record(record.by if record else "0003", table.definition, table.collation, plan.changes)
    with explaining("convert", "The table is unchanged"):
        write_record(connection, new)
    try:
        if plan.orphans or plan.repeated:
            with showing_progress(connection, "Moving rows"):
                plan.rows.move(plan.orphans, plan.repeated)
        with showing_progress(connection, f"Converting {TABLE}"):
            apply_changes(connection, plan.changes)
    except DatabaseError as exc:
        state = "The table is unchanged"
        if connection.vendor == "mysql" and not revert(connection, plan.rows, record):
            state = "It is not known whether anything was changed"
        raise engine_refusal("convert", exc, state) from None
    if plan.orphans:
        print(f"\n    Rows whose user is gone, now in {MERGED}: {plan.orphans} ({plan.orphan_ids}). ", end="")
    if plan.repeated:
        print(f"\n    Rows that repeated a user's openid, now in {MERGED}: {plan.repeated}. ", end="")


def revert(connection, rows, record):
    """Return the moved rows and restore the record; say whether that was possible. On SQLite, Django rolls back."""
    with suppress(Error, CommandError), session(connection):  # the connection may be gone, or Django has made a new one
        table = read_table(connection)
        if not table or table.definition != rows.table.definition:
            return False  # the lock was gone with the connection, and another process has converted the table
        rows.give_back()
        if record:
            write_record(connection, record)
        else:
            drop_record(connection)
        return True
    return False


def restore(apps, schema_editor):
    """0003 backward. Without a record, the table is this app's, or nothing was changed."""
    connection = schema_editor.connection
    with session(connection):
        table, record = read_table(connection), read_record(connection)
        if table is None or record is None:
            return
        table = drop_later_columns(connection, table, record)
        if table.definition != record.definition:
            with explaining("restore", f"{TABLE} is still converted"), showing_progress(
                connection, f"Restoring {TABLE}"
            ):
                undo_changes(connection, table, record)
            table = read_table(connection)
        with explaining("restore", f"Rows in {MERGED} are not returned yet"):
            Rows(connection, table, find_users(connection, apps.get_model(settings.AUTH_USER_MODEL))).give_back()
        with explaining("restore", f"Only {RECORD} is still there"):
            if record.by == "0001" or is_ours(table):  # 0001 backward needs it to know that the table is the shop's
                write_record(connection, replace(record, changes=Changes()))
            else:
                drop_record(connection)


def drop_later_columns(connection, table, record):
    """Drop the columns of 0004 that are still there, because it was taken back with --fake; return the table."""
    for name in ADDED_LATER & table.columns.keys():
        if name not in str(record.definition):
            with explaining("restore", f"{TABLE} is still converted"):
                run(connection, f"ALTER TABLE {TABLE} DROP COLUMN {name}")
    return read_table(connection)


@contextmanager
def explaining(work, state):
    try:
        yield
    except DatabaseError as exc:
        raise engine_refusal(work, exc, state) from None


def engine_refusal(work, exc, state):
    """Return a CommandError with the words of the server, and what to do."""
    code, again = exc.args[0] if len(exc.args) > 1 else None, "migrate" if work == "convert" else "migrate back"
    action = ACTIONS.get(code, "Remove what stands in the way")
    return CommandError(
        f"The database refuses to {work} {TABLE}: {explain_error(exc)}. {state}. {action}, then {again} again."
    )

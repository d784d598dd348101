"""
A trial: whether the table accepts a new binding. No other test knows all that its keys, checks and triggers refuse.

A part of the migrations, so it is frozen, and imports nothing of the app.
"""

import re
import secrets
from contextlib import suppress

from django.db import DatabaseError, IntegrityError, transaction

from ._refusals import refusal
from ._table import TABLE, run

# Missing rights, lock wait timeout, deadlock, killed query, lost connection: none of these is the table's fault.
NOT_BY_TABLE = {1142, 1143, 1205, 1213, 1317, 2006, 2013}


def check_new_binding(rows):
    """Raise CommandError if the table refuses a binding of a bound user, or of the newest with a unionid; or changes it.

    `rows` are the table's Rows.
    """
    connection, table = rows.connection, rows.table
    newest = find_newest(rows) if rows.users else None
    if newest is None:
        return
    bound = run(connection, f"SELECT user_id FROM {TABLE} AS bound WHERE NOT ({rows.orphan}) LIMIT 1")
    bindings = [{"user_id": bound[0][0] if bound else newest}, {"user_id": newest}]
    if unionid := table.columns.get("unionid"):
        bindings[0]["unionid"] = None if unionid.is_nullable else ""
        bindings[1]["unionid"] = f"UID_{secrets.token_hex(16)}"[:unionid.length]
    for binding in bindings:
        try:
            is_kept = try_binding(rows, binding)
        except DatabaseError as exc:
            if exc.args[0] in NOT_BY_TABLE:
                raise
            raise refusal(
                f"{TABLE} refuses a new binding: {explain_error(exc)}: remove the constraint, key, trigger or column"
                " type that stands in the way."
            ) from None
        if not is_kept:
            raise refusal(
                f"{TABLE}.{table.openid.name} does not keep a new openid as it is, so no login would find it: remove"
                " the trigger that changes it."
            )


def find_newest(rows):
    pk, users = map(rows.connection.ops.quote_name, (rows.users.pk, rows.users.table))
    found = rows.run(f"SELECT {pk} FROM {users} ORDER BY {pk} DESC LIMIT 1")
    return found[0][0] if found else None


def try_binding(rows, binding):
    """Insert this binding of a made-up openid, and take it back; return whether the openid is kept."""
    if rows.is_mysql:
        ((free,),) = rows.run(f"SELECT MIN(id) - 1 FROM {TABLE}")
        with suppress(DatabaseError):  # the column may not hold that
            # Not a number of AUTO_INCREMENT, which would stay used up.
            return insert_and_take_back(rows, {"id": free or 0, **binding})
    return insert_and_take_back(rows, binding)


def insert_and_take_back(rows, values):
    openid, connection = secrets.token_hex(16).upper(), rows.connection
    values = {rows.openid: openid, **values}
    times = [name for name in ("create_time", "update_time") if name in rows.table.columns]
    places = ", ".join([*["%s"] * len(values), *["CURRENT_TIMESTAMP"] * len(times)])
    with transaction.atomic(connection.alias):
        try:
            sql = f"INSERT INTO {TABLE} ({', '.join([*values, *times])}) VALUES ({places})"
            run(connection, sql, [*values.values()])
            found = run(connection, f"SELECT id FROM {TABLE} AS bound WHERE {rows.exact('bound')} = %s", [openid])
            if not rows.is_mysql:  # Django has switched foreign keys off
                for _, row_id, other, _ in rows.run(f"PRAGMA foreign_key_check({TABLE})"):
                    if (row_id,) in found:
                        raise IntegrityError(f"its foreign key to {other} finds no row there")
            return bool(found)
        finally:
            transaction.set_rollback(True, connection.alias)


def explain_error(exc):
    """Return the words of the server, but without whole openids, which a traceback would show."""
    text = f"{exc.args[1]} ({exc.args[0]})" if len(exc.args) > 1 else str(exc)
    return re.sub("([0-9A-Fa-f]{6})[0-9A-Fa-f]{26}", r"\1…", text)

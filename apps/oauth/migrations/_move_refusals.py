"""
What stops rows from moving out of the table: each reason is a sentence that names the action to take.

A part of the migrations, so it is frozen, and imports nothing of the app.
"""

from ._refusals import find_triggers, refusal
from ._table import MARK, MERGED, TABLE, find_ids, list_tables, read_table, run


def check_move(connection, table, rows, orphans, is_adopted):
    """
    Raise CommandError if rows cannot leave the table and return. `orphans`: how many of them have no user.
    `is_adopted`: whether the table is recorded as changed, in a migration that died or was taken back with --fake.
    """
    users = rows.users.table if rows.users else "this database"
    if orphans and not run(connection, f"SELECT 1 FROM {TABLE} AS bound WHERE NOT ({rows.orphan}) LIMIT 1"):
        raise refusal(
            f"Not one user of {TABLE}.user_id is in {users}: set AUTH_USER_MODEL to the users of these rows, or delete"
            " the rows."
        )
    check_merged(connection, table, rows, is_adopted)
    if connection.vendor == "sqlite" and run(connection, f"PRAGMA foreign_key_check({TABLE})"):
        raise refusal(
            f"{TABLE}.user_id names users that are gone, against its foreign key, and Django then refuses every"
            " migration of an SQLite database: delete these rows."
        )
    moved = f"Rows of {TABLE} have to move, because they repeat another or their users are gone, and"
    if triggers := find_triggers(connection):
        raise refusal(f"{moved} the trigger {triggers[0]} would see that: drop it, and recreate it afterwards.")
    if others := find_references(connection):
        raise refusal(f"{moved} {others[0]} references the table by a foreign key: drop that key.")


def check_merged(connection, table, rows, is_adopted):
    """Raise CommandError if tb_oauth_qq_merged has rows, and the others cannot follow them."""
    merged = read_table(connection, MERGED)
    if not merged or not run(connection, f"SELECT 1 FROM {MERGED} LIMIT 1"):
        return
    if is_adopted and not has_columns(merged, table):
        raise refusal(
            f"{MERGED} holds rows that were moved before {TABLE} was converted, and more rows have to move now: go"
            " back first, with `manage.py migrate oauth --fake` and then `manage.py migrate oauth 0002`."
        )
    if not has_columns(merged, table):
        raise refusal(
            f"{MERGED} holds rows of an earlier migration, and its columns are not those of {TABLE}: rename it, and"
            " keep it until its rows are where they belong."
        )
    twice = "bound.id = moved.id"
    if table.has_unique(table.openid.name):
        twice += f" OR bound.{table.openid.name} = moved.{table.openid.name}"
    # Not the very row that had moved: a backup has brought it back.
    others = f"SELECT 1 FROM {MERGED} AS moved WHERE ({twice}) AND NOT ({rows.is_moved})"
    if ids := find_ids(connection, f"({rows.orphan}) AND EXISTS ({others})", f"{TABLE} AS bound"):
        raise refusal(
            f"Users of {TABLE} are gone ({ids}), but {MERGED} already has rows with the same id or openid: delete the"
            " rows in one of the two tables."
        )


def has_columns(merged, table):
    """Whether a tb_oauth_qq_merged can hold rows of this table."""
    theirs, ours = ({name: column.collation for name, column in each.columns.items() if not column.is_generated}
                    for each in (merged, table))
    return theirs == {**ours, MARK: theirs.get(MARK)}


def find_references(connection):
    """Return the names of other tables that reference this one by a foreign key."""
    if connection.vendor == "sqlite":
        tables = {name: read_table(connection, name) for name in list_tables(connection)}
        return [name for name, table in tables.items()
                if TABLE in (other.lower() for *_, other in table.foreign_keys)]
    query = "SELECT DISTINCT table_name FROM information_schema.key_column_usage" \
            " WHERE referenced_table_schema = DATABASE() AND referenced_table_name = %s"
    return [name for name, in run(connection, query, [TABLE])]

"""
What stops rows from moving to `tb_oauth_qq_merged` and back: each reason is a sentence, as in _refusals.py.

A part of the migrations, so it is frozen, and imports nothing of the app.
"""

from ._refusals import find_triggers, refusal
from ._table import MARK, MERGED, TABLE, list_tables, read_table, run


def check_move(connection, table, rows, orphans):
    """Raise CommandError if rows cannot leave the table and return. `orphans`: how many of them have no user."""
    users = rows.users.table if rows.users else "this database"
    if orphans and not run(connection, f"SELECT 1 FROM {TABLE} AS bound WHERE NOT ({rows.orphan}) LIMIT 1"):
        raise refusal(
            f"Not one user of {TABLE}.user_id is in {users}: set AUTH_USER_MODEL to the users of these rows, or delete"
            " the rows."
        )
    merged = read_table(connection, MERGED)
    if merged and not has_columns(merged, table) and run(connection, f"SELECT 1 FROM {MERGED} LIMIT 1"):
        raise refusal(
            f"{MERGED} holds rows of an earlier migration, and its columns are not those of {TABLE}: rename it, and"
            " keep it until its rows are where they belong."
        )
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

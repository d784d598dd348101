"""
What stops the adoption of a table: each reason is a sentence that names table, column and the action to take.

A part of the migrations, so it is frozen, and imports nothing of the app.
"""

import re

from ._table import INTEGERS, MERGED, OUR_COLUMNS, RECORD, TABLE, TEXTS, list_tables, read_table, run

DELETION_MARKS = (
    "is_delete", "is_deleted", "isdelete", "isdeleted", "is_del", "del_flag", "delete_flag", "deleted", "delete_time",
    "deleted_time", "delete_at", "deleted_at",
)
VALIDITY_MARKS = ("is_active", "is_valid")
TIMES = {"mysql": {"datetime", "timestamp"}, "sqlite": {"datetime", "timestamp", "text", "varchar", "char"}}
FILLED = {"openid", "open_id", "unionid", "create_time", "update_time", "user_id"}  # by our INSERT
MAX_LISTED = 10


def find_look_alikes(connection):
    """Return the names of tables that may be the shop's table of QQ bindings under another name."""
    found = []
    for name in list_tables(connection):
        if "qq" in name.lower() and name not in (TABLE, MERGED, RECORD):
            table = read_table(connection, name)
            if table and table.openid and "user_id" in table.columns:
                found.append(table.name)
    return found


def explain_look_alikes(connection):
    """Return the sentence about them, or None."""
    if found := find_look_alikes(connection):
        return (
            f"There is no table {TABLE}, but {' and '.join(sorted(found))} may hold the bindings of QQ: if so, rename"
            f" it to {TABLE}; if not, rename it so that its name has no qq in it. Then migrate again."
        )
    return None


def find_reason(connection, table, users):
    """Return the sentence that says why this table cannot be adopted as it is, or None. `users` is a Users or None."""
    reasons = (
        check_table, check_charset, check_columns, check_required, check_keys, check_triggers, check_marks,
        check_lengths,
    )
    sentences = (sentence for check in reasons for sentence in check(connection, table, users))
    return next((f"{sentence} Then migrate again." for sentence in sentences), None)


def check_table(connection, table, users):
    name = table.name
    if table.type != "BASE TABLE":
        action = "replace it by a plain table of this name"
        if table.type == "SYSTEM VERSIONED":
            action = f"ALTER TABLE {name} DROP SYSTEM VERSIONING"
        yield f"{name} is no plain table but of the type {table.type.lower()}, which QQ login cannot use: {action}."
    elif connection.vendor not in ("mysql", "sqlite"):
        yield f"There is a table {name} that this app did not create, and it adopts tables only on MySQL, MariaDB and" \
              " SQLite: rename it."
    elif not table.has_transactions:
        yield f"{name} uses the engine {table.engine}, which has no transactions: ALTER TABLE {name} ENGINE=InnoDB."
    elif table.is_partitioned:
        yield f"{name} is partitioned, so openid cannot be unique: ALTER TABLE {name} REMOVE PARTITIONING."


def check_charset(connection, table, users):
    if connection.vendor == "mysql":
        ((charset,),) = run(connection, "SELECT @@character_set_results")
        if charset and not charset.startswith("utf8"):
            yield f"The connection uses {charset}, in which comments and defaults of {table.name} may come back as" \
                  " question marks: set charset to utf8mb4 in the OPTIONS of DATABASES."


def check_columns(connection, table, users):
    name, columns = table.name, table.columns
    if not (row_id := columns.get("id")):
        yield f"{name} has no column id: add one, id bigint NOT NULL AUTO_INCREMENT PRIMARY KEY."
    elif row_id.kind not in INTEGERS or not row_id.is_auto:
        yield f"{name}.id does not number new rows by itself: make it bigint NOT NULL AUTO_INCREMENT" \
              " (on SQLite integer PRIMARY KEY)."
    elif not table.has_unique("id"):
        yield f"{name}.id is not unique by itself: make it the primary key."
    if not table.openid:
        yield f"{name} has no column openid or open_id: rename the column that holds the openids to openid."
    elif table.openid.kind not in TEXTS:
        yield f"{name}.{table.openid.name} is {table.openid.kind}, which this app cannot compare as text: make it" \
              " varchar(64)."
    if "user_id" not in columns:
        yield f"{name} has no column user_id: rename the column that holds the ids of the users to user_id."
    unionid = columns.get("unionid")
    if unionid and unionid.kind not in TEXTS:
        yield f"{name}.unionid is {unionid.kind}, which cannot hold a unionid: make it varchar(64) NULL or rename it."
    if unionid and not unionid.is_nullable and connection.vendor == "sqlite":
        yield f"{name}.unionid is NOT NULL, which SQLite cannot change: set null=True in the old app's model, and" \
              " migrate that first."
    for column in ("create_time", "update_time"):
        if column in columns and columns[column].kind not in TIMES[connection.vendor]:
            yield f"{name}.{column} is {columns[column].kind}, which cannot hold a time: make it datetime(6) or rename" \
                  " it."
    for column in sorted(OUR_COLUMNS.keys() | {"open_id"}):
        if column in columns and columns[column].is_generated:
            yield f"{name}.{column} is a generated column, which nobody can write: make it a plain one."


def check_required(connection, table, users):
    for key, column in table.columns.items():
        is_filled = key in FILLED - ({"open_id"} if "openid" in table.columns else set())
        if not (is_filled or column.has_default or column.is_auto or column.is_generated):
            yield f"{table.name}.{column.name} is NOT NULL without a default, so every new binding would fail:" \
                  f" {give_default(connection, table, column)}."


def give_default(connection, table, column):
    """Return how to give the column a default."""
    if connection.vendor == "sqlite":
        return "set db_default or null=True in the old app's model, and migrate that first"
    number = re.match("(tinyint|smallint|mediumint|int|bigint|decimal|float|double)", column.type)
    if number or column.kind in ("char", "varchar"):
        return f"ALTER TABLE {table.name} ALTER COLUMN {column.name} SET DEFAULT {'0' if number else chr(39) * 2}"
    if column.kind in ("datetime", "timestamp"):
        now = "CURRENT_TIMESTAMP" + column.type[len(column.kind):]
        return f"ALTER TABLE {table.name} MODIFY {column.name} {column.type} NOT NULL DEFAULT {now}"
    return f"ALTER TABLE {table.name} MODIFY {column.name} {column.type} NULL"


def check_keys(connection, table, users):
    for key in table.keys:
        # Two bindings differ in these, or one of them is NULL: then the key stops none of them.
        harmless = {"id", "openid", "open_id", None}
        columns = [column for column in key.columns if column in table.columns]
        nulls = {column for column in columns if column != "user_id" and table.columns[column].is_nullable}
        if key.is_unique and not harmless & set(key.columns) and not nulls:
            reason = "many bindings have no unionid" if "unionid" in columns else "a user may have several QQ bindings"
            yield f"{table.name} has the unique key {key.name} ({', '.join(columns)}), and {reason}: drop the key, or" \
                  f" make it a plain one."
    constraint, other = table.foreign_keys.get("user_id", ("", ""))
    if users and other and other.lower() not in users.tables:
        key = f"foreign key {constraint}".strip()  # SQLite has no names for them
        yield f"{table.name}.user_id references {other}, but users are in {users.table}, so new bindings would fail:" \
              f" drop the {key}, or let it reference {users.table}."


def check_triggers(connection, table, users):
    renamed = table.openid.name if table.openid.name.lower() == "open_id" else None
    if renamed and connection.vendor == "mysql":  # SQLite renames the column in them too
        for trigger in find_triggers(connection, table):
            yield f"{table.name}.{renamed} has to be renamed to openid, which the trigger {trigger} may not survive:" \
                  " drop it, and recreate it afterwards with the new name."


def check_marks(connection, table, users):
    for key, column in table.columns.items():
        condition = is_marked(connection, key, column)
        if condition and (ids := find_ids(connection, table, condition)):
            yield f"{table.name} has rows that {column.name} marks as deleted ({ids}), which this app does not read:" \
                  f" with them, users could log in again. Delete these rows, or clear {column.name} in them."


def is_marked(connection, key, column):
    """Return the SQL condition that the row is marked as deleted, or None if the column is no such mark."""
    name = connection.ops.quote_name(column.name)
    numbers = column.kind in INTEGERS | {"bit", "bool", "boolean", "decimal"}
    if key in VALIDITY_MARKS:
        return f"{name} = 0" if numbers else None
    if key not in DELETION_MARKS:
        return None
    if numbers:
        return f"{name} <> 0"
    if column.kind in ("datetime", "timestamp", "date"):
        return f"{name} > '0001-01-01'"  # also not the zero date of MySQL
    return f"LOWER({name}) NOT IN ('', '0', 'n', 'no', 'f', 'false')"


def check_lengths(connection, table, users):
    openid = table.openid
    if openid.length is None or openid.length > 64:
        length = "CHAR_LENGTH" if connection.vendor == "mysql" else "LENGTH"
        if ids := find_ids(connection, table, f"{length}({connection.ops.quote_name(openid.name)}) > 64"):
            yield f"{table.name}.{openid.name} is longer than 64 characters in some rows ({ids}), and no openid of QQ" \
                  " is: correct or delete these rows."


def find_obstacle(connection, table, rows, orphans):
    """Return the sentence about what must not see rows leave and return, or None. `orphans`: their number."""
    name, users = table.name, rows.users
    if orphans and not rows.run(f"SELECT 1 FROM {rows.name} AS bound WHERE NOT ({rows.orphan}) LIMIT 1"):
        return f"Not one user of {name}.user_id is in {users.table if users else 'this database'}: set AUTH_USER_MODEL to" \
               " the users of these rows, or delete the rows. Then migrate again."
    merged = read_table(connection, MERGED)
    if merged and rows.run(f"SELECT 1 FROM {MERGED} LIMIT 1") and differs(table, merged, rows.mark):
        return f"{MERGED} holds rows of an earlier migration, and its columns are not those of {TABLE}: rename it, and" \
               " keep it until its rows are where they belong. Then migrate again."
    if connection.vendor == "sqlite" and rows.run(f"PRAGMA foreign_key_check({rows.name})"):
        return f"{name}.user_id names users that are gone, against its foreign key, and Django then refuses every" \
               " migration of an SQLite database: delete these rows. Then migrate again."
    moved = f"Rows of {TABLE} have to move, because they repeat another or their users are gone, and"
    if triggers := find_triggers(connection, table):
        return f"{moved} the trigger {triggers[0]} would see that: drop it, and recreate it afterwards." \
               " Then migrate again."
    if others := find_references(connection, table):
        return f"{moved} {others[0]} references the table by a foreign key: drop that key. Then migrate again."
    return None


def differs(table, merged, mark):
    """Whether a tb_oauth_qq_merged was made from a table with other columns."""
    ours, theirs = ({name: column.collation for name, column in one.columns.items() if not column.is_generated}
                    for one in (table, merged))
    theirs.pop(mark, None)
    return ours != theirs


def find_triggers(connection, table):
    query = "SELECT trigger_name FROM information_schema.triggers WHERE event_object_schema = DATABASE()" \
            " AND event_object_table = %s"
    if connection.vendor == "sqlite":
        query = "SELECT name FROM sqlite_master WHERE type = 'trigger' AND tbl_name = %s COLLATE NOCASE"
    return [name for name, in run(connection, query, [table.name])]


def find_references(connection, table):
    """Return the names of other tables that reference this one by a foreign key."""
    if connection.vendor == "sqlite":
        tables = ((name, read_table(connection, name)) for name in list_tables(connection))
        return [name for name, other in tables
                if other and table.name.lower() in (target.lower() for _, target in other.foreign_keys.values())]
    query = "SELECT DISTINCT table_name FROM information_schema.key_column_usage" \
            " WHERE referenced_table_schema = DATABASE() AND referenced_table_name = %s"
    return [name for name, in run(connection, query, [table.name])]


def find_ids(connection, table, condition):
    """Return the first ids of the rows as in "ids 1, 2", or an empty text."""
    rows = run(connection, f"SELECT id FROM {connection.ops.quote_name(table.name)} WHERE {condition}"
                           f" ORDER BY id LIMIT {MAX_LISTED + 1}")
    return list_ids([row_id for row_id, in rows])


def list_ids(ids):
    """Return the ids as in "ids 1, 2", at most ten of them."""
    shown = ", ".join(map(str, ids[:MAX_LISTED]))
    more = ", …" if len(ids) > MAX_LISTED else ""
    return ids and f"id{'s' * (len(ids) > 1)} {shown}{more}"

"""
What stops the adoption of a table: each reason is a sentence that names table, column and the action to take.

A part of the migrations, so it is frozen, and imports nothing of the app.
"""

import re
from typing import Any

from django.core.management.base import CommandError

from ._table import ADDED_LATER, INTEGERS, OUR_COLUMNS, TABLE, TEXTS, Column, find_ids, read_table, run

DELETION_MARKS = (
    "is_delete", "is_deleted", "isdelete", "isdeleted", "is_del", "del_flag", "delete_flag", "deleted", "delete_time",
    "deleted_time", "delete_at", "deleted_at",
)
VALIDITY_MARKS = ("is_active", "is_valid")
SMALL = {"tinyint", "smallint", "mediumint", "float", "double"}  # too small for ids of users, or not exact
TIMES = {"mysql": {"datetime", "timestamp"}, "sqlite": {"datetime", "timestamp", "text", "varchar", "char"}}


def refusal(sentence):
    return CommandError(f"{sentence} Then migrate again.")


def check_table(connection, table, users):
    """Raise CommandError if the table cannot be adopted as it is. `users` is a Users or None."""
    check_type(connection, table)
    check_charset(connection)
    check_columns(connection, table)
    check_required(connection, table)
    check_keys(table)
    check_user_id(connection, table, users)
    check_foreign_key(table, users)
    check_renaming(connection, table)
    check_deleted_rows(connection, table)
    check_lengths(connection, table)


def check_type(connection, table):
    if table.type != "BASE TABLE":
        action = "replace it by a plain table of this name"
        if table.type == "SYSTEM VERSIONED":
            action = f"ALTER TABLE {TABLE} DROP SYSTEM VERSIONING"
        raise refusal(
            f"{TABLE} is no plain table but of the type {table.type.lower()}, which QQ login cannot use: {action}."
        )
    if connection.vendor not in ("mysql", "sqlite"):
        raise refusal(
            f"There is a table {TABLE} that this app did not create, and it adopts tables only on MySQL, MariaDB and"
            " SQLite: rename it."
        )
    if table.is_strict:
        raise refusal(
            f"{TABLE} is a STRICT table, to which SQLite adds no varchar: replace it by a table without STRICT."
        )
    if not table.has_transactions:
        raise refusal(
            f"{TABLE} uses the engine {table.engine}, which has no transactions: ALTER TABLE {TABLE} ENGINE=InnoDB."
        )
    if table.is_partitioned:
        raise refusal(
            f"{TABLE} is partitioned, so openid cannot be unique: ALTER TABLE {TABLE} REMOVE PARTITIONING."
        )


def check_charset(connection):
    if connection.vendor == "mysql":
        ((charset,),) = run(connection, "SELECT @@character_set_results")
        if charset and not charset.startswith("utf8"):
            raise refusal(
                f"The connection uses {charset}, in which comments and defaults of {TABLE} may come back as question"
                " marks: set charset to utf8mb4 in the OPTIONS of DATABASES."
            )


def check_columns(connection, table):
    row_id, openid, unionid = table.columns.get("id"), table.openid, table.columns.get("unionid")
    if not row_id:
        raise refusal(f"{TABLE} has no column id: add one, id bigint NOT NULL AUTO_INCREMENT PRIMARY KEY.")
    if row_id.kind not in INTEGERS or not row_id.is_auto:
        raise refusal(
            f"{TABLE}.id does not number new rows by itself: make it bigint NOT NULL AUTO_INCREMENT (on SQLite integer"
            " PRIMARY KEY)."
        )
    if row_id.kind in ("tinyint", "smallint") and connection.vendor == "mysql":
        raise refusal(f"{TABLE}.id is {row_id.kind}, whose numbers run out: make it bigint NOT NULL AUTO_INCREMENT.")
    if not table.has_unique("id"):
        raise refusal(f"{TABLE}.id is not unique by itself: make it the primary key.")
    if not openid:
        raise refusal(
            f"{TABLE} has no column openid or open_id: rename the column that holds the openids to openid."
        )
    if openid.kind not in TEXTS:
        raise refusal(
            f"{TABLE}.{openid.name} is {name_type(openid)}, which this app cannot compare as text: make it varchar(64)."
        )
    if "user_id" not in table.columns:
        raise refusal(
            f"{TABLE} has no column user_id: rename the column that holds the ids of the users to user_id."
        )
    if unionid and unionid.kind not in TEXTS:
        raise refusal(
            f"{TABLE}.unionid is {name_type(unionid)}, which cannot hold a unionid: make it varchar(64) NULL or rename it."
        )
    for column in (openid, unionid):
        if column and "compressed" in column.type and (column is openid or column.kind == "varchar"):
            plain = f"{column.type.partition(' ')[0]}{' NULL' if column.is_nullable else ' NOT NULL'}"
            raise refusal(
                f"{TABLE}.{column.name} is COMPRESSED, so it cannot have a key:"
                f" ALTER TABLE {TABLE} MODIFY {column.name} {plain}."
            )
    if unionid and not unionid.is_nullable and connection.vendor == "sqlite":
        raise refusal(
            f"{TABLE}.unionid is NOT NULL, which SQLite cannot change: set null=True in the old app's model, and"
            " migrate that first."
        )
    for name in ("create_time", "update_time"):
        column = table.columns.get(name)
        if column and column.kind not in TIMES[connection.vendor]:
            raise refusal(
                f"{TABLE}.{name} is {name_type(column)}, which cannot hold a time: make it datetime(6) or rename it."
            )
    for name in sorted(OUR_COLUMNS.keys() | {"open_id"}):
        if name in table.columns and table.columns[name].is_generated:
            raise refusal(f"{TABLE}.{name} is a generated column, which nobody can write: make it a plain one.")


def name_type(column):
    return column.kind or "a column without a type"  # SQLite has such columns


def check_required(connection, table):
    filled = OUR_COLUMNS.keys() | {table.openid.name.lower()}  # by our INSERT, or by the database
    for name, column in table.columns.items():
        if column.must_be_filled and name not in filled:
            raise refusal(
                f"{TABLE}.{column.name} is NOT NULL without a default, so every new binding would fail:"
                f" {give_default(connection, column)}."
            )


def give_default(connection: Any, column: Column) -> str:
    """Return how to give the column a default."""
    if connection.vendor != "mysql":
        return "set db_default or null=True in the old app's model, and migrate that first"
    name = connection.ops.quote_name(column.name)  # it may be a word of SQL, such as desc
    number = re.match("(tinyint|smallint|mediumint|int|bigint|decimal|float|double)", column.type)
    if number or column.kind in ("char", "varchar"):
        return f"ALTER TABLE {TABLE} ALTER COLUMN {name} SET DEFAULT {'0' if number else chr(39) * 2}"
    if column.kind in ("datetime", "timestamp"):
        now = "CURRENT_TIMESTAMP" + column.type[len(column.kind):]
        return f"ALTER TABLE {TABLE} MODIFY {name} {column.type} NOT NULL DEFAULT {now}"
    return f"ALTER TABLE {TABLE} MODIFY {name} {column.type} NULL"


def check_keys(table):
    for key in table.keys:
        # Two bindings of a user differ in these, or at least may. None stands for an expression or a prefix.
        if not key.is_unique or {"id", "openid", "open_id", None} & {*key.columns}:
            continue
        # Where one of these is NULL, the key forbids nothing.
        if not any(table.columns[name].is_nullable for name in key.columns if name != "user_id"):
            reason = "many bindings have no unionid" if "unionid" in key.columns else "a user may have several QQ bindings"
            raise refusal(
                f"{TABLE} has the unique key {key.name} ({', '.join(key.columns)}), and {reason}: drop the key, or make"
                " it a plain one."
            )


def check_user_id(connection, table, users):
    kind = table.columns["user_id"].kind
    if users and connection.vendor == "mysql" and kind in SMALL:
        pk = read_table(connection, users.table).columns[users.pk.lower()]
        if kind != pk.kind:  # a server that is not strict would store the id of another user
            raise refusal(f"{TABLE}.user_id is {kind}, which cannot hold every id of {users.table}: make it {pk.kind}.")


def check_foreign_key(table, users):
    for column, constraint, other in table.foreign_keys:
        if users and column == "user_id" and other.lower() not in users.tables:
            key = f"foreign key {constraint}".strip()  # SQLite has no names for them
            raise refusal(
                f"{TABLE}.user_id references {other}, but users are in {users.table}, so new bindings would fail: drop"
                f" the {key}, or let it reference {users.table}."
            )


def check_renaming(connection, table):
    is_renamed = table.openid.name.lower() != "openid"
    if is_renamed and connection.vendor == "mysql":  # SQLite renames the column in them too
        readers = [f"trigger {name}" for name in find_triggers(connection)]
        readers += [f"view {name}" for name in find_views(connection, table.openid.name)]
        for reader in readers:
            raise refusal(
                f"{TABLE}.{table.openid.name} has to be renamed to openid, which the {reader} may not survive: drop it,"
                " and recreate it afterwards with the new name."
            )


def check_deleted_rows(connection, table):
    for column in table.columns.values():
        condition = is_deleted(column)
        if condition and (ids := find_ids(connection, condition)):
            raise refusal(
                f"{TABLE} has rows that {column.name} marks as deleted ({ids}), which this app does not read: with"
                f" them, users could log in again. Delete these rows, or clear {column.name} in them."
            )


def is_deleted(column):
    """Return the SQL condition that this column marks the row as deleted, or None if it is no such mark."""
    name, is_number = column.name.lower(), column.kind in INTEGERS | {"bit", "bool", "boolean", "decimal"}
    if name in VALIDITY_MARKS and is_number:
        return f"{name} = 0"
    if name not in DELETION_MARKS:
        return None
    if is_number:
        return f"{name} <> 0"
    if column.kind in ("datetime", "timestamp", "date"):
        return f"{name} > '0001-01-01'"  # also not the zero date of MySQL
    return f"LOWER({name}) NOT IN ('', '0', 'n', 'no', 'f', 'false')"


def check_lengths(connection, table):
    name, length = table.openid.name, "CHAR_LENGTH" if connection.vendor == "mysql" else "LENGTH"
    is_short = table.openid.length is not None and table.openid.length <= 64
    if not is_short and (ids := find_ids(connection, f"{length}({name}) > 64")):
        raise refusal(
            f"{TABLE}.{name} is longer than 64 characters in some rows ({ids}), and no openid of QQ is: correct or"
            " delete these rows."
        )


def find_triggers(connection):
    query = "SELECT trigger_name FROM information_schema.triggers WHERE event_object_schema = DATABASE()" \
            " AND event_object_table = %s"
    if connection.vendor == "sqlite":
        query = "SELECT name FROM sqlite_master WHERE type = 'trigger' AND tbl_name = %s COLLATE NOCASE"
    return [name for name, in run(connection, query, [TABLE])]


def find_views(connection, column):
    """Return the names of the views of MySQL or MariaDB that seem to read this column of the table."""
    query = "SELECT table_name FROM information_schema.views WHERE table_schema = DATABASE()" \
            " AND view_definition LIKE %s AND view_definition LIKE %s"
    return [name for name, in run(connection, query, [f"%`{TABLE}`%", f"%`{column}`%"])]


def check_own_columns(table, record):
    """Raise CommandError if a column with a name of 0004 is the shop's. `record`: of the adopted table, or None."""
    for name in sorted(ADDED_LATER & table.columns.keys()):
        column = table.columns[name]
        # MySQL and MariaDB keep the comment. Elsewhere 0004 is rolled back if it dies, and the record is all there is.
        is_own = re.search("COMMENT 'QQ (APP ID|昵称|头像)'$", column.definition)
        if not is_own and (record is None or name in str(record.definition)):
            raise refusal(
                f"{TABLE} has a column {column.name}, a name that this app needs: rename it, or drop it if this app has"
                " added it."
            )

"""
The changes of an old table's definition, and how to undo them.

A part of the migrations, so it is frozen, and imports nothing of the app.
"""

import re
from dataclasses import dataclass, field
from datetime import datetime, timezone

from ._table import OPENID_KEY, TABLE, UNIONID_INDEX, run

EXACT = "CHARACTER SET utf8mb4 COLLATE utf8mb4_bin"  # other databases distinguish case by default
TEXT = re.compile(  # a text column in SHOW CREATE TABLE
    r"(?P<type>\w+(\((?P<length>\d+)\))?)"
    r"(?P<charset> CHARACTER SET \w+)?(?P<collate> COLLATE \w+)?(?P<null> NOT NULL)?(?P<rest>.*)"
)


@dataclass(frozen=True)
class Changes:
    added: dict = field(default_factory=dict)  # columns and their definitions
    keys: dict = field(default_factory=dict)  # names of keys: (column, whether it is unique)
    modified: dict = field(default_factory=dict)  # columns: old_name, old and new definition (empty on SQLite)

    def __bool__(self):
        return bool(self.added or self.keys or self.modified)

    def __or__(self, later):
        """Return both together; what a column was before the first change counts."""
        return Changes(later.added | self.added, later.keys | self.keys, later.modified | self.modified)


def plan_changes(connection, table):
    """Return the Changes that this table needs."""
    changes, is_mysql = Changes(), connection.vendor == "mysql"
    openid, unionid = table.openid, table.columns.get("unionid")
    is_exact = not is_mysql or (openid.type, openid.collation) == ("varchar(64)", "utf8mb4_bin")
    if openid.name.lower() != "openid" or not is_exact:
        # A key on a prefix needs a longer column; on a shorter one it would become a key on all of it, and stay one.
        prefixes = re.findall(rf"`{re.escape(openid.name)}`\((\d+)\)", str(table.definition))
        length = max([64, *(int(prefix) + 1 for prefix in prefixes)])
        new = TEXT.sub(rf"varchar({length}) {EXACT}\g<null>\g<rest>", openid.definition, count=1)
        changes.modified["openid"] = {"old_name": openid.name, "old": openid.definition, "new": new}
    if not table.has_unique(openid.name):
        changes.keys[OPENID_KEY] = ("openid", True)
    now = "CURRENT_TIMESTAMP(6)" if is_mysql else f"'{datetime.now(timezone.utc):%Y-%m-%d %H:%M:%S}'"
    for column in ("create_time", "update_time"):
        if column not in table.columns:  # with a default, so that the old code can still insert rows
            changes.added[column] = f"datetime{'(6)' * is_mysql} NOT NULL DEFAULT {now}"
    if not unionid:
        changes.added["unionid"] = "varchar(64) NULL"
    elif is_mysql:
        is_narrow = unionid.length < 64
        if is_narrow or not unionid.is_nullable:
            wide = "varchar(64)" if is_narrow else r"\g<type>"
            new = TEXT.sub(rf"{wide}\g<charset>\g<collate> NULL\g<rest>", unionid.definition, count=1)
            changes.modified["unionid"] = {"old_name": unionid.name, "old": unionid.definition, "new": new}
    is_indexed = any(key.columns[:1] == ("unionid",) for key in table.keys)
    if not is_indexed and (not unionid or unionid.kind in ("char", "varchar")):  # MySQL cannot index a whole text
        changes.keys[UNIONID_INDEX] = ("unionid", False)
    return changes


def apply_changes(connection, changes):
    if connection.vendor == "mysql":
        alter(connection, [
            *(f"CHANGE {new['old_name']} {column} {new['new']}" for column, new in changes.modified.items()),
            *(f"ADD COLUMN {column} {definition}" for column, definition in changes.added.items()),
            *(f"ADD {'UNIQUE ' * unique}KEY {key} ({column})" for key, (column, unique) in changes.keys.items()),
        ])
    else:
        alter(connection, [
            *(f"RENAME COLUMN {new['old_name']} TO {column}" for column, new in changes.modified.items()),
            *(f"ADD COLUMN {column} {definition}" for column, definition in changes.added.items()),
        ])
        for key, (column, unique) in changes.keys.items():  # binary, because an old column may ignore case
            run(connection, f"CREATE {'UNIQUE ' * unique}INDEX {key} ON {TABLE} ({column} COLLATE BINARY)")


def undo_changes(connection, table, record):
    """Undo the recorded changes, as far as the table still shows them."""
    keys = [key.name for key in table.keys if key.name in record.changes.keys]
    added = [column for column in record.changes.added if column in table.columns]
    modified = {}
    for name, old in record.changes.modified.items():
        column = table.columns.get(name)
        if column and (column.name, column.definition) != (old["old_name"], old["old"]):
            modified[name] = old
    if connection.vendor == "mysql":
        if "unionid" in modified:
            empty_unionids(connection, table, TEXT.match(modified["unionid"]["old"]))
        alter(connection, [
            *(f"DROP KEY {key}" for key in keys),
            *(f"DROP COLUMN {column}" for column in added),
            *(f"CHANGE {column} {old['old_name']} {inherit(connection, table, record, old['old'])}"
              for column, old in modified.items()),
        ])
    else:
        for key in keys:
            run(connection, f"DROP INDEX {key}")
        alter(connection, [
            *(f"DROP COLUMN {column}" for column in added),
            *(f"RENAME COLUMN {column} TO {old['old_name']}" for column, old in modified.items()),
        ])


def empty_unionids(connection, table, old):
    """Empty those that came since and do not fit into the old column. `old` is a match of TEXT."""
    is_long = f"CHAR_LENGTH(unionid) > {old['length']}" if old["length"] else "0 = 1"
    is_null, empty = ("unionid IS NULL", "''") if old["null"] else ("0 = 1", "NULL")
    run(connection, f"UPDATE {TABLE} SET {table.keep_times()}unionid = {empty} WHERE {is_long} OR {is_null}")


def inherit(connection, table, record, definition):
    """Return an old definition without a collation that the column only had from its table.

    MySQL would take it for the column's own, and show it with the character set from then on.
    """
    old = TEXT.match(definition)
    is_inherited = old and old["collate"] and not old["charset"] and table.collation == record.collation
    if is_inherited and not connection.mysql_is_mariadb:
        return definition.replace(old["collate"], "", 1)
    return definition


def alter(connection, clauses):
    """Run them as one ALTER TABLE on MySQL and MariaDB, which cannot roll back DDL."""
    if connection.vendor == "mysql":
        clauses = [", ".join(clauses)] if clauses else []
    for clause in clauses:
        run(connection, f"ALTER TABLE {TABLE} {clause}")

"""
The changes of an old table's definition, and how to undo them.

A part of the migrations, so it is frozen, and imports nothing of the app.
"""

import re
from dataclasses import dataclass, field
from datetime import datetime, timezone

from ._table import OPENID_KEY, TEXTS, UNIONID_INDEX, read_table, run

EXACT = "CHARACTER SET utf8mb4 COLLATE utf8mb4_bin"  # other databases distinguish case by default
TEXT = re.compile(  # a text column in SHOW CREATE TABLE
    r"(?P<type>\w+(?:\(\d+\))?)(?P<charset> CHARACTER SET \w+)?(?P<collate> COLLATE \w+)?(?P<null> NOT NULL)?(?P<rest>.*)"
)


@dataclass
class Changes:
    added: dict = field(default_factory=dict)  # columns and their definitions
    keys: dict = field(default_factory=dict)  # names of keys: (column, whether it is unique)
    modified: dict = field(default_factory=dict)  # columns: old_name, old and new definition
    no_nulls: list = field(default_factory=list)  # columns that were NOT NULL and no longer are
    lengths: dict = field(default_factory=dict)  # columns that were shorter: characters

    def __bool__(self):
        return bool(self.added or self.keys or self.modified)


def plan_changes(connection, table):
    """Return the Changes that this table needs."""
    changes, is_mysql = Changes(), connection.vendor == "mysql"
    openid, unionid = table.openid, table.columns.get("unionid")
    # A key on a prefix needs a longer column; on a shorter one it would become a key on all of it, and stay one.
    prefixes = re.findall(rf"`{re.escape(openid.name)}`\((\d+)\)", str(table.definition))
    length = max([64, *(int(prefix) + 1 for prefix in prefixes)])
    exact = TEXT.sub(rf"varchar({length}) {EXACT}\g<null>\g<rest>", openid.definition, count=1)
    is_exact = not is_mysql or (openid.type, openid.collation) == ("varchar(64)", "utf8mb4_bin")
    if openid.name.lower() != "openid" or not is_exact:
        changes.modified["openid"] = {"old_name": openid.name, "old": openid.definition, "new": exact}
    if not table.has_unique(openid.name.lower()):
        changes.keys[OPENID_KEY] = ("openid", True)
    now = "CURRENT_TIMESTAMP(6)" if is_mysql else f"'{datetime.now(timezone.utc):%Y-%m-%d %H:%M:%S}'"
    for column in ("create_time", "update_time"):
        if column not in table.columns:  # with a default, so that the old code can still insert rows
            kind = "datetime(6)" if is_mysql else "datetime"
            changes.added[column] = f"{kind} NOT NULL DEFAULT {now}"
    if not unionid:
        changes.added["unionid"] = "varchar(64) NULL"
    elif is_mysql and (not unionid.is_nullable or (unionid.kind in ("char", "varchar") and unionid.length < 64)):
        is_short = unionid.length < 64
        wide = TEXT.sub(lambda found: widen(found, is_short), unionid.definition, count=1)
        changes.modified["unionid"] = {"old_name": unionid.name, "old": unionid.definition, "new": wide}
        if not unionid.is_nullable:
            changes.no_nulls.append("unionid")
        if is_short:
            changes.lengths["unionid"] = unionid.length
    is_indexed = any(key.columns[:1] == ("unionid",) for key in table.keys)
    if not is_indexed and (not unionid or unionid.kind not in TEXTS - {"char", "varchar"}):
        changes.keys[UNIONID_INDEX] = ("unionid", False)
    return changes


def widen(found, is_short):
    part = found.groupdict("")
    kind = "varchar(64)" if is_short else part["type"]
    return f"{kind}{part['charset']}{part['collate']} NULL{part['rest']}"


def apply_changes(connection, table, changes):
    """Change the table: in one ALTER TABLE on MySQL and MariaDB, which cannot roll back DDL."""
    name, quote = connection.ops.quote_name(table.name), connection.ops.quote_name
    if connection.vendor == "mysql":
        clauses = [
            f"CHANGE {quote(new['old_name'])} {column} {new['new']}" for column, new in changes.modified.items()
        ]
        clauses += [f"ADD COLUMN {column} {definition}" for column, definition in changes.added.items()]
        clauses += [
            f"ADD {'UNIQUE ' * unique}KEY {key} ({column})" for key, (column, unique) in changes.keys.items()
        ]
        statements = [f"ALTER TABLE {name} {', '.join(clauses)}"] if clauses else []
    else:
        statements = [
            f"ALTER TABLE {name} RENAME COLUMN {quote(new['old_name'])} TO {quote(column)}"
            for column, new in changes.modified.items()
        ]
        statements += [f"ALTER TABLE {name} ADD COLUMN {column} {text}" for column, text in changes.added.items()]
        statements += [  # binary, because an old column may ignore case
            f"CREATE {'UNIQUE ' * unique}INDEX {key} ON {name} ({column} COLLATE BINARY)"
            for key, (column, unique) in changes.keys.items()
        ]
    for statement in statements:
        run(connection, statement)


def is_applied(table, record):
    """Whether the table shows the recorded changes, and there are any."""
    keys = {key.name for key in table.keys}
    is_changed = record["added"] or record["keys"] or record["modified"]
    return bool(
        is_changed and {*record["added"]} <= {*table.columns} and {*record["keys"]} <= keys
        and all(
            column in table.columns and (not change["new"] or table.columns[column].definition != change["old"])
            for column, change in record["modified"].items()
        )
    )


def undo_changes(connection, table, record):
    """Undo the recorded changes, as far as the table still shows them."""
    keys = [key.name for key in table.keys if key.name in record["keys"]]
    added = [table.columns[column].name for column in record["added"] if column in table.columns]
    modified = {column: old for column, old in record["modified"].items() if column in table.columns}
    name, quote = connection.ops.quote_name(table.name), connection.ops.quote_name
    set_empty = f"UPDATE {name} SET {table.keep_times()}"
    for column, length in record["lengths"].items():  # the old column cannot hold what came since
        empty = "''" if column in record["no_nulls"] else "NULL"
        run(connection, f"{set_empty}{column} = {empty} WHERE CHAR_LENGTH({column}) > {length}")
    for column in record["no_nulls"]:
        run(connection, f"{set_empty}{column} = '' WHERE {column} IS NULL")
    if connection.vendor == "mysql":
        clauses = [f"DROP KEY {key}" for key in keys] + [f"DROP COLUMN {quote(column)}" for column in added]
        clauses += [
            f"CHANGE {quote(table.columns[column].name)} {quote(old['old_name'])} {inherit(connection, table, record, old)}"
            for column, old in modified.items()
        ]
        statements = [f"ALTER TABLE {name} {', '.join(clauses)}"] if clauses else []
    else:
        statements = [f"DROP INDEX {key}" for key in keys]
        statements += [f"ALTER TABLE {name} DROP COLUMN {quote(column)}" for column in added]
        statements += [
            f"ALTER TABLE {name} RENAME COLUMN {quote(column)} TO {quote(old['old_name'])}"
            for column, old in modified.items()
        ]
    for statement in statements:
        run(connection, statement)
    if connection.vendor == "sqlite":
        restore_spelling(connection, record)


def inherit(connection, table, record, old):
    """Return the old definition of a column, for MySQL without a collation that it only had from its table.

    MySQL would take it for the column's own, and show it with the character set from then on.
    """
    found = TEXT.match(old["old"])
    is_inherited = found and found["collate"] and not found["charset"] and table.collation == record["collation"]
    return old["old"].replace(found["collate"], "", 1) if is_inherited and not connection.mysql_is_mariadb else old["old"]


def restore_spelling(connection, record):
    """Restore how the shop has written its CREATE TABLE: SQLite changes quotes when it renames a column.

    This writes to the schema itself, as https://sqlite.org/lang_altertable.html describes it for changes that do not
    concern the stored rows.
    """
    table = read_table(connection)
    was, now = ({(kind, name): sql for kind, name, sql in made} for made in (record["definition"], table.definition))
    if was.keys() != now.keys() or was == now or not same_but_for_quotes(was, now):
        return
    run(connection, "PRAGMA writable_schema = ON")
    for (kind, name), sql in was.items():
        run(connection, "UPDATE sqlite_master SET sql = %s WHERE type = %s AND name = %s", [sql, kind, name])
    ((version,),) = run(connection, "PRAGMA schema_version")
    run(connection, f"PRAGMA schema_version = {version + 1}")  # so that every connection reads it again
    run(connection, "PRAGMA writable_schema = OFF")


def same_but_for_quotes(was, now):
    bare = [{key: re.sub(r'["`\[\]\s]', "", sql) for key, sql in made.items()} for made in (was, now)]
    return bare[0] == bare[1]

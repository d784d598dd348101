"""
Reads a table as it is in the database: columns, keys, foreign keys, engine, and its exact definition.

A part of the migrations, so it is frozen, and imports nothing of the app.
"""

import re
from dataclasses import dataclass

TABLE = "tb_oauth_qq"
MERGED = "tb_oauth_qq_merged"  # the rows that adoption has moved
RECORD = "tb_oauth_qq_adopted"  # what adoption has changed
OPENID_KEY = "tb_oauth_qq_adopted_openid"
UNIONID_INDEX = "tb_oauth_qq_adopted_unionid"
OUR_COLUMNS = {  # and whether they are nullable
    "id": False, "openid": False, "unionid": True, "create_time": False, "update_time": False, "user_id": False,
}
INTEGERS = {"tinyint", "smallint", "mediumint", "int", "integer", "bigint"}
TEXTS = {"char", "varchar", "tinytext", "text", "mediumtext", "longtext"}


@dataclass(frozen=True)
class Column:
    name: str  # as it is written in the database
    type: str  # in lower case, as in varchar(64)
    definition: str  # what SHOW CREATE TABLE has after the name; empty on SQLite
    length: int | None  # of a text, in characters
    collation: str | None
    is_nullable: bool
    has_default: bool  # an INSERT may leave it out
    is_auto: bool  # numbers itself
    is_generated: bool

    @property
    def kind(self):
        """The type without its length: varchar."""
        return re.match(r"\w*", self.type)[0]


@dataclass(frozen=True)
class Key:
    name: str
    columns: tuple  # in lower case; None for an expression or a prefix
    is_unique: bool


@dataclass(frozen=True)
class Table:
    name: str  # as it is written in the database
    type: str  # BASE TABLE or what it is instead
    engine: str
    has_transactions: bool
    is_partitioned: bool
    collation: str | None
    definition: object  # SHOW CREATE TABLE without AUTO_INCREMENT, or rows of sqlite_master
    columns: dict  # by their names in lower case
    keys: tuple
    foreign_keys: dict  # by the column in lower case: (name of the constraint, table it references)

    @property
    def openid(self):
        return self.columns.get("openid") or self.columns.get("open_id")

    def has_unique(self, column):
        return any(key.is_unique and key.columns == (column,) for key in self.keys)

    def copied_columns(self):
        """Return the names of the columns that an INSERT may fill."""
        return [column.name for column in self.columns.values() if not column.is_generated]

    def keep_times(self):
        """Return SQL for an UPDATE: each column with ON UPDATE CURRENT_TIMESTAMP = itself, lest it should change."""
        kept = [column for column in self.columns.values() if "ON UPDATE" in column.definition]
        return "".join(f"`{column.name}` = `{column.name}`, " for column in kept if not column.is_generated)


def read_table(connection, name=TABLE):
    """Return the Table, or None if there is none of this name."""
    with connection.cursor() as cursor:
        read = {"mysql": read_mysql_table, "sqlite": read_sqlite_table}.get(connection.vendor, read_other_table)
        return read(connection, cursor, name)


def read_mysql_table(connection, cursor, name):
    # BINARY, because information_schema ignores case, which the names of tables may not do.
    cursor.execute("SELECT @@lower_case_table_names")
    is_exact = cursor.fetchone()[0] == 0
    cursor.execute(
        "SELECT tables.table_name, table_type, engine, table_collation, create_options,"
        " (SELECT transactions FROM information_schema.engines WHERE engines.engine = tables.engine)"
        " FROM information_schema.tables WHERE table_schema = DATABASE() AND table_name = %s", [name],
    )
    found = [row for row in cursor if row[0] == name or not is_exact]
    if not found:
        return None
    name, table_type, engine, collation, options, transactions = found[0]
    where = "WHERE table_schema = DATABASE() AND table_name = %s AND BINARY table_name = %s"
    definition = ""
    if table_type == "BASE TABLE":
        cursor.execute(f"SHOW CREATE TABLE {connection.ops.quote_name(name)}")
        definition = re.sub(r" AUTO_INCREMENT=\d+", "", cursor.fetchone()[1])
    cursor.execute(
        "SELECT column_name, column_type, character_maximum_length, collation_name, is_nullable, column_default, extra,"
        f" generation_expression FROM information_schema.columns {where} ORDER BY ordinal_position", [name, name],
    )
    columns = {}
    for column, kind, length, column_collation, nullable, default, extra, expression in cursor:
        quoted = re.escape(f"  `{column.replace('`', '``')}` ")
        text = re.search(f"^{quoted}(.*?),?$", definition, re.MULTILINE)
        columns[column.lower()] = Column(
            column, kind.lower(), text[1] if text else "", length, column_collation, nullable == "YES",
            # Even a strict server fills an enum with its first value.
            nullable == "YES" or default is not None or kind.lower().startswith("enum"),
            "auto_increment" in extra.lower(), bool(expression),
        )
    cursor.execute(
        f"SELECT index_name, column_name, non_unique, sub_part FROM information_schema.statistics {where}"
        " ORDER BY index_name, seq_in_index", [name, name],
    )
    keys = {}
    for key, column, non_unique, prefix in cursor:
        keys.setdefault((key, not int(non_unique)), []).append(column.lower() if column and not prefix else None)
    cursor.execute(
        f"SELECT column_name, constraint_name, referenced_table_name FROM information_schema.key_column_usage {where}"
        " AND referenced_table_name IS NOT NULL", [name, name],
    )
    foreign_keys = {column.lower(): (constraint, other) for column, constraint, other in cursor}
    return Table(
        name, table_type, engine or "", transactions == "YES", "partitioned" in (options or "").lower(), collation,
        definition, columns, tuple(Key(key, tuple(parts), unique) for (key, unique), parts in keys.items()),
        foreign_keys,
    )


def read_sqlite_table(connection, cursor, name):
    same = "= %s COLLATE NOCASE"  # SQLite ignores the case of names
    cursor.execute(f"SELECT name, type, sql FROM sqlite_master WHERE type IN ('table', 'view') AND name {same}", [name])
    found = cursor.fetchone()
    if not found:
        return None
    name, kind, sql = found
    quoted = connection.ops.quote_name(name)
    is_plain = kind == "table" and not re.match(r"CREATE\s+VIRTUAL", sql, re.IGNORECASE)
    cursor.execute(f"SELECT type, name, sql FROM sqlite_master WHERE tbl_name {same} ORDER BY type, name", [name])
    definition = [list(row) for row in cursor if row[2] and row[0] != "view"]
    cursor.execute(f"PRAGMA table_xinfo({quoted})")
    rows = cursor.fetchall()
    primary = [row[1].lower() for row in sorted(rows, key=lambda row: row[5]) if row[5]]
    has_rowid = not re.search(r"WITHOUT\s+ROWID", sql, re.IGNORECASE)
    columns = {}
    for _, column, declared, not_null, default, _, hidden in rows:
        # Only this type makes a column the number of its row.
        is_auto = declared.lower() == "integer" and primary == [column.lower()] and has_rowid
        columns[column.lower()] = Column(
            column, declared.lower(), "", None, None, not not_null, is_auto or not not_null or default is not None,
            is_auto, hidden in (2, 3),
        )
    keys = [Key("PRIMARY", tuple(primary), True)] if primary else []
    cursor.execute(f"PRAGMA index_list({quoted})")
    for _, index, unique, _, partial in cursor.fetchall():
        cursor.execute(f"PRAGMA index_info({connection.ops.quote_name(index)})")
        parts = tuple(column and column.lower() for _, _, column in cursor)
        keys.append(Key(index, parts, bool(unique and not partial)))
    cursor.execute(f"PRAGMA foreign_key_list({quoted})")
    foreign_keys = {row[3].lower(): ("", row[2]) for row in cursor}
    table_type = "BASE TABLE" if is_plain else kind.upper() if kind == "view" else "VIRTUAL TABLE"
    return Table(name, table_type, "SQLite", True, False, None, definition, columns, tuple(keys), foreign_keys)


def read_other_table(connection, cursor, name):
    if name not in connection.introspection.table_names(cursor):
        return None
    columns = {
        column.name: Column(column.name, "", "", None, None, column.null_ok, column.null_ok, False, False)
        for column in connection.introspection.get_table_description(cursor, name)
    }
    keys = {
        Key("", tuple(found["columns"]), found["unique"])
        for found in connection.introspection.get_constraints(cursor, name).values()
        if found["unique"] or found["index"]
    }
    return Table(name, "BASE TABLE", connection.vendor, True, False, None, None, columns, tuple(keys), {})


def is_ours(table):
    """Whether the table has exactly the shape that 0001 creates."""
    columns, openid, unionid = table.columns, table.columns.get("openid"), table.columns.get("unionid")
    if {name: column.is_nullable for name, column in columns.items()} != OUR_COLUMNS:
        return False
    keys = {(key.columns, key.is_unique) for key in table.keys} - {(("id",), True)}
    return (
        keys == {(("openid",), True), (("unionid",), False), (("user_id",), False)}
        and not {OPENID_KEY, UNIONID_INDEX} & {key.name for key in table.keys}
        and {openid.type, unionid.type} <= {"varchar(64)", ""}
        and openid.collation in ("utf8mb4_bin", None)
        and "COMMENT" not in str(table.definition)
        and not any(column.is_generated or (column.has_default and not column.is_nullable and not column.is_auto)
                    for column in columns.values())
    )


def list_tables(connection):
    """Return the names of all tables and views."""
    with connection.cursor() as cursor:
        return [info.name for info in connection.introspection.get_table_list(cursor)]


def run(connection, sql, params=None):
    """Run one statement and return its rows. Without params, a % in it is just that."""
    with connection.cursor() as cursor:
        cursor.execute(sql, params)
        return cursor.fetchall() if cursor.description else []

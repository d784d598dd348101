"""
Reads a table as it is in the database: columns, keys, foreign keys, engine, and its exact definition.

A part of the migrations, so it is frozen, and imports nothing of the app.
"""

import re
from dataclasses import dataclass
from typing import Any

TABLE = "tb_oauth_qq"
MERGED = "tb_oauth_qq_merged"  # the rows that adoption has moved
MARK = "moved_because"  # a column of MERGED: repeated or orphan; returned while that is going on
RECORD = "tb_oauth_qq_adopted"  # what adoption has changed
OPENID_KEY = "tb_oauth_qq_adopted_openid"
UNIONID_INDEX = "tb_oauth_qq_adopted_unionid"
OUR_COLUMNS = {  # and whether they are nullable
    "id": False, "openid": False, "unionid": True, "create_time": False, "update_time": False, "user_id": False,
}
ADDED_LATER = {"qq_client_id", "qq_nickname", "qq_avatar"}  # columns of 0004
INTEGERS = {"tinyint", "smallint", "mediumint", "int", "integer", "bigint"}
TEXTS = {"char", "varchar", "tinytext", "text", "mediumtext", "longtext"}
MAX_LISTED = 10  # ids of rows


@dataclass(frozen=True)
class Column:
    name: str  # as it is written in the database
    type: str = ""  # in lower case, as in varchar(64); empty on databases that are not adopted
    definition: str = ""  # on MySQL and MariaDB: what SHOW CREATE TABLE has after the name
    length: int | None = None  # of a text, in characters
    collation: str | None = None
    is_nullable: bool = True
    has_default: bool = True  # an INSERT may leave it out
    is_auto: bool = False  # numbers itself
    is_generated: bool = False

    @property
    def kind(self) -> str:
        """The type without its length: varchar."""
        return re.match(r"\w*", self.type)[0]

    @property
    def must_be_filled(self) -> bool:
        return not (self.has_default or self.is_auto or self.is_generated)


@dataclass(frozen=True)
class Key:
    name: str
    columns: tuple[str | None, ...]  # in lower case; None for an expression or a prefix
    is_unique: bool


@dataclass(frozen=True)
class Table:
    columns: dict[str, Column]  # by their names in lower case
    keys: list[Key]
    foreign_keys: list[tuple[str, str, str]]  # column in lower case, name of the constraint, other table
    definition: Any = None  # SHOW CREATE TABLE without AUTO_INCREMENT, or rows of sqlite_master
    type: str = "BASE TABLE"  # or what it is instead
    engine: str = ""
    has_transactions: bool = True
    is_partitioned: bool = False
    is_strict: bool = False  # on SQLite
    collation: str | None = None

    @property
    def openid(self) -> Column | None:
        return self.columns.get("openid") or self.columns.get("open_id")

    def has_unique(self, column: str) -> bool:
        return any(key.is_unique and key.columns == (column.lower(),) for key in self.keys)

    def copied_columns(self) -> list[str]:
        """Return the names of the columns that an INSERT may fill."""
        return [column.name for column in self.columns.values() if not column.is_generated]

    def keep_times(self) -> str:
        """Return SQL for an UPDATE: set each column with ON UPDATE CURRENT_TIMESTAMP to itself, to keep it."""
        kept = [column for column in self.columns.values() if "ON UPDATE" in column.definition]
        return "".join(f"`{column.name}` = `{column.name}`, " for column in kept if not column.is_generated)


def read_table(connection: Any, name: str = TABLE) -> Table | None:
    """Return the table of this name, or None if there is none. The database decides whether capitals count."""
    with connection.cursor() as cursor:
        read = {"mysql": read_mysql_table, "sqlite": read_sqlite_table}.get(connection.vendor, read_other_table)
        return read(connection, cursor, name)


def read_mysql_table(connection, cursor, name):
    def select(columns, source, order=""):
        where = "WHERE table_schema = DATABASE() AND table_name = %s"
        cursor.execute(f"SELECT {columns} FROM information_schema.{source} {where} {order}", [name])
        return cursor.fetchall()

    has_transactions = "SELECT transactions FROM information_schema.engines WHERE engines.engine = tables.engine"
    found = select(f"table_type, engine, table_collation, create_options, ({has_transactions})", "tables")
    if not found:
        return None
    ((table_type, engine, table_collation, options, transactions),) = found
    definition = ""
    if table_type == "BASE TABLE":
        cursor.execute(f"SHOW CREATE TABLE {connection.ops.quote_name(name)}")
        # Only the option of the table: comments may say the same words.
        definition = re.sub(r"(?m)^(\)[^']*?) AUTO_INCREMENT=\d+", r"\1", cursor.fetchone()[1])
    columns = {}
    for column, column_type, length, collation, nullable, default, extra, expression in select(
        "column_name, column_type, character_maximum_length, collation_name, is_nullable, column_default, extra,"
        " generation_expression", "columns", "ORDER BY ordinal_position",
    ):
        quoted = re.escape(f"  `{column.replace('`', '``')}` ")
        text = re.search(f"^{quoted}(.*?),?$", definition, re.MULTILINE)
        columns[column.lower()] = Column(
            column,
            type=column_type.lower(),
            definition=text[1] if text else "",
            length=length,
            collation=collation,
            is_nullable=nullable == "YES",
            # Even a strict server fills an enum with its first value.
            has_default=nullable == "YES" or default is not None or column_type.lower().startswith("enum"),
            is_auto="auto_increment" in extra.lower(),
            is_generated=bool(expression),
        )
    keys = {}
    for key, column, non_unique, prefix in select(
        "index_name, column_name, non_unique, sub_part", "statistics", "ORDER BY index_name, seq_in_index"
    ):
        keys.setdefault((key, not int(non_unique)), []).append(column.lower() if column and not prefix else None)
    elsewhere = "CONCAT(NULLIF(referenced_table_schema, DATABASE()), '.')"  # NULL if it is this database
    other = f"CONCAT(COALESCE({elsewhere}, ''), referenced_table_name)"
    references = select(f"column_name, constraint_name, {other}", "key_column_usage", "ORDER BY constraint_name")
    return Table(
        columns,
        [Key(key, tuple(parts), is_unique) for (key, is_unique), parts in keys.items()],
        [(column.lower(), constraint, other) for column, constraint, other in references if other],
        definition,
        type=table_type,
        engine=engine or "",
        has_transactions=transactions == "YES",
        is_partitioned="partitioned" in (options or "").lower(),
        collation=table_collation,
    )


def read_sqlite_table(connection, cursor, name):
    quoted, same = connection.ops.quote_name(name), "= %s COLLATE NOCASE"  # SQLite ignores the case of names
    cursor.execute(f"SELECT type, sql FROM sqlite_master WHERE type IN ('table', 'view') AND name {same}", [name])
    found = cursor.fetchone()
    if not found:
        return None
    kind, sql = found
    is_virtual = re.match(r"CREATE\s+VIRTUAL", sql, re.IGNORECASE)
    cursor.execute(f"SELECT type, name, sql FROM sqlite_master WHERE tbl_name {same} ORDER BY type, name", [name])
    definition = [list(row) for row in cursor if row[2] and row[0] != "view"]
    cursor.execute(f"PRAGMA table_xinfo({quoted})")
    rows = cursor.fetchall()
    primary = [row[1].lower() for row in sorted(rows, key=lambda row: row[5]) if row[5]]
    cursor.execute(f"PRAGMA index_list({quoted})")
    indexes = cursor.fetchall()
    is_rowid = "pk" not in [origin for *_, origin, _ in indexes]  # WITHOUT ROWID, and INTEGER PRIMARY KEY DESC, have one
    columns = {}
    for _, column, declared, not_null, default, _, hidden in rows:
        # No other type is the row's number.
        is_auto = is_rowid and declared.lower() == "integer" and primary == [column.lower()]
        columns[column.lower()] = Column(
            column,
            type=declared.lower(),
            is_nullable=not not_null,
            has_default=not not_null or default is not None,
            is_auto=is_auto,
            is_generated=hidden in (2, 3),
        )
    keys = [Key("PRIMARY", tuple(primary), True)] if primary else []
    for _, index, is_unique, _, is_partial in indexes:
        cursor.execute(f"PRAGMA index_info({connection.ops.quote_name(index)})")
        parts = tuple(column and column.lower() for _, _, column in cursor)
        keys.append(Key(index, parts, bool(is_unique and not is_partial)))
    cursor.execute(f"PRAGMA foreign_key_list({quoted})")
    foreign_keys = [(row[3].lower(), "", row[2]) for row in cursor]
    table_type = "VIEW" if kind == "view" else "VIRTUAL TABLE" if is_virtual else "BASE TABLE"
    is_strict = bool(re.search(r"\bSTRICT\b", sql.rpartition(")")[2], re.IGNORECASE))
    return Table(columns, keys, foreign_keys, definition, type=table_type, is_strict=is_strict)


def read_other_table(connection, cursor, name):
    """Read what 0001 needs to know its own table again: on this database, others are not adopted."""
    if name not in connection.introspection.table_names(cursor):
        return None
    columns = {
        column.name: Column(
            column.name, is_nullable=column.null_ok, has_default=column.null_ok or column.default is not None
        )
        for column in connection.introspection.get_table_description(cursor, name)
    }
    keys = [
        Key(key, tuple(found["columns"]), found["unique"])
        for key, found in connection.introspection.get_constraints(cursor, name).items()
        # Django gives PostgreSQL a second index of each text, for LIKE.
        if found["unique"] or (found["index"] and not key.endswith("_like"))
    ]
    return Table(columns, keys, [])


def is_ours(table):
    """Whether the table has exactly the shape that 0001 creates."""
    columns, definition = dict(table.columns), str(table.definition)
    for name in ADDED_LATER & columns.keys():
        definition = definition.replace(columns.pop(name).definition, "")
    if {name: column.is_nullable for name, column in columns.items()} != OUR_COLUMNS:
        return False
    texts = columns["openid"], columns["unionid"]
    keys = {(key.columns, key.is_unique) for key in table.keys} - {(("id",), True)}
    return (
        keys == {(("openid",), True), (("unionid",), False), (("user_id",), False)}
        and not {OPENID_KEY, UNIONID_INDEX} & {key.name for key in table.keys}
        and all(column.type in ("varchar(64)", "") for column in texts)
        and columns["openid"].collation in ("utf8mb4_bin", None)
        and "COMMENT" not in definition
        and not any(column.is_generated or (column.has_default and not column.is_nullable)
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


def find_ids(connection, condition, table=TABLE):
    """Return the first ids of the rows as in "ids 1, 2", or an empty text."""
    ids = run(connection, f"SELECT id FROM {table} WHERE {condition} ORDER BY id LIMIT {MAX_LISTED + 1}")
    listed = [*(str(row_id) for row_id, in ids[:MAX_LISTED]), *("…" for _ in ids[MAX_LISTED:])]
    return f"id{'s' * (len(ids) > 1)} {', '.join(listed)}" if ids else ""

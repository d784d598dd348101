"""
Rows of an old table that a unique openid or a login cannot live with: conflicts, repeated rows, rows without user.

Repeated rows (all but a user's earliest of an openid) and rows whose user is gone move to `tb_oauth_qq_merged`, and the
way back returns them. A part of the migrations, so it is frozen, and imports nothing of the app.
"""

import re
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from django.db import DEFAULT_DB_ALIAS, router, transaction

from ._table import MARK, MERGED, TABLE, Table, find_ids, list_tables, read_table, run

MAX_LISTED_ROWS = 50  # a longer list is of no use in a terminal


@dataclass(frozen=True)
class Users:
    """The table of the shop's users in this database."""

    table: str
    pk: str
    tables: set  # in lower case: also those of the models that it inherits from


def find_users(connection: Any, model: Any) -> Users | None:
    """Return the Users, or None if this database does not have them."""
    table = model._meta.db_table
    here = {name.lower() for name in list_tables(connection)}
    if table.lower() not in here or not router.allow_migrate_model(connection.alias, model):
        return None
    models = (model, *model._meta.get_parent_list())
    return Users(table, model._meta.pk.column, {model._meta.db_table.lower() for model in models})


class Rows:
    """The rows of the table as it is: under the old name and collation of the openid before it is converted.

    In its SQL, `bound` is a row of the table, and `moved` one of tb_oauth_qq_merged.
    """

    def __init__(self, connection: Any, table: Table, users: Users | None) -> None:
        self.connection, self.table, self.users = connection, table, users
        self.is_mysql = connection.vendor == "mysql"
        self.openid = table.openid.name
        self.order = "create_time, id" if "create_time" in table.columns else "id"
        # The unique key ignores spaces at the end. Some old collations do not.
        self.counts_spaces = bool(re.search("0900|nopad", table.openid.collation or ""))

    def run(self, sql):
        return run(self.connection, sql)

    def exact(self, row: str) -> str:
        """Return SQL for the openid of a row as the unique key will compare it, whatever its column's collation."""
        column = f"{row}.{self.openid}"
        return f"CONVERT({column} USING utf8mb4) COLLATE utf8mb4_bin" if self.is_mysql else f"{column} COLLATE BINARY"

    @cached_property
    def quoted_users(self):
        """Name and primary key of the users' table, quoted, if the rows may name users that are gone; else None."""
        has_key = any(column == "user_id" for column, *_ in self.table.foreign_keys)
        if not self.users or (self.is_mysql and has_key):
            return None
        return tuple(map(self.connection.ops.quote_name, (self.users.table, self.users.pk)))

    @cached_property
    def orphan(self):
        """SQL for the condition that the user of the row `bound` is gone."""
        if not self.quoted_users:
            return "bound.user_id IS NULL"
        users, pk = self.quoted_users
        return f"NOT EXISTS (SELECT 1 FROM {users} AS users WHERE users.{pk} = bound.user_id)"  # also of NULL

    @cached_property
    def is_moved(self):
        """SQL for the condition that the row `bound` is the row `moved`."""
        same = "<=>" if self.is_mysql else "IS"  # NULL is the same as NULL
        openid = f"{self.exact('bound')} {same} {self.exact('moved')}"
        return f"bound.id = moved.id AND {openid} AND bound.user_id {same} moved.user_id"

    @cached_property
    def rough(self):
        """SQL for the openid of the row `bound` as the old column compares it: an index finds equal ones.

        Openids that are exactly equal are roughly equal too; see counts_spaces.
        """
        has_spaces = self.counts_spaces and self.run(f"SELECT 1 FROM {TABLE} WHERE {self.openid} LIKE '% ' LIMIT 1")
        return self.exact("bound") if has_spaces else f"bound.{self.openid}"

    @cached_property
    def repeated(self):
        """SQL for the rough openids that several rows have. Only these few are worth an exact comparison."""
        return f"SELECT {self.rough} AS openid FROM {TABLE} AS bound GROUP BY {self.rough} HAVING COUNT(*) > 1"

    @cached_property
    def sharing(self):
        """SQL for the rows, as `bound`, with such an openid, without those whose user is gone."""
        # A join, as MySQL may run IN (…) once for each row.
        repeated = f"({self.repeated}) AS repeated ON {self.rough} = repeated.openid"
        return f"{TABLE} AS bound JOIN {repeated} WHERE NOT ({self.orphan})"

    def find_orphans(self) -> tuple[int, str]:
        """Return the number of rows whose user is gone, and their first ids as a text."""
        orphans = f"{TABLE} AS bound WHERE {self.orphan}"
        if self.quoted_users:  # the same, without the copy of all users that MariaDB makes for NOT EXISTS
            users, pk = self.quoted_users
            orphans = f"{TABLE} AS bound LEFT JOIN {users} AS users ON users.{pk} = bound.user_id WHERE users.{pk} IS NULL"
        ((number,),) = self.run(f"SELECT COUNT(*) FROM {orphans}")
        return number, find_ids(self.connection, self.orphan, f"{TABLE} AS bound") if number else ""

    def count_duplicates(self):
        """Return the number of openids bound to different users, of their rows, and of rows that repeat another row."""
        if self.table.has_unique(self.openid) or not self.run(f"{self.repeated} LIMIT 1"):
            return 0, 0, 0
        (numbers,) = self.run(f"""
            SELECT
                COUNT(CASE WHEN users > 1 THEN 1 END), SUM(CASE WHEN users > 1 THEN copies END), SUM(copies - users)
            FROM (
                SELECT COUNT(*) AS copies, COUNT(DISTINCT bound.user_id) AS users
                FROM {self.sharing} GROUP BY {self.exact("bound")} HAVING COUNT(*) > 1
            ) AS duplicates
        """)
        return tuple(int(number or 0) for number in numbers)

    def explain_conflicts(self, conflicts, conflicting_rows):
        """Return the message about openids that are bound to different users: which rows, and what to do."""
        is_default = self.connection.alias == DEFAULT_DB_ALIAS
        command = "manage.py qq_resolve_duplicates" + ("" if is_default else f" --database {self.connection.alias}")
        lines = [
            f"Openids that {TABLE} binds to different users: {conflicts}, in {conflicting_rows} rows."
            " A migration cannot decide which user keeps them, so nothing was changed.",
            *self._list_conflicts(),
        ]
        if conflicting_rows > MAX_LISTED_ROWS:
            lines.append(f"  … and {conflicting_rows - MAX_LISTED_ROWS} more rows")
        lines += [
            "Choose who keeps them, then migrate again. --dry-run only shows what would be removed; FILE is a new file for"
            " the removed rows, outside of your code:",
            f"  {command} --keep earliest --to FILE",
            f"  {command} --keep latest --to FILE",
            f"  {command} --keep-id ID … --to FILE",
        ]
        return "\n".join(lines)

    def _list_conflicts(self):
        time = "create_time" if "create_time" in self.table.columns else "NULL"
        columns = f"bound.{self.openid}, bound.id, bound.user_id, {time}"
        rows = self.run(f"{self.select_conflicts(columns)} LIMIT {MAX_LISTED_ROWS}")
        for openid, row_id, user_id, create_time in rows:
            shortened = f"{openid[:6]}…" if openid.strip() else "(empty)"
            yield f"  {shortened}: row {row_id}, user {user_id}" + (f", bound {create_time}" if create_time else "")

    def select_conflicts(self, columns: str) -> str:
        """Return SQL for the rows, as `bound`, whose openid other users have too. `exact` is the openid to group by."""
        exact = self.exact("bound")
        return f"""
            SELECT {columns}
            FROM {TABLE} AS bound JOIN (
                SELECT {exact} AS exact FROM {self.sharing}
                GROUP BY {exact} HAVING MIN(bound.user_id) <> MAX(bound.user_id)
            ) AS conflicting ON {exact} = conflicting.exact AND NOT ({self.orphan})
            ORDER BY exact, {self.order}
        """

    def move(self, orphans, repeated):
        """Move orphans and repeated rows to tb_oauth_qq_merged. The numbers say whether there are any."""
        has_moved = self._prepare_merged()
        names = ", ".join(map(self.connection.ops.quote_name, self.table.copied_columns()))
        into = f"INSERT INTO {MERGED} ({names}, {MARK}) SELECT {names},"
        moved = f"SELECT 1 FROM {MERGED} AS moved WHERE {self.is_moved}"
        is_new = f"NOT EXISTS ({moved})" if has_moved else "1 = 1"  # a backup may have brought back what had moved
        with transaction.atomic(self.connection.alias):
            if orphans:
                self.run(f"{into} 'orphan' FROM {TABLE} AS bound WHERE {self.orphan} AND {is_new}")
            if repeated:
                nth = f"ROW_NUMBER() OVER (PARTITION BY {self.exact('bound')}, user_id ORDER BY {self.order})"
                numbered = f"SELECT bound.id, {nth} AS nth FROM {self.sharing}"
                ids = f"SELECT id FROM ({numbered}) AS numbered WHERE nth > 1"
                self.run(f"{into} 'repeated' FROM {TABLE} AS bound WHERE id IN ({ids}) AND {is_new}")
            if self.is_mysql:
                self.run(f"DELETE bound FROM {TABLE} AS bound JOIN {MERGED} AS moved ON {self.is_moved}")
            else:
                self.run(f"DELETE FROM {TABLE} AS bound WHERE EXISTS ({moved})")

    def _prepare_merged(self):
        """Create the table, unless there is one with rows: of a migration that died, or that could not return."""
        if read_table(self.connection, MERGED):
            if self.run(f"SELECT 1 FROM {MERGED} LIMIT 1"):
                return True
            self.run(f"DROP TABLE {MERGED}")
        columns = ", ".join(map(self.connection.ops.quote_name, self.table.copied_columns()))
        like = f"LIKE {TABLE}" if self.is_mysql else f"AS SELECT {columns} FROM {TABLE} WHERE 0 = 1"
        self.run(f"CREATE TABLE {MERGED} {like}")
        self.run(f"ALTER TABLE {MERGED} ADD COLUMN {MARK} varchar(10) NOT NULL DEFAULT 'repeated'")
        return False

    def give_back(self):
        """Return the rows that were moved, and drop their table.

        Not returned are repeated rows whose binding the shop has removed in the meantime. Orphans stay in their table
        if the old table has a unique openid that is bound to somebody else now.
        """
        merged = read_table(self.connection, MERGED)
        if not merged:
            return
        staying = ""
        if MARK in merged.columns:  # otherwise the migration died before the first row moved
            with self.connection.constraint_checks_disabled(), transaction.atomic(self.connection.alias):
                self._insert_moved(merged)
            staying = find_ids(self.connection, f"{MARK} = 'orphan'", MERGED)
        if staying:
            why = "because their openid is bound to another user now"
            print(f"\n    These rows stay in {MERGED}, {why}: {staying}. ", end="")
        else:
            self.run(f"DROP TABLE {MERGED}")

    def _insert_moved(self, merged):
        columns = [name for name in self.table.copied_columns() if name.lower() in merged.columns]
        same = f"{self.exact('bound')} = {self.exact('moved')}"
        if not self.counts_spaces:
            same = f"bound.{self.openid} = moved.{self.openid} AND {same}"  # the first can use an index
        bound = f"SELECT 1 FROM {TABLE} AS bound WHERE {same}"
        is_free = f"NOT EXISTS ({bound})" if self.table.has_unique(self.openid) else "1 = 1"
        self.run(f"""
            UPDATE {MERGED} AS moved SET {merged.keep_times()}{MARK} = 'returned'
            WHERE ({MARK} = 'repeated' AND EXISTS ({bound} AND bound.user_id = moved.user_id))
            OR ({MARK} = 'orphan' AND {is_free})
        """)
        same_id = f"SELECT 1 FROM {TABLE} AS bound WHERE bound.id = moved.id"
        self._insert(columns, f"NOT EXISTS ({same_id})")
        # SQLite may have given the id to a new row: then the moved row gets another. The row itself may be there too,
        # if the shop has restored a backup: then it does not return twice.
        without_id = [name for name in columns if name.lower() != "id"]
        self._insert(without_id, f"EXISTS ({same_id} AND NOT ({self.is_moved}))")
        self.run(f"DELETE FROM {MERGED} WHERE {MARK} = 'returned'")

    def _insert(self, columns, condition):
        names = ", ".join(map(self.connection.ops.quote_name, columns))
        returned = f"FROM {MERGED} AS moved WHERE {MARK} = 'returned' AND {condition}"
        self.run(f"INSERT INTO {TABLE} ({names}) SELECT {names} {returned}")

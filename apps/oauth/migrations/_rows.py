"""
Rows of an old table that a unique openid or a login cannot live with: conflicts, repeated rows, rows without user.

Repeated rows (all but a user's earliest of an openid) and rows whose user is gone move to `tb_oauth_qq_merged`, and the
way back returns them. A part of the migrations, so it is frozen, and imports nothing of the app.
"""

import re
from dataclasses import dataclass

from django.db import DEFAULT_DB_ALIAS, router, transaction

from ._refusals import find_ids, list_ids
from ._table import MERGED, TABLE, list_tables, read_table, run

MAX_LISTED_ROWS = 50  # a longer list is of no use in a terminal
MARK = "moved_because"  # a column of tb_oauth_qq_merged: repeated or orphan; returned while that is going on


@dataclass(frozen=True)
class Users:
    """The table of the shop's users in this database."""

    table: str
    pk: str
    tables: tuple  # in lower case: also those of the models that it inherits from


def find_users(connection, model):
    """Return the Users, or None if this database does not have them."""
    table = model._meta.db_table
    here = {name.lower() for name in list_tables(connection)}
    if table.lower() not in here or not router.allow_migrate_model(connection.alias, model):
        return None
    tables = (table, *(parent._meta.db_table for parent in model._meta.get_parent_list()))
    return Users(table, model._meta.pk.column, tuple(map(str.lower, tables)))


class Rows:
    """The rows of one table as it is: under the old name and collation of the openid before it is converted."""

    mark = MARK

    def __init__(self, connection, table, users):
        self.connection, self.table, self.users = connection, table, users
        quote = connection.ops.quote_name
        self.name, self.openid = quote(table.name), quote(table.openid.name)
        self.order = "create_time, id" if "create_time" in table.columns else "id"
        self.orphan = self._is_orphan()
        # Equal values are equal in every collation, so its index finds the few openids worth a closer look. Only
        # spaces at the end make a difference, in collations that count them.
        self.counts_spaces = bool(re.search("0900|nopad", table.openid.collation or ""))
        has_spaces = self.counts_spaces and self.run(f"SELECT 1 FROM {self.name} WHERE {self.openid} LIKE '% ' LIMIT 1")
        self.rough = self.exact() if has_spaces else self.openid

    def run(self, sql):
        return run(self.connection, sql)

    def exact(self, row=""):
        """Return SQL for an openid as the unique key will compare it, whatever the collation of the old column."""
        column = f"{row and row + '.'}{self.openid}"
        is_mysql = self.connection.vendor == "mysql"
        return f"CONVERT({column} USING utf8mb4) COLLATE utf8mb4_bin" if is_mysql else f"{column} COLLATE BINARY"

    def _is_orphan(self):
        """Return the SQL condition that the user of the row `bound` is gone, or an empty text if that cannot be."""
        is_null = "bound.user_id IS NULL" if self.table.columns["user_id"].is_nullable else ""
        has_foreign_key = self.connection.vendor == "mysql" and "user_id" in self.table.foreign_keys
        if not self.users or has_foreign_key:
            return is_null
        quote = self.connection.ops.quote_name
        users, pk = quote(self.users.table), quote(self.users.pk)
        return f"NOT EXISTS (SELECT 1 FROM {users} AS users WHERE users.{pk} = bound.user_id)"  # also of NULL

    def _repeated(self):
        """Return SQL for (openid), those that several rows have."""
        return (
            f"SELECT {self.rough} AS openid FROM {self.name} WHERE {self.openid} IS NOT NULL"
            f" GROUP BY {self.rough} HAVING COUNT(*) > 1"
        )

    def _candidates(self):
        """Return SQL for the rows, as `bound`, that share an openid with others, without orphans."""
        rough = self.exact(row="bound") if self.rough != self.openid else f"bound.{self.openid}"
        kept = f" WHERE NOT ({self.orphan})" if self.orphan else ""
        return f"{self.name} AS bound JOIN ({self._repeated()}) AS several ON {rough} = several.openid{kept}"

    def find_orphans(self):
        """Return the number of rows whose user is gone, and their first ids as a text."""
        if not self.orphan:
            return 0, ""
        from_orphans = f"FROM {self.name} AS bound WHERE {self.orphan}"
        (number,), = self.run(f"SELECT COUNT(*) {from_orphans}")
        ids = self.run(f"SELECT bound.id {from_orphans} ORDER BY bound.id LIMIT 11") if number else ()
        return number, list_ids([row_id for row_id, in ids])

    def count_duplicates(self):
        """Return the number of openids bound to different users, of their rows, and of rows that repeat another row."""
        if self.table.has_unique(self.table.openid.name.lower()) or not self.run(f"{self._repeated()} LIMIT 1"):
            return 0, 0, 0
        (numbers,) = self.run(f"""
            SELECT
                COUNT(CASE WHEN users > 1 THEN 1 END), SUM(CASE WHEN users > 1 THEN copies END), SUM(copies - users)
            FROM (
                SELECT COUNT(*) AS copies, COUNT(DISTINCT bound.user_id) AS users
                FROM {self._candidates()} GROUP BY {self.exact(row="bound")} HAVING COUNT(*) > 1
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
            "Choose who keeps them, then migrate again (--dry-run only shows what would be removed):",
            f"  {command} --keep earliest",
            f"  {command} --keep latest",
            f"  {command} --keep-id ID …",
        ]
        return "\n".join(lines)

    def _list_conflicts(self):
        exact, time = self.exact(row="bound"), "create_time" if "create_time" in self.table.columns else "NULL"
        rows = self.run(f"""
            SELECT bound.{self.openid}, bound.id, bound.user_id, {time} FROM {self.name} AS bound
            JOIN (
                SELECT {exact} AS exact FROM {self._candidates()}
                GROUP BY {exact} HAVING MIN(bound.user_id) <> MAX(bound.user_id)
            ) AS conflicting ON {exact} = conflicting.exact
            {f"WHERE NOT ({self.orphan})" if self.orphan else ""}
            ORDER BY conflicting.exact, {self.order} LIMIT {MAX_LISTED_ROWS}
        """)
        for openid, row_id, user_id, create_time in rows:
            shortened = f"{openid[:6]}…" if openid.strip() else "(empty)"
            yield f"  {shortened}: row {row_id}, user {user_id}" + (f", bound {create_time}" if create_time else "")

    def move(self, orphans, repeated):
        """Move orphans and repeated rows to tb_oauth_qq_merged. The numbers say whether there are any."""
        self._prepare_merged()
        names = ", ".join(map(self.connection.ops.quote_name, self.table.copied_columns()))
        into = f"INSERT INTO {MERGED} ({names}, {MARK}) SELECT {names},"
        is_mysql = self.connection.vendor == "mysql"
        with transaction.atomic(self.connection.alias):
            if orphans:
                self.run(f"{into} 'orphan' FROM {self.name} AS bound WHERE {self.orphan}")
            if repeated:
                nth = f"ROW_NUMBER() OVER (PARTITION BY {self.exact(row='bound')}, user_id ORDER BY {self.order})"
                numbered = f"SELECT bound.id, {nth} AS nth FROM {self._candidates()}"
                ids = f"SELECT id FROM ({numbered}) AS numbered WHERE nth > 1"
                self.run(f"{into} 'repeated' FROM {self.name} WHERE id IN ({ids})")
            if is_mysql:
                self.run(f"DELETE bound FROM {self.name} AS bound JOIN {MERGED} AS moved ON {self._is_same('bound')}")
            else:
                moved = f"SELECT 1 FROM {MERGED} AS moved WHERE {self._is_same('bound')}"
                self.run(f"DELETE FROM {self.name} AS bound WHERE EXISTS ({moved})")

    def _is_same(self, row):
        """Return the SQL condition that the row, by its alias, is the row `moved`."""
        user = f"({row}.user_id = moved.user_id OR ({row}.user_id IS NULL AND moved.user_id IS NULL))"
        return f"{row}.id = moved.id AND {self.exact(row=row)} = {self.exact(row='moved')} AND {user}"

    def _prepare_merged(self):
        """Make tb_oauth_qq_merged, or reuse the one of a migration that died."""
        merged, names = read_table(self.connection, MERGED), self.table.copied_columns()
        if merged and not self.run(f"SELECT 1 FROM {MERGED} LIMIT 1"):
            self.run(f"DROP TABLE {MERGED}")
            merged = None
        if merged is None:
            like = f"LIKE {self.name}"
            if self.connection.vendor != "mysql":
                columns = ", ".join(map(self.connection.ops.quote_name, names))
                like = f"AS SELECT {columns} FROM {self.name} WHERE 0 = 1"
            self.run(f"CREATE TABLE {MERGED} {like}")
        if merged is None or MARK not in merged.columns:
            self.run(f"ALTER TABLE {MERGED} ADD COLUMN {MARK} varchar(10) NOT NULL DEFAULT 'repeated'")

    def give_back(self):
        """Return the rows that were moved, and drop their table.

        Not returned are repeated rows whose binding the shop has removed in the meantime. Orphans stay in their table
        if the old table has a unique openid that is bound to somebody else now.
        """
        merged = read_table(self.connection, MERGED)
        if not merged:
            return
        if MARK in merged.columns:  # otherwise it is still empty
            self._insert_moved(merged)
        if MARK in merged.columns and (ids := find_ids(self.connection, merged, f"{MARK} = 'orphan'")):
            print(f"\n    These rows stay in {MERGED}, because their openid is bound to another user now: {ids}. ", end="")
        else:
            self.run(f"DROP TABLE {MERGED}")

    def _insert_moved(self, merged):
        columns = [name for name in self.table.copied_columns() if name.lower() in merged.columns]
        quote, same = self.connection.ops.quote_name, f"{self.exact(row='kept')} = {self.exact(row='moved')}"
        if not self.counts_spaces:
            same = f"kept.{self.openid} = moved.{self.openid} AND {same}"  # the first can use an index
        kept = f"SELECT 1 FROM {self.name} AS kept WHERE {same}"
        is_unique = self.table.has_unique(self.table.openid.name.lower())
        taken = (
            f"EXISTS (SELECT 1 FROM {self.name} AS taken WHERE taken.id = moved.id AND NOT ({self._is_same('taken')}))"
        )
        is_free = f"NOT EXISTS (SELECT 1 FROM {self.name} AS taken WHERE taken.id = moved.id)"
        with transaction.atomic(self.connection.alias):
            self.run(f"""
                UPDATE {MERGED} AS moved SET {merged.keep_times()}{MARK} = 'returned' WHERE ({MARK} = 'repeated'
                AND EXISTS ({kept} AND kept.user_id = moved.user_id))
                OR ({MARK} = 'orphan' {f"AND NOT EXISTS ({kept})" if is_unique else ""})
            """)
            # SQLite may have given the id of a moved row to a new one: then the moved row gets another. A row that a
            # restored backup has brought back does not return twice.
            for names, condition in (([name for name in columns if name.lower() != "id"], taken), (columns, is_free)):
                names = ", ".join(map(quote, names))
                self.run(
                    f"INSERT INTO {self.name} ({names}) SELECT {names} FROM {MERGED} AS moved"
                    f" WHERE {MARK} = 'returned' AND {condition}"
                )
                self.run(f"DELETE FROM {MERGED} WHERE {MARK} = 'returned' AND id IN (SELECT id FROM {self.name})")

"""
Convert a table that the shop had before this app: one row per openid, exact comparison, a column for the unionid.

The migration inspects the table itself. So it changes nothing in a table that 0001 created, and it can run again after
a failure. In an old table the index of unionid has a name of its own, which tells the reverse migration what to undo.
"""

from django.core.management.base import CommandError
from django.db import DEFAULT_DB_ALIAS, migrations, transaction

EXACT = "CHARACTER SET utf8mb4 COLLATE utf8mb4_bin"  # other databases distinguish case by default
OPENID_KEY = "tb_oauth_qq_adopted_openid"
UNIONID_INDEX = "tb_oauth_qq_adopted_unionid"
MAX_LISTED_ROWS = 50  # a longer list is of no use in a terminal


def convert(apps, schema_editor):
    connection = schema_editor.connection
    clauses, statements = [f"MODIFY openid varchar(64) {EXACT} {null_or_not(connection)}"], []
    if not has_unique_openid(connection):
        conflicts, conflicting_rows, repeated_rows = count_duplicates(connection)
        if conflicts:
            raise CommandError(explain_conflicts(connection, conflicts, conflicting_rows))
        if repeated_rows:
            move_repeated_rows(connection)
            print(f"\n    {repeated_rows} rows that repeated a user's openid are now in tb_oauth_qq_merged. ", end="")
        clauses.append(f"ADD UNIQUE KEY {OPENID_KEY} (openid)")
        statements.append(f"CREATE UNIQUE INDEX {OPENID_KEY} ON tb_oauth_qq (openid)")
    if not has_unionid(connection):
        clauses += ["ADD COLUMN unionid varchar(64) NULL", f"ADD KEY {UNIONID_INDEX} (unionid)"]
        statements.append("ALTER TABLE tb_oauth_qq ADD COLUMN unionid varchar(64) NULL")
        statements.append(f"CREATE INDEX {UNIONID_INDEX} ON tb_oauth_qq (unionid)")
    alter(schema_editor, clauses, statements)


def restore(apps, schema_editor):
    connection = schema_editor.connection
    keys = constraints(connection)
    if UNIONID_INDEX in keys:
        clauses = [f"MODIFY openid varchar(64) {null_or_not(connection)}", "DROP COLUMN unionid"]
        statements = [f"DROP INDEX {UNIONID_INDEX}", "ALTER TABLE tb_oauth_qq DROP COLUMN unionid"]
        if OPENID_KEY in keys:
            clauses.insert(0, f"DROP KEY {OPENID_KEY}")
            statements.insert(0, f"DROP INDEX {OPENID_KEY}")
        alter(schema_editor, clauses, statements)
    if "tb_oauth_qq_merged" in connection.introspection.table_names():
        return_repeated_rows(connection)
        schema_editor.execute("DROP TABLE tb_oauth_qq_merged")


def alter(schema_editor, clauses, statements):
    """Use one ALTER TABLE on MySQL and MariaDB: they cannot roll back DDL, but one statement succeeds or fails whole."""
    if schema_editor.connection.vendor == "mysql":
        statements = [f"ALTER TABLE tb_oauth_qq {', '.join(clauses)}"]
    for statement in statements:
        schema_editor.execute(statement)


def exact(connection, column="openid"):
    """Return SQL for an openid as the unique key will compare it, whatever the collation of the old column."""
    return f"CONVERT({column} USING utf8mb4) COLLATE utf8mb4_bin" if connection.vendor == "mysql" else column


def count_duplicates(connection):
    """Return the number of openids bound to different users, of their rows, and of rows that repeat another row."""
    with connection.cursor() as cursor:
        cursor.execute(f"""
            SELECT
                COUNT(CASE WHEN users > 1 THEN 1 END), SUM(CASE WHEN users > 1 THEN copies END), SUM(copies - users)
            FROM (
                SELECT COUNT(*) AS copies, COUNT(DISTINCT user_id) AS users
                FROM tb_oauth_qq WHERE openid IS NOT NULL GROUP BY {exact(connection)} HAVING COUNT(*) > 1
            ) AS duplicates
        """)
        return [int(number or 0) for number in cursor.fetchone()]


def explain_conflicts(connection, conflicts, conflicting_rows):
    """Return the message about openids that are bound to different users: which rows, and what to do."""
    is_default = connection.alias == DEFAULT_DB_ALIAS
    command = "manage.py qq_resolve_duplicates" + ("" if is_default else f" --database {connection.alias}")
    lines = [
        f"Openids that tb_oauth_qq binds to different users: {conflicts}, in {conflicting_rows} rows."
        " A migration cannot decide which user keeps them, so nothing was changed.",
        *list_conflicts(connection),
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


def list_conflicts(connection):
    with connection.cursor() as cursor:
        cursor.execute(f"""
            SELECT bound.openid, bound.id, bound.user_id, bound.create_time
            FROM tb_oauth_qq AS bound
            JOIN (
                SELECT {exact(connection)} AS exact FROM tb_oauth_qq
                GROUP BY {exact(connection)} HAVING MIN(user_id) <> MAX(user_id)
            ) AS conflicting ON {exact(connection, "bound.openid")} = conflicting.exact
            ORDER BY conflicting.exact, bound.create_time, bound.id LIMIT {MAX_LISTED_ROWS}
        """)
        for openid, row_id, user_id, create_time in cursor:
            shortened = f"{openid[:6]}…" if openid.strip() else "(empty)"
            yield f"  {shortened}: row {row_id}, user {user_id}, bound {create_time}"


def move_repeated_rows(connection):
    """Move the rows that repeat a user's openid, all but the earliest, to a table. The reverse returns them."""
    repeated = f"""
        SELECT id FROM (
            SELECT id, ROW_NUMBER() OVER (PARTITION BY {exact(connection)}, user_id ORDER BY create_time, id) AS nth
            FROM tb_oauth_qq WHERE openid IS NOT NULL
        ) AS numbered
        WHERE nth > 1
    """
    like = "LIKE tb_oauth_qq" if connection.vendor == "mysql" else "AS SELECT * FROM tb_oauth_qq WHERE 0 = 1"
    with connection.cursor() as cursor:
        cursor.execute(f"CREATE TABLE IF NOT EXISTS tb_oauth_qq_merged {like}")
        with transaction.atomic(connection.alias):
            cursor.execute(f"INSERT INTO tb_oauth_qq_merged SELECT * FROM tb_oauth_qq WHERE id IN ({repeated})")
            cursor.execute("DELETE FROM tb_oauth_qq WHERE id IN (SELECT id FROM tb_oauth_qq_merged)")


def return_repeated_rows(connection):
    """Return the rows that were moved, except where the shop has removed the binding in the meantime."""
    with connection.cursor() as cursor:
        cursor.execute("""
            INSERT INTO tb_oauth_qq SELECT * FROM tb_oauth_qq_merged AS merged
            WHERE EXISTS (
                SELECT 1 FROM tb_oauth_qq AS kept WHERE kept.openid = merged.openid AND kept.user_id = merged.user_id
            ) AND NOT EXISTS (SELECT 1 FROM tb_oauth_qq AS returned WHERE returned.id = merged.id)
        """)


def has_unique_openid(connection):
    return any(key["unique"] and key["columns"] == ["openid"] for key in constraints(connection).values())


def has_unionid(connection):
    return "unionid" in columns(connection)


def null_or_not(connection):
    """Keep the openid nullable if it was: rows with NULL bind no user, and a unique key allows many of them."""
    return "NULL" if columns(connection)["openid"].null_ok else "NOT NULL"


def columns(connection):
    with connection.cursor() as cursor:
        found = connection.introspection.get_table_description(cursor, "tb_oauth_qq")
    return {column.name: column for column in found}


def constraints(connection):
    with connection.cursor() as cursor:
        return connection.introspection.get_constraints(cursor, "tb_oauth_qq")


class Migration(migrations.Migration):

    dependencies = [
        ("oauth", "0002_exact_openid"),
    ]

    operations = [
        # Not atomic: MySQL cannot roll back ALTER TABLE.
        migrations.RunPython(convert, restore, atomic=False, hints={"model_name": "oauthqquser"}),
    ]

"""
Make the table that a shop had before ours: one row an openid, compared exactly, and room for the unionid.

What stands is read from the table itself, so this finds nothing to do in a table of our own making, and can be run
again after a failure. The index of unionid goes by a name of its own where the table is an old one: by that the way
back knows what to undo.
"""

from django.db import migrations, transaction

from ..management.commands.settle_qq_bindings import Clashes, exactly

EXACT = "CHARACTER SET utf8mb4 COLLATE utf8mb4_bin"  # every other database tells two openids apart by case anyway
OPENID_KEY = "tb_oauth_qq_adopted_openid"
UNIONID_INDEX = "tb_oauth_qq_adopted_unionid"


def adopt(apps, schema_editor):
    connection = schema_editor.connection
    clauses, statements = [f"MODIFY openid varchar(64) {EXACT} {null(connection)}"], []
    if not has_unique_openid(connection):
        clashes = Clashes(connection)
        clashes.refuse_contested()
        if clashes.repeated:
            set_aside_repeated(connection)
            print(f"\n    {clashes.repeated} rows that repeated a user's openid are now in tb_oauth_qq_merged. ", end="")
        clauses.append(f"ADD UNIQUE KEY {OPENID_KEY} (openid)")
        statements.append(f"CREATE UNIQUE INDEX {OPENID_KEY} ON tb_oauth_qq (openid)")
    if not has_unionid(connection):
        clauses += ["ADD COLUMN unionid varchar(64) NULL", f"ADD KEY {UNIONID_INDEX} (unionid)"]
        statements.append("ALTER TABLE tb_oauth_qq ADD COLUMN unionid varchar(64) NULL")
        statements.append(f"CREATE INDEX {UNIONID_INDEX} ON tb_oauth_qq (unionid)")
    alter(schema_editor, clauses, statements)


def give_back(apps, schema_editor):
    connection = schema_editor.connection
    keys = constraints(connection)
    if UNIONID_INDEX in keys:
        clauses = [f"MODIFY openid varchar(64) {null(connection)}", "DROP COLUMN unionid"]
        statements = [f"DROP INDEX {UNIONID_INDEX}", "ALTER TABLE tb_oauth_qq DROP COLUMN unionid"]
        if OPENID_KEY in keys:
            clauses.insert(0, f"DROP KEY {OPENID_KEY}")
            statements.insert(0, f"DROP INDEX {OPENID_KEY}")
        alter(schema_editor, clauses, statements)
    if "tb_oauth_qq_merged" in connection.introspection.table_names():
        put_back_repeated(connection)
        schema_editor.execute("DROP TABLE tb_oauth_qq_merged")


def alter(schema_editor, clauses, statements):
    """MySQL and MariaDB cannot roll back, but do all of one ALTER TABLE or nothing; elsewhere it takes several."""
    if schema_editor.connection.vendor == "mysql":
        statements = [f"ALTER TABLE tb_oauth_qq {', '.join(clauses)}"]
    for statement in statements:
        schema_editor.execute(statement)


def set_aside_repeated(connection):
    """Move a user's rows of one openid, all but the first, to a table from which the way back returns them."""
    repeated = f"""
        SELECT id FROM (
            SELECT id, ROW_NUMBER() OVER (PARTITION BY {exactly(connection)}, user_id ORDER BY create_time, id) AS place
            FROM tb_oauth_qq WHERE openid IS NOT NULL
        ) AS placed
        WHERE place > 1
    """
    like = "LIKE tb_oauth_qq" if connection.vendor == "mysql" else "AS SELECT * FROM tb_oauth_qq WHERE 0 = 1"
    with connection.cursor() as cursor:
        cursor.execute(f"CREATE TABLE IF NOT EXISTS tb_oauth_qq_merged {like}")
        with transaction.atomic(connection.alias):
            cursor.execute(f"INSERT INTO tb_oauth_qq_merged SELECT * FROM tb_oauth_qq WHERE id IN ({repeated})")
            cursor.execute("DELETE FROM tb_oauth_qq WHERE id IN (SELECT id FROM tb_oauth_qq_merged)")


def put_back_repeated(connection):
    """Return the rows that were set aside, but of no binding that has been taken off since."""
    with connection.cursor() as cursor:
        cursor.execute("""
            INSERT INTO tb_oauth_qq SELECT * FROM tb_oauth_qq_merged AS merged
            WHERE EXISTS (
                SELECT 1 FROM tb_oauth_qq AS kept WHERE kept.openid = merged.openid AND kept.user_id = merged.user_id
            ) AND NOT EXISTS (SELECT 1 FROM tb_oauth_qq AS put_back WHERE put_back.id = merged.id)
        """)


def has_unique_openid(connection):
    return any(key["unique"] and key["columns"] == ["openid"] for key in constraints(connection).values())


def has_unionid(connection):
    return "unionid" in columns(connection)


def null(connection):
    """An openid that may be NULL stays so: such rows bind nobody, and a unique key does not mind them."""
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
        # Without a transaction of its own where the database cannot roll an ALTER TABLE back.
        migrations.RunPython(adopt, give_back, atomic=False, hints={"model_name": "oauthqquser"}),
    ]

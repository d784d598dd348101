from django.db import DEFAULT_DB_ALIAS
from django.db.backends.base.base import BaseDatabaseWrapper


def name_command(command: str, connection: BaseDatabaseWrapper) -> str:
    """Return the shell command that runs a management command on this database."""
    is_default = connection.alias == DEFAULT_DB_ALIAS
    return f"manage.py {command}" if is_default else f"manage.py {command} --database {connection.alias}"


def read_columns(connection: BaseDatabaseWrapper, table: str) -> set[str]:
    """Return the table's columns in lower case, or nothing if it is not there."""
    with connection.cursor() as cursor:
        names = connection.introspection.table_names(cursor)
        if table not in (map(str.lower, names) if connection.features.ignores_table_name_case else names):
            return set()
        # Not by Django's introspection, which fails at some generated columns of SQLite.
        cursor.execute(f"SELECT * FROM {table} WHERE 0 = 1")  # noqa: S608
        return {column[0].lower() for column in cursor.description}


def exact_openid(connection: BaseDatabaseWrapper, columns: set[str]) -> str:
    """Return SQL for the openid in these columns of an old table, compared as the unique key does.

    MySQL and MariaDB would compare by the collation of the old column.
    """
    column = "openid" if "openid" in columns else "open_id"
    return f"CONVERT({column} USING utf8mb4) COLLATE utf8mb4_bin" if connection.vendor == "mysql" else column

from django.db import DEFAULT_DB_ALIAS
from django.db.backends.base.base import BaseDatabaseWrapper


def name_command(command: str, connection: BaseDatabaseWrapper) -> str:
    """Return the shell command that runs a management command on this database."""
    is_default = connection.alias == DEFAULT_DB_ALIAS
    return f"manage.py {command}" if is_default else f"manage.py {command} --database {connection.alias}"

from typing import Any

from django.db import models
from django.db.backends.base.base import BaseDatabaseWrapper


class ExactCharField(models.CharField):  # type: ignore[type-arg]  # Django's cannot be subscripted
    """A CharField that compares letter by letter on every database. Migrations import it, so it is frozen.

    MySQL and MariaDB ignore case unless the column says otherwise. The collation is part of the type, because Django
    leaves out `db_collation` when it only makes a column nullable, and MySQL then resets the column to its default.
    """

    def db_type(self, connection: BaseDatabaseWrapper) -> str | None:
        db_type = super().db_type(connection)
        return f"{db_type} CHARACTER SET utf8mb4 COLLATE utf8mb4_bin" if connection.vendor == "mysql" else db_type


class OwnTextField(models.CharField):  # type: ignore[type-arg]
    """A nullable CharField that holds all of Unicode, in a table of any character set. Migrations import it too."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **{**options, "null": True, "blank": True, "editable": False})

    def deconstruct(self) -> Any:
        name, path, args, options = super().deconstruct()
        return name, path, args, {key: options[key] for key in options if key not in ("null", "blank", "editable")}

    def db_type(self, connection: BaseDatabaseWrapper) -> str | None:
        db_type = super().db_type(connection)
        return f"{db_type} CHARACTER SET utf8mb4" if connection.vendor == "mysql" else db_type

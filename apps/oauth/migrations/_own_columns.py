"""
Adds a column of our own to the table, which may be a shop's old one, and takes it away again.

A part of the migrations, so it is frozen, and imports nothing of the app.
"""

import re

from django.db import migrations

from ._record import read_record
from ._refusals import refusal
from ._table import ADDED_LATER, TABLE, read_table


def check_own_columns(table, record):
    """Raise CommandError if a column with a name of 0004 is the shop's. `record`: of the adopted table, or None."""
    for name in sorted(ADDED_LATER & table.columns.keys()):
        column = table.columns[name]
        # MySQL and MariaDB keep the comment. Elsewhere 0004 is rolled back if it dies, and the record is all there is.
        is_own = re.search("COMMENT 'QQ (APP ID|昵称|头像)'$", column.definition)
        if not is_own and (record is None or name in str(record.definition)):
            raise refusal(
                f"{TABLE} has a column {column.name}, a name that this app needs: rename it, or drop it if this app has"
                " added it."
            )


class AddOwnColumn(migrations.AddField):
    """AddField that can run again after it died, and refuses where the shop has a column of this name."""

    def database_forwards(self, app_label, schema_editor, from_state, to_state):
        if not self.is_done(app_label, schema_editor, to_state):
            super().database_forwards(app_label, schema_editor, from_state, to_state)

    def database_backwards(self, app_label, schema_editor, from_state, to_state):
        if schema_editor.collect_sql or self.find_column(schema_editor):
            super().database_backwards(app_label, schema_editor, from_state, to_state)

    def is_done(self, app_label, schema_editor, state):
        connection = schema_editor.connection
        model = state.apps.get_model(app_label, self.model_name)
        if schema_editor.collect_sql or not self.allow_migrate_model(connection.alias, model):
            return False
        column = self.find_column(schema_editor)
        if column is None:
            return False
        check_own_columns(read_table(connection), read_record(connection))
        return True

    def find_column(self, schema_editor):
        table = read_table(schema_editor.connection)
        return table and table.columns.get(self.field.db_column)

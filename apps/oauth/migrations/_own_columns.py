"""
Adds a column of our own to the table, which may be a shop's old one, and takes it away again.

A part of the migrations, so it is frozen, and imports nothing of the app.
"""

from contextlib import contextmanager

from django.db import migrations

from ._adopt import explaining, session
from ._record import read_record
from ._refusals import check_own_columns
from ._table import TABLE, read_table


class AddOwnColumn(migrations.AddField):
    """AddField that can run again after it died, and refuses where the shop has a column of this name."""

    def database_forwards(self, app_label, schema_editor, from_state, to_state):
        with self.altering(schema_editor, "convert", "still lacks"):
            if not self.is_done(app_label, schema_editor, to_state):
                super().database_forwards(app_label, schema_editor, from_state, to_state)

    def database_backwards(self, app_label, schema_editor, from_state, to_state):
        with self.altering(schema_editor, "restore", "still has"):
            if schema_editor.collect_sql or self.find_column(schema_editor):
                super().database_backwards(app_label, schema_editor, from_state, to_state)

    @contextmanager
    def altering(self, schema_editor, work, verb):
        """Run ALTER TABLE as 0003 does: one process at a time, which waits for seconds only."""
        if schema_editor.collect_sql:
            yield
            return
        with session(schema_editor.connection):
            with explaining(work, f"{TABLE} {verb} the column {self.field.db_column}"):
                yield

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

"""The system check that no other app owns the table of bindings: its migrations would drop or change the table."""

from collections.abc import Sequence
from typing import Any

from django.core.checks import CheckMessage, Error, Tags, register
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.migrations.executor import MigrationExecutor
from django.db.migrations.operations import AlterModelTable, DeleteModel, SeparateDatabaseAndState
from django.db.migrations.operations.base import Operation
from django.db.migrations.state import ModelState, ProjectState

from .models import OAuthQQUser

OURS = OAuthQQUser._meta
HINT = (
    "Take the model out of that app's state alone: SeparateDatabaseAndState(state_operations=[migrations.DeleteModel("
    '"{}")]). docs/migrate-old-tables.md shows the migration.'
)


# Not with our tag too: Django 6.1 hands all databases to the checks of a tag, and `check --tag` must need none.
@register(Tags.database)
def check_owner(databases: Sequence[str] | None = None, **kwargs: Any) -> list[CheckMessage]:
    """Report each model of another app that owns the table. Only `migrate` and `check --database` name databases."""
    found: dict[str, str] = {}
    for alias in databases or ():  # all other commands would wait for the migration files to be read
        found |= find_owners(connections[alias])
    return [
        Error(
            f"{name} {problem}, {OURS.db_table}: migrate would drop all bindings with it.",
            HINT.format(name.partition(".")[2]),
            id="oauth.E022",
        )
        for name, problem in sorted(found.items())
    ]


def find_owners(connection: BaseDatabaseWrapper) -> dict[str, str]:
    """Return the models of other apps that own the table or lose it when `migrate` runs, and which of both."""
    executor = MigrationExecutor(connection)
    state, lost = ProjectState(), {}
    for migration, _ in executor.migration_plan(executor.loader.graph.leaf_nodes(), clean_start=True):
        label = migration.app_label
        is_pending = (label, migration.name) not in executor.loader.applied_migrations
        for operation in migration.operations:
            for change in list_database_operations(operation) if is_pending else ():
                model = state.models.get((label, getattr(change, "name_lower", "")))
                if isinstance(change, (DeleteModel, AlterModelTable)) and model and is_owner(model):
                    lost[f"{label}.{model.name}"] = "loses this table in a migration that is not applied yet"
            operation.state_forwards(label, state)
    owning = [f"{model.app_label}.{model.name}" for model in state.models.values() if is_owner(model)]
    return lost | dict.fromkeys(owning, "owns this table in the state of its app's migrations")


def list_database_operations(operation: Operation) -> Sequence[Operation]:
    return operation.database_operations if isinstance(operation, SeparateDatabaseAndState) else [operation]


def is_owner(model: ModelState) -> bool:
    table = model.options.get("db_table") or f"{model.app_label}_{model.name_lower}"
    is_managed = model.options.get("managed", True)
    return model.app_label != OURS.app_label and is_managed and table.lower() == OURS.db_table

"""The system check that no other app owns the table of bindings: its migrations would drop or change the table."""

from collections.abc import Iterator, Sequence
from typing import Any

from django.apps import apps
from django.core.checks import CheckMessage, Error, Tags, register
from django.db import connections
from django.db.migrations.executor import MigrationExecutor
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.operations import AlterModelTable, DeleteModel, SeparateDatabaseAndState
from django.db.migrations.operations.base import Operation
from django.db.migrations.state import ModelState, ProjectState

from .checks import TAG
from .models import OAuthQQUser

OURS = OAuthQQUser._meta
HINT = (
    "Take the model out of that app's state alone: SeparateDatabaseAndState(state_operations=[migrations.DeleteModel("
    '"{}")]). docs/migrate-old-tables.md shows the migration; makemigrations needs --skip-checks meanwhile.'
)


@register(TAG)
def check_owner(**kwargs: Any) -> list[CheckMessage]:
    owned = {model._meta.label: "is a model of this table" for model in apps.get_models() if owns(model._meta)}
    return report(owned | dict.fromkeys(find_states(), "owns this table in the state of its app's migrations"))


# Apart from the check above because it asks the database: Django 6.1 hands every check all databases, and leaves out
# those with this tag unless a command names a database.
@register(Tags.database)
def check_drops(databases: Sequence[str] | None = None, **kwargs: Any) -> list[CheckMessage]:
    problem = "loses this table in a migration that is not applied yet"
    return report(dict.fromkeys(find_drops(databases or ()), problem))


def report(owned: dict[str, str]) -> list[CheckMessage]:
    return [
        Error(
            f"{name} {problem}, {OURS.db_table}: migrate would drop all bindings with it.",
            HINT.format(name.partition(".")[2]),
            id="oauth.E022",
        )
        for name, problem in sorted(owned.items())
    ]


def owns(options: Any) -> bool:
    return bool(options.app_label != OURS.app_label and options.managed and options.db_table.lower() == OURS.db_table)


def state_owns(model: ModelState) -> bool:
    table = model.options.get("db_table") or f"{model.app_label}_{model.name_lower}"
    is_managed = model.options.get("managed", True)
    return model.app_label != OURS.app_label and is_managed and table.lower() == OURS.db_table


def find_states() -> Iterator[str]:
    """Return the models that own the table after all migration files."""
    state = MigrationLoader(None).project_state()
    return (f"{model.app_label}.{model.name}" for model in state.models.values() if state_owns(model))


def find_drops(databases: Sequence[str]) -> Iterator[str]:
    """Return the models with which a migration that is not applied yet would drop or rename the table."""
    for alias in databases:
        executor = MigrationExecutor(connections[alias])
        graph = executor.loader.graph
        applied = [key for key in executor.loader.applied_migrations if key in graph.nodes]
        state = executor.loader.project_state(applied) if applied else ProjectState()
        for migration, _ in executor.migration_plan(graph.leaf_nodes()):
            label = migration.app_label
            for operation in migration.operations:
                changes: Sequence[Operation] = [operation]
                if isinstance(operation, SeparateDatabaseAndState):
                    changes = operation.database_operations
                for change in changes:
                    model = state.models.get((label, getattr(change, "name_lower", "")))
                    if isinstance(change, (DeleteModel, AlterModelTable)) and model and state_owns(model):
                        yield f"{label}.{model.name}"
                operation.state_forwards(label, state)

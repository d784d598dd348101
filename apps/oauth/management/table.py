"""Faults of the table of bindings, for `qq_doctor`: it must serve a login, and accept a new binding."""

import secrets
from collections.abc import Iterator
from typing import Any

from django.contrib.auth import get_user_model
from django.core.checks import CheckMessage, Error
from django.db import DEFAULT_DB_ALIAS, DatabaseError, router, transaction
from django.db.migrations.executor import MigrationExecutor

from ..database import name_error
from ..migrations._refusals import give_default
from ..migrations._rows import Rows, find_users
from ..migrations._table import Table, read_table
from ..models import OAuthQQUser
from ..owner import check_owner

TABLE = OAuthQQUser._meta.db_table
COLUMNS = {str(field.column) for field in OAuthQQUser._meta.concrete_fields}


def check_table(connection: Any) -> Iterator[CheckMessage]:
    """Yield what is wrong. An error of the table itself hides what depends on it."""
    is_default = connection.alias == DEFAULT_DB_ALIAS
    migrate = "manage.py migrate" if is_default else f"manage.py migrate --database {connection.alias}"
    executor, table = MigrationExecutor(connection), read_table(connection)
    problem = find_flaw(table)
    if found := [error for error in check_owner([connection.alias]) if not error.is_silenced()]:
        yield from found
    elif plan := executor.migration_plan(executor.loader.graph.leaf_nodes("oauth")):
        pending = ", ".join(f"{migration.app_label}.{migration.name}" for migration, _ in plan)
        yield Error(f"Migrations are not applied: {pending}.", f"Run {migrate}.")
    elif not table or problem:
        # The migrations were faked, or another app with this label recorded some of the same names.
        yield Error(f"The table {TABLE} {problem}.", f"Run {migrate} --fake oauth zero, then {migrate}.")
    elif found := [*check_columns(connection, table), *check_engine(table), *check_users(connection, table)]:
        yield from found
    else:
        yield from try_binding(connection)


def find_flaw(table: Table | None) -> str | None:
    """Return how the table differs from what the migrations make."""
    if table is None:
        return "is missing"
    if missing := COLUMNS - table.columns.keys():
        return f"lacks {', '.join(sorted(missing))}"
    return None if table.has_unique("openid") else "accepts an openid twice"


def check_columns(connection: Any, table: Table) -> Iterator[CheckMessage]:
    for name, column in table.columns.items():
        if column.must_be_filled and name not in COLUMNS:
            problem = f"{TABLE}.{column.name} is NOT NULL without a default: each new binding fails."
            yield Error(problem, f"Give it one: {give_default(connection, column)}.")


def check_engine(table: Table) -> Iterator[CheckMessage]:
    if not table.has_transactions:
        hint = f"ALTER TABLE {TABLE} ENGINE=InnoDB."
        yield Error(f"{TABLE} uses the engine {table.engine}, which has no transactions.", hint)


def check_users(connection: Any, table: Table) -> Iterator[CheckMessage]:
    """Find bindings whose user is gone, unless the users are in another database."""
    rows = Rows(connection, table, find_users(connection, get_user_model()))
    if router.db_for_write(get_user_model()) == connection.alias and (ids := rows.find_orphans()[1]):
        problem = f"Users of {TABLE} are gone, so their QQ can neither log in nor be bound: {ids}."
        yield Error(problem, "Delete these rows.")


def try_binding(connection: Any) -> Iterator[CheckMessage]:
    """Bind two made-up openids, and take it back: no other test knows all that a table may refuse.

    One to a user who is bound already, without a unionid; one to the newest user, with a unionid.
    """
    newest = get_user_model()._base_manager.using(connection.alias).order_by("-pk").values_list("pk", flat=True).first()
    if newest is None or router.db_for_write(get_user_model()) != connection.alias:
        return
    table = OAuthQQUser.objects.using(connection.alias)
    bound = table.values_list("user_id", flat=True).first() or newest
    new = [
        OAuthQQUser(user_id=bound, openid=secrets.token_hex(16).upper()),
        OAuthQQUser(user_id=newest, openid=secrets.token_hex(16).upper(), unionid=f"UID_{secrets.token_hex(16)}"),
    ]
    openids = {binding.openid for binding in new}
    try:
        with transaction.atomic(connection.alias):
            table.bulk_create(new)  # sends no signals
            kept = {*table.filter(openid__in=openids).values_list("openid", flat=True)}
            transaction.set_rollback(True, connection.alias)
    except DatabaseError as exc:
        hint = f"See which column, key, trigger or missing right of {TABLE} this number names, and remove it."
        yield Error(f"{TABLE} refuses a new binding: {name_error(exc)}.", hint)
    else:
        if kept != openids:
            problem = f"{TABLE}.openid does not keep a new openid as it is: no login finds it."
            yield Error(problem, "Remove the trigger that changes it.")

"""Faults of the table of bindings, for `qq_doctor`: it must serve a login, and accept a new binding."""

import secrets
from collections.abc import Iterator
from typing import Any

from django.contrib.auth import get_user_model
from django.core.checks import CheckMessage, Error
from django.db import DatabaseError, router, transaction
from django.db.migrations.executor import MigrationExecutor

from ..models import OAuthQQUser
from . import name_command, read_columns

TABLE = OAuthQQUser._meta.db_table
NOT_FILLED = {  # NOT NULL, without a default, and nothing that the database fills by itself
    "mysql": "SELECT column_name, column_type FROM information_schema.columns WHERE table_schema = DATABASE()"
    " AND table_name = %s AND is_nullable = 'NO' AND column_default IS NULL AND extra NOT LIKE '%%auto_increment%%'"
    " AND COALESCE(generation_expression, '') = '' AND data_type <> 'enum'",
    "sqlite": 'SELECT name, type FROM pragma_table_xinfo(%s) WHERE "notnull" AND dflt_value IS NULL'
    " AND NOT pk AND NOT hidden",
}
UNIQUE = (
    'SELECT keys.name FROM pragma_index_list(%s) AS keys JOIN pragma_index_info(keys.name) AS parts WHERE keys."unique"'
    " AND NOT keys.partial GROUP BY keys.name HAVING COUNT(*) = 1 AND LOWER(MIN(parts.name)) = 'openid'"
)
TRANSACTIONS = (
    "SELECT engine FROM information_schema.tables JOIN information_schema.engines USING (engine)"
    " WHERE table_schema = DATABASE() AND table_name = %s AND transactions <> 'YES'"
)


def check_table(connection: Any) -> Iterator[CheckMessage]:
    """Yield what is wrong. An error of the table itself hides what depends on it."""
    migrate = name_command("migrate", connection)
    executor = MigrationExecutor(connection)
    if plan := executor.migration_plan(executor.loader.graph.leaf_nodes("oauth")):
        pending = ", ".join(f"{migration.app_label}.{migration.name}" for migration, _ in plan)
        yield Error(f"Migrations are not applied: {pending}.", f"Run {migrate}.")
    elif problem := find_flaw(connection):
        # The migrations were faked, or another app with this label recorded some of the same names.
        yield Error(f"The table {TABLE} {problem}.", f"Run {migrate} --fake oauth zero, then {migrate}.")
    elif found := [*check_columns(connection), *check_engine(connection), *check_users(connection)]:
        yield from found
    else:
        yield from try_binding(connection)


def find_flaw(connection: Any) -> str | None:
    """Return how the table differs from what the migrations make."""
    columns = read_columns(connection, TABLE)
    if not columns:
        return "is missing"
    with connection.cursor() as cursor:
        is_unique = accepts_once(connection, cursor)
    missing = {str(field.column) for field in OAuthQQUser._meta.concrete_fields} - columns
    if missing:
        return f"lacks {', '.join(sorted(missing))}"
    return None if is_unique else "accepts an openid twice"


def accepts_once(connection: Any, cursor: Any) -> bool:
    """Whether openid is unique."""
    if connection.vendor == "sqlite":  # Django cannot read the constraints of a table with generated columns there
        cursor.execute(UNIQUE, [TABLE])
        return cursor.fetchone() is not None
    constraints = connection.introspection.get_constraints(cursor, TABLE).values()
    return any(found["unique"] and [*map(str.lower, found["columns"])] == ["openid"] for found in constraints)


def check_columns(connection: Any) -> Iterator[CheckMessage]:
    ours = {str(field.column) for field in OAuthQQUser._meta.concrete_fields}
    with connection.cursor() as cursor:
        cursor.execute(NOT_FILLED.get(connection.vendor, "SELECT %s, '' WHERE 0 = 1"), [TABLE])
        for name, kind in cursor.fetchall():
            if name.lower() not in ours:
                hint = f"Give it a default, for instance: ALTER TABLE {TABLE} ALTER COLUMN {name} SET DEFAULT 0."
                yield Error(f"{TABLE}.{name} ({kind}) is NOT NULL without a default: each new binding fails.", hint)


def check_engine(connection: Any) -> Iterator[CheckMessage]:
    if connection.vendor == "mysql":
        with connection.cursor() as cursor:
            cursor.execute(TRANSACTIONS, [TABLE])
            for (engine,) in cursor.fetchall():
                hint = f"ALTER TABLE {TABLE} ENGINE=InnoDB."
                yield Error(f"{TABLE} uses the engine {engine}, which has no transactions.", hint)


def check_users(connection: Any) -> Iterator[CheckMessage]:
    """Find bindings whose user is gone, unless a foreign key prevents that or the users are in another database."""
    users = get_user_model()._meta
    with connection.cursor() as cursor:
        has_foreign_key = "user_id" in connection.introspection.get_relations(cursor, TABLE)
        if has_foreign_key or router.db_for_write(get_user_model()) != connection.alias:
            return
        quote = connection.ops.quote_name
        cursor.execute(
            f"SELECT id FROM {TABLE} AS bound WHERE NOT EXISTS (SELECT 1 FROM {quote(users.db_table)} AS users"  # noqa: S608
            f" WHERE users.{quote(users.pk.column)} = bound.user_id) ORDER BY id LIMIT 11"
        )
        ids = [str(row_id) for (row_id,) in cursor.fetchall()]
    if ids:
        listed = ", ".join([*ids[:10], *("…" for _ in ids[10:])])
        problem = f"Users of {TABLE} are gone, so their QQ can neither log in nor be bound: rows {listed}."
        yield Error(problem, "Delete these rows.")


def try_binding(connection: Any) -> Iterator[CheckMessage]:
    """Bind a made-up openid, if there is a user, and take it back: no other test knows all that a table may refuse."""
    users = get_user_model()._base_manager.using(connection.alias)
    bound = OAuthQQUser.objects.using(connection.alias).values_list("user_id", flat=True)[:1]
    user_id = next(iter(bound), None) or users.values_list("pk", flat=True).first()
    if user_id is None or router.db_for_write(get_user_model()) != connection.alias:
        return
    try:
        with transaction.atomic(connection.alias):
            binding = OAuthQQUser(user_id=user_id, openid=secrets.token_hex(16).upper())
            OAuthQQUser.objects.using(connection.alias).bulk_create([binding])  # sends no signals
            transaction.set_rollback(True, connection.alias)
    except DatabaseError as exc:
        number = f" {exc.args[0]}" if exc.args and isinstance(exc.args[0], int) else ""
        hint = f"See which column, key, trigger or missing right of {TABLE} this number names, and remove it."
        yield Error(f"{TABLE} refuses a new binding: {type(exc).__name__}{number}.", hint)

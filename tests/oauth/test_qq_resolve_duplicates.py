"""manage.py qq_resolve_duplicates on tables that lack our columns. test_migrations.py has the usual ones."""

import json
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.db import connection

from tests.oauth.old_shop import A, B, C, table_replaced

pytestmark = pytest.mark.django_db(transaction=True)


def old_table(columns, rows=()):
    """Put a table of these columns in the place of ours."""
    inserts = (f"INSERT INTO tb_oauth_qq VALUES {row}" for row in rows)
    return table_replaced(f"CREATE TABLE tb_oauth_qq ({columns})", *inserts)


def read_ids():
    with connection.cursor() as cursor:
        cursor.execute("SELECT id FROM tb_oauth_qq ORDER BY id")
        return [row_id for (row_id,) in cursor]


def resolve(*arguments):
    printed = StringIO()
    call_command("qq_resolve_duplicates", *arguments, stdout=printed)
    return printed.getvalue()


def test_users_that_are_gone_have_no_part_in_a_conflict(django_user_model, tmp_path):
    create = django_user_model.objects.create_user
    first, second = (create(f"user {digit}", mobile=f"1381234567{digit}").pk for digit in (1, 2))
    gone, file = second + 1, tmp_path / "removed.jsonl"
    bindings = [(1, A, gone), (2, A, first), (3, A, second), (4, B, gone), (5, B, first), (6, C, gone)]
    with old_table("id integer PRIMARY KEY, open_id varchar(64), user_id bigint", bindings):
        printed = resolve("--keep=earliest", f"--to={file}")
        assert printed == (
            f"  AAAAAA…: row 3, user {second}; row 2 stays\n"
            f"Rows removed: 1, kept in {file}. Openids still to resolve: 0.\n"
        )
        assert read_ids() == [1, 2, 4, 5, 6]
    assert json.loads(file.read_text()) == {"id": 3, "open_id": A, "user_id": second, "kept": 2}


def test_generated_column_is_no_obstacle():
    generated = "start_of_openid varchar(6) AS (substr(openid, 1, 6))"
    with old_table(f"id integer PRIMARY KEY, openid varchar(64), user_id bigint, {generated}"):
        assert resolve("--keep=earliest") == "Nothing to resolve: no openid is bound to different users.\n"


def test_users_in_another_database_all_count(django_user_model):
    users, elsewhere = django_user_model._meta.db_table, "users_elsewhere"
    table = old_table("id integer PRIMARY KEY, openid varchar(64), user_id bigint", [(1, A, 8), (2, A, 9)])
    with table, connection.schema_editor(atomic=False) as editor:
        editor.alter_db_table(None, users, elsewhere)
        try:
            assert "row 1, user 8; row 2 stays" in resolve("--keep=latest", "--dry-run")
        finally:
            editor.alter_db_table(None, elsewhere, users)


@pytest.mark.parametrize("columns", [None, "id integer PRIMARY KEY, user_id bigint"])
def test_table_without_openids_is_named(columns):
    table = old_table(columns) if columns else table_replaced()
    with table, pytest.raises(CommandError, match="no table tb_oauth_qq with a column openid or open_id"):
        resolve("--keep=earliest")

"""The database of a shop that ran without this app, for the tests of the migration."""

import os
import re
from contextlib import contextmanager, redirect_stdout
from io import StringIO
from pathlib import Path

import pytest
from django.conf import settings
from django.core.management import call_command
from django.db import connection, connections

from apps.users.models import User

ALIAS = "old_shop"  # a database beside that of the other tests
ON_MYSQL = "mysql" in settings.DATABASES["default"]["ENGINE"]
MYSQL_DUMPS = ["django2-mysql57-utf8", "django3-mysql8-utf8mb4", "django4-mariadb-own-column"]
DUMPS = MYSQL_DUMPS if ON_MYSQL else ["sqlite"]
INITIAL = ["0001_initial"]
RECORDED = [[], INITIAL, [*INITIAL, "0002_auto_20190415_0903", "0003_oauthsinauser"]]
A, B, C = "A" * 32, "B" * 32, "C" * 32


@contextmanager
def table_replaced(*statements):
    """Put the table that these statements create in the place of ours, in the database of the other tests."""
    with connection.schema_editor(atomic=False) as editor:
        editor.alter_db_table(None, "tb_oauth_qq", "kept")
        try:
            for statement in statements:
                editor.execute(statement)
            yield
        finally:
            editor.execute("DROP TABLE IF EXISTS tb_oauth_qq")
            editor.alter_db_table(None, "kept", "tb_oauth_qq")


class OldShop:
    """The database of a shop that ran without this app, as its developers see it."""

    def __init__(self, connection):
        self.connection = connection

    def run(self, sql, *values):
        with self.connection.cursor() as cursor:
            cursor.execute(sql, values or None)
            return cursor.fetchall() if cursor.description else ()

    def clear(self, recorded=()):
        """Drop what earlier tests have made, and record these migrations, and no others, of the app label."""
        with self.connection.constraint_checks_disabled(), self.connection.cursor() as cursor:
            for info in self.connection.introspection.get_table_list(cursor):
                if "qq" in info.name.lower() or info.name.startswith("old_"):
                    self.run(f"DROP {'VIEW' if info.type == 'v' else 'TABLE'} IF EXISTS {info.name}")
        self.run("DELETE FROM django_migrations WHERE app = 'oauth'")
        for name in recorded:
            self.run("INSERT INTO django_migrations (app, name, applied) VALUES ('oauth', %s, '2019-04-15')", name)
        return self

    def set_up(self, dump=DUMPS[-1], recorded=(), nullable=False):
        """Create the table of this dump and record these migrations, and no others, of the app label."""
        self.clear(recorded)
        text = (Path(__file__).parent / "old_tables" / f"{dump}.sql").read_text("utf-8")
        if nullable:
            text = re.sub(r"(openid\W varchar.*) NOT NULL", r"\1 NULL", text)
        for statement in filter(str.strip, text.split(";\n")):
            self.run(statement)
        return self

    def bind(self, *bindings):
        """Bind as the old code does; each binding is (openid, user, day)."""
        insert = "INSERT INTO tb_oauth_qq (create_time, update_time, openid, user_id) VALUES (%s, %s, %s, %s)"
        for openid, user, day in bindings:
            self.run(insert, *[f"2020-01-0{day} 00:00:00"] * 2, openid, user)

    def rows(self):
        return [tuple(row) for row in self.run("SELECT id, openid, user_id FROM tb_oauth_qq ORDER BY id")]

    def everything(self):
        """Return the names of all tables, the exact definition of this one, and its rows with hidden columns."""
        tables = sorted(self.connection.introspection.table_names(include_views=True))
        if "tb_oauth_qq" not in tables:
            return tables, None, None
        if self.connection.vendor == "mysql":
            made = self.run("SHOW CREATE TABLE tb_oauth_qq")[0][1]
            made = re.sub(r"(ENGINE=\w+) AUTO_INCREMENT=\d+", r"\1", made)
            columns = [f"`{name}`" for name, *_ in self.run("SHOW COLUMNS FROM tb_oauth_qq")]
        else:
            made = self.run("SELECT name, sql FROM sqlite_master WHERE tbl_name = 'tb_oauth_qq' ORDER BY name")
            columns = "*"
        return tables, made, self.run(f"SELECT {', '.join(columns)} FROM tb_oauth_qq ORDER BY 1")

    def recorded(self):
        return [name for (name,) in self.run("SELECT name FROM django_migrations WHERE app = 'oauth' ORDER BY name")]

    def migrate(self, target=None):
        """Return what the migration printed."""
        with redirect_stdout(StringIO()) as printed:
            call_command("migrate", "oauth", *([target] if target else []), database=ALIAS, verbosity=0)
        return printed.getvalue()

    def resolve(self, *arguments, stdout=None):
        output = stdout or StringIO()
        call_command("qq_resolve_duplicates", *map(str, arguments), f"--database={ALIAS}", stdout=output)
        return output.getvalue()

    @property
    def url(self):
        """The database in the form of DATABASE_URL."""
        server = os.environ.get("DATABASE_URL", "sqlite:///").rpartition("/")[0]
        return f"{server}/{self.connection.settings_dict['NAME']}"


class ToOldShop:
    """A database router for tests that call the app itself: everything is in that database."""

    def db_for_read(self, model, **hints):
        return ALIAS

    db_for_write = db_for_read


@pytest.fixture(scope="module")
def database(django_db_setup, django_db_blocker, tmp_path_factory):
    """A migrated database beside the default one, with six users."""
    with django_db_blocker.unblock():
        default = connections["default"]
        name = ALIAS if default.vendor == "mysql" else str(tmp_path_factory.mktemp("old") / "db.sqlite3")
        if default.vendor == "mysql":
            OldShop(default).run(f"DROP DATABASE IF EXISTS {name}")
            OldShop(default).run(f"CREATE DATABASE {name} CHARACTER SET utf8mb4")
        connections.databases[ALIAS] = {**connections.databases["default"], "NAME": name}
        call_command("migrate", database=ALIAS, verbosity=0)
        User.objects.using(ALIAS).bulk_create(
            User(id=number, username=f"user {number}", mobile=f"1381234000{number}") for number in range(1, 7)
        )
        yield connections[ALIAS]
        connections[ALIAS].close()
        del connections.databases[ALIAS], connections[ALIAS]


@pytest.fixture
def shop(database, django_db_blocker):
    with django_db_blocker.unblock():
        yield OldShop(database)

"""The check that no other app's migrations can drop the table of bindings, in a shop whose model was in `users`."""

import os
import secrets
import sqlite3
from contextlib import closing

import pytest
from django.core.checks import run_checks
from django.db import connection

from apps.oauth.management.table import check_table
from tests.tools.processes import ROOT, manage

SETTINGS = """
from pathlib import Path
SECRET_KEY = "a key of this shop, for its tests only"
INSTALLED_APPS = ["django.contrib.auth", "django.contrib.contenttypes", "apps.oauth", "users"]
AUTH_USER_MODEL = "auth.User"
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": Path(__file__).parent / "db.sqlite3"}}
ROOT_URLCONF, urlpatterns = __name__, []
SILENCED_SYSTEM_CHECKS = [f"oauth.E{number:03}" for number in range(1, 22)]
"""
MODEL = """
from django.db import models
class OAuthQQUser(models.Model):
    openid = models.CharField(max_length=64, db_index=True)
    user = models.ForeignKey("auth.User", on_delete=models.CASCADE)
    create_time = models.DateTimeField(auto_now_add=True)
    update_time = models.DateTimeField(auto_now=True)
    class Meta:
        db_table = "tb_oauth_qq"
"""
DELETION = """
from django.db import migrations
class Migration(migrations.Migration):
    dependencies = [("users", "0001_initial")]
    operations = [{}]
"""
FLAG = """
from django.db import migrations, models
class Migration(migrations.Migration):
    run_before = [("oauth", "0001_initial")]
    dependencies = [("users", "0001_initial")]
    field = models.BooleanField(default=False, db_default=False)
    operations = [migrations.AddField("oauthqquser", "is_delete", field)]
"""
DELETE = 'migrations.DeleteModel("OAuthQQUser")'
STATE_ONLY = f"migrations.SeparateDatabaseAndState(state_operations=[{DELETE}])"
LOST = "users.OAuthQQUser {}, tb_oauth_qq: migrate would drop all bindings with it."
OWNS = LOST.format("owns this table in the state of its app's migrations")
LOSES = LOST.format("loses this table in a migration that is not applied yet")


class Shop:
    def __init__(self, folder):
        self.folder = folder
        self.environ = {**os.environ, "DJANGO_SETTINGS_MODULE": "shop", "PYTHONPATH": f"{folder}{os.pathsep}{ROOT}"}

    def write(self, **files):
        for name, text in files.items():
            path = self.folder / f"{name.replace('__', '/')}.py"
            path.parent.mkdir(exist_ok=True, parents=True)
            path.write_text(text)

    def manage(self, *arguments):
        return manage(self.environ, *arguments, cwd=self.folder)

    def bindings(self):
        with closing(sqlite3.connect(self.folder / "db.sqlite3")) as connection:
            return connection.execute("SELECT openid FROM tb_oauth_qq").fetchall()


@pytest.fixture
def old_shop(tmp_path):
    """A shop that has removed its model from users.models, and its database with a binding."""
    shop = Shop(tmp_path)
    shop.write(shop=SETTINGS.replace('"apps.oauth", ', ""), users__models=MODEL)
    (tmp_path / "users/__init__.py").touch()
    shop.manage("makemigrations", "users")
    shop.manage("migrate", "--verbosity=0")
    with closing(sqlite3.connect(tmp_path / "db.sqlite3")) as connection, connection:
        connection.execute("INSERT INTO auth_user VALUES (1, '', NULL, 0, 'zhang3', '', '', 0, 1, '2020-01-01', '')")
        connection.execute("INSERT INTO tb_oauth_qq VALUES (1, 'A', '2020-01-01', '2020-01-01', 1)")
    shop.write(shop=SETTINGS, users__models="")
    return shop


def test_model_of_another_app_is_an_error(old_shop):
    old_shop.write(users__models=MODEL)
    with pytest.raises(AssertionError) as refused:
        old_shop.manage("check", "--database=default")
    assert OWNS in str(refused.value)
    assert "(oauth.E022)" in str(refused.value)
    (old_shop.folder / "users/migrations/0001_initial.py").unlink()
    with pytest.raises(AssertionError, match=r"models\.E028"):  # Django's own
        old_shop.manage("check")


def test_removed_model_is_an_error_before_its_table_can_be_dropped(old_shop):
    with pytest.raises(AssertionError) as refused:
        old_shop.manage("migrate")
    assert OWNS in str(refused.value)
    old_shop.manage("makemigrations", "users")
    with pytest.raises(AssertionError) as refused:
        old_shop.manage("migrate")
    assert LOSES in str(refused.value)
    assert old_shop.bindings() == [("A",)]


def test_model_that_leaves_the_state_alone_passes_and_its_bindings_are_adopted(old_shop):
    old_shop.write(users__migrations__0002_state=DELETION.format(STATE_ONLY))
    assert "Applying oauth.0003_adopt_old_table... OK" in old_shop.manage("migrate")
    assert old_shop.bindings() == [("A",)]
    old_shop.manage("check", "--database=default")  # raises if an error is found
    old_shop.manage("migrate", "oauth", "zero")
    assert old_shop.bindings() == [("A",)]


def test_new_database_gets_the_table_once(old_shop):
    """Such as that of the shop's tests; without run_before, Django orders apps that do not depend on each other."""
    old_shop.write(users__migrations__0002_state=DELETION.format(STATE_ONLY))
    creation = old_shop.folder / "users/migrations/0001_initial.py"
    before = 'initial = True\n    run_before = [("oauth", "0001_initial")]'
    creation.write_text(creation.read_text().replace("initial = True", before))
    old_shop.manage("migrate")
    (old_shop.folder / "db.sqlite3").unlink()
    old_shop.manage("migrate")
    assert old_shop.bindings() == []


def test_new_database_fills_a_field_of_the_shop(old_shop):
    old_shop.write(users__migrations__0002_flag=FLAG)
    old_shop.write(users__migrations__0003_state=DELETION.format(STATE_ONLY).replace("0001_initial", "0002_flag"))
    (old_shop.folder / "db.sqlite3").unlink()
    old_shop.manage("migrate")
    with closing(sqlite3.connect(old_shop.folder / "db.sqlite3")) as connection:
        connection.execute("INSERT INTO tb_oauth_qq (openid, user_id, create_time, update_time) VALUES ('A', 1, 0, 0)")
        assert connection.execute("SELECT is_delete FROM tb_oauth_qq").fetchall() == [(0,)]


CREATE = """
from django.db import migrations, models
class Migration(migrations.Migration):
    operations = [migrations.CreateModel("OAuthQQUser", [("id", models.AutoField(primary_key=True))], options={})]
"""
BOTH = f"migrations.SeparateDatabaseAndState(database_operations=[{DELETE}], state_operations=[{DELETE}])"


@pytest.mark.parametrize(
    ("options", "operation", "expected"),
    [
        ({"db_table": "tb_oauth_qq"}, "migrations.RunPython(print)", OWNS),
        ({"db_table": "TB_OAUTH_QQ"}, "migrations.RunPython(print)", OWNS),
        ({"db_table": "tb_oauth_qq"}, DELETE, LOSES),
        ({"db_table": "tb_oauth_qq"}, 'migrations.AlterModelTable("OAuthQQUser", "old")', LOSES),
        ({"db_table": "tb_oauth_qq"}, BOTH, LOSES),
        ({"db_table": "tb_oauth_qq"}, STATE_ONLY, None),
        ({"db_table": "tb_oauth_qq", "managed": False}, "migrations.RunPython(print)", None),
        ({}, DELETE, None),
    ],
)
def test_migrations_that_own_or_would_lose_the_table(settings, db, tmp_path, monkeypatch, options, operation, expected):
    """Of the app admin, whose 0001_initial is applied, its 0002 is not."""
    package = f"migrations_{secrets.token_hex(4)}"
    (tmp_path / package).mkdir()
    (tmp_path / package / "__init__.py").touch()
    (tmp_path / package / "0001_initial.py").write_text(CREATE.replace("options={}", f"options={options}"))
    (tmp_path / package / "0002_next.py").write_text(DELETION.format(operation).replace('"users"', '"admin"'))
    monkeypatch.syspath_prepend(tmp_path)
    settings.MIGRATION_MODULES = {"admin": package}
    checked = run_checks(tags=["database"], databases=["default"])
    found = [error for error in checked if error.id == "oauth.E022"]
    assert [error.msg for error in found] == ([expected.replace("users", "admin")] if expected else [])
    assert [error for error in check_table(connection) if error.id == "oauth.E022"] == found  # the doctor's

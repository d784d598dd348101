"""`find_user` in a shop with another user model, several databases, and a table that ignores case."""

import os
import subprocess
import sys

from tests.tools.processes import ROOT
from tests.tools.requirements import requirement

# The fields of a user are in three tables, and the base manager hides every user.
MODELS = """
from django.contrib.auth.base_user import AbstractBaseUser, BaseUserManager
from django.db import models

class HidingManager(BaseUserManager):
    def get_queryset(self):
        return super().get_queryset().none()

class Person(models.Model):
    name = models.CharField(max_length=9)

class Login(AbstractBaseUser):
    login_id = models.UUIDField(primary_key=True)
    last_login = None

class Buyer(Person, Login):
    is_new = models.BooleanField()
    USERNAME_FIELD = "name"
    objects = HidingManager()

    class Meta:
        base_manager_name = "objects"
        ordering = ["is_new"]
"""
SCRIPT = """
from uuid import UUID
from django.conf import settings
import django
settings.configure(
    INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes", "apps.oauth", "buyers"],
    DATABASES={name: {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"} for name in ("default", "people")},
    AUTH_USER_MODEL="buyers.Buyer",
)
django.setup()
from buyers.models import Buyer
from django.core.management import call_command
from django.db import connections, transaction
from django.test.utils import CaptureQueriesContext
from apps.oauth.models import OAuthQQUser
from apps.oauth.user_lookup import find_user, lock_user

connections["people"].cursor().execute(
    "CREATE TABLE tb_oauth_qq (id integer PRIMARY KEY, user_id integer NOT NULL, openid text COLLATE NOCASE NOT NULL,"
    " create_time datetime, update_time datetime)"
)
for database in ("default", "people"):
    call_command("migrate", database=database, run_syncdb=True, verbosity=0)
buyer = Buyer(name="zhang3", login_id=UUID(int=7), is_new=True)
buyer.save(using="people")
OAuthQQUser(user=buyer, openid="A" * 32).save(using="people")
with CaptureQueriesContext(connections["people"]) as queries:
    found = find_user("A" * 32, "people")
    assert (found, found.name, found.login_id, found.is_new) == (buyer, "zhang3", UUID(int=7), True)
assert len(queries) == 1, queries.captured_queries
assert type(found) is Buyer and found._state.db == "people"
assert "_bound_openid" not in vars(found)
assert [find_user("A" * 32), find_user("B" * 32, "people"), find_user("a" * 32, "people")] == [None, None, None]
with transaction.atomic("people"):
    assert [lock_user(pk, "people") for pk in (buyer.pk, 8)] == [buyer, None]
"""


@requirement("3.3")
def test_find_user_reads_an_inherited_user_in_one_query_and_compares_exactly(tmp_path):
    (tmp_path / "buyers").mkdir()
    (tmp_path / "buyers/__init__.py").touch()
    (tmp_path / "buyers/models.py").write_text(MODELS)
    environ = {**os.environ, "PYTHONPATH": str(tmp_path)}
    command = [sys.executable, "-c", SCRIPT]
    done = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stderr

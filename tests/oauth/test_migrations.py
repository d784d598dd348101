"""`migrate` converts a shop's old table `tb_oauth_qq`, the reverse restores it, `qq_resolve_duplicates` prepares it."""

import json
import os
import tracemalloc
from contextlib import closing
from io import StringIO

import pytest
from django.core.management import CommandError
from django.db import connections

from apps.oauth.models import OAuthQQUser
from tests.oauth import old_shop as helpers
from tests.oauth.old_shapes import MYSQL_KEYS, create, insert, renamed, table
from tests.oauth.old_shop import ALIAS, DUMPS, INITIAL, ON_MYSQL, RECORDED, A, B, C, OldShop
from tests.tools.processes import manage
from tests.tools.requirements import requirement

database, shop = helpers.database, helpers.shop


@pytest.fixture
def old_shop(shop):
    return shop.set_up(recorded=INITIAL)


@pytest.fixture
def conflicting(old_shop):
    """Users 1 and 2 share an openid, and so do 3, 4 and 3 again."""
    old_shop.bind((A, 1, 2), (A, 2, 1), (B, 3, 3), (C, 5, 1), (B, 4, 4), (B, 3, 5))
    return old_shop


@requirement("3.3")
@pytest.mark.parametrize("dump", DUMPS)
@pytest.mark.parametrize("recorded", RECORDED, ids=len)
def test_old_table_is_converted_and_restored_exactly(shop, dump, recorded):
    shop.set_up(dump, recorded)
    shop.bind((A, 1, 2), (A, 1, 1), (A, 1, 1), (B, 2, 1), (B, 2, 2), (B.lower(), 3, 1), ("", 4, 1), ("?", 4, 1))
    before = shop.everything()

    assert "Rows that repeated a user's openid, now in tb_oauth_qq_merged: 3." in shop.migrate()
    ours = OAuthQQUser.objects.using(ALIAS).order_by("pk")
    converted = [(2, A, 1, None), (4, B, 2, None), (6, B.lower(), 3, None), (7, "", 4, None), (8, "?", 4, None)]
    assert list(ours.values_list("pk", "openid", "user_id", "unionid")) == converted
    with pytest.raises(Exception, match=r"Duplicate entry|UNIQUE constraint"):
        shop.bind((A, 2, 1))
    shop.bind((C, 5, 1))
    found = [shop.run("SELECT user_id FROM tb_oauth_qq WHERE openid = %s", each)[0][0] for each in (A, B, B.lower(), C)]
    assert found == [1, 2, 3, 5]
    ours.filter(openid=C).delete()

    shop.migrate("0001" if recorded else "zero")
    assert shop.everything() == before
    assert shop.recorded() == recorded

    shop.migrate()
    assert ours.count() == 5
    ours.filter(openid=A).delete()
    shop.migrate("0001" if recorded else "zero")
    # The rows that repeated a binding which was removed meanwhile are not restored.
    assert shop.rows() == [(4, B, 2), (5, B, 2), (6, B.lower(), 3), (7, "", 4), (8, "?", 4)]


@pytest.mark.parametrize("dump", DUMPS)
def test_rows_without_openid_are_kept(shop, dump):
    shop.set_up(dump, INITIAL, nullable=True)
    shop.bind((None, 1, 1), (None, 1, 1), (None, 2, 1), ("", 3, 1), (A, 4, 1), (A, 4, 1))
    before = shop.everything()
    assert "Rows that repeated a user's openid, now in tb_oauth_qq_merged: 1." in shop.migrate()
    ours = [(row.openid, row.user_id, str(row)) for row in OAuthQQUser.objects.using(ALIAS).order_by("pk")]
    assert ours == [(None, 1, "…"), (None, 1, "…"), (None, 2, "…"), ("", 3, "…"), (A, 4, "AAAAAA…")]
    shop.bind((None, 5, 1))  # the old code may still insert such rows
    shop.run("DELETE FROM tb_oauth_qq WHERE user_id = 5")
    shop.migrate("0001")
    assert shop.everything() == before


def test_existing_unique_index_is_kept_and_no_table_for_repeated_rows_is_created(old_shop):
    old_shop.run("CREATE UNIQUE INDEX of_the_shop ON tb_oauth_qq (openid)")
    old_shop.bind((A, 1, 1))
    before = old_shop.everything()
    assert old_shop.migrate() == ""
    assert "tb_oauth_qq_merged" not in old_shop.everything()[0]
    assert OAuthQQUser.objects.using(ALIAS).filter(unionid=None).count() == 1
    old_shop.migrate("0001")
    assert old_shop.everything() == before


def test_failed_migration_can_run_again(old_shop):
    old_shop.bind((A, 1, 1), (A, 1, 1), (B, 1, 1))
    before = old_shop.everything()
    old_shop.run("CREATE INDEX tb_oauth_qq_adopted_unionid ON tb_oauth_qq (update_time)")
    with_index = old_shop.everything()
    with pytest.raises(CommandError, match=r"convert tb_oauth_qq: .*tb_oauth_qq_adopted_unionid.* is unchanged\. "):
        old_shop.migrate()
    assert old_shop.everything() == with_index  # also the row that had been moved
    where = " ON tb_oauth_qq" if old_shop.connection.vendor == "mysql" else ""
    old_shop.run(f"DROP INDEX tb_oauth_qq_adopted_unionid{where}")
    old_shop.bind((B, 1, 1))  # the shop has stayed online
    old_shop.migrate()
    assert [row.openid for row in OAuthQQUser.objects.using(ALIAS).order_by("pk")] == [A, B]
    old_shop.migrate("0001")
    tables, definition, rows = old_shop.everything()
    assert (tables, definition, rows[:3]) == before
    assert [row[1] for row in old_shop.rows()] == [A, A, B, B]


def test_own_table_is_unchanged_and_dropped_with_the_app(shop):
    shop.set_up()
    shop.run("DROP TABLE tb_oauth_qq")
    made = {}
    for target in ("0003", None, "0001", None, "0002", None):
        shop.migrate(target)
        found = shop.everything()
        assert found == made.setdefault(target is None, found)
    shop.migrate("zero")
    assert "tb_oauth_qq" not in shop.connection.introspection.table_names()


def test_large_table_is_not_loaded_into_memory(old_shop):
    old_shop.run("""
        INSERT INTO tb_oauth_qq (create_time, update_time, openid, user_id)
        WITH RECURSIVE
            hundred (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM hundred WHERE n < 100),
            many (n) AS (SELECT a.n + 100 * b.n + 10000 * c.n FROM hundred a, hundred b, hundred c WHERE c.n <= 10)
        SELECT '2020-01-01', '2020-01-01', n - (n % 100 = 0), 1 FROM many
    """)
    tracemalloc.start()
    old_shop.migrate()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10_000_000
    assert OAuthQQUser.objects.using(ALIAS).count() == 99_000
    old_shop.migrate("0001")
    assert old_shop.run("SELECT COUNT(*), COUNT(DISTINCT openid) FROM tb_oauth_qq")[0] == (100_000, 99_000)


def test_openid_of_different_users_stops_the_migration_before_any_change(conflicting):
    conflicting.bind((C, 5, 1))
    before = conflicting.everything()
    with pytest.raises(CommandError) as refused:
        conflicting.migrate()
    assert str(refused.value).replace(" 00:00:00", "").splitlines() == [
        "Openids that tb_oauth_qq binds to different users: 2, in 5 rows."
        " A migration cannot decide which user keeps them, so nothing was changed.",
        "  AAAAAA…: row 2, user 2, bound 2020-01-01",
        "  AAAAAA…: row 1, user 1, bound 2020-01-02",
        "  BBBBBB…: row 3, user 3, bound 2020-01-03",
        "  BBBBBB…: row 5, user 4, bound 2020-01-04",
        "  BBBBBB…: row 6, user 3, bound 2020-01-05",
        "Choose who keeps them, then migrate again. --dry-run only shows what would be removed; FILE is a new file for"
        " the removed rows, outside of your code:",
        "  manage.py qq_resolve_duplicates --database old_shop --keep earliest --to FILE",
        "  manage.py qq_resolve_duplicates --database old_shop --keep latest --to FILE",
        "  manage.py qq_resolve_duplicates --database old_shop --keep-id ID … --to FILE",
    ]
    assert conflicting.everything() == before


def test_long_list_of_conflicts_is_truncated(old_shop):
    old_shop.bind(*[("", number % 6 + 1, 1) for number in range(60)])
    with pytest.raises(CommandError) as refused:
        old_shop.migrate()
    first, *lines = str(refused.value).splitlines()
    assert "to different users: 1, in 60 rows" in first
    assert (sum("(empty): row" in line for line in lines), lines[50]) == (50, "  … and 10 more rows")


@pytest.mark.parametrize(
    ("arguments", "left"),
    [
        (["--keep", "earliest"], [(2, A, 2), (3, B, 3), (4, C, 5)]),
        (["--keep", "latest"], [(1, A, 1), (4, C, 5), (6, B, 3)]),
        (["--keep-id", 1, 5], [(1, A, 1), (4, C, 5), (5, B, 4)]),
    ],
)
def test_resolve_removes_all_rows_but_one_and_saves_them(conflicting, tmp_path, arguments, left):
    columns = "id, create_time, update_time, openid, user_id"
    before = conflicting.run(f"SELECT {columns} FROM tb_oauth_qq ORDER BY id")
    file = tmp_path / "removed.jsonl"
    dry = conflicting.resolve(*arguments, "--to", file, "--dry-run")
    assert not file.exists()
    assert conflicting.run(f"SELECT {columns} FROM tb_oauth_qq ORDER BY id") == before

    output = conflicting.resolve(*arguments, "--to", file)
    assert output.splitlines()[:3] == dry.splitlines()[:3]
    assert f"Rows removed: 3, kept in {file}. Openids still to resolve: 0." in output
    assert conflicting.rows() == left
    assert file.stat().st_mode & 0o777 == 0o600
    kept = {openid: row_id for row_id, openid, _ in left}
    removed = sorted(map(json.loads, file.read_text("utf-8").splitlines()), key=lambda row: row["id"])
    expected = [[*map(str, row), str(kept[row[3]])] for row in before if row[0] != kept[row[3]]]
    assert [[str(row[name]) for name in (*columns.split(", "), "kept")] for row in removed] == expected

    conflicting.migrate()
    assert "Nothing to resolve" in conflicting.resolve(*arguments, "--to", file)
    assert conflicting.rows() == left


def test_resolve_without_a_file_needs_a_private_folder(conflicting, tmp_path, monkeypatch, settings):
    monkeypatch.chdir(tmp_path)
    before = conflicting.everything()
    for nowhere in (None, ""):
        settings.VAR_DIR = nowhere
        with pytest.raises(CommandError, match="Nothing was removed: add --to FILE"):
            conflicting.resolve("--keep=latest")
        assert "Rows that would be removed: 3." in conflicting.resolve("--keep=latest", "--dry-run")
    del settings.VAR_DIR
    with pytest.raises(CommandError, match="Nothing was removed: add --to FILE"):
        conflicting.resolve("--keep=latest")
    assert conflicting.everything() == before
    assert list(tmp_path.iterdir()) == []


def test_resolve_by_id_leaves_other_openids_alone_and_names_a_file(conflicting, tmp_path, monkeypatch, settings):
    settings.VAR_DIR, elsewhere = tmp_path / "var", tmp_path / "checkout"
    settings.VAR_DIR.mkdir()
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    output = conflicting.resolve("--keep-id", 1)
    (file,) = settings.VAR_DIR.iterdir()
    assert len(file.read_text().splitlines()) == 1
    assert file.stat().st_mode & 0o777 == 0o600
    assert list(elsewhere.iterdir()) == []
    assert output.splitlines()[0].endswith("; row 1 stays")
    assert f"Rows removed: 1, kept in {file}. Openids still to resolve: 1." in output
    with pytest.raises(CommandError, match="different users: 1, in 3 rows"):
        conflicting.migrate()


def test_resolve_reads_open_id_and_does_not_count_rows_whose_user_is_gone(shop, tmp_path):
    create(
        shop, table(openid=None, open_id="varchar(64)", create_time=None, keys=renamed(MYSQL_KEYS) if ON_MYSQL else ())
    )
    insert(shop, *({"open_id": A, "user_id": user} for user in (77, 1, 2)), {"open_id": B, "user_id": 3})
    with pytest.raises(CommandError, match="different users: 1, in 2 rows"):
        shop.migrate()
    assert "AAAAAA…: row 2, user 1; row 3 stays" in shop.resolve("--keep=latest", "--to", tmp_path / "removed")
    assert "Rows whose user is gone, now in tb_oauth_qq_merged: 1 (id 1)." in shop.migrate()
    assert [(row.openid, row.user_id) for row in OAuthQQUser.objects.using(ALIAS).order_by("pk")] == [(A, 2), (B, 3)]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--keep-id", 1, 4], r"No openid of different users in: row 4\."),
        (["--keep-id", 99], r"No openid of different users in: row 99\."),
        (["--keep-id", 3, 5], r"Rows 3, 5 have one openid"),
        (["--keep", "latest", "--to", "/nowhere/removed"], r"cannot create /nowhere/removed: No such file"),
        (["--keep", "latest", "--to", "taken"], r"cannot create taken: File exists"),
        (["--keep", "middle"], r"invalid choice"),
        ([], r"one of the arguments --keep --keep-id is required"),
    ],
)
def test_resolve_refuses_bad_arguments_and_changes_nothing(conflicting, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "taken").write_text("from last time")
    before = conflicting.everything()
    with pytest.raises(CommandError, match=message):
        conflicting.resolve(*arguments)
    assert conflicting.everything() == before
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [("taken", "from last time")]


@pytest.mark.servers
def test_resolve_changes_nothing_if_bindings_change_while_it_runs(conflicting, tmp_path):
    class Interfering(StringIO):
        def write(self, text):
            with closing(connections.create_connection(ALIAS)) as other:
                OldShop(other).run("DELETE FROM tb_oauth_qq WHERE openid = %s", A)
            return super().write(text)

    file = tmp_path / "removed.jsonl"
    with pytest.raises(CommandError, match="have changed in the meantime"):
        conflicting.resolve("--keep=latest", f"--to={file}", stdout=Interfering())
    assert [row[1] for row in conflicting.rows()] == [B, C, B, B]
    assert not file.exists()


def test_commands_from_the_shell(conflicting, tmp_path):
    """An operator sees no traceback and runs the commands that the message names."""
    settings = {"DJANGO_SETTINGS_MODULE": "meiduo.settings", "VAR_DIR": str(tmp_path)}
    environ = {**os.environ, **settings, "DATABASE_URL": conflicting.url}
    with pytest.raises(AssertionError, match="A migration cannot decide which user keeps them") as refused:
        manage(environ, "migrate")
    assert "Traceback" not in str(refused.value)
    unready = environ | {"QQ_REDIRECT_URI": "-"}
    manage(unready, "qq_resolve_duplicates", "--keep=earliest", f"--to={tmp_path}/removed.jsonl")
    assert "Applying oauth.0003_adopt_old_table... OK" in manage(environ, "migrate")
    assert manage(environ, "makemigrations", "--check", "--dry-run").startswith("No changes detected\n")
    assert conflicting.rows() == [(2, A, 2), (3, B, 3), (4, C, 5)]

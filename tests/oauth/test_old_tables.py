"""Tables as shops have them: each is adopted, serves a login and a binding, and comes back as it was; or is refused."""

import os
import pty
import re
import subprocess
import sys
import traceback
import warnings
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from threading import Event

import pytest
from django.core.management import CommandError, call_command
from django.db import connections

from apps.oauth.management.table import check_table
from apps.oauth.migrations._progress import describe
from apps.oauth.models import OAuthQQUser
from tests.oauth import old_shop as helpers
from tests.oauth.old_shapes import (
    COLUMNS,
    KILLED,
    MYSQL_KEYS,
    REFUSALS,
    REFUSED_BINDINGS,
    REFUSED_BY_THE_DATABASE,
    SHAPES,
    TIME,
    create,
    insert,
    table,
)
from tests.oauth.old_shop import ALIAS, INITIAL, ON_MYSQL, A, B, C, OldShop
from tests.tools import processes
from tests.tools.remote_users import RemoteUser, new_mobile, shop_and_qq

database, shop = helpers.database, helpers.shop

DEAD = 9  # the exit status of a process that these tests kill
# A process that dies before one of these leaves the same database as if it died before the next write.
NO_WRITE = r"\s*(SELECT|SHOW|PRAGMA|SET|BEGIN|SAVEPOINT|RELEASE SAVEPOINT|ROLLBACK TO SAVEPOINT|DO RELEASE_LOCK)\b"
EMPTY = "0002_exact_openid"  # this migration does nothing, and so is recorded before 0003 refuses


@pytest.fixture(scope="module")
def server(database, tmp_path_factory):
    """The shop and a stand-in for QQ over real HTTP, on the database whose table these tests exchange."""
    # The settings have a fast password hash.
    environ = {"DATABASE_URL": OldShop(database).url, "DJANGO_SETTINGS_MODULE": "tests.e2e.stops_settings"}
    with shop_and_qq(tmp_path_factory.mktemp("shop"), **environ) as (running, qq):
        yield running, qq


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
def test_old_table_serves_logins_and_comes_back_as_it_was(server, shop, settings, shape):
    settings.DATABASE_ROUTERS = ["tests.oauth.old_shop.ToOldShop"]  # for the doctor
    running, qq = server
    old, new = RemoteUser([running], qq), RemoteUser([running], qq)
    create(shop, shape.create)
    insert(shop, {shape.openid: qq.openid(old.person), "user_id": 1, **shape.more}, *shape.rows)
    before, columns = shop.everything(), kept_columns(shop)

    printed = shop.migrate()
    assert (shape.moved in printed) if shape.moved else printed == ""
    assert columns.items() <= kept_columns(shop).items()
    assert [*check_table(shop.connection)] == []  # the doctor's
    assert old.redeem_code(old.arrive()).json()["user_id"] == 1
    bound = new.bind(new.fill_in(new_mobile())).json()
    assert new.redeem_code(new.arrive()).json()["user_id"] == bound["user_id"]
    # The old code still reads the table, and writes to it.
    (found,) = shop.run("SELECT user_id FROM tb_oauth_qq WHERE openid = %s", qq.openid(new.person))
    assert found == (bound["user_id"],)
    insert(shop, {"openid": C, "user_id": 5})
    with pytest.raises(Exception, match=r"Duplicate entry|UNIQUE constraint"):
        insert(shop, {"openid": C, "user_id": 6})
    shop.run("DELETE FROM tb_oauth_qq WHERE user_id IN (5, %s)", bound["user_id"])

    shop.migrate("zero")
    assert_back(shop, before, shape)
    assert shop.recorded() == []

    # The same if the old app has recorded a 0001_initial of its own.
    for name in INITIAL:
        shop.run("INSERT INTO django_migrations (app, name, applied) VALUES ('oauth', %s, '2019-04-15')", name)
    shop.migrate()
    shop.migrate("0001")
    assert_back(shop, before, shape)
    assert shop.recorded() == INITIAL
    shop.migrate("zero")  # wrong here, but it must not drop the table
    assert_back(shop, before, shape)


def kept_columns(shop):
    """Return {column: what adoption must not change of it}; everything, except of openid and unionid."""
    if not ON_MYSQL:
        return {}  # SQLite has nothing that could get lost
    kept = {}
    for name, kind, collation, null, _, default, extra, _, comment in shop.run("SHOW FULL COLUMNS FROM tb_oauth_qq"):
        name = name.lower().replace("open_id", "openid")
        changes = {"openid": (null,), "unionid": ()}
        kept[name] = (default, extra, comment, *changes.get(name, (kind, collation, null)))
    return kept


def assert_back(shop, before, shape):
    tables, *made_and_rows = shop.everything()
    assert made_and_rows == list(before[1:])
    # From a table that looks like our own, only this tells that it must never be dropped.
    assert {*tables} - {*before[0]} <= ({"tb_oauth_qq_adopted"} if shape is SHAPES["exactly as ours"] else set())


@pytest.mark.parametrize("recorded", [[], INITIAL], ids=["nothing recorded", "0001 recorded"])
@pytest.mark.parametrize("refusal", REFUSALS.values(), ids=REFUSALS.keys())
def test_table_that_cannot_be_adopted_is_refused_untouched_with_the_way_out(shop, refusal, recorded):
    if re.search("VERSIONING| COMPRESSED", refusal.create) and not shop.connection.mysql_is_mariadb:
        pytest.skip("MariaDB only")
    create(shop, refusal.create, recorded)
    old_user = ({refusal.openid: "old user", "user_id": 1},) if refusal.openid else ()
    insert(shop, *old_user, *refusal.rows)
    before = shop.everything()
    with pytest.raises(CommandError) as refused:
        shop.migrate()
    assert str(refused.value) == f"{refusal.sentence} Then migrate again."
    assert (shop.everything(), shop.recorded()) == (before, recorded and [*recorded, EMPTY])
    if refusal.fix:
        for statement in refusal.fix.split(";"):
            shop.run(statement)
        shop.migrate()
        insert(shop, {"openid": C, "user_id": 5})
        assert OAuthQQUser.objects.using(ALIAS).get(openid=C).unionid is None


@pytest.mark.parametrize(("statements", "named", "fix"), REFUSED_BINDINGS.values(), ids=REFUSED_BINDINGS.keys())
def test_table_that_refuses_a_new_binding_is_refused_untouched(shop, statements, named, fix):
    create(shop, statements)
    insert(shop, {"openid": A, "user_id": 1})
    before = shop.everything()
    with pytest.raises(CommandError) as refused:
        shop.migrate()
    assert re.fullmatch(
        rf"tb_oauth_qq refuses a new binding: .*{named}.*: remove the constraint, key, trigger or column type that"
        r" stands in the way\. Then migrate again\.",
        str(refused.value),
    )
    assert (shop.everything(), shop.recorded()) == (before, [])
    if ON_MYSQL:
        shop.run(fix)
        shop.migrate()
        assert [*check_table(shop.connection)] == []


@pytest.mark.skipif(not ON_MYSQL, reason="SQLite counts spaces")
def test_openid_with_a_space_at_its_end_still_logs_in(server, shop):
    running, qq = server
    user = RemoteUser([running], qq)
    create(shop, table())
    insert(shop, {"openid": f"{qq.openid(user.person)} ", "user_id": 1})
    shop.migrate()
    assert user.redeem_code(user.arrive()).json()["user_id"] == 1


@pytest.mark.skipif(not ON_MYSQL, reason="SQLite refuses none of these")
@pytest.mark.parametrize("change", REFUSED_BY_THE_DATABASE.values(), ids=REFUSED_BY_THE_DATABASE.keys())
def test_change_that_the_database_refuses_is_explained_and_undone(shop, change):
    create(shop, change.create)
    insert(shop, *({change.openid: A, "user_id": user} for user in change.users))
    before = shop.everything()[1:]
    sentence = (
        rf"^The database refuses to convert tb_oauth_qq: .*{change.named}.* \(\d+\)\. The table is unchanged\."
        r" Remove what stands in the way, then migrate again\.$"
    )
    with pytest.raises(CommandError, match=sentence):
        shop.migrate()
    assert shop.everything()[1:] == before


@pytest.mark.parametrize("recorded", [[], INITIAL], ids=["nothing recorded", "0001 recorded"])
@pytest.mark.parametrize(
    ("name", "openid"),
    [("oauth_oauthqquser", "openid"), ("qq_users", "open_id"), *([("tb_oauth_QQ", "openid")] if ON_MYSQL else [])],
)
def test_table_under_another_name_is_named_and_renaming_it_helps(shop, recorded, name, openid):
    columns = {**COLUMNS, "openid": None, openid: "varchar(64)"}
    create(shop, table(name=name, keys=MYSQL_KEYS[:1] if ON_MYSQL else (), **columns), recorded)
    shop.run(f"INSERT INTO {name} ({openid}, user_id, create_time, update_time) VALUES (%s, 1, '{TIME}', '{TIME}')", A)
    before = shop.everything()
    with pytest.raises(CommandError) as refused:
        shop.migrate()
    assert str(refused.value) == (
        f"There is no table tb_oauth_qq, but {name} may hold the bindings of QQ: if so, rename it to tb_oauth_qq; if"
        " not, rename it so that its name has no qq in it. Then migrate again."
    )
    assert (shop.everything(), shop.recorded()) == (before, recorded and [*recorded, EMPTY])
    shop.run(f"ALTER TABLE {name} RENAME TO tb_oauth_qq")
    shop.migrate()
    assert OAuthQQUser.objects.using(ALIAS).get(openid=A).user_id == 1


def test_table_that_is_recorded_but_not_there_is_created(shop):
    create(shop, "CREATE TABLE old_qq_news (id integer)", INITIAL)
    shop.migrate()
    OAuthQQUser.objects.using(ALIAS).create(openid=A, user_id=1)
    with pytest.raises(Exception, match=r"Duplicate entry|UNIQUE constraint"):
        OAuthQQUser.objects.using(ALIAS).create(openid=A, user_id=2)
    assert "tb_oauth_qq_adopted" not in shop.everything()[0]
    shop.migrate("zero")
    assert "tb_oauth_qq" not in shop.everything()[0]


def test_moved_row_whose_id_is_taken_returns_under_another(shop):
    create(shop, table() if ON_MYSQL else table(id="integer PRIMARY KEY"))  # without AUTOINCREMENT, SQLite reuses ids
    insert(shop, *({"openid": A, "user_id": 1} for _ in range(3)))
    shop.migrate()
    insert(shop, {"id": 2, "openid": B, "user_id": 2})
    shop.migrate("zero")
    assert shop.rows() == [(1, A, 1), (2, B, 2), (3, A, 1), (4, A, 1)]


def test_moved_row_that_a_backup_has_brought_back_does_not_return_twice(shop):
    create(shop, table())
    insert(shop, {"openid": A, "user_id": 1}, {"openid": B, "user_id": 77})
    before = shop.everything()
    shop.migrate()
    insert(shop, {"id": 2, "openid": B, "user_id": 77})
    shop.migrate("zero")
    assert shop.everything() == before


def test_moved_rows_that_a_backup_has_brought_back_move_again(shop):
    create(shop, table())
    rows = [{"openid": A, "user_id": 1}, {"openid": A, "user_id": 1}, {"openid": B, "user_id": 77}]
    insert(shop, *rows)
    before = shop.everything()
    shop.migrate()
    shop.run("DROP TABLE tb_oauth_qq")
    shop.run("DELETE FROM django_migrations WHERE app = 'oauth'")
    shop.run(table())
    insert(shop, *rows)
    shop.migrate()
    assert shop.rows() == [(1, A, 1)]
    shop.migrate("zero")
    assert shop.everything() == before


def test_openid_of_a_gone_user_that_is_bound_again_keeps_its_old_row_apart(shop):
    create(shop, table("UNIQUE (openid)"))
    insert(shop, {"openid": A, "user_id": 1}, {"openid": B, "user_id": 77})
    before = shop.everything()
    for _ in range(2):
        shop.migrate()
        insert(shop, {"openid": B, "user_id": 2})
        assert "These rows stay in tb_oauth_qq_merged, because their openid is bound" in shop.migrate("zero")
        assert [row[1:] for row in shop.rows()] == [(A, 1), (B, 2)]
        shop.run("DELETE FROM tb_oauth_qq WHERE user_id = 2")
    shop.migrate()
    shop.migrate("zero")
    assert shop.everything() == before


def test_second_row_of_a_gone_user_that_cannot_stay_beside_the_first_is_named(shop):
    create(shop, table("UNIQUE (openid)"))
    insert(shop, {"openid": A, "user_id": 1}, {"openid": B, "user_id": 77})
    shop.migrate()
    insert(shop, {"openid": B, "user_id": 78})
    shop.migrate("zero")  # row 2 stays in tb_oauth_qq_merged
    before = shop.everything()
    with pytest.raises(CommandError) as refused:
        shop.migrate()
    assert str(refused.value) == (
        "Users of tb_oauth_qq are gone (id 3), but tb_oauth_qq_merged already has rows with the same id or openid:"
        " delete the rows in one of the two tables. Then migrate again."
    )
    assert shop.everything() == before
    shop.run("DELETE FROM tb_oauth_qq_merged")
    shop.migrate()
    assert shop.rows() == [(1, A, 1)]


@pytest.mark.parametrize(("recorded", "back"), [([], "zero"), (INITIAL, "0001")], ids=["nothing", "0001"])
def test_more_rows_that_have_to_move_after_fake_are_moved_once_the_table_is_back(shop, recorded, back):
    create(shop, table(), recorded)
    insert(shop, {"openid": A, "user_id": 1}, {"openid": B, "user_id": 77})
    before = shop.everything()
    shop.migrate()
    insert(shop, {"openid": C, "user_id": 78})
    fake = {"database": ALIAS, "fake": True, "verbosity": 0}
    call_command("migrate", "oauth", back, **fake)
    with pytest.raises(CommandError) as refused:
        shop.migrate()
    assert str(refused.value) == (
        "tb_oauth_qq_merged holds rows that were moved before tb_oauth_qq was converted, and more rows have to move"
        " now: go back first, with `manage.py migrate oauth --fake` and then `manage.py migrate oauth 0002`. Then"
        " migrate again."
    )
    call_command("migrate", "oauth", **fake)
    shop.migrate("0002")
    assert shop.rows() == [(1, A, 1), (2, B, 77), (3, C, 78)]
    assert "2 (ids 2, 3)" in shop.migrate()
    shop.migrate(back)
    shop.run("DELETE FROM tb_oauth_qq WHERE user_id = 78")
    assert (shop.everything(), shop.recorded()) == (before, recorded)


@pytest.mark.skipif(not ON_MYSQL, reason="SQLite has no widths")
def test_unionid_that_the_old_column_cannot_hold_does_not_stop_the_way_back(shop):
    changing = "timestamp NOT NULL DEFAULT '2020-01-01' ON UPDATE NOW()"
    create(shop, table(unionid="varchar(9) NOT NULL", update_time=changing, changed=changing))
    insert(shop, {"openid": A, "user_id": 1, "unionid": "old"})
    before = shop.everything()
    shop.migrate()
    insert(shop, {"openid": B, "user_id": 2, "unionid": None}, {"openid": C, "user_id": 3, "unionid": "U" * 36})
    shop.migrate("zero")
    found = shop.run("SELECT openid, unionid, CONCAT(update_time), CONCAT(changed) FROM tb_oauth_qq ORDER BY id")
    assert found == ((A, "old", TIME, TIME), (B, "", TIME, TIME), (C, "", TIME, TIME))
    shop.run("DELETE FROM tb_oauth_qq WHERE user_id > 1")
    assert shop.everything() == before


@contextmanager
def connecting(shop, monkeypatch, **options):
    """Connect with these options of the database while the block runs."""
    with monkeypatch.context() as patch:
        patch.setitem(shop.connection.settings_dict, "OPTIONS", shop.connection.settings_dict["OPTIONS"] | options)
        shop.connection.close()
        try:
            yield
        finally:
            shop.connection.close()


@pytest.mark.skipif(not ON_MYSQL, reason="SQLite has no modes")
@pytest.mark.parametrize("mode", ["TRADITIONAL,ANSI_QUOTES", "PAD_CHAR_TO_FULL_LENGTH,NO_BACKSLASH_ESCAPES"])
def test_sql_mode_of_the_shop_does_not_matter(shop, monkeypatch, mode):
    create(
        shop,
        table(
            openid=r"char(40) NOT NULL DEFAULT '0' COMMENT 'a\\b ''c'''",
            update_time="datetime NOT NULL DEFAULT '0000-00-00 00:00:00'",
            unionid="char(32) NOT NULL DEFAULT ''",
        ),
    )
    twice = {"openid": A, "user_id": 2, "update_time": "0000-00-00 00:00:00"}
    moved = twice | {"id": 0, "create_time": "2020-01-02"}
    insert(shop, {"openid": B, "user_id": 1}, twice, moved, {"openid": C, "user_id": 77})
    with connecting(shop, monkeypatch, init_command=f"SET sql_mode = '{mode}'"):
        before, set_mode = shop.everything(), shop.run("SELECT @@sql_mode")
        shop.migrate()
        assert [*check_table(shop.connection)] == []
        ours = OAuthQQUser.objects.using(ALIAS).order_by("pk")
        assert [(row.openid, row.user_id, row.unionid.strip()) for row in ours] == [(B, 1, ""), (A, 2, "")]
        shop.migrate("zero")
        assert (shop.everything(), shop.run("SELECT @@sql_mode")) == (before, set_mode)


@pytest.mark.skipif(not ON_MYSQL, reason="SQLite knows only Unicode")
def test_connection_that_cannot_read_the_definition_is_refused(shop, monkeypatch):
    create(shop, table(openid="varchar(64) COMMENT '小明'"))
    before = shop.everything()
    with connecting(shop, monkeypatch, charset="latin1"), pytest.raises(CommandError) as refused:
        shop.migrate()
    assert str(refused.value) == (
        "The connection uses latin1, in which comments and defaults of tb_oauth_qq may come back as question marks: set"
        " charset to utf8mb4 in the OPTIONS of DATABASES. Then migrate again."
    )
    assert shop.everything() == before


@pytest.mark.skipif(not ON_MYSQL, reason="SQLite does not tell values")
def test_database_that_refuses_is_quoted_without_whole_openids(shop):
    create(shop, table(keys=[*MYSQL_KEYS[:2], "UNIQUE KEY by_openid (openid)"]))
    insert(shop, {"openid": A, "user_id": 1})
    before = shop.everything()
    shop.migrate()
    insert(shop, {"openid": A.lower(), "user_id": 2})  # the old column cannot hold both
    with pytest.raises(CommandError) as refused:
        shop.migrate("zero")
    assert re.fullmatch(
        r"The database refuses to restore tb_oauth_qq: Duplicate entry '[Aa]{6}…' for key '\S*by_openid' \(1062\)\."
        r" tb_oauth_qq is still converted\. Delete or correct one of the rows, then migrate back again\.",
        str(refused.value),
    )
    shown = "".join(traceback.format_exception(refused.value))
    assert A.lower() not in shown.lower()
    shop.run("DELETE FROM tb_oauth_qq WHERE user_id = 2")
    shop.migrate("zero")
    assert shop.everything() == before


@pytest.mark.skipif(not ON_MYSQL, reason="locks of MySQL and MariaDB")
def test_migration_gives_up_if_another_transaction_uses_the_table_for_long(shop):
    create(shop, table())
    insert(shop, *({"openid": A, "user_id": 1} for _ in range(2)))
    before = shop.everything()
    with closing(connections.create_connection(ALIAS)) as other:
        other.set_autocommit(False)
        OldShop(other).run("SELECT * FROM tb_oauth_qq")
        action = "End the transaction that uses the table (SHOW PROCESSLIST), or wait for its end, then migrate again."
        with pytest.raises(CommandError, match=rf"Lock wait timeout .*\(1205\)\. .* unchanged\. {re.escape(action)}$"):
            shop.migrate()  # every login would wait behind it
        other.rollback()
    assert shop.everything()[1:] == before[1:]
    shop.migrate()


def test_way_back_that_died_runs_again_though_the_shop_has_changed_the_table(shop):
    create(shop, table(update_time=None, unionid="varchar(9)"))
    insert(shop, {"openid": A, "user_id": 1})
    shop.migrate()
    shop.run("ALTER TABLE tb_oauth_qq ADD COLUMN note varchar(9)")
    for number in (2, 3, 3, 3):  # on MySQL the last two are before and after ALTER TABLE of 0003
        dies(shop, number, "zero")
    shop.migrate("zero")
    assert shop.run("SELECT * FROM tb_oauth_qq")[0][2:] == (A, 1, None, None)


def test_table_comes_back_with_0001_if_0003_was_taken_back_with_fake(shop):
    create(shop, table())
    insert(shop, *({"openid": A, "user_id": user} for user in (1, 1, 77)))
    before = shop.everything()
    shop.migrate()
    shop.run("DELETE FROM django_migrations WHERE app = 'oauth' AND name <> '0001_initial'")
    shop.migrate("zero")
    assert shop.everything() == before


@pytest.mark.parametrize("state", ["found", "restored"])
def test_table_that_looks_like_ours_is_never_dropped(shop, state):
    create(shop, SHAPES["exactly as ours"].create)
    insert(shop, {"openid": A, "user_id": 1})
    before = shop.everything()[1:]
    shop.migrate("0001" if state == "found" else None)
    for target in ("zero", "0001", "zero", None, "0001", None, "zero"):
        shop.migrate(target)
        if target is not None:  # at the last migration the table has columns of our own too
            assert shop.everything()[1:] == before


@pytest.mark.servers
@pytest.mark.parametrize("is_watched", [True, False])
def test_work_of_more_than_two_seconds_shows_its_progress_where_somebody_watches(shop, tmp_path, is_watched):
    create(shop, table())
    insert(shop, {"openid": A, "user_id": 1})
    environ = {**os.environ, "DJANGO_SETTINGS_MODULE": "meiduo.settings", "VAR_DIR": str(tmp_path)}
    command = [sys.executable, "-m", "django", "migrate", "oauth", "--skip-checks"]
    terminal, its_end = pty.openpty()
    options = {"cwd": processes.ROOT, "env": {**environ, "DATABASE_URL": shop.url}, "stdout": subprocess.DEVNULL}
    with closing(connections.create_connection(ALIAS)) as other, open(terminal, "rb", buffering=0) as screen:
        other.set_autocommit(False)
        OldShop(other).run("SELECT * FROM tb_oauth_qq")  # ALTER TABLE waits for the end of this transaction
        stderr = its_end if is_watched else subprocess.PIPE
        with subprocess.Popen(command, stderr=stderr, **options) as process:
            os.close(its_end)
            try:
                if is_watched:
                    shown = screen.read(1000)  # blocks until there is something
                    assert shown.startswith(b"\r    Converting tb_oauth_qq: 1 rows, ")
                else:
                    waiting = "SELECT 1 FROM information_schema.processlist WHERE info LIKE 'ALTER TABLE%' AND time > 2"
                    processes.wait_until(lambda: shop.run(waiting), "ALTER TABLE waits")
            finally:
                other.rollback()
            assert process.wait(60) == 0
            if not is_watched:
                assert process.stderr.read() == b""


@pytest.mark.parametrize(
    ("part", "text"), [(None, "Work: 1,000 rows, 30 s so far"), (0.75, "Work: 750 of 1,000 rows, 10 s left")]
)
def test_progress_names_rows_and_time(part, text):
    assert describe("Work", 1000, part, 30) == text


def dies(shop, number, target):
    """Migrate in a process that is killed before the write of this number. Return whether there was such a write."""

    def kill(execute, sql, params, many, context):
        kill.count += not re.match(NO_WRITE, sql)
        if kill.count == number:
            os._exit(DEAD)
        return execute(sql, params, many, context)

    kill.count = 0
    shop.connection.close()
    with warnings.catch_warnings():  # newer Pythons warn of threads
        warnings.simplefilter("ignore")
        child = os.fork()
    if not child:
        try:
            with shop.connection.execute_wrapper(kill):
                shop.migrate(target)
            os._exit(0)
        finally:
            os._exit(1)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status in (0, DEAD)
    return status == DEAD


@pytest.mark.parametrize("recorded", [[], INITIAL], ids=["nothing recorded", "0001 recorded"])
@pytest.mark.parametrize("direction", ["forward", "back"])
def test_migration_that_is_killed_before_any_write_can_run_again(shop, direction, recorded):
    back = "0001" if recorded else "zero"
    target = None if direction == "forward" else back
    number, has_died = 0, True
    while has_died:
        number += 1
        create(shop, KILLED.create, recorded)
        insert(shop, {"open_id": B, "user_id": 1}, *KILLED.rows)
        before = shop.everything()
        if target:
            shop.migrate()
        has_died = dies(shop, number, target)
        shop.migrate(target)  # does nothing if that has not died
        if not target:
            ours = OAuthQQUser.objects.using(ALIAS).order_by("pk")
            assert [(row.openid, row.user_id) for row in ours] == [(B, 1), (A, 2)], number
            shop.migrate(back)
        assert (shop.everything(), shop.recorded()) == (before, recorded), number
    assert number > 8


def kill(lock, is_locked, statement, command):
    """Lock something, wait until a session waits for it in this statement, and end the session or the statement."""
    with closing(connections.create_connection(ALIAS)) as connection:
        other = OldShop(connection)

        def find():
            waiting = "SELECT id FROM information_schema.processlist WHERE info LIKE %s AND id <> CONNECTION_ID()"
            return other.run(waiting, f"%{statement}%")

        connection.set_autocommit(False)
        other.run(lock)
        is_locked.set()
        processes.wait_until(find, f"{statement} waits")
        other.run(f"{command} {find()[0][0]}")
        processes.wait_until(lambda: not find(), f"{statement} ends")


def migrate_killed(shop, statement, lock, command, target=None):
    """Migrate until that; return the words of the migration."""
    is_locked = Event()
    with ThreadPoolExecutor() as pool:
        killing = pool.submit(kill, lock, is_locked, statement, command)
        assert is_locked.wait(60)
        with pytest.raises(CommandError) as refused:
            shop.migrate(target)
        killing.result()
    shop.connection.close()
    return str(refused.value)


ALTERS = "ALTER TABLE %tb_oauth_qq% ", "SELECT id FROM tb_oauth_qq"
MOVES = "DELETE bound", "SELECT id FROM tb_oauth_qq FOR UPDATE"
RETURNS = "UPDATE tb_oauth_qq_merged", "SELECT id FROM tb_oauth_qq_merged FOR UPDATE"


@pytest.mark.servers
@pytest.mark.parametrize("command", ["KILL CONNECTION", "KILL QUERY"])
@pytest.mark.parametrize(("target", "where"), [(None, MOVES), (None, ALTERS), ("zero", ALTERS), ("zero", RETURNS)])
def test_migration_that_is_killed_by_the_server_can_run_again(shop, target, where, command):
    create(shop, KILLED.create)
    insert(shop, {"open_id": B, "user_id": 1}, *KILLED.rows)
    before = shop.everything()
    if target:
        shop.migrate()
    words = migrate_killed(shop, *where, command, target)
    if "The table is unchanged." in words:
        assert shop.everything()[1:] == before[1:]
    shop.migrate(target)
    shop.migrate("zero")
    assert shop.everything() == before


@pytest.mark.servers
def test_row_that_a_killed_migration_has_moved_keeps_its_id(shop):
    create(shop, table())
    insert(shop, {"openid": A, "user_id": 1}, {"id": 0, "openid": A, "user_id": 1, "create_time": "2020-01-02"})
    migrate_killed(shop, *ALTERS, "KILL CONNECTION")
    insert(shop, {"openid": A, "user_id": 1})  # the shop has stayed online
    assert ". The table is unchanged. " in migrate_killed(shop, *MOVES, "KILL CONNECTION")
    assert shop.rows() == [(0, A, 1), (1, A, 1), (3, A, 1)]


@pytest.mark.servers
@pytest.mark.parametrize(
    ("right", "target", "state"),
    [
        ("INSERT", None, "to convert tb_oauth_qq: INSERT command denied .* The table is unchanged. Grant .*"),
        (
            "CREATE",
            "zero",
            "to restore tb_oauth_qq: CREATE command denied .* Only tb_oauth_qq_adopted is still there. Grant .*",
        ),
    ],
)
def test_missing_right_is_named_and_the_migration_can_run_again(shop, monkeypatch, right, target, state):
    create(shop, table())
    insert(shop, *({"openid": A, "user_id": 1} for _ in range(2)))
    before = shop.everything()
    shop.migrate() if target else None
    rights = {"SELECT", "INSERT", "UPDATE", "DELETE", "CREATE", "ALTER", "DROP", "INDEX", "REFERENCES"} - {right}
    shop.run("DROP USER IF EXISTS poor")
    shop.run(f"CREATE USER poor IDENTIFIED BY '{A}'")
    shop.run(f"GRANT {', '.join(rights)} ON {ALIAS}.* TO poor")
    with monkeypatch.context() as patch:
        for name, value in {"USER": "poor", "PASSWORD": A}.items():
            patch.setitem(shop.connection.settings_dict, name, value)
        shop.connection.close()
        with pytest.raises(CommandError, match=f"^The database refuses {state}$"):
            shop.migrate(target)
        shop.connection.close()
    shop.run("DROP USER poor")
    shop.migrate(target)
    shop.migrate("zero")
    assert shop.everything() == before


def migrate_in_thread():
    try:
        call_command("migrate", "oauth", database=ALIAS, verbosity=0)
    finally:
        connections[ALIAS].close()


@pytest.mark.servers
def test_second_migration_at_the_same_time_waits_and_loses_no_row(shop):
    create(shop, KILLED.create)
    insert(shop, {"open_id": B, "user_id": 1}, *KILLED.rows)
    before = shop.everything()
    with closing(connections.create_connection(ALIAS)) as connection, ThreadPoolExecutor() as pool:
        other = OldShop(connection)

        def waits(statement):
            running = "SELECT 1 FROM information_schema.processlist WHERE info LIKE %s AND id <> CONNECTION_ID()"
            return other.run(running, f"%{statement}%")

        connection.set_autocommit(False)
        other.run("SELECT id FROM tb_oauth_qq FOR UPDATE")
        both = [pool.submit(migrate_in_thread) for _ in range(2)]
        processes.wait_until(lambda: waits("DELETE bound") and waits("GET_LOCK"), "one moves rows, and one waits")
        connection.rollback()
        for migration in both:
            migration.result()
    assert shop.run("SELECT COUNT(*) FROM tb_oauth_qq_merged") == ((3,),)
    shop.migrate("zero")
    assert shop.everything() == before

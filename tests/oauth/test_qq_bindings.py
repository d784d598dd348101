"""manage.py qq_bindings: what the support desk does in a shell; and a person's data, handed out and erased."""

import errno
import json
import os
import sys
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.db import connection

from apps.oauth.audit import hash_openid
from apps.oauth.models import OAuthQQUser
from apps.oauth.signals import qq_audited, qq_unbound
from tests.conftest import MOBILE
from tests.oauth import old_shop as helpers
from tests.oauth.old_shapes import create, insert, table
from tests.oauth.old_shop import ALIAS, A, B, C, table_replaced
from tests.tools.requirements import requirement

database, old_shop = helpers.database, helpers.shop

ASKED = "username, mobile number, e-mail address or id of an account; an openid, its first six characters or its hash: "


@pytest.fixture
def run(monkeypatch):
    """Run the command and type these lines; return (exit code, what it printed, error or what it asked)."""

    def run(*arguments, typed=""):
        printed, errors = StringIO(), StringIO()
        monkeypatch.setattr(sys, "stdin", StringIO(typed))
        try:
            call_command("qq_bindings", *map(str, arguments), stdout=printed, stderr=errors)
        except CommandError as exc:
            return exc.returncode, printed.getvalue(), errors.getvalue() + str(exc)
        return 0, printed.getvalue(), errors.getvalue()

    return run


@pytest.fixture
def heard(connect):
    heard = []
    connect(lambda event, fields, request, **_: heard.append((event, fields, request)), qq_audited)
    connect(lambda sender, signal, **sent: heard.append(sent), qq_unbound)
    return heard


def line(binding, mobile="138****5678"):
    openid = f"{binding.openid[:6]}… (in the log {hash_openid(binding.openid)})"
    bound = f"{binding.create_time:%Y-%m-%d %H:%M:%S} UTC"
    user = f"user {binding.user_id} {binding.user.username}"
    return f"row {binding.pk}: {user}, mobile {mobile}, {openid}, bound {bound}\n"


@pytest.mark.parametrize("key", ["zhang3", MOBILE, "{0.openid}", "{0}", "{0.user_id}", "hash"])
def test_binding_is_found(run, binding, key):
    key = hash_openid(binding.openid) if key == "hash" else key.format(binding)
    assert run("find", key) == (0, line(binding), "")
    assert run("find", typed=f"{key}\n") == (0, line(binding), ASKED)  # what is typed is in no shell's history


def test_account_goes_before_a_shortened_openid_of_the_same_six_characters(run, binding, django_user_model):
    user = django_user_model.objects.create_user("li4", pk=123456)
    named, other = (OAuthQQUser.objects.create(user=user, openid=openid) for openid in (A, f"123456{B[6:]}"))
    OAuthQQUser.objects.filter(pk=other.pk).update(user=binding.user)
    other.refresh_from_db()
    assert run("find", "123456") == (0, line(named, "-"), "")
    assert run("find", "123456…") == (0, line(other), "")


def test_what_is_not_found_is_named_and_the_exit_code_is_1(run, binding, django_user_model):
    other = django_user_model.objects.create_user("li4")
    assert run("find", "13900000000") == (1, "", "Nothing found: 13900000000")
    assert run("find", "li4") == (1, "", f"User {other.pk} has no QQ.")
    assert run("unbind", "li4", "--reason=lost phone") == (1, "", f"User {other.pk} has no QQ.")
    nobody = "Nothing was done: nobody answers. Give the key, and --yes where it asks."
    assert run("find") == (1, "", ASKED + nobody)
    django_user_model.objects.bulk_create(
        django_user_model(username=f"user {number}", email="a@b.example") for number in range(100)
    )
    assert run("find", "a@b.example") == (1, "", "100 accounts or more match. Name one by something else.")


@requirement("7.7")
@pytest.mark.parametrize("typed", [None, "y\n", "YES\n"])
def test_binding_is_unbound_once_it_is_confirmed(run, binding, heard, django_capture_on_commit_callbacks, typed):
    with django_capture_on_commit_callbacks(execute=True):
        assert run("unbind", MOBILE, f"--reason=call of {MOBILE}", *(["--yes"] if not typed else []), typed=typed) == (
            0,
            f"{line(binding)}Unbound: 1.\n",
            "Unbind 1? [y/N] " if typed else "",
        )
    assert not OAuthQQUser.objects.exists()
    reason, openid = "call of 138****5678", hash_openid(binding.openid)
    assert heard == [
        ("unbind", {"outcome": "ok", "openid": openid, "user_id": binding.user_id, "reason": reason}, None),
        {"request": None, "user": binding.user, "openid": binding.openid, "reason": reason},
    ]


def test_unbinding_is_refused_without_a_reason_a_yes_or_one_user(run, binding, django_user_model):
    openid = f"{binding.openid[:31]}{'0' if binding.openid[31] != '0' else '1'}"
    other = OAuthQQUser.objects.create(user=django_user_model.objects.create_user("li4"), openid=openid)
    lines, owners = line(binding) + line(other, "-"), f"{binding.user_id}, {other.user_id}"
    assert run("unbind", MOBILE, "--reason= ") == (1, "", "Nothing was done: --reason is empty.")
    refused = "Unbind 1? [y/N] Nothing was done"
    nobody = f"{refused}: nobody answers. Give the key, and --yes where it asks."
    assert run("unbind", MOBILE, "--reason=lost") == (1, line(binding), nobody)
    assert run("unbind", MOBILE, "--reason=lost", typed="no\n") == (1, line(binding), f"{refused}.")
    several = f"Nothing was done: users {owners} have these. Name rows with --row."
    assert run("unbind", binding, "--reason=lost", "--yes") == (1, lines, several)
    missing = "Nothing was done: not among the rows found: 998, 999."
    assert run("unbind", binding, "--reason=lost", "--yes", "--row", 999, 998) == (1, "", missing)
    assert OAuthQQUser.objects.count() == 2
    assert run("unbind", binding, "--reason=lost", "--yes", "--row", other.pk) == (
        0,
        f"{line(other, '-')}Unbound: 1.\n",
        "",
    )
    assert [row.pk for row in OAuthQQUser.objects.all()] == [binding.pk]


@pytest.fixture
def adopted(old_shop, shop, tmp_path):
    """An old table after its adoption.

    User 1 has A twice, and lost B to user 2, who had it first; user 4 lost C to user 3. User 77 is gone. An even older
    table had the openid of user 5 for nobody.
    """
    shop.VAR_DIR = tmp_path
    create(old_shop, table())
    rows = [(A, 1), (A, 1), (B, 2), (B, 1), (C, 3), (C, 4), ("D" * 32, 5), ("D" * 32, 5), ("E" * 32, 77)]
    insert(old_shop, *({"openid": openid, "user_id": user_id} for openid, user_id in rows))
    old_shop.resolve("--keep=earliest")
    old_shop.migrate()
    (path,) = tmp_path.glob("*.jsonl")
    with path.open("a") as file:
        file.write(json.dumps({"id": 1, "open_id": "D" * 32, "user_id": None}) + "\n")
    return old_shop


def left(adopted, tmp_path):
    """Return the (openid, user) of what is stored: bindings, moved rows, lines."""
    (path,) = tmp_path.glob("*.jsonl")
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [path]
    lines = map(json.loads, path.read_text().splitlines())
    bindings = [row[1:] for row in adopted.rows()]
    moved = adopted.run("SELECT openid, user_id FROM tb_oauth_qq_merged ORDER BY id")
    return (
        bindings,
        [tuple(row) for row in moved],
        [(row.get("openid") or row["open_id"], row["user_id"]) for row in lines],
    )


BINDINGS = [(A, 1), (B, 2), (C, 3), ("D" * 32, 5)]
MOVED = [(A, 1), ("D" * 32, 5), ("E" * 32, 77)]
LINES = [(B, 1), (C, 4), ("D" * 32, None)]


@requirement("10.9")
def test_everything_of_one_person_is_exported_and_erased_and_nothing_else(run, adopted, tmp_path, heard):
    assert left(adopted, tmp_path) == (BINDINGS, MOVED, LINES)
    (path,) = tmp_path.glob("*.jsonl")
    read = f"Files of qq_resolve_duplicates that were read: {path}.\n"
    code, printed, errors = run("export", "user 1", f"--database={ALIAS}")
    assert (code, errors) == (0, read)
    data = json.loads(printed)
    binding = OAuthQQUser.objects.using(ALIAS).get(user_id=1)
    times = {"create_time": str(binding.create_time), "update_time": str(binding.update_time)}
    profile = {"client_id": None, "nickname": None, "avatar": None}
    assert data["bindings"] == [{"id": 1, "user_id": 1, "openid": A, "unionid": None, **profile, **times}]
    (moved,), (saved,) = data["tb_oauth_qq_merged"], data["files"][str(path)]
    assert moved.items() >= {"id": 2, "user_id": 1, "openid": A, "moved_because": "repeated"}.items()
    assert saved.items() >= {"id": 4, "user_id": 1, "openid": B, "kept": 3}.items()
    assert data == {
        "user_id": 1,
        "bindings": data["bindings"],
        "tb_oauth_qq_merged": [moved],
        "files": {str(path): [saved]},
    }

    question = "Erase these bindings, 1 rows of tb_oauth_qq_merged, 1 lines of files? [y/N] "
    refused = run("erase", A, f"--database={ALIAS}", typed="n\n")
    assert refused == (1, line(binding, "138****0001"), f"{read}{question}Nothing was done.")
    assert left(adopted, tmp_path) == (BINDINGS, MOVED, LINES)
    assert heard == []
    erased = "Erased: 1 bindings, 1 rows of tb_oauth_qq_merged, 1 lines of files.\n"
    assert run("erase", A, f"--database={ALIAS}", typed="y\n") == (
        0,
        line(binding, "138****0001") + erased,
        read + question,
    )
    assert left(adopted, tmp_path) == (BINDINGS[1:], MOVED[1:], LINES[1:])
    assert heard == [
        {"request": None, "user": binding.user, "openid": A, "reason": "erased"},
        ("erase", {"outcome": "ok", "bindings": 1, "rows": 1, "lines": 1}, None),
    ]
    for action in (["export"], ["erase", "--yes"]):
        assert run(*action, "user 1", f"--database={ALIAS}") == (1, "", f"{read}Nothing is stored of this person.")


def test_shop_that_never_had_an_old_table_exports_and_erases(run, binding, shop, tmp_path):
    shop.VAR_DIR = tmp_path
    code, printed, _ = run("export", MOBILE)
    data = json.loads(printed)
    (exported,) = data["bindings"]
    assert (code, exported["openid"]) == (0, binding.openid)
    assert data == {"user_id": binding.user_id, "bindings": [exported], "tb_oauth_qq_merged": [], "files": {}}
    erased = "Erased: 1 bindings, 0 rows of tb_oauth_qq_merged, 0 lines of files.\n"
    assert run("erase", MOBILE, "--yes")[:2] == (0, line(binding) + erased)
    assert not OAuthQQUser.objects.exists()


@pytest.mark.parametrize(
    ("key", "bindings", "moved", "lines"),
    [
        ("77", BINDINGS, MOVED[:2], LINES),
        ("E" * 32, BINDINGS, MOVED[:2], LINES),
        ("user 4", BINDINGS, MOVED, [LINES[0], LINES[2]]),
        ("user 2", [*BINDINGS[:1], *BINDINGS[2:]], MOVED, LINES[1:]),
        ("user 5", BINDINGS[:3], [MOVED[0], MOVED[2]], LINES[:2]),
    ],
    ids=["id of a gone account", "openid of a gone account", "only a line", "openid in another's line", "moved row"],
)
def test_leftovers_are_erased_without_a_binding_too(run, adopted, tmp_path, key, bindings, moved, lines):
    assert run("erase", key, "--yes", f"--database={ALIAS}")[0] == 0
    assert left(adopted, tmp_path) == (bindings, moved, lines)


def test_binding_of_a_gone_account_is_found_and_unbound(run, adopted, heard):
    insert(adopted, {"id": 90, "openid": "F" * 32, "user_id": 77})
    code, printed, _ = run("unbind", "F" * 6, "--reason=gone", "--yes", f"--database={ALIAS}")
    assert (code, printed.partition(",")[0], len(adopted.rows())) == (0, "row 90: user 77 -", 4)
    assert heard[1] == {"request": None, "user": None, "openid": "F" * 32, "reason": "gone"}


def test_rows_without_an_openid_are_their_users_only(run, old_shop, shop, tmp_path):
    shop.VAR_DIR = tmp_path
    old_shop.set_up(nullable=True)
    old_shop.bind((None, 1, 1), (None, 2, 1), ("", 3, 1), ("", 4, 2))
    old_shop.resolve("--keep=earliest")
    old_shop.migrate()
    assert run("find", "0" * 12, f"--database={ALIAS}") == (1, "", f"Nothing found: {'0' * 12}")
    for user in (1, 3):
        code, printed, _ = run("erase", f"user {user}", "--yes", f"--database={ALIAS}")
        assert (code, printed.splitlines()[1:]) == (
            0,
            ["Erased: 1 bindings, 0 rows of tb_oauth_qq_merged, 0 lines of files."],
        )
    assert [row[1:] for row in old_shop.rows()] == [(None, 2)]
    assert run("erase", "--yes", f"--database={ALIAS}", typed=" \n") == (
        1,
        "",
        f"{ASKED}Nothing was done: the key is empty.",
    )


def test_several_people_are_not_erased_at_once(run, adopted, tmp_path):
    insert(adopted, {"id": 90, "openid": f"{'A' * 31}0", "user_id": 2})
    refused = "Nothing was done: users 1, 2 match. Name one by something else."
    assert run("erase", "AAAAAA", "--yes", f"--database={ALIAS}") == (1, "", refused)


def test_file_elsewhere_is_named_and_other_files_are_refused(run, adopted, tmp_path, shop):
    (path,) = tmp_path.glob("*.jsonl")
    del shop.VAR_DIR
    arguments = ["erase", "user 4", "--yes", f"--database={ALIAS}"]
    nothing = "Nothing is stored of this person."
    assert run(*arguments) == (1, "", f"Files of qq_resolve_duplicates that were read: none.\n{nothing}")
    missing, broken = tmp_path / "missing", tmp_path / "broken"
    assert run(*arguments, "--file", missing) == (
        1,
        "",
        f"Nothing was done: {missing} cannot be read: No such file or directory.",
    )
    for text in (b"{\n", b"[1]\n", b"\xff\n"):
        broken.write_bytes(text)
        code, printed, error = run(*arguments, "--file", path, broken)
        assert (code, printed) == (1, "")
        assert error in (
            f"Nothing was done: line 1 of {broken} is none of qq_resolve_duplicates.",
            f"Nothing was done: {broken} cannot be read: it is not text.",
        )
    broken.unlink()
    assert left(adopted, tmp_path)[2] == LINES
    assert run(*arguments, "--file", path)[0] == 0
    assert left(adopted, tmp_path)[2] == [LINES[0], LINES[2]]


def test_file_that_cannot_be_replaced_undoes_the_erasure(run, adopted, tmp_path, heard, monkeypatch):
    def refuse(*paths):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(os, "replace", refuse)
    (path,) = tmp_path.glob("*.jsonl")
    code, _, error = run("erase", "user 1", "--yes", f"--database={ALIAS}")
    assert (code, error.splitlines()[1:]) == (1, [f"Not erased: {path} cannot be replaced: Permission denied."])
    assert left(adopted, tmp_path) == (BINDINGS, MOVED, LINES)
    assert heard == []


def test_failing_database_is_named(run, transactional_db):
    with table_replaced():
        code, printed, error = run("find", MOBILE)
    kind = "ProgrammingError 1146" if connection.vendor == "mysql" else "OperationalError"
    hint = "manage.py qq_doctor says why. Look with `find` what was done."
    assert (code, printed, error) == (1, "", f"The database 'default' failed: {kind}. {hint}")

"""`manage.py qq_bindings`: find and remove bindings in a shell; export or erase the data of a person."""

import json
import sys
from argparse import ArgumentParser
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any

from django.contrib.auth import get_user_model
from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError, connections, router, transaction
from django.db.models import QuerySet

from ...audit import Event, hash_openid, record
from ...binding import unbind
from ...database import name_error
from ...models import OAuthQQUser
from ...redaction import clean_reason, shorten_openid
from ...support import MAX_USERS, Found, find, mask_owner
from ...user_lookup import with_users
from ..leftovers import MergedRows, Person, SavedLines, find_files

KEYS = "username, mobile number, e-mail address or id of an account; an openid, its first six characters or its hash"


class Command(BaseCommand):
    help = "Find the bindings of a user and remove them; export or erase what is stored of a person."
    requires_system_checks = ()  # a user's request does not wait until a setting is right

    def add_arguments(self, parser: ArgumentParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True)
        helps = {
            "find": "list bindings",
            "unbind": "remove bindings",
            "export": "print what is stored of one person, as JSON",
            "erase": "remove what is stored of one person; the account stays",
        }
        by_name: dict[str, ArgumentParser] = {name: actions.add_parser(name, help=text) for name, text in helps.items()}
        for name, action in by_name.items():
            action.add_argument("key", nargs="?", help=f"{KEYS}; asked for if it is left out, as shells keep arguments")
            action.add_argument("--database", choices=list(connections), help="default: the one that bindings are in")
            if name in ("unbind", "erase"):
                action.add_argument("--yes", action="store_true", help="do not ask")
            if name in ("export", "erase"):
                action.add_argument(
                    "--file", nargs="+", default=[], help="qq_resolve_duplicates' files outside VAR_DIR"
                )
        by_name["unbind"].add_argument("--reason", required=True, help="for the audit log; without names and numbers")
        by_name["unbind"].add_argument("--row", type=int, nargs="+", metavar="ID", help="only these of the rows found")

    def handle(self, *, action: str, key: str | None, database: str | None, **options: Any) -> None:
        database = database or router.db_for_write(OAuthQQUser)
        key = (self.ask(f"{KEYS}: ") if key is None else key).strip()
        if not key:
            raise CommandError("Nothing was done: the key is empty.")
        try:
            found = find(key, database)
            if len(found.user_ids) >= MAX_USERS:
                raise CommandError(f"{MAX_USERS} accounts or more match. Name one by something else.")
            if action in ("export", "erase"):
                person = identify(found, key, database)
                (self.export if action == "export" else self.erase)(person, database, **options)
            elif not found.bindings:
                accounts = f"User {join(found.user_ids)} has no QQ." if found.user_ids else f"Nothing found: {key}"
                raise CommandError(accounts)
            elif action == "find":
                self.show(found.bindings)
            else:
                self.unbind(found.bindings, database, **options)
        except DatabaseError as exc:
            problem = f"The database {database!r} failed: {name_error(exc)}."
            raise CommandError(f"{problem} manage.py qq_doctor says why. Look with `find` what was done.") from None

    def show(self, bindings: Iterable[OAuthQQUser]) -> None:
        for binding in bindings:
            name, mobile = mask_owner(binding)
            openid = f"{shorten_openid(binding.openid)} (in the log {hash_openid(binding.openid)})"
            bound = f"{binding.create_time:%Y-%m-%d %H:%M:%S %Z}".strip()
            self.stdout.write(
                f"row {binding.pk}: user {binding.user_id} {name}, mobile {mobile}, {openid}, bound {bound}"
            )

    def unbind(
        self,
        bindings: Sequence[OAuthQQUser],
        database: str,
        *,
        reason: str,
        row: Sequence[int] | None,
        yes: bool,
        **_: Any,
    ) -> None:
        if not clean_reason(reason):
            raise CommandError("Nothing was done: --reason is empty.")
        chosen = [binding for binding in bindings if row is None or binding.pk in row]
        if row and (missing := set(row) - {binding.pk for binding in chosen}):
            raise CommandError(f"Nothing was done: not among the rows found: {join(missing)}.")
        owners = {binding.user_id for binding in chosen}
        self.show(chosen)
        if row is None and len(owners) > 1:
            raise CommandError(f"Nothing was done: users {join(owners)} have these. Name rows with --row.")
        self.confirm(f"Unbind {len(chosen)}?", yes)
        rows = OAuthQQUser.objects.filter(pk__in=[binding.pk for binding in chosen])
        self.stdout.write(f"Unbound: {unbind(rows, reason, database=database)}.")

    def export(self, person: Person, database: str, *, file: Sequence[str], **_: Any) -> None:
        bindings, merged, files = self.collect(person, database, file)
        data = {
            "user_id": person.user_id,
            "bindings": list(bindings.values()),
            "tb_oauth_qq_merged": merged.read(),
            "files": {str(saved.path): saved.theirs for saved in files if saved.theirs},
        }
        self.stdout.write(json.dumps(data, default=str, ensure_ascii=False, indent=2))

    def erase(self, person: Person, database: str, *, file: Sequence[str], yes: bool, **_: Any) -> None:
        bindings, merged, files = self.collect(person, database, file)
        self.show(with_users(bindings))
        lines = sum(len(saved.theirs) for saved in files)
        self.confirm(
            f"Erase these bindings, {len(merged.read())} rows of tb_oauth_qq_merged, {lines} lines of files?", yes
        )
        # The files last: if one cannot be replaced, the database is rolled back, and the same key works again.
        with transaction.atomic(database):
            erased: dict[str, Any] = {
                "bindings": unbind(bindings, "erased", database=database, is_audited=False),
                "rows": merged.delete(),
                "lines": sum(saved.delete() for saved in files),
            }
        record(None, Event.ERASE, **erased)  # without the person, who is erased too
        self.stdout.write(
            "Erased: {bindings} bindings, {rows} rows of tb_oauth_qq_merged, {lines} lines of files.".format(**erased)
        )

    def collect(
        self, person: Person, database: str, named: Sequence[str]
    ) -> tuple[QuerySet[OAuthQQUser], MergedRows, Sequence[SavedLines]]:
        """Return where the person's data is. Raises CommandError if there is none."""
        bindings = OAuthQQUser.objects.using(database).filter(user_id__in=[person.user_id])
        merged = MergedRows(connections[database], person)
        files = [SavedLines(path, person) for path in find_files(named)]
        self.stderr.write(
            f"Files of qq_resolve_duplicates that were read: {join(saved.path for saved in files) or 'none'}.", str
        )
        if not (bindings.exists() or merged.read() or any(saved.theirs for saved in files)):
            raise CommandError("Nothing is stored of this person.")
        return bindings, merged, files

    def confirm(self, question: str, yes: bool) -> None:
        if not yes and self.ask(f"{question} [y/N] ").lower() not in ("y\n", "yes\n"):
            raise CommandError("Nothing was done.")

    def ask(self, question: str) -> str:
        self.stderr.write(question, str, ending="")  # not to stdout, which may go to a file
        answer = sys.stdin.readline()
        if not answer:
            raise CommandError("Nothing was done: nobody answers. Give the key, and --yes where it asks.")
        return answer


def identify(found: Found, key: str, database: str) -> Person:
    """Return the one person that was found. Raises CommandError if there are several.

    The key may also be the id of an account that is gone, or an openid that only old rows have.
    """
    user_ids = list({*found.user_ids, *(binding.user_id for binding in found.bindings)})
    if len(user_ids) > 1:
        raise CommandError(f"Nothing was done: users {join(user_ids)} match. Name one by something else.")
    pk: Any = get_user_model()._meta.pk
    if not user_ids:
        with suppress(ValidationError):
            user_ids = [pk.clean(key, None)]
    if not user_ids:
        return Person(None, [key])
    bindings = OAuthQQUser.objects.using(database).filter(user_id=user_ids[0])
    stored = pk.get_db_prep_value(user_ids[0], connections[database])
    openids = filter(None, bindings.values_list("openid", flat=True))  # an old table has rows without
    return Person(stored, [key, *openids])


def join(values: Iterable[Any]) -> str:
    return ", ".join(map(str, sorted(values)))

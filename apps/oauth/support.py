"""Find bindings by an account, an openid, or the hash of an openid in the audit log."""

import re
import time
from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.exceptions import ValidationError
from django.db import router
from django.db.models import QuerySet

from .audit import make_hash
from .models import OAuthQQUser
from .redaction import SHORT_OPENID, mask_mobiles
from .user_lookup import get_user, with_users

MAX_USERS = 100  # accounts that share an e-mail address, which many shops do not forbid
HASH = re.compile("[0-9a-f]{12}")  # as audit.hash_openid() makes it
AFTER_HEX = "~"  # sorts after every character of an openid
BATCH = 2000  # rows per query of a scan


@dataclass(frozen=True)
class Found:
    user_ids: list[Any]  # the accounts that the text names, bound or not
    bindings: list[OAuthQQUser]  # of these accounts, or of the openid that the text names; each with its user


class SearchTimeout(Exception):
    """A scan took too long. `last_pk`: of the last binding that was read; continue below it."""

    def __init__(self, last_pk: Any) -> None:
        super().__init__(last_pk)
        self.last_pk = last_pk


def find(text: str, database: str | None = None, seconds: float | None = None, below: Any = None) -> Found:
    """Find by username, mobile number, e-mail address or id of an account; or by openid, shortened openid or its hash.

    `text`: without spaces around it. `database`: an alias, by default the one that bindings are written to. `seconds`:
    raise SearchTimeout if a scan for a hash takes longer. `below`: the `last_pk` of an earlier one.
    """
    database = database or router.db_for_write(OAuthQQUser)
    if not text:
        return Found([], [])
    bindings = with_users(OAuthQQUser.objects.using(database)).order_by("pk")
    user_ids = find_user_ids(text, database)
    # A query for each: with OR, MySQL would read the whole table.
    found = [*bindings.filter(user_id__in=user_ids), *bindings.filter(openid=text)]
    short = text.removesuffix("…").removesuffix("...")
    if len(short) == SHORT_OPENID and (short != text or not (user_ids or found)):  # six digits may be an id
        # Not by `startswith`: for its LIKE BINARY, MariaDB reads the whole table (10 million rows: 8 s).
        found += bindings.filter(openid__gte=short, openid__lt=short + AFTER_HEX)
    if not (user_ids or found) and HASH.fullmatch(text):
        found += bindings.filter(pk__in=scan_for_hash(text, database, seconds, below))
    return Found(user_ids, list({binding.pk: binding for binding in found}.values()))


def find_user_ids(text: str, database: str) -> list[Any]:
    users, binding = get_user_model(), OAuthQQUser()
    binding._state.db = database  # the router gets it as a hint, and chooses the database of a binding's user
    names = {users._meta.pk.name, users.USERNAME_FIELD, "mobile"}
    if "@" in text:
        names.add(users.get_email_field_name())  # often without an index: other texts must not read all users
    ids: dict[Any, None] = {}
    for field in users._meta.concrete_fields:
        if field.name in names:
            try:
                value = field.to_python(text)
            except ValidationError:  # not a value of this field, such as a name where ids are numbers
                continue
            found = QuerySet(users, hints={"instance": binding}).filter(**{field.name: value})
            ids |= dict.fromkeys(found.values_list("pk", flat=True)[:MAX_USERS])
    return list(ids)


def scan_for_hash(wanted: str, database: str, seconds: float | None, below: Any) -> list[Any]:
    """Return the primary key of the binding whose openid has this hash, if any, in a list. The newest come first.

    A scan instead of a column with the hash: the column would be wrong after a change of SECRET_KEY, and would cost an
    index at every binding. The scan knows the old keys too, and is rarely needed, because the log names the `user_id`
    beside the hash of a bound openid. A million rows take 3 s.
    """
    hash_functions = [make_hash(key) for key in (settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS)]
    rows = OAuthQQUser.objects.using(database).order_by("-pk").values_list("pk", "openid")
    started = time.time()
    while batch := list((rows if below is None else rows.filter(pk__lt=below))[:BATCH]):
        for pk, openid in batch:
            if any(hash_openid(openid) == wanted for hash_openid in hash_functions):
                return [pk]
        below = batch[-1][0]
        if seconds is not None and time.time() - started > seconds:
            raise SearchTimeout(below)
    return []


def mask_owner(binding: OAuthQQUser) -> tuple[str, str]:
    """Return the user's name and mobile number to show, masked; "-" if there is none."""
    user = get_user(binding)
    return mask_mobiles(str(user or "-")), mask_mobiles(str(getattr(user, "mobile", None) or "-"))

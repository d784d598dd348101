"""Bind an openid to an account: both in one transaction, once, and safe to send again. And unbind it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, TypeVar

from django.contrib.auth import get_user_model
from django.contrib.auth.base_user import AbstractBaseUser
from django.core.exceptions import ImproperlyConfigured
from django.db import Error, IntegrityError, router, transaction
from django.db.models import QuerySet
from django.http import HttpRequest
from rest_framework.exceptions import Throttled
from rest_framework.request import Request
from rest_framework.serializers import BaseSerializer

from .audit import Event, Step, hash_openid, record
from .conf import conf
from .database import is_outage, repeat_after_conflict
from .errors import CacheUnavailable, QQLoginError
from .flow.flow import Flow
from .models import OAuthQQUser
from .profiles import find_profile, fit_nickname
from .qq import Profile, QQIdentity
from .ratelimit import get_rate_limit
from .redaction import clean_reason
from .signals import qq_unbound
from .user_lookup import find_user, find_user_by_unionid, get_user, lock_user, with_users

T = TypeVar("T")
MAX_FORMS = 5  # forms per flow, however many bind tokens it has


@dataclass(frozen=True)
class Bound:
    user: AbstractBaseUser
    is_repeat: bool  # the same form has bound it before, and the answer was lost


class AlreadyBound(Exception):
    """Another transaction has bound the openid first."""


def bind(request: Request, flow: Flow, identity: QQIdentity) -> Bound:
    """Bind the openid to the account that the request's form proves.

    Raises QQLoginError, the serializer's ValidationError, RateLimited and CacheUnavailable.
    """
    if find_user(identity.openid, get_database()) is None:
        with suppress(AlreadyBound):
            return Bound(_bind_new(request, flow, identity), is_repeat=False)
    user = find_user(identity.openid, get_database())
    if user is None or not flow.store.is_repeated_binding(request.data, user.pk):
        raise QQLoginError("already_bound")
    refuse_staff_and_disabled(user, status=400)
    return Bound(user, is_repeat=True)


def refuse_staff_and_disabled(user: AbstractBaseUser, status: int | None = None) -> None:
    """Raise account_refused for accounts that QQ must not open. `status`: other than the 403 of the table."""
    if not user.is_active or getattr(user, "is_staff", False) or getattr(user, "is_superuser", False):
        raise QQLoginError("account_refused", status=status)


def unbind(
    bindings: QuerySet[OAuthQQUser],
    reason: str,
    *,
    request: HttpRequest | Request | None = None,
    staff_id: Any = None,
    database: str | None = None,
    is_audited: bool = True,
) -> int:
    """Remove the bindings; return how many there were. After the commit, record each and send qq_unbound.

    `reason`: any text. `request`: None in a command. `staff_id`: the primary key of the employee who does it.
    `database`: an alias, by default the one that bindings are written to. `is_audited`: False if the caller records it.
    """
    database = database or get_database()
    # No savepoint: its rollback could hide from the caller that a cluster has rolled back the whole transaction.
    with transaction.atomic(database, savepoint=False):
        # Locked, so that only one of two simultaneous calls removes and reports a binding.
        removed = list(with_users(bindings.using(database)).select_for_update())
        OAuthQQUser.objects.using(database).filter(pk__in=[binding.pk for binding in removed]).delete()
        report = partial(_report_unbound, removed, clean_reason(reason), request, staff_id, is_audited)
        transaction.on_commit(report, using=database)
    return len(removed)


def _report_unbound(
    removed: list[OAuthQQUser], reason: str, request: HttpRequest | Request | None, staff_id: Any, is_audited: bool
) -> None:
    for binding in removed:
        if is_audited:
            openid = hash_openid(binding.openid)
            record(request, Event.UNBIND, openid=openid, user_id=binding.user_id, reason=reason, staff_id=staff_id)
        # Robust: this cannot be undone any more, and the signals of the other bindings must be sent too.
        sent = {"request": request, "user": get_user(binding), "openid": binding.openid, "reason": reason}
        qq_unbound.send_robust(get_user_model(), **sent)


@contextmanager
def counted_form(request: Request, flow: Flow | None = None) -> Iterator[None]:
    """Count a form that the block checks against its address, and its flow if it has one. Refund it if it is not wrong.

    Counted first, so that simultaneous attempts are limited too.
    """
    failure = get_rate_limit("qq_bind_failed").hit(request)
    if flow is not None and flow.store.count_form() > MAX_FORMS:
        raise QQLoginError("bind_tries")
    try:
        yield
    except (Throttled, AlreadyBound, CacheUnavailable, Error) as exc:
        # A limit of the shop's own, another call was first, or an outage: the form was not wrong.
        if not isinstance(exc, Error) or is_outage(exc):
            failure.refund()
            if flow is not None:
                flow.store.refund_form()
        raise
    failure.refund()


def insert_binding(openid: str, insert: Callable[[], T], *, is_last: bool = False) -> T:
    """Return what a function returns that is one whole transaction and inserts the openid's binding.

    Run it once more if a conflict has rolled it back, or if the binding it clashed with has been removed meanwhile.
    `is_last`: not for the second reason. Raises AlreadyBound.
    """
    try:
        return repeat_after_conflict(insert)
    except IntegrityError:
        if find_binding(openid) is not None:
            raise AlreadyBound from None
        if is_last:  # a clash in the shop's own save(), not over the openid
            raise
    return insert_binding(openid, insert, is_last=True)


def _bind_new(request: Request, flow: Flow, identity: QQIdentity) -> AbstractBaseUser:
    profile = find_profile(flow)
    context = make_form_context(request, flow, profile)
    serializer = conf.load(conf.ACCOUNT_SERIALIZER)(data=request.data, context=context)
    with counted_form(request, flow):
        serializer.is_valid(raise_exception=True)
        instance, row = serializer.instance, make_row(identity, profile)

        def save() -> AbstractBaseUser:
            serializer.instance = instance  # otherwise DRF would update an account that was rolled back
            return _save(serializer, flow, row, request.data)

        return insert_binding(identity.openid, save)


def make_form_context(request: Request, flow: Flow, profile: Profile) -> dict[str, Any]:
    """Return the context of the shop's serializer.

    `attempt` is the id of the login, not of this form; `profile` has nickname and avatar, or "".
    """
    view = request.parser_context["view"]  # as DRF sets it
    return {"request": request, "view": view, "attempt": flow.id, "profile": asdict(profile)}


def _save(serializer: BaseSerializer[Any], flow: Flow, row: dict[str, Any], form: Any) -> AbstractBaseUser:
    """Save account and binding."""
    with transaction.atomic(get_database()):
        user: AbstractBaseUser = serializer.save()
        if not isinstance(user, get_user_model()) or user.pk is None:
            fault = f"{conf.ACCOUNT_SERIALIZER}.save() returned {type(user).__name__}, not a saved user."
            raise ImproperlyConfigured(f"QQ_ACCOUNT_SERIALIZER: {fault}")
        refuse_staff_and_disabled(user, status=400)  # old pages show a message at this status only
        OAuthQQUser.objects.create(user_id=user.pk, **row)
        # Inside the transaction: if the process dies right after the commit, the repeat must find this note.
        flow.store.save_binding(form, user.pk)
    return user


def bind_by_unionid(step: Step, identity: QQIdentity) -> AbstractBaseUser | None:
    """Bind the identity to the one user who has its unionid, by another of the shop's applications; None if none has.

    Raises account_refused.
    """
    unionid, database = identity.unionid, get_database()
    found = find_user_by_unionid(unionid, database) if conf.UNIONID and unionid else None
    if found is None or unionid is None:
        return None

    def save() -> AbstractBaseUser | None:
        with transaction.atomic(database):
            # Locked and read again: the other binding may just be removed, to keep this QQ out.
            user = lock_user(found.pk, database)
            if user is None or find_user_by_unionid(unionid, database, lock=True) != user:
                return None
            refuse_staff_and_disabled(user)
            OAuthQQUser.objects.create(user_id=user.pk, **make_row(identity, Profile()))
            return user

    try:
        user = insert_binding(identity.openid, save)
    except AlreadyBound:  # by another call
        return find_user(identity.openid, database)
    if user is not None:
        step.record(Event.BIND, user_id=user.pk, reason="unionid")
    return user


def make_row(identity: QQIdentity, profile: Profile) -> dict[str, Any]:
    """Return the fields of a new binding, beside its user."""
    return {
        "openid": identity.openid,
        "unionid": identity.unionid,
        "client_id": identity.client_id or None,
        "nickname": fit_nickname(profile.nickname, get_database()) or None,
        "avatar": profile.avatar or None,
    }


def find_binding(openid: str) -> OAuthQQUser | None:
    """Return the binding of an openid, from the database that is written to."""
    binding: OAuthQQUser | None = OAuthQQUser.objects.using(get_database()).filter(openid=openid).first()
    return binding


def get_database() -> str:
    """Return the database that is written to. A replica may not know yet of a binding made just now."""
    return router.db_for_write(OAuthQQUser)

"""A signed-in user's QQs: add one, list them, remove one."""

from contextlib import suppress
from typing import Any

from django.contrib.auth import get_user_model
from django.db import IntegrityError, transaction
from django.db.models import QuerySet
from django.utils.translation import gettext_noop as _
from rest_framework.request import Request

from .binding import MAX_FORMS, find_binding, get_database, make_row, refuse_staff_and_disabled, unbind
from .conf import conf
from .database import repeat_after_deadlock
from .errors import CacheUnavailable, QQLoginError
from .flow.flow import Flow
from .language import translate
from .models import OAuthQQUser
from .profiles import find_profile
from .qq import QQIdentity
from .ratelimit import get_rate_limit

SENTENCES = {  # of already_bound, by whose the QQ is
    "this": _("这个 QQ 已经绑定在这个账号上。"),
    "another": _("这个 QQ 已经绑定了其他账号。请换一个 QQ，或先在那个账号里解除绑定。"),
}


def get_bindings(user: Any) -> QuerySet[OAuthQQUser]:
    """Return the user's bindings, the oldest first."""
    bindings: QuerySet[OAuthQQUser] = OAuthQQUser.objects.using(get_database()).filter(user_id=user.pk).order_by("pk")
    return bindings


def make_already_bound(binding: OAuthQQUser | None, user: Any) -> QQLoginError:
    """Return the error for a QQ that is bound already. It says only whether the account is the user's own."""
    if binding is None or user is None:  # removed meanwhile, or nobody is signed in
        return QQLoginError("already_bound")
    whose = "this" if binding.user_id == user.pk else "another"
    return QQLoginError("already_bound", message=translate(SENTENCES[whose]), fields={"account": whose})


def confirm(request: Request) -> None:
    """Check what the user confirms with. Raises ValidationError and RateLimited."""
    serializer = conf.load(conf.CONFIRM_SERIALIZER)(data=request.data, context={"request": request})
    serializer.is_valid(raise_exception=True)


def link(request: Request, flow: Flow, identity: QQIdentity) -> tuple[OAuthQQUser, bool]:
    """Bind the identity to the signed-in user, who confirms it. Return the binding, and whether it is new.

    Raises QQLoginError, ValidationError, RateLimited and CacheUnavailable.
    """
    user: Any = request.user
    refuse_staff_and_disabled(user)
    binding = find_binding(identity.openid)
    if binding is not None and binding.user_id == user.pk and flow.store.is_repeated_binding(request.data, user.pk):
        return binding, False  # the answer was lost
    if flow.store.count_form() > MAX_FORMS:
        raise QQLoginError("bind_tries")
    with get_rate_limit("qq_bind_failed").count_failures(request):
        confirm(request)
    with suppress(CacheUnavailable):
        flow.store.refund_form()
    if binding is None:
        row = make_row(identity, find_profile(flow))

        def save() -> OAuthQQUser:
            with transaction.atomic(get_database()):
                lock_account(user)
                created: OAuthQQUser = OAuthQQUser.objects.create(user_id=user.pk, **row)
                flow.store.save_binding(request.data, user.pk)
            return created

        with suppress(IntegrityError):
            return repeat_after_deadlock(save), True
        binding = find_binding(identity.openid)
    if binding is None or binding.user_id != user.pk:
        raise make_already_bound(binding, user)
    return binding, False


def unlink(request: Request, binding: OAuthQQUser) -> None:
    """Remove a binding of the signed-in user, who confirms it. Raises last_login_method if nothing else is left."""
    with get_rate_limit("qq_bind_failed").count_failures(request):
        confirm(request)
    with transaction.atomic(get_database()):
        # Locked: of two calls at once, the second sees what the first has left.
        user = lock_account(request.user)
        others = get_bindings(request.user).exclude(pk=binding.pk)
        if user is None or not (user.has_usable_password() or others.exists()):
            raise QQLoginError("last_login_method")
        unbind(get_bindings(request.user).filter(pk=binding.pk), "by the user", request=request)


def lock_account(user: Any) -> Any:
    """Lock the user's row until the transaction ends, and return it as it is now."""
    return QuerySet(get_user_model(), using=get_database()).select_for_update().filter(pk=user.pk).first()

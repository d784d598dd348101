"""A signed-in user's QQs: add one, list them, remove one."""

from typing import Any

from django.db import transaction
from django.db.models import QuerySet
from django.utils.translation import gettext_noop as _
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.request import Request

from .binding import (
    AlreadyBound,
    counted_form,
    find_binding,
    get_database,
    insert_binding,
    make_row,
    refuse_staff_and_disabled,
    unbind,
)
from .conf import conf
from .database import repeat_after_conflict
from .errors import QQLoginError
from .flow.flow import Flow
from .language import translate
from .models import OAuthQQUser
from .profiles import find_profile
from .qq import QQIdentity
from .user_lookup import lock_user

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


def confirm(request: Request, attempt: str) -> None:
    """Check what the user confirms with. Raises ValidationError and RateLimited.

    `attempt`: the same text for the same change, so that an outage after this check costs no second SMS code.
    """
    context = {"request": request, "attempt": attempt}
    conf.load(conf.CONFIRM_SERIALIZER)(data=request.data, context=context).is_valid(raise_exception=True)


def link(request: Request, flow: Flow, identity: QQIdentity) -> tuple[OAuthQQUser, bool]:
    """Bind the identity to the signed-in user, who confirms it. Return the binding, and whether it is new.

    Raises QQLoginError, ValidationError, RateLimited and CacheUnavailable.
    """
    user: Any = request.user
    refuse_staff_and_disabled(user)
    binding = find_binding(identity.openid)
    if binding is not None and binding.user_id == user.pk and flow.store.is_repeated_binding(request.data, user.pk):
        return binding, False  # the answer was lost
    row = make_row(identity, find_profile(flow))

    def save() -> OAuthQQUser:
        with transaction.atomic(get_database()):
            refuse_staff_and_disabled(lock_account(user))
            created: OAuthQQUser = OAuthQQUser.objects.create(user_id=user.pk, **row)
            flow.store.save_binding(request.data, user.pk)
        return created

    with counted_form(request, flow):
        confirm(request, flow.id)
        if binding is None:
            try:
                return insert_binding(identity.openid, save), True
            except AlreadyBound:
                binding = find_binding(identity.openid)
    if binding is None or binding.user_id != user.pk:
        raise make_already_bound(binding, user)
    return binding, False


def unlink(request: Request, binding: OAuthQQUser, reason: str) -> bool:
    """Remove a binding of the signed-in user, who confirms it. Return False if another call has removed it.

    `reason`: of the signal. Raises last_login_method if nothing else is left, and what `confirm` raises.
    """
    with counted_form(request):
        confirm(request, f"unlink {binding.pk}")

    def remove() -> bool:
        with transaction.atomic(get_database()):
            # Locked: of two calls at once, the second sees what the first has left, or is refused and repeated.
            user = lock_account(request.user)
            others = get_bindings(user).exclude(pk=binding.pk)
            if not (user.has_usable_password() or others.exists()):
                raise QQLoginError("last_login_method")
            return bool(unbind(get_bindings(user).filter(pk=binding.pk), reason, request=request, is_audited=False))

    return repeat_after_conflict(remove)


def lock_account(user: Any) -> Any:
    """Lock the signed-in user's row until the transaction ends, and return it as it is now.

    Raises AuthenticationFailed if the password has been changed since the confirmation, which may be why: a thief is
    signed in. Also if the account is gone or disabled.
    """
    locked = lock_user(user.pk, get_database())
    if locked is None or not locked.is_active or locked.password != user.password:
        raise AuthenticationFailed(translate(_("登录已失效，请重新登录。")))
    return locked

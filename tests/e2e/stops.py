"""The shop's serializer, payload and signal receiver, with stops at which a test holds a bind, and a list of binds."""

import json
import os

from django.conf import settings
from django.db import transaction
from django.db.models.signals import post_delete, post_save
from django.dispatch import receiver

from apps.oauth.models import OAuthQQUser
from apps.oauth.signals import qq_bound
from apps.users import serializers, tokens
from apps.users.models import User
from apps.users.signals import password_was_reset
from tests.tools import processes

SETTINGS = "tests.e2e.stops_settings"
# The moments of a bind, in their order. A registration and a password reset have the first one too.
USER_WRITTEN, BINDING_WRITTEN, COMMITTED, ANSWERING = "user-written", "binding-written", "committed", "answering"
UNBOUND = "unbound"  # of a call that removes a binding


class AccountSerializer(serializers.AccountSerializer):
    def save(self):
        user = super().save()
        transaction.on_commit(lambda: stop_at(COMMITTED))
        return user


def login_payload(user, request):
    stop_at(ANSWERING)
    return tokens.login_payload(user, request)


@receiver(post_save, sender=User)
def stop_after_new_user(created, **_):
    if created:
        stop_at(USER_WRITTEN)


@receiver(password_was_reset)
def stop_after_reset(**_):
    stop_at(USER_WRITTEN)


@receiver(post_save, sender=OAuthQQUser)
def stop_before_commit(**_):
    stop_at(BINDING_WRITTEN)


@receiver(post_delete, sender=OAuthQQUser)
def stop_after_unbind(**_):
    stop_at(UNBOUND)


@receiver(qq_bound)
def note_bind(user, **_):
    with (settings.VAR_DIR / "binds").open("a") as binds:
        binds.write(f"{user.pk}\n")


def noted_binds(var):
    """Return the ids of the users for whom qq_bound was sent, in the shop with this folder."""
    binds = var / "binds"
    return list(map(json.loads, binds.read_text().splitlines())) if binds.exists() else []


def stop_at(moment):
    """Wait here while a test's Stop holds this moment."""
    stop = Stop(settings.VAR_DIR, moment)
    if stop.order.exists():
        draft = stop.arrived.with_suffix(".draft")
        draft.write_text(str(os.getpid()))
        draft.rename(stop.arrived)
        processes.wait_until(lambda: not stop.order.exists(), "the test lets go")


class Stop:
    """While the block runs, a bind that reaches the moment is held there, in the shop with this folder."""

    def __init__(self, var, moment):
        self.order, self.arrived = var / f"stop-at-{moment}", var / f"stopped-at-{moment}"

    def __enter__(self):
        self.arrived.unlink(missing_ok=True)
        self.order.touch()
        return self

    def wait(self):
        """Wait until a bind is held; return the id of its process."""
        processes.wait_until(self.arrived.exists, "a bind has reached the stop")
        return int(self.arrived.read_text())

    def let_go(self, *_):
        self.order.unlink(missing_ok=True)

    __exit__ = let_go

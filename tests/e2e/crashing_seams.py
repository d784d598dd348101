"""What stands in the shop's seams while tests crash it: the shop's own, with stops, and a note of every bind."""

import json
import os
from pathlib import Path

from django.conf import settings
from django.db import transaction
from django.dispatch import receiver

from apps.oauth.signals import qq_bound
from apps.users import serializers, tokens
from tests.tools import processes

SETTINGS = "tests.e2e.crashing_settings"
# The moments of a bind, in their order.
USER_WRITTEN, COMMITTED, ANSWERING = "user-written", "committed", "answering"


class AccountSerializer(serializers.AccountSerializer):
    def save(self):
        user = super().save()
        transaction.on_commit(lambda: stop_at(COMMITTED))
        stop_at(USER_WRITTEN)
        return user


def login_payload(user, request):
    stop_at(ANSWERING)
    return tokens.login_payload(user, request)


@receiver(qq_bound)
def note_bind(user, **_):
    """Append the user to the list of `noted_binds`."""
    with (settings.VAR_DIR / "binds").open("a") as binds:
        binds.write(json.dumps(user.pk) + "\n")


def noted_binds(var):
    """Return the users that qq_bound has told of, in a shop with this folder."""
    binds = var / "binds"
    return list(map(json.loads, binds.read_text().splitlines())) if binds.exists() else []


def stop_at(moment):
    """Stay here as long as a test's Stop says so."""
    order, arrived = _files(settings.VAR_DIR, moment)
    if order.exists():
        draft = arrived.with_suffix(".draft")
        draft.write_text(str(os.getpid()))
        draft.rename(arrived)
        processes.wait_until(lambda: not order.exists(), "the test lets go")


class Stop:
    """While the block runs, the call of the shop with this folder that comes to the moment stays there."""

    def __init__(self, var, moment):
        self.order, self.arrived = _files(var, moment)

    def __enter__(self):
        self.arrived.unlink(missing_ok=True)
        self.order.touch()
        return self

    def wait(self):
        """Wait until a call has come there; return the process it is in."""
        processes.wait_until(self.arrived.exists, "a call has come to the stop")
        return int(self.arrived.read_text())

    def let_go(self):
        self.order.unlink(missing_ok=True)

    def __exit__(self, *_):
        self.let_go()


def _files(var: Path, moment):
    return var / f"stop-at-{moment}", var / f"stopped-at-{moment}"

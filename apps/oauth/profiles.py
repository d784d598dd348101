"""Nickname and avatar of a QQ user: asked for once per login, where a form will be shown, and kept with the binding."""

import logging
from contextlib import suppress

from django.db import connections

from .clients import make_profile_client
from .conf import conf
from .errors import CacheUnavailable
from .flow.flow import Flow
from .qq import Profile, QQError, QQIdentity

logger = logging.getLogger(__name__)

SMALL_UNICODE = {"utf8", "utf8mb3"}  # MySQL's character sets without emoji


def request_profile(flow: Flow, identity: QQIdentity) -> Profile:
    """Return the user's profile, from QQ if this call has just asked it for the identity. Never an error."""
    with suppress(CacheUnavailable):
        if (saved := flow.store.get_profile()) is not None:
            return saved
    if identity.access_token is None:  # a repeat, or a mini program, whose answer has no token
        return Profile()
    try:
        profile = make_profile_client().get_profile(identity)
    except QQError as exc:
        logger.warning("QQ gave no profile: %s: %s", type(exc).__name__, exc, extra={"flow": flow.id})
        return Profile()
    with suppress(CacheUnavailable):
        flow.store.save_profile(profile)
    return profile


def find_profile(flow: Flow) -> Profile:
    """Return the profile that the flow has got from QQ; an empty one if there is none."""
    return (flow.store.get_profile() if conf.PROFILE else None) or Profile()


def fit_nickname(nickname: str, database: str) -> str:
    """Return the nickname without what the connection to the database cannot carry: emoji, over MySQL's old utf8."""
    options = connections[database].settings_dict.get("OPTIONS", {})
    if connections[database].vendor != "mysql" or options.get("charset", "utf8mb4") not in SMALL_UNICODE:
        return nickname
    fitting = "".join(char for char in nickname if char <= "\uffff")
    if fitting != nickname:
        lost = len(nickname) - len(fitting)
        logger.info("A nickname is stored without %d of its characters: the connection is not utf8mb4.", lost)
    return fitting

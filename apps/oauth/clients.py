"""The clients of QQ for the settings in force: one object each, for all calls."""

from collections.abc import Mapping
from functools import cache
from typing import Any

from django.core.signals import setting_changed
from django.dispatch import receiver

from .conf import conf
from .qq import MiniQQ, OAuthQQ, PhoneCodeQQ, PhoneTokenQQ, ProfileQQ

PROFILE_TIMEOUT = 2.0  # seconds: the form can do without


@cache
def make_web_client() -> OAuthQQ:
    return OAuthQQ(
        client_id=conf.CLIENT_ID,
        client_secret=conf.CLIENT_SECRET,
        redirect_uri=conf.REDIRECT_URI,
        unionid=conf.UNIONID,
        **_get_options(),
    )


@cache
def make_token_client() -> PhoneTokenQQ:
    return PhoneTokenQQ(conf.APP_IDS, unionid=conf.UNIONID, **_get_options())


def make_code_client(client_id: str) -> PhoneCodeQQ | None:
    """Return the client of the phone app with this APP ID; None if its APP Key is not set.

    `client_id`: "" names the only app that has one.
    """
    keys = {id: key for id, key in conf.APP_IDS.items() if key} if isinstance(conf.APP_IDS, Mapping) else {}
    if not client_id and len(keys) == 1:
        client_id = next(iter(keys))
    return _make_code_client(client_id, keys[client_id]) if client_id in keys else None


@cache  # not of the function above: a stranger chooses its argument, and none of these may fill the memory
def _make_code_client(client_id: str, client_secret: str) -> PhoneCodeQQ:
    return PhoneCodeQQ(client_id, client_secret, unionid=conf.UNIONID, **_get_options())


@cache
def make_mini_client() -> MiniQQ:
    options = {**_get_options(), "api_url": conf.MINI_API_URL}
    return MiniQQ(client_id=conf.MINI_APP_ID, client_secret=conf.MINI_APP_SECRET, unionid=conf.UNIONID, **options)


@cache
def make_profile_client() -> ProfileQQ:
    timeout = min(PROFILE_TIMEOUT, conf.TIMEOUT)
    return ProfileQQ(api_url=conf.API_URL, timeout=timeout, max_concurrency=conf.MAX_CONCURRENCY)


@receiver(setting_changed)  # as tests do
def forget_clients(**kwargs: Any) -> None:
    for make in (make_web_client, make_token_client, _make_code_client, make_mini_client, make_profile_client):
        make.cache_clear()


def _get_options() -> dict[str, Any]:
    return {"api_url": conf.API_URL, "timeout": conf.TIMEOUT, "max_concurrency": conf.MAX_CONCURRENCY}

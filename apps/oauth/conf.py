"""The settings of the app: their names, their defaults, read at each use."""

from collections.abc import Callable
from functools import lru_cache
from typing import Any, Generic, TypeVar
from urllib.parse import urlsplit

from django.conf import settings
from django.urls import get_script_prefix, get_urlconf, reverse
from django.utils.module_loading import import_string
from django.utils.translation import get_language

from .qq import API_URL

T = TypeVar("T")


class Setting(Generic[T]):
    """`conf.NAME` reads `settings.QQ_NAME`, or the default given here."""

    def __init__(self, default: T) -> None:
        self.default = default

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = f"QQ_{name}"

    def __get__(self, instance: object, owner: type) -> T:
        value: T = getattr(settings, self.name, self.default)
        return value


@lru_cache  # bounded, as behind some servers a caller names the prefix
def _callback_path(urlconf: str, prefix: str, language: str | None) -> str:
    return reverse("oauth:callback", urlconf).rstrip("/")


class Conf:
    CLIENT_ID = Setting("")  # QQ's APP ID
    CLIENT_SECRET = Setting("")  # QQ's APP Key
    REDIRECT_URI = Setting("")  # registered with QQ: our callback/, or in direct mode the shop's page
    CALLBACK_PAGE = Setting("")  # the shop's page that gets ?code= or ?error=
    ACCOUNT_SERIALIZER = Setting("")  # dotted path: mobile, password, sms_code in; save() returns the user
    LOGIN_PAYLOAD = Setting("")  # dotted path: (user, request) -> the dict a logged-in page gets
    API_URL = Setting(API_URL)
    TIMEOUT: Setting[float] = Setting(5.0)  # seconds for a whole exchange with QQ
    MAX_CONCURRENCY = Setting(48)  # calls to QQ a process has open at once: 3/4 of 64 threads
    REQUIRE_COOKIE = Setting(True)
    UNIONID = Setting(False)

    @property
    def is_secure(self) -> bool:
        """Whether QQ sends the browser back over https, so that our cookie may demand it."""
        return urlsplit(self.REDIRECT_URI).scheme == "https"

    @property
    def is_direct(self) -> bool:
        """Whether QQ sends the browser straight to the shop's page: the registered address is not our callback/."""
        # All that reverse() goes by.
        callback = _callback_path(get_urlconf(settings.ROOT_URLCONF), get_script_prefix(), get_language())
        return urlsplit(self.REDIRECT_URI).path.rstrip("/") != callback

    @property
    def in_production(self) -> bool:
        """Whether real people log in: an application is named, QQ is the real one, and DEBUG is off."""
        return bool(self.CLIENT_ID) and not settings.DEBUG and self.API_URL.rstrip("/") == API_URL

    def load(self, path: str) -> Callable[..., Any]:
        """Import what a dotted-path setting names."""
        found: Callable[..., Any] = import_string(path)
        return found


conf = Conf()

"""The QQ_* settings and their defaults. Each is read from Django's settings at every use."""

from collections.abc import Callable
from functools import lru_cache
from typing import Any, Generic, TypeVar
from urllib.parse import urlsplit

from django.conf import settings
from django.urls import get_script_prefix, get_urlconf, reverse
from django.utils.module_loading import import_string
from django.utils.translation import get_language

from .qq import API_URL, MINI_API_URL

T = TypeVar("T")


class Setting(Generic[T]):
    """A typed property: `conf.NAME` is `settings.QQ_NAME`, or the default."""

    def __init__(self, default: T) -> None:
        self.default = default

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = f"QQ_{name}"

    def __get__(self, instance: object, owner: type) -> T:
        value: T = getattr(settings, self.name, self.default)
        return value


class Conf:
    """The settings of the app; a shop sets them with QQ_ in front of the name."""

    CLIENT_ID = Setting("")  # QQ's APP ID
    CLIENT_SECRET = Setting("")  # QQ's APP Key
    REDIRECT_URI = Setting("")  # registered with QQ: our callback/, or in direct mode the shop's page
    CALLBACK_PAGE = Setting("")  # the shop's page that gets ?code= or ?error=
    ACCOUNT_SERIALIZER = Setting("")  # dotted path: takes mobile, password, sms_code; save() returns the user
    LOGIN_PAYLOAD = Setting("")  # dotted path: (user, request) -> the dict that a login returns
    API_URL = Setting(API_URL)
    TIMEOUT: Setting[float] = Setting(5.0)  # seconds for a whole exchange with QQ
    MAX_CONCURRENCY = Setting(48)  # calls to QQ at once in a process: three quarters of 64 threads
    REQUIRE_COOKIE = Setting(True)  # False: also accept calls without the login's cookie, which is less safe
    UNIONID = Setting(False)  # ask QQ for the unionid too, and log in by it across the shop's own applications
    PROFILE = Setting(False)  # ask QQ for nickname and avatar where a form will be shown
    APP_IDS: Setting[Any] = Setting(())  # APP IDs of the shop's phone apps; {APP ID: APP Key} if they send codes
    MINI_APP_ID = Setting("")  # of the shop's QQ mini program
    MINI_APP_SECRET = Setting("")
    MINI_API_URL = Setting(MINI_API_URL)
    CONFIRM_SERIALIZER = Setting(f"{__package__}.confirmation.PasswordSerializer")  # dotted path; before a QQ is added

    @property
    def is_secure(self) -> bool:
        """Whether QQ sends the browser back over https, so that our cookie can be Secure."""
        return urlsplit(self.REDIRECT_URI).scheme == "https"

    @property
    def is_direct(self) -> bool:
        """Whether QQ returns directly to the shop's page: the registered URL is not our callback/."""
        return urlsplit(self.REDIRECT_URI).path.rstrip("/") != self.callback_path

    @property
    def callback_path(self) -> str:
        """callback/'s path without the final slash."""
        return get_callback_path(get_urlconf(settings.ROOT_URLCONF), get_script_prefix(), get_language())

    @property
    def calls_qq(self) -> bool:
        """Whether QQ itself is called, not a stand-in."""
        return str(self.API_URL).rstrip("/") == API_URL

    @property
    def in_production(self) -> bool:
        """Whether real users log in: an application is set, QQ is the real one, and DEBUG is off."""
        return bool(self.CLIENT_ID) and not settings.DEBUG and self.calls_qq

    def load(self, path: str) -> Callable[..., Any]:
        """Import the class or function at a dotted path; raises ImportError."""
        loaded: Callable[..., Any] = import_string(path)
        return loaded


@lru_cache  # bounded, because behind some servers the client chooses the prefix
def get_callback_path(urlconf: str, prefix: str, language: str | None) -> str:
    """Return callback/'s path without the final slash; the arguments are what reverse() depends on."""
    return reverse("oauth:callback", urlconf).rstrip("/")


conf = Conf()

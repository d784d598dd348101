"""Start-up checks: a wrong setting is named here, before a shopper finds it."""

import logging
import re
import sys
from importlib.util import find_spec
from typing import Any
from urllib.parse import urlsplit

from django.apps import apps
from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.cache import InvalidCacheBackendError, caches
from django.core.cache.backends.db import DatabaseCache
from django.core.cache.backends.dummy import DummyCache
from django.core.cache.backends.filebased import FileBasedCache
from django.core.cache.backends.locmem import LocMemCache
from django.core.cache.backends.redis import RedisCache
from django.core.checks import CheckMessage, Error, Warning, register
from django.urls import NoReverseMatch, reverse
from django.utils.module_loading import import_string
from rest_framework.serializers import BaseSerializer
from rest_framework.settings import api_settings

from .audit import logger as audit
from .conf import conf
from .validation import get_origin as origin_of
from .qq import API_URL
from .ratelimit import RATES
from .ratelimit import get_rate_limit as AddressThrottle

TAG = "qq_login"  # manage.py check --tag qq_login

# What other QQ logins of this family of shops call the same things.
OLD_NAMES = {"CLIENT_ID": "QQ_APP_ID", "CLIENT_SECRET": "QQ_APP_KEY", "REDIRECT_URI": "QQ_REDIRECT_URL"}

ENOUGH_ENTRIES = 100_000  # a cache that throws a used-up login out lets it in again


def error(number: int, fault: str, mend: str) -> list[CheckMessage]:
    return [Error(fault, hint=mend, id=f"oauth.E{number:03}")]


def warning(number: int, fault: str, mend: str) -> list[CheckMessage]:
    return [Warning(fault, hint=mend, id=f"oauth.W{number:03}")]


@register(TAG)
def check_client_id(**kwargs: Any) -> list[CheckMessage]:
    if not conf.CLIENT_ID:
        return warning(
            1,
            "QQ_CLIENT_ID is not set: nobody can log in with QQ.",
            rename("CLIENT_ID") or "Set it to the APP ID that QQ Connect's console shows for your application.",
        )
    if not isinstance(conf.CLIENT_ID, str):
        return error(1, f"QQ_CLIENT_ID is not text: {conf.CLIENT_ID!r}.", 'Quote it, as in "101000001".')
    if conf.CLIENT_ID.strip() != conf.CLIENT_ID:
        return error(1, f"QQ_CLIENT_ID has blanks around it: {conf.CLIENT_ID!r}.", "Take them away.")
    if not re.fullmatch("[0-9]+", conf.CLIENT_ID) and str(conf.API_URL).rstrip("/") == API_URL:
        return warning(10, f"QQ_CLIENT_ID has not only digits: {conf.CLIENT_ID!r}.", "QQ's APP IDs are numbers.")
    return []


@register(TAG)
def check_client_secret(**kwargs: Any) -> list[CheckMessage]:
    if not (isinstance(conf.CLIENT_SECRET, str) and conf.CLIENT_SECRET):
        mend = rename("CLIENT_SECRET")
        if mend or conf.CLIENT_ID:
            fault = "QQ_CLIENT_SECRET is not text." if conf.CLIENT_SECRET else "QQ_CLIENT_SECRET is not set."
            return error(2, fault, mend or "Set it to the APP Key beside the APP ID in QQ's console.")
    elif conf.CLIENT_SECRET.strip() != conf.CLIENT_SECRET:
        return error(2, "QQ_CLIENT_SECRET has blanks around it.", "Take them away.")
    return []


@register(TAG)
def check_redirect_uri(**kwargs: Any) -> list[CheckMessage]:
    if not is_address(conf.REDIRECT_URI) or "#" in conf.REDIRECT_URI:
        return error(
            3,
            f"QQ_REDIRECT_URI is not an address QQ can return to: {conf.REDIRECT_URI!r}.",
            rename("REDIRECT_URI")
            or "Set the address registered with QQ, as in https://api.example.com/oauth/qq/callback/, without a #.",
        )
    if not conf.is_secure and not settings.DEBUG and not is_loopback(conf.REDIRECT_URI):
        return warning(
            2,
            "QQ_REDIRECT_URI is http: another host of the site can plant the login's cookie.",
            "Serve the API over https and register its https address with QQ.",
        )
    return []


@register(TAG)
def check_callback_page(**kwargs: Any) -> list[CheckMessage]:
    if not is_address(conf.CALLBACK_PAGE):
        mend = "Set the address of the page that gets ?code=, as in https://www.example.com/oauth_callback.html."
        if is_address(conf.REDIRECT_URI) and is_mounted() and conf.is_direct:  # most shops had their page registered
            mend = f"Move it here if QQ_REDIRECT_URI has it; that is to be the API's {reverse('oauth:callback')}."
        return error(4, f"QQ_CALLBACK_PAGE is not an address: {conf.CALLBACK_PAGE!r}.", mend)
    is_ours = is_address(conf.REDIRECT_URI) and is_mounted() and not conf.is_direct
    if is_ours and is_one_page(conf.CALLBACK_PAGE, conf.REDIRECT_URI):
        return error(
            4,
            f"QQ_CALLBACK_PAGE is our callback/ itself, not a page of yours: {conf.CALLBACK_PAGE!r}.",
            "Set the address of the page that callback/ shall send the browser to.",
        )
    return []


@register(TAG)
def check_api_url(**kwargs: Any) -> list[CheckMessage]:
    if is_address(conf.API_URL) and conf.API_URL.rstrip("/") != API_URL.replace("https", "http"):
        if conf.API_URL.rstrip("/") == API_URL or is_loopback(conf.API_URL):
            return []
        return warning(
            7,
            f"QQ_API_URL is not QQ's: the app's key and all codes go to {conf.API_URL!r}.",
            "Leave it out, unless that is a stand-in of yours.",
        )
    return error(
        5,
        f"QQ_API_URL is not QQ's address, nor one of a stand-in: {conf.API_URL!r}.",
        "Leave it out, or name a stand-in's: http://127.0.0.1:8001.",
    )


@register(TAG)
def check_urls(**kwargs: Any) -> list[CheckMessage]:
    if not is_mounted():
        return error(
            6,
            "The QQ login views are not mounted.",
            f'Add path("oauth/qq/", include("{__package__}.urls")) to {settings.ROOT_URLCONF}.',
        )
    if not is_address(conf.REDIRECT_URI) or not conf.is_direct:
        return []
    if is_address(conf.CALLBACK_PAGE) and is_one_page(conf.CALLBACK_PAGE, conf.REDIRECT_URI):
        return []  # said twice: it is meant
    path, mount = urlsplit(conf.REDIRECT_URI).path, reverse("oauth:callback").removesuffix("callback/")
    if path.rstrip("/").endswith("/callback") or (mount != "/" and path.startswith(mount)):
        return warning(
            5,
            f"QQ_REDIRECT_URI {conf.REDIRECT_URI!r} is not our callback/, so QQ must return to a page of yours there.",
            f"If callback/ is meant, its path is {reverse('oauth:callback')}; behind a prefix set FORCE_SCRIPT_NAME.",
        )
    return []


@register(TAG)
def check_account_serializer(**kwargs: Any) -> list[CheckMessage]:
    found = check_path(7, "ACCOUNT_SERIALIZER", "a DRF serializer over mobile, password and sms_code", BaseSerializer)
    serializer = None if found else find_ready_serializer()
    if found or serializer:
        return found or check_ready_piece(serializer)
    own: Any = conf.load(conf.ACCOUNT_SERIALIZER)
    if all(getattr(own, name) is getattr(BaseSerializer, name) for name in ("create", "update", "save")):
        return error(7, "QQ_ACCOUNT_SERIALIZER has no create() or save().", "Write one, which returns the user.")
    return []


def find_ready_serializer() -> Any:
    """Return the shop's account serializer where that is the ready piece, or made from it; else None."""
    serializer: Any = conf.load(conf.ACCOUNT_SERIALIZER)
    shops = find_ready_pieces()
    return serializer if shops and issubclass(serializer, shops.AccountSerializer) else None


def find_ready_pieces() -> Any:
    """Return the module of the ready pieces, or None: a setting that leads there has been imported by now."""
    return sys.modules.get(f"{__package__}.shops")


def check_ready_piece(serializer: Any) -> list[CheckMessage]:
    """Look whether shops.AccountSerializer, or a subclass, fits the shop: else the first form is answered 500."""
    found: list[CheckMessage] = []
    try:
        import_string("django_redis.get_redis_connection")(serializer.connection)
    except Exception as exc:  # whatever an entry of CACHES makes of itself; its text may hold a password
        found += error(
            16,
            f"QQ_ACCOUNT_SERIALIZER has no django_redis connection {serializer.connection!r}: {type(exc).__name__}.",
            "Install django-redis, and name in a subclass, as `connection`, the entry of CACHES with the SMS codes.",
        )
    try:
        tells_apart = serializer.key.format(mobile="1") != serializer.key.format(mobile="2")
    except (AttributeError, LookupError, TypeError, ValueError):
        tells_apart = False
    if not tells_apart:
        found += error(
            17,
            f"QQ_ACCOUNT_SERIALIZER has a key without the mobile number: {serializer.key!r}.",
            'Write it as in key = "sms_{mobile}".',
        )
    user = get_user_model()._meta
    unique = {(field.name,) for field in user.concrete_fields if field.unique}
    if ("mobile",) not in unique | {constraint.fields for constraint in user.total_unique_constraints}:
        found += error(
            18,
            f"QQ_ACCOUNT_SERIALIZER needs a unique `mobile`, and {user.label} has none.",
            "Write a serializer of your own, or give the model that field with unique=True.",
        )
    return found


@register(TAG)
def check_login_payload(**kwargs: Any) -> list[CheckMessage]:
    found = check_path(8, "LOGIN_PAYLOAD", "a function (user, request) -> dict")
    shops = find_ready_pieces()
    if found or shops is None:
        return found
    packages = {shops.jwt_payload: "rest_framework_jwt", shops.simplejwt_payload: "rest_framework_simplejwt"}
    package = packages.get(conf.load(conf.LOGIN_PAYLOAD))
    try:
        if package:
            import_string(f"{package}.settings.api_settings")
    except ImportError as exc:
        return error(
            19,
            f"QQ_LOGIN_PAYLOAD needs {package}, which cannot be imported: {exc}.",
            "pip install djangorestframework-simplejwt, which is maintained, and name simplejwt_payload; or drf-jwt.",
        )
    return []


@register(TAG)
def check_timeout(**kwargs: Any) -> list[CheckMessage]:
    if isinstance(conf.TIMEOUT, (int, float)) and 0 < conf.TIMEOUT <= 60:
        return []
    return error(9, f"QQ_TIMEOUT is not a number of seconds up to 60: {conf.TIMEOUT!r}.", "Leave it out, or try 5.")


@register(TAG)
def check_max_connections(**kwargs: Any) -> list[CheckMessage]:
    if isinstance(conf.MAX_CONCURRENCY, int) and conf.MAX_CONCURRENCY >= 1:
        return []
    return error(
        10,
        f"QQ_MAX_CONCURRENCY is not a whole number from 1: {conf.MAX_CONCURRENCY!r}.",
        "Leave it out, or set three quarters of a process's threads.",
    )


@register(TAG)
def check_cache(**kwargs: Any) -> list[CheckMessage]:
    mend = "Use Redis, with maxmemory-policy noeviction."
    try:
        cache = caches["default"]
    except (InvalidCacheBackendError, ImportError) as exc:
        return error(14, f'CACHES["default"] cannot be used: {exc}', "Install the package its BACKEND needs.")
    if isinstance(cache, RedisCache) and not find_spec("redis"):
        return error(14, 'CACHES["default"] cannot be used: there is no module redis.', "pip install redis")
    if isinstance(cache, DummyCache):
        return error(11, 'CACHES["default"] keeps nothing: a used-up login could be used again.', mend)
    if isinstance(cache, LocMemCache) and conf.in_production:
        return error(12, 'CACHES["default"] is local memory: what one process used up works in the next.', mend)
    if isinstance(cache, (FileBasedCache, DatabaseCache)) and conf.in_production:
        return error(12, 'CACHES["default"] does not count in one step: two calls at once use up one thing.', mend)
    if isinstance(cache, (LocMemCache, FileBasedCache, DatabaseCache)) and cache._max_entries < ENOUGH_ENTRIES:
        return warning(
            3,
            f'CACHES["default"] throws entries out when it holds {cache._max_entries}, used-up logins among them.',
            f'{mend} While developing, OPTIONS with {{"MAX_ENTRIES": {ENOUGH_ENTRIES}}} will do.',
        )
    if reads_from_replicas(cache):
        return warning(
            9,
            'CACHES["default"] reads from replicas: these may not know yet what is used up, and logins fail.',
            'Name in LOCATION the one server that is written to; with Sentinel, as ["redis://…?is_master=1"].',
        )
    return []


def reads_from_replicas(cache: Any) -> bool:
    """Whether this is a Redis of several servers, by Django or django_redis, that are not shards."""
    client = cache if isinstance(cache, RedisCache) else getattr(cache, "client", None)
    servers = getattr(client, "_servers" if client is cache else "_server", None)
    is_sharded = any(kind.__name__ == "ShardClient" for kind in type(client).__mro__)
    return isinstance(servers, (list, tuple)) and len(servers) > 1 and not is_sharded


@register(TAG)
def check_cookie(**kwargs: Any) -> list[CheckMessage]:
    if conf.REQUIRE_COOKIE:
        return []
    return warning(
        4,
        "QQ_REQUIRE_COOKIE is off: a planted link can bind a stranger's QQ to a shopper's account.",
        "Give the page's calls credentials (withCredentials), or serve page and API from one origin.",
    )


@register(TAG)
def check_switches(**kwargs: Any) -> list[CheckMessage]:
    found = []
    for name in ("REQUIRE_COOKIE", "UNIONID"):
        value = getattr(conf, name)
        if not isinstance(value, bool):
            found += error(
                15, f"QQ_{name} is neither True nor False: {value!r}.", 'Write one of them; "False" is true.'
            )
    return found


@register(TAG)
def check_limits(**kwargs: Any) -> list[CheckMessage]:
    for scope in RATES:
        try:
            AddressThrottle(scope)
        except (ValueError, KeyError, IndexError, TypeError, AttributeError):
            rate = api_settings.DEFAULT_THROTTLE_RATES[scope]
            return error(
                13,
                f'REST_FRAMEWORK["DEFAULT_THROTTLE_RATES"] has no rate for {scope}: {rate!r}.',
                f'Leave it out, or write as in "{RATES[scope]}"; None takes the limit away.',
            )
    proxies = api_settings.NUM_PROXIES
    if proxies is not None and (not isinstance(proxies, int) or proxies < 0):
        return error(
            20,
            f'REST_FRAMEWORK["NUM_PROXIES"] is not a number from 0: {proxies!r}.',
            "Set it to the number of proxies in front of the shop, as an int.",
        )
    if proxies is None and conf.in_production:
        return warning(
            6,
            'REST_FRAMEWORK["NUM_PROXIES"] is not set: behind a proxy all shoppers share the limits of its address.',
            "Set it to the number of proxies in front of the shop, 0 if there is none.",
        )
    return []


@register(TAG)
def check_sentences(**kwargs: Any) -> list[CheckMessage]:
    if apps.is_installed("rest_framework"):
        return []
    return warning(
        11,
        "rest_framework is not in INSTALLED_APPS: what DRF itself says to a shopper is not translated.",
        'Add "rest_framework" to INSTALLED_APPS.',
    )


@register(TAG)
def check_audit(**kwargs: Any) -> list[CheckMessage]:
    if audit.isEnabledFor(logging.INFO) or not conf.in_production:
        return []
    return warning(
        8,
        "The logger meiduo.audit writes refusals only: logins and bindings are not recorded.",
        'Give it a handler and the level: LOGGING["loggers"]["meiduo.audit"] = {"handlers": […], "level": "INFO"}.',
    )


def is_loopback(address: str) -> bool:
    host = urlsplit(address).hostname or ""
    return host == "localhost" or host == "::1" or re.fullmatch(r"127(\.[0-9]{1,3}){3}", host) is not None


def rename(name: str) -> str:
    """Return how to mend a setting that is there by its old name; "" if it is not."""
    old = OLD_NAMES[name]
    if getattr(conf, name) or not getattr(settings, old, ""):
        return ""
    if name == "REDIRECT_URI":  # mostly the page's address
        return (
            f"Rename {old} to QQ_CALLBACK_PAGE if it is your page's address, and set QQ_REDIRECT_URI to callback/ of "
            f"the API, to be registered with QQ; if it is callback/ already, rename it to QQ_REDIRECT_URI."
        )
    return f"Rename {old} to QQ_{name}."


def is_mounted() -> bool:
    try:
        reverse("oauth:callback")
    except NoReverseMatch:
        return False
    return True


def is_one_page(address: str, other: str) -> bool:
    """Whether two addresses lead to the same place, whatever is asked for there: our callback/ needs no final slash."""
    one, two = ((origin_of(parts), parts.path.rstrip("/")) for parts in map(urlsplit, (address, other)))
    return one == two


def is_address(value: Any) -> bool:
    try:
        address = urlsplit(value)
        is_one = address.scheme in ("http", "https") and bool(address.hostname) and address.port != 0
        return is_one and not re.search(r"\s", value)  # urlsplit() drops some
    except (ValueError, TypeError, AttributeError):
        return False


def check_path(number: int, name: str, what: str, base: type = object) -> list[CheckMessage]:
    path, mend = getattr(conf, name), f"Set it to the dotted path of {what}."
    if not isinstance(path, str) or not path:
        return error(number, f"QQ_{name} is not set to a dotted path: {path!r}.", mend)
    try:
        loaded = conf.load(path)
    except ImportError as exc:
        return error(number, f"QQ_{name} cannot be imported: {exc}.", mend)
    is_one = issubclass(loaded, base) if isinstance(loaded, type) else base is object and callable(loaded)
    return [] if is_one else error(number, f"QQ_{name} is not {what}: {path!r}.", mend)

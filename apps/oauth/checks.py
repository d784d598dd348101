"""System checks: `manage.py check --tag qq_login`; with `--deploy`, those of production too.

Everything that can be checked without calling a server is a row of RULES. `manage.py qq_doctor` does the rest.
"""

import sys
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from inspect import iscoroutinefunction, signature
from logging import INFO, getLogger
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from django.apps import apps
from django.conf import settings
from django.core.cache import InvalidCacheBackendError, caches
from django.core.cache.backends import db, dummy, filebased, locmem
from django.core.checks import CheckMessage, Error, Warning, register
from rest_framework.serializers import BaseSerializer
from rest_framework.settings import api_settings

from .conf import conf
from .origins import get_mode, guess_site, has_domain, is_loopback, is_mounted, is_same_page, is_url
from .qq import API_URL, MINI_API_URL
from .ratelimit import RATES, get_rate_limit
from .redis_checks import has_one_server, has_usable_servers

TAG, CONTRIB = "qq_login", f"{__package__}.contrib.meiduo"
CACHE, PROXIES = 'CACHES["default"]', 'REST_FRAMEWORK["NUM_PROXIES"]'
UNSAFE_CACHES = (locmem.LocMemCache, filebased.FileBasedCache, db.DatabaseCache)  # they evict; not shared or not atomic


class Rule(NamedTuple):
    setting: str
    number: str  # E…: an error, after which the setting's further rows are not tried. W…: a warning.
    is_valid: Callable[[Any], Any]  # called with the value
    problem: str  # follows the setting's name; {} is the value (leave it out of secrets)
    hint: str
    deploy: bool = False


def is_serializer(path: str) -> bool:
    loaded = conf.load(str(path))
    return isinstance(loaded, type) and issubclass(loaded, BaseSerializer)


def is_saving_serializer(path: str) -> bool:
    loaded, methods = conf.load(str(path)), ("create", "update", "save")
    return is_serializer(path) and any(getattr(loaded, name) is not getattr(BaseSerializer, name) for name in methods)


def is_api_url(qq_url: str, value: Any) -> bool:
    return is_url(value) and value.rstrip("/") != qq_url.replace("https", "http")


def is_url_of_qq_or_stand_in(qq_url: str, value: Any) -> bool:
    return str(value).rstrip("/") == qq_url or is_loopback(value)


def is_app_ids(value: Any) -> bool:
    is_collection = isinstance(value, (list, tuple, set, frozenset, Mapping))
    return is_collection and all(isinstance(app_id, str) and app_id.isdecimal() for app_id in value)


def is_payload_function(path: str) -> bool:
    """Whether a function at the path takes user and request. A handler of rest_framework_jwt takes a token first."""
    loaded = conf.load(str(path))
    if not callable(loaded) or isinstance(loaded, type) or iscoroutinefunction(loaded):
        return False
    try:
        return next(iter(signature(loaded).bind("user", "request").arguments)) != "token"
    except (TypeError, ValueError):
        return False


def is_rate(scope: str, _: Any) -> bool:
    try:
        return bool(get_rate_limit(scope))
    except (ValueError, KeyError, IndexError, TypeError, AttributeError):
        return False


USE_REDIS = "Use Redis with maxmemory-policy noeviction."
COUNT_PROXIES = "Set it to the number of proxies in front of the shop, 0 if there is none."
# fmt: off
OLD_NAMES = {  # of tutorial shops, and of this app before its first release
    "QQ_APP_ID": "Rename it to QQ_CLIENT_ID.", "QQ_APP_KEY": "Rename it to QQ_CLIENT_SECRET.",
    "QQ_REDIRECT_URL": "Rename it to QQ_CALLBACK_PAGE if it is your page, as in most shops, else to QQ_REDIRECT_URI.",
    "QQ_MAX_CONNECTIONS": "Rename it to QQ_MAX_CONCURRENCY.",
    **dict.fromkeys(("QQ_STATE", "QQ_LOGIN_URL"), "Delete it: state and URL are made for each login."),
}
RULES = [
    Rule("ROOT_URLCONF", "E006", lambda _: is_mounted(), "does not mount the views of the QQ login: {!r}.",
         f'Add path("oauth/qq/", include("{__package__}.urls")) to it.'),
    Rule("QQ_CLIENT_ID", "W001", bool, "is not set: users cannot log in with QQ.",
         "Set it to the APP ID that QQ Connect's console shows for your application."),
    Rule("QQ_CLIENT_ID", "E001", lambda value: not value or value == str(value).strip(),
         "is not a string, or has whitespace around it: {!r}.", 'Write it as in "101000001".'),
    Rule("QQ_CLIENT_ID", "W010", lambda value: not value or value.isdecimal() or not conf.calls_qq,
         "has characters other than digits: {!r}.", "Copy the APP ID again: QQ's are numbers."),
    Rule("QQ_CLIENT_SECRET", "E002", lambda value: value == str(value).strip() if value else not conf.CLIENT_ID,
         "is not set, is no string, or has whitespace around it.", "Copy the APP Key from QQ Connect's console."),
    Rule("QQ_REDIRECT_URI", "E003", lambda value: is_url(value) and "#" not in value,
         "is not a URL that QQ can return to: {!r}.", "Set callback/'s URL, as registered with QQ, without a #."),
    Rule("QQ_REDIRECT_URI", "W002", lambda url: settings.DEBUG or conf.is_secure or is_loopback(url),
         "is http, so another host of the site can plant the login's cookie: {!r}.",
         "Serve the API over https and register its https URL with QQ."),
    Rule("QQ_REDIRECT_URI", "E023", lambda url: get_mode() != "direct" or is_same_page(url, conf.CALLBACK_PAGE),
         "is neither our callback/, {conf.callback_path}/, nor QQ_CALLBACK_PAGE: {!r}.",
         "Use callback/'s path, below a prefix with FORCE_SCRIPT_NAME; or set both to your page (direct mode)."),
    Rule("QQ_REDIRECT_URI", "W014", lambda _: get_mode() != "direct",
         "is not our callback/, so QQ returns to your page itself (direct mode): {!r}.",
         "The page must forward code and state to users/. If it knows only code, register callback/.", deploy=True),
    Rule("QQ_REDIRECT_URI", "W015", lambda url: has_domain(url) and not urlsplit(url).port,
         "has no domain, or has a port, and QQ's console may refuse it: {!r}.",
         "Register a domain with the default port. To try it on one machine, add it to the hosts file.", deploy=True),
    Rule("QQ_CALLBACK_PAGE", "E004",
         lambda url: is_url(url) and (get_mode() != "callback" or not is_same_page(url, conf.REDIRECT_URI)),
         "is not the URL of your page: {!r}.", "Set the page to which callback/ redirects, not callback/ itself."),
    Rule("QQ_CALLBACK_PAGE", "E021", lambda url: get_mode() != "callback" or conf.is_secure or url.startswith("http:"),
         "is https and the API http, so browsers block its calls: {!r} and {conf.REDIRECT_URI!r}.",
         "Serve the API over https, and register that URL with QQ.", deploy=True),
    Rule("QQ_CALLBACK_PAGE", "W020", lambda url: not conf.REQUIRE_COOKIE or get_mode() != "callback"
         or guess_site(url) == guess_site(conf.REDIRECT_URI),
         "and the API are two sites (scheme and domain), so browsers drop the cookie: {!r} and {conf.REDIRECT_URI!r}.",
         "Serve both over https below one domain; QQ_REQUIRE_COOKIE = False is the less safe way out.", deploy=True),
    *(rule for name, url in (("QQ_API_URL", API_URL), ("QQ_MINI_API_URL", MINI_API_URL)) for rule in (
        Rule(name, "E005", partial(is_api_url, url), "is neither QQ's URL nor a stand-in's: {!r}.",
             "Remove it, or set a URL as in http://127.0.0.1:8001."),
        Rule(name, "W007", partial(is_url_of_qq_or_stand_in, url),
             "is not QQ's: the APP Key and all codes are sent to {!r}.",
             "Remove the setting, unless it is your stand-in."),
        Rule(name, "W013", lambda value: not is_loopback(value),
             "is a stand-in's: {!r}. Users cannot log in with their own QQ.", "Remove it in production.", deploy=True),
    )),
    Rule("QQ_APP_IDS", "E024", is_app_ids, "is neither a list of APP IDs nor a dict {{APP ID: APP Key}}.",
         'Write it as in ["1106000001"], or as in {"1106000001": "its APP Key"} if the app sends codes.'),
    Rule("QQ_MINI_APP_ID", "E025", lambda value: not value or str(value).isdecimal(),
         "is not the AppID of a QQ mini program: {!r}.", "Copy it from the mini program's console, or remove it."),
    Rule("QQ_MINI_APP_SECRET", "E026", lambda value: bool(value) if conf.MINI_APP_ID else True,
         "is not set, and QQ_MINI_APP_ID is.", "Copy the AppSecret from the mini program's console."),
    Rule("QQ_CONFIRM_SERIALIZER", "E027", is_serializer, "is not a DRF serializer: {!r}.",
         "Remove it: users confirm with their password. Or set the dotted path of your own class."),
    Rule("QQ_ACCOUNT_SERIALIZER", "E007", is_saving_serializer,
         "is not a DRF serializer with create(), update() or save(): {!r}.",
         "Set it to the dotted path of a DRF serializer with mobile, password and sms_code that saves the user."),
    Rule("QQ_LOGIN_PAYLOAD", "E008", is_payload_function, "is not a function that takes user and request: {!r}.",
         "Set it to the dotted path of a function (user, request) -> dict."),
    Rule("QQ_TIMEOUT", "E009", lambda value: isinstance(value, (int, float)) and 0 < value <= 60,
         "is not a number of seconds up to 60: {!r}.", "Remove the setting, or try 5."),
    Rule("QQ_MAX_CONCURRENCY", "E010", lambda value: isinstance(value, int) and value >= 1,
         "is not a whole number from 1: {!r}.", "Remove the setting, or set three quarters of a process's threads."),
    *(Rule(name, "E015", lambda value: isinstance(value, bool), "is not True or False: {!r}.",
           'Set one of them; the string "False" counts as true.')
      for name in ("QQ_REQUIRE_COOKIE", "QQ_UNIONID", "QQ_PROFILE")),
    Rule("QQ_REQUIRE_COOKIE", "W004", bool, "is off: a planted link can bind a stranger's QQ to a user's account.",
         "Remove it once page and API are one origin, or both calls of users/ carry cookies (withCredentials)."),
    Rule(CACHE, "E014", bool, "cannot be imported.", "Install the package that its BACKEND needs."),
    Rule(CACHE, "E011", lambda cache: not isinstance(cache, dummy.DummyCache),
         "keeps nothing, so logins fail and no limit counts.", USE_REDIS),
    Rule(CACHE, "E012", lambda cache: not isinstance(cache, UNSAFE_CACHES) or not conf.in_production,
         "is not shared by all processes or not atomic, so logins fail and limits do not hold.", USE_REDIS),
    Rule(CACHE, "W003", lambda cache: not isinstance(cache, UNSAFE_CACHES) or cache._max_entries >= 10**5,
         "evicts entries when it holds {._max_entries}: logins fail, limits restart, used SMS codes may work again.",
         f"{USE_REDIS} While developing: MAX_ENTRIES = 100000."),
    Rule(CACHE, "E028", has_usable_servers,
         "has options for Sentinel or Redis Cluster that do not work together, or writes to a replica.",
         'For Sentinel: LOCATION = ["redis://NAME/0"], and in OPTIONS CONNECTION_FACTORY = '
         '"django_redis.pool.SentinelConnectionFactory" and SENTINELS. For a cluster: a factory of your own.'),
    Rule(CACHE, "W009", has_one_server, "reads from replicas: these may lag behind, and logins fail.",
         'Name in LOCATION only the server that is written to; with Sentinel, as ["redis://…?is_master=1"].'),
    *(Rule(f'REST_FRAMEWORK["DEFAULT_THROTTLE_RATES"]["{scope}"]', "E013", partial(is_rate, scope),
           "is not a rate: {!r}.", f'Remove it, or write it as in "{rate}"; None removes the limit.')
      for scope, rate in RATES.items()),
    Rule(PROXIES, "E020", lambda value: value is None or (isinstance(value, int) and value >= 0),
         "is not a whole number from 0: {!r}.", COUNT_PROXIES),
    Rule(PROXIES, "W006", lambda value: value is not None or not conf.in_production,
         "is not set, so behind a proxy all users share the limits of its address.", COUNT_PROXIES),
    Rule("SECURE_SSL_REDIRECT", "W017",
         lambda on: not on or settings.SECURE_PROXY_SSL_HEADER or api_settings.NUM_PROXIES == 0,
         "is on without SECURE_PROXY_SSL_HEADER: behind a proxy that ends TLS, each call is redirected to itself.",
         'Set it to ("HTTP_X_FORWARDED_PROTO", "https") if the proxy sends that, or NUM_PROXIES to 0.', deploy=True),
    Rule("LOGGING", "W008", lambda _: getLogger("meiduo.audit").isEnabledFor(INFO) or not conf.in_production,
         "lets only refusals into meiduo.audit: logins and bindings are not recorded.",
         'Give it a handler and a level: LOGGING["loggers"]["meiduo.audit"] = {"handlers": […], "level": "INFO"}.'),
    Rule("INSTALLED_APPS", "W011", lambda _: apps.is_installed("rest_framework"),
         "lacks rest_framework, so DRF's own messages to users are not translated.", 'Add "rest_framework".'),
    *(Rule(name, "W012", lambda value: value is None, "is not read by this app.",
           f"{hint} Keep it only if your own code reads it.") for name, hint in OLD_NAMES.items()),
]
# fmt: on


@register(TAG)
def check_settings(**kwargs: Any) -> list[CheckMessage]:
    found = list(apply_rules(deploy=False))
    if CONTRIB in sys.modules and not {"oauth.E007", "oauth.E008"} & {message.id for message in found}:
        found += conf.load(f"{CONTRIB}.checks.check_contrib")()  # a setting names a piece of contrib.meiduo
    return found


@register(TAG, deploy=True)
def check_production_settings(**kwargs: Any) -> list[CheckMessage]:
    return list(apply_rules(deploy=True))


def apply_rules(deploy: bool) -> Iterator[CheckMessage]:
    wrong = set()
    for rule in RULES:
        if rule.setting in wrong:
            continue
        try:
            value = read(rule.setting)
            if rule.is_valid(value):
                continue
            problem = rule.problem.format(value, conf=conf)
        except (ImportError, InvalidCacheBackendError) as exc:
            problem = f"cannot be imported: {exc}."
        kind = Error if rule.number.startswith("E") else Warning
        if kind is Error:
            wrong.add(rule.setting)
        if rule.deploy is deploy:
            yield kind(f"{rule.setting} {problem}", rule.hint, id=f"oauth.{rule.number}")


def read(setting: str) -> Any:
    if setting == CACHE:
        getattr(caches["default"], "_cache", None)  # here Django's caches import the package of their client
        return caches["default"]
    if setting.startswith("REST_FRAMEWORK"):
        name, *scope = setting.split('"')[1::2]
        value = getattr(api_settings, name)
        return (value or {}).get(scope[0]) if scope else value
    return getattr(conf, setting.removeprefix("QQ_"), getattr(settings, setting, None))

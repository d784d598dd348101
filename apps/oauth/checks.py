"""System checks: `manage.py check --tag qq_login`; with `--deploy`, those of production too.

Everything that can be checked without calling a server is a row of RULES. `manage.py qq_doctor` does the rest.
"""

import logging
import re
import sys
from collections.abc import Callable, Iterator
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from django.apps import apps
from django.conf import settings
from django.core.cache import InvalidCacheBackendError, caches
from django.core.cache.backends.db import DatabaseCache
from django.core.cache.backends.dummy import DummyCache
from django.core.cache.backends.filebased import FileBasedCache
from django.core.cache.backends.locmem import LocMemCache
from django.core.cache.backends.redis import RedisCache
from django.core.checks import CheckMessage, Error, Warning, register
from django.core.checks.security.base import check_secret_key
from rest_framework.serializers import BaseSerializer
from rest_framework.settings import api_settings

from . import origins
from .conf import conf
from .origins import get_mode, is_loopback, is_same_page, is_url
from .qq import API_URL
from .ratelimit import RATES, get_rate_limit

TAG = "qq_login"
CONTRIB = f"{__package__}.contrib.meiduo"
SAMPLE_KEY = re.compile(r"change.?me|your.?(secret|key)|example|sample|placeholder|password|0123456789", re.I)


class Rule(NamedTuple):
    setting: str
    number: str  # E…: an error, after which the setting's further rows are not tried. W…: a warning.
    is_valid: Callable[[Any], Any]  # called with the value
    problem: str  # follows the setting's name; {} is the value (leave it out of secrets) or the ImportError raised
    hint: str
    deploy: bool = False


def is_text(value: Any) -> bool:
    return not value or (isinstance(value, str) and value == value.strip())


def is_saving_serializer(path: str) -> bool:
    loaded, methods = conf.load(path), ("create", "update", "save")
    if not isinstance(loaded, type) or not issubclass(loaded, BaseSerializer):
        return False
    return any(getattr(loaded, name) is not getattr(BaseSerializer, name) for name in methods)


def has_one_server(cache: Any) -> bool:
    """Whether this is no Redis of several servers, by Django or django_redis, or their data is sharded."""
    client = cache if isinstance(cache, RedisCache) else getattr(cache, "client", None)
    servers = getattr(client, "_servers" if client is cache else "_server", None)
    is_sharded = any(kind.__name__ == "ShardClient" for kind in type(client).__mro__)
    return not isinstance(servers, (list, tuple)) or len(servers) < 2 or is_sharded


def is_rate(scope: str, value: Any) -> bool:
    try:
        return bool(get_rate_limit(scope))
    except (ValueError, KeyError, IndexError, TypeError, AttributeError):
        return False


def is_unset_or_only(new_name: str, value: Any) -> bool:
    return value is None or not read(new_name)


CACHE, PROXIES = 'CACHES["default"]', 'REST_FRAMEWORK["NUM_PROXIES"]'
NOT_ATOMIC = (FileBasedCache, DatabaseCache)
COUNT_PROXIES = "Set it to the number of proxies in front of the shop, 0 if there is none."
REGISTER = " QQ_REDIRECT_URI is the API's callback/, to be registered with QQ."
USE_REDIS = "Use Redis with maxmemory-policy noeviction."
BOOLEAN = 'Set one of them; the string "False" counts as true.'
SET_SERIALIZER = "Set it to the dotted path of a DRF serializer with mobile, password and sms_code that saves the user."
SET_FUNCTION = "Set it to the dotted path of a function (user, request) -> dict."
# fmt: off
# What tutorial shops, and this app before, called these settings.
OLD_NAMES = {"QQ_CLIENT_ID": "QQ_APP_ID", "QQ_CLIENT_SECRET": "QQ_APP_KEY", "QQ_REDIRECT_URI": "QQ_REDIRECT_URL",
             "QQ_MAX_CONCURRENCY": "QQ_MAX_CONNECTIONS"}
RULES = [
    Rule("ROOT_URLCONF", "E006", lambda _: origins.is_mounted(), "does not mount the views of the QQ login: {!r}.",
         f'Add path("oauth/qq/", include("{__package__}.urls")) to it.'),
    Rule("QQ_CLIENT_ID", "W001", bool, "is not set: users cannot log in with QQ.",
         "Set it to the APP ID that QQ Connect's console shows for your application."),
    Rule("QQ_CLIENT_ID", "E001", is_text, "is not a string, or has whitespace around it: {!r}.",
         'Write it as in "101000001".'),
    Rule("QQ_CLIENT_ID", "W010", lambda value: not value or value.isdecimal() or not conf.calls_qq,
         "has characters other than digits: {!r}.", "Copy the APP ID again: QQ's are numbers."),
    Rule("QQ_CLIENT_SECRET", "E002", lambda value: value or not (conf.CLIENT_ID or get_rename_hint("QQ_CLIENT_SECRET")),
         "is not set.", "Set it to the APP Key beside the APP ID in QQ Connect's console."),
    Rule("QQ_CLIENT_SECRET", "E002", is_text, "is not a string, or has whitespace around it.",
         "Set it to the APP Key beside the APP ID in QQ Connect's console."),
    Rule("QQ_REDIRECT_URI", "E003", lambda value: is_url(value) and "#" not in value,
         "is not a URL that QQ can return to: {!r}.",
         "Set the URL registered with QQ, as in https://api.example.com/oauth/qq/callback/, without a #."),
    Rule("QQ_REDIRECT_URI", "W002", lambda value: settings.DEBUG or conf.is_secure or is_loopback(value),
         "is http, so another host of the site can plant the login's cookie: {!r}.",
         "Serve the API over https and register its https URL with QQ."),
    Rule("QQ_REDIRECT_URI", "W005", lambda _: not origins.looks_like_callback(),
         "is not our callback/, so QQ must return to a page of yours there: {!r}.",
         "If callback/ is meant, use the path at which it is mounted; below a prefix, set FORCE_SCRIPT_NAME."),
    Rule("QQ_REDIRECT_URI", "W015", origins.has_domain, "has no domain, which QQ's console refuses: {!r}.",
         "Register a domain. To try it on one machine, add the domain to the hosts file.", deploy=True),
    Rule("QQ_REDIRECT_URI", "W016", lambda url: not urlsplit(url).port, "has a port, which QQ may refuse: {!r}.",
         "Serve the API on the default port: 443, or 80 for http.", deploy=True),
    Rule("QQ_CALLBACK_PAGE", "E004", is_url, "is not a URL: {!r}.",
         "Set the URL of the page that gets ?code=, as in https://www.example.com/oauth_callback.html." + REGISTER),
    Rule("QQ_CALLBACK_PAGE", "E004", lambda url: get_mode() != "callback" or not is_same_page(url, conf.REDIRECT_URI),
         "is our callback/ itself, not your page: {!r}.", "Set the URL of the page to which callback/ redirects."),
    Rule("QQ_CALLBACK_PAGE", "W014", lambda value: get_mode() != "direct" or is_same_page(value, conf.REDIRECT_URI),
         "gets the errors of login/, but QQ returns to another page: {!r}.",
         "Set it to QQ_REDIRECT_URI, unless both pages handle errors.", deploy=True),
    Rule("QQ_CALLBACK_PAGE", "E021",
         lambda url: get_mode() != "callback" or conf.is_secure or urlsplit(url).scheme == "http",
         "is https and the API http, so browsers block its calls: {!r} and {conf.REDIRECT_URI!r}.",
         "Serve the API over https, and register that URL with QQ.", deploy=True),
    Rule("QQ_CALLBACK_PAGE", "E022",
         lambda _: get_mode() != "callback" or not conf.REQUIRE_COOKIE or origins.is_one_site(),
         "and the API are two sites (scheme and domain), so browsers drop the cookie: {!r} and {conf.REDIRECT_URI!r}.",
         "Serve both over https below one domain; QQ_REQUIRE_COOKIE = False is the less safe way out.", deploy=True),
    Rule("QQ_API_URL", "E005", lambda value: is_url(value) and value.rstrip("/") != API_URL.replace("https", "http"),
         "is neither QQ's URL nor a stand-in's: {!r}.",
         "Remove the setting, or set a stand-in's URL, as in http://127.0.0.1:8001."),
    Rule("QQ_API_URL", "W007", lambda value: conf.calls_qq or is_loopback(value),
         "is not QQ's: the APP Key and all codes are sent to {!r}.", "Remove the setting, unless it is your stand-in."),
    Rule("QQ_API_URL", "W013", lambda value: not is_loopback(value),
         "is a stand-in's: {!r}. Users cannot log in with their own QQ.", "Remove it in production.", deploy=True),
    Rule("QQ_ACCOUNT_SERIALIZER", "E007", lambda path: conf.load(str(path)), "cannot be imported: {}.", SET_SERIALIZER),
    Rule("QQ_ACCOUNT_SERIALIZER", "E007", is_saving_serializer,
         "is not a DRF serializer with create(), update() or save(): {!r}.", SET_SERIALIZER),
    Rule("QQ_LOGIN_PAYLOAD", "E008", lambda path: conf.load(str(path)), "cannot be imported: {}.", SET_FUNCTION),
    Rule("QQ_LOGIN_PAYLOAD", "E008", lambda path: callable(conf.load(path)), "is not a function: {!r}.", SET_FUNCTION),
    Rule("QQ_TIMEOUT", "E009", lambda value: isinstance(value, (int, float)) and 0 < value <= 60,
         "is not a number of seconds up to 60: {!r}.", "Remove the setting, or try 5."),
    Rule("QQ_MAX_CONCURRENCY", "E010", lambda value: isinstance(value, int) and value >= 1,
         "is not a whole number from 1: {!r}.", "Remove the setting, or set three quarters of a process's threads."),
    Rule("QQ_REQUIRE_COOKIE", "E015", lambda value: isinstance(value, bool), "is not True or False: {!r}.", BOOLEAN),
    Rule("QQ_REQUIRE_COOKIE", "W004", bool, "is off: a planted link can bind a stranger's QQ to a user's account.",
         "Send the page's calls with credentials (withCredentials), or serve page and API from one origin."),
    Rule("QQ_UNIONID", "E015", lambda value: isinstance(value, bool), "is not True or False: {!r}.", BOOLEAN),
    Rule(CACHE, "E014", bool, "cannot be used: {}.", "Install the package that its BACKEND needs."),
    Rule(CACHE, "E014", lambda cache: not isinstance(cache, RedisCache) or find_spec("redis"),
         "cannot be used: there is no module redis.", "pip install redis"),
    Rule(CACHE, "E011", lambda cache: not isinstance(cache, DummyCache),
         "keeps nothing, so a used login works again.", USE_REDIS),
    Rule(CACHE, "E012", lambda cache: not isinstance(cache, LocMemCache) or not conf.in_production,
         "is local memory, so a used login works again in another process.", USE_REDIS),
    Rule(CACHE, "E012", lambda cache: not isinstance(cache, NOT_ATOMIC) or not conf.in_production,
         "is not atomic: of two calls at once, both succeed.", USE_REDIS),
    Rule(CACHE, "W003", lambda cache: not isinstance(cache, (LocMemCache, *NOT_ATOMIC)) or cache._max_entries >= 10**5,
         "evicts entries, used logins among them, when it holds {._max_entries}.",
         USE_REDIS + ' While developing, OPTIONS with {"MAX_ENTRIES": 100_000} is enough.'),
    Rule(CACHE, "W009", has_one_server, "reads from replicas: these may lag behind, and logins fail.",
         'Name in LOCATION only the server that is written to; with Sentinel, as ["redis://…?is_master=1"].'),
    Rule(CACHE, "W018", lambda cache: not isinstance(cache, LocMemCache),
         "is local memory: right for one process, wrong for several workers.", USE_REDIS, deploy=True),
    *(Rule(f'REST_FRAMEWORK["DEFAULT_THROTTLE_RATES"]["{scope}"]', "E013", partial(is_rate, scope),
           "is not a rate: {!r}.", f'Remove it, or write it as in "{rate}"; None removes the limit.')
      for scope, rate in RATES.items()),
    Rule(PROXIES, "E020", lambda value: value is None or (isinstance(value, int) and value >= 0),
         "is not a whole number from 0: {!r}.", COUNT_PROXIES),
    Rule(PROXIES, "W006", lambda value: value is not None or not conf.in_production,
         "is not set, so behind a proxy all users share the limits of its address.", COUNT_PROXIES),
    Rule("LOGGING", "W008",
         lambda _: logging.getLogger("meiduo.audit").isEnabledFor(logging.INFO) or not conf.in_production,
         "lets only refusals into meiduo.audit: logins and bindings are not recorded.",
         'Give it a handler and a level: LOGGING["loggers"]["meiduo.audit"] = {"handlers": […], "level": "INFO"}.'),
    Rule("INSTALLED_APPS", "W011", lambda _: apps.is_installed("rest_framework"),
         "lacks rest_framework, so DRF's own messages to users are not translated.", 'Add "rest_framework".'),
    Rule("SECRET_KEY", "W019", lambda key: not check_secret_key(None) and not SAMPLE_KEY.search(str(key)),
         "is short or looks like a sample: anyone who knows it can log in as any user.",
         'Make one: python -c "import secrets; print(secrets.token_urlsafe(64))"', deploy=True),
    Rule("SECURE_SSL_REDIRECT", "W017",
         lambda value: not value or settings.SECURE_PROXY_SSL_HEADER or api_settings.NUM_PROXIES == 0,
         "is on without SECURE_PROXY_SSL_HEADER: a proxy that ends TLS may be redirected to the same URL forever.",
         "If all calls come through a proxy that sends X-Forwarded-Proto, set SECURE_PROXY_SSL_HEADER = "
         f'("HTTP_X_FORWARDED_PROTO", "https"). Without a proxy, set {PROXIES} = 0.', deploy=True),
    *(Rule(old, "W012", partial(is_unset_or_only, name), f"is not read: {name} is.",
           f"Move its value to {name}; delete it unless your own code reads it.") for name, old in OLD_NAMES.items()),
    *(Rule(old, "W012", lambda value: value is None, "is not read: state and URL are made for each login.",
           "Delete it, unless your own code reads it.") for old in ("QQ_STATE", "QQ_LOGIN_URL")),
]
# fmt: on


@register(TAG)
def check_settings(**kwargs: Any) -> list[CheckMessage]:
    found = list(apply_rules(deploy=False))
    if CONTRIB in sys.modules:  # a setting names a piece of contrib.meiduo, so it has been imported
        found += import_module(f"{CONTRIB}.checks").check_contrib()
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
            problem = rule.problem.format(exc)
        if rule.number.startswith("E"):
            wrong.add(rule.setting)
        if rule.deploy is deploy:
            yield fault(rule.number, f"{rule.setting} {problem}", get_rename_hint(rule.setting) or rule.hint)


def fault(number: str, problem: str, hint: str) -> CheckMessage:
    return (Error if number.startswith("E") else Warning)(problem, hint=hint, id=f"oauth.{number}")


def read(setting: str) -> Any:
    if setting == CACHE:
        return caches["default"]
    if setting.startswith("REST_FRAMEWORK"):
        name, *scope = setting.split('"')[1::2]
        value = getattr(api_settings, name)
        return (value or {}).get(scope[0]) if scope else value
    return getattr(conf, setting.removeprefix("QQ_"), getattr(settings, setting, None))


def get_rename_hint(setting: str) -> str:
    """Return how to rename a setting that has a value under its old name only; else an empty string."""
    old = OLD_NAMES.get(setting, "")
    if not getattr(settings, old, "") or read(setting):
        return ""
    if setting != "QQ_REDIRECT_URI":
        return f"Rename {old} to {setting}."
    return f"If {old} is your page, as in most shops, rename it to QQ_CALLBACK_PAGE, else to {setting}." + REGISTER

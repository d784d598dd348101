"""System checks: each number with the settings that cause it, and that good settings pass."""

import logging
import re
import sys
from datetime import timedelta
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
from django.conf import settings
from django.core.checks import run_checks
from django.urls import set_script_prefix
from django_redis.cache import RedisCache
from django_redis.pool import ConnectionFactory
from rest_framework.serializers import Serializer

from apps.oauth.contrib.meiduo import AccountSerializer
from apps.oauth.qq import MINI_API_URL
from apps.users.tokens import LoginToken
from meiduo import environment

PIECES = "apps.oauth.contrib.meiduo"
BACKENDS = "django.core.cache.backends"
MEMORY, FILES = f"{BACKENDS}.locmem.LocMemCache", f"{BACKENDS}.filebased.FileBasedCache"
TABLE = f"{BACKENDS}.db.DatabaseCache"
QQ = "https://graph.qq.com"
SECRET = "feedfacefeedfacefeedfacefeedface"
URI, PAGE = "https://testserver.example/oauth/qq/callback/", "https://testserver.example/oauth_callback.html"
HTTP_URI = URI.replace("https", "http")
DIRECT = {"QQ_REDIRECT_URI": PAGE, "QQ_CALLBACK_PAGE": f"{PAGE}?from=qq#/login"}


def find(**options):
    return {message.id.removeprefix("oauth."): message for message in run_checks(tags=["qq_login"], **options)}


def find_deployed():
    """Return the numbers that only `check --deploy` finds."""
    return set(find(include_deployment_checks=True)) - set(find())


def cache(backend, **options):
    return {"default": {"BACKEND": backend, **options}}


REDIS = cache(f"{BACKENDS}.redis.RedisCache", LOCATION="redis://127.0.0.1:1")
BIG = {"LOCATION": "/tmp/never-made", "OPTIONS": {"MAX_ENTRIES": 100_000}}


def change(settings, changes):
    for name, value in changes.items():
        if name in ("NUM_PROXIES", "DEFAULT_THROTTLE_RATES"):
            name, value = "REST_FRAMEWORK", {**settings.REST_FRAMEWORK, name: value}
        setattr(settings, name, value)


@pytest.fixture
def https(shop):
    change(shop, {"QQ_REDIRECT_URI": URI, "QQ_CALLBACK_PAGE": PAGE, "QQ_MINI_API_URL": MINI_API_URL})
    return shop


@pytest.fixture
def production(https):
    change(https, {"QQ_API_URL": QQ, "CACHES": REDIS})
    return https


class Saving(Serializer):
    def save(self, **kwargs): ...


class Updating(Serializer):
    """Finds the account while it validates, so that it only updates."""

    def update(self, instance, validated_data): ...


class ShopSerializer(AccountSerializer):
    pass


class Payloads:
    """Functions for QQ_LOGIN_PAYLOAD; a class does not return a payload."""

    def __call__(self, *users_and_requests): ...


def one_argument(user): ...


def three_arguments(user, request, next): ...


def keyword_only(user, *, request): ...


async def coroutine(user, request): ...


def jwt_response_payload_handler(token, user=None, request=None): ...


def with_default(user, request, kind="qq"): ...


called_object, partly_called = Payloads(), partial(three_arguments, next="/")


SMS_CODES = {"verify_codes": {**REDIS["default"], "BACKEND": "django_redis.cache.RedisCache"}}
PAYLOADS = [f"{__name__}.{name}" for name in ("with_default", "called_object", "partly_called")]
GOOD = [
    {},
    DIRECT,
    *({"QQ_ACCOUNT_SERIALIZER": f"{__name__}.{name}"} for name in ("Saving", "Updating")),
    {"QQ_ACCOUNT_SERIALIZER": f"{__name__}.ShopSerializer", "CACHES": {**cache(MEMORY, **BIG), **SMS_CODES}},
    {"QQ_ACCOUNT_SERIALIZER": f"{PIECES}.AccountSerializer", "CACHES": {**cache(MEMORY, **BIG), **SMS_CODES}},
    *({"QQ_LOGIN_PAYLOAD": path} for path in (f"{PIECES}.simplejwt_payload", *PAYLOADS)),
    *({"QQ_REDIRECT_URI": f"http://{host}/oauth/qq/callback/"} for host in ("127.0.0.1:80", "localhost", "[::1]:8000")),
    {"QQ_REDIRECT_URI": HTTP_URI, "DEBUG": True},
    {"QQ_CLIENT_ID": "101…"},  # a stand-in's
    *({"DEFAULT_THROTTLE_RATES": {"qq_callback": rate}} for rate in (None, "5/second", "1000/day")),
    *({"CACHES": cache(name, **BIG)} for name in (MEMORY, FILES, TABLE)),
    {"NUM_PROXIES": None},
]


@pytest.mark.parametrize("changes", GOOD)
def test_good_settings_pass(https, changes):
    change(https, changes)
    assert find() == {}


NO_URLS = ["", None, "/oauth/qq/callback/", "http://[", "ftp://testserver.example/", f" {URI}", f"{URI} ", f"{URI}\n"]
NO_SERIALIZERS = ["apps.users.models.User", "apps.users.tokens.login_payload", "rest_framework.serializers.Serializer"]
NO_PAYLOADS = ["Payloads", "one_argument", "three_arguments", "keyword_only", "coroutine"]
NO_PAYLOADS = [f"{__name__}.{name}" for name in (*NO_PAYLOADS, "jwt_response_payload_handler")]
NO_RATES = [{"qq_callback": rate} for rate in ("60", "sixty/min", "60/eon", "", 60, "6/m/m")]
WRONG = {  # number, setting: its wrong values
    ("E001", "QQ_CLIENT_ID"): [101000001, "101000001\n"],
    ("E002", "QQ_CLIENT_SECRET"): ["", None, f" {SECRET}", SECRET.encode()],
    ("E003", "QQ_REDIRECT_URI"): [*NO_URLS, f"{URI}#/back"],
    ("E023", "QQ_REDIRECT_URI"): [URI.replace("callback", "callbak"), URI.replace("/oauth", "/api/oauth"), f"{PAGE}l"],
    ("E004", "QQ_CALLBACK_PAGE"): [*NO_URLS, URI, "https://TESTSERVER.example:443/oauth/qq/callback?from=qq"],
    ("E005", "QQ_MINI_API_URL"): ["api.q.qq.com", "http://api.q.qq.com"],
    ("E024", "QQ_APP_IDS"): [None, "1106000001", [1106000001], ["abc"], [""], {"1106000001 ": ""}],
    ("E025", "QQ_MINI_APP_ID"): ["abc", 1.5],
    ("E026", "QQ_MINI_APP_SECRET"): ["", None],
    ("E027", "QQ_CONFIRM_SERIALIZER"): ["apps.users.tokens.login_payload", "apps.users.models.User", "nowhere.Class"],
    ("E005", "QQ_API_URL"): ["graph.qq.com", "http://127.0.0.1:0", "http://graph.qq.com/"],
    ("E006", "ROOT_URLCONF"): ["apps.users.urls"],
    ("E007", "QQ_ACCOUNT_SERIALIZER"): ["", None, "nowhere.Serializer", "os.path", *NO_SERIALIZERS],
    ("E008", "QQ_LOGIN_PAYLOAD"): ["apps.users.tokens.nothing", "os.path", len, "builtins.min", *NO_PAYLOADS],
    ("E009", "QQ_TIMEOUT"): [0, 61, "5"],
    ("E010", "QQ_MAX_CONCURRENCY"): [0, "48"],
    ("E011", "CACHES"): [cache(f"{BACKENDS}.dummy.DummyCache")],
    ("E013", "DEFAULT_THROTTLE_RATES"): NO_RATES,
    ("E014", "CACHES"): [cache("nowhere.Cache")],
    **{("E015", name): ["False", 1] for name in ("QQ_REQUIRE_COOKIE", "QQ_UNIONID", "QQ_PROFILE")},
    ("E020", "NUM_PROXIES"): ["1", -1, 1.0],
    ("W001", "QQ_CLIENT_ID"): [""],
    ("W002", "QQ_REDIRECT_URI"): [HTTP_URI],
    ("W003", "CACHES"): [cache(MEMORY), cache(TABLE)],
    ("W004", "QQ_REQUIRE_COOKIE"): [False],
    ("W007", "QQ_MINI_API_URL"): ["https://api.q.qq.com.evil.example"],
    ("W007", "QQ_API_URL"): ["https://graph.qq.com.evil.example", "http://127.evil.example"],
    ("W011", "INSTALLED_APPS"): [[name for name in settings.INSTALLED_APPS if name != "rest_framework"]],
    **{("W012", name): ["x"] for name in ("QQ_APP_ID", "QQ_APP_KEY", "QQ_STATE", "QQ_LOGIN_URL", "QQ_MAX_CONNECTIONS")},
}


@pytest.mark.parametrize(("number", "name", "value"), [(*key, value) for key in WRONG for value in WRONG[key]])
def test_wrong_setting_is_named_with_its_fix(https, number, name, value):
    change(https, {name: value})
    ((found, message),) = find().items()
    assert found == number
    assert message.msg.startswith((name, "REST_FRAMEWORK["))
    assert message.hint
    assert SECRET not in str(message)
    https.QQ_CLIENT_SECRET = SECRET  # an object that is not text cannot be looked for in the log


def test_messages_name_setting_value_and_fix(https):
    change(https, {"QQ_LOGIN_PAYLOAD": "nowhere.payload", "QQ_REDIRECT_URL": PAGE})
    change(https, {"CACHES": cache(MEMORY), "DEFAULT_THROTTLE_RATES": {"qq_callback": "30"}})
    assert "\n".join(f"{number} {message.msg}\n{message.hint}" for number, message in find().items()) == (
        """\
E008 QQ_LOGIN_PAYLOAD cannot be imported: No module named 'nowhere'.
Set it to the dotted path of a function (user, request) -> dict.
W003 CACHES["default"] evicts entries when it holds 300: logins fail, limits restart, used SMS codes may work again.
Use Redis with maxmemory-policy noeviction. While developing: MAX_ENTRIES = 100000.
E013 REST_FRAMEWORK["DEFAULT_THROTTLE_RATES"]["qq_callback"] is not a rate: '30'.
Remove it, or write it as in "30/min"; None removes the limit.
W012 QQ_REDIRECT_URL is not read by this app.
Rename it to QQ_CALLBACK_PAGE if it is your page, as in most shops, else to QQ_REDIRECT_URI. """
        "Keep it only if your own code reads it."
    )


@pytest.mark.parametrize("prefix", ["/", "/shpo"])
def test_address_that_is_neither_callback_nor_page_is_no_direct_mode(https, prefix):
    https.QQ_REDIRECT_URI = uri = URI.replace("/oauth", "/shop/oauth")
    set_script_prefix(prefix)
    try:
        found = find(include_deployment_checks=True)
    finally:
        set_script_prefix("/")
    path = f"{prefix.rstrip('/')}/oauth/qq/callback/"
    assert found["E023"].msg == f"QQ_REDIRECT_URI is neither our callback/, {path}, nor QQ_CALLBACK_PAGE: {uri!r}."
    assert "W014" not in found


def test_checks_need_no_database(https):
    assert find(databases=["default"]) == {}  # as Django 6.1 calls them; without the fixture `db`, a query fails


def test_missing_package_of_the_cache_client_is_reported(https, monkeypatch):
    monkeypatch.setitem(sys.modules, "redis", None)
    https.CACHES = REDIS
    assert find()["E014"].hint == "Install the package that its BACKEND needs."


class Sharded(RedisCache):
    def __init__(self, server, params):
        super().__init__(server, params | {"OPTIONS": {"CLIENT_CLASS": "django_redis.client.ShardClient"}})


class Sentinels(RedisCache):
    def __init__(self, server, params):
        options = SENTINEL | FACTORY
        super().__init__(server, params | {"OPTIONS": options})


SERVERS = ["redis://127.0.0.1:1", "redis://127.0.0.1:2"]


DJANGO, PACKAGE = f"{BACKENDS}.redis.RedisCache", "django_redis.cache.RedisCache"
REPLICAS = [(DJANGO, SERVERS), (DJANGO, ",".join(SERVERS)), (PACKAGE, SERVERS), (PACKAGE, ",".join(SERVERS))]
REPLICAS += [(f"{__name__}.Sentinels", "redis://master/0")]
NO_REPLICAS = [(PACKAGE, SERVERS[0]), (f"{__name__}.Sharded", SERVERS)]
NO_REPLICAS += [(f"{__name__}.Sentinels", ["redis://master/0?is_master=1"])]
NO_REPLICAS += [(f"{BACKENDS}.memcached.PyMemcacheCache", ["127.0.0.1:1", "127.0.0.1:2"])]


@pytest.mark.parametrize(("backend", "location"), REPLICAS + NO_REPLICAS)
def test_cache_with_replicas_is_reported(https, backend, location):
    https.CACHES = cache(backend, LOCATION=location)
    assert set(find()) == ({"W009"} if (backend, location) in REPLICAS else set())


FACTORY = {"CONNECTION_FACTORY": "django_redis.pool.SentinelConnectionFactory"}
SENTINEL = {"CLIENT_CLASS": "django_redis.client.SentinelClient", "SENTINELS": [("127.0.0.1", 1)]}
CLUSTER = {"REDIS_CLIENT_CLASS": "redis.cluster.RedisCluster"}


class ClusterFactory(ConnectionFactory):
    def connect(self, url): ...


UNUSABLE = [
    ("redis://master/0", FACTORY),
    ("redis://master/0", SENTINEL),
    ("redis://master/0", {"SENTINELS": SENTINEL["SENTINELS"]}),
    (["redis://master/0?is_master=0"], SENTINEL | FACTORY),
    (SERVERS[0], CLUSTER),
]
USABLE = [
    (["redis://master/0"], SENTINEL | FACTORY),
    ("redis://master/0", {"SENTINELS": SENTINEL["SENTINELS"]} | FACTORY),
    (SERVERS[0], CLUSTER | {"CONNECTION_FACTORY": f"{__name__}.ClusterFactory"}),
]


@pytest.mark.parametrize(("location", "options"), UNUSABLE + USABLE)
def test_options_for_sentinel_or_cluster_must_fit_together(https, location, options):
    https.CACHES = {"default": {"BACKEND": PACKAGE, "LOCATION": location, "OPTIONS": options}}
    assert set(find()) == ({"E028"} if (location, options) in UNUSABLE else set())


@pytest.mark.parametrize("url", ["redis+sentinel://127.0.0.1:1,127.0.0.1:2/shop", "redis+cluster://a:1,b:2"])
def test_caches_of_this_shop_have_one_server_for_each_key(https, url):
    https.CACHES = {"default": environment.cache(url)}
    assert find() == {}


PRODUCTION_ONLY = [
    ({"NUM_PROXIES": None}, "W006"),
    ({}, "W008"),
    *(({"CACHES": cache(name, **BIG)}, "E012") for name in (MEMORY, FILES, TABLE)),
]
HOSTS = ("localhost", "shop.localhost", "127.0.0.1", "[::1]", "testserver")
NO_DOMAIN = [f"https://{host}/oauth/qq/callback/" for host in HOSTS]
DEPLOYED_ONLY = [
    ({"QQ_API_URL": "http://127.0.0.1:8001"}, "W013"),
    (DIRECT, "W014"),
    ({"QQ_REDIRECT_URI": "http://other.example/back", "QQ_CALLBACK_PAGE": "http://other.example/back/?a=b"}, "W014"),
    ({"QQ_REDIRECT_URI": URI.replace(".example", ".example:8443")}, "W015"),
    ({"SECURE_SSL_REDIRECT": True, "REST_FRAMEWORK": {"NUM_PROXIES": 1}}, "W017"),
    *(({"QQ_REDIRECT_URI": url, "QQ_REQUIRE_COOKIE": False}, "W015") for url in NO_DOMAIN),
    ({"QQ_REDIRECT_URI": HTTP_URI}, "E021"),
    ({"QQ_REDIRECT_URI": HTTP_URI, "QQ_REQUIRE_COOKIE": False}, "E021"),
]


@pytest.mark.parametrize(("changes", "number"), PRODUCTION_ONLY)
def test_fault_that_only_matters_in_production(production, changes, number):
    if number == "W008":
        logging.getLogger("meiduo.audit").setLevel(logging.WARNING)
    change(production, changes)
    assert set(find()) == {number}
    production.DEBUG = True
    assert find() == {}


@pytest.mark.parametrize(("changes", "number"), DEPLOYED_ONLY)
def test_fault_of_a_deployment_is_found_by_deployment_checks_only(production, changes, number):
    change(production, changes)
    assert find_deployed() == {number}


@pytest.mark.parametrize(
    ("changes", "number"),
    [
        ({}, None),
        ({"QQ_CLIENT_ID": "", "QQ_CLIENT_SECRET": ""}, "W001"),
        ({"QQ_CLIENT_ID": "101…"}, "W010"),
        ({"ROOT_URLCONF": "apps.users.urls", "QQ_CALLBACK_PAGE": URI}, "E006"),
    ],
)
def test_production_passes_and_one_fault_is_reported_once(production, changes, number):
    change(production, changes)
    assert set(find(include_deployment_checks=True)) == {number} - {None}


ONE_SITE = [
    ("https://a.shop.com", "https://b.shop.com"),
    ("http://www.meiduo.site:8080", "http://api.meiduo.site:8000"),
    *(
        (f"https://a.shop.{suffix}", f"https://b.shop.{suffix}")
        for suffix in ("com.cn", "net.cn", "org.cn", "gov.cn", "cn")
    ),
    ("https://a.co.site", "https://b.co.site"),
    *((f"http://{host}:8080", f"http://{host}:8000") for host in ("127.0.0.1", "[::1]", "shop")),
    ("https://WWW.shop.com:443", "https://www.shop.com"),
]
TWO_SITES = [
    ("https://www.one.com", "https://api.other.com"),
    ("https://www.one.com.cn", "https://api.other.com.cn"),
    ("http://localhost:8080", "http://127.0.0.1:8000"),
    ("http://10.0.0.1", "http://10.1.0.1"),
    ("http://www.shop.com", "https://api.shop.com"),
]


@pytest.mark.parametrize(("page", "api"), ONE_SITE + TWO_SITES)
def test_cookie_needs_page_and_api_on_one_site(shop, page, api):
    change(shop, {"QQ_CALLBACK_PAGE": f"{page}/page", "QQ_REDIRECT_URI": f"{api}/oauth/qq/callback/"})
    assert ("W020" in find_deployed()) is ((page, api) in TWO_SITES)
    shop.QQ_REQUIRE_COOKIE = False
    assert "W020" not in find_deployed()


@pytest.fixture
def meiduo_shop(https):
    """A shop that uses contrib.meiduo's serializer."""
    change(https, {"CACHES": {**https.CACHES, **SMS_CODES}, "QQ_ACCOUNT_SERIALIZER": f"{__name__}.ShopSerializer"})
    return https


NO_KEYS = ("sms_", "sms_{}", "sms_{phone}", "sms_{mobile", "sms_{mobile[a]}", None)
UNFIT = [  # attribute of the serializer, its wrong value, number and message
    ("connection", "default", "E016", "has no django_redis connection 'default': NotImplementedError."),
    ("connection", "code", "E016", "has no django_redis connection 'code': InvalidCacheBackendError."),
    *(("key", key, "E017", f"has a key without the mobile number: {key!r}.") for key in NO_KEYS),
]


@pytest.mark.parametrize(("name", "value", "number", "message"), UNFIT)
def test_contrib_serializer_needs_connection_and_key(meiduo_shop, monkeypatch, name, value, number, message):
    monkeypatch.setattr(ShopSerializer, name, value)
    assert find()[number].msg == f"QQ_ACCOUNT_SERIALIZER {message}"


def test_contrib_serializer_needs_a_unique_mobile(meiduo_shop):
    meiduo_shop.AUTH_USER_MODEL = "auth.Group"  # has a unique name
    assert find()["E018"].msg == "QQ_ACCOUNT_SERIALIZER needs a unique `mobile`, and auth.Group has none."


@pytest.mark.parametrize("payload", ["jwt_payload", "simplejwt_payload"])
def test_contrib_payload_needs_its_package(https, monkeypatch, payload):
    package = f"rest_framework_{payload.removesuffix('_payload')}"
    https.QQ_LOGIN_PAYLOAD = f"{PIECES}.{payload}"
    monkeypatch.setitem(sys.modules, f"{package}.settings", None)
    assert f"QQ_LOGIN_PAYLOAD needs {package}, which cannot be imported: " in find()["E019"].msg


def test_wrong_path_of_the_token_serializer_is_not_blamed_on_the_package(https):
    https.QQ_LOGIN_PAYLOAD = f"{PIECES}.simplejwt_payload"
    https.SIMPLE_JWT = {**https.SIMPLE_JWT, "TOKEN_OBTAIN_SERIALIZER": "nowhere.TokenSerializer"}
    setting = 'SIMPLE_JWT["TOKEN_OBTAIN_SERIALIZER"]'
    problem = f"QQ_LOGIN_PAYLOAD needs {setting}, which cannot be imported: No module named 'nowhere'."
    assert (find()["E019"].msg, find()["E019"].hint) == (problem, "Correct its dotted path.")


SERIALIZERS = "rest_framework_simplejwt.serializers"


class OneTokenSerializer:
    token_class = LoginToken  # lives for 24 hours


def jwt_settings(minutes, *, expires=True):
    """The settings of rest_framework_jwt."""
    settings = {"JWT_EXPIRATION_DELTA": timedelta(minutes=minutes), "JWT_VERIFY_EXPIRATION": expires}
    return SimpleNamespace(api_settings=SimpleNamespace(**settings))


@pytest.mark.parametrize(
    ("package", "lifetime"),
    [
        (f"{SERIALIZERS}.TokenObtainPairSerializer", None),
        (f"{SERIALIZERS}.TokenObtainSlidingSerializer", "0:05:00"),
        (f"{__name__}.OneTokenSerializer", None),
        ("apps.users.tokens.LoginToken", None),  # has no token_class
        (jwt_settings(29), "0:29:00"),
        (jwt_settings(30), None),
        (jwt_settings(29, expires=False), None),
    ],
)
def test_token_that_lives_for_minutes_needs_a_refresh_token(https, monkeypatch, package, lifetime):
    if isinstance(package, str):
        https.QQ_LOGIN_PAYLOAD = f"{PIECES}.simplejwt_payload"
        https.SIMPLE_JWT = {**https.SIMPLE_JWT, "TOKEN_OBTAIN_SERIALIZER": package}
    else:
        https.QQ_LOGIN_PAYLOAD = f"{PIECES}.jwt_payload"
        monkeypatch.setitem(sys.modules, "rest_framework_jwt", SimpleNamespace(settings=package))
        monkeypatch.setitem(sys.modules, "rest_framework_jwt.settings", package)
    warning = {"W024": f"QQ_LOGIN_PAYLOAD returns a token that lives for {lifetime}, and no refresh token."}
    assert {number: message.msg for number, message in find().items()} == (warning if lifetime else {})


def test_contrib_is_not_imported_unless_a_setting_names_it(https, monkeypatch):
    monkeypatch.delitem(sys.modules, PIECES)
    assert find() == {}
    assert PIECES not in sys.modules


def numbers(path):
    return set(re.findall(r"\b[EW]0[0-9]{2}\b", (Path(__file__).parents[2] / path).read_text("utf-8")))


CHECKS = ["apps/oauth/checks.py", "apps/oauth/owner.py", "apps/oauth/contrib/meiduo/checks.py"]


@pytest.mark.parametrize("document", ["docs/operations.md", "docs/operations.zh.md"])
def test_every_number_is_explained(document):
    assert numbers(document) == set().union(*map(numbers, CHECKS))

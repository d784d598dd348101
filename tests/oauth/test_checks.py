"""System checks: each number with its setting, and that good settings pass."""

import logging
import sys

import pytest
from django.core.checks import run_checks
from django_redis.cache import RedisCache
from rest_framework.serializers import Serializer

from apps.oauth.contrib.meiduo import AccountSerializer

PIECES = "apps.oauth.contrib.meiduo"
BACKENDS = "django.core.cache.backends"
MEMORY = f"{BACKENDS}.locmem.LocMemCache"
REDIS = {"default": {"BACKEND": f"{BACKENDS}.redis.RedisCache", "LOCATION": "redis://127.0.0.1:1"}}
QQ = "https://graph.qq.com"
SECRET = "feedfacefeedfacefeedfacefeedface"


def find(**options):
    return {message.id: message for message in run_checks(tags=["qq_login"], **options)}


def found():
    return set(find())


def cache(backend, **options):
    return {"default": {"BACKEND": backend, **options}}


@pytest.fixture
def https(shop):
    shop.QQ_REDIRECT_URI = "https://testserver/oauth/qq/callback/"
    shop.QQ_CALLBACK_PAGE = "https://testserver/oauth_callback.html"
    return shop


@pytest.fixture
def production(https):
    https.QQ_API_URL = QQ
    https.CACHES = REDIS
    return https


def test_good_settings_pass(https):
    assert find() == {}


def test_good_settings_pass_in_production(production):
    assert find(include_deployment_checks=True) == {}


class Saving(Serializer):
    def save(self, **kwargs): ...


class Updating(Serializer):
    """Finds the account while it validates, so that it only updates."""

    def update(self, instance, validated_data): ...


class Sharded(RedisCache):
    def __init__(self, server, params):
        super().__init__(server, params | {"OPTIONS": {"CLIENT_CLASS": "django_redis.client.ShardClient"}})


class Sentinels(RedisCache):
    def __init__(self, server, params):
        options = {"CLIENT_CLASS": "django_redis.client.SentinelClient", "SENTINELS": [("127.0.0.1", 1)]}
        super().__init__(server, params | {"OPTIONS": options})


@pytest.mark.parametrize(
    ("name", "value", "number"),
    [
        ("ROOT_URLCONF", "apps.users.urls", "E006"),
        ("QQ_CLIENT_ID", "", "W001"),
        ("QQ_CLIENT_ID", 101000001, "E001"),
        ("QQ_CLIENT_ID", "101000001\n", "E001"),
        ("QQ_CLIENT_SECRET", "", "E002"),
        ("QQ_CLIENT_SECRET", None, "E002"),
        ("QQ_CLIENT_SECRET", f" {SECRET}", "E002"),
        ("QQ_CLIENT_SECRET", SECRET.encode(), "E002"),
        ("QQ_REDIRECT_URI", "", "E003"),
        ("QQ_REDIRECT_URI", None, "E003"),
        ("QQ_REDIRECT_URI", "/oauth/qq/callback/", "E003"),
        ("QQ_REDIRECT_URI", "ftp://shop.example/", "E003"),
        ("QQ_REDIRECT_URI", "https://shop.example/#/back", "E003"),
        ("QQ_REDIRECT_URI", "https://testserver/oauth/qq/callback/ ", "E003"),
        ("QQ_REDIRECT_URI", "https://testserver/oauth/qq/callback/\n", "E003"),
        ("QQ_REDIRECT_URI", "http://shop.example/oauth/qq/callback/", "W002"),
        ("QQ_REDIRECT_URI", "https://testserver/oauth/qq/callbak/", "W005"),
        ("QQ_REDIRECT_URI", "https://testserver/api/oauth/qq/callback/", "W005"),
        ("QQ_CALLBACK_PAGE", "", "E004"),
        ("QQ_CALLBACK_PAGE", None, "E004"),
        ("QQ_CALLBACK_PAGE", "oauth_callback.html", "E004"),
        ("QQ_CALLBACK_PAGE", "http://[", "E004"),
        ("QQ_CALLBACK_PAGE", " https://testserver/oauth_callback.html", "E004"),
        ("QQ_CALLBACK_PAGE", "https://testserver/oauth/qq/callback/", "E004"),
        ("QQ_CALLBACK_PAGE", "https://TESTSERVER:443/oauth/qq/callback?from=qq", "E004"),
        ("QQ_API_URL", "graph.qq.com", "E005"),
        ("QQ_API_URL", "http://127.0.0.1:0", "E005"),
        ("QQ_API_URL", "http://graph.qq.com/", "E005"),
        ("QQ_API_URL", "https://graph.qq.com.evil.example", "W007"),
        ("QQ_API_URL", "http://127.evil.example", "W007"),
        ("QQ_ACCOUNT_SERIALIZER", "", "E007"),
        ("QQ_ACCOUNT_SERIALIZER", None, "E007"),
        ("QQ_ACCOUNT_SERIALIZER", "nowhere.Serializer", "E007"),
        ("QQ_ACCOUNT_SERIALIZER", "os.path", "E007"),
        ("QQ_ACCOUNT_SERIALIZER", "apps.users.models.User", "E007"),
        ("QQ_ACCOUNT_SERIALIZER", "apps.users.tokens.login_payload", "E007"),
        ("QQ_ACCOUNT_SERIALIZER", "rest_framework.serializers.Serializer", "E007"),
        ("QQ_LOGIN_PAYLOAD", "apps.users.tokens.nothing", "E008"),
        ("QQ_LOGIN_PAYLOAD", "os.path", "E008"),
        ("QQ_LOGIN_PAYLOAD", len, "E008"),
        ("QQ_TIMEOUT", 0, "E009"),
        ("QQ_TIMEOUT", 61, "E009"),
        ("QQ_TIMEOUT", "5", "E009"),
        ("QQ_MAX_CONCURRENCY", 0, "E010"),
        ("QQ_MAX_CONCURRENCY", "48", "E010"),
        ("QQ_REQUIRE_COOKIE", False, "W004"),
        ("QQ_REQUIRE_COOKIE", "False", "E015"),
        ("QQ_UNIONID", 1, "E015"),
        ("QQ_APP_ID", "101000002", "W012"),
        ("QQ_STATE", "/", "W012"),
        ("QQ_MAX_CONNECTIONS", 48, "W012"),
        ("CACHES", cache(f"{BACKENDS}.dummy.DummyCache"), "E011"),
        ("CACHES", cache(MEMORY), "W003"),
        ("CACHES", cache(f"{BACKENDS}.db.DatabaseCache"), "W003"),
        ("CACHES", cache("nowhere.Cache"), "E014"),
    ],
)
def test_wrong_setting_is_named_with_its_fix(https, name, value, number):
    setattr(https, name, value)
    ((id, message),) = find().items()
    assert id == f"oauth.{number}"
    assert message.msg.startswith(name)
    assert message.hint
    assert SECRET not in str(message)
    https.QQ_CLIENT_SECRET = SECRET  # an object that is not text cannot be looked for in the log


@pytest.mark.parametrize(
    ("name", "value", "number", "message", "hint"),
    [
        (
            "QQ_TIMEOUT",
            "5",
            "E009",
            "QQ_TIMEOUT is not a number of seconds up to 60: '5'.",
            "Remove the setting, or try 5.",
        ),
        (
            "QQ_ACCOUNT_SERIALIZER",
            "nowhere.Serializer",
            "E007",
            "QQ_ACCOUNT_SERIALIZER cannot be imported: No module named 'nowhere'.",
            "Set it to the dotted path of a DRF serializer with mobile, password and sms_code that saves the user.",
        ),
        (
            "CACHES",
            cache(MEMORY, OPTIONS={"MAX_ENTRIES": 300}),
            "W003",
            'CACHES["default"] evicts entries, used logins among them, when it holds 300.',
            "Use Redis with maxmemory-policy noeviction. While developing, OPTIONS with "
            '{"MAX_ENTRIES": 100_000} is enough.',
        ),
    ],
)
def test_message_names_setting_value_and_fix(https, name, value, number, message, hint):
    setattr(https, name, value)
    ((id, found),) = find().items()
    assert (id, found.msg, found.hint) == (f"oauth.{number}", message, hint)


@pytest.mark.parametrize(
    ("old", "new", "number", "hint"),
    [
        ("QQ_APP_ID", "QQ_CLIENT_ID", "W001", "Rename QQ_APP_ID to QQ_CLIENT_ID."),
        ("QQ_APP_KEY", "QQ_CLIENT_SECRET", "E002", "Rename QQ_APP_KEY to QQ_CLIENT_SECRET."),
        ("QQ_REDIRECT_URL", "QQ_REDIRECT_URI", "E003", "If QQ_REDIRECT_URL is your page, as in most shops, "),
    ],
)
def test_setting_under_its_old_name_is_to_be_renamed(https, old, new, number, hint):
    setattr(https, old, getattr(https, new))
    delattr(https, new)
    assert find()[f"oauth.{number}"].hint.startswith(hint)
    setattr(https, new, " /wrong")
    assert not any("ename" in message.hint for message in find().values() if message.id != "oauth.W012")


def test_old_name_of_the_secret_is_reported_before_the_client_id_is_set(https):
    https.QQ_APP_KEY = https.QQ_CLIENT_SECRET
    https.QQ_CLIENT_ID = https.QQ_CLIENT_SECRET = ""
    assert found() == {"oauth.W001", "oauth.E002"}


def test_shop_without_qq_gets_one_warning(https):
    https.QQ_CLIENT_ID = https.QQ_CLIENT_SECRET = ""
    assert found() == {"oauth.W001"}


def test_unmounted_views_are_reported_once(https):
    https.ROOT_URLCONF = "apps.users.urls"
    https.QQ_CALLBACK_PAGE = https.QQ_REDIRECT_URI
    assert found() == {"oauth.E006"}


@pytest.mark.parametrize("serializer", ["Saving", "Updating"])
def test_serializer_may_save_or_update(https, serializer):
    https.QQ_ACCOUNT_SERIALIZER = f"{__name__}.{serializer}"
    assert found() == set()


def test_client_id_with_letters_is_reported_where_qq_is_called(https):
    https.QQ_CLIENT_ID = "101…"
    assert found() == set()
    https.DEBUG, https.QQ_API_URL = True, f"{QQ}/"
    assert found() == {"oauth.W010"}


@pytest.mark.parametrize("page", ["https://testserver/callback", "https://testserver/oauth/qq/back.html"])
def test_page_of_direct_mode_may_have_any_path_if_it_is_set_twice(https, page):
    https.QQ_REDIRECT_URI = page
    assert found() == {"oauth.W005"}
    https.QQ_CALLBACK_PAGE = f"{page}?from=qq#/login"
    assert found() == set()


@pytest.mark.parametrize("host", ["127.0.0.1:8000", "localhost", "[::1]:8000"])
def test_http_is_accepted_on_the_machine_itself(shop, host):
    shop.QQ_REDIRECT_URI = f"http://{host}/oauth/qq/callback/"
    assert found() == set()


def test_http_is_accepted_while_developing(shop):
    shop.DEBUG = True
    assert found() == set()


# The shop -------------------------------------------------------------------------------------------------------------


def test_django_redis_backend_without_its_package_is_reported(https, monkeypatch):
    monkeypatch.setitem(sys.modules, "redis", None)
    https.CACHES = REDIS
    assert find()["oauth.E014"].hint == "pip install redis"


@pytest.mark.parametrize("backend", [MEMORY, f"{BACKENDS}.filebased.FileBasedCache", f"{BACKENDS}.db.DatabaseCache"])
def test_cache_that_is_not_shared_or_not_atomic_is_an_error_in_production(https, backend, tmp_path):
    https.CACHES = cache(backend, LOCATION=str(tmp_path), OPTIONS={"MAX_ENTRIES": 10**6})
    assert found() == set()
    https.QQ_API_URL = QQ
    assert found() == {"oauth.E012"}
    https.DEBUG = True
    assert found() == set()


SERVERS = ["redis://127.0.0.1:1", "redis://127.0.0.1:2"]


@pytest.mark.parametrize(
    ("backend", "location", "numbers"),
    [
        (f"{BACKENDS}.redis.RedisCache", SERVERS, {"oauth.W009"}),
        (f"{BACKENDS}.redis.RedisCache", ",".join(SERVERS), {"oauth.W009"}),
        ("django_redis.cache.RedisCache", SERVERS, {"oauth.W009"}),
        ("django_redis.cache.RedisCache", ",".join(SERVERS), {"oauth.W009"}),
        ("django_redis.cache.RedisCache", SERVERS[0], set()),
        (f"{__name__}.Sharded", SERVERS, set()),
        (f"{__name__}.Sentinels", "redis://master/0", {"oauth.W009"}),
        (f"{__name__}.Sentinels", ["redis://master/0?is_master=1"], set()),
        (f"{BACKENDS}.memcached.PyMemcacheCache", ["127.0.0.1:1", "127.0.0.1:2"], set()),
    ],
)
def test_cache_with_replicas_is_reported(https, backend, location, numbers):
    https.CACHES = cache(backend, LOCATION=location)
    assert found() == numbers


@pytest.mark.parametrize("rate", ["60", "sixty/min", "60/eon", "", 60, "60/min/min"])
def test_invalid_rate_is_reported(https, rate):
    https.REST_FRAMEWORK = {**https.REST_FRAMEWORK, "DEFAULT_THROTTLE_RATES": {"qq_callback": rate}}
    ((id, message),) = find().items()
    assert (id, message.msg, message.hint) == (
        "oauth.E013",
        f'REST_FRAMEWORK["DEFAULT_THROTTLE_RATES"]["qq_callback"] is not a rate: {rate!r}.',
        'Remove it, or write it as in "30/min"; None removes the limit.',
    )


@pytest.mark.parametrize("rate", [None, "5/second", "1000/day"])
def test_any_rate_of_drf_is_accepted(https, rate):
    https.REST_FRAMEWORK = {**https.REST_FRAMEWORK, "DEFAULT_THROTTLE_RATES": {"qq_callback": rate}}
    assert found() == set()


@pytest.mark.parametrize("proxies", ["1", -1, 1.0])
def test_invalid_number_of_proxies_is_reported(https, proxies):
    https.REST_FRAMEWORK = {**https.REST_FRAMEWORK, "NUM_PROXIES": proxies}
    assert found() == {"oauth.E020"}


def test_unset_number_of_proxies_is_reported_in_production(production):
    production.REST_FRAMEWORK = {**production.REST_FRAMEWORK, "NUM_PROXIES": None}
    assert found() == {"oauth.W006"}
    production.DEBUG = True
    assert found() == set()


def test_audit_log_of_refusals_only_is_reported_in_production(production):
    logging.getLogger("meiduo.audit").setLevel(logging.WARNING)
    assert found() == {"oauth.W008"}
    production.DEBUG = True
    assert found() == set()


def test_missing_translations_of_drf_are_reported(https):
    https.INSTALLED_APPS = [name for name in https.INSTALLED_APPS if name != "rest_framework"]
    assert found() == {"oauth.W011"}


# contrib.meiduo -------------------------------------------------------------------------------------------------------


class FamilySerializer(AccountSerializer):
    pass


@pytest.fixture
def family(https):
    """A shop that uses contrib.meiduo's serializer."""
    redis = {"BACKEND": "django_redis.cache.RedisCache", "LOCATION": "redis://127.0.0.1:1"}
    https.CACHES = {**https.CACHES, "verify_codes": redis}
    https.QQ_ACCOUNT_SERIALIZER = f"{__name__}.FamilySerializer"
    return https


@pytest.mark.parametrize("path", [f"{__name__}.FamilySerializer", f"{PIECES}.AccountSerializer"])
def test_contrib_serializer_passes_where_it_fits(family, path):
    family.QQ_ACCOUNT_SERIALIZER = path
    assert found() == set()


@pytest.mark.parametrize("alias", ["default", "code"])
def test_contrib_serializer_needs_a_connection_of_django_redis(family, monkeypatch, alias):
    monkeypatch.setattr(FamilySerializer, "connection", alias)
    ((id, message),) = find().items()
    assert id == "oauth.E016"
    assert message.msg.startswith(f"QQ_ACCOUNT_SERIALIZER has no django_redis connection {alias!r}: ")


@pytest.mark.parametrize("key", ["sms_", "sms_{}", "sms_{phone}", "sms_{mobile", "sms_{mobile[a]}", None])
def test_contrib_serializer_needs_the_mobile_number_in_its_key(family, monkeypatch, key):
    monkeypatch.setattr(FamilySerializer, "key", key)
    ((id, message),) = find().items()
    assert (id, message.msg) == ("oauth.E017", f"QQ_ACCOUNT_SERIALIZER has a key without the mobile number: {key!r}.")


def test_contrib_serializer_needs_a_unique_mobile(family):
    family.AUTH_USER_MODEL = "auth.Group"  # has a unique name
    ((id, message),) = find().items()
    assert (id, message.msg) == (
        "oauth.E018",
        "QQ_ACCOUNT_SERIALIZER needs a unique `mobile`, and auth.Group has none.",
    )


@pytest.mark.parametrize(
    ("payload", "package"),
    [("jwt_payload", "rest_framework_jwt"), ("simplejwt_payload", "rest_framework_simplejwt")],
)
def test_contrib_payload_needs_its_package(https, monkeypatch, payload, package):
    https.QQ_LOGIN_PAYLOAD = f"{PIECES}.{payload}"
    monkeypatch.setitem(sys.modules, f"{package}.settings", None)
    ((id, message),) = find().items()
    assert id == "oauth.E019"
    assert message.msg.startswith(f"QQ_LOGIN_PAYLOAD needs {package}, which cannot be imported: ")


def test_contrib_is_not_imported_unless_a_setting_names_it(https, monkeypatch):
    monkeypatch.delitem(sys.modules, PIECES)
    assert found() == set()
    assert PIECES not in sys.modules


def test_contrib_payload_passes_where_its_package_is_installed(https):
    https.QQ_LOGIN_PAYLOAD = f"{PIECES}.simplejwt_payload"
    assert found() == set()


# Checks of a deployment -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "numbers"),
    [
        ({"QQ_API_URL": "http://127.0.0.1:8001"}, {"oauth.W013"}),
        ({"QQ_REDIRECT_URI": "https://testserver/login.html"}, {"oauth.W014"}),
        ({"QQ_REDIRECT_URI": "https://testserver/oauth_callback.html?from=qq"}, set()),
        ({"QQ_REDIRECT_URI": "https://testserver:8443/oauth/qq/callback/"}, {"oauth.W016"}),
        *(
            ({"QQ_REDIRECT_URI": f"https://{host}/oauth/qq/callback/"}, {"oauth.W015", "oauth.E022"})
            for host in ("localhost", "shop.localhost", "127.0.0.1", "[::1]")
        ),
        ({"SECURE_SSL_REDIRECT": True, "NUM_PROXIES": 1}, {"oauth.W017"}),
        ({"SECURE_SSL_REDIRECT": True, "NUM_PROXIES": 0}, set()),
        ({"SECURE_SSL_REDIRECT": True, "NUM_PROXIES": 1, "SECURE_PROXY_SSL_HEADER": ("HTTP_X", "https")}, set()),
        ({"CACHES": cache(MEMORY, OPTIONS={"MAX_ENTRIES": 10**6}), "DEBUG": True}, {"oauth.W018"}),
        *(
            ({"SECRET_KEY": key}, {"oauth.W019"})
            for key in (
                "short",
                "django-insecure-" + "ab3$x" * 10,
                "change-me-" + "q7Zr" * 12,
                "your secret key, please " * 3,
            )
        ),
    ],
)
def test_fault_of_a_deployment_is_found_by_deployment_checks_only(production, changes, numbers):
    for name, value in changes.items():
        if name == "NUM_PROXIES":
            production.REST_FRAMEWORK = {**production.REST_FRAMEWORK, name: value}
        else:
            setattr(production, name, value)
    before = found()
    assert set(find(include_deployment_checks=True)) - before == numbers
    assert not before


@pytest.mark.parametrize(
    ("page", "api", "is_one_site"),
    [
        ("https://a.shop.com", "https://b.shop.com", True),
        ("http://www.meiduo.site:8080", "http://api.meiduo.site:8000", True),
        *((f"https://a.shop.{tld}.cn", f"https://b.shop.{tld}.cn", True) for tld in ("com", "net", "org", "gov")),
        ("https://a.shop.cn", "https://b.shop.cn", True),
        ("https://a.co.site", "https://b.co.site", True),
        ("http://127.0.0.1:8080", "http://127.0.0.1:8000", True),
        ("http://[::1]:8080", "http://[::1]:8000", True),
        ("http://shop:8080", "http://shop:8000", True),
        ("https://WWW.shop.com:443", "https://www.shop.com", True),
        ("https://www.one.com", "https://api.other.com", False),
        ("https://www.one.com.cn", "https://api.other.com.cn", False),
        ("http://localhost:8080", "http://127.0.0.1:8000", False),
        ("http://10.0.0.1", "http://10.1.0.1", False),
        ("http://www.shop.com", "https://api.shop.com", False),
    ],
)
def test_cookie_needs_page_and_api_on_one_site(shop, page, api, is_one_site):
    shop.QQ_CALLBACK_PAGE, shop.QQ_REDIRECT_URI = f"{page}/page", f"{api}/oauth/qq/callback/"
    found = find(include_deployment_checks=True).get("oauth.E022")
    assert (found is None) is is_one_site
    if found:
        assert found.msg == (
            "QQ_CALLBACK_PAGE and the API are two sites (scheme and domain), so browsers drop the cookie: "
            f"'{page}/page' and '{api}/oauth/qq/callback/'."
        )
    shop.QQ_REQUIRE_COOKIE = False
    assert "oauth.E022" not in find(include_deployment_checks=True)


@pytest.mark.parametrize("require_cookie", [True, False])
def test_https_page_cannot_call_an_http_api(https, require_cookie):
    https.QQ_REDIRECT_URI = "http://testserver/oauth/qq/callback/"
    https.QQ_REQUIRE_COOKIE = require_cookie
    assert {id for id in find(include_deployment_checks=True) if "E" in id} == {"oauth.E021"}


def test_page_of_direct_mode_may_be_on_any_site(https):
    https.QQ_REDIRECT_URI, https.QQ_CALLBACK_PAGE = "http://other.example/back", "https://testserver/page"
    assert {id for id in find(include_deployment_checks=True) if "E" in id} == set()

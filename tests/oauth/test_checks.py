"""Start-up checks: each number, and that good settings pass."""

import logging
import sys

import pytest
from apps.oauth.shops import AccountSerializer
from django.core.checks import run_checks
from django_redis.cache import RedisCache
from rest_framework.serializers import Serializer


def found():
    return {message.id for message in run_checks() if message.id.startswith("oauth.")}


@pytest.fixture
def https(shop):
    shop.QQ_REDIRECT_URI = "https://testserver/oauth/qq/callback/"


def test_good_settings_pass(https):
    assert found() == set()


@pytest.mark.parametrize(
    ("name", "value", "number"),
    [
        ("QQ_CLIENT_ID", "", "oauth.W001"),
        ("QQ_CLIENT_ID", 101000001, "oauth.E001"),
        ("QQ_CLIENT_SECRET", "", "oauth.E002"),
        ("QQ_CLIENT_ID", "101000001\n", "oauth.E001"),
        ("QQ_CLIENT_SECRET", None, "oauth.E002"),
        ("QQ_CLIENT_SECRET", " 0123", "oauth.E002"),
        ("QQ_REDIRECT_URI", "", "oauth.E003"),
        ("QQ_REDIRECT_URI", "/oauth/qq/callback/", "oauth.E003"),
        ("QQ_REDIRECT_URI", "ftp://shop.example/", "oauth.E003"),
        ("QQ_REDIRECT_URI", "https://shop.example/#/back", "oauth.E003"),
        ("QQ_REDIRECT_URI", "https://testserver/oauth/qq/callback/ ", "oauth.E003"),
        ("QQ_REDIRECT_URI", "https://testserver/oauth/qq/callback/\n", "oauth.E003"),
        ("QQ_REDIRECT_URI", "http://shop.example/oauth/qq/callback/", "oauth.W002"),
        ("QQ_REDIRECT_URI", "https://testserver/oauth/qq/callbak/", "oauth.W005"),
        ("QQ_CALLBACK_PAGE", "", "oauth.E004"),
        ("QQ_CALLBACK_PAGE", "oauth_callback.html", "oauth.E004"),
        ("QQ_CALLBACK_PAGE", "http://[", "oauth.E004"),
        ("QQ_CALLBACK_PAGE", None, "oauth.E004"),
        ("QQ_CALLBACK_PAGE", "https://testserver/oauth/qq/callback/", "oauth.E004"),
        ("QQ_CALLBACK_PAGE", "https://TESTSERVER:443/oauth/qq/callback?from=qq", "oauth.E004"),
        ("QQ_CALLBACK_PAGE", " https://testserver/oauth_callback.html", "oauth.E004"),
        ("QQ_ACCOUNT_SERIALIZER", "rest_framework.serializers.Serializer", "oauth.E007"),
        ("QQ_API_URL", "graph.qq.com", "oauth.E005"),
        ("QQ_API_URL", "https://graph.qq.com.evil.example", "oauth.W007"),
        ("QQ_API_URL", "http://127.evil.example", "oauth.W007"),
        ("QQ_API_URL", "http://127.0.0.1:0", "oauth.E005"),
        ("ROOT_URLCONF", "apps.users.urls", "oauth.E006"),
        ("QQ_ACCOUNT_SERIALIZER", "", "oauth.E007"),
        ("QQ_ACCOUNT_SERIALIZER", "nowhere.Serializer", "oauth.E007"),
        ("QQ_ACCOUNT_SERIALIZER", None, "oauth.E007"),
        ("QQ_LOGIN_PAYLOAD", "apps.users.tokens.nothing", "oauth.E008"),
        ("QQ_API_URL", "http://graph.qq.com/", "oauth.E005"),
        ("QQ_ACCOUNT_SERIALIZER", "os.path", "oauth.E007"),
        ("QQ_ACCOUNT_SERIALIZER", "apps.users.models.User", "oauth.E007"),
        ("QQ_ACCOUNT_SERIALIZER", "apps.users.tokens.login_payload", "oauth.E007"),
        ("QQ_LOGIN_PAYLOAD", "os.path", "oauth.E008"),
        ("QQ_LOGIN_PAYLOAD", len, "oauth.E008"),
        ("QQ_REDIRECT_URI", "https://testserver/api/oauth/qq/callback/", "oauth.W005"),
        ("QQ_REDIRECT_URI", None, "oauth.E003"),
        ("CACHES", {"default": {"BACKEND": "django.core.cache.backends.db.DatabaseCache"}}, "oauth.W003"),
        ("QQ_TIMEOUT", 0, "oauth.E009"),
        ("QQ_TIMEOUT", 61, "oauth.E009"),
        ("QQ_TIMEOUT", "5", "oauth.E009"),
        ("QQ_MAX_CONNECTIONS", 0, "oauth.E010"),
        ("QQ_MAX_CONNECTIONS", "48", "oauth.E010"),
        ("QQ_REQUIRE_COOKIE", False, "oauth.W004"),
        ("QQ_REQUIRE_COOKIE", "False", "oauth.E015"),
        ("QQ_UNIONID", 1, "oauth.E015"),
        ("CACHES", {"default": {"BACKEND": "django.core.cache.backends.dummy.DummyCache"}}, "oauth.E011"),
        ("CACHES", {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}, "oauth.W003"),
    ],
)
def test_a_wrong_setting_is_named_with_its_mend(https, shop, name, value, number):
    setattr(shop, name, value)
    assert found() == {number}
    (message,) = (message for message in run_checks() if message.id == number)
    assert message.hint
    if name.startswith("QQ_"):
        assert name in message.msg


@pytest.mark.parametrize(
    ("old", "new", "number", "mend"),
    [
        ("QQ_APP_ID", "QQ_CLIENT_ID", "oauth.W001", "Rename QQ_APP_ID to QQ_CLIENT_ID."),
        ("QQ_APP_KEY", "QQ_CLIENT_SECRET", "oauth.E002", "Rename QQ_APP_KEY to QQ_CLIENT_SECRET."),
        ("QQ_REDIRECT_URL", "QQ_REDIRECT_URI", "oauth.E003", "Rename QQ_REDIRECT_URL to QQ_CALLBACK_PAGE if "),
    ],
)
def test_a_setting_by_its_old_name_is_to_be_renamed(https, shop, old, new, number, mend):
    setattr(shop, old, getattr(shop, new))
    assert found() == set()
    delattr(shop, new)
    (message,) = (message for message in run_checks() if message.id == number)
    assert message.hint.startswith(mend)


def test_a_page_that_stands_in_the_place_of_callback_is_to_be_moved(https, shop):
    shop.QQ_REDIRECT_URI, shop.QQ_CALLBACK_PAGE = shop.QQ_CALLBACK_PAGE.replace("http:", "https:"), ""
    (message,) = run_checks(tags=["qq_login"])
    assert message.id == "oauth.E004"
    assert message.hint == "Move it here if QQ_REDIRECT_URI has it; that is to be the API's /oauth/qq/callback/."
    shop.QQ_REDIRECT_URI = "https://testserver/oauth/qq/callback/"
    (message,) = run_checks(tags=["qq_login"])
    assert message.hint.startswith("Set the address of the page")


def test_a_wrong_value_is_not_mended_by_the_old_name(https, shop):
    shop.QQ_REDIRECT_URL, shop.QQ_REDIRECT_URI = shop.QQ_REDIRECT_URI, "/oauth/qq/callback/"
    (message,) = run_checks(tags=["qq_login"])
    assert message.hint.startswith("Set the address registered with QQ")


def test_an_old_key_alone_is_not_waited_with_until_the_id_is_right(https, shop):
    shop.QQ_APP_KEY = shop.QQ_CLIENT_SECRET
    shop.QQ_CLIENT_ID = shop.QQ_CLIENT_SECRET = ""
    assert found() == {"oauth.W001", "oauth.E002"}


def test_no_message_shows_the_key(https, shop):
    for key, fault in (
        ("feedface\n", "QQ_CLIENT_SECRET has blanks around it."),
        (b"feedface", "QQ_CLIENT_SECRET is not text."),
    ):
        shop.QQ_CLIENT_SECRET = key
        (message,) = run_checks(tags=["qq_login"])
        assert (message.id, message.msg) == ("oauth.E002", fault)
        assert "feedface" not in str(message)
    shop.QQ_CLIENT_SECRET = "feedface"


def test_a_serializer_that_makes_no_account_is_named(https, shop):
    shop.QQ_ACCOUNT_SERIALIZER = "rest_framework.serializers.Serializer"
    (message,) = run_checks(tags=["qq_login"])
    assert message.msg == "QQ_ACCOUNT_SERIALIZER has no create() or save()."
    for fine in ("Creating", "Saving", "Updating"):
        shop.QQ_ACCOUNT_SERIALIZER = f"{__name__}.{fine}"
        assert found() == set()


class Creating(Serializer):
    def create(self, validated_data): ...


class Updating(Serializer):
    """One that binds accounts of before only: it finds them while it validates."""

    def update(self, instance, validated_data): ...


class Saving(Serializer):
    def save(self, **kwargs): ...


def test_an_app_id_with_letters_is_noticed_where_qq_is_asked(https, shop):
    shop.QQ_CLIENT_ID = "101…"
    assert found() == set()
    shop.DEBUG, shop.QQ_API_URL = True, "https://graph.qq.com/"
    assert found() == {"oauth.W010"}


def test_a_page_that_is_meant_for_direct_mode_may_be_anywhere(https, shop):
    for page in ("https://testserver/callback", "https://testserver/oauth/qq/back.html"):
        shop.QQ_REDIRECT_URI = page
        assert found() == {"oauth.W005"}
        shop.QQ_CALLBACK_PAGE, before = f"{page}?from=qq#/login", shop.QQ_CALLBACK_PAGE
        assert found() == set()
        shop.QQ_CALLBACK_PAGE = before


@pytest.mark.parametrize("proxies", ["1", -1, 1.0])
def test_a_number_of_proxies_that_is_none_is_named(https, shop, proxies):
    shop.REST_FRAMEWORK = {**shop.REST_FRAMEWORK, "NUM_PROXIES": proxies}
    assert found() == {"oauth.E020"}


def test_a_shop_in_which_drf_cannot_translate_is_told_so(https, shop):
    shop.INSTALLED_APPS = [name for name in shop.INSTALLED_APPS if name != "rest_framework"]
    assert found() == {"oauth.W011"}


def test_djangos_redis_without_its_package_is_named(https, shop, monkeypatch):
    monkeypatch.setitem(sys.modules, "redis", None)
    redis = "django.core.cache.backends.redis.RedisCache"
    shop.CACHES = {"default": {"BACKEND": redis, "LOCATION": "redis://127.0.0.1:1"}}
    (message,) = run_checks(tags=["qq_login"])
    assert (message.id, message.hint) == ("oauth.E014", "pip install redis")


def test_a_shop_without_qq_is_told_so_and_no_more(https, shop):
    shop.QQ_CLIENT_ID = shop.QQ_CLIENT_SECRET = ""
    assert found() == {"oauth.W001"}


def test_a_cache_whose_package_is_missing_is_named(https, shop):
    shop.CACHES = {"default": {"BACKEND": "nowhere.Cache"}}
    (message,) = run_checks(tags=["qq_login"])  # Django's own checks raise
    assert message.id == "oauth.E014"
    assert "No module named 'nowhere'" in message.msg
    assert message.hint


@pytest.fixture
def family(https, shop):
    """A shop that takes its accounts by the ready piece."""
    redis = {"BACKEND": "django_redis.cache.RedisCache", "LOCATION": "redis://127.0.0.1:1"}
    shop.CACHES = {**shop.CACHES, "verify_codes": redis}
    shop.QQ_ACCOUNT_SERIALIZER = f"{__name__}.FamilySerializer"
    return shop


class FamilySerializer(AccountSerializer):
    pass


def test_the_ready_piece_passes_where_it_fits(family):
    assert found() == set()
    family.QQ_ACCOUNT_SERIALIZER = "apps.oauth.shops.AccountSerializer"
    assert found() == set()


@pytest.mark.parametrize("alias", ["default", "code"])
def test_a_connection_that_django_redis_does_not_have_is_named(family, monkeypatch, alias):
    monkeypatch.setattr(FamilySerializer, "connection", alias)
    (message,) = run_checks(tags=["qq_login"])
    assert message.id == "oauth.E016"
    assert alias in message.msg
    assert "`connection`" in message.hint


@pytest.mark.parametrize("key", ["sms_", "sms_{}", "sms_{phone}", "sms_{mobile", "sms_{mobile[a]}", None])
def test_a_key_without_the_number_is_named(family, monkeypatch, key):
    monkeypatch.setattr(FamilySerializer, "key", key)
    (message,) = run_checks(tags=["qq_login"])
    assert message.id == "oauth.E017"
    assert repr(key) in message.msg


def test_a_user_model_without_a_unique_mobile_is_named(family):
    family.AUTH_USER_MODEL = "auth.Group"  # which has a name, and that is unique
    (message,) = run_checks(tags=["qq_login"])
    assert message.id == "oauth.E018"
    assert "auth.Group" in message.msg


@pytest.mark.parametrize(
    ("payload", "package"),
    [("jwt_payload", "rest_framework_jwt"), ("simplejwt_payload", "rest_framework_simplejwt")],
)
def test_a_payload_whose_package_is_missing_is_named(https, shop, monkeypatch, payload, package):
    shop.QQ_LOGIN_PAYLOAD = f"apps.oauth.shops.{payload}"
    monkeypatch.setitem(sys.modules, f"{package}.settings", None)
    (message,) = run_checks(tags=["qq_login"])
    assert message.id == "oauth.E019"
    assert message.msg.startswith(f"QQ_LOGIN_PAYLOAD needs {package}, which cannot be imported: ")


def test_a_payload_whose_package_is_there_passes(https, shop):
    shop.QQ_LOGIN_PAYLOAD = "apps.oauth.shops.simplejwt_payload"
    assert found() == set()


def test_views_that_are_not_mounted_are_said_once(https, shop):
    shop.ROOT_URLCONF = "apps.users.urls"
    shop.QQ_CALLBACK_PAGE = shop.QQ_REDIRECT_URI
    assert found() == {"oauth.E006"}


def test_they_can_be_asked_for_by_their_tag(https, shop):
    shop.QQ_TIMEOUT = 0
    assert {message.id for message in run_checks(tags=["qq_login"])} == {"oauth.E009"}


def test_the_page_itself_as_the_registered_address_is_fine(https, shop):
    shop.QQ_REDIRECT_URI = "https://testserver/oauth_callback.html"
    assert found() == set()


@pytest.mark.parametrize("host", ["127.0.0.1:8000", "localhost", "[::1]:8000"])
def test_http_is_fine_on_the_machine_itself(shop, host):
    shop.QQ_REDIRECT_URI = f"http://{host}/oauth/qq/callback/"
    assert found() == set()


def test_a_log_that_keeps_refusals_only_is_warned_of_in_production(https, shop):
    logging.getLogger("meiduo.audit").setLevel(logging.WARNING)
    assert found() == set()
    shop.QQ_API_URL = "https://graph.qq.com"
    shop.CACHES = {
        "default": {"BACKEND": "django.core.cache.backends.redis.RedisCache", "LOCATION": "redis://127.0.0.1:1"}
    }
    assert found() == {"oauth.W008"}


def test_http_is_fine_while_developing(shop):
    shop.DEBUG = True
    shop.QQ_REDIRECT_URI = "http://testserver/oauth/qq/callback/"
    assert found() == set()


def test_local_memory_is_an_error_in_production(https, shop):
    shop.QQ_API_URL = "https://graph.qq.com"
    shop.CACHES = {
        "default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache", "OPTIONS": {"MAX_ENTRIES": 10**6}}
    }
    assert found() == {"oauth.E012"}
    shop.DEBUG = True
    assert found() == set()


class Sharded(RedisCache):
    def __init__(self, server, params):
        super().__init__(server, params | {"OPTIONS": {"CLIENT_CLASS": "django_redis.client.ShardClient"}})


class Sentinels(RedisCache):
    def __init__(self, server, params):
        options = {"CLIENT_CLASS": "django_redis.client.SentinelClient", "SENTINELS": [("127.0.0.1", 1)]}
        super().__init__(server, params | {"OPTIONS": options})


@pytest.mark.parametrize("kind", ["filebased.FileBasedCache", "db.DatabaseCache"])
def test_a_cache_that_cannot_count_is_an_error_in_production(https, shop, kind, tmp_path):
    backend = f"django.core.cache.backends.{kind}"
    shop.CACHES = {"default": {"BACKEND": backend, "LOCATION": str(tmp_path), "OPTIONS": {"MAX_ENTRIES": 10**6}}}
    assert found() == set()
    shop.QQ_API_URL = "https://graph.qq.com"
    assert found() == {"oauth.E012"}


@pytest.mark.parametrize(
    ("backend", "location", "numbers"),
    [
        ("django.core.cache.backends.redis.RedisCache", ["redis://127.0.0.1:1", "redis://127.0.0.1:2"], {"oauth.W009"}),
        ("django.core.cache.backends.redis.RedisCache", "redis://127.0.0.1:1,redis://127.0.0.1:2", {"oauth.W009"}),
        ("django_redis.cache.RedisCache", ["redis://127.0.0.1:1", "redis://127.0.0.1:2"], {"oauth.W009"}),
        ("django_redis.cache.RedisCache", "redis://127.0.0.1:1,redis://127.0.0.1:2", {"oauth.W009"}),
        ("django_redis.cache.RedisCache", "redis://127.0.0.1:1", set()),
        (f"{__name__}.Sharded", ["redis://127.0.0.1:1", "redis://127.0.0.1:2"], set()),
        (f"{__name__}.Sentinels", "redis://master/0", {"oauth.W009"}),
        (f"{__name__}.Sentinels", ["redis://master/0?is_master=1"], set()),
        ("django.core.cache.backends.memcached.PyMemcacheCache", ["127.0.0.1:1", "127.0.0.1:2"], set()),
    ],
)
def test_a_cache_with_replicas_is_warned_of(https, shop, backend, location, numbers):
    shop.CACHES = {"default": {"BACKEND": backend, "LOCATION": location}}
    assert found() == numbers


def test_a_redis_is_fine_in_production(https, shop):
    shop.QQ_API_URL = "https://graph.qq.com"
    shop.CACHES = {
        "default": {"BACKEND": "django.core.cache.backends.redis.RedisCache", "LOCATION": "redis://127.0.0.1:1"}
    }
    assert found() == set()


@pytest.mark.parametrize("rate", ["60", "sixty/min", "60/eon", "", 60, "60/min/min"])
def test_a_rate_that_is_none_is_named(https, shop, rate):
    shop.REST_FRAMEWORK = {**shop.REST_FRAMEWORK, "DEFAULT_THROTTLE_RATES": {"qq_callback": rate}}
    assert found() == {"oauth.E013"}
    (message,) = (message for message in run_checks() if message.id == "oauth.E013")
    assert "qq_callback" in message.msg
    assert "30/min" in message.hint


@pytest.mark.parametrize("rate", [None, "5/second", "1000/day"])
def test_a_rate_of_drfs_is_fine(https, shop, rate):
    shop.REST_FRAMEWORK = {**shop.REST_FRAMEWORK, "DEFAULT_THROTTLE_RATES": {"qq_callback": rate}}
    assert found() == set()


def test_who_has_not_said_how_many_proxies_there_are_is_warned_in_production(https, shop):
    shop.REST_FRAMEWORK = {**shop.REST_FRAMEWORK, "NUM_PROXIES": None}
    assert found() == set()
    shop.QQ_API_URL = "https://graph.qq.com"
    shop.CACHES = {
        "default": {"BACKEND": "django.core.cache.backends.redis.RedisCache", "LOCATION": "redis://127.0.0.1:1"}
    }
    assert found() == {"oauth.W006"}

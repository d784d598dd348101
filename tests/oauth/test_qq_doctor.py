"""manage.py qq_doctor: what it finds, what it says to do, and its exit status."""

import os
import re
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from io import StringIO

import pytest
import time_machine
from django.conf import settings
from django.core.cache import caches
from django.core.cache.backends.locmem import LocMemCache
from django.core.management import CommandError, call_command
from django.db import OperationalError, connection
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.recorder import MigrationRecorder
from django.http import HttpResponse
from django.urls import set_script_prefix

from tests.tools import processes

API, PAGE = "https://api.shop.com.cn/oauth/qq/callback/", "https://www.shop.com.cn/oauth_callback.html"
CORS = "corsheaders.middleware.CorsMiddleware"
REDIS = {"default": {"BACKEND": "django.core.cache.backends.redis.RedisCache", "LOCATION": "redis://:pass@127.0.0.1:1"}}


def examine(*options):
    """Run the doctor; return what it printed and its exit status."""
    printed = StringIO()
    try:
        call_command("qq_doctor", *options, stdout=printed)
    except CommandError as error:
        return f"{printed.getvalue()}\n{error}\n", error.returncode
    return printed.getvalue(), 0


def findings(*options):
    """Run the doctor; return its findings as (kind, fault, mend)."""
    lines = examine(*options)[0].split("\n\n")[0].splitlines()
    pairs = zip(lines[::2], lines[1::2], strict=True)
    return [(fault[:9].strip(), fault[9:], mend.removeprefix(" " * 9 + "-> ")) for fault, mend in pairs]


@pytest.fixture
def plugged_in(shop, db):
    """A shop with page and API of one origin, all in order as far as a test can have it so."""
    shop.QQ_REDIRECT_URI = "https://testserver/oauth/qq/callback/"
    shop.QQ_CALLBACK_PAGE = "https://testserver/oauth_callback.html"
    return shop


@pytest.fixture
def two_origins(plugged_in):
    """A shop with its page on another origin of the same site."""
    plugged_in.QQ_REDIRECT_URI, plugged_in.QQ_CALLBACK_PAGE = API, PAGE
    plugged_in.ALLOWED_HOSTS = [".shop.com.cn"]
    plugged_in.CORS_ALLOWED_ORIGINS = ["https://www.shop.com.cn"]
    plugged_in.MIDDLEWARE = [CORS, *plugged_in.MIDDLEWARE]
    return plugged_in


@pytest.fixture
def news(plugged_in):
    """A function: return what the doctor finds beyond what it found in the shop that is in order."""
    before = findings()
    return lambda *options: [finding for finding in findings(*options) if finding not in before]


def set_all(settings, changes):
    for name, value in changes.items():
        setattr(settings, name, value)


# As a whole -----------------------------------------------------------------------------------------------------------


def test_a_shop_in_order_is_told_what_to_register_and_exits_with_0(plugged_in):
    printed, status = examine()
    assert status == 0
    assert not any(line.startswith("wrong") for line in printed.splitlines())
    register = "\n\nRegister this address with QQ, to the letter:\nhttps://testserver/oauth/qq/callback/\n"
    warnings = sum(finding[0] == "warning" for finding in findings())
    assert printed.endswith(f"{register}\nQQ login can work. Warnings: {warnings}.\n")


def test_anything_wrong_is_counted_and_exits_with_1(plugged_in):
    plugged_in.QQ_CALLBACK_PAGE = ""
    printed, status = examine()
    assert status == 1
    assert "QQ login cannot work yet. Wrong: 1, warnings: " in printed
    assert "\nhttps://testserver/oauth/qq/callback/\n" in printed


def test_start_up_checks_are_said_with_their_numbers(plugged_in, news):
    plugged_in.QQ_TIMEOUT = 0
    plugged_in.QQ_REQUIRE_COOKIE = False
    assert [(kind, fault) for kind, fault, _ in news()] == [
        ("wrong", "QQ_TIMEOUT is not a number of seconds up to 60: 0. (oauth.E009)"),
        (
            "warning",
            "QQ_REQUIRE_COOKIE is off: a planted link can bind a stranger's QQ to a shopper's account. (oauth.W004)",
        ),
    ]


def test_a_shop_of_the_family_that_has_only_installed_the_app(plugged_in):
    for name in ("CLIENT_ID", "CLIENT_SECRET", "REDIRECT_URI", "CALLBACK_PAGE"):
        delattr(plugged_in, f"QQ_{name}")
    plugged_in.QQ_APP_ID = "101000001"
    plugged_in.QQ_APP_KEY = "feedfacefeedfacefeedfacefeedface"
    plugged_in.QQ_REDIRECT_URL = "http://www.meiduo.site:8080/oauth_callback.html"
    plugged_in.QQ_STATE = "/"
    printed, status = examine()
    told = [line.split("-> ")[1] for line in printed.splitlines() if "-> " in line]
    assert status == 1
    assert told[:5] == [
        "Rename QQ_APP_ID to QQ_CLIENT_ID.",
        "Rename QQ_APP_KEY to QQ_CLIENT_SECRET.",
        "Rename QQ_REDIRECT_URL to QQ_CALLBACK_PAGE if it is your page's address, and set QQ_REDIRECT_URI to callback/ "
        "of the API, to be registered with QQ; if it is callback/ already, rename it to QQ_REDIRECT_URI.",
        "Set the address of the page that gets ?code=, as in https://www.example.com/oauth_callback.html.",
        "Delete it, unless code of yours reads it.",
    ]
    assert printed.count("Delete it") == 1
    assert "Register" not in printed
    assert "feedface" not in printed


def test_old_names_beside_the_new_ones_may_go(plugged_in, news):
    plugged_in.QQ_APP_ID = "101000002"
    plugged_in.QQ_LOGIN_URL = "https://graph.qq.com/oauth2.0/authorize"
    mend = "Delete it, unless code of yours reads it."
    assert news() == [
        ("note", "QQ_APP_ID is not read: QQ_CLIENT_ID is read in its place.", mend),
        ("note", "QQ_LOGIN_URL is not read: state and address are made for each login.", mend),
    ]


@pytest.mark.parametrize("name", ["QQ_CLIENT_SECRET", "SECRET_KEY", "QQ_APP_KEY"])
def test_no_secret_is_printed_though_it_stands_in_the_wrong_place(plugged_in, name):
    setattr(plugged_in, name, "feedfacefeedfacefeedfacefeedface")
    plugged_in.QQ_REDIRECT_URI = "feedfacefeedfacefeedfacefeedface"
    printed, status = examine()
    assert status == 1
    assert "'...'" in printed
    assert "feedface" not in printed


@pytest.mark.parametrize("package", ["oauth", "meiduo_qq_login"])
def test_in_another_shop_with_another_user_model_and_path(request, tmp_path, package):
    folder = processes.ROOT / "apps" if package == "oauth" else request.getfixturevalue("installed_wheel")
    environ = {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "other_shop.settings",
        "PYTHONPATH": os.pathsep.join((str(folder), str(processes.ROOT / "tests/shops"))),
        "OTHER_SHOP_OAUTH_APP": package,
        "OTHER_SHOP_VAR": str(tmp_path),
        "QQ_CLIENT_SECRET": "feedface",
        "QQ_API_URL": "http://127.0.0.1:9",
        "QQ_REDIRECT_URI": "http://127.0.0.1/qq/callback/",
        "QQ_CALLBACK_PAGE": "http://127.0.0.1/oauth_callback.html",
    }
    with pytest.raises(AssertionError, match=r"Run manage\.py migrate --database people"):
        processes.manage(environ, "qq_doctor", cwd=tmp_path)
    processes.manage(environ, "migrate", "--database=people", "--verbosity=0", cwd=tmp_path)
    printed = processes.manage(environ, "qq_doctor", cwd=tmp_path)
    assert re.search(r"\nQQ login can work\. Warnings: [0-9]\.\n$", printed)
    assert not any(line.startswith("wrong") for line in printed.splitlines())
    assert "feedface" not in printed


# Settings -------------------------------------------------------------------------------------------------------------


def test_faults_of_production_are_looked_for_with_debug_off_only(plugged_in, news):
    plugged_in.DEBUG = True
    plugged_in.QQ_REDIRECT_URI = "http://testserver/oauth/qq/callback/"
    plugged_in.QQ_CALLBACK_PAGE = "http://testserver/oauth_callback.html"
    assert [(kind, fault) for kind, fault, _ in news()] == [
        ("warning", "DEBUG is on, so faults that only matter in production are not looked for."),
        ("note", "QQ returns to our callback/, which sends the browser to http://testserver/oauth_callback.html."),
        ("warning", "QQ_REDIRECT_URI is http."),
    ]


@pytest.mark.parametrize(
    ("host", "fault"),
    [
        ("localhost", "QQ_REDIRECT_URI names the host localhost, which QQ's console refuses."),
        ("shop.localhost", "QQ_REDIRECT_URI names the host shop.localhost, which QQ's console refuses."),
        ("127.0.0.1", "QQ_REDIRECT_URI names the host 127.0.0.1, which QQ's console refuses."),
        ("[::1]", "QQ_REDIRECT_URI names the host ::1, which QQ's console refuses."),
        ("shop.example:8000", "QQ_REDIRECT_URI names the port 8000, which QQ's console may refuse."),
    ],
)
def test_an_address_that_qqs_console_refuses_is_a_warning(plugged_in, news, host, fault):
    plugged_in.ALLOWED_HOSTS = ["*"]
    plugged_in.QQ_REDIRECT_URI = f"https://{host}/oauth/qq/callback/"
    plugged_in.QQ_CALLBACK_PAGE = f"https://{host}/oauth_callback.html"
    assert [(kind, found) for kind, found, _ in news()][1:] == [("warning", fault)]
    assert examine()[1] == 0


def test_direct_mode_is_recognised(plugged_in, news):
    plugged_in.QQ_REDIRECT_URI = "https://testserver/oauth_callback.html"
    assert news() == [
        (
            "warning",
            "Direct mode: QQ_REDIRECT_URI is not our callback/, so QQ returns to your page itself.",
            "The page must forward its whole query: users/?code=...&state=... A page that only knows code needs "
            "QQ_CALLBACK_PAGE = its address, QQ_REDIRECT_URI = the API's /oauth/qq/callback/.",
        )
    ]


def test_in_direct_mode_another_page_for_errors_is_noticed(plugged_in, news):
    plugged_in.QQ_REDIRECT_URI = "https://testserver/oauth_callback.html?from=qq"
    plugged_in.QQ_CALLBACK_PAGE = "https://testserver/login.html"
    assert [(kind, fault) for kind, fault, _ in news()][1:] == [
        ("warning", "Errors of login/ go to another page than QQ returns to: https://testserver/login.html.")
    ]


def test_in_direct_mode_the_page_needs_no_leave_of_another_origin(two_origins):
    two_origins.QQ_REDIRECT_URI = PAGE
    two_origins.QQ_CALLBACK_PAGE = "http://other.example/oauth_callback.html"
    assert examine()[1] == 0


@pytest.mark.parametrize(
    ("name", "value", "number"),
    [
        ("QQ_REDIRECT_URI", None, "E003"),
        ("QQ_REDIRECT_URI", 5, "E003"),
        ("QQ_CALLBACK_PAGE", None, "E004"),
        ("ROOT_URLCONF", "apps.users.urls", "E006"),
    ],
)
def test_what_hangs_on_a_wrong_setting_is_left_for_the_next_time(plugged_in, name, value, number):
    setattr(plugged_in, name, value)
    (fault,) = (fault for kind, fault, _ in findings() if kind == "wrong")
    assert fault.endswith(f" (oauth.{number})")


def test_callback_mode_is_said(plugged_in):
    note = "QQ returns to our callback/, which sends the browser to https://testserver/oauth_callback.html."
    assert ("note", note, "If QQ's console refuses the final slash, drop it in QQ_REDIRECT_URI too.") in findings()


@pytest.mark.parametrize(
    "key", ["short", "django-insecure-" + "ab3$x" * 10, "change-me-" + "q7Zr" * 12, "your secret key, please " * 3]
)
def test_a_key_that_others_may_know_is_a_warning(plugged_in, news, key):
    plugged_in.SECRET_KEY = key
    fault = "SECRET_KEY is short, or looks like a sample: who knows it can log in as anybody."
    mend = 'Make one: python -c "import secrets; print(secrets.token_urlsafe(64))"'
    assert news() == [("warning", fault, mend)]


# Browsers -------------------------------------------------------------------------------------------------------------


def test_two_origins_of_one_site_need_credentials(two_origins):
    note = (
        "note",
        "Page and API are two origins of one site: https://www.shop.com.cn and https://api.shop.com.cn. Taken for the "
        "site: shop.com.cn.",
        "The page's calls of users/ need credentials (axios: withCredentials), and to that very host.",
    )
    assert note in findings()
    assert examine()[1] == 0


@pytest.mark.parametrize(
    ("page", "api", "sites"),
    [
        ("https://a.shop.com", "https://b.shop.com", "shop.com"),
        ("http://www.meiduo.site:8080", "http://api.meiduo.site:8000", "meiduo.site"),
        ("https://a.shop.com.cn", "https://b.shop.com.cn", "shop.com.cn"),
        ("https://a.shop.net.cn", "https://b.shop.net.cn", "shop.net.cn"),
        ("https://a.shop.org.cn", "https://b.shop.org.cn", "shop.org.cn"),
        ("https://a.shop.gov.cn", "https://b.shop.gov.cn", "shop.gov.cn"),
        ("https://a.shop.cn", "https://b.shop.cn", "shop.cn"),
        ("https://a.co.site", "https://b.co.site", "co.site"),
        ("http://127.0.0.1:8080", "http://127.0.0.1:8000", "127.0.0.1"),
        ("http://[::1]:8080", "http://[::1]:8000", "::1"),
        ("http://shop:8080", "http://shop:8000", "shop"),
    ],
)
def test_a_site_is_taken_for_its_last_labels(two_origins, page, api, sites):
    set_all(two_origins, {"QQ_CALLBACK_PAGE": f"{page}/", "QQ_REDIRECT_URI": f"{api}/oauth/qq/callback/"})
    two_origins.CORS_ALLOWED_ORIGINS, two_origins.ALLOWED_HOSTS = [page], ["*"]
    faults = [fault for _, fault, _ in findings()]
    assert f"Page and API are two origins of one site: {page} and {api}. Taken for the site: {sites}." in faults
    assert examine()[1] == 0


@pytest.mark.parametrize(
    ("page", "api"),
    [
        ("https://www.one.com", "https://api.other.com"),
        ("https://www.one.com.cn", "https://api.other.com.cn"),
        ("https://www.one.net.cn", "https://api.other.net.cn"),
        ("http://localhost:8080", "http://127.0.0.1:8000"),
        ("http://10.0.0.1", "http://10.1.0.1"),
    ],
)
def test_between_two_sites_the_cookie_does_not_go_along(two_origins, page, api):
    set_all(two_origins, {"QQ_CALLBACK_PAGE": f"{page}/", "QQ_REDIRECT_URI": f"{api}/oauth/qq/callback/"})
    two_origins.CORS_ALLOWED_ORIGINS, two_origins.ALLOWED_HOSTS = [page], ["*"]
    (wrong,) = (finding for finding in findings() if finding[0] == "wrong")
    assert wrong[1].startswith(f"Page and API are two sites, so browsers drop the login's cookie: {page} and {api}. ")
    assert "QQ_REQUIRE_COOKIE = False" in wrong[2]

    two_origins.QQ_REQUIRE_COOKIE = False
    assert examine()[1] == 0
    mend = "The login's cookie does not go along; it passes because QQ_REQUIRE_COOKIE is off."
    assert mend in [mend for _, _, mend in findings()]


def test_http_and_https_are_two_sites(two_origins):
    two_origins.QQ_CALLBACK_PAGE = "http://www.shop.com.cn/oauth_callback.html"
    two_origins.CORS_ALLOWED_ORIGINS = ["http://www.shop.com.cn"]
    (wrong,) = (finding for finding in findings() if finding[0] == "wrong")
    assert wrong == (
        "wrong",
        "The page is http and the API https, which is two sites to browsers: http://www.shop.com.cn and "
        "https://api.shop.com.cn. They drop the cookie.",
        "Serve the page over https too.",
    )
    two_origins.QQ_REQUIRE_COOKIE = False
    assert examine()[1] == 0


@pytest.mark.parametrize("require_cookie", [True, False])
def test_a_page_over_https_cannot_call_an_api_over_http(two_origins, require_cookie):
    two_origins.QQ_REDIRECT_URI = API.replace("https", "http")
    two_origins.QQ_REQUIRE_COOKIE = require_cookie
    (wrong,) = (finding for finding in findings() if finding[0] == "wrong")
    assert wrong == (
        "wrong",
        "The page is https and the API http, so browsers block the page's calls: https://www.shop.com.cn and "
        "http://api.shop.com.cn.",
        "Serve the API over https, and register that address with QQ.",
    )


def test_the_usual_port_makes_no_other_origin(plugged_in, news):
    plugged_in.QQ_CALLBACK_PAGE = "https://TESTSERVER:443/oauth_callback.html"
    assert [fault for _, fault, _ in news()] == [
        "QQ returns to our callback/, which sends the browser to https://TESTSERVER:443/oauth_callback.html."
    ]


def test_the_apis_host_must_be_allowed(two_origins):
    two_origins.ALLOWED_HOSTS = ["www.shop.com.cn"]
    (wrong,) = (finding for finding in findings() if finding[0] == "wrong")
    assert wrong == (
        "wrong",
        "ALLOWED_HOSTS has no api.shop.com.cn, the host of QQ_REDIRECT_URI: every call to it is answered 400.",
        'Add "api.shop.com.cn" to ALLOWED_HOSTS.',
    )


def gate(get_response):
    """A shop's middleware that lets nobody in."""
    return lambda request: HttpResponse(status=403)


def test_a_middleware_that_is_in_the_way_is_found(plugged_in, news):
    plugged_in.MIDDLEWARE = [f"{__name__}.gate", *plugged_in.MIDDLEWARE]
    assert news() == [
        (
            "wrong",
            "/oauth/qq/authorization/ answers 403 instead of 200, through your middleware.",
            "Let everything below it pass for visitors who are not logged in.",
        )
    ]


def test_a_shop_that_sends_everybody_to_https_is_called_over_https(plugged_in):
    plugged_in.SECURE_SSL_REDIRECT = True
    assert examine()[1] == 0


def test_the_path_is_found_where_the_shop_is_below_a_prefix(plugged_in):
    plugged_in.FORCE_SCRIPT_NAME = "/shop"
    plugged_in.QQ_REDIRECT_URI = "https://testserver/shop/oauth/qq/callback/"
    set_script_prefix("/shop")  # as django.setup() does
    try:
        assert examine()[1] == 0
    finally:
        set_script_prefix("/")


NO_CORS = (
    "wrong",
    "The page is of another origin, https://www.shop.com.cn, and may not read the API's answers: no CORS.",
    "Install django-cors-headers: its app, its middleware above CommonMiddleware, "
    'CORS_ALLOWED_ORIGINS = ["https://www.shop.com.cn"], CORS_ALLOW_CREDENTIALS = True, '
    'CORS_EXPOSE_HEADERS = ["Retry-After"].',
)
NO_ORIGIN = (
    "wrong",
    "The page's origin, https://www.shop.com.cn, may not read the API's answers.",
    'Add "https://www.shop.com.cn" to CORS_ALLOWED_ORIGINS; CORS_URLS_REGEX, if set, must match this app\'s paths.',
)
NO_CREDENTIALS = ("wrong", "The page's calls may not carry the login's cookie.", "Set CORS_ALLOW_CREDENTIALS = True.")


@pytest.mark.parametrize(
    ("changes", "wrong"),
    [
        ({"CORS_ALLOWED_ORIGINS": []}, NO_ORIGIN),
        ({"CORS_ALLOWED_ORIGINS": ["https://shop.com.cn", "http://www.shop.com.cn"]}, NO_ORIGIN),
        ({"CORS_URLS_REGEX": "^/api/"}, NO_ORIGIN),
        ({"CORS_ALLOW_CREDENTIALS": False}, NO_CREDENTIALS),
        ({"CORS_ALLOW_CREDENTIALS": False, "QQ_REQUIRE_COOKIE": False}, None),
        ({"CORS_ALLOW_ALL_ORIGINS": True, "CORS_ALLOW_CREDENTIALS": False}, NO_ORIGIN),
        ({"CORS_ALLOW_ALL_ORIGINS": True, "CORS_ALLOW_CREDENTIALS": False, "QQ_REQUIRE_COOKIE": False}, None),
        ({"CORS_ALLOW_ALL_ORIGINS": True}, None),
        ({"CORS_ALLOWED_ORIGINS": [], "CORS_ALLOWED_ORIGIN_REGEXES": [r"^https://\w+\.shop\.com\.cn$"]}, None),
    ],
)
def test_the_page_must_be_allowed_to_call(two_origins, changes, wrong):
    set_all(two_origins, changes)
    assert [finding for finding in findings() if finding[0] == "wrong"] == ([wrong] if wrong else [])


@pytest.mark.parametrize(
    ("exposed", "with_cookie", "is_heard"),
    [([], True, False), (["X-Own", "retry-after"], True, True), (["*"], True, False), (["*"], False, True)],
)
def test_the_page_should_hear_how_long_to_wait(two_origins, exposed, with_cookie, is_heard):
    two_origins.CORS_EXPOSE_HEADERS, two_origins.QQ_REQUIRE_COOKIE = exposed, with_cookie
    found = findings()
    assert "wrong" not in {kind for kind, _, _ in found}
    warned = (
        "warning",
        "The page may not read in how many seconds a call is worth another try.",
        'Set CORS_EXPOSE_HEADERS = ["Retry-After"].',
    )
    assert (warned not in found) is is_heard


def test_https_that_is_asked_of_a_proxys_calls_for_ever_is_found(plugged_in, news):
    plugged_in.SECURE_SSL_REDIRECT = True
    plugged_in.REST_FRAMEWORK = plugged_in.REST_FRAMEWORK | {"NUM_PROXIES": 1}
    ((kind, fault, mend),) = news()
    assert (kind, fault[:22], mend[:43]) == (
        "warning",
        "SECURE_SSL_REDIRECT is",
        'Set ("HTTP_X_FORWARDED_PROTO", "https") if ',
    )
    plugged_in.REST_FRAMEWORK = plugged_in.REST_FRAMEWORK | {"NUM_PROXIES": 0}
    assert news() == []
    plugged_in.REST_FRAMEWORK = plugged_in.REST_FRAMEWORK | {"NUM_PROXIES": 1}
    plugged_in.SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
    assert news() == []


def test_cors_may_be_missing_altogether(two_origins):
    two_origins.MIDDLEWARE = [path for path in two_origins.MIDDLEWARE if path != CORS]
    assert [finding for finding in findings() if finding[0] == "wrong"] == [NO_CORS]


def own_cors(get_response):
    """A shop's own middleware that does what django-cors-headers would."""

    def answer(request):
        response = get_response(request)
        response["Access-Control-Allow-Origin"] = request.headers.get("Origin", "")
        response["Access-Control-Allow-Credentials"] = "true"
        return response

    return answer


def test_a_shops_own_cors_is_as_good(two_origins):
    two_origins.MIDDLEWARE = [f"{__name__}.own_cors" if path == CORS else path for path in two_origins.MIDDLEWARE]
    assert examine()[1] == 0


# Servers --------------------------------------------------------------------------------------------------------------


class Forgetful(LocMemCache):
    """A cache that swallows its errors."""

    def add(self, *args, **kwargs):
        return True


def cache(backend, **options):
    return {"default": {"BACKEND": backend, "OPTIONS": {"MAX_ENTRIES": 100_000}, **options}}


@pytest.mark.parametrize(
    ("backends", "told"),
    [(REDIS, "ConnectionError"), (cache(f"{__name__}.Forgetful"), "it forgets")],
)
def test_a_cache_that_does_not_work_is_found(plugged_in, news, backends, told):
    plugged_in.CACHES = backends
    assert [finding for finding in news() if finding[0] == "wrong"] == [
        (
            "wrong",
            f'CACHES["default"] does not do its work: {told}.',
            "Look whether its server runs, and at LOCATION. It must add, count, and tell whether it deleted.",
        )
    ]


@pytest.fixture
def redis(shop):
    """The Redis of the default cache."""
    return caches["default"]._cache.get_client()


@pytest.mark.servers
def test_a_redis_that_throws_away_is_a_warning(plugged_in, redis, news):
    redis.config_set("maxmemory-policy", "allkeys-lru")
    try:
        assert news() == [
            (
                "warning",
                'CACHES["default"] is a Redis that throws away what it has no room for: allkeys-lru.',
                "Set maxmemory-policy noeviction: a login that is used up and forgotten would count again.",
            )
        ]
    finally:
        redis.config_set("maxmemory-policy", "noeviction")


@pytest.mark.servers
def test_a_redis_that_does_not_tell_is_no_finding(plugged_in, redis, news):
    redis.execute_command("ACL", "SETUSER", "weak", "on", ">pass", "~*", "+@all", "-config")
    redis.config_set("maxmemory-policy", "allkeys-lru")
    try:
        address = settings.CACHES["default"]["LOCATION"].replace("://", "://weak:pass@")
        plugged_in.CACHES = {"default": {**settings.CACHES["default"], "LOCATION": address}}
        assert news() == []
    finally:
        redis.config_set("maxmemory-policy", "noeviction")
        redis.execute_command("ACL", "DELUSER", "weak")


@pytest.mark.servers
def test_a_redis_that_runs_no_scripts_for_the_ready_piece_is_wrong(plugged_in, redis, news):
    redis.execute_command("ACL", "SETUSER", "weak", "on", ">pass", "~*", "+@all", "-eval", "-evalsha")
    try:
        address = settings.CACHES["default"]["LOCATION"]
        for user, kinds in (("", []), ("weak:pass@", ["wrong"])):
            codes = {"BACKEND": "django_redis.cache.RedisCache", "LOCATION": address.replace("://", f"://{user}")}
            plugged_in.CACHES = {**plugged_in.CACHES, "verify_codes": codes}
            plugged_in.QQ_ACCOUNT_SERIALIZER = "apps.oauth.shops.AccountSerializer"
            assert [kind for kind, fault, _ in news() if "NoPermissionError" in fault] == kinds
    finally:
        redis.execute_command("ACL", "DELUSER", "weak")


def test_sms_codes_without_a_redis_are_said_once(plugged_in):
    plugged_in.QQ_ACCOUNT_SERIALIZER = "apps.oauth.shops.AccountSerializer"  # and no verify_codes in CACHES
    (fault,) = (fault for kind, fault, _ in findings() if kind == "wrong")
    assert fault.endswith("(oauth.E016)")


def test_local_memory_is_for_one_process(plugged_in):
    plugged_in.CACHES = cache("django.core.cache.backends.locmem.LocMemCache")
    fault = 'CACHES["default"] is local memory: right for one process, wrong for several workers.'
    mend = "In production use Redis, with maxmemory-policy noeviction."
    assert ("warning", fault, mend) in findings()
    assert examine()[1] == 0
    assert not caches["default"]._cache

    plugged_in.QQ_API_URL = "https://graph.qq.com"
    assert ("warning", fault, mend) not in findings()
    assert [fault for kind, fault, _ in findings() if kind == "wrong"] == [
        'CACHES["default"] is local memory: what one process used up works in the next. (oauth.E012)'
    ]


@pytest.mark.parametrize(
    ("backend", "number"), [("django.core.cache.backends.dummy.DummyCache", "E011"), ("nowhere.Cache", "E014")]
)
def test_a_cache_that_is_none_is_said_once(plugged_in, backend, number):
    plugged_in.CACHES = cache(backend)
    (fault,) = (fault for kind, fault, _ in findings() if kind == "wrong")
    assert fault.endswith(f" (oauth.{number})")


MIGRATE = "Run manage.py migrate."
REPAIR = "Run manage.py migrate --fake oauth zero, then manage.py migrate."


def last_migration():
    return max(name for app, name in MigrationRecorder(connection).applied_migrations() if app == "oauth")


def test_migrations_that_are_not_applied_are_named(plugged_in, news):
    last = last_migration()
    MigrationRecorder(connection).record_unapplied("oauth", last)
    assert news() == [("wrong", f"Migrations are not applied: oauth.{last}.", MIGRATE)]


def test_of_many_migrations_the_last_are_named(plugged_in):
    recorder = MigrationRecorder(connection)
    for app, name in [name for name in recorder.applied_migrations() if name[0] != "contenttypes"]:
        recorder.record_unapplied(app, name)
    (fault,) = (fault for kind, fault, _ in findings() if kind == "wrong")
    assert fault.startswith("Migrations are not applied: ")
    assert fault.endswith(f", oauth.{MigrationLoader(connection).graph.leaf_nodes('oauth')[0][1]} and those before.")
    assert fault.count(",") == 2


@contextmanager
def in_place_of_the_table(*columns):
    """Put a table of these columns in place of ours, or none."""
    with connection.schema_editor(atomic=False) as editor:
        editor.alter_db_table(None, "tb_oauth_qq", "kept")
        if columns:
            editor.execute(f"CREATE TABLE tb_oauth_qq ({', '.join(columns)})")
            editor.execute("CREATE INDEX by_openid ON tb_oauth_qq (openid)")
    try:
        yield
    finally:
        with connection.schema_editor(atomic=False) as editor:
            if columns:
                editor.execute("DROP TABLE tb_oauth_qq")
            editor.alter_db_table(None, "kept", "tb_oauth_qq")


OLD_COLUMNS = (
    "id integer PRIMARY KEY",
    "create_time datetime",
    "update_time datetime",
    "user_id integer",
    "openid varchar(64)",
)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    ("columns", "faults"),
    [
        ((), ["The table tb_oauth_qq is missing."]),
        (
            OLD_COLUMNS,
            [
                "The table tb_oauth_qq has no column unionid.",
                "The table tb_oauth_qq takes an openid twice: the column is not unique.",
            ],
        ),
        (
            (*OLD_COLUMNS, "unionid varchar(64)", "CONSTRAINT both_of_them UNIQUE (openid, user_id)"),
            ["The table tb_oauth_qq takes an openid twice: the column is not unique."],
        ),
        ((*OLD_COLUMNS, "unionid varchar(64)", "CONSTRAINT it UNIQUE (openid)"), []),
    ],
    ids=["none", "old", "unique with the user", "unique"],
)
def test_a_table_that_is_not_ours_is_found(plugged_in, news, columns, faults):
    with in_place_of_the_table(*columns):
        assert news() == [("wrong", fault, REPAIR) for fault in faults]


@pytest.mark.django_db(transaction=True)
def test_a_table_before_its_migration_is_mended_by_it(plugged_in, news):
    last = last_migration()
    recorder = MigrationRecorder(connection)
    recorder.record_unapplied("oauth", last)
    try:
        with in_place_of_the_table(*OLD_COLUMNS, "unionid varchar(64)"):
            assert [mend for _, _, mend in news()] == [MIGRATE, MIGRATE]
    finally:
        recorder.record_applied("oauth", last)


def test_a_database_that_does_not_answer_is_found(plugged_in, news):
    def refuse(*args):
        raise OperationalError(2003, "Can't connect with password 'feedface'")

    with connection.execute_wrapper(refuse):
        assert news() == [
            (
                "wrong",
                'DATABASES["default"] cannot be used: OperationalError 2003.',
                "Look whether its server runs, and at user, password and name; the database's client says more.",
            )
        ]


@pytest.mark.servers
@pytest.mark.parametrize(("seconds", "apart"), [(0, None), (3, None), (-10, "10"), (10, "10"), (3600, "3600")])
def test_clocks_that_run_apart_are_a_warning(plugged_in, news, seconds, apart):
    with time_machine.travel(datetime.now(timezone.utc) + timedelta(seconds=seconds)):
        told = [(kind, fault) for kind, fault, _ in news()]
    fault = f"The clocks of this machine and of the database are {apart} seconds apart."
    assert told == ([("warning", fault)] if apart else [])


# QQ -------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def asked(plugged_in, qq, news):
    """A function: return what asking QQ adds."""
    return lambda: news("--online")


def test_without_being_told_to_it_asks_qq_nothing(plugged_in, qq):
    examine()
    assert qq.requests() == []


def test_qq_is_asked_once_and_knows_the_application(plugged_in, qq, asked):
    assert asked() == [
        (
            "note",
            "QQ refuses a made-up code, and nothing else (100019): it knows QQ_CLIENT_ID and QQ_CLIENT_SECRET.",
            "Whether QQ_REDIRECT_URI is registered, QQ may tell only when you press the button: try it.",
        )
    ]
    (request,) = qq.requests()
    assert request["path"] == "/oauth2.0/token"
    assert request["query"]["code"] == "0" * 32
    assert examine("--online")[1] == 0


@pytest.mark.parametrize(
    ("name", "value", "fault"),
    [
        ("QQ_CLIENT_ID", "101000002", "QQ refuses QQ_CLIENT_ID (100008)."),
        ("QQ_CLIENT_SECRET", "feedface" * 4, "QQ refuses QQ_CLIENT_SECRET (100009)."),
        ("QQ_REDIRECT_URI", "https://testserver/oauth/qq/callback", "QQ refuses QQ_REDIRECT_URI (100010)."),
    ],
)
def test_qq_says_which_setting_is_wrong(plugged_in, asked, name, value, fault):
    setattr(plugged_in, name, value)
    mend = "Compare it with what QQ's console shows, where a change takes up to half an hour."
    assert asked() == [("wrong", fault, mend)]
    printed, status = examine("--online")
    assert status == 1
    assert "feedface" not in printed


@pytest.mark.parametrize(
    ("number", "kind", "fault"),
    [
        (100001, "wrong", "QQ refuses QQ_CLIENT_ID (100001)."),
        (100002, "wrong", "QQ refuses QQ_CLIENT_SECRET (100002)."),
        (100011, "wrong", "QQ refuses the application (100011)."),
        (100018, "warning", "QQ has trouble of its own (100018), which says nothing of the settings."),
        (100020, "note", "QQ refuses a made-up code, and nothing else (100020): it knows QQ_CLIENT_ID and "),
    ],
)
def test_each_number_of_qqs_is_understood(plugged_in, qq, asked, number, kind, fault):
    qq.behave(token={"fault": "error", "number": number})
    ((found, said, _),) = asked()
    assert (found, said[: len(fault)]) == (kind, fault)


def test_a_qq_that_cannot_be_reached_is_found(plugged_in, asked):
    plugged_in.QQ_API_URL = "http://127.0.0.1:9"
    assert asked() == [
        (
            "wrong",
            "QQ does not answer as it should: /oauth2.0/token: ConnectionRefusedError.",
            "This machine must reach http://127.0.0.1:9: look at DNS and firewall. HTTPS_PROXY is not used.",
        )
    ]


def test_qq_is_not_asked_before_the_settings_are_right(plugged_in, qq, asked):
    plugged_in.QQ_CLIENT_ID = ""
    assert asked()[-1] == ("note", "QQ was not asked.", "Mend the settings first.")
    assert qq.requests() == []

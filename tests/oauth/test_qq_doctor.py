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
from django.db.migrations.recorder import MigrationRecorder
from django.http import HttpResponse
from django.urls import set_script_prefix

from tests.tools import processes

API, PAGE = "https://api.shop.com.cn/oauth/qq/callback/", "https://www.shop.com.cn/oauth_callback.html"
PIECES = "apps.oauth.contrib.meiduo"  # contrib.meiduo
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
    """Run the doctor; return its findings as (kind, fault, fix)."""
    lines = examine(*options)[0].split("\n\n")[0].splitlines()
    pairs = zip(lines[::2], lines[1::2], strict=True)
    return [(fault[:9].strip(), fault[9:], fix.removeprefix(" " * 9 + "-> ")) for fault, fix in pairs]


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


def test_shop_in_order_gets_the_url_to_register_and_exit_status_0(plugged_in):
    printed, status = examine()
    assert status == 0
    assert not any(line.startswith("wrong") for line in printed.splitlines())
    register = "\n\nRegister this URL with QQ, exactly as it is:\nhttps://testserver/oauth/qq/callback/\n"
    warnings = sum(finding[0] == "warning" for finding in findings())
    assert printed.endswith(f"{register}\nQQ login can work. Warnings: {warnings}.\n")


def test_anything_wrong_is_counted_and_exits_with_1(plugged_in):
    plugged_in.QQ_CALLBACK_PAGE = ""
    printed, status = examine()
    assert status == 1
    assert "QQ login cannot work yet. Wrong: 1, warnings: " in printed
    assert "\nhttps://testserver/oauth/qq/callback/\n" in printed


def test_checks_of_a_deployment_are_run_too(plugged_in, news):
    plugged_in.QQ_TIMEOUT = 0
    plugged_in.SECRET_KEY = "short"
    assert [(kind, fault) for kind, fault, _ in news()] == [
        ("wrong", "QQ_TIMEOUT is not a number of seconds up to 60: 0. (oauth.E009)"),
        (
            "warning",
            "SECRET_KEY is short or looks like a sample: anyone who knows it can log in as any user. (oauth.W019)",
        ),
    ]


def test_tutorial_shop_that_has_only_installed_the_app_learns_what_to_rename(plugged_in):
    for name in ("CLIENT_ID", "CLIENT_SECRET", "REDIRECT_URI", "CALLBACK_PAGE"):
        delattr(plugged_in, f"QQ_{name}")
    plugged_in.QQ_APP_ID = "101000001"
    plugged_in.QQ_APP_KEY = "feedfacefeedfacefeedfacefeedface"
    plugged_in.QQ_REDIRECT_URL = "http://www.meiduo.site:8080/oauth_callback.html"
    plugged_in.QQ_STATE = "/"
    printed, status = examine()
    assert status == 1
    assert [line.split("-> ")[1] for line in printed.splitlines() if "-> " in line][:5] == [
        "Rename QQ_APP_ID to QQ_CLIENT_ID.",
        "Rename QQ_APP_KEY to QQ_CLIENT_SECRET.",
        "If QQ_REDIRECT_URL is your page, as in most shops, rename it to QQ_CALLBACK_PAGE, else to QQ_REDIRECT_URI. "
        "QQ_REDIRECT_URI is the API's callback/, to be registered with QQ.",
        "Set the URL of the page that gets ?code=, as in https://www.example.com/oauth_callback.html. "
        "QQ_REDIRECT_URI is the API's callback/, to be registered with QQ.",
        "Delete it, unless your own code reads it.",
    ]
    assert "Register" not in printed
    assert "feedface" not in printed


@pytest.mark.parametrize("name", ["QQ_CLIENT_SECRET", "SECRET_KEY", "QQ_APP_KEY"])
def test_secret_in_the_wrong_setting_is_not_printed(plugged_in, name):
    setattr(plugged_in, name, "feedfacefeedfacefeedfacefeedface")
    plugged_in.QQ_REDIRECT_URI = "feedfacefeedfacefeedfacefeedface"
    printed, status = examine()
    assert status == 1
    assert "'...'" in printed
    assert "feedface" not in printed


@pytest.mark.parametrize("package", ["oauth", "meiduo_qq_login"])
def test_shop_with_another_user_model_package_and_database(request, tmp_path, package):
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


# The login ------------------------------------------------------------------------------------------------------------


def test_debug_is_reported(plugged_in, news):
    plugged_in.DEBUG = True
    assert news() == [
        (
            "warning",
            "DEBUG is on, so faults that matter only in production, such as http, were not looked for.",
            "Run this command with the settings of production too.",
        )
    ]


def test_callback_mode_is_described(plugged_in):
    assert findings()[-1] == (
        "note",
        "QQ returns to our callback/, which redirects the browser to https://testserver/oauth_callback.html.",
        "If QQ's console refuses the final slash, leave it out in QQ_REDIRECT_URI too.",
    )


def test_direct_mode_is_described(plugged_in, news):
    plugged_in.QQ_REDIRECT_URI = "https://testserver/oauth_callback.html"
    assert news() == [
        (
            "warning",
            "Direct mode: QQ_REDIRECT_URI is not our callback/, so QQ returns to your page itself.",
            "The page must forward its whole query: users/?code=...&state=... For a page that knows only code: "
            "QQ_CALLBACK_PAGE = its URL, QQ_REDIRECT_URI = that of /oauth/qq/callback/.",
        )
    ]


def test_two_origins_of_one_site_need_credentials(two_origins):
    assert examine()[1] == 0
    assert findings()[-1] == (
        "note",
        "Page and API are two origins of one site, https://shop.com.cn.",
        "The page's calls of users/ need credentials (axios: withCredentials), and the API's own host.",
    )


def test_default_port_makes_no_other_origin(plugged_in, news):
    plugged_in.QQ_CALLBACK_PAGE = "https://TESTSERVER:443/oauth_callback.html"
    assert [fault for _, fault, _ in news()] == [
        "QQ returns to our callback/, which redirects the browser to https://TESTSERVER:443/oauth_callback.html."
    ]


def test_two_sites_pass_without_the_cookie_only(two_origins):
    two_origins.QQ_CALLBACK_PAGE = "http://www.shop.com.cn/oauth_callback.html"
    two_origins.CORS_ALLOWED_ORIGINS = ["http://www.shop.com.cn"]
    assert [fault[-13:] for kind, fault, _ in findings() if kind == "wrong"] == [" (oauth.E022)"]
    two_origins.QQ_REQUIRE_COOKIE = False
    assert examine()[1] == 0
    assert findings()[-1] == (
        "note",
        "Page and API are two sites, http://shop.com.cn and https://shop.com.cn.",
        "The login's cookie is not sent, which is accepted because QQ_REQUIRE_COOKIE is off.",
    )


def test_direct_mode_needs_no_cors(two_origins):
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
        ("CACHES", {"default": {"BACKEND": "django.core.cache.backends.dummy.DummyCache"}}, "E011"),
        ("CACHES", {"default": {"BACKEND": "nowhere.Cache"}}, "E014"),
        ("QQ_ACCOUNT_SERIALIZER", f"{PIECES}.AccountSerializer", "E016"),  # without verify_codes in CACHES
    ],
)
def test_probes_that_rely_on_a_wrong_setting_are_skipped(plugged_in, name, value, number):
    setattr(plugged_in, name, value)
    assert [fault[-13:] for kind, fault, _ in findings() if kind == "wrong"] == [f" (oauth.{number})"]


# The API --------------------------------------------------------------------------------------------------------------


def wrong():
    return [finding for finding in findings() if finding[0] == "wrong"]


def test_apis_host_must_be_allowed(two_origins):
    two_origins.ALLOWED_HOSTS = ["www.shop.com.cn"]
    assert wrong() == [
        (
            "wrong",
            "ALLOWED_HOSTS lacks api.shop.com.cn, QQ_REDIRECT_URI's host: every call to it is answered 400.",
            'Add "api.shop.com.cn" to ALLOWED_HOSTS.',
        )
    ]


def gate(get_response):
    """Middleware of a shop that lets no visitor in."""
    return lambda request: HttpResponse(status=403)


def test_middleware_must_let_calls_through(plugged_in, news):
    plugged_in.MIDDLEWARE = [f"{__name__}.gate", *plugged_in.MIDDLEWARE]
    assert news() == [
        (
            "wrong",
            "/oauth/qq/authorization/ answers 403 instead of 200, through your middleware.",
            "Let all paths of this app pass for visitors who are not logged in.",
        )
    ]


def test_shop_that_redirects_to_https_is_called_over_https(plugged_in):
    plugged_in.SECURE_SSL_REDIRECT = True
    assert examine()[1] == 0


def test_api_below_a_prefix_is_found(plugged_in):
    plugged_in.FORCE_SCRIPT_NAME = "/shop"
    plugged_in.QQ_REDIRECT_URI = "https://testserver/shop/oauth/qq/callback/"
    set_script_prefix("/shop")  # as django.setup() does
    try:
        assert examine()[1] == 0
    finally:
        set_script_prefix("/")


def own_cors(get_response):
    """A shop's own middleware that does what django-cors-headers would."""

    def answer(request):
        response = get_response(request)
        response["Access-Control-Allow-Origin"] = request.headers.get("Origin", "")
        response["Access-Control-Allow-Credentials"] = "true"
        return response

    return answer


NO_ORIGIN = (
    "wrong",
    "The page's origin, https://www.shop.com.cn, may not read the API's answers.",
    "Install django-cors-headers, its middleware above CommonMiddleware, and set CORS_ALLOWED_ORIGINS = "
    '["https://www.shop.com.cn"]; CORS_URLS_REGEX, if set, must match this app\'s paths.',
)
NO_CREDENTIALS = ("wrong", "The page's calls may not send the login's cookie.", "Set CORS_ALLOW_CREDENTIALS = True.")


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"CORS_ALLOWED_ORIGINS": []}, [NO_ORIGIN]),
        ({"CORS_ALLOWED_ORIGINS": ["https://shop.com.cn", "http://www.shop.com.cn"]}, [NO_ORIGIN]),
        ({"CORS_URLS_REGEX": "^/api/"}, [NO_ORIGIN]),
        ({"CORS_ALLOW_CREDENTIALS": False}, [NO_CREDENTIALS]),
        ({"CORS_ALLOW_CREDENTIALS": False, "QQ_REQUIRE_COOKIE": False}, []),
        ({"CORS_ALLOW_ALL_ORIGINS": True, "CORS_ALLOW_CREDENTIALS": False}, [NO_ORIGIN]),
        ({"CORS_ALLOW_ALL_ORIGINS": True, "CORS_ALLOW_CREDENTIALS": False, "QQ_REQUIRE_COOKIE": False}, []),
        ({"CORS_ALLOW_ALL_ORIGINS": True}, []),
        ({"CORS_ALLOWED_ORIGINS": [], "CORS_ALLOWED_ORIGIN_REGEXES": [r"^https://\w+\.shop\.com\.cn$"]}, []),
        ({"MIDDLEWARE": ["django.middleware.common.CommonMiddleware"]}, [NO_ORIGIN]),
        ({"MIDDLEWARE": [f"{__name__}.own_cors"]}, []),
    ],
)
def test_cors_must_let_the_page_call(two_origins, changes, expected):
    set_all(two_origins, changes)
    assert wrong() == expected


@pytest.mark.parametrize(
    ("exposed", "with_cookie", "is_readable"),
    [([], True, False), (["X-Own", "retry-after"], True, True), (["*"], True, False), (["*"], False, True)],
)
def test_page_should_be_able_to_read_retry_after(two_origins, exposed, with_cookie, is_readable):
    two_origins.CORS_EXPOSE_HEADERS, two_origins.QQ_REQUIRE_COOKIE = exposed, with_cookie
    found = findings()
    warning = (
        "warning",
        "The page may not read after how many seconds to retry.",
        'Set CORS_EXPOSE_HEADERS = ["Retry-After"].',
    )
    assert (warning not in found) is is_readable
    assert wrong() == []


# Servers --------------------------------------------------------------------------------------------------------------


class Forgetful(LocMemCache):
    """A cache that swallows its errors."""

    def add(self, *args, **kwargs):
        return True


def cache(backend, **options):
    return {"default": {"BACKEND": backend, "OPTIONS": {"MAX_ENTRIES": 100_000}, **options}}


@pytest.mark.parametrize(
    ("backends", "problem"),
    [(REDIS, "ConnectionError"), (cache(f"{__name__}.Forgetful"), "it forgets")],
)
def test_cache_must_work(plugged_in, news, backends, problem):
    plugged_in.CACHES = backends
    assert [finding for finding in news() if finding[0] == "wrong"] == [
        (
            "wrong",
            f'CACHES["default"] does not work: {problem}.',
            "Check LOCATION and whether the server runs. It must add, count, and report deletions.",
        )
    ]


@pytest.fixture
def redis(shop):
    """The Redis of the default cache."""
    return caches["default"]._cache.get_client()


@pytest.mark.servers
def test_redis_that_evicts_is_a_warning(plugged_in, redis, news):
    redis.config_set("maxmemory-policy", "allkeys-lru")
    try:
        assert news() == [
            (
                "warning",
                'CACHES["default"] is a Redis that evicts entries when it is full: allkeys-lru.',
                "Set maxmemory-policy noeviction: without its record, a used login works again.",
            )
        ]
    finally:
        redis.config_set("maxmemory-policy", "noeviction")


@pytest.mark.servers
def test_redis_that_hides_its_policy_is_no_finding(plugged_in, redis, news):
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
def test_redis_of_the_sms_codes_must_run_scripts(plugged_in, redis, news):
    redis.execute_command("ACL", "SETUSER", "weak", "on", ">pass", "~*", "+@all", "-eval", "-evalsha")
    try:
        address = settings.CACHES["default"]["LOCATION"]
        for user, kinds in (("", []), ("weak:pass@", ["wrong"])):
            codes = {"BACKEND": "django_redis.cache.RedisCache", "LOCATION": address.replace("://", f"://{user}")}
            plugged_in.CACHES = {**plugged_in.CACHES, "verify_codes": codes}
            plugged_in.QQ_ACCOUNT_SERIALIZER = f"{PIECES}.AccountSerializer"
            assert [kind for kind, fault, _ in news() if "NoPermissionError" in fault] == kinds
    finally:
        redis.execute_command("ACL", "DELUSER", "weak")


def test_probe_leaves_nothing_in_the_cache(plugged_in):
    plugged_in.CACHES = cache("django.core.cache.backends.locmem.LocMemCache")
    assert examine()[1] == 0
    assert not caches["default"]._cache


MIGRATE = "Run manage.py migrate."
REPAIR = "Run manage.py migrate --fake oauth zero, then manage.py migrate."


def last_migration():
    return max(name for app, name in MigrationRecorder(connection).applied_migrations() if app == "oauth")


def test_migrations_that_are_not_applied_are_listed(plugged_in, news):
    last = last_migration()
    MigrationRecorder(connection).record_unapplied("oauth", last)
    assert news() == [("wrong", f"Migrations are not applied: oauth.{last}.", MIGRATE)]


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
                "The table tb_oauth_qq accepts an openid twice, as the column is not unique.",
            ],
        ),
        (
            (*OLD_COLUMNS, "unionid varchar(64)", "CONSTRAINT both_of_them UNIQUE (openid, user_id)"),
            ["The table tb_oauth_qq accepts an openid twice, as the column is not unique."],
        ),
        ((*OLD_COLUMNS, "unionid varchar(64)", "CONSTRAINT it UNIQUE (openid)"), []),
    ],
    ids=["none", "old", "unique with the user", "unique"],
)
def test_table_that_does_not_fit_is_found(plugged_in, news, columns, faults):
    with in_place_of_the_table(*columns):
        assert news() == [("wrong", fault, REPAIR) for fault in faults]


def test_database_error_is_shown_by_class_and_number(plugged_in, news):
    def refuse(*args):
        raise OperationalError(2003, "Can't connect with password 'feedface'")

    with connection.execute_wrapper(refuse):
        assert news() == [
            (
                "wrong",
                'DATABASES["default"] cannot be used: OperationalError 2003.',
                "Check its server, user, password and name; the database's own client says more.",
            )
        ]


@pytest.mark.servers
@pytest.mark.parametrize(("seconds", "apart"), [(0, None), (3, None), (-10, "10"), (10, "10"), (3600, "3600")])
def test_clocks_that_differ_are_a_warning(plugged_in, news, seconds, apart):
    with time_machine.travel(datetime.now(timezone.utc) + timedelta(seconds=seconds)):
        found = [(kind, fault) for kind, fault, _ in news()]
    fault = f"The clocks of this machine and of the database differ by {apart} seconds."
    assert found == ([("warning", fault)] if apart else [])


# QQ -------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def online(plugged_in, qq, news):
    """A function: return what calling QQ adds to the findings."""
    return lambda: news("--online")


def test_qq_is_called_online_only(plugged_in, qq):
    examine()
    assert qq.requests() == []


def test_qq_is_called_once_and_accepts_the_application(plugged_in, qq, online):
    assert online() == [
        (
            "note",
            "QQ refuses only the made-up code (100019): it accepts QQ_CLIENT_ID and QQ_CLIENT_SECRET.",
            "Whether QQ_REDIRECT_URI is registered, QQ may say only when you press the button: try it.",
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
def test_setting_that_qq_refuses_is_named(plugged_in, online, name, value, fault):
    setattr(plugged_in, name, value)
    hint = "Compare it with QQ's console, where a change takes up to half an hour."
    assert online() == [("wrong", fault, hint)]
    printed, status = examine("--online")
    assert status == 1
    assert "feedface" not in printed


@pytest.mark.parametrize(
    ("number", "kind", "fault"),
    [
        (100001, "wrong", "QQ refuses QQ_CLIENT_ID (100001)."),
        (100002, "wrong", "QQ refuses QQ_CLIENT_SECRET (100002)."),
        (100011, "wrong", "QQ refuses the application (100011)."),
        (100018, "warning", "QQ has trouble of its own (100018), which says nothing about the settings."),
        (100020, "note", "QQ refuses only the made-up code (100020): it accepts QQ_CLIENT_ID and "),
    ],
)
def test_error_number_of_qq_is_explained(plugged_in, qq, online, number, kind, fault):
    qq.behave(token={"fault": "error", "number": number})
    ((found, said, _),) = online()
    assert (found, said[: len(fault)]) == (kind, fault)


def test_unreachable_qq_is_found(plugged_in, online):
    plugged_in.QQ_API_URL = "http://127.0.0.1:9"
    assert online()[1:] == [
        (
            "wrong",
            "QQ does not answer correctly: /oauth2.0/token: ConnectionRefusedError.",
            "This machine must reach http://127.0.0.1:9: check DNS and firewall; HTTPS_PROXY is unused.",
        )
    ]


def test_qq_is_not_called_before_the_settings_are_right(plugged_in, qq, online):
    plugged_in.QQ_CLIENT_ID = ""
    assert online()[-1] == ("note", "QQ was not called.", "Fix the settings first.")
    assert qq.requests() == []

"""manage.py qq_doctor: what it finds, what it says to do, and its exit status."""

import os
import re
from datetime import datetime, timedelta, timezone
from io import StringIO

import pytest
import time_machine
import trustme
from django.conf import settings
from django.core.cache import caches
from django.core.cache.backends.locmem import LocMemCache
from django.core.management import CommandError, call_command
from django.db import OperationalError, connection
from django.db.migrations.recorder import MigrationRecorder
from django.http import HttpResponse
from django.urls import set_script_prefix

from apps.oauth.qq import MINI_API_URL
from tests.oauth.old_shop import table_replaced
from tests.oauth.qq.conftest import raw_server
from tests.oauth.test_checks import change
from tests.tools import processes

API, PAGE = "https://api.shop.com.cn/oauth/qq/callback/", "https://www.shop.com.cn/oauth_callback.html"
ONE_URI, ONE_PAGE = "https://testserver/oauth/qq/callback/", "https://testserver/oauth_callback.html"
SECRET = "feedfacefeedfacefeedfacefeedface"
REDIS = {"default": {"BACKEND": "django.core.cache.backends.redis.RedisCache", "LOCATION": "redis://:pass@127.0.0.1:1"}}


def examine(*options):
    """Run the doctor; return what it printed and its exit status."""
    printed = StringIO()
    try:
        call_command("qq_doctor", *options, stdout=printed)
    except CommandError as error:
        return f"{printed.getvalue()}{error}\n", error.returncode
    return printed.getvalue(), 0


def findings(*options):
    """Run the doctor; return its findings as (kind, problem, hint)."""
    found = re.findall(r"^(wrong|warning|note) +(.*)(?:\n +-> (.*))?$", examine(*options)[0], re.MULTILINE)
    return [finding for finding in found if "oauth.W013" not in finding[1] and "oauth.W015" not in finding[1]]


@pytest.fixture
def plugged_in(shop, db):
    """A shop with page and API of one origin, in order except for the stand-in and its host without a domain."""
    put_in_order(shop)
    return shop


def put_in_order(shop):
    change(shop, {"QQ_REDIRECT_URI": ONE_URI, "QQ_CALLBACK_PAGE": ONE_PAGE, "SECRET_KEY": "abcdefghij" * 5})
    shop.QQ_MINI_API_URL = MINI_API_URL


@pytest.fixture
def two_origins(plugged_in):
    """A shop with its page on another origin of the same site."""
    change(plugged_in, {"QQ_REDIRECT_URI": API, "QQ_CALLBACK_PAGE": PAGE, "ALLOWED_HOSTS": [".shop.com.cn"]})
    plugged_in.CORS_ALLOWED_ORIGINS = ["https://www.shop.com.cn"]
    plugged_in.MIDDLEWARE = ["corsheaders.middleware.CorsMiddleware", *plugged_in.MIDDLEWARE]
    return plugged_in


def test_shop_in_order_gets_the_url_to_register_and_exit_status_0(plugged_in, qq_server):
    assert examine() == (
        f"""\
warning  QQ_API_URL is a stand-in's: '{qq_server.url}'. Users cannot log in with their own QQ. (oauth.W013)
         -> Remove it in production.
warning  QQ_REDIRECT_URI has no domain, or has a port, and QQ's console may refuse it: '{ONE_URI}'. (oauth.W015)
         -> Register a domain with the default port. To try it on one machine, add it to the hosts file.

Register this URL with QQ, exactly as it is:
{ONE_URI}

QQ login can work. Warnings: 2.
""",
        0,
    )


def test_wrong_setting_is_counted_and_exits_with_1_before_any_server_is_called(plugged_in):
    change(plugged_in, {"QQ_CALLBACK_PAGE": "", "CACHES": REDIS, "DEBUG": True, "SECRET_KEY": "short"})
    printed, status = examine("--online")
    assert re.findall(r"^(?:wrong|warning) .*\((.*)\)$", printed, re.MULTILINE)[:2] == ["oauth.E004", "security.W009"]
    assert re.findall("security.W0..", printed) == ["security.W009", "security.W018"]
    assert "note     API, cache, database and QQ were not called.\n         -> Fix the settings first.\n" in printed
    assert printed.endswith(f"\n{ONE_URI}\n\nQQ login cannot work yet. Wrong: 1, warnings: 4.\n")
    assert status == 1


def test_warning_of_the_client_id_or_of_two_sites_is_wrong_here_unless_it_is_silenced(two_origins):
    change(two_origins, {"QQ_CLIENT_ID": "", "QQ_CALLBACK_PAGE": "https://shop.example/page"})
    assert [(kind, problem[-5:-1]) for kind, problem, _ in findings()[:2]] == [("wrong", "W001"), ("wrong", "W020")]
    change(two_origins, {"QQ_CLIENT_ID": "1", "SILENCED_SYSTEM_CHECKS": ["oauth.W020"]})
    two_origins.CORS_ALLOWED_ORIGINS = ["https://shop.example"]
    assert examine()[1] == 0


def test_tutorial_shop_that_has_only_installed_the_app_learns_what_to_rename(plugged_in):
    for name in ("CLIENT_ID", "CLIENT_SECRET", "REDIRECT_URI", "CALLBACK_PAGE"):
        delattr(plugged_in, f"QQ_{name}")
    change(plugged_in, {"QQ_APP_ID": "101000001", "QQ_APP_KEY": SECRET, "QQ_REDIRECT_URL": PAGE, "QQ_STATE": "/"})
    printed, status = examine()
    assert re.findall(r"^wrong +(QQ_\w+)", printed, re.M) == ["QQ_CLIENT_ID", "QQ_REDIRECT_URI", "QQ_CALLBACK_PAGE"]
    new_names = ["QQ_CLIENT_ID", "QQ_CLIENT_SECRET", "QQ_CALLBACK_PAGE"]
    assert re.findall(r"-> Rename it to (\w+)|-> (Delete it)", printed) == [
        *((n, "") for n in new_names),
        ("", "Delete it"),
    ]
    assert (status, re.search("Register|feedface", printed)) == (1, None)


@pytest.mark.parametrize("name", ["QQ_CLIENT_SECRET", "SECRET_KEY", "QQ_APP_KEY"])
def test_secret_in_the_wrong_setting_is_not_printed(plugged_in, name):
    change(plugged_in, {name: SECRET, "QQ_REDIRECT_URI": SECRET})
    printed, status = examine()
    assert (status, "'...'" in printed, "feedface" in printed) == (1, True, False)


def test_shop_with_another_user_model_and_database(tmp_path):
    environ = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join((str(processes.ROOT / "apps"), str(processes.ROOT / "tests/shops"))),
        **{
            "DJANGO_SETTINGS_MODULE": "other_shop.settings",
            "OTHER_SHOP_OAUTH_APP": "oauth",
            "OTHER_SHOP_VAR": str(tmp_path),
        },
        **{"QQ_CLIENT_SECRET": "feedface", "QQ_API_URL": "http://127.0.0.1:9"},
        "QQ_REDIRECT_URI": "http://127.0.0.1/qq/callback/",
        "QQ_CALLBACK_PAGE": "http://127.0.0.1/oauth_callback.html",
    }
    with pytest.raises(AssertionError, match=r"Run manage\.py migrate --database people"):
        processes.manage(environ, "qq_doctor", cwd=tmp_path)
    processes.manage(environ, "migrate", "--database=people", "--verbosity=0", cwd=tmp_path)
    printed = processes.manage(environ, "qq_doctor", cwd=tmp_path)
    assert re.search(r"\nQQ login can work\. Warnings: [0-9]\.\n$", printed)
    assert "feedface" not in printed


def gate(get_response):
    """Middleware of a shop that lets no visitor in."""
    return lambda request: HttpResponse(status=403)


@pytest.mark.parametrize(("gated", "status", "host"), [(True, 403, "testserver"), (False, 400, "api.shop.com.cn")])
def test_api_must_answer_the_page(plugged_in, gated, status, host):
    change(
        plugged_in,
        {"MIDDLEWARE": [f"{__name__}.gate"]} if gated else {"QQ_REDIRECT_URI": API, "QQ_CALLBACK_PAGE": PAGE},
    )
    hint = f'Let it pass through your middleware. If it is 400, add "{host}" to ALLOWED_HOSTS.'
    assert findings() == [("wrong", f"/oauth/qq/authorization/ answers {status} instead of 200.", hint)]


def test_api_is_called_as_the_page_calls_it_over_https_and_below_a_prefix(plugged_in):
    change(plugged_in, {"SECURE_SSL_REDIRECT": True, "QQ_CALLBACK_PAGE": "https://TESTSERVER:443/oauth_callback.html"})
    change(plugged_in, {"FORCE_SCRIPT_NAME": "/shop", "QQ_REDIRECT_URI": "https://testserver/shop/oauth/qq/callback/"})
    set_script_prefix("/shop")  # as django.setup() does
    try:
        assert findings() == []
    finally:
        set_script_prefix("/")


def test_direct_mode_needs_no_cors(two_origins):
    change(two_origins, {"QQ_REDIRECT_URI": PAGE, "CORS_ALLOWED_ORIGINS": []})
    assert [(kind, problem[-12:]) for kind, problem, _ in findings()] == [("warning", "(oauth.W014)")]


ORIGINS = (
    "wrong",
    "The page's origin, https://www.shop.com.cn, may not read the API's answers.",
    "Install django-cors-headers above CommonMiddleware, and set CORS_ALLOWED_ORIGINS = "
    '["https://www.shop.com.cn"]. CORS_URLS_REGEX, if set, must match this app\'s paths.',
)
CREDENTIALS = ("wrong", "The page's calls may not send the login's cookie.", "Set CORS_ALLOW_CREDENTIALS = True.")
RETRY = ("warning", "The page cannot read when to retry.", 'Set CORS_EXPOSE_HEADERS = ["Retry-After"].')
BOTH_CALLS = "Both calls of users/, GET and POST, must send the login's cookie (axios: withCredentials)."
COOKIE = ("note", "Page and API have two origins.", BOTH_CALLS)
NO_COOKIE = {"CORS_ALLOW_CREDENTIALS": False, "QQ_REQUIRE_COOKIE": False}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, None),
        ({"CORS_ALLOWED_ORIGINS": []}, ORIGINS),
        ({"CORS_ALLOWED_ORIGINS": ["https://shop.com.cn", "http://www.shop.com.cn"]}, ORIGINS),
        ({"CORS_URLS_REGEX": "^/api/"}, ORIGINS),
        ({"CORS_ALLOW_CREDENTIALS": False}, CREDENTIALS),
        (NO_COOKIE, None),
        ({"CORS_ALLOW_ALL_ORIGINS": True, "CORS_ALLOW_CREDENTIALS": False}, ORIGINS),
        ({"CORS_ALLOW_ALL_ORIGINS": True, **NO_COOKIE}, None),
        ({"CORS_ALLOW_ALL_ORIGINS": True}, None),
        ({"CORS_ALLOWED_ORIGINS": [], "CORS_ALLOWED_ORIGIN_REGEXES": [r"^https://\w+\.shop\.com\.cn$"]}, None),
        ({"MIDDLEWARE": ["django.middleware.common.CommonMiddleware"]}, ORIGINS),
        ({"CORS_EXPOSE_HEADERS": []}, RETRY),
        ({"CORS_EXPOSE_HEADERS": ["X-Own", "retry-after"]}, None),
        ({"CORS_EXPOSE_HEADERS": ["*"]}, RETRY),
        ({"CORS_EXPOSE_HEADERS": ["*"], "QQ_REQUIRE_COOKIE": False}, None),
    ],
)
def test_cors_must_let_the_page_call(two_origins, changes, expected):
    change(two_origins, changes)
    found = [finding for finding in findings() if "oauth.W004" not in finding[1]]
    assert found == [*filter(None, [expected]), *([] if "QQ_REQUIRE_COOKIE" in changes else [COOKIE])]


def test_shop_that_requires_no_cookie_is_not_told_that_calls_need_it(two_origins):
    change(two_origins, NO_COOKIE)
    problem = "QQ_REQUIRE_COOKIE is off: a planted link can bind a stranger's QQ to a user's account. (oauth.W004)"
    hint = "Remove it once page and API are one origin, or both calls of users/ carry cookies (withCredentials)."
    assert findings() == [("warning", problem, hint)]


class Forgetful(LocMemCache):
    """A cache that swallows its errors."""

    def add(self, *args, **kwargs):
        return True


def cache(backend):
    return {"default": {"BACKEND": backend, "LOCATION": "doctor", "OPTIONS": {"MAX_ENTRIES": 100_000}}}


@pytest.mark.parametrize(
    ("backends", "problem"),
    [(REDIS, "ConnectionError"), (cache(f"{__name__}.Forgetful"), "it does not add, count or delete")],
)
def test_cache_must_work(plugged_in, backends, problem):
    plugged_in.CACHES = backends
    problem = f'CACHES["default"] does not work: {problem}.'
    assert findings() == [("wrong", problem, "Check LOCATION and whether the server runs.")]


def test_probe_leaves_nothing_in_the_cache(plugged_in):
    plugged_in.CACHES = cache("django.core.cache.backends.locmem.LocMemCache")
    assert findings() == []
    assert not caches["default"]._cache


@pytest.fixture
def weak_redis(plugged_in):
    """The Redis of the default cache, which evicts, and the address of a user who may do less than others."""
    redis, location = caches["default"]._cache.get_client(), settings.CACHES["default"]["LOCATION"]
    redis.config_set("maxmemory-policy", "allkeys-lru")
    redis.execute_command("ACL", "SETUSER", "weak", "on", ">pass", "~*", "+@all", "-config", "-eval", "-evalsha")
    yield location.replace("://", "://weak:pass@")
    redis.config_set("maxmemory-policy", "noeviction")
    redis.execute_command("ACL", "DELUSER", "weak")


EVICTION = ("warning", "Redis evicts entries when full: allkeys-lru.", "Set maxmemory-policy noeviction.")


@pytest.mark.servers
def test_redis_that_evicts_is_a_warning_unless_it_hides_its_policy(plugged_in, weak_redis):
    assert findings() == [EVICTION]
    plugged_in.CACHES = {"default": {**settings.CACHES["default"], "LOCATION": weak_redis}}
    assert findings() == []


@pytest.mark.servers
def test_redis_of_the_sms_codes_must_run_scripts(plugged_in, weak_redis):
    plugged_in.QQ_ACCOUNT_SERIALIZER = "apps.oauth.contrib.meiduo.AccountSerializer"
    for location, problem in ((weak_redis.replace("weak:pass@", ""), None), (weak_redis, "NoPermissionError")):
        codes = {"BACKEND": "django_redis.cache.RedisCache", "LOCATION": location}
        plugged_in.CACHES = {**plugged_in.CACHES, "verify_codes": codes}
        problem = problem and f"The Redis with the SMS codes, 'verify_codes', runs no scripts: {problem}."
        assert [found for _, found, _ in findings()] == [EVICTION[1], *filter(None, [problem])]


def test_migrations_that_are_not_applied_are_listed(plugged_in):
    last = max(name for app, name in MigrationRecorder(connection).applied_migrations() if app == "oauth")
    MigrationRecorder(connection).record_unapplied("oauth", last)
    assert findings() == [("wrong", f"Migrations are not applied: oauth.{last}.", "Run manage.py migrate.")]


NUMBERS = "id integer, user_id integer, openid integer, create_time integer, update_time integer"
NUMBERS += ", qq_client_id integer, qq_nickname integer, qq_avatar integer"


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    ("columns", "problem"),
    [
        (None, "is missing"),
        (NUMBERS, "lacks unionid"),
        (f"{NUMBERS}, unionid integer", "accepts an openid twice"),
    ],
)
def test_table_must_exist_with_all_columns_and_accept_an_openid_once(plugged_in, columns, problem):
    problem = f"The table tb_oauth_qq {problem}."
    repair = "Run manage.py migrate --fake oauth zero, then manage.py migrate."
    with table_replaced(*[f"CREATE TABLE tb_oauth_qq ({columns})"] * bool(columns)):
        assert findings() == [("wrong", problem, repair)]


SOUND = "id integer PRIMARY KEY {auto}, user_id integer, openid varchar(64) UNIQUE, unionid varchar(64)"
SOUND += ", create_time datetime, update_time datetime"
SOUND += ", qq_client_id varchar(32), qq_nickname varchar(64), qq_avatar varchar(512)"
DEFAULT = {
    "mysql": "Give it one: ALTER TABLE tb_oauth_qq ALTER COLUMN `is_delete` SET DEFAULT 0.",
    "sqlite": "Give it one: set db_default or null=True in the old app's model, and migrate that first.",
}
NUMBER = "See which column, key, trigger or missing right of tb_oauth_qq this number names, and remove it."


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (f"({SOUND})", None),
        (
            f"({SOUND}, is_delete integer NOT NULL, note varchar(9) NOT NULL DEFAULT 'x')",
            (
                r"tb_oauth_qq\.is_delete is NOT NULL without a default: each new binding fails\.",
                DEFAULT[connection.vendor],
            ),
        ),
        (f"({SOUND}, UNIQUE (user_id))", (r"tb_oauth_qq refuses a new binding: IntegrityError( 1062)?\.", NUMBER)),
        (
            f"({SOUND}, CHECK (COALESCE(unionid, 'U') = 'U'))",
            (r"tb_oauth_qq refuses a new binding: \w+Error( 4025| 3819)?\.", NUMBER),
        ),
        (
            f"({SOUND}, CHECK (unionid IS NOT NULL))",
            (r"tb_oauth_qq refuses a new binding: \w+Error( 4025| 3819)?\.", NUMBER),
        ),
        (
            f"({SOUND}, short varchar(6) GENERATED ALWAYS AS (substr(openid, 1, 6)))",
            (
                r"Users of tb_oauth_qq are gone, so their QQ can neither log in nor be bound: id 7\.",
                "Delete these rows.",
            ),
        ),
        pytest.param(
            f"({SOUND}) ENGINE=MyISAM",
            (
                r"tb_oauth_qq uses the engine MyISAM, which has no transactions\.",
                "ALTER TABLE tb_oauth_qq ENGINE=InnoDB.",
            ),
            marks=pytest.mark.servers,
        ),
    ],
)
def test_table_that_refuses_a_binding_or_a_login_is_wrong(plugged_in, account, body, expected):
    auto = "AUTO_INCREMENT" if connection.vendor == "mysql" else "AUTOINCREMENT"
    columns, values = "id, user_id, openid, unionid", f"1, {account.pk}, 'A', 'U'"
    if "is_delete" in body:
        columns, values = f"{columns}, is_delete", f"{values}, 0"
    statements = [f"CREATE TABLE tb_oauth_qq {body.format(auto=auto)}"]
    statements += [f"INSERT INTO tb_oauth_qq ({columns}) VALUES ({values})"]
    if expected and "gone" in expected[0]:
        statements += [f"INSERT INTO tb_oauth_qq ({columns}) VALUES (7, {account.pk + 1}, 'B', NULL)"]
    with table_replaced(*statements):
        found = findings()
        with connection.cursor() as cursor:
            cursor.execute("SELECT COUNT(*) FROM tb_oauth_qq WHERE id <> 7")
            assert cursor.fetchone() == (1,)  # the doctor leaves nothing behind
    if expected is None:
        assert found == []
    else:
        ((kind, problem, hint),) = found
        assert (kind, hint, bool(re.fullmatch(expected[0], problem))) == ("wrong", expected[1], True), problem


TRIGGERS = {
    "mysql": "CREATE TRIGGER low BEFORE INSERT ON tb_oauth_qq FOR EACH ROW SET NEW.openid = LOWER(NEW.openid)",
    "sqlite": "CREATE TRIGGER low AFTER INSERT ON tb_oauth_qq BEGIN"
    " UPDATE tb_oauth_qq SET openid = lower(openid) WHERE id = new.id; END",
}


@pytest.mark.django_db(transaction=True)
def test_table_that_changes_an_openid_is_wrong(plugged_in, account):
    auto = "AUTO_INCREMENT" if connection.vendor == "mysql" else "AUTOINCREMENT"
    with table_replaced(f"CREATE TABLE tb_oauth_qq ({SOUND.format(auto=auto)})", TRIGGERS[connection.vendor]):
        ((kind, problem, hint),) = findings()
    assert problem == "tb_oauth_qq.openid does not keep a new openid as it is: no login finds it."
    assert (kind, hint) == ("wrong", "Remove the trigger that changes it.")


def test_database_error_is_shown_by_class_and_number(plugged_in):
    def refuse(*args):
        raise OperationalError(2003, "Can't connect with password 'feedface'")

    hint = "Check its server, user, password and name; the database's own client says more."
    with connection.execute_wrapper(refuse):
        assert findings() == [("wrong", 'DATABASES["default"] cannot be used: OperationalError 2003.', hint)]


@pytest.mark.servers
@pytest.mark.parametrize(("seconds", "apart"), [(0, None), (3, None), (-10, "10"), (10, "10"), (3600, "3600")])
def test_clocks_that_differ_are_a_warning(plugged_in, seconds, apart):
    with time_machine.travel(datetime.now(timezone.utc) + timedelta(seconds=seconds)):
        found = [finding[:2] for finding in findings()]
    problem = f"The clocks of this machine and of the database differ by {apart} seconds."
    assert found == ([("warning", problem)] if apart else [])


ACCEPTED = "QQ refuses only the made-up code ({}): it accepts QQ_CLIENT_ID and QQ_CLIENT_SECRET."


def test_qq_is_called_online_only_and_once(plugged_in, qq):
    assert findings() == []
    assert qq.requests() == []
    hint = "Log in once: only then QQ says whether QQ_REDIRECT_URI is registered."
    assert findings("--online") == [("note", ACCEPTED.format(100019), hint)]
    (request,) = qq.requests()
    assert (request["path"], request["query"]["code"]) == ("/oauth2.0/token", "0" * 32)


REFUSED = "QQ refuses {} ({})."
FAILED = "QQ does not answer correctly: {}."


@pytest.mark.parametrize(
    ("name", "value", "kind", "problem"),
    [
        ("QQ_CLIENT_ID", "101000002", "wrong", REFUSED.format("QQ_CLIENT_ID", 100008)),
        ("QQ_CLIENT_SECRET", SECRET, "wrong", REFUSED.format("QQ_CLIENT_SECRET", 100009)),
        ("QQ_REDIRECT_URI", ONE_URI[:-1], "wrong", REFUSED.format("QQ_REDIRECT_URI", 100010)),
        ("QQ_API_URL", "http://127.0.0.1:9", "wrong", FAILED.format("/oauth2.0/token: ConnectionRefusedError")),
        ("fault", 100001, "wrong", REFUSED.format("QQ_CLIENT_ID", 100001)),
        ("fault", 100002, "wrong", REFUSED.format("QQ_CLIENT_SECRET", 100002)),
        ("fault", 100011, "wrong", REFUSED.format("the application", 100011)),
        ("fault", 100018, "wrong", FAILED.format("QQ answered with error 100018")),
        ("fault", 100020, "note", ACCEPTED.format(100020)),
    ],
)
def test_refusal_of_qq_is_explained(plugged_in, qq, name, value, kind, problem):
    if name == "fault":
        qq.behave(token={"fault": "error", "number": value})
    else:
        setattr(plugged_in, name, value)
    ((found, said, hint),) = findings("--online")
    assert (found, said) == (kind, problem)
    assert hint


CERTIFICATE = (
    "Update ca-certificates, check this machine's clock, and whether a proxy or firewall on the way puts a certificate "
    "of its own in place of the server's. If it does so on purpose, SSL_CERT_FILE names a file with its CA."
)
NOT_ACCEPTED = "the certificate is not accepted: unable to get local issuer certificate"


def test_certificate_that_is_not_accepted_is_named(plugged_in):
    plugged_in.QQ_ACCOUNT_SERIALIZER = "apps.oauth.contrib.meiduo.AccountSerializer"
    with raw_server(lambda connection, over: over.wait(), trustme.CA().issue_cert("127.0.0.1")) as (url, _):
        plugged_in.QQ_API_URL, location = url, url.replace("https", "rediss")
        backends = {"default": REDIS["default"]["BACKEND"], "verify_codes": "django_redis.cache.RedisCache"}
        plugged_in.CACHES = {name: {"BACKEND": path, "LOCATION": location} for name, path in backends.items()}
        assert findings("--online") == [
            ("wrong", f'CACHES["default"] does not work: {NOT_ACCEPTED}.', CERTIFICATE),
            ("wrong", f"The Redis with the SMS codes, 'verify_codes', runs no scripts: {NOT_ACCEPTED}.", CERTIFICATE),
            ("wrong", FAILED.format(f"/oauth2.0/token: {NOT_ACCEPTED}"), CERTIFICATE),
        ]

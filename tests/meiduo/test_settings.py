"""The shop's settings, read with the environment that each test gives."""

import json
import os
import re
import runpy
import subprocess
import sys
import traceback
from pathlib import Path

import pytest
import urllib3
from django.core.exceptions import ImproperlyConfigured

from standin.state import CLIENT_SECRET
from tests.tools import processes
from tests.tools.requirements import requirement

# Python 3.15 warns when it formats a traceback through a file that runpy has run.
pytestmark = pytest.mark.filterwarnings("ignore:Module globals is missing a __spec__.loader:DeprecationWarning")

ROOT = Path(__file__).resolve().parents[2]
SECRET = "Zk3vQ9xW2mB7nL5pR8tY4uI6oA1sD0fG-hJcVbNqEwXr"
JWT_KEY = "pL0oK9iJ8uH7yG6tF5rD4eS3wA2qZ1xC-vBnMgTyUiOp"
PRODUCTION = {
    "QQ_CLIENT_ID": "101000001",
    "QQ_CLIENT_SECRET": "3f1b7c9d2e4a6b8c0d1e2f3a4b5c6d7e",
    "QQ_REDIRECT_URI": "https://api.shop.test/oauth/qq/callback/",
    "QQ_CALLBACK_PAGE": "https://www.shop.test/oauth_callback.html",
    "SECRET_KEY": SECRET * 2,
    "JWT_SIGNING_KEY": JWT_KEY,
    "CACHE_URL": "redis://127.0.0.1:6379/0",
    "DATABASE_URL": "sqlite:////tmp/never-made.sqlite3",
    "SMS_BACKEND": "builtins.print",
    "ALLOWED_HOSTS": "api.shop.test",
    "NUM_PROXIES": "0",
}


@pytest.fixture
def base(tmp_path):
    base = {"PATH": os.environ["PATH"], "VAR_DIR": str(tmp_path / "var"), "PYTHONDONTWRITEBYTECODE": "1"}
    return base | {"DJANGO_SETTINGS_MODULE": "meiduo.settings"}


@pytest.fixture
def start(base):
    """A function: run Python with these arguments and this environment, and wait for its end."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}

    def start(*arguments, env=None, wait=True):
        process = subprocess.Popen([sys.executable, *arguments], cwd=ROOT, env=base | (env or {}), **pipes)
        if wait:
            process.out, process.err = process.communicate(timeout=60)
        return process

    return start


@pytest.fixture
def read_settings(base, monkeypatch):
    """A function: return for each environment the settings, or the traceback if it is refused."""

    def read(environment):
        monkeypatch.setattr(os, "environ", base | environment)
        try:
            return runpy.run_path(str(ROOT / "meiduo/settings.py"))
        except ImproperlyConfigured:
            return traceback.format_exc()

    return lambda *environments: [read(environment) for environment in environments]


def test_shop_starts_with_nothing_set_and_keeps_private_keys(start, read_settings, tmp_path):
    process = start("manage.py", "migrate")
    assert process.returncode == 0, process.err
    modes = {file.name: file.stat().st_mode & 0o777 for file in (tmp_path / "var").iterdir()}
    assert modes.pop("db.sqlite3")
    assert modes == {"secret_key": 0o600, "jwt_signing_key": 0o600}
    assert (tmp_path / "var").stat().st_mode & 0o777 == 0o700
    keys = [{found["SECRET_KEY"], found["JWT_SIGNING_KEY"]} for found in read_settings({}, {})]
    assert keys[0] == keys[1]
    assert [len(key) >= 50 for key in keys[0]] == [True, True]


def test_processes_that_start_at_once_get_the_same_keys(start, tmp_path):
    code = (
        "import meiduo.environment, django.core.exceptions; from pathlib import Path; print('ready', flush=True)\n"
        "while not Path('%s').exists(): pass\n"
        "from meiduo import settings; print(settings.SECRET_KEY, settings.JWT_SIGNING_KEY)"
    ) % (tmp_path / "go")
    started = [start("-c", code, wait=False) for _ in range(8)]
    assert [process.stdout.readline() for process in started] == ["ready\n"] * 8
    (tmp_path / "go").touch()
    results = [process.communicate(timeout=60) for process in started]
    assert {error for _, error in results} == {""}
    assert len({output for output, _ in results}) == 1


def test_incomplete_kept_key_is_refused(read_settings, tmp_path):
    (tmp_path / "var").mkdir()
    (tmp_path / "var" / "secret_key").write_text("half")
    (error,) = read_settings({})
    assert "secret_key holds no complete key. Delete the file" in error


OPTIONAL = ["CLIENT_ID", "CLIENT_SECRET", "API_URL", "TIMEOUT", "MAX_CONCURRENCY", "REQUIRE_COOKIE", "UNIONID"]
DEFAULTS = {
    "ALLOWED_HOSTS": ["127.0.0.1", "localhost", "[::1]"],
    "CORS_ALLOWED_ORIGINS": [],
    "CORS_ALLOW_CREDENTIALS": True,
    **{"DEBUG": False, "PRODUCTION": False, "NUM_PROXIES": 0, "CAPTCHA_LOG": "", "ADMIN_PATH": ""},
    "QQ_REDIRECT_URI": "http://127.0.0.1:8000/oauth/qq/callback/",
    "QQ_CALLBACK_PAGE": "http://127.0.0.1:8000/oauth_callback.html",
}


def test_every_variable_has_a_default(read_settings, tmp_path):
    (found,) = read_settings({})
    assert {f"QQ_{name}" for name in OPTIONAL}.isdisjoint(found)  # apps.oauth has these defaults
    assert {name: found[name] for name in DEFAULTS} == DEFAULTS
    assert found["SMS_LOG"] == str(tmp_path / "var" / "sms.log")


READABLE = {
    "DEBUG": ("yes", True),
    "ALLOWED_HOSTS": ("api.shop.test, www.shop.test", ["api.shop.test", "www.shop.test"]),
    "CORS_ALLOWED_ORIGINS": ("https://www.shop.test", ["https://www.shop.test"]),
    "SECRET_KEY_FALLBACKS": ("newer,older", ["newer", "older"]),
    "NUM_PROXIES": ("2", 2),
    "ADMIN_PATH": ("/back-office", "back-office/"),
    "QQ_CLIENT_SECRET": (" $not-a-reference", "$not-a-reference"),
    "QQ_TIMEOUT": ("2.5", 2.5),
    "QQ_MAX_CONCURRENCY": ("7", 7),
    "QQ_REQUIRE_COOKIE": ("false", False),
    "QQ_UNIONID": ("on", True),
}


def test_variables_are_read_by_their_type(read_settings):
    (found,) = read_settings({name: text for name, (text, _) in READABLE.items()})
    assert {name: found[name] for name in READABLE} == {name: value for name, (_, value) in READABLE.items()}


def test_mysql_and_redis_are_read_from_their_urls(read_settings):
    mysql = "mysql://shop:s%40fe@db.test:3307/meiduo"
    found, short = read_settings(
        {"DATABASE_URL": mysql, "CACHE_URL": "redis://:pass@cache.test:6380/1"},
        {"DATABASE_URL": f"{mysql}?conn_max_age=0"},
    )
    server = {"NAME": "meiduo", "USER": "shop", "PASSWORD": "s@fe", "HOST": "db.test", "PORT": 3307}
    strict = "SET sql_mode = CONCAT(@@sql_mode, ',STRICT_TRANS_TABLES')"
    assert found["DATABASES"]["default"] == server | {
        "ENGINE": "django.db.backends.mysql",
        **{"CONN_MAX_AGE": 600, "CONN_HEALTH_CHECKS": True, "DISABLE_SERVER_SIDE_CURSORS": False},
        "OPTIONS": {"charset": "utf8mb4", "connect_timeout": 1, "init_command": strict},
        "TEST": {"CHARSET": "utf8mb4"},
    }
    assert short["DATABASES"]["default"] == found["DATABASES"]["default"] | {"CONN_MAX_AGE": 0}
    assert found["CACHES"]["default"] == {
        "BACKEND": "meiduo.cache.RedisCache",
        "LOCATION": "redis://:pass@cache.test:6380/1",
        "OPTIONS": {"socket_timeout": 1, "socket_connect_timeout": 1},
    }


def test_sentinels_and_nodes_of_a_cluster_are_read_from_the_url(read_settings):
    sentinel, cluster, tls = read_settings(
        {"CACHE_URL": "redis+sentinel://shop:s%40fe@a.test:26379,[::1]:26380/master/2?sentinel_password=p%2Fw"},
        {"CACHE_URL": "redis+cluster://a.test:7001, b.test:7002"},
        {"CACHE_URL": "rediss+sentinel://a.test:26379/master?ssl_ca_certs=/ca.pem"},
    )
    timeouts = {"socket_timeout": 1, "socket_connect_timeout": 1}
    assert sentinel["CACHES"]["default"] == {
        "BACKEND": "meiduo.sentinel_cache.SentinelCache",
        "LOCATION": [("a.test", 26379), ("::1", 26380)],
        "OPTIONS": {
            **timeouts,
            **{"username": "shop", "password": "s@fe"},
            **{"service": "master", "db": 2, "sentinel_password": "p/w"},
        },
    }
    assert cluster["CACHES"]["default"] == {
        "BACKEND": "meiduo.cluster_cache.ClusterCache",
        "LOCATION": [("a.test", 7001), ("b.test", 7002)],
        "OPTIONS": timeouts,
    }
    options = {"ssl": True, "ssl_ca_certs": "/ca.pem", "service": "master", "db": 0}
    assert tls["CACHES"]["default"]["OPTIONS"] == timeouts | options


@pytest.mark.parametrize(
    ("query", "seconds"),
    [
        ("", (1, 3, 3, 2)),
        ("?connect_timeout=2&read_timeout=30&write_timeout=20&lock_wait_timeout=10", (2, 30, 20, 10)),
    ],
)
def test_calls_have_time_outs_at_the_database_and_commands_only_while_they_connect(start, query, seconds):
    show = "from django.conf import settings; print(settings.DATABASES['default']['OPTIONS'])"
    env = {"DATABASE_URL": f"mysql://shop@db.test/meiduo{query}"}
    command, call = (start("-c", code + show, env=env) for code in ("", "import meiduo.wsgi; "))
    connect, read, write, lock = seconds
    strict = "SET sql_mode = CONCAT(@@sql_mode, ',STRICT_TRANS_TABLES')"
    options = {"charset": "utf8mb4", "connect_timeout": connect, "init_command": strict}
    assert eval(command.out) == options
    options["init_command"] += f", innodb_lock_wait_timeout = {lock}, lock_wait_timeout = {lock}"
    assert eval(call.out) == options | {"read_timeout": read, "write_timeout": write}


def test_tls_to_the_database_is_always_verified(read_settings, tmp_path):
    (tmp_path / "ca.pem").touch()
    ca, url = {"ca": str(tmp_path / "ca.pem")}, "mysql://shop@db.test/meiduo"
    cases = {
        f"?ssl_ca={ca['ca']}": {"ssl_mode": "VERIFY_IDENTITY", "ssl": ca},
        f"?ssl_ca={ca['ca']}&ssl_mode=VERIFY_CA": {"ssl_mode": "VERIFY_CA", "ssl": ca},
        "?ssl_mode=VERIFY_IDENTITY": {"ssl_mode": "VERIFY_IDENTITY"},  # by the system's authorities
        "?connect_timeout=9": {"connect_timeout": 9},
    }
    plain, *found = read_settings(*({"DATABASE_URL": url + query} for query in ("", *cases)))
    common = plain["DATABASES"]["default"]["OPTIONS"]
    assert [one["DATABASES"]["default"]["OPTIONS"] for one in found] == [common | case for case in cases.values()]


TLS_ERRORS = {  # the beginning of the error: queries
    "For TLS write ?ssl_ca=/path/of/ca.pem, and nothing else that begins with ssl except ssl_mode": [
        *("ssl=True", "ssl=false", "ssl=", 'ssl={"ca":"/ca.pem"}', "ssl-ca=/ca.pem", "sslmode=require"),
        *("SSL_CA=/ca.pem", "ssl_ca=/ca.pem&ssl=True"),
    ],
    "ssl_ca is not the path of a file": ["ssl_ca=", "ssl_ca=/nowhere/ca.pem", "ssl_ca=/", "ssl_ca=1"],
    "ssl_mode must be VERIFY_IDENTITY or VERIFY_CA": [
        f"ssl_mode={mode}" for mode in ("", "REQUIRED", "PREFERRED", "DISABLED", "verify_identity", "1")
    ],
}


def test_tls_that_may_end_as_plain_text_is_refused(read_settings):
    cases = [(begin, query) for begin, queries in TLS_ERRORS.items() for query in queries]
    errors = read_settings(*({"DATABASE_URL": f"mysql://shop@db.test/meiduo?{query}"} for _, query in cases))
    for (begin, query), error in zip(cases, errors, strict=True):
        assert f"ImproperlyConfigured: DATABASE_URL cannot be read: {begin}" in error, query


ORIGINS = r"""null|*|https://*|https://*.shop.test|www.shop.test|//www.shop.test|file://|ftp://www.shop.test|^https://
https://www.shop.test/|https://www.shop.test/login.html|https://www.shop.test?a|https://www.shop.test#a|https://w w.test
https://user@www.shop.test|https://www.shop.test:port|https://www.shop.test\|https://WWW.shop.test"""
UNREADABLE = {
    "CORS_ALLOWED_ORIGINS": [f"https://a.test,{origin},https://b.test" for origin in re.split(r"[|\n]", ORIGINS)],
    **{name: ["ture"] for name in ("DEBUG", "QQ_REQUIRE_COOKIE", "QQ_UNIONID")},
    "QQ_TIMEOUT": ["five", "nan", "-1"],
    "QQ_MAX_CONCURRENCY": ["2.5"],
    "NUM_PROXIES": ["-1", "1000001"],
    "THREADS": ["0"],
    "LOG_FORMAT": ["JSON"],
    "DATABASE_URL": [
        "nonsense",
        "postgres://user:password@db.test/meiduo",
        "mysql://user:password@[db.test/meiduo",
        "mysql://user:password@db.test/meiduo?read_timeout=3s",
    ],
}
SAMPLE = "looks like a sample"
REFUSED_IN_PRODUCTION = {  # setting, and its error: its values
    ("SECRET_KEY", "SECRET_KEY is too short"): [SECRET[:31]],
    ("SECRET_KEY", f"SECRET_KEY {SAMPLE}"): [f"django-insecure-{SECRET}"],
    ("JWT_SIGNING_KEY", "JWT_SIGNING_KEY is too short"): [JWT_KEY[:31]],
    ("JWT_SIGNING_KEY", f"JWT_SIGNING_KEY {SAMPLE}"): ["changeme" * 8, "x" * 64],
    ("JWT_SIGNING_KEY", "JWT_SIGNING_KEY is a PEM or JWK text"): [f"-----BEGIN PRIVATE KEY-----{JWT_KEY}"],
    ("JWT_SIGNING_KEY", "JWT_SIGNING_KEY must not be SECRET_KEY"): [SECRET * 2],
    ("SECRET_KEY_FALLBACKS", "SECRET_KEY_FALLBACKS is too short"): ["short"],
    ("SECRET_KEY_FALLBACKS", "JWT_SIGNING_KEY must not be SECRET_KEY"): [JWT_KEY],
    ("JWT_SIGNING_KEY_FALLBACKS", "JWT_SIGNING_KEY must not be SECRET_KEY"): [SECRET * 2],
    ("JWT_SIGNING_KEY_FALLBACKS", "JWT_SIGNING_KEY_FALLBACKS is too short"): [f"{JWT_KEY[::-1]},short"],
    ("QQ_CLIENT_SECRET", f"QQ_CLIENT_SECRET {SAMPLE}"): [CLIENT_SECRET, "your_app_key", "x" * 32],
    ("CACHE_URL", "CACHE_URL cannot be read: Begin it with redis://"): ["dummycache://"],
    (
        "CACHE_URL",
        "CACHE_URL cannot be read: Write it as redis+sentinel://user:password@host:26379,host:26379/service",
    ): [
        *(
            f"redis+sentinel://:s3cret-password@{rest}"
            for rest in (
                "a.test:1,b.test:2",
                "a.test,b.test/shop",
                "a.test:1,/shop",
                "a.test:1/shop/one",
                "a.test:1/shop?other=1",
                "s@fe@a.test:1/sh/o/p",
                "[::1/shop",
                "a.test:1/shop?ssl_ca_certs=/ca.pem",
                "a.test:1/shop#0",
            )
        ),
    ],
    ("CACHE_URL", "CACHE_URL cannot be read: Write it as redis+cluster://user:password@host:6379,host:6379"): [
        *(f"redis+cluster://:s3cret-password@{rest}" for rest in ("a.test", "a.test:1/1", "a.test:1?x=1", "[::1")),
    ],
    ("CACHE_URL", "With CACHE_URL=locmemcache:// each process"): ["locmemcache://"],
    ("CAPTCHA_LOG", "CAPTCHA_LOG writes the answers"): ["captcha.log"],
    ("OTEL_TRACES_EXPORTER", "OTEL_TRACES_EXPORTER must be none, or an exporter that is installed"): ["otlp"],
}
REFUSED = [  # environment, and its error
    *(({name: value}, f"{name} cannot be read: ") for name in UNREADABLE for value in UNREADABLE[name]),
    *((PRODUCTION | {key[0]: value}, key[1]) for key, values in REFUSED_IN_PRODUCTION.items() for value in values),
]


@requirement("5.2", "9.2", "10.1")
def test_wrong_or_weak_setting_is_refused_without_its_value(read_settings, tmp_path):
    for (environment, message), error in zip(REFUSED, read_settings(*(env for env, _ in REFUSED)), strict=True):
        assert f"ImproperlyConfigured: {message}" in error
        assert all(len(value) < 15 or value not in error for value in environment.values())
        assert "direct cause" not in error  # whose text may show the value
        assert "During handling" not in error
    assert not (tmp_path / "var" / "secret_key").exists()


def test_all_variables_that_cannot_be_read_are_named_at_once(read_settings):
    (error,) = read_settings({name: values[0] for name, values in UNREADABLE.items()})
    assert set(re.findall("([A-Z_]+) cannot be read: ", error)) == set(UNREADABLE)
    assert "CORS_ALLOWED_ORIGINS cannot be read: null is not an origin." in error


def test_three_quarters_of_the_threads_may_wait_for_qq(read_settings):
    found = read_settings(*({"THREADS": threads} for threads in ("16", "64", "1", "")))
    assert [one.get("QQ_MAX_CONCURRENCY") for one in found] == [12, 48, 1, None]


NEEDED = ["SECRET_KEY", "JWT_SIGNING_KEY", "ALLOWED_HOSTS", "DATABASE_URL", "CACHE_URL", "NUM_PROXIES"]
NEEDED += ["QQ_CLIENT_SECRET", "QQ_REDIRECT_URI", "QQ_CALLBACK_PAGE", "SMS_BACKEND"]


def test_production_names_at_once_all_that_is_not_set(read_settings, tmp_path):
    cases = [*([name] for name in NEEDED), NEEDED]
    errors = read_settings(*(PRODUCTION | dict.fromkeys(case, "") for case in cases))
    for missing, error in zip(cases, errors, strict=True):
        assert "ImproperlyConfigured: The defaults of these are for development only:\n" in error
        assert re.findall("^([A-Z_]+) is not set[.] [A-Z]", error, re.MULTILINE) == missing
    assert not (tmp_path / "var" / "secret_key").exists()


def test_development_starts_without_keys(read_settings):
    unset = dict.fromkeys(["SECRET_KEY", "JWT_SIGNING_KEY", "CACHE_URL", "SMS_BACKEND", "DATABASE_URL"], "")
    changes = [{"DEBUG": "on"}, {"QQ_API_URL": "http://127.0.0.1:8001"}, {"QQ_CLIENT_ID": ""}]
    found = read_settings(*(PRODUCTION | unset | change for change in changes))
    assert [one["PRODUCTION"] for one in found] == [False, False, False]


@pytest.mark.servers  # mysqlclient
def test_shop_starts_while_its_database_is_down(start):
    database = {"DATABASE_URL": f"mysql://user:password@127.0.0.1:{processes.free_port()}/meiduo"}
    process = start("-c", "import meiduo.wsgi", env=PRODUCTION | database)
    assert (process.returncode, process.err) == (0, "")


@requirement("9.14")
def test_production_passes_the_deployment_checks_unless_sms_go_to_a_file(start):
    check = ("-W", "error", "manage.py", "check", "--deploy", "--fail-level", "WARNING")
    process = start(*check, env=PRODUCTION)
    assert process.returncode == 0, process.err
    assert "System check identified no issues" in process.out
    env = PRODUCTION | {"SMS_BACKEND": "apps.users.development.send_sms"}
    for arguments in (check, ("-c", "import meiduo.wsgi")):
        assert "users.W001" in start(*arguments, env=env).err
    assert "users.W001" not in start("-c", "import meiduo.wsgi").err


@requirement("9.11")
def test_https_is_forced_where_the_shop_is_https(read_settings):
    https = dict.fromkeys(("SECURE_SSL_REDIRECT", "SESSION_COOKIE_SECURE", "CSRF_COOKIE_SECURE"), True)
    https["SECURE_HSTS_SECONDS"] = 365 * 24 * 3600
    changes = {}, {"NUM_PROXIES": "1"}, {"QQ_REDIRECT_URI": "http://shop.test/oauth/qq/callback/"}
    direct, proxied, plain = read_settings(*(PRODUCTION | change for change in changes))
    assert https.items() <= direct.items()
    assert "SECURE_PROXY_SSL_HEADER" not in direct
    assert {**https, "SECURE_PROXY_SSL_HEADER": ("HTTP_X_FORWARDED_PROTO", "https")}.items() <= proxied.items()
    assert {*https, "SECURE_PROXY_SSL_HEADER"}.isdisjoint(plain)


ONE_WORKER = {"WEB_CONCURRENCY": "1"}
PUBLIC = ("0.0.0.0:9100", "[::]:9100", "8.8.8.8:9100", "[::ffff:8.8.8.8]:9100")
GUNICORN = ["-m", "gunicorn", "--config=python:meiduo.server"]
CONFIGURED = {
    "worker_class": "gthread",
    "threads": "64",
    "workers": str(os.cpu_count()),
    **{"limit_request_line": "4094", "limit_request_fields": "100", "limit_request_field_size": "8190"},
    "header_map": "drop",
    "forwarded_allow_ips": "[]",
}


@pytest.mark.parametrize(
    ("env", "changed"), [({}, {}), ({"WEB_CONCURRENCY": "7", "THREADS": "16"}, {"workers": "7", "threads": "16"})]
)
def test_gunicorn_is_configured(start, env, changed):
    process = start(*GUNICORN, "--print-config", "meiduo.wsgi", env=env)
    assert process.returncode == 0, process.err
    config = dict(re.findall(r"^(\w+) *= *(.*)$", process.out, re.MULTILINE))
    assert {name: config[name] for name in CONFIGURED} == CONFIGURED | changed
    assert float(config["keepalive"]) > 60  # nginx's


@pytest.mark.parametrize(
    ("config", "env", "status", "error"),
    [
        # gunicorn itself reads WEB_CONCURRENCY before, and refuses other values.
        (True, {"WEB_CONCURRENCY": "0"}, 1, "The shop does not start. WEB_CONCURRENCY cannot be read: "),
        (True, {"THREADS": "many"}, 1, "The shop does not start. THREADS cannot be read: Not a valid integer."),
        (True, {"WEB_CONCURRENCY": "2"}, 1, "The shop does not start. CACHE_URL is not set, so each worker would "),
        (True, PRODUCTION | {"CAPTCHA_LOG": "x.log"}, 1, "The shop does not start. CAPTCHA_LOG writes the answers"),
        (
            True,
            PRODUCTION | {"SMS_API_URL": "http://a"},
            1,
            "The shop does not start. SMS_API_URL sends the SMS codes ",
        ),
        (True, PRODUCTION | {"SMS_BACKEND": "nowhere.send_sms", "WEB_CONCURRENCY": "1"}, 3, "users.E001"),
        (True, {"METRICS": "9100"}, 1, "The shop does not start. METRICS cannot be read: Write it as 127.0.0.1:9100"),
        (True, {"METRICS": "localhost:9100"}, 1, "METRICS cannot be read: Write it as 127.0.0.1:9100"),
        *(
            (True, ONE_WORKER | {"METRICS": each}, 1, "METRICS is an address that strangers may reach.")
            for each in PUBLIC
        ),
        *(
            (True, ONE_WORKER | {"METRICS": f"{each}:9100"}, 1, "METRICS cannot be opened: ")
            for each in ("10.255.255.254", "100.64.255.254")
        ),
        (True, {"WEB_CONCURRENCY": "2", "LOG_FORMAT": "json"}, 1, '"message": "The shop does not start. CACHE_URL is '),
        (False, PRODUCTION | {"JWT_SIGNING_KEY": ""}, 3, "JWT_SIGNING_KEY is not set."),
    ],
)
def test_gunicorn_refuses_wrong_settings_in_one_sentence(start, config, env, status, error):
    gunicorn = GUNICORN if config else GUNICORN[:2]
    process = start(*gunicorn, f"--bind=127.0.0.1:{processes.free_port()}", "meiduo.wsgi", env=env)
    assert process.returncode == status
    assert error in process.err
    assert ("Traceback" in process.err) is not config


def test_logs_show_no_query_and_no_mobile_number(start):
    assert start("manage.py", "migrate").returncode == 0
    port = processes.free_port()
    server = start("manage.py", "runserver", "--noreload", f"127.0.0.1:{port}", wait=False)
    try:
        processes.wait_until(lambda: processes.accepts(port), "the server listens")
        answer = urllib3.request("GET", f"http://127.0.0.1:{port}/sms_codes/13812345678/?text=CANARY&code=CANARY")
        assert answer.status == 400
        # Over the same connection, so that the log line of the first call has been written.
        urllib3.request("GET", f"http://127.0.0.1:{port}/login.html")
        server.terminate()
        written = "".join(server.communicate(timeout=30))
    finally:
        server.kill()
    assert "Bad Request: /sms_codes/138****5678/ status_code=400 request_id=" in written
    assert '"GET /sms_codes/138****5678/ HTTP/1.1" 400 ' in written
    assert not re.search("CANARY|13812345678", written)


def test_warning_and_uncaught_errors_are_lines_of_the_log(start):
    code = (
        "import django, sys, threading, warnings; django.setup(); warnings.warn('a\\nb')\n"
        "def fail(): raise ValueError('of 13812345678')\n"
        "for function in (fail, sys.exit): (thread := threading.Thread(target=function)).start(); thread.join()\n"
        "fail()"
    )
    process = start("-c", code, env={"LOG_FORMAT": "json"})
    warning, *errors = map(json.loads, process.err.splitlines())
    # Since Python 3.13 the line of code that warns follows, also of a program given with -c.
    assert (warning["logger"], warning["message"][:32]) == ("py.warnings", "<string>:1: UserWarning: a\\nb\\n")
    assert [(error["level"], error["message"]) for error in errors] == [("CRITICAL", "Uncaught ValueError")] * 2
    assert all(error["traceback"].endswith("ValueError: of 138****5678") for error in errors)
    assert (process.out, process.returncode) == ("", 1)


@requirement("9.14")
def test_admin_is_mounted_only_at_its_path(start):
    code = (
        "import django; django.setup(); from django.test import Client;"
        "c = Client(HTTP_HOST='localhost');"
        "print(c.get('/back-office/').status_code, c.get('/static/admin/css/base.css').status_code)"
    )
    assert start("-c", code, env={"ADMIN_PATH": "back-office"}).out == "302 200\n"
    assert start("-c", code).out == "404 404\n"


def test_worker_imports_what_few_calls_need_only_for_them(start):
    code = "import sys; import meiduo.wsgi; print({'drf_spectacular', 'PIL'} & {*sys.modules})"
    assert start("-c", code).out == "set()\n"


@requirement("15.16")
def test_api_schema_is_served_unless_switched_off(start):
    code = (
        "import django, sys; django.setup(); from django.test import Client;"
        "paths = '/api/schema/', '/api/schema/page/', '/static/swagger-ui/swagger-ui.css';"
        "client = Client(HTTP_HOST='localhost');"
        "print(*(client.get(path).status_code for path in paths), 'drf_spectacular' in sys.modules)"
    )
    assert start("-c", code).out == "200 200 200 True\n"
    assert start("-c", code, env={"API_SCHEMA": "False"}).out == "404 404 404 False\n"

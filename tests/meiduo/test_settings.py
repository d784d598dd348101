"""The shop's settings. Each start is a process of its own, with the environment that the test gives it."""

import json
import os
import re
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import urllib3

from standin.state import CLIENT_SECRET
from tests.tools.requirements import requirement

ROOT = Path(__file__).resolve().parents[2]
SECRET = "Zk3vQ9xW2mB7nL5pR8tY4uI6oA1sD0fG-hJcVbNqEwXr"
JWT_KEY = "pL0oK9iJ8uH7yG6tF5rD4eS3wA2qZ1xC-vBnMgTyUiOp"
DEVELOPMENT_SMS = {"SMS_BACKEND": "apps.users.development.send_sms"}
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
def start(tmp_path):
    """A function: run Python with these arguments and this environment, and wait for its end."""

    def start(*arguments, env=None, wait=True):
        process = subprocess.Popen(
            [sys.executable, *arguments],
            cwd=ROOT,
            env={"PATH": os.environ["PATH"], "VAR_DIR": str(tmp_path / "var"), "PYTHONDONTWRITEBYTECODE": "1"}
            | {"DJANGO_SETTINGS_MODULE": "meiduo.settings"}
            | (env or {}),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        if wait:
            process.out, process.err = process.communicate(timeout=60)
        return process

    return start


READ = """
import importlib, json, os, sys, traceback
start, found = dict(os.environ), []
for environment in json.loads(sys.argv[1]):
    os.environ.clear()
    os.environ.update(start | environment)
    sys.modules.pop("meiduo.settings", None)
    try:
        values = vars(importlib.import_module("meiduo.settings"))
        found.append({name: value for name, value in values.items() if name.isupper()})
    except Exception:
        found.append(traceback.format_exc())
json.dump(found, sys.stdout, default=str)
"""


@pytest.fixture
def read_settings(start):
    """A function: return for each environment the settings, or the traceback if it is refused."""

    def read_settings(*environments):
        process = start("-c", READ, json.dumps(environments))
        assert process.returncode == 0, process.err
        return json.loads(process.out)

    return read_settings


def test_shop_starts_with_nothing_set(start, tmp_path):
    process = start("manage.py", "migrate")
    assert process.returncode == 0, process.err
    assert {file.name for file in (tmp_path / "var").iterdir()} == {"db.sqlite3", "secret_key", "jwt_signing_key"}


def test_kept_keys_are_private_and_stay(read_settings, tmp_path):
    keys = [(found["SECRET_KEY"], found["JWT_SIGNING_KEY"]) for found in read_settings({}, {})]
    assert keys[0] == keys[1]
    assert len(set(keys[0])) == 2
    assert all(len(key) >= 50 for key in keys[0])
    assert (tmp_path / "var").stat().st_mode & 0o777 == 0o700
    assert {file.stat().st_mode & 0o777 for file in (tmp_path / "var").iterdir()} == {0o600}


def test_processes_that_start_at_once_get_the_same_keys(start, tmp_path):
    code = (
        "import meiduo.environment, django.core.exceptions; from pathlib import Path; print('ready', flush=True)\n"
        "while not Path('%s').exists(): pass\n"
        "from meiduo import settings; print(settings.SECRET_KEY, settings.JWT_SIGNING_KEY)"
    ) % (tmp_path / "go")
    processes = [start("-c", code, wait=False) for _ in range(8)]
    assert [process.stdout.readline() for process in processes] == ["ready\n"] * 8
    (tmp_path / "go").touch()
    results = [process.communicate(timeout=60) for process in processes]
    assert {error for _, error in results} == {""}
    assert len({output for output, _ in results}) == 1


def test_incomplete_kept_key_is_refused(read_settings, tmp_path):
    (tmp_path / "var").mkdir()
    (tmp_path / "var" / "secret_key").write_text("half")
    (error,) = read_settings({})
    assert "secret_key holds no complete key. Delete the file" in error


OPTIONAL = ["CLIENT_ID", "CLIENT_SECRET", "API_URL", "TIMEOUT", "MAX_CONCURRENCY", "REQUIRE_COOKIE", "UNIONID"]


def test_every_variable_has_a_default(read_settings, tmp_path):
    (found,) = read_settings({})
    assert {f"QQ_{name}" for name in OPTIONAL}.isdisjoint(found)  # apps.oauth has these defaults
    assert (
        found.items()
        >= {
            "DEBUG": False,
            "CORS_ALLOW_CREDENTIALS": True,
            "NUM_PROXIES": 0,
            "CAPTCHA_LOG": "",
            "SMS_LOG": str(tmp_path / "var" / "sms.log"),
            "ADMIN_PATH": "",
            "PRODUCTION": False,
            "QQ_REDIRECT_URI": "http://127.0.0.1:8000/oauth/qq/callback/",
            "QQ_CALLBACK_PAGE": "http://127.0.0.1:8000/oauth_callback.html",
        }.items()
    )
    assert found["ALLOWED_HOSTS"] == ["127.0.0.1", "localhost", "[::1]"]
    assert found["CORS_ALLOWED_ORIGINS"] == []


READABLE = {
    "DEBUG": ("yes", True),
    "ALLOWED_HOSTS": ("api.shop.test, www.shop.test", ["api.shop.test", "www.shop.test"]),
    "CORS_ALLOWED_ORIGINS": ("https://www.shop.test", ["https://www.shop.test"]),
    "SECRET_KEY_FALLBACKS": ("newer,older", ["newer", "older"]),
    "NUM_PROXIES": ("2", 2),
    "CAPTCHA_LOG": ("/tmp/captcha.log", "/tmp/captcha.log"),
    "ADMIN_PATH": ("/back-office", "back-office/"),
    "QQ_CLIENT_SECRET": (" $not-a-reference", "$not-a-reference"),
    "QQ_API_URL": ("http://127.0.0.1:8001", "http://127.0.0.1:8001"),
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
    assert found["DATABASES"]["default"] == {
        "ENGINE": "django.db.backends.mysql",
        "NAME": "meiduo",
        "USER": "shop",
        "PASSWORD": "s@fe",
        "HOST": "db.test",
        "PORT": 3307,
        "CONN_MAX_AGE": 600,
        "CONN_HEALTH_CHECKS": True,
        "DISABLE_SERVER_SIDE_CURSORS": False,
        "OPTIONS": {
            "charset": "utf8mb4",
            "connect_timeout": 3,
            "init_command": "SET sql_mode = CONCAT(@@sql_mode, ',STRICT_TRANS_TABLES')",
        },
        "TEST": {"CHARSET": "utf8mb4"},
    }
    assert short["DATABASES"]["default"] == found["DATABASES"]["default"] | {"CONN_MAX_AGE": 0}
    assert found["CACHES"]["default"] == {
        "BACKEND": "meiduo.cache.RedisCache",
        "LOCATION": "redis://:pass@cache.test:6380/1",
        "OPTIONS": {"socket_timeout": 1, "socket_connect_timeout": 1},
    }


UNREADABLE = [
    ("DEBUG", "ture"),
    ("QQ_REQUIRE_COOKIE", "nope"),
    ("QQ_TIMEOUT", "five"),
    ("QQ_TIMEOUT", "nan"),
    ("QQ_TIMEOUT", "-1"),
    ("QQ_MAX_CONCURRENCY", "2.5"),
    ("NUM_PROXIES", "-1"),
    ("NUM_PROXIES", "1000001"),
    ("THREADS", "0"),
    ("DATABASE_URL", "nonsense"),
    ("DATABASE_URL", "postgres://user:password@db.test/meiduo"),
    ("DATABASE_URL", "mysql://user:password@[db.test/meiduo"),
]


def test_variable_that_cannot_be_read_is_named_without_its_value(read_settings):
    for (name, value), error in zip(UNREADABLE, read_settings(*(dict([pair]) for pair in UNREADABLE)), strict=True):
        assert f"ImproperlyConfigured: {name} cannot be read: " in error
        assert value not in error.partition("ImproperlyConfigured: ")[2] or len(value) < 4
        assert "direct cause" not in error  # whose text may show the value
        assert "During handling" not in error


def test_all_variables_that_cannot_be_read_are_named_at_once(read_settings):
    (error,) = read_settings(dict(UNREADABLE))
    assert set(re.findall("([A-Z_]+) cannot be read: ", error)) == set(dict(UNREADABLE))


def test_cache_that_is_neither_redis_nor_memory_is_refused(read_settings):
    (error,) = read_settings({"CACHE_URL": "dummycache://"})
    assert "ImproperlyConfigured: CACHE_URL must begin with redis://" in error


INVALID_ORIGINS = re.split(
    r" [|] |\n",
    r"""null | * | https://* | https://*.shop.test | www.shop.test | //www.shop.test | file:// | ftp://www.shop.test
https://www.shop.test/ | https://www.shop.test/login.html | https://www.shop.test?a | https://www.shop.test#a
https://user@www.shop.test | https://www.shop.test:port | https://WWW.shop.test | ^https://
https://www.shop.test\ | https://www shop.test""",
)


@requirement("9.2")
def test_invalid_origin_is_refused(read_settings):
    listed = [
        {"CORS_ALLOWED_ORIGINS": f"https://www.shop.test,{origin},http://localhost:8080"} for origin in INVALID_ORIGINS
    ]
    for origin, error in zip(INVALID_ORIGINS, read_settings(*listed), strict=True):
        assert f"CORS_ALLOWED_ORIGINS cannot be read: {origin} is not an origin." in error


def test_three_quarters_of_the_threads_may_wait_for_qq(read_settings):
    found = read_settings(*({"THREADS": threads} for threads in ("16", "64", "1", "")))
    assert [one.get("QQ_MAX_CONCURRENCY") for one in found] == [12, 48, 1, None]


# Production -----------------------------------------------------------------------------------------------------------


REFUSED = [
    ({"SECRET_KEY": SECRET[:31]}, "SECRET_KEY is too short"),
    ({"JWT_SIGNING_KEY": JWT_KEY[:31]}, "JWT_SIGNING_KEY is too short"),
    ({"SECRET_KEY": f"django-insecure-{SECRET}"}, "SECRET_KEY looks like a sample"),
    ({"JWT_SIGNING_KEY": "changeme" * 8}, "JWT_SIGNING_KEY looks like a sample"),
    ({"JWT_SIGNING_KEY": "x" * 64}, "JWT_SIGNING_KEY looks like a sample"),
    ({"JWT_SIGNING_KEY": f"-----BEGIN PRIVATE KEY-----{JWT_KEY}"}, "JWT_SIGNING_KEY is a PEM or JWK text"),
    ({"JWT_SIGNING_KEY": SECRET * 2}, "JWT_SIGNING_KEY must not be SECRET_KEY"),
    ({"SECRET_KEY_FALLBACKS": "short"}, "SECRET_KEY_FALLBACKS is too short"),
    ({"SECRET_KEY_FALLBACKS": JWT_KEY}, "JWT_SIGNING_KEY must not be SECRET_KEY"),
    ({"JWT_SIGNING_KEY_FALLBACKS": SECRET * 2}, "JWT_SIGNING_KEY must not be SECRET_KEY"),
    ({"JWT_SIGNING_KEY_FALLBACKS": f"{JWT_KEY[::-1]},short"}, "JWT_SIGNING_KEY_FALLBACKS is too short"),
    ({"QQ_CLIENT_SECRET": CLIENT_SECRET}, "QQ_CLIENT_SECRET looks like a sample"),
    ({"QQ_CLIENT_SECRET": "your_app_key"}, "QQ_CLIENT_SECRET looks like a sample"),
    ({"QQ_CLIENT_SECRET": "x" * 32}, "QQ_CLIENT_SECRET looks like a sample"),
    ({"CACHE_URL": "locmemcache://"}, "With CACHE_URL=locmemcache:// each process"),
    ({"CAPTCHA_LOG": "captcha.log"}, "CAPTCHA_LOG writes the answers"),
]


@requirement("5.2", "10.1")
def test_production_refuses_weak_settings(read_settings, tmp_path):
    errors = read_settings(*(PRODUCTION | change for change, _ in REFUSED))
    for (change, fault), error in zip(REFUSED, errors, strict=True):
        assert f"ImproperlyConfigured: {fault}" in error
        assert all(len(value) < 20 or value not in error for value in (PRODUCTION | change).values())
    assert not (tmp_path / "var" / "secret_key").exists()


NEEDED = ["SECRET_KEY", "JWT_SIGNING_KEY", "ALLOWED_HOSTS", "DATABASE_URL", "CACHE_URL", "NUM_PROXIES"]
NEEDED += ["QQ_CLIENT_SECRET", "QQ_REDIRECT_URI", "QQ_CALLBACK_PAGE", "SMS_BACKEND"]


def test_production_names_at_once_all_that_is_not_set(read_settings, tmp_path):
    cases = [*([name] for name in NEEDED), NEEDED]
    for missing, error in zip(
        cases, read_settings(*(PRODUCTION | dict.fromkeys(case, "") for case in cases)), strict=True
    ):
        assert "ImproperlyConfigured: The defaults of these are for development only:\n" in error
        assert re.findall("^([A-Z_]+) is not set[.] [A-Z]", error, re.MULTILINE) == missing
    assert not (tmp_path / "var" / "secret_key").exists()


def test_development_starts_without_keys(read_settings):
    unset = dict.fromkeys(["SECRET_KEY", "JWT_SIGNING_KEY", "CACHE_URL", "SMS_BACKEND", "DATABASE_URL"], "")
    changes = [{"DEBUG": "on"}, {"QQ_API_URL": "http://127.0.0.1:8001"}, {"QQ_CLIENT_ID": ""}]
    assert [one["PRODUCTION"] for one in read_settings(*(PRODUCTION | unset | change for change in changes))] == [
        False
    ] * 3


@requirement("9.14")
def test_production_passes_the_deployment_checks(start):
    process = start("-W", "error", "manage.py", "check", "--deploy", "--fail-level", "WARNING", env=PRODUCTION)
    assert process.returncode == 0, process.err
    assert "System check identified no issues" in process.out


def test_deployment_checks_report_development_sms_under_gunicorn_too(start):
    env = PRODUCTION | DEVELOPMENT_SMS
    assert "users.W001" in start("manage.py", "check", "--deploy", env=env).err
    assert "users.W001" in start("-c", "import meiduo.wsgi", env=env).err
    assert "users.W001" not in start("-c", "import meiduo.wsgi").err


@requirement("9.11")
def test_production_answers_over_https_with_safe_headers(start):
    code = (
        "import json, django; django.setup(); from django.test import Client;"
        "c = Client(SERVER_NAME='api.shop.test');"
        "get = lambda *a, **k: (r := c.get(*a, **k)) and [r.status_code, dict(r.headers)];"
        "print(json.dumps([get('/login.html', secure=True), get('/nowhere', secure=True), get('/nowhere'),"
        " get('/nowhere', secure=True, HTTP_HOST='evil.test'), get('/nowhere', HTTP_HOST='evil.test')]))"
    )
    answers = json.loads(start("-c", code, env=PRODUCTION).out)
    assert [status for status, _ in answers] == [200, 404, 301, 400, 400]
    assert [headers["Location"] for _, headers in answers if "Location" in headers] == ["https://api.shop.test/nowhere"]
    for _, headers in answers[:2]:
        assert headers["Strict-Transport-Security"] == f"max-age={365 * 24 * 3600}"
    for _, headers in answers:
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
        assert "evil" not in str(headers)


HTTPS_ONLY = {
    "SECURE_SSL_REDIRECT": True,
    "SECURE_HSTS_SECONDS": 365 * 24 * 3600,
    "SESSION_COOKIE_SECURE": True,
    "CSRF_COOKIE_SECURE": True,
}


@requirement("9.11")
def test_https_is_forced_where_the_shop_is_https(read_settings):
    direct, proxied, plain = read_settings(
        PRODUCTION,
        PRODUCTION | {"NUM_PROXIES": "1"},
        PRODUCTION | {"QQ_REDIRECT_URI": "http://shop.test/oauth/qq/callback/"},
    )
    assert HTTPS_ONLY.items() <= direct.items()
    assert "SECURE_PROXY_SSL_HEADER" not in direct
    assert HTTPS_ONLY.items() <= proxied.items()
    assert proxied["SECURE_PROXY_SSL_HEADER"] == ["HTTP_X_FORWARDED_PROTO", "https"]
    assert {*HTTPS_ONLY, "SECURE_PROXY_SSL_HEADER"}.isdisjoint(plain)


# gunicorn -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


GUNICORN = ["-m", "gunicorn", "--config=python:meiduo.server"]


def test_gunicorn_is_configured(start):
    def read(**env):
        process = start(*GUNICORN, "--print-config", "meiduo.wsgi", env=env)
        assert process.returncode == 0, process.err
        lines = [line.partition("=") for line in process.out.splitlines()]
        return {name.strip(): value.strip() for name, _, value in lines}

    config = read()
    assert float(config["keepalive"]) > 60  # nginx's
    assert (
        config.items()
        >= {
            "worker_class": "gthread",
            "threads": "64",
            "workers": str(os.cpu_count()),
            "limit_request_line": "4094",
            "limit_request_fields": "100",
            "limit_request_field_size": "8190",
            "header_map": "drop",
            "forwarded_allow_ips": "[]",
        }.items()
    )
    assert read(WEB_CONCURRENCY="7", THREADS="16").items() >= {"workers": "7", "threads": "16"}.items()


@pytest.mark.parametrize(
    ("config", "env", "status", "error"),
    [
        # gunicorn itself reads WEB_CONCURRENCY before, and refuses other values.
        (True, {"WEB_CONCURRENCY": "0"}, 1, "The shop does not start. WEB_CONCURRENCY cannot be read: "),
        (True, {"THREADS": "many"}, 1, "The shop does not start. THREADS cannot be read: Not a valid integer."),
        (True, {"THREADS": "-1"}, 1, "The shop does not start. THREADS cannot be read: "),
        (True, {"WEB_CONCURRENCY": "2"}, 1, "The shop does not start. CACHE_URL is not set, so each worker would "),
        (True, PRODUCTION | {"CAPTCHA_LOG": "x.log"}, 1, "The shop does not start. CAPTCHA_LOG writes the answers"),
        (True, PRODUCTION | {"SMS_BACKEND": "nowhere.send_sms", "WEB_CONCURRENCY": "1"}, 3, "users.E001"),
        (False, PRODUCTION | {"JWT_SIGNING_KEY": ""}, 3, "JWT_SIGNING_KEY is not set."),
    ],
)
def test_gunicorn_refuses_wrong_settings_in_one_sentence(start, port, config, env, status, error):
    gunicorn = GUNICORN if config else GUNICORN[:2]
    process = start(*gunicorn, f"--bind=127.0.0.1:{port}", "meiduo.wsgi", env=env)
    assert process.returncode == status
    assert error in process.err
    assert ("Traceback" in process.err) is not config


# Served ---------------------------------------------------------------------------------------------------------------


@pytest.fixture
def server(start, port):
    """The shop under `manage.py runserver`."""
    assert start("manage.py", "migrate").returncode == 0
    process = start("manage.py", "runserver", "--noreload", f"127.0.0.1:{port}", wait=False)
    deadline = time.monotonic() + 30
    while True:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                break
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    yield process
    process.kill()
    process.communicate()


def test_logs_show_no_query_and_no_mobile_number(server, port):
    answer = urllib3.request("GET", f"http://127.0.0.1:{port}/sms_codes/13812345678/?text=CANARY&code=CANARY")
    assert answer.status == 400
    # Over the same connection, so that the log line of the first call has been written.
    urllib3.request("GET", f"http://127.0.0.1:{port}/login.html")
    server.terminate()
    written = "".join(server.communicate(timeout=30))
    assert "Bad Request: /sms_codes/138****5678/\n" in written
    assert '"GET /sms_codes/138****5678/ HTTP/1.1" 400 ' in written
    assert "CANARY" not in written
    assert "13812345678" not in written


def test_pages_are_revalidated_by_browsers(client, db):
    response = client.get("/")
    assert response.status_code == 200
    assert b"".join(response.streaming_content) == (ROOT / "web" / "index.html").read_bytes()
    assert {name: response[name] for name in ("Cache-Control", "X-Frame-Options", "Referrer-Policy")} == {
        "Cache-Control": "max-age=0, public",
        "X-Frame-Options": "DENY",
        "Referrer-Policy": "no-referrer",
    }
    assert response["X-Content-Type-Options"] == "nosniff"


@requirement("9.14")
def test_admin_is_mounted_only_at_its_path(start):
    code = (
        "import django; django.setup(); from django.test import Client;"
        "c = Client(HTTP_HOST='localhost');"
        "print(c.get('/back-office/').status_code, c.get('/static/admin/css/base.css').status_code)"
    )
    assert start("-c", code, env={"ADMIN_PATH": "back-office"}).out == "302 200\n"
    assert start("-c", code).out == "404 404\n"

"""The shop's settings: each start is a process of its own, whose environment is what the test gives it."""

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

from standin.app import CLIENT_SECRET

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
    """Start Python with the given environment and arguments, and wait for it to end."""

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


@pytest.fixture
def read_settings(start):
    """Return settings as a process with the given environment sees them."""

    def read_settings(*names, env=None):
        code = (
            "import json, sys; from meiduo import settings;"
            "json.dump({name: getattr(settings, name, None) for name in sys.argv[1:]}, sys.stdout, default=str)"
        )
        process = start("-c", code, *names, env=env)
        assert process.returncode == 0, process.err
        return json.loads(process.out)

    return read_settings


def test_with_nothing_set_the_shop_starts(start, tmp_path):
    process = start("manage.py", "migrate")
    assert process.returncode == 0, process.err
    assert {file.name for file in (tmp_path / "var").iterdir()} == {"db.sqlite3", "secret_key", "jwt_signing_key"}


def test_keys_of_its_own_making_are_kept_from_others_and_from_change(read_settings, tmp_path):
    first = read_settings("SECRET_KEY", "JWT_SIGNING_KEY")
    assert first["SECRET_KEY"] != first["JWT_SIGNING_KEY"]
    assert all(len(key) >= 50 for key in first.values())
    assert read_settings("SECRET_KEY", "JWT_SIGNING_KEY") == first
    assert (tmp_path / "var").stat().st_mode & 0o777 == 0o700
    assert {file.stat().st_mode & 0o777 for file in (tmp_path / "var").iterdir()} == {0o600}


def test_processes_that_start_at_once_agree_on_the_keys(start, tmp_path):
    code = (
        "import environ, django.core.exceptions; from pathlib import Path; print('ready', flush=True)\n"
        "while not Path('%s').exists(): pass\n"
        "from meiduo import settings; print(settings.SECRET_KEY, settings.JWT_SIGNING_KEY)"
    ) % (tmp_path / "go")
    processes = [start("-c", code, wait=False) for _ in range(8)]
    assert [process.stdout.readline() for process in processes] == ["ready\n"] * 8
    (tmp_path / "go").touch()
    results = [process.communicate(timeout=60) for process in processes]
    assert {error for _, error in results} == {""}
    assert len({output for output, _ in results}) == 1


def test_half_a_key_is_refused(start, tmp_path):
    (tmp_path / "var").mkdir()
    (tmp_path / "var" / "secret_key").write_text("half")
    process = start("manage.py", "check")
    assert process.returncode != 0
    assert "secret_key holds no whole key. Delete the file" in process.err


def test_what_is_not_set_has_a_default(read_settings, tmp_path):
    defaults = {
        "DEBUG": False,
        "ALLOWED_HOSTS": ["127.0.0.1", "localhost", "[::1]"],
        "CORS_ALLOWED_ORIGINS": [],
        "CORS_ALLOW_CREDENTIALS": True,
        "NUM_PROXIES": 0,
        "CAPTCHA_LOG": "",
        "SMS_LOG": str(tmp_path / "var" / "sms.log"),
        "ADMIN_PATH": "",
        "PRODUCTION": False,
        "QQ_REDIRECT_URI": "http://127.0.0.1:8000/oauth/qq/callback/",
        "QQ_CALLBACK_PAGE": "http://127.0.0.1:8000/oauth_callback.html",
        "QQ_CLIENT_ID": None,
        "QQ_CLIENT_SECRET": None,
        "QQ_API_URL": None,
        "QQ_TIMEOUT": None,
        "QQ_MAX_CONNECTIONS": None,
        "QQ_REQUIRE_COOKIE": None,
        "QQ_UNIONID": None,
    }
    assert read_settings(*defaults) == defaults


def test_environment_is_passed_on(read_settings):
    env = {
        "DEBUG": "yes",
        "ALLOWED_HOSTS": "api.shop.test, www.shop.test",
        "CORS_ALLOWED_ORIGINS": "https://www.shop.test",
        "SECRET_KEY_FALLBACKS": "newer,older",
        "NUM_PROXIES": "2",
        "CAPTCHA_LOG": "/tmp/captcha.log",
        "ADMIN_PATH": "/back-office",
        "QQ_CLIENT_SECRET": "$not-a-reference",
        "QQ_API_URL": "http://127.0.0.1:8001",
        "QQ_TIMEOUT": "2.5",
        "QQ_MAX_CONNECTIONS": "7",
        "QQ_REQUIRE_COOKIE": "false",
        "QQ_UNIONID": "on",
    }
    assert read_settings(*env, env=env) == {
        "DEBUG": True,
        "ALLOWED_HOSTS": ["api.shop.test", "www.shop.test"],
        "CORS_ALLOWED_ORIGINS": ["https://www.shop.test"],
        "SECRET_KEY_FALLBACKS": ["newer", "older"],
        "NUM_PROXIES": 2,
        "CAPTCHA_LOG": "/tmp/captcha.log",
        "ADMIN_PATH": "back-office/",
        "QQ_CLIENT_SECRET": "$not-a-reference",
        "QQ_API_URL": "http://127.0.0.1:8001",
        "QQ_TIMEOUT": 2.5,
        "QQ_MAX_CONNECTIONS": 7,
        "QQ_REQUIRE_COOKIE": False,
        "QQ_UNIONID": True,
    }


def test_mysql_and_redis_come_from_their_addresses(read_settings):
    env = {"DATABASE_URL": "mysql://shop:s%40fe@db.test:3307/meiduo", "CACHE_URL": "redis://:pass@cache.test:6380/1"}
    answer = read_settings("DATABASES", "CACHES", env=env)
    assert answer["DATABASES"]["default"] == {
        "ENGINE": "django.db.backends.mysql",
        "NAME": "meiduo",
        "USER": "shop",
        "PASSWORD": "s@fe",
        "HOST": "db.test",
        "PORT": 3307,
        "CONN_MAX_AGE": 600,
        "CONN_HEALTH_CHECKS": True,
        "OPTIONS": {
            "charset": "utf8mb4",
            "connect_timeout": 3,
            "init_command": "SET sql_mode = CONCAT(@@sql_mode, ',STRICT_TRANS_TABLES')",
        },
        "TEST": {"CHARSET": "utf8mb4"},
    }
    assert answer["CACHES"]["default"] == {
        "BACKEND": "meiduo.cache.RedisCache",
        "LOCATION": "redis://:pass@cache.test:6380/1",
        "OPTIONS": {"socket_timeout": 1, "socket_connect_timeout": 1},
    }


def test_the_address_of_mysql_may_say_how_long_a_connection_is_kept(read_settings):
    answer = read_settings("DATABASES", env={"DATABASE_URL": "mysql://shop:safe@db.test/meiduo?conn_max_age=0"})
    assert answer["DATABASES"]["default"]["CONN_MAX_AGE"] == 0


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DEBUG", "ture"),
        ("QQ_REQUIRE_COOKIE", "nope"),
        ("QQ_TIMEOUT", "five"),
        ("QQ_TIMEOUT", "nan"),
        ("QQ_MAX_CONNECTIONS", "2.5"),
        ("NUM_PROXIES", "-1"),
        ("DATABASE_URL", "nonsense"),
        ("CACHE_URL", "dummycache://"),
    ],
)
def test_value_that_cannot_be_read_is_refused_by_name(start, name, value):
    process = start("manage.py", "check", env={name: value})
    assert process.returncode != 0
    assert f"ImproperlyConfigured: {name} " in process.err


NO_ORIGINS = [
    "null",
    "*",
    "https://*",
    "https://*.shop.test",
    "www.shop.test",
    "//www.shop.test",
    "file://",
    "ftp://www.shop.test",
    "https://www.shop.test/",
    "https://www.shop.test/login.html",
    "https://www.shop.test?a",
    "https://www.shop.test#a",
    "https://user@www.shop.test",
    "https://www.shop.test:port",
    "https://WWW.shop.test",
    "^https://",
    "https://www shop.test",
    "https://www.shop.test\\",
]


def test_what_is_no_origin_is_refused_by_its_name(start):
    code = (
        "import json, os, sys\n"
        "for os.environ['CORS_ALLOWED_ORIGINS'] in json.loads(sys.argv[1]):\n"
        "    sys.modules.pop('meiduo.settings', None)\n"
        "    try: import meiduo.settings\n"
        "    except Exception as exc: print(repr(exc))\n"
        "    else: print(None)"
    )
    listed = [f"https://www.shop.test,{origin},http://localhost:8080" for origin in NO_ORIGINS]
    refused = start("-c", code, json.dumps(listed)).out.splitlines()
    for origin, error in zip(NO_ORIGINS, refused, strict=True):
        assert error.startswith("ImproperlyConfigured("), origin
        assert f"CORS_ALLOWED_ORIGINS cannot be read: {origin} is no origin." in error.replace("\\\\", "\\")


# Production


@pytest.mark.parametrize(
    ("change", "fault"),
    [
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
        ({"CACHE_URL": "locmemcache://"}, "With CACHE_URL=locmemcache:// every process"),
        ({"CAPTCHA_LOG": "captcha.log"}, "CAPTCHA_LOG writes the answers"),
    ],
)
def test_production_refuses_to_start(start, tmp_path, change, fault):
    process = start("manage.py", "check", env=PRODUCTION | change)
    assert process.returncode != 0
    assert f"ImproperlyConfigured: {fault}" in process.err
    assert not (tmp_path / "var" / "secret_key").exists()
    assert all(len(value) < 20 or value not in process.err for value in (PRODUCTION | change).values())


NEEDED = [
    "SECRET_KEY",
    "JWT_SIGNING_KEY",
    "ALLOWED_HOSTS",
    "DATABASE_URL",
    "CACHE_URL",
    "NUM_PROXIES",
    "QQ_CLIENT_SECRET",
    "QQ_REDIRECT_URI",
    "QQ_CALLBACK_PAGE",
    "SMS_BACKEND",
]


@pytest.mark.parametrize("missing", [*([name] for name in NEEDED), NEEDED], ids=" ".join)
def test_production_names_at_once_all_that_is_not_set(start, tmp_path, missing):
    process = start("manage.py", "check", env=PRODUCTION | dict.fromkeys(missing, ""))
    assert process.returncode != 0
    assert "ImproperlyConfigured: What stands in for these is for one developer:\n" in process.err
    assert re.findall("^([A-Z_]+) is not set[.] [A-Z]", process.err, re.MULTILINE) == missing
    assert not (tmp_path / "var" / "secret_key").exists()


@pytest.mark.parametrize(
    "change", [{"DEBUG": "on"}, {"QQ_API_URL": "http://127.0.0.1:8001"}, {"QQ_CLIENT_ID": ""}], ids=str
)
def test_what_is_not_production_starts_without_keys(start, change):
    env = (
        PRODUCTION
        | {"SECRET_KEY": "", "JWT_SIGNING_KEY": "", "CACHE_URL": "", "SMS_BACKEND": "", "DATABASE_URL": ""}
        | change
    )
    process = start("manage.py", "check", env=env)
    assert process.returncode == 0, process.err


def test_production_passes_the_deployment_checks(start):
    process = start("-W", "error", "manage.py", "check", "--deploy", "--fail-level", "WARNING", env=PRODUCTION)
    assert process.returncode == 0, process.err
    assert "System check identified no issues" in process.out


def test_the_deployment_checks_say_when_no_sms_is_sent(start):
    process = start("manage.py", "check", "--deploy", env=PRODUCTION | DEVELOPMENT_SMS)
    assert "users.W001" in process.err
    assert "users.W001" not in start("manage.py", "check", env={"SMS_BACKEND": ""}).err


def test_gunicorn_makes_the_deployment_checks_in_production(start):
    start_up = ("-c", "import meiduo.wsgi")
    assert "users.W001" in start(*start_up, env=PRODUCTION | DEVELOPMENT_SMS).err
    assert "users.W001" not in start(*start_up).err


def test_production_answers_over_https_with_all_it_should_say(start):
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


def test_https_is_forced_where_the_shop_is_https(read_settings):
    names = (
        "SECURE_SSL_REDIRECT",
        "SECURE_HSTS_SECONDS",
        "SESSION_COOKIE_SECURE",
        "CSRF_COOKIE_SECURE",
        "SECURE_PROXY_SSL_HEADER",
    )
    forced = dict(zip(names, [True, 365 * 24 * 3600, True, True, None], strict=True))
    proxied = forced | {"SECURE_PROXY_SSL_HEADER": ["HTTP_X_FORWARDED_PROTO", "https"]}
    assert read_settings(*names, env=PRODUCTION) == forced
    assert read_settings(*names, env=PRODUCTION | {"NUM_PROXIES": "1"}) == proxied
    plain = PRODUCTION | {"QQ_REDIRECT_URI": "http://shop.test/oauth/qq/callback/"}
    assert read_settings(*names, env=plain) == dict.fromkeys(names)


@pytest.fixture
def port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"JWT_SIGNING_KEY": ""}, "JWT_SIGNING_KEY is not set."),
        ({"SMS_BACKEND": "no.such.function"}, "users.E001"),
    ],
)
def test_gunicorn_stops_on_a_wrong_setting(start, port, change, fault):
    process = start("-m", "gunicorn", "--bind", f"127.0.0.1:{port}", "meiduo.wsgi", env=PRODUCTION | change)
    assert process.returncode != 0
    assert fault in process.err


def test_gunicorn_is_told_how_to_serve(start):
    def read(**env):
        process = start("-m", "gunicorn", "--config=python:meiduo.server", "--print-config", "meiduo.wsgi", env=env)
        assert process.returncode == 0, process.err
        lines = [line.partition("=") for line in process.out.splitlines()]
        return {name.strip(): value.strip() for name, _, value in lines}

    told = read()
    assert (told["worker_class"], told["threads"], told["workers"]) == ("gthread", "64", str(os.cpu_count()))
    assert (told["limit_request_line"], told["limit_request_fields"], told["limit_request_field_size"]) == (
        "4094",
        "100",
        "8190",
    )
    assert (told["header_map"], told["forwarded_allow_ips"]) == ("drop", "[]")
    assert float(told["keepalive"]) > 60  # nginx's
    assert read(WEB_CONCURRENCY="7")["workers"] == "7"
    assert read(THREADS="16")["threads"] == "16"


@pytest.mark.parametrize(
    ("name", "text"),  # what else WEB_CONCURRENCY may be, gunicorn reads and refuses before
    [("THREADS", "0"), ("THREADS", "-1"), ("THREADS", "1.5"), ("THREADS", "many"), ("WEB_CONCURRENCY", "0")],
)
def test_gunicorn_names_a_number_that_is_none(start, name, text):
    process = start(
        "-m", "gunicorn", "--config=python:meiduo.server", "--check-config", "meiduo.wsgi", env={name: text}
    )
    assert process.returncode == 1
    assert process.err == f"The shop does not start. {name} cannot be read: write a whole number from 1.\n"


@pytest.mark.parametrize(("threads", "maximum"), [("16", 12), ("64", 48), ("1", 1), ("", None)])
def test_three_quarters_of_the_threads_may_wait_for_qq(read_settings, threads, maximum):
    assert read_settings("QQ_MAX_CONNECTIONS", env={"THREADS": threads}) == {"QQ_MAX_CONNECTIONS": maximum}


@pytest.mark.parametrize(
    ("env", "fault"),
    [
        (PRODUCTION | {"CAPTCHA_LOG": "captcha.log"}, "CAPTCHA_LOG writes the answers"),
        ({"WEB_CONCURRENCY": "2"}, "CACHE_URL is not set, so each worker would remember"),
    ],
)
def test_what_keeps_gunicorn_from_starting_is_one_sentence(start, port, env, fault):
    process = start(
        "-m", "gunicorn", "--config=python:meiduo.server", f"--bind=127.0.0.1:{port}", "meiduo.wsgi", env=env
    )
    assert process.returncode == 1
    assert process.err.splitlines()[-1].startswith(f"The shop does not start. {fault}")
    assert "Traceback" not in process.err


def test_what_the_checks_refuse_is_told_by_gunicorn_without_a_traceback(start, port):
    env = PRODUCTION | {"SMS_BACKEND": "nowhere.send_sms", "WEB_CONCURRENCY": "1"}
    process = start(
        "-m", "gunicorn", "--config=python:meiduo.server", f"--bind=127.0.0.1:{port}", "meiduo.wsgi", env=env
    )
    assert process.returncode == 3
    assert "nowhere.send_sms" in process.err
    assert "Traceback" not in process.err


@pytest.fixture
def server(start, port):
    """The shop as `manage.py runserver` serves it: its address, and what it wrote when it is stopped."""
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


def test_neither_query_nor_mobile_number_of_a_call_is_in_a_log(server, port):
    answer = urllib3.request("GET", f"http://127.0.0.1:{port}/sms_codes/13812345678/?text=CANARY&code=CANARY")
    assert answer.status == 400
    # Over the same connection, so that the line about the first call, written after its answer, is there.
    urllib3.request("GET", f"http://127.0.0.1:{port}/login.html")
    server.terminate()
    written = "".join(server.communicate(timeout=30))
    assert "Bad Request: /sms_codes/138****5678/\n" in written
    assert '"GET /sms_codes/138****5678/ HTTP/1.1" 400 ' in written
    assert "CANARY" not in written
    assert "13812345678" not in written


def test_pages_are_served_so_that_a_change_is_seen(client, db):
    response = client.get("/")
    assert response.status_code == 200
    assert b"".join(response.streaming_content) == (ROOT / "web" / "index.html").read_bytes()
    assert {name: response[name] for name in ("Cache-Control", "X-Frame-Options", "Referrer-Policy")} == {
        "Cache-Control": "max-age=0, public",
        "X-Frame-Options": "DENY",
        "Referrer-Policy": "no-referrer",
    }
    assert response["X-Content-Type-Options"] == "nosniff"


def test_admin_is_mounted_only_where_it_is_asked_for(start):
    code = (
        "import django; django.setup(); from django.test import Client;"
        "c = Client(HTTP_HOST='localhost');"
        "print(c.get('/back-office/').status_code, c.get('/static/admin/css/base.css').status_code)"
    )
    assert start("-c", code, env={"ADMIN_PATH": "back-office"}).out == "302 200\n"
    assert start("-c", code).out == "404 404\n"

"""`manage.py qq_doctor`: run all checks, then probe API, cache, database and, with --online, QQ."""

import re
import secrets
import ssl
from argparse import ArgumentParser
from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import datetime, timezone
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.core.cache import caches
from django.core.checks import ERROR, CheckMessage, Error, Info, Warning, run_checks
from django.core.checks.security.base import check_debug, check_secret_key
from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError, InterfaceError, connections, router
from django.test import Client
from django.urls import get_script_prefix, reverse

from ...cache import CACHE_ERRORS, pop
from ...checks import CONTRIB, TAG
from ...clients import make_web_client
from ...conf import conf
from ...database import name_error
from ...flow.lifetimes import CLOCK_ALARM
from ...models import OAuthQQUser
from ...origins import format_origin, get_mode, is_loopback, is_url
from ...qq import QQCertificateError, QQMisconfigured, QQRejected, QQUnavailable
from ..cluster import check_cluster
from ..redis_server import find_risks, find_wrong_server
from ..table import check_table

CERTIFICATE = (
    "Update ca-certificates, check this machine's clock, and whether a proxy or firewall on the way puts a certificate "
    "of its own in place of the server's. If it does so on purpose, SSL_CERT_FILE names a file with its CA."
)
UTC_NOW = {"mysql": "SELECT UTC_TIMESTAMP(6)", "postgresql": "SELECT CURRENT_TIMESTAMP AT TIME ZONE 'UTC'"}
ID, SECRET = "QQ_CLIENT_ID", "QQ_CLIENT_SECRET"
REFUSED = {100001: ID, 100008: ID, 100002: SECRET, 100009: SECRET, 100010: "QQ_REDIRECT_URI"}  # by QQ's error number
USE_TLS = 'Add "ssl": {"ca": "/path/of/ca.pem"} and "ssl_mode": "VERIFY_IDENTITY" to its OPTIONS.'
NO_QUORUM = (
    "A node of Galera without its quorum answers like this: see whether SHOW STATUS LIKE 'wsrep_cluster_status' "
    "says Primary."
)
CACHE_HINTS = {  # by redis-py's error class
    "AuthenticationError": "Check user and password. With requirepass alone there is no user: redis://:password@…",
    "MasterNotFoundError": "Check the Sentinels' addresses, and the name that they have for the master.",
    "OutOfMemoryError": "Redis is full: raise its maxmemory.",
    "RedisClusterException": "Check whether it is a Redis Cluster, and whether each node can be reached.",
}
NO_REPLICAS = "Start its replicas: it lacks those that min-replicas-to-write demands."
DATABASE_HINTS = {  # by MySQL's error number
    **dict.fromkeys((1047, 1205), NO_QUORUM),  # without and with wsrep_sync_wait
    1045: "Check its user and password. A server that demands TLS may refuse plain text with this number too.",
    2026: "TLS failed: the certificate is not by ssl's ca or not for this host, or the server offers no TLS.",
    3159: f"The server demands TLS. {USE_TLS}",
}


class Command(BaseCommand):
    help = "Run all checks, call API, cache and database, and say what is left to do. Exits with 0 if login can work."
    requires_system_checks = ()  # they are part of the output

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--online", action="store_true", help="call QQ too, once, with a made-up code")

    def handle(self, *args: Any, online: bool, **options: Any) -> None:
        found = {"wrong": 0, "warning": 0, "note": 0}
        for finding in examine(online):
            kind = "wrong" if finding.level >= ERROR else "warning" if isinstance(finding, Warning) else "note"
            found[kind] += 1
            number = f" ({finding.id})" if finding.id else ""
            hint = f"\n{'':9}-> {finding.hint}" if finding.hint else ""  # Django's own checks have none
            self.stdout.write(redact(f"{kind:9}{finding.msg}{number}{hint}"))
        if is_url(conf.REDIRECT_URI):
            self.stdout.write(f"\nRegister this URL with QQ, exactly as it is:\n{redact(conf.REDIRECT_URI)}\n\n")
        if found["wrong"]:
            raise CommandError(f"QQ login cannot work yet. Wrong: {found['wrong']}, warnings: {found['warning']}.")
        self.stdout.write(f"QQ login can work. Warnings: {found['warning']}.")


def redact(text: str) -> str:
    """Remove secrets that were put where a URL belongs."""
    for name in ("QQ_CLIENT_SECRET", "QQ_APP_KEY", "SECRET_KEY"):
        secret = getattr(settings, name, None)
        if isinstance(secret, str) and len(secret) >= 8:  # a shorter one may be a word
            text = text.replace(secret, "...")
    return text


def examine(online: bool) -> Iterator[CheckMessage]:
    """Yield all findings, in the order in which to fix them."""
    checked = [*run_checks(tags=[TAG], include_deployment_checks=True), *check_debug(None), *check_secret_key(None)]
    checked = [finding for finding in checked if not finding.is_silenced()]
    for finding in checked:
        if finding.id in ("oauth.W001", "oauth.W020"):
            finding.level = ERROR  # the shop may start, but its QQ login cannot work
    yield from sorted(checked, key=lambda finding: (-finding.level, str(finding.id)[-3:]))
    if any(finding.level >= ERROR for finding in checked):
        yield Info("API, cache, database and QQ were not called.", "Fix the settings first.")
        return
    if get_mode() == "callback":
        yield from call_api()
    yield from use_cache()
    yield from run_redis_script()
    yield from query_database()
    if online:
        yield from call_qq()


def call_api() -> Iterator[CheckMessage]:
    """Call the API as the page does, through the shop's middleware."""
    path, origin, host = reverse("oauth:authorization"), format_origin(conf.CALLBACK_PAGE), urlsplit(conf.REDIRECT_URI)
    headers = {"host": host.netloc, "origin": origin}
    path_info = path.removeprefix(get_script_prefix().rstrip("/"))
    response = Client(raise_request_exception=False).get(path_info, secure=conf.is_secure, headers=headers)
    if response.status_code != 200:
        hint = f'Let it pass through your middleware. If it is 400, add "{host.hostname}" to ALLOWED_HOSTS.'
        yield Error(f"{path} answers {response.status_code} instead of 200.", hint)
    elif origin != format_origin(conf.REDIRECT_URI):
        yield from check_cors(origin, response.headers)


def check_cors(origin: str, headers: Mapping[str, str]) -> Iterator[CheckMessage]:
    wildcards = set() if conf.REQUIRE_COOKIE else {"*"}  # invalid beside credentials
    exposed = set(re.split("[, ]+", headers.get("Access-Control-Expose-Headers", "").lower()))
    if headers.get("Access-Control-Allow-Origin") not in {origin, *wildcards}:
        problem = f"The page's origin, {origin}, may not read the API's answers."
        hint = f'Install django-cors-headers above CommonMiddleware, and set CORS_ALLOWED_ORIGINS = ["{origin}"].'
        yield Error(problem, f"{hint} CORS_URLS_REGEX, if set, must match this app's paths.")
    elif conf.REQUIRE_COOKIE and headers.get("Access-Control-Allow-Credentials") != "true":
        yield Error("The page's calls may not send the login's cookie.", "Set CORS_ALLOW_CREDENTIALS = True.")
    elif not exposed & {"retry-after", *wildcards}:
        yield Warning("The page cannot read when to retry.", 'Set CORS_EXPOSE_HEADERS = ["Retry-After"].')
    if conf.REQUIRE_COOKIE:
        hint = "Both calls of users/, GET and POST, must send the login's cookie (axios: withCredentials)."
        yield Info("Page and API have two origins.", hint)


def explain(exc: BaseException | None, hint: str) -> tuple[str, str]:
    """Return the class of a client's error, not its text, which may hold a password; and the hint that fits."""
    name, seen = type(exc).__name__, set()
    while exc is not None and exc not in seen:  # two errors of django-redis are each other's cause
        seen.add(exc)
        if isinstance(exc, ssl.SSLCertVerificationError):
            return f"the certificate is not accepted: {exc.verify_message}", CERTIFICATE
        hint = NO_REPLICAS if str(exc).startswith("NOREPLICAS") else CACHE_HINTS.get(type(exc).__name__, hint)
        exc = exc.__cause__ or exc.__context__  # of the client's own class
    return name, hint


def use_cache() -> Iterator[CheckMessage]:
    cache, key = caches["default"], f"qq-login:doctor:{secrets.token_hex(8)}"
    hint = "Check LOCATION and whether the server runs."
    try:
        counts = cache.add(key, 1, 60) and not cache.add(key, 1, 60) and cache.incr(key) == 2
        problem = "" if counts and pop(key) == 2 and cache.get(key) is None else "it does not add, count or delete"
    except Exception as exc:  # any backend may be here, with errors of its own
        problem, hint = explain(exc, hint)
    redis: Any = None
    maker: Any = getattr(cache, "client", None) or getattr(cache, "_cache", None)  # django_redis's, Django's
    with suppress(*CACHE_ERRORS):
        redis = maker.get_client(write=True) if hasattr(maker, "get_client") else None
    wrong = list(find_wrong_server(redis, 'CACHES["default"]')) if redis else []
    if wrong or problem:
        yield from wrong or [Error(f'CACHES["default"] does not work: {problem}.', hint)]
    elif redis:
        yield from find_risks(redis)


def run_redis_script() -> Iterator[CheckMessage]:
    """Run a script on the Redis with the SMS codes, as contrib.meiduo does."""
    serializer: Any = conf.load(conf.ACCOUNT_SERIALIZER)
    if any(base.__module__.startswith(CONTRIB) for base in serializer.__mro__):
        name = f"The Redis with the SMS codes, {serializer.connection!r},"
        try:
            redis = conf.load("django_redis.get_redis_connection")(serializer.connection)
            if wrong := list(find_wrong_server(redis, name)):
                yield from wrong
            else:
                redis.eval("return 1", 0)
        except CACHE_ERRORS as exc:
            reason, hint = explain(exc, "Check whether it runs, and allow its user EVAL and EVALSHA.")
            yield Error(f"{name} runs no scripts: {reason}.", hint)


def query_database() -> Iterator[CheckMessage]:
    connection = connections[router.db_for_write(OAuthQQUser)]
    try:
        if connection.vendor == "mysql":
            yield from check_cluster(connection)  # first, as it says why no table can be read
        yield from check_table(connection)
        if connection.vendor in UTC_NOW:  # SQLite has this machine's clock
            yield from check_clock(connection)
        if connection.vendor == "mysql":
            yield from check_encryption(connection)
    except (DatabaseError, InterfaceError) as exc:
        problem = f'DATABASES["{connection.alias}"] cannot be used: {name_error(exc)}.'
        hint = "Check its server, user, password and name; the database's own client says more."
        yield Error(problem, DATABASE_HINTS.get(exc.args[0] if exc.args else 0, hint))


def check_clock(connection: Any) -> Iterator[CheckMessage]:
    with connection.cursor() as cursor:
        cursor.execute(UTC_NOW[connection.vendor])
        seconds = abs((datetime.now(timezone.utc) - cursor.fetchone()[0].replace(tzinfo=timezone.utc)).total_seconds())
    if seconds > CLOCK_ALARM:
        problem = f"The clocks of this machine and of the database differ by {seconds:.0f} seconds."
        yield Warning(problem, "Synchronize both by NTP: with a minute's difference, logins are refused.")


def check_encryption(connection: Any) -> Iterator[CheckMessage]:
    """Report whether somebody on the way to the database can read or change what is sent."""
    host, tcp, _ = connection.connection.get_host_info().partition(" via TCP/IP")  # else "Localhost via UNIX socket"
    is_remote = tcp and not is_loopback(f"//[{host}]" if ":" in host else f"//{host}")
    with connection.cursor() as cursor:
        cursor.execute("SHOW SESSION STATUS LIKE 'Ssl_cipher'")
        cipher = cursor.fetchone()[1]
    # MariaDB's client library uses plain text in every other mode, if the server offers no TLS.
    is_verified = str(connection.settings_dict["OPTIONS"].get("ssl_mode")).startswith("VERIFY_")
    if cipher and is_verified:
        yield Info(f"The connection to the database is encrypted and verified ({cipher}).")
    elif is_remote:
        state = "encrypted, but the server is not verified" if cipher else "plain text"
        yield Warning(f"The connection to the database at {host} is {state}.", USE_TLS)


def call_qq() -> Iterator[CheckMessage]:
    try:
        make_web_client().get_access_token("0" * 32)
    except QQRejected as exc:
        problem = f"QQ refuses only the made-up code ({exc.number}): it accepts QQ_CLIENT_ID and QQ_CLIENT_SECRET."
        yield Info(problem, "Log in once: only then QQ says whether QQ_REDIRECT_URI is registered.")
    except QQMisconfigured as exc:
        refused = REFUSED.get(exc.number or 0, "the application")
        yield Error(f"QQ refuses {refused} ({exc.number}).", "Compare QQ's console; changes there take half an hour.")
    except QQUnavailable as exc:
        hint = f"Try again later. If {conf.API_URL} is out of reach, check DNS and firewall; HTTPS_PROXY is unused."
        hint = CERTIFICATE if isinstance(exc, QQCertificateError) else hint
        yield Error(f"QQ does not answer correctly: {exc}.", hint)

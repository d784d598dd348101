"""`manage.py qq_doctor`: what is left to do before users can log in with QQ."""

import re
import secrets
from argparse import ArgumentParser
from collections.abc import Iterator, Mapping
from datetime import datetime, timezone
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.core.cache import caches
from django.core.checks import ERROR, CheckMessage, Error, Info, Warning, run_checks
from django.core.exceptions import DisallowedHost
from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError, InterfaceError, connections, router
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.migrations.executor import MigrationExecutor
from django.test import Client, RequestFactory
from django.urls import get_script_prefix, reverse
from django.utils.module_loading import import_string

from ...cache import CACHE_ERRORS, pop
from ...checks import CONTRIB, TAG
from ...conf import conf
from ...flow.lifetimes import CLOCK_ALARM
from ...models import OAuthQQUser
from ...origins import format_origin, get_mode, guess_site, is_one_origin, is_one_site, is_url
from ...qq import QQMisconfigured, QQRejected, QQUnavailable
from ...single_flight import make_client
from .. import name_command

Findings = Iterator[CheckMessage]

NOW = {"mysql": "SELECT UTC_TIMESTAMP(6)", "postgresql": "SELECT CURRENT_TIMESTAMP AT TIME ZONE 'UTC'"}
ID, SECRET = "QQ_CLIENT_ID", "QQ_CLIENT_SECRET"
REFUSED = {100001: ID, 100008: ID, 100002: SECRET, 100009: SECRET, 100010: "QQ_REDIRECT_URI"}  # by QQ's error number


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
            self.stdout.write(f"{kind:9}{redact(finding.msg)}{number}\n{'':9}-> {redact(finding.hint or '')}")
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


def examine(online: bool) -> Findings:
    """Yield all findings, in the order in which to fix them."""
    checked = run_checks(tags=[TAG], include_deployment_checks=True)
    for finding in checked:
        if finding.id == "oauth.W001":
            finding.level = ERROR  # a shop may start without QQ, but its QQ login cannot work
    yield from sorted(checked, key=lambda finding: (-finding.level, str(finding.id)[-3:]))
    numbers = {finding.id for finding in checked}
    if settings.DEBUG:
        yield Warning(
            "DEBUG is on, so faults that matter only in production, such as http, were not looked for.",
            hint="Run this command with the settings of production too.",
        )
    if get_mode():
        yield from describe_login()
        yield from call_api()
    if not numbers & {"oauth.E011", "oauth.E014"}:
        yield from use_cache()
    if not numbers & {"oauth.E007", "oauth.E016"}:
        yield from run_redis_script()
    yield from query_database()
    if online and any(finding.level >= ERROR for finding in checked):
        yield Info("QQ was not called.", hint="Fix the settings first.")
    elif online:
        yield from call_qq()


# From here on, a finding takes two lines: what is found, and how to fix it.
# fmt: off

def describe_login() -> Findings:
    if get_mode() == "direct":
        yield Warning("Direct mode: QQ_REDIRECT_URI is not our callback/, so QQ returns to your page itself.",
                      hint="The page must forward its whole query: users/?code=...&state=... For a page that knows "
                      f"only code: QQ_CALLBACK_PAGE = its URL, QQ_REDIRECT_URI = that of {reverse('oauth:callback')}.")
        return
    yield Info(f"QQ returns to our callback/, which redirects the browser to {conf.CALLBACK_PAGE}.",
               hint="If QQ's console refuses the final slash, leave it out in QQ_REDIRECT_URI too.")
    if not is_one_origin() and is_one_site():
        yield Info(f"Page and API are two origins of one site, {guess_site(conf.REDIRECT_URI)}.",
                   hint="The page's calls of users/ need credentials (axios: withCredentials), and the API's own host.")
    elif not is_one_site() and not conf.REQUIRE_COOKIE:
        yield Info(f"Page and API are two sites, {guess_site(conf.CALLBACK_PAGE)} and {guess_site(conf.REDIRECT_URI)}.",
                   hint="The login's cookie is not sent, which is accepted because QQ_REQUIRE_COOKIE is off.")


def call_api() -> Findings:
    """Call the API as the page does, through the shop's middleware."""
    url, origin, path = urlsplit(conf.REDIRECT_URI), format_origin(conf.CALLBACK_PAGE), reverse("oauth:authorization")
    try:
        RequestFactory().get("/", headers={"host": url.netloc}).get_host()
    except DisallowedHost:
        yield Error(f"ALLOWED_HOSTS lacks {url.hostname}, QQ_REDIRECT_URI's host: every call to it is answered 400.",
                    hint=f'Add "{url.hostname}" to ALLOWED_HOSTS.')
        return
    client, headers = Client(raise_request_exception=False), {"host": url.netloc, "origin": origin}
    response = client.get(path.removeprefix(get_script_prefix().rstrip("/")), secure=conf.is_secure, headers=headers)
    if response.status_code != 200:
        yield Error(f"{path} answers {response.status_code} instead of 200, through your middleware.",
                    hint="Let all paths of this app pass for visitors who are not logged in.")
    elif get_mode() == "callback" and not is_one_origin():
        yield from check_cors(origin, response.headers)


def check_cors(origin: str, headers: Mapping[str, str]) -> Findings:
    wildcards = set() if conf.REQUIRE_COOKIE else {"*"}  # invalid beside credentials
    exposed = set(re.split("[, ]+", headers.get("Access-Control-Expose-Headers", "").lower()))
    if headers.get("Access-Control-Allow-Origin") not in {origin, *wildcards}:
        yield Error(f"The page's origin, {origin}, may not read the API's answers.",
                    hint="Install django-cors-headers, its middleware above CommonMiddleware, and set "
                    f'CORS_ALLOWED_ORIGINS = ["{origin}"]; CORS_URLS_REGEX, if set, must match this app\'s paths.')
    elif conf.REQUIRE_COOKIE and headers.get("Access-Control-Allow-Credentials") != "true":
        yield Error("The page's calls may not send the login's cookie.", hint="Set CORS_ALLOW_CREDENTIALS = True.")
    elif not exposed & {"retry-after", *wildcards}:
        yield Warning("The page may not read after how many seconds to retry.",
                      hint='Set CORS_EXPOSE_HEADERS = ["Retry-After"].')


def use_cache() -> Findings:
    cache, key, problem = caches["default"], f"qq-login:doctor:{secrets.token_hex(8)}", ""
    try:
        counts = cache.add(key, 1, 60) and not cache.add(key, 1, 60) and cache.incr(key) == 2
        if not counts or pop(key) != 2 or cache.get(key) is not None:
            problem = "it forgets"
    except Exception as exc:  # whatever the client raises; the text may hold the URL with its password
        problem = type(exc).__name__
    if problem:
        yield Error(f'CACHES["default"] does not work: {problem}.',
                    hint="Check LOCATION and whether the server runs. It must add, count, and report deletions.")
        return
    client: Any = getattr(cache, "client", None) or getattr(cache, "_cache", None)  # django_redis's, Django's
    if not hasattr(client, "get_client"):  # no Redis
        return
    try:
        config = client.get_client(write=True).config_get("maxmemory-policy")
    except CACHE_ERRORS:  # not allowed to read it
        return
    if (policy := config.get("maxmemory-policy", "noeviction")) != "noeviction":
        yield Warning(f'CACHES["default"] is a Redis that evicts entries when it is full: {policy}.',
                      hint="Set maxmemory-policy noeviction: without its record, a used login works again.")


def run_redis_script() -> Findings:
    """Run a script on the Redis with the SMS codes, as contrib.meiduo does."""
    serializer: Any = conf.load(conf.ACCOUNT_SERIALIZER)
    if not any(base.__module__.startswith(CONTRIB) for base in serializer.__mro__):
        return
    try:
        import_string("django_redis.get_redis_connection")(serializer.connection).eval("return 1", 0)
    except Exception as exc:  # whatever the client raises; the text may hold the URL with its password
        yield Error(f"The Redis with the SMS codes, {serializer.connection!r}, runs no scripts: {type(exc).__name__}.",
                    hint="Check whether it runs, and allow its user EVAL and EVALSHA.")


def query_database() -> Findings:
    connection = connections[router.db_for_write(OAuthQQUser)]
    try:
        yield from check_table(connection)
        yield from check_clock(connection)
    except (DatabaseError, InterfaceError) as exc:  # of MySQL's, only the number is shown: the text names the user
        number = f" {exc.args[0]}" if exc.args and isinstance(exc.args[0], int) else ""
        yield Error(f'DATABASES["{connection.alias}"] cannot be used: {type(exc).__name__}{number}.',
                    hint="Check its server, user, password and name; the database's own client says more.")


def check_table(connection: BaseDatabaseWrapper) -> Findings:
    table, migrate = OAuthQQUser._meta.db_table, name_command("migrate", connection)
    executor = MigrationExecutor(connection)
    plan = executor.migration_plan(executor.loader.graph.leaf_nodes("oauth"))
    if plan:
        pending = ", ".join(f"{migration.app_label}.{migration.name}" for migration, _ in plan)
        yield Error(f"Migrations are not applied: {pending}.", hint=f"Run {migrate}.")
        return
    with connection.cursor() as cursor:
        problems = [] if table in connection.introspection.table_names(cursor) else ["is missing"]
        if not problems:
            missing = {str(field.column) for field in OAuthQQUser._meta.concrete_fields}
            missing -= {column.name for column in connection.introspection.get_table_description(cursor, table)}
            constraints = connection.introspection.get_constraints(cursor, table).values()
            problems += [f"has no column {column}" for column in sorted(missing)]
            if not any(constraint["unique"] and constraint["columns"] == ["openid"] for constraint in constraints):
                problems += ["accepts an openid twice, as the column is not unique"]
    for problem in problems:  # another app with this label may have recorded migrations of the same names
        yield Error(f"The table {table} {problem}.", hint=f"Run {migrate} --fake oauth zero, then {migrate}.")


def check_clock(connection: BaseDatabaseWrapper) -> Findings:
    if connection.vendor not in NOW:  # SQLite has this machine's clock
        return
    with connection.cursor() as cursor:
        cursor.execute(NOW[connection.vendor])
        seconds = abs((datetime.now(timezone.utc) - cursor.fetchone()[0].replace(tzinfo=timezone.utc)).total_seconds())
    if seconds > CLOCK_ALARM:
        yield Warning(f"The clocks of this machine and of the database differ by {seconds:.0f} seconds.",
                      hint="Synchronize both by NTP: with a minute's difference, logins expire early or are refused.")


def call_qq() -> Findings:
    try:
        make_client().get_access_token("0" * 32)
    except QQRejected as exc:
        yield Info(f"QQ refuses only the made-up code ({exc.number}): it accepts QQ_CLIENT_ID and QQ_CLIENT_SECRET.",
                   hint="Whether QQ_REDIRECT_URI is registered, QQ may say only when you press the button: try it.")
    except QQMisconfigured as exc:
        yield Error(f"QQ refuses {REFUSED.get(exc.number or 0, 'the application')} ({exc.number}).",
                    hint="Compare it with QQ's console, where a change takes up to half an hour.")
    except QQUnavailable as exc:
        if exc.number is None:
            yield Error(f"QQ does not answer correctly: {exc}.",
                        hint=f"This machine must reach {conf.API_URL}: check DNS and firewall; HTTPS_PROXY is unused.")
        else:
            yield Warning(f"QQ has trouble of its own ({exc.number}), which says nothing about the settings.",
                          hint="Try again later; QQ's table of return codes explains the number.")

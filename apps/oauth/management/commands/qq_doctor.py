"""`manage.py qq_doctor`: what a shop still has to do before its shoppers can log in with QQ."""

import re
import secrets
from argparse import ArgumentParser
from collections.abc import Iterator
from datetime import datetime, timezone
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.core.cache import caches
from django.core.cache.backends.locmem import LocMemCache
from django.core.checks import ERROR, CheckMessage, Error, Info, Warning, run_checks
from django.core.checks.security.base import check_secret_key
from django.core.exceptions import DisallowedHost
from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError, InterfaceError, connections, router
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.migrations.executor import MigrationExecutor
from django.test import Client, RequestFactory
from django.urls import get_script_prefix, reverse
from django.utils.module_loading import import_string
from rest_framework.settings import api_settings

from ...single_flight import make_client
from ...checks import OLD_NAMES, TAG, find_ready_serializer, is_address, is_one_page
from ...conf import conf
from ...cache import CACHE_ERRORS
from ...flow.lifetimes import CLOCK_ALARM
from ...cache import pop as take
from ...models import OAuthQQUser
from ...qq import API_URL, QQMisconfigured, QQRejected, QQUnavailable
from .. import name_command

Findings = Iterator[CheckMessage]

SAMPLE_KEY = re.compile(r"change.?me|your.?(secret|key)|example|sample|placeholder|password|0123456789", re.I)
# Under these ending two letters a site has three labels: shop.com.cn.
SECOND_LEVEL = {"ac", "co", "com", "edu", "gov", "mil", "net", "org"}
NOW = {"mysql": "SELECT UTC_TIMESTAMP(6)", "postgresql": "SELECT CURRENT_TIMESTAMP AT TIME ZONE 'UTC'"}

# Whom QQ's error numbers blame.
BLAMED = {
    100001: "QQ_CLIENT_ID",
    100008: "QQ_CLIENT_ID",
    100002: "QQ_CLIENT_SECRET",
    100009: "QQ_CLIENT_SECRET",
    100010: "QQ_REDIRECT_URI",
}
MADE_UP_CODE = "0" * 32


class Command(BaseCommand):
    help = "Say what is still to be done before shoppers can log in with QQ. Exits with 0 only if they can."
    requires_system_checks = ()  # they are part of what is said

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--online", action="store_true", help="ask QQ too, once, with a made-up code")

    def handle(self, *args: Any, online: bool, **options: Any) -> None:
        wrong = warnings = 0
        for finding in findings(online):
            is_wrong = finding.level >= ERROR
            wrong += is_wrong
            warnings += isinstance(finding, Warning) and not is_wrong
            kind = "wrong" if is_wrong else "warning" if isinstance(finding, Warning) else "note"
            number = f" ({finding.id})" if finding.id else ""
            self.stdout.write(f"{kind:9}{hide(finding.msg)}{number}\n{'':9}-> {hide(finding.hint or '')}")
        if is_address(conf.REDIRECT_URI):
            self.stdout.write(f"\nRegister this address with QQ, to the letter:\n{hide(conf.REDIRECT_URI)}\n\n")
        if wrong:
            raise CommandError(f"QQ login cannot work yet. Wrong: {wrong}, warnings: {warnings}.")
        self.stdout.write(f"QQ login can work. Warnings: {warnings}.")


def findings(online: bool) -> Findings:
    """Yield all there is to say, in the order in which it should be mended."""
    checked = run_checks(tags=[TAG])
    numbers = {finding.id for finding in checked}
    for finding in checked:
        if finding.id == "oauth.W001":
            finding.level = ERROR  # the shop may start without QQ, but that is not what is asked here
    yield from sorted(checked, key=lambda finding: (-finding.level, str(finding.id)[-3:]))
    yield from look_at_names()
    yield from look_at_mode()
    if not numbers & {"oauth.E003", "oauth.E004", "oauth.E006"}:
        yield from look_at_registered_address()
        yield from look_at_origins()
        yield from look_at_answer()
    if not numbers & {"oauth.E011", "oauth.E014"}:
        yield from look_at_cache()
    if not numbers & {"oauth.E007", "oauth.E016"}:
        yield from look_at_sms_codes()
    yield from look_at_database()
    yield from look_at_keys()
    if online and any(finding.level >= ERROR for finding in checked):
        yield Info("QQ was not asked.", hint="Mend the settings first.")
    elif online:
        yield from ask_qq()


# Settings -------------------------------------------------------------------------------------------------------------


def look_at_names() -> Findings:
    renamed = {old: f"QQ_{name} is read in its place" for name, old in OLD_NAMES.items() if getattr(conf, name)}
    made = dict.fromkeys(("QQ_STATE", "QQ_LOGIN_URL"), "state and address are made for each login")
    for old, why in (renamed | made).items():
        if hasattr(settings, old):
            yield Info(f"{old} is not read: {why}.", hint="Delete it, unless code of yours reads it.")


def look_at_mode() -> Findings:
    if settings.DEBUG:
        yield Warning(
            "DEBUG is on, so faults that only matter in production are not looked for.",
            hint="Run this with the settings of production too.",
        )
    if str(conf.API_URL).rstrip("/") != API_URL:
        yield Warning("QQ_API_URL names a stand-in: nobody's own QQ logs in.", hint="In production leave it out.")


def look_at_registered_address() -> Findings:
    address = urlsplit(conf.REDIRECT_URI)
    host = address.hostname or ""
    if conf.is_direct:
        yield Warning(
            "Direct mode: QQ_REDIRECT_URI is not our callback/, so QQ returns to your page itself.",
            hint="The page must forward its whole query: users/?code=...&state=... A page that only knows code needs "
            f"QQ_CALLBACK_PAGE = its address, QQ_REDIRECT_URI = the API's {reverse('oauth:callback')}.",
        )
        if not is_one_page(conf.CALLBACK_PAGE, conf.REDIRECT_URI):
            yield Warning(
                f"Errors of login/ go to another page than QQ returns to: {conf.CALLBACK_PAGE}.",
                hint="Set QQ_CALLBACK_PAGE to QQ_REDIRECT_URI, unless both pages know what to do.",
            )
    else:
        yield Info(
            f"QQ returns to our callback/, which sends the browser to {conf.CALLBACK_PAGE}.",
            hint="If QQ's console refuses the final slash, drop it in QQ_REDIRECT_URI too.",
        )
    if settings.DEBUG and not conf.is_secure:  # else oauth.W002 says so
        yield Warning("QQ_REDIRECT_URI is http.", hint="In production use https.")
    if host == "localhost" or host.endswith(".localhost") or is_ip_address(host):
        yield Warning(
            f"QQ_REDIRECT_URI names the host {host}, which QQ's console refuses.",
            hint="Register a domain. To try it on one machine, give that a name in its hosts file.",
        )
    if address.port:
        yield Warning(
            f"QQ_REDIRECT_URI names the port {address.port}, which QQ's console may refuse.",
            hint="Serve the API on the usual port: 443, or 80 for http.",
        )


# Browsers -------------------------------------------------------------------------------------------------------------


def look_at_origins() -> Findings:
    """Look whether a browser sends the flow's cookie along when the page calls the API."""
    page, api = conf.CALLBACK_PAGE, conf.REDIRECT_URI
    if conf.is_direct or origin(page) == origin(api):
        return
    assumed = f"{origin(page)} and {origin(api)}"
    schemes = urlsplit(page).scheme, urlsplit(api).scheme
    if schemes == ("https", "http"):
        yield Error(
            f"The page is https and the API http, so browsers block the page's calls: {assumed}.",
            hint="Serve the API over https, and register that address with QQ.",
        )
    elif site(page) == site(api) and schemes[0] == schemes[1]:
        yield Info(
            f"Page and API are two origins of one site: {assumed}. Taken for the site: {site(api)}.",
            hint="The page's calls of users/ need credentials (axios: withCredentials), and to that very host.",
        )
    elif not conf.REQUIRE_COOKIE:
        yield Info(
            f"Page and API are two sites: {assumed}. Taken for the sites: {site(page)}, {site(api)}.",
            hint="The login's cookie does not go along; it passes because QQ_REQUIRE_COOKIE is off.",
        )
    elif site(page) == site(api):
        yield Error(
            f"The page is http and the API https, which is two sites to browsers: {assumed}. They drop the cookie.",
            hint="Serve the page over https too.",
        )
    else:
        yield Error(
            f"Page and API are two sites, so browsers drop the login's cookie: {assumed}. "
            f"Taken for the sites: {site(page)}, {site(api)}.",
            hint="Serve both under one domain, as www. and api. of it. Where that cannot be, QQ_REQUIRE_COOKIE = False "
            "does without the cookie; read first what is given up.",
        )


def look_at_answer() -> Findings:
    """Call the API as the page would, through all of the shop's middleware."""
    address = urlsplit(conf.REDIRECT_URI)
    try:
        RequestFactory().get("/", headers={"host": address.netloc}).get_host()
    except DisallowedHost:
        yield Error(
            f"ALLOWED_HOSTS has no {address.hostname}, the host of QQ_REDIRECT_URI: every call to it is answered 400.",
            hint=f'Add "{address.hostname}" to ALLOWED_HOSTS.',
        )
        return
    path = reverse("oauth:authorization").removeprefix(get_script_prefix().rstrip("/"))
    headers = {"host": address.netloc, "origin": origin(conf.CALLBACK_PAGE)}
    answer = Client(raise_request_exception=False).get(path, secure=conf.is_secure, headers=headers)
    if answer.status_code != 200:
        yield Error(
            f"{path} answers {answer.status_code} instead of 200, through your middleware.",
            hint="Let everything below it pass for visitors who are not logged in.",
        )
    elif not conf.is_direct and origin(conf.CALLBACK_PAGE) != origin(conf.REDIRECT_URI):
        yield from look_at_cors(answer.headers)
    if settings.SECURE_SSL_REDIRECT and not settings.SECURE_PROXY_SSL_HEADER and api_settings.NUM_PROXIES != 0:
        yield Warning(
            "SECURE_SSL_REDIRECT is on and SECURE_PROXY_SSL_HEADER is not set: behind a proxy that speaks TLS, each "
            "call is sent to its own address for ever, unless the server in between makes it https again.",
            hint='Set ("HTTP_X_FORWARDED_PROTO", "https") if all calls come by a proxy that sends X-Forwarded-Proto; '
            'without a proxy set REST_FRAMEWORK["NUM_PROXIES"] = 0.',
        )


def look_at_cors(headers: Any) -> Findings:
    page, allowed = origin(conf.CALLBACK_PAGE), headers.get("Access-Control-Allow-Origin")
    exposed = headers.get("Access-Control-Expose-Headers", "").lower()
    if allowed is None and "corsheaders.middleware.CorsMiddleware" not in settings.MIDDLEWARE:
        yield Error(
            f"The page is of another origin, {page}, and may not read the API's answers: no CORS.",
            hint="Install django-cors-headers: its app, its middleware above CommonMiddleware, "
            f'CORS_ALLOWED_ORIGINS = ["{page}"], CORS_ALLOW_CREDENTIALS = True, CORS_EXPOSE_HEADERS = ["Retry-After"].',
        )
    elif allowed != page and (allowed != "*" or conf.REQUIRE_COOKIE):
        yield Error(
            f"The page's origin, {page}, may not read the API's answers.",
            hint=f'Add "{page}" to CORS_ALLOWED_ORIGINS; CORS_URLS_REGEX, if set, must match this app\'s paths.',
        )
    elif conf.REQUIRE_COOKIE and headers.get("Access-Control-Allow-Credentials") != "true":
        yield Error(
            "The page's calls may not carry the login's cookie.",
            hint="Set CORS_ALLOW_CREDENTIALS = True.",
        )
    elif "retry-after" not in exposed and (conf.REQUIRE_COOKIE or exposed != "*"):  # no wildcard with credentials
        yield Warning(
            "The page may not read in how many seconds a call is worth another try.",
            hint='Set CORS_EXPOSE_HEADERS = ["Retry-After"].',
        )


def origin(address: str) -> str:
    """Return the origin as browsers write it."""
    parts = urlsplit(address)
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    usual = {"http": 80, "https": 443}[parts.scheme]
    return f"{parts.scheme}://{host}" + (f":{parts.port}" if parts.port not in (None, usual) else "")


def site(address: str) -> str:
    """Return what is most likely the domain somebody registered; browsers have a list of thousands of exceptions."""
    host = urlsplit(address).hostname or ""
    if is_ip_address(host):
        return host
    labels = host.split(".")
    is_deeper = len(labels) > 2 and len(labels[-1]) == 2 and labels[-2] in SECOND_LEVEL
    return ".".join(labels[-3 if is_deeper else -2 :])


def is_ip_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


# Servers --------------------------------------------------------------------------------------------------------------


def look_at_cache() -> Findings:
    cache, key = caches["default"], f"qq-login:doctor:{secrets.token_hex(8)}"
    if isinstance(cache, LocMemCache) and not conf.in_production:  # else oauth.E012 says so
        yield Warning(
            'CACHES["default"] is local memory: right for one process, wrong for several workers.',
            hint="In production use Redis, with maxmemory-policy noeviction.",
        )
    try:
        does_count = cache.add(key, 1, 60) and not cache.add(key, 1, 60) and cache.incr(key) == 2
        told = "" if does_count and take(key) == 2 and cache.get(key) is None else "it forgets"
    except Exception as exc:  # whatever its client raises
        told = type(exc).__name__  # its text may hold the address, with a password
    if told:
        yield Error(
            f'CACHES["default"] does not do its work: {told}.',
            hint="Look whether its server runs, and at LOCATION. It must add, count, and tell whether it deleted.",
        )
    else:
        yield from look_at_eviction(cache)


def look_at_eviction(cache: Any) -> Findings:
    client: Any = getattr(cache, "client", None) or getattr(cache, "_cache", None)  # django_redis's, Django's
    if not hasattr(client, "get_client"):  # no Redis
        return
    try:
        policy = client.get_client(write=True).config_get("maxmemory-policy").get("maxmemory-policy", "noeviction")
    except CACHE_ERRORS:  # one that does not tell
        return
    if policy != "noeviction":
        yield Warning(
            f'CACHES["default"] is a Redis that throws away what it has no room for: {policy}.',
            hint="Set maxmemory-policy noeviction: a login that is used up and forgotten would count again.",
        )


def look_at_sms_codes() -> Findings:
    """Look whether the ready serializer may use SMS codes up, which it does by a script of Redis's."""
    serializer = find_ready_serializer()
    if serializer is None:
        return
    try:
        import_string("django_redis.get_redis_connection")(serializer.connection).eval("return 1", 0)
    except Exception as exc:  # its text may hold the address, with a password
        yield Error(
            f"The Redis with the SMS codes, {serializer.connection!r}, does not run scripts: {type(exc).__name__}.",
            hint="Look whether it runs, and allow its user EVAL and EVALSHA.",
        )


def look_at_database() -> Findings:
    alias = router.db_for_write(OAuthQQUser)
    connection = connections[alias]
    try:
        yield from look_at_table(connection)
        yield from look_at_clock(connection)
    except (DatabaseError, InterfaceError) as exc:
        # MySQL's number, without its text, which names user and host.
        number = f" {exc.args[0]}" if exc.args and isinstance(exc.args[0], int) else ""
        yield Error(
            f'DATABASES["{alias}"] cannot be used: {type(exc).__name__}{number}.',
            hint="Look whether its server runs, and at user, password and name; the database's client says more.",
        )


def look_at_table(connection: BaseDatabaseWrapper) -> Findings:
    executor = MigrationExecutor(connection)
    targets = executor.loader.graph.leaf_nodes("oauth")
    pending = [f"{migration.app_label}.{migration.name}" for migration, _ in executor.migration_plan(targets)]
    migrate = name_command("migrate", connection)
    table, mend = OAuthQQUser._meta.db_table, f"Run {migrate}."
    if pending:
        last = ", ".join(pending[-3:]) + (" and those before" if pending[3:] else "")
        yield Error(f"Migrations are not applied: {last}.", hint=mend)
    else:  # recorded, by this app or by another of its label, but not done to this table
        mend = f"Run {migrate} --fake oauth zero, then {migrate}."
    with connection.cursor() as cursor:
        if table not in connection.introspection.table_names(cursor):
            yield Error(f"The table {table} is missing.", hint=mend)
            return
        has = {column.name for column in connection.introspection.get_table_description(cursor, table)}
        constraints = connection.introspection.get_constraints(cursor, table).values()
    if missing := [str(field.column) for field in OAuthQQUser._meta.concrete_fields if field.column not in has]:
        yield Error(f"The table {table} has no column {', '.join(missing)}.", hint=mend)
    if not any(found["unique"] and found["columns"] == ["openid"] for found in constraints):
        yield Error(f"The table {table} takes an openid twice: the column is not unique.", hint=mend)


def look_at_clock(connection: BaseDatabaseWrapper) -> Findings:
    if connection.vendor not in NOW:  # SQLite has ours
        return
    with connection.cursor() as cursor:
        cursor.execute(NOW[connection.vendor])
        there = cursor.fetchone()[0].replace(tzinfo=timezone.utc)
    apart = abs(datetime.now(timezone.utc) - there).total_seconds()
    if apart > CLOCK_ALARM:
        yield Warning(
            f"The clocks of this machine and of the database are {apart:.0f} seconds apart.",
            hint="Let both keep time by NTP: logins end early, or are refused, where servers differ by a minute.",
        )


def look_at_keys() -> Findings:
    if check_secret_key(None) or SAMPLE_KEY.search(str(settings.SECRET_KEY)):
        yield Warning(
            "SECRET_KEY is short, or looks like a sample: who knows it can log in as anybody.",
            hint='Make one: python -c "import secrets; print(secrets.token_urlsafe(64))"',
        )


# QQ -------------------------------------------------------------------------------------------------------------------


def ask_qq() -> Findings:
    try:
        make_client().get_access_token(MADE_UP_CODE)
    except QQRejected as exc:
        yield Info(
            f"QQ refuses a made-up code, and nothing else ({exc.number}): it knows QQ_CLIENT_ID and QQ_CLIENT_SECRET.",
            hint="Whether QQ_REDIRECT_URI is registered, QQ may tell only when you press the button: try it.",
        )
    except QQMisconfigured as exc:
        blamed = BLAMED.get(exc.number or 0, "the application")
        yield Error(
            f"QQ refuses {blamed} ({exc.number}).",
            hint="Compare it with what QQ's console shows, where a change takes up to half an hour.",
        )
    except QQUnavailable as exc:
        if exc.number is None:
            yield Error(
                f"QQ does not answer as it should: {exc}.",
                hint=f"This machine must reach {conf.API_URL}: look at DNS and firewall. HTTPS_PROXY is not used.",
            )
        else:
            yield Warning(
                f"QQ has trouble of its own ({exc.number}), which says nothing of the settings.",
                hint="Try again later; QQ's table of return codes has the number.",
            )


def hide(text: str) -> str:
    """Take out of a text the secrets that somebody may have put where an address belongs."""
    for name in ("QQ_CLIENT_SECRET", "QQ_APP_KEY", "SECRET_KEY"):
        secret = getattr(settings, name, None)
        if isinstance(secret, str) and len(secret) >= 8:  # shorter ones may well be words
            text = text.replace(secret, "...")
    return text

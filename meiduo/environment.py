"""Reads the shop's environment: environs' types, some of our own, and one error that names every wrong variable."""

import os
import re
from ipaddress import ip_address
from urllib.parse import parse_qsl, unquote, urlsplit

import dj_database_url
import environs
from django.core.exceptions import ImproperlyConfigured

ORIGIN = re.compile(r"https?://([a-z0-9.-]+|\[[0-9a-f:]+\])(:[0-9]{1,5})?")
SERVER = re.compile(r"(?P<host>[\w.-]+|\[[0-9a-fA-F:.]+\]):(?P<port>[0-9]{1,5})", re.ASCII)


class Env(environs.Env):
    """Read variables by their type: `env.bool("DEBUG", False)`. An empty variable counts as unset.

    A value that cannot be read becomes None until `seal()` raises ImproperlyConfigured, which names all such
    variables but shows no value.
    """

    def __init__(self):
        super().__init__(eager=False)
        for parse in (names, app_ids, origins, database, cache, listener):
            self.add_parser(parse.__name__, parse)

    def _get_value(self, env_key, default):  # the hook by which environs' own FileAwareEnv reads files
        return os.environ.get(env_key, "").strip() or default

    def __contains__(self, name):
        return bool(os.environ.get(name, "").strip())

    def seal(self):
        try:
            super().seal()
        except environs.EnvValidationError as exc:
            lines = [f"{name} cannot be read: {' '.join(why)}" for name, why in exc.error_messages.items()]
            raise ImproperlyConfigured("\n".join(lines)) from None


def between(low, high=1_000_000):
    return environs.validate.Range(low, high)


def one_of(*choices):
    return environs.validate.OneOf(choices)


def names(text):
    """Return the names in a list separated by commas."""
    return [name.strip() for name in text.split(",") if name.strip()]


def app_ids(text):
    """Return {APP ID: APP Key} of a list as in `1106000001=key, 1106000002`. The key of an app without one is ""."""
    pairs = [pair.partition("=") for pair in names(text)]
    if not all(app_id.strip().isdecimal() for app_id, _, _ in pairs):
        raise environs.ValidationError("Write it as 1106000001=its APP Key, separated by commas.")
    return {app_id.strip(): key.strip() for app_id, _, key in pairs}


def origins(text):
    # corsheaders accepts more: "null", which any page can claim, and slashes or capitals, which never match.
    for origin in names(text):
        if not ORIGIN.fullmatch(origin):
            raise environs.ValidationError(
                f"{origin} is not an origin. Write it as https://www.shop.example, with a port if it has one."
            )
    return names(text)


def database(url):
    """Return Django's settings of the database at a mysql:// or sqlite:// URL."""
    try:
        if url.startswith(("mysql://", "sqlite://")):
            found = dj_database_url.parse(url)
            for name, value in found.get("OPTIONS", {}).items():
                if name.endswith("_timeout") and not isinstance(value, int):
                    raise environs.ValidationError(f"{name} is not a whole number of seconds.")
            return found | {"OPTIONS": use_tls(url, found.get("OPTIONS", {}))}
    except ValueError:
        pass
    raise environs.ValidationError("Write it as mysql://user:password@host:3306/name, or leave it unset.")


def listener(text):
    """Return the address and the port to listen on, as in 127.0.0.1:9100 or [::1]:9100; None if there is no text."""
    if not text:
        return None
    host, _, port = text.rpartition(":")
    try:
        if host != host.strip("[]") or ":" not in host:
            return str(ip_address(host.strip("[]"))), between(1, 65535)(int(port))
    except ValueError:
        pass
    raise environs.ValidationError("Write it as 127.0.0.1:9100, an IP address of this machine and a port.")


def use_tls(url, options):
    """Return the URL's options with its `ssl_ca` and `ssl_mode` as mysqlclient takes them.

    Everything else about TLS is refused, because mysqlclient does not enforce it: it ignores an `ssl` that is text,
    and with ssl_mode=REQUIRED, or a CA alone, it uses plain text if the server offers no TLS.
    """
    # From the URL itself: the parsed options lack the empty ones, such as a CA from a variable that is not set.
    query = dict(parse_qsl(urlsplit(url).query, keep_blank_values=True))
    given = {name: value for name, value in query.items() if name.lower().startswith("ssl")}
    if not given:
        return options
    if not given.keys() <= {"ssl_ca", "ssl_mode"}:
        raise environs.ValidationError(
            "For TLS write ?ssl_ca=/path/of/ca.pem, and nothing else that begins with ssl except ssl_mode: "
            "mysqlclient would ignore it and connect in plain text."
        )
    if "ssl_ca" in given and not os.path.isfile(given["ssl_ca"]):
        raise environs.ValidationError("ssl_ca is not the path of a file: name the CA's certificate in PEM format.")
    mode = given.get("ssl_mode", "VERIFY_IDENTITY")
    if mode not in ("VERIFY_CA", "VERIFY_IDENTITY"):
        raise environs.ValidationError(
            "ssl_mode must be VERIFY_IDENTITY or VERIFY_CA: with any other, mysqlclient connects in plain text "
            "if the server offers no TLS."
        )
    others = {name: value for name, value in options.items() if name not in given}
    return others | {"ssl_mode": mode} | ({"ssl": {"ca": given["ssl_ca"]}} if "ssl_ca" in given else {})


TIMEOUTS = {"socket_timeout": 1, "socket_connect_timeout": 1}  # a Redis that hangs must not hold the shop's workers


def cache(url):
    """Return Django's settings of the cache at a Redis URL; of local memory, at locmemcache://."""
    if url.startswith(("redis://", "rediss://", "unix://")):
        return {"BACKEND": "meiduo.cache.RedisCache", "LOCATION": url, "OPTIONS": TIMEOUTS}
    if url.startswith(("redis+sentinel://", "rediss+sentinel://")):
        return sentinel_cache(url)
    if url.startswith(("redis+cluster://", "rediss+cluster://")):
        return cluster_cache(url)
    if url.startswith("locmem"):
        return {
            "BACKEND": "django.core.cache.backends.locmem.LocMemCache",
            # With the default of 300, used states and codes are evicted while they still matter.
            "OPTIONS": {"MAX_ENTRIES": 100_000},
        }
    raise environs.ValidationError(
        "Begin it with redis://, rediss://, unix://, redis+sentinel:// or redis+cluster://, or leave it unset."
    )


def sentinel_cache(url):
    servers, options, path, query = split_servers(url)
    service, _, db = path.partition("/")
    sentinel_password = query.pop("sentinel_password", None)
    if not servers or not service or not (db or "0").isdecimal() or query:
        raise environs.ValidationError(
            "Write it as redis+sentinel://user:password@host:26379,host:26379/service/0: the Sentinels, the name that "
            "they have for the master, and the database. Sentinels with a password of their own need "
            "?sentinel_password=. Characters such as @ / ? in a password are written as %40 %2F %3F."
        )
    options |= {"service": service, "db": int(db or 0)}
    if sentinel_password:
        options["sentinel_password"] = sentinel_password
    return {"BACKEND": "meiduo.sentinel_cache.SentinelCache", "LOCATION": servers, "OPTIONS": options}


def cluster_cache(url):
    servers, options, path, query = split_servers(url)
    if not servers or path not in ("", "0") or query:
        raise environs.ValidationError(
            "Write it as redis+cluster://user:password@host:6379,host:6379. A cluster has no databases but 0. "
            "Characters such as @ / ? in a password are written as %40 %2F %3F."
        )
    return {"BACKEND": "meiduo.cluster_cache.ClusterCache", "LOCATION": servers, "OPTIONS": options}


def split_servers(url):
    """Return [(host, port), …], the options of connections, the path and the query. Malformed: the list is empty."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return [], {}, "", {}
    credentials, _, hosts = parts.netloc.rpartition("@")
    found = [SERVER.fullmatch(host.strip()) for host in hosts.split(",")]
    servers = [(server["host"].strip("[]"), int(server["port"])) for server in found if server]
    user, _, password = map(unquote, credentials.partition(":"))
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    options = {"username": user, "password": password, "ssl": parts.scheme.startswith("rediss")}
    if options["ssl"]:
        options["ssl_ca_certs"] = query.pop("ssl_ca_certs", None)  # a file with the CA, if it is not a public one
    options = TIMEOUTS | {name: value for name, value in options.items() if value}
    is_valid = len(servers) == len(found) and not parts.fragment
    return servers if is_valid else [], options, parts.path.strip("/"), query

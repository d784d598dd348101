"""Reads the shop's environment: environs' types, some of our own, and one error that names every wrong variable."""

import os
import re

import dj_database_url
import environs
from django.core.exceptions import ImproperlyConfigured

ORIGIN = re.compile(r"https?://([a-z0-9.-]+|\[[0-9a-f:]+\])(:[0-9]{1,5})?")


class Env(environs.Env):
    """Read variables by their type: `env.bool("DEBUG", False)`. An empty variable counts as unset.

    A value that cannot be read becomes None until `seal()` raises ImproperlyConfigured, which names all such
    variables but shows no value.
    """

    def __init__(self):
        super().__init__(eager=False)
        for parse in (names, origins, database):
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


def names(text):
    """Return the names in a list separated by commas."""
    return [name.strip() for name in text.split(",") if name.strip()]


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
            return dj_database_url.parse(url)
    except ValueError:
        pass
    raise environs.ValidationError("Write it as mysql://user:password@host:3306/name, or leave it unset.")

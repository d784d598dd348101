"""The shop's settings with stops for tests, and a password hash that costs nothing."""

from meiduo.settings import *  # noqa: F403

QQ_ACCOUNT_SERIALIZER = "tests.e2e.stops.AccountSerializer"
QQ_LOGIN_PAYLOAD = "tests.e2e.stops.login_payload"
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]  # slow ones would spread out calls at one moment

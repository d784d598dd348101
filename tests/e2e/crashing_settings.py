"""The shop with seams that stop where a test says, and a password hash that costs nothing."""

from meiduo.settings import *  # noqa: F403

QQ_ACCOUNT_SERIALIZER = "tests.e2e.crashing_seams.AccountSerializer"
QQ_LOGIN_PAYLOAD = "tests.e2e.crashing_seams.login_payload"
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]  # the slow ones keep many calls apart

"""The shop's settings with a password hash that costs nothing, and SMS codes in one small file for each number."""

from meiduo.settings import *  # noqa: F403
from meiduo.settings import VAR_DIR

PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]  # all servers share two cores
SMS_BACKEND = "tests.cluster.settings.send_sms"
SMS_HOURLY_CEILING = 10**6


def send_sms(mobile, code, minutes):
    (VAR_DIR / f"sms-{mobile}").write_text(code)

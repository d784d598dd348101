"""The shop's settings for races at its doors: forms without SMS codes, of which one number gets one a minute."""

from tests.e2e.stops_settings import *  # noqa: F403

QQ_ACCOUNT_SERIALIZER = "tests.e2e.test_doors_races.PasswordForm"
QQ_CONFIRM_SERIALIZER = "tests.e2e.test_doors_races.PinOrPassword"

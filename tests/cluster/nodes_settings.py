"""The shop's settings with stops for tests, and without a confirmation before a signed-in user adds or removes a QQ."""

from tests.e2e.stops_settings import *  # noqa: F403

QQ_CONFIRM_SERIALIZER = "rest_framework.serializers.Serializer"

from django.conf import settings
from django.core.checks import Error, register
from django.utils.module_loading import import_string


@register
def check_sms_backend(app_configs, **kwargs):
    """users.E001: SMS_BACKEND cannot be used. Found at start-up, not when the first shopper waits for a code."""
    try:
        usable = callable(import_string(settings.SMS_BACKEND))
    except ImportError:
        usable = False
    if usable:
        return []
    return [
        Error(
            f"SMS_BACKEND names {settings.SMS_BACKEND!r}, which is not a function that can be imported.",
            hint="Give the dotted path of a function as apps/users/sms.py describes it.",
            id="users.E001",
        )
    ]

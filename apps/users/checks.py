from django.conf import settings
from django.core.checks import Error, Tags, Warning, register
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


@register(Tags.security, deploy=True)
def check_sms_is_sent(app_configs, **kwargs):
    """users.W001: the shop is in use, and its SMS codes go to a file."""
    if settings.SMS_BACKEND != "apps.users.development.send_sms":
        return []
    return [
        Warning(
            "SMS_BACKEND is the development one, which sends nothing and writes the codes to a file.",
            hint="Name the function that hands messages to your provider; apps/users/sms.py says what it gets.",
            id="users.W001",
        )
    ]

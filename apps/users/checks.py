from django.conf import settings
from django.core.checks import Error, Tags, Warning, register
from django.utils.module_loading import import_string


@register
def check_sms_backend(app_configs, **kwargs):
    """users.E001: SMS_BACKEND is unusable. Reported at start-up, before a user waits for a code."""
    try:
        usable = callable(import_string(settings.SMS_BACKEND))
    except ImportError:
        usable = False
    if usable:
        return []
    return [
        Error(
            f"SMS_BACKEND is {settings.SMS_BACKEND!r}, which is not an importable function.",
            hint="Set it to the dotted path of a function like the one that apps/users/sms.py describes.",
            id="users.E001",
        )
    ]


@register(Tags.security, deploy=True)
def check_sms_is_sent(app_configs, **kwargs):
    """users.W001: a shop in production writes its SMS codes to a file."""
    if settings.SMS_BACKEND != "apps.users.development.send_sms":
        return []
    return [
        Warning(
            "SMS_BACKEND is the development back end: it sends nothing and writes the codes to a file.",
            hint="Set it to a function that sends through your SMS provider. apps/users/sms.py describes it.",
            id="users.W001",
        )
    ]

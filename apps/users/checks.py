from django.conf import settings
from django.core.checks import Error, Tags, Warning, register
from django.utils.module_loading import import_string

# The back ends over vendors' SDKs: the file that installs the SDK, and the settings that are needed.
VENDORS = {
    "apps.users.sms_backends.tencent.send": (
        "apps/users/sms_backends/requirements-tencent.txt",
        (
            "SMS_TENCENT_SECRET_ID",
            "SMS_TENCENT_SECRET_KEY",
            "SMS_TENCENT_APP_ID",
            "SMS_TENCENT_SIGN",
            "SMS_TENCENT_TEMPLATE",
            "SMS_TENCENT_REGION",
        ),
    ),
    "apps.users.sms_backends.aliyun.send": (
        "apps/users/sms_backends/requirements-aliyun.txt",
        ("SMS_ALIYUN_KEY_ID", "SMS_ALIYUN_KEY_SECRET", "SMS_ALIYUN_SIGN", "SMS_ALIYUN_TEMPLATE"),
    ),
}


@register
def check_sms_backend(app_configs, **kwargs):
    """users.E001, E002: SMS_BACKEND is unusable. Reported at start-up, before a user waits for a code."""
    try:
        usable = callable(import_string(settings.SMS_BACKEND))
    except ImportError as exc:
        if settings.SMS_BACKEND in VENDORS:
            requirements, _ = VENDORS[settings.SMS_BACKEND]
            return [
                Error(
                    f"SMS_BACKEND is {settings.SMS_BACKEND!r}, whose SDK cannot be imported: {exc}",
                    hint=f"Install it: python -m pip install -r {requirements}",
                    id="users.E002",
                )
            ]
        usable = False
    if usable:
        return []
    return [
        Error(
            f"SMS_BACKEND is {settings.SMS_BACKEND!r}, which is not an importable function.",
            hint=f"Set it to {' or '.join(VENDORS)}, or to the dotted path of a function like the one that "
            "apps/users/sms.py describes.",
            id="users.E001",
        )
    ]


@register
def check_sms_vendor(app_configs, **kwargs):
    """users.E003: settings of the chosen vendor are missing."""
    _, names = VENDORS.get(settings.SMS_BACKEND, ("", ()))
    missing = [name for name in names if not getattr(settings, name)]
    if not missing:
        return []
    return [
        Error(
            f"SMS_BACKEND is {settings.SMS_BACKEND!r}, and these are not set: {', '.join(missing)}",
            hint="Take them from the vendor's console. docs/operations.md says where.",
            id="users.E003",
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
            hint="Set it to one of apps/users/sms_backends, or to a function that sends through your own provider.",
            id="users.W001",
        )
    ]

class Event:
    """The names of the audit log's events for the shop's own accounts. Those of the QQ login: apps.oauth.audit."""

    PASSWORD_LOGIN = "password_login"  # noqa: S105  the name of an event, as are the next two
    PASSWORD_RESET = "password_reset"  # noqa: S105
    PASSWORD_CHANGE = "password_change"  # noqa: S105
    REGISTRATION = "registration"
    SMS = "sms"  # a code was sent, or refused
    SMS_CEILING = "sms_ceiling"  # the whole shop has sent as many SMS as an hour allows

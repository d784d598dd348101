from django.apps import AppConfig, apps
from django.contrib.auth.signals import user_logged_in
from django.utils.translation import gettext_lazy as _


class UsersConfig(AppConfig):
    name = "apps.users"
    label = "users"
    verbose_name = _("用户")

    def ready(self):
        from . import checks, galera  # noqa: F401  (registers them)

        if apps.is_installed("drf_spectacular"):
            from . import openapi  # noqa: F401  describes the endpoints

        # A login writes nothing to the database: the audit log records the time of every login.
        user_logged_in.disconnect(dispatch_uid="update_last_login")

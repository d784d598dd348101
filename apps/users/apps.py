from django.apps import AppConfig
from django.contrib.auth.signals import user_logged_in
from django.utils.translation import gettext_lazy as _


class UsersConfig(AppConfig):
    name = "apps.users"
    label = "users"
    verbose_name = _("用户")

    def ready(self):
        from . import checks, galera  # noqa: F401  (registers them)

        # A login writes nothing to the database: the audit log records the time of every login.
        user_logged_in.disconnect(dispatch_uid="update_last_login")

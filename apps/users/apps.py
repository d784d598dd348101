from django.apps import AppConfig
from django.contrib.auth.signals import user_logged_in
from django.utils.translation import gettext_lazy as _


class UsersConfig(AppConfig):
    name = "apps.users"
    label = "users"
    verbose_name = _("用户")

    def ready(self):
        from . import checks  # noqa: F401  registers itself

        # A login is one query and writes nothing: who has logged in when stands in the audit log.
        user_logged_in.disconnect(dispatch_uid="update_last_login")

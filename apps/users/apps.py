from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class UsersConfig(AppConfig):
    name = "apps.users"
    label = "users"
    verbose_name = _("用户")

    def ready(self):
        from . import checks  # noqa: F401  registers itself

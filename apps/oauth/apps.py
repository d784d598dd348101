from django.apps import AppConfig


class OAuthConfig(AppConfig):
    name = __package__  # the folder works under whatever package it was put
    label = "oauth"
    verbose_name = "QQ 登录"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from . import checks, owner  # noqa: F401  (registers them)

from django.apps import AppConfig


class UsersConfig(AppConfig):
    name = "family_shop.users"
    label = "users"

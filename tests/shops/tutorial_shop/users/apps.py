from django.apps import AppConfig


class UsersConfig(AppConfig):
    name = "tutorial_shop.users"
    label = "users"

from django.apps import AppConfig


class PeopleConfig(AppConfig):
    name = "other_shop.people"
    label = "people"

from django.apps import AppConfig


class UsersConfig(AppConfig):
    name = "family_shop.users"
    label = "users"

    def ready(self):
        from oauth.signals import qq_logged_in

        qq_logged_in.connect(merge_cart)


def merge_cart(request, user, response, **kwargs):
    from ..carts import merge_cart_cookie_to_redis

    merge_cart_cookie_to_redis(request=request, user=user, response=response)

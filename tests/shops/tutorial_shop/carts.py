import base64
import json

from django.apps import AppConfig
from django_redis import get_redis_connection


def merge_cart_cookie_to_redis(request, user, response):
    """Move the cart of the visitor into the cart of the user."""
    cookie = request.COOKIES.get("cart")
    if cookie is None:
        return response
    cart = json.loads(base64.b64decode(cookie))
    get_redis_connection("cart").hset(f"cart_{user.id}", mapping=cart)
    response.delete_cookie("cart")
    return response


class CartsConfig(AppConfig):
    name = "tutorial_shop.carts"

    def ready(self):
        from oauth.signals import qq_logged_in

        qq_logged_in.connect(merge_cart)


def merge_cart(request, user, response, **kwargs):
    merge_cart_cookie_to_redis(request=request, user=user, response=response)

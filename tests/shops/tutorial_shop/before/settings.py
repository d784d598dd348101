from ..settings import *  # noqa: F403
from ..settings import INSTALLED_APPS

INSTALLED_APPS = [name for name in INSTALLED_APPS if name not in ("tutorial_shop.carts.CartsConfig", "oauth")]
INSTALLED_APPS.append("tutorial_shop.before.oauth")
ROOT_URLCONF = "tutorial_shop.before.urls"

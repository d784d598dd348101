import os
from datetime import timedelta

REDIS = os.environ["TUTORIAL_SHOP_REDIS"]

SECRET_KEY = "a key of the tutorial shop, for its tests only"
ROOT_URLCONF = "tutorial_shop.urls"
INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "rest_framework",
    "corsheaders",
    "tutorial_shop.users",
    "tutorial_shop.carts.CartsConfig",
    "oauth",
]
MIDDLEWARE = [
    "corsheaders.middleware.CorsMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]
ALLOWED_HOSTS = ["127.0.0.1"]
AUTH_USER_MODEL = "users.User"
DEFAULT_AUTO_FIELD = "django.db.models.AutoField"
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": os.environ["TUTORIAL_SHOP_DATABASE"]}}
CACHES = {
    name: {"BACKEND": "django_redis.cache.RedisCache", "LOCATION": f"{REDIS}/{number}"}
    for number, name in enumerate(["default", "session", "verify_codes", "history", "cart"])
}
SESSION_ENGINE = "django.contrib.sessions.backends.cache"
SESSION_CACHE_ALIAS = "session"
LANGUAGE_CODE = "zh-hans"
TIME_ZONE = "Asia/Shanghai"
USE_TZ = True

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "rest_framework_jwt.authentication.JSONWebTokenAuthentication",
        "rest_framework.authentication.SessionAuthentication",
        "rest_framework.authentication.BasicAuthentication",
    ],
}
JWT_AUTH = {
    "JWT_AUTH_HEADER_PREFIX": "JWT",
    "JWT_EXPIRATION_DELTA": timedelta(days=1),
    "JWT_RESPONSE_PAYLOAD_HANDLER": "tutorial_shop.users.utils.jwt_response_payload_handler",
}

CORS_ALLOWED_ORIGINS = [os.environ["TUTORIAL_SHOP_PAGES"]]
CORS_ALLOW_CREDENTIALS = True

QQ_CLIENT_ID = os.environ["QQ_CLIENT_ID"]
QQ_CLIENT_SECRET = os.environ["QQ_CLIENT_SECRET"]
QQ_API_URL = os.environ["QQ_API_URL"]
QQ_REDIRECT_URI = os.environ["QQ_REDIRECT_URI"]
QQ_CALLBACK_PAGE = os.environ["QQ_CALLBACK_PAGE"]
QQ_ACCOUNT_SERIALIZER = "oauth.contrib.meiduo.AccountSerializer"
QQ_LOGIN_PAYLOAD = "oauth.contrib.meiduo.jwt_payload"

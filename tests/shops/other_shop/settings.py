import os
from pathlib import Path

VAR = Path(os.environ["OTHER_SHOP_VAR"])
OAUTH_APP = os.environ.get("OTHER_SHOP_OAUTH_APP", "oauth")  # the package that contains the app

SECRET_KEY = "a key of the other shop, for its tests only"
ROOT_URLCONF = "other_shop.urls"
INSTALLED_APPS = [
    "django.contrib.contenttypes",
    "django.contrib.auth",
    "django.contrib.sessions",
    "rest_framework",
    "rest_framework.authtoken",
    OAUTH_APP,
    "other_shop.people",
]
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [Path(__file__).parent / "pages"],
        "OPTIONS": {"context_processors": ["django.contrib.auth.context_processors.auth"]},
    }
]
ALLOWED_HOSTS = ["127.0.0.1"]
AUTH_USER_MODEL = "people.Person"
DEFAULT_AUTO_FIELD = "django.db.models.AutoField"
SQLITE = {"ENGINE": "django.db.backends.sqlite3"}
DATABASES = {
    "default": SQLITE | {"NAME": VAR / "goods.sqlite3"},  # not used by the login
    "people": SQLITE | {"NAME": VAR / "people.sqlite3", "ATOMIC_REQUESTS": True},
}
DATABASE_ROUTERS = ["other_shop.routers.ToPeople"]
CACHES = {
    "default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache", "OPTIONS": {"MAX_ENTRIES": 100_000}},
}
EMAIL_BACKEND = "django.core.mail.backends.filebased.EmailBackend"
EMAIL_FILE_PATH = VAR / "mails"
LANGUAGE_CODE = "en-us"
USE_TZ = True

# Defaults for this shop's own views, which must not affect the login.
REST_FRAMEWORK = {
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "rest_framework.authentication.SessionAuthentication",
        "rest_framework.authentication.TokenAuthentication",
    ],
    "DEFAULT_PARSER_CLASSES": ["rest_framework.parsers.FormParser"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.StaticHTMLRenderer"],
    "DEFAULT_THROTTLE_CLASSES": ["rest_framework.throttling.AnonRateThrottle"],
    "DEFAULT_THROTTLE_RATES": {"anon": "1/day"},
    "DEFAULT_VERSIONING_CLASS": "rest_framework.versioning.AcceptHeaderVersioning",
    "DEFAULT_VERSION": "none",
    "ALLOWED_VERSIONS": ["7"],
}

QQ_CLIENT_ID = "101000001"
QQ_CLIENT_SECRET = os.environ["QQ_CLIENT_SECRET"]
QQ_API_URL = os.environ["QQ_API_URL"]
QQ_REDIRECT_URI = os.environ["QQ_REDIRECT_URI"]
QQ_CALLBACK_PAGE = os.environ["QQ_CALLBACK_PAGE"]
QQ_ACCOUNT_SERIALIZER = "other_shop.people.serializers.PersonSerializer"
QQ_LOGIN_PAYLOAD = "other_shop.people.views.session_payload"

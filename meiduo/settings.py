"""The shop's settings.

Without any variable set, the shop runs for a developer: SQLite, local memory, and keys that it makes and keeps in
`var/`. In production (DEBUG off, a client id, and QQ itself to call) it refuses to start on any of these.
"""

import re
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit

from django.core.exceptions import ImproperlyConfigured

from meiduo.environment import Env, between, one_of
from meiduo.keys import NEW_KEY, get_kept_key, is_sample, refuse_weak_keys

BASE_DIR = Path(__file__).resolve().parent.parent

# The environment ------------------------------------------------------------------------------------------------------
# server.py reads those for gunicorn, and METRICS. logs.py reads LOG_FORMAT too. All others are read here.

env = Env()
DEBUG = env.bool("DEBUG", False)
VAR_DIR = env.path("VAR_DIR", BASE_DIR / "var")
ALLOWED_HOSTS = env.names("ALLOWED_HOSTS", "127.0.0.1,localhost,[::1]")
CORS_ALLOWED_ORIGINS = env.origins("CORS_ALLOWED_ORIGINS", "")
NUM_PROXIES = env.int("NUM_PROXIES", 0, validate=between(0))
THREADS = env.int("THREADS", None, validate=between(1))
LOG_FORMAT = env.str("LOG_FORMAT", "text", validate=one_of("text", "json"))
DATABASE = env.database("DATABASE_URL", "sqlite://")
CACHE = env.cache("CACHE_URL", "locmemcache://")
ADMIN_PATH = env.str("ADMIN_PATH", "").strip("/")  # where the admin is mounted, as in "back-office"; unset: nowhere
API_SCHEMA = env.bool("API_SCHEMA", True)  # serve the OpenAPI document and its page
TRACES_EXPORTER = env.str("OTEL_TRACES_EXPORTER", "none")  # as in otlp_proto_http; OpenTelemetry reads OTEL_… itself

SECRET_KEY = env.str("SECRET_KEY", "")
SECRET_KEY_FALLBACKS = env.names("SECRET_KEY_FALLBACKS", "")
JWT_SIGNING_KEY = env.str("JWT_SIGNING_KEY", "")
JWT_SIGNING_KEY_FALLBACKS = env.names("JWT_SIGNING_KEY_FALLBACKS", "")
JWT_OLD_TOKENS = env.bool("JWT_OLD_TOKENS", False)  # accept tokens of djangorestframework-jwt until they expire

SMS_BACKEND = env.str("SMS_BACKEND", "apps.users.development.send_sms")
SMS_HOURLY_CEILING = env.int("SMS_HOURLY_CEILING", 1000, validate=between(0))  # of the whole shop: it bounds the bill
SMS_TENCENT_SECRET_ID = env.str("SMS_TENCENT_SECRET_ID", "")
SMS_TENCENT_SECRET_KEY = env.str("SMS_TENCENT_SECRET_KEY", "")
SMS_TENCENT_APP_ID = env.str("SMS_TENCENT_APP_ID", "")
SMS_TENCENT_SIGN = env.str("SMS_TENCENT_SIGN", "")
SMS_TENCENT_TEMPLATE = env.str("SMS_TENCENT_TEMPLATE", "")
SMS_TENCENT_REGION = env.str("SMS_TENCENT_REGION", "ap-guangzhou")
SMS_ALIYUN_KEY_ID = env.str("SMS_ALIYUN_KEY_ID", "")
SMS_ALIYUN_KEY_SECRET = env.str("SMS_ALIYUN_KEY_SECRET", "")
SMS_ALIYUN_SIGN = env.str("SMS_ALIYUN_SIGN", "")
SMS_ALIYUN_TEMPLATE = env.str("SMS_ALIYUN_TEMPLATE", "")
SMS_API_URL = env.str("SMS_API_URL", "")  # for tests: a server that plays the vendor; refused in production
CAPTCHA_LOG = env.str("CAPTCHA_LOG", "")
RESET_UNBINDS_QQ = env.bool("RESET_UNBINDS_QQ", True)  # a password reset by SMS removes QQs: one may be a stranger's

QQ_REDIRECT_URI = env.str("QQ_REDIRECT_URI", "http://127.0.0.1:8000/oauth/qq/callback/")
QQ_CALLBACK_PAGE = env.str("QQ_CALLBACK_PAGE", "http://127.0.0.1:8000/oauth_callback.html")
BIND_WITHOUT_PASSWORD = env.bool("QQ_BIND_WITHOUT_PASSWORD", False)  # by mobile and SMS code alone
OPTIONAL = {  # apps.oauth has the defaults
    "QQ_CLIENT_ID": env.str("QQ_CLIENT_ID", None),
    "QQ_CLIENT_SECRET": env.str("QQ_CLIENT_SECRET", None),
    "QQ_API_URL": env.str("QQ_API_URL", None),
    "QQ_TIMEOUT": env.float("QQ_TIMEOUT", None, validate=between(0)),
    # The other threads serve the pages while QQ is slow.
    "QQ_MAX_CONCURRENCY": env.int("QQ_MAX_CONCURRENCY", THREADS and max(1, THREADS * 3 // 4), validate=between(0)),
    "QQ_REQUIRE_COOKIE": env.bool("QQ_REQUIRE_COOKIE", None),
    "QQ_UNIONID": env.bool("QQ_UNIONID", None),
    "QQ_PROFILE": env.bool("QQ_PROFILE", None),
    "QQ_APP_IDS": env.app_ids("QQ_APP_IDS", ""),
    "QQ_MINI_APP_ID": env.str("QQ_MINI_APP_ID", None),
    "QQ_MINI_APP_SECRET": env.str("QQ_MINI_APP_SECRET", None),
    "QQ_MINI_API_URL": env.str("QQ_MINI_API_URL", None),
}
env.seal()
globals().update({name: value for name, value in OPTIONAL.items() if value is not None})
QQ_ACCOUNT_SERIALIZER = (
    "apps.users.sms_serializers.MobileAccountSerializer"
    if BIND_WITHOUT_PASSWORD
    else "apps.users.serializers.AccountSerializer"
)
QQ_CONFIRM_SERIALIZER = "apps.users.sms_serializers.ConfirmSerializer"
QQ_LOGIN_PAYLOAD = "apps.users.tokens.login_payload"

# Production -----------------------------------------------------------------------------------------------------------

# By the host, more strictly than apps.oauth does: no spelling of QQ's URL escapes the rules below. Not imported from
# there: gunicorn's master reads this file too, and its workers would inherit old code when it reloads.
calls_qq = urlsplit(OPTIONAL["QQ_API_URL"] or "https://graph.qq.com").hostname == "graph.qq.com"
PRODUCTION = not DEBUG and "QQ_CLIENT_ID" in env and calls_qq
HTTPS = PRODUCTION and urlsplit(QQ_REDIRECT_URI).scheme == "https"

if PRODUCTION:
    needed = {
        "SECRET_KEY": NEW_KEY,
        "JWT_SIGNING_KEY": NEW_KEY,
        "ALLOWED_HOSTS": "List the API's host names: ALLOWED_HOSTS=api.shop.example",
        "DATABASE_URL": "Name the database: DATABASE_URL=mysql://user:password@host:3306/name",
        "CACHE_URL": "Name a Redis that all processes share: CACHE_URL=redis://127.0.0.1:6379/0",
        "NUM_PROXIES": "Count the proxies in front of the shop: 1 for nginx, which must send X-Forwarded-For and "
        "X-Forwarded-Proto, as deploy/nginx.conf does; 0 if the server itself speaks TLS.",
        "QQ_CLIENT_SECRET": "Take the APP Key from QQ Connect's console.",
        "QQ_REDIRECT_URI": "Set the URL registered with QQ, as in https://api.shop.example/oauth/qq/callback/",
        "QQ_CALLBACK_PAGE": "Set the URL of the page, as in https://www.shop.example/oauth_callback.html",
        "SMS_BACKEND": "Name one of apps/users/sms_backends, or your own function as apps/users/sms.py describes it.",
    }
    missing = [f"{name} is not set. {hint}" for name, hint in needed.items() if name not in env]
    if missing:
        raise ImproperlyConfigured("\n".join(["The defaults of these are for development only:", *missing]))
    if CAPTCHA_LOG:
        raise ImproperlyConfigured("CAPTCHA_LOG writes the answers of image codes to a file. Unset it in production.")
    if SMS_API_URL:
        raise ImproperlyConfigured("SMS_API_URL sends the SMS codes to a server for tests. Unset it in production.")

# Keys -----------------------------------------------------------------------------------------------------------------


def var(name):
    """Return the path of a file in VAR_DIR, a folder that only its owner can read."""
    VAR_DIR.mkdir(mode=0o700, parents=True, exist_ok=True)
    return VAR_DIR / name


if PRODUCTION:
    refuse_weak_keys("SECRET_KEY", SECRET_KEY)
    refuse_weak_keys("SECRET_KEY_FALLBACKS", *SECRET_KEY_FALLBACKS)
    refuse_weak_keys("JWT_SIGNING_KEY", JWT_SIGNING_KEY)
    refuse_weak_keys("JWT_SIGNING_KEY_FALLBACKS", *JWT_SIGNING_KEY_FALLBACKS)
    if {JWT_SIGNING_KEY, *JWT_SIGNING_KEY_FALLBACKS} & {SECRET_KEY, *SECRET_KEY_FALLBACKS}:
        raise ImproperlyConfigured(f"JWT_SIGNING_KEY must not be SECRET_KEY: one leak would reveal both. {NEW_KEY}")
    for name, keys in {
        "QQ_CLIENT_SECRET": [OPTIONAL["QQ_CLIENT_SECRET"]],
        "QQ_APP_IDS": OPTIONAL["QQ_APP_IDS"].values(),
        "QQ_MINI_APP_SECRET": [OPTIONAL["QQ_MINI_APP_SECRET"]],
    }.items():
        if any(key and is_sample(key) for key in keys):
            raise ImproperlyConfigured(f"{name} looks like a sample. Take the key from QQ's console.")
else:
    SECRET_KEY = SECRET_KEY or get_kept_key(var("secret_key"))
    JWT_SIGNING_KEY = JWT_SIGNING_KEY or get_kept_key(var("jwt_signing_key"))

# Traces ---------------------------------------------------------------------------------------------------------------

if TRACES_EXPORTER != "none" and not entry_points(group="opentelemetry_traces_exporter", name=TRACES_EXPORTER):
    raise ImproperlyConfigured(
        "OTEL_TRACES_EXPORTER must be none, or an exporter that is installed, such as otlp_proto_http. "
        "Install it: pip install -r meiduo/requirements-tracing.txt"
    )

# Database and cache ---------------------------------------------------------------------------------------------------

if "DATABASE_URL" not in env:
    DATABASE["NAME"] = var("db.sqlite3")
OPTIONS_OF_CALLS = {}  # wsgi.py adds them
if DATABASE["ENGINE"].endswith("mysql"):
    options = {
        "charset": "utf8mb4",
        "connect_timeout": 1,
        # Without it MySQL cuts a value that is too long instead of refusing it.
        "init_command": "SET sql_mode = CONCAT(@@sql_mode, ',STRICT_TRANS_TABLES')",
    } | DATABASE.get("OPTIONS", {})
    # Seconds, for calls only: a migration may take hours. If the database does not answer, checking a kept connection
    # and opening a new one (connect_timeout) take 5 s at most. A wait for a lock ends before read_timeout.
    timeouts = {name: options.pop(name, 3) for name in ("read_timeout", "write_timeout")}
    lock_wait = options.pop("lock_wait_timeout", 2)
    locks = f"innodb_lock_wait_timeout = {lock_wait}, lock_wait_timeout = {lock_wait}"
    OPTIONS_OF_CALLS = timeouts | {"init_command": f"{options['init_command']}, {locks}"}
    # ?conn_max_age=0 is for a shop with more threads than MySQL allows connections.
    DATABASE |= {"CONN_MAX_AGE": options.pop("conn_max_age", 600), "CONN_HEALTH_CHECKS": True}
    DATABASE["TEST"] = {"CHARSET": "utf8mb4"}
else:
    options = {
        # Otherwise a transaction that reads and then writes fails at once, instead of waiting, if another one writes.
        "transaction_mode": "IMMEDIATE",
        "timeout": 20,
        "init_command": "PRAGMA journal_mode = WAL",
    } | DATABASE.get("OPTIONS", {})
DATABASES = {"default": DATABASE | {"OPTIONS": options}}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

if PRODUCTION and "LOCATION" not in CACHE:
    raise ImproperlyConfigured(
        "With CACHE_URL=locmemcache:// each process would remember used codes for itself. "
        "Set a Redis that all of them share: CACHE_URL=redis://127.0.0.1:6379/0"
    )
CACHES = {"default": CACHE}

# Django ---------------------------------------------------------------------------------------------------------------

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "corsheaders",
    "rest_framework",
    "apps.oauth",
    "apps.users",
]

MIDDLEWARE = [
    "meiduo.middleware.add_safe_headers",
    "django.middleware.security.SecurityMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",  # before WhiteNoise, so that the pages have it too
    "meiduo.pages.PagesMiddleware",
    "meiduo.middleware.use_request_language",
    "meiduo.middleware.refuse_unsupported_bodies",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
]

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]

ROOT_URLCONF = "meiduo.urls"
WSGI_APPLICATION = "meiduo.wsgi.application"
# Bodies of the API are below 1 KiB, the admin's forms below 10.
DATA_UPLOAD_MAX_MEMORY_SIZE = 16 * 1024

LANGUAGE_CODE = "zh-hans"
LANGUAGES = [("zh-hans", "简体中文"), ("en", "English")]
TIME_ZONE = "Asia/Shanghai"
USE_TZ = True

SILENCED_SYSTEM_CHECKS = []
if ADMIN_PATH:
    ADMIN_PATH += "/"
    MIDDLEWARE += [
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.contrib.auth.middleware.AuthenticationMiddleware",
        "django.contrib.messages.middleware.MessageMiddleware",
    ]
else:
    SILENCED_SYSTEM_CHECKS += ["admin.E408", "admin.E409", "admin.E410"]  # they require this middleware

# The pages and static files -------------------------------------------------------------------------------------------

STATIC_URL = "static/"
WHITENOISE_ROOT = BASE_DIR / "web"
WHITENOISE_INDEX_FILE = True
WHITENOISE_MAX_AGE = 0  # the pages keep their names, so a browser must always ask whether they have changed
WHITENOISE_ALLOW_ALL_ORIGINS = False
WHITENOISE_USE_FINDERS = bool(ADMIN_PATH) or API_SCHEMA  # serves static files without collectstatic
STATICFILES_DIRS = []
STATICFILES_FINDERS = ["django.contrib.staticfiles.finders.FileSystemFinder"]
if ADMIN_PATH:  # without the admin, nobody needs the files of the apps
    STATICFILES_FINDERS += ["django.contrib.staticfiles.finders.AppDirectoriesFinder"]

# Accounts and the API -------------------------------------------------------------------------------------------------

SMS_LOG = str(VAR_DIR / "sms.log")

AUTH_USER_MODEL = "users.User"
AUTHENTICATION_BACKENDS = ["apps.users.backends.MobileBackend"]
PASSWORD_HASHERS = [
    "apps.users.hashers.Argon2Hasher",
    # Reads older hashes. Once none is left, remove it: until then it also runs at each wrong password.
    "django.contrib.auth.hashers.PBKDF2PasswordHasher",
]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator"},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
    {"NAME": "apps.users.password_validation.NotBlankValidator"},
    {
        "NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator",
        # Django's 0.7 would refuse a date that shares most of its digits with the number.
        "OPTIONS": {"user_attributes": ["username", "mobile"], "max_similarity": 0.85},
    },
]

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": ["apps.users.tokens.LoginTokenAuthentication"],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
    "DEFAULT_PARSER_CLASSES": ["apps.oauth.parsers.StrictJSONParser"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_CONTENT_NEGOTIATION_CLASS": "apps.oauth.parsers.JSONOnlyNegotiation",
    "EXCEPTION_HANDLER": "apps.oauth.exception_handler.exception_handler",
    "NUM_PROXIES": NUM_PROXIES,
}
if API_SCHEMA:
    REST_FRAMEWORK["DEFAULT_SCHEMA_CLASS"] = "drf_spectacular.openapi.AutoSchema"
    sidecar = Path(find_spec("drf_spectacular_sidecar").origin).parent
    STATICFILES_DIRS += [("swagger-ui", sidecar / "static/drf_spectacular_sidecar/swagger-ui-dist")]
SPECTACULAR_SETTINGS = {
    "OAS_VERSION": "3.1.1",
    "TITLE": "meiduo shop",
    "VERSION": "1",  # of the API; the version of the software is not published
    "DESCRIPTION": "The shop's calls, and those of the QQ login under `/oauth/qq/`. A body is JSON of at most 16 KiB. "
    "A method that an address does not have is 405, a bug 500.",
}
SIMPLE_JWT = {"ALGORITHM": "HS256", "SIGNING_KEY": JWT_SIGNING_KEY, "AUTH_HEADER_TYPES": ("JWT",), "LEEWAY": 60}

if CORS_ALLOWED_ORIGINS:
    MIDDLEWARE.insert(
        MIDDLEWARE.index("meiduo.middleware.use_request_language"), "corsheaders.middleware.CorsMiddleware"
    )
CORS_ALLOW_CREDENTIALS = True
CORS_EXPOSE_HEADERS = ["Retry-After"]
if ADMIN_PATH:
    CORS_URLS_REGEX = f"^/(?!{re.escape(ADMIN_PATH)})"  # no page of another origin may call the admin

# Headers and https ----------------------------------------------------------------------------------------------------

SECURE_REFERRER_POLICY = "no-referrer"
X_FRAME_OPTIONS = "DENY"
if HTTPS:
    SECURE_SSL_REDIRECT = True
    SECURE_HSTS_SECONDS = 365 * 24 * 3600
    SESSION_COOKIE_SECURE = True
    CSRF_COOKIE_SECURE = True
    if NUM_PROXIES:
        # Only if a proxy of ours sets this header: without one, any client could.
        SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
    # HSTS for subdomains, or in the preload list, would also force https on the shop's other hosts.
    SILENCED_SYSTEM_CHECKS += ["security.W005", "security.W021"]

# Logging --------------------------------------------------------------------------------------------------------------

DEFAULT_EXCEPTION_REPORTER = "meiduo.logs.ErrorReport"
LOGGING_CONFIG = "meiduo.logs.configure"
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"()": "meiduo.logs.make_formatter"}},
    "filters": {
        "without_secrets": {"()": "meiduo.logs.WithoutSecrets"},
        "without_traceback": {"()": "meiduo.logs.WithoutTraceback"},
    },
    "handlers": {
        "stderr": {"class": "meiduo.log_stream.BoundedHandler", "formatter": "line", "filters": ["without_secrets"]},
        "audit": {
            "class": "meiduo.log_stream.BoundedHandler",
            "formatter": "line",
            "filters": ["without_secrets"],
            "stream": "ext://sys.stdout",
        },
    },
    "root": {"handlers": ["stderr"], "level": "INFO"},
    "loggers": {
        "django": {"handlers": [], "level": "INFO", "propagate": True},
        "django.security.DisallowedHost": {"filters": ["without_traceback"]},  # port scanners cause it
        "django.server": {"handlers": ["stderr"], "propagate": False},
        "meiduo.audit": {"handlers": ["audit"], "level": "INFO", "propagate": False},
    },
}

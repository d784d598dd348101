"""
The shop's settings. The environment is read here and, for gunicorn's WEB_CONCURRENCY and THREADS, in server.py;
README.md lists the variables.

With nothing set the shop runs for a developer: SQLite, local memory, keys of its own making, all kept in `var/`.
In production (`DEBUG` off, a client id, QQ itself at the other end) it refuses to start on any of these.
"""

import os
import re
import secrets
from pathlib import Path
from urllib.parse import urlsplit

import environ
from django.core.exceptions import ImproperlyConfigured

BASE_DIR = Path(__file__).resolve().parent.parent


def given(name, read=str, default=None):
    """
    Return what the environment says of `name`, put through `read`; `default` where it is unset or empty.

    Raises ImproperlyConfigured, naming the variable but not its value, where `read` raises ValueError.
    """
    text = os.environ.get(name, "").strip()
    if not text:
        return default
    try:
        return read(text)
    except ValueError as exc:
        raise ImproperlyConfigured(f"{name} cannot be read: {exc}.") from None


def boolean(text):
    # Strict: a mistyped "ture" must not quietly switch a check off.
    words = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}
    if text.lower() not in words:
        raise ValueError(f"write one of {', '.join(words)}")
    return words[text.lower()]


def number(kind, least=0):
    def read(text):
        try:
            value = kind(text)
        except ValueError:
            raise ValueError(f"write a number ({kind.__name__})") from None
        if not least <= value < 1_000_000:
            raise ValueError(f"write a number from {least} to 1000000")
        return value

    return read


def names(text):
    return [name.strip() for name in text.split(",") if name.strip()]


def origins(text):
    # corsheaders would take more: "null", which any page can call itself, and a slash or a capital that never matches.
    for origin in names(text):
        if not re.fullmatch(r"https?://([a-z0-9.-]+|\[[0-9a-f:]+\])(:[0-9]{1,5})?", origin):
            raise ValueError(f"{origin} is no origin. Write https://www.shop.example, with a port if it has one")
    return names(text)


# What the shop keeps on disk ------------------------------------------------------------------------------------------

VAR_DIR = given("VAR_DIR", Path, BASE_DIR / "var")


def var(name):
    """Return the path of a file the shop keeps, in a folder made for its owner alone."""
    VAR_DIR.mkdir(mode=0o700, parents=True, exist_ok=True)
    return VAR_DIR / name


def kept_key(name):
    """Return a key the shop makes for itself once and keeps; any number of processes get the same one."""
    path = var(name)
    if not path.exists():
        # Written aside and then linked: a process that starts at the same moment never reads a half-written key, and
        # the second link fails instead of replacing the first key.
        draft = var(f".{name}.{secrets.token_hex(8)}")
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(secrets.token_urlsafe(64))
        try:
            os.link(draft, path)
        except FileExistsError:
            pass
        finally:
            draft.unlink()
    key = path.read_text().strip()
    if len(key) < 50:
        raise ImproperlyConfigured(f"{path} holds no whole key. Delete the file: a new key is made at the next start.")
    return key


# The QQ login, and whether this is production -------------------------------------------------------------------------

DEBUG = given("DEBUG", boolean, False)

QQ_REDIRECT_URI = given("QQ_REDIRECT_URI", str, "http://127.0.0.1:8000/oauth/qq/callback/")
QQ_CALLBACK_PAGE = given("QQ_CALLBACK_PAGE", str, "http://127.0.0.1:8000/oauth_callback.html")
QQ_ACCOUNT_SERIALIZER = "apps.users.serializers.AccountSerializer"
QQ_LOGIN_PAYLOAD = "apps.users.tokens.login_payload"

# apps.oauth knows the defaults of these, so only what is set is passed on.
for _name, _read in {
    "QQ_CLIENT_ID": str,
    "QQ_CLIENT_SECRET": str,
    "QQ_API_URL": str,
    "QQ_TIMEOUT": number(float),
    "QQ_MAX_CONCURRENCY": number(int),
    "QQ_REQUIRE_COOKIE": boolean,
    "QQ_UNIONID": boolean,
}.items():
    if (_value := given(_name, _read)) is not None:
        globals()[_name] = _value

# The other threads serve the pages while QQ is slow.
if (_threads := given("THREADS", number(int, 1))) and given("QQ_MAX_CONCURRENCY") is None:
    QQ_MAX_CONCURRENCY = max(1, _threads * 3 // 4)

PRODUCTION = (
    not DEBUG
    and given("QQ_CLIENT_ID") is not None
    and urlsplit(given("QQ_API_URL", str, "https://graph.qq.com")).hostname == "graph.qq.com"
)
HTTPS = PRODUCTION and urlsplit(QQ_REDIRECT_URI).scheme == "https"

# Keys -----------------------------------------------------------------------------------------------------------------

SAMPLE_KEY = re.compile(
    r"django-insecure|change.?me|your.?(secret|key)|example|sample|placeholder|password|0123456789|00112233445566", re.I
)
NEW_KEY = 'Make one: python3 -c "import secrets; print(secrets.token_urlsafe(64))"'


def is_sample(key):
    return bool(SAMPLE_KEY.search(key)) or len(set(key)) < 10


def production_key(name, key):
    """Return the key if it may be used in production; else raise ImproperlyConfigured, saying what to do."""
    if len(key.encode()) < 32:
        raise ImproperlyConfigured(f"{name} is too short: it must have 32 bytes or more. {NEW_KEY}")
    if is_sample(key):
        raise ImproperlyConfigured(f"{name} looks like a sample that others know too. {NEW_KEY}")
    if key.startswith(("-----BEGIN", "{")):
        raise ImproperlyConfigured(f"{name} is a PEM or JWK text; it must be random characters. {NEW_KEY}")
    return key


if PRODUCTION:
    _needed = {
        "SECRET_KEY": NEW_KEY,
        "JWT_SIGNING_KEY": NEW_KEY,
        "ALLOWED_HOSTS": "List the API's host names: ALLOWED_HOSTS=api.shop.example",
        "DATABASE_URL": "Name the database: DATABASE_URL=mysql://user:password@host:3306/name",
        "CACHE_URL": "Name a Redis that all processes share: CACHE_URL=redis://127.0.0.1:6379/0",
        "NUM_PROXIES": "Count the proxies in front of the shop: 1 for nginx, which must send X-Forwarded-For and "
        "X-Forwarded-Proto, as deploy/nginx.conf does; 0 if the server itself speaks TLS.",
        "QQ_CLIENT_SECRET": "Take the APP Key from QQ Connect's console.",
        "QQ_REDIRECT_URI": "Give the address registered with QQ, as https://api.shop.example/oauth/qq/callback/",
        "QQ_CALLBACK_PAGE": "Give the address of the page, as https://www.shop.example/oauth_callback.html",
        "SMS_BACKEND": "Name the function that hands messages to your provider; apps/users/sms.py says what it gets.",
    }
    _missing = [f"{_name} is not set. {_mend}" for _name, _mend in _needed.items() if given(_name) is None]
    if _missing:
        raise ImproperlyConfigured("\n".join(["What stands in for these is for one developer:", *_missing]))

SECRET_KEY = given("SECRET_KEY")
SECRET_KEY_FALLBACKS = given("SECRET_KEY_FALLBACKS", names, [])
JWT_SIGNING_KEY = given("JWT_SIGNING_KEY")
JWT_SIGNING_KEY_FALLBACKS = given("JWT_SIGNING_KEY_FALLBACKS", names, [])
# Whether tokens that djangorestframework-jwt made before, with one of these keys, are good to their end.
JWT_OLD_TOKENS = given("JWT_OLD_TOKENS", boolean, False)

if PRODUCTION:
    production_key("SECRET_KEY", SECRET_KEY)
    production_key("JWT_SIGNING_KEY", JWT_SIGNING_KEY)
    for _key in SECRET_KEY_FALLBACKS:
        production_key("SECRET_KEY_FALLBACKS", _key)
    for _key in JWT_SIGNING_KEY_FALLBACKS:
        production_key("JWT_SIGNING_KEY_FALLBACKS", _key)
    if {JWT_SIGNING_KEY, *JWT_SIGNING_KEY_FALLBACKS} & {SECRET_KEY, *SECRET_KEY_FALLBACKS}:
        raise ImproperlyConfigured(f"JWT_SIGNING_KEY must not be SECRET_KEY: who learns one has both. {NEW_KEY}")
    if is_sample(given("QQ_CLIENT_SECRET")):
        raise ImproperlyConfigured("QQ_CLIENT_SECRET looks like a sample. Take the APP Key from QQ Connect's console.")
else:
    SECRET_KEY = SECRET_KEY or kept_key("secret_key")
    JWT_SIGNING_KEY = JWT_SIGNING_KEY or kept_key("jwt_signing_key")

# Database and cache ---------------------------------------------------------------------------------------------------

_url = given("DATABASE_URL")
if not _url:
    _database = {"ENGINE": "django.db.backends.sqlite3", "NAME": var("db.sqlite3")}
elif _url.startswith(("mysql://", "sqlite://")):
    _database = environ.Env.db_url_config(_url)
else:
    raise ImproperlyConfigured("DATABASE_URL must look like mysql://user:password@host:3306/name, or be left unset.")

if _database["ENGINE"].endswith("mysql"):
    _options = {
        "charset": "utf8mb4",
        "connect_timeout": 3,
        # Without it MySQL cuts a value that is too long instead of refusing it.
        "init_command": "SET sql_mode = CONCAT(@@sql_mode, ',STRICT_TRANS_TABLES')",
    }
    # Before what the address says: ?conn_max_age=0 is for a shop with more threads than MySQL lets in.
    _database = {"CONN_MAX_AGE": 600, "CONN_HEALTH_CHECKS": True, "TEST": {"CHARSET": "utf8mb4"}} | _database
else:
    _options = {
        # A transaction that reads and then writes would fail at once, without waiting, if another one wrote meanwhile.
        "transaction_mode": "IMMEDIATE",
        "timeout": 20,
        "init_command": "PRAGMA journal_mode = WAL",
    }
_database["OPTIONS"] = _options | _database.get("OPTIONS", {})
DATABASES = {"default": _database}

CACHE_URL = given("CACHE_URL", str, "locmemcache://")
if CACHE_URL.startswith(("redis://", "rediss://", "unix://")):
    CACHES = {
        "default": {
            "BACKEND": "meiduo.cache.RedisCache",
            "LOCATION": CACHE_URL,
            # A Redis that hangs must not hold the shop's workers.
            "OPTIONS": {"socket_timeout": 1, "socket_connect_timeout": 1},
        }
    }
elif CACHE_URL.startswith("locmem"):
    if PRODUCTION:
        raise ImproperlyConfigured(
            f"With CACHE_URL={CACHE_URL} every process would remember for itself which codes are used up. "
            "Give it a Redis that all of them share: CACHE_URL=redis://127.0.0.1:6379/0"
        )
    CACHES = {
        "default": {
            "BACKEND": "django.core.cache.backends.locmem.LocMemCache",
            # The default of 300 throws used-up states and codes away while they still matter.
            "OPTIONS": {"MAX_ENTRIES": 100_000},
        }
    }
else:
    raise ImproperlyConfigured("CACHE_URL must begin with redis://, rediss:// or unix://, or be left unset.")

DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# SMS and image codes --------------------------------------------------------------------------------------------------

SMS_BACKEND = given("SMS_BACKEND", str, "apps.users.development.send_sms")
SMS_HOURLY_CEILING = given("SMS_HOURLY_CEILING", number(int), 1000)  # for the whole shop: it bounds the bill
SMS_LOG = str(VAR_DIR / "sms.log")
CAPTCHA_LOG = given("CAPTCHA_LOG", str, "")

if PRODUCTION and CAPTCHA_LOG:
    raise ImproperlyConfigured("CAPTCHA_LOG writes the answers of image codes to a file. Unset it in production.")

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
    "meiduo.middleware.with_safe_headers",
    "django.middleware.security.SecurityMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",  # before WhiteNoise, so that the pages have it too
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "meiduo.middleware.in_the_shoppers_language",
    "meiduo.middleware.short_utf8_bodies_only",
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
ALLOWED_HOSTS = given("ALLOWED_HOSTS", names, ["127.0.0.1", "localhost", "[::1]"])
# No call of this API has a body of even one KiB, no form of the admin one of ten.
DATA_UPLOAD_MAX_MEMORY_SIZE = 16 * 1024

LANGUAGE_CODE = "zh-hans"
LANGUAGES = [("zh-hans", "简体中文"), ("en", "English")]
TIME_ZONE = "Asia/Shanghai"
USE_TZ = True

# Where the admin is mounted, for instance "back-office/". Empty: it is not.
ADMIN_PATH = given("ADMIN_PATH", lambda text: text.strip("/") + "/", "")
SILENCED_SYSTEM_CHECKS = []
if ADMIN_PATH:
    MIDDLEWARE += [
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.contrib.auth.middleware.AuthenticationMiddleware",
        "django.contrib.messages.middleware.MessageMiddleware",
    ]
else:
    SILENCED_SYSTEM_CHECKS += ["admin.E408", "admin.E409", "admin.E410"]  # they ask for these, which nobody else needs

# The pages and static files -------------------------------------------------------------------------------------------

STATIC_URL = "static/"
WHITENOISE_ROOT = BASE_DIR / "web"
WHITENOISE_INDEX_FILE = True
WHITENOISE_MAX_AGE = 0  # the pages' names never change, so a browser must ask each time whether they did
WHITENOISE_ALLOW_ALL_ORIGINS = False
WHITENOISE_USE_FINDERS = bool(ADMIN_PATH)  # the admin's files straight from its package: no collectstatic to forget

# Accounts and the API -------------------------------------------------------------------------------------------------

AUTH_USER_MODEL = "users.User"
AUTHENTICATION_BACKENDS = ["apps.users.backends.MobileBackend"]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator"},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]

# Whether a password reset by SMS also takes the QQs off the account, as one of them may be a stranger's.
RESET_UNBINDS_QQ = given("RESET_UNBINDS_QQ", boolean, True)
NUM_PROXIES = given("NUM_PROXIES", number(int), 0)
REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": ["apps.users.tokens.LoginTokenAuthentication"],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
    "DEFAULT_PARSER_CLASSES": ["apps.oauth.parsers.StrictJSONParser"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_CONTENT_NEGOTIATION_CLASS": "apps.oauth.parsers.JSONOnlyNegotiation",
    "EXCEPTION_HANDLER": "apps.oauth.exception_handler.exception_handler",
    "NUM_PROXIES": NUM_PROXIES,
}
SIMPLE_JWT = {"ALGORITHM": "HS256", "SIGNING_KEY": JWT_SIGNING_KEY, "AUTH_HEADER_TYPES": ("JWT",), "LEEWAY": 60}

CORS_ALLOWED_ORIGINS = given("CORS_ALLOWED_ORIGINS", origins, [])
if CORS_ALLOWED_ORIGINS:  # pages that are not on the API's own
    MIDDLEWARE.insert(
        MIDDLEWARE.index("meiduo.middleware.in_the_shoppers_language"), "corsheaders.middleware.CorsMiddleware"
    )
CORS_ALLOW_CREDENTIALS = True
CORS_EXPOSE_HEADERS = ["Retry-After"]
if ADMIN_PATH:
    CORS_URLS_REGEX = f"^/(?!{re.escape(ADMIN_PATH)})"  # no page of another origin has business with the admin

# Headers and https ----------------------------------------------------------------------------------------------------

SECURE_REFERRER_POLICY = "no-referrer"
X_FRAME_OPTIONS = "DENY"
if HTTPS:
    SECURE_SSL_REDIRECT = True
    SECURE_HSTS_SECONDS = 365 * 24 * 3600
    SESSION_COOKIE_SECURE = True
    CSRF_COOKIE_SECURE = True
    if NUM_PROXIES:
        # Only where a proxy of ours sets this header; from the open network anyone could send it.
        SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
    # HSTS for sub-domains and for browsers' preload list would bind hosts of the shop that are not ours to bind.
    SILENCED_SYSTEM_CHECKS += ["security.W005", "security.W021"]

# Logging --------------------------------------------------------------------------------------------------------------

DEFAULT_EXCEPTION_REPORTER = "meiduo.logs.ErrorReport"
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "plain": {
            "format": "{asctime} {levelname} {name}: {message}",
            "datefmt": "%Y-%m-%d %H:%M:%S %z",  # as gunicorn writes it; the audit log's is UTC
            "style": "{",
        },
        "audit": {"()": "meiduo.logs.AuditFormatter"},
    },
    "filters": {
        "without_secrets": {"()": "meiduo.logs.WithoutSecrets"},
        "without_traceback": {"()": "meiduo.logs.WithoutTraceback"},
    },
    "handlers": {
        "stderr": {"class": "logging.StreamHandler", "formatter": "plain", "filters": ["without_secrets"]},
        "audit": {"class": "logging.StreamHandler", "formatter": "audit", "stream": "ext://sys.stdout"},
    },
    "root": {"handlers": ["stderr"], "level": "INFO"},
    "loggers": {
        "django": {"handlers": [], "level": "INFO", "propagate": True},
        "django.security.DisallowedHost": {"filters": ["without_traceback"]},  # whoever scans the net asks by address
        "django.server": {"handlers": ["stderr"], "propagate": False},
        "meiduo.audit": {"handlers": ["audit"], "level": "INFO", "propagate": False},
    },
}

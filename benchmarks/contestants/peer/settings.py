from benchmarks.contestants.django_defaults import *  # noqa: F403

INSTALLED_APPS = [*INSTALLED_APPS, "social_django", "rest_social_auth"]  # noqa: F405
ROOT_URLCONF = "benchmarks.contestants.peer.urls"
DATABASES["default"]["CONN_MAX_AGE"] = 600  # noqa: F405  like ours: the host chooses it, not the package

AUTHENTICATION_BACKENDS = ["benchmarks.contestants.peer.backend.QQ"]
SOCIAL_AUTH_QQ_KEY, SOCIAL_AUTH_QQ_SECRET = QQ_CLIENT_ID, QQ_CLIENT_SECRET  # noqa: F405
REST_SOCIAL_OAUTH_ABSOLUTE_REDIRECT_URI = QQ_REDIRECT_URI  # noqa: F405

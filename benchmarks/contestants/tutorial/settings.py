from benchmarks.contestants.django_defaults import *  # noqa: F403

INSTALLED_APPS = [*INSTALLED_APPS, "benchmarks.contestants.tutorial"]  # noqa: F405
ROOT_URLCONF = "benchmarks.contestants.tutorial.urls"
AUTH_USER_MODEL = "tutorial.User"
# The app has no migrations, so the tables that it refers to must have none either.
MIGRATION_MODULES = dict.fromkeys(("admin", "auth", "contenttypes", "sessions"))

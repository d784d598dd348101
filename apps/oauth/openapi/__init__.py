"""The app's part of the shop's OpenAPI document. Imported only if INSTALLED_APPS has `drf_spectacular`."""

from . import operations  # noqa: F401  (describes the endpoints)

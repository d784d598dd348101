"""The app's part of the shop's OpenAPI document. Imported only where drf-spectacular makes a document."""

from . import operations  # noqa: F401  (describes the endpoints)

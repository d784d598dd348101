"""The marker that names the requirement rows a test proves: `@requirement("6.1", "6.2")`."""

import pytest


def requirement(*rows):
    return pytest.mark.requirement(*rows)

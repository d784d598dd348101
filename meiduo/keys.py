"""The keys that sign: refuse weak ones in production, make them on a developer's machine."""

import os
import re
import secrets

from django.core.exceptions import ImproperlyConfigured

NEW_KEY = 'Make one: python3 -c "import secrets; print(secrets.token_urlsafe(64))"'
SAMPLE_KEY = re.compile(
    r"django-insecure|change.?me|your.?(secret|key)|example|sample|placeholder|password|0123456789|00112233445566", re.I
)


def is_sample(key):
    return bool(SAMPLE_KEY.search(key)) or len(set(key)) < 10


def refuse_weak_keys(name, *keys):
    """Raise ImproperlyConfigured unless all keys are good enough for production."""
    for key in keys:
        if len(key.encode()) < 32:
            raise ImproperlyConfigured(f"{name} is too short: it must have 32 bytes or more. {NEW_KEY}")
        if is_sample(key):
            raise ImproperlyConfigured(f"{name} looks like a sample that others know too. {NEW_KEY}")
        if key.startswith(("-----BEGIN", "{")):
            raise ImproperlyConfigured(f"{name} is a PEM or JWK text; it must be random characters. {NEW_KEY}")


def get_kept_key(path):
    """Return the key kept in a file. The first start makes it; processes that start at once get the same key."""
    if not path.exists():
        # Link a complete draft: no process reads half a key, and a second link fails instead of replacing the first.
        draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
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
        raise ImproperlyConfigured(f"{path} holds no complete key. Delete the file: the next start makes a new one.")
    return key

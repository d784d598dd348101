"""Image codes: each answer can be checked once, whether the check succeeds or not."""

import secrets
import time
from uuid import UUID

from django.conf import settings
from django.utils.crypto import constant_time_compare

from apps.oauth import cache

from .development import append_line

# Without characters that look alike when distorted: 0 O Q D, 1 I L, 2 Z, 5 S, 6 G, 8 B, U V.
ALPHABET = "ACEFHJKMNPRTWXY3479"
LENGTH = 4
LIFETIME = 300  # seconds: a user may leave the form open for a while before typing the four characters


def draw(image_code_id: UUID) -> bytes:
    """Return a PNG for the id and remember its answer; an earlier answer for the id is forgotten.

    Raises CacheUnavailable.
    """
    # Here: with Pillow it takes 6 MB of memory, which a worker needs from its first picture on.
    from captcha.image import ImageCaptcha

    text = "".join(secrets.choice(ALPHABET) for _ in range(LENGTH))
    cache.set(_key(image_code_id), {"text": text, "time": time.time()}, LIFETIME)
    if settings.CAPTCHA_LOG:
        append_line(settings.CAPTCHA_LOG, id=str(image_code_id), text=text)
    return ImageCaptcha().generate(text).getvalue()


def check(image_code_id: UUID, text: str) -> bool:
    """Return whether the text is the answer, ignoring case, and forget the answer. Raises CacheUnavailable."""
    answer = cache.pop(_key(image_code_id))
    if answer is None or time.time() - answer["time"] >= LIFETIME:
        return False
    return constant_time_compare(answer["text"], text.upper())


def _key(image_code_id: UUID) -> str:
    return f"image_code:{image_code_id}"

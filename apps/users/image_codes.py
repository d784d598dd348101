"""Image codes: each answer is good for one look, right or wrong."""

import secrets
import time
from uuid import UUID

from captcha.image import ImageCaptcha
from django.conf import settings
from django.core.cache import cache
from django.utils.crypto import constant_time_compare

from .development import append_line

# Without characters that are taken for one another once they are bent: 0 O Q D, 1 I L, 2 Z, 5 S, 6 G, 8 B, U V.
ALPHABET = "ACEFHJKMNPRTWXY3479"
LENGTH = 4
LIFETIME = 300  # seconds: time to type four characters, with the form left open for a while


def draw(image_code_id: UUID) -> bytes:
    """Return a PNG for the id and remember its answer; an earlier answer for the id is forgotten."""
    text = "".join(secrets.choice(ALPHABET) for _ in range(LENGTH))
    cache.set(_key(image_code_id), {"text": text, "time": time.time()}, LIFETIME)
    if settings.CAPTCHA_LOG:
        append_line(settings.CAPTCHA_LOG, id=str(image_code_id), text=text)
    return ImageCaptcha().generate(text).getvalue()


def check(image_code_id: UUID, text: str) -> bool:
    """Tell whether the text is the answer, in either case of letters. The answer is gone afterwards."""
    answer = cache.get(_key(image_code_id))
    # Of several checks at once only the one that deletes the answer may use it.
    if answer is None or not cache.delete(_key(image_code_id)) or time.time() - answer["time"] >= LIFETIME:
        return False
    return constant_time_compare(answer["text"], text.upper())


def _key(image_code_id: UUID) -> str:
    return f"image_code:{image_code_id}"

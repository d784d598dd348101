"""Signed values: one salt per purpose, every key of SECRET_KEY_FALLBACKS, an age that tolerates differing clocks."""

import functools
import hashlib
import hmac
import logging
import time
from typing import Any

from django.conf import settings
from django.utils.crypto import salted_hmac
from django.utils.encoding import force_bytes
from itsdangerous import BadData, BadSignature, SignatureExpired, TimestampSigner, URLSafeTimedSerializer

from .lifetimes import CLOCK_ALARM, CLOCK_TOLERANCE

MAX_LENGTH = 3072  # bytes, checked before any work is done

logger = logging.getLogger(__name__)


def sign(purpose: str, payload: dict[str, Any]) -> str:
    """Return the payload as signed text, which anyone who has it can read."""
    serializer, _ = _get_serializer(purpose, *_get_keys())
    signed = serializer.dumps({**payload, "type": purpose})
    return signed if isinstance(signed, str) else signed.decode()


def verify(purpose: str, signed: str) -> tuple[dict[str, Any], int]:
    """Return the payload signed for the purpose, and its age in seconds. Raises BadData. The caller judges the age."""
    if len(signed) > MAX_LENGTH:
        raise BadSignature("too long")
    try:
        # Not by the library's max_age: it refuses a value from a clock that is one second ahead of ours.
        serializer, signer = _get_serializer(purpose, *_get_keys())
        body, signed_at = signer.unsign(signed, return_timestamp=True)
        payload = serializer.load_payload(body)
    except (BadData, ValueError, OverflowError, OSError) as exc:
        # itsdangerous before 2.1.2 reads the timestamp before it checks the signature.
        raise BadSignature("not signed by us") from exc
    age = int(time.time()) - int(signed_at.timestamp())
    if age < -CLOCK_ALARM:
        logger.error("The clocks of the shop's servers differ by %s seconds or more.", -age)
    if age < -CLOCK_TOLERANCE:
        raise SignatureExpired("from the future")
    if payload.get("type") != purpose:  # the salt says so already; neither has to be trusted alone
        raise BadSignature("signed for another purpose")
    return payload, age


def hash_with_each_secret_key(purpose: str, text: str) -> list[str]:
    """Return the keyed hashes of a text, the newest key's first."""
    return [salted_hmac(purpose, text, secret=key, algorithm="sha256").hexdigest() for key in _get_keys()]


def hash_text(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _get_keys() -> list[str]:
    """Return the keys, the newest first, as Django orders them."""
    return [settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS]


@functools.cache
def _get_serializer(purpose: str, *keys: str) -> tuple[URLSafeTimedSerializer, TimestampSigner]:
    """Return the serializer and its signer, which its own loads() would create at each call."""
    salt = f"qq-login.{purpose}.v1"
    # Derived here, once. itsdangerous, which signs with the last key, would derive them at each call.
    derived = [hmac.digest(force_bytes(key), salt.encode(), "sha256") for key in reversed(keys)]
    options = {"key_derivation": "none", "digest_method": hashlib.sha256}
    serializer = URLSafeTimedSerializer(derived, salt=salt, signer_kwargs=options)
    return serializer, next(serializer.iter_unsigners())

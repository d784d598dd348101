import re
from typing import Any


def shorten_openid(openid: str | None) -> str:
    """Return the first characters of an openid: enough to tell two apart, too few to use. Old tables may hold NULL."""
    return f"{(openid or '')[:6]}…"


def mask_mobiles(text: str) -> str:
    """Hide the middle of every mobile number in `text`. Many shops use the mobile number as the username."""
    return re.sub(r"(?<!\d)(\d{3})\d{4}(\d{4})(?!\d)", r"\1****\2", text)


def mask_mobile(value: Any) -> str | None:
    """Return the number with its middle hidden, or None for anything else, which may be a secret."""
    return mask_mobiles(value) if isinstance(value, str) and re.fullmatch("[0-9]{11}", value) else None

"""Mobile numbers: one spelling and no other, as counters, SMS codes and accounts are all kept by it."""

import re

from django.core.exceptions import ValidationError
from django.utils.translation import gettext_lazy as _

# [0-9] and not \d, which takes the digits of every script.
MOBILE = re.compile(r"1[3-9][0-9]{9}")


def is_mobile(text: str) -> bool:
    """Tell whether the whole text is a mobile number of mainland China, in its one spelling: 11 ASCII digits."""
    return MOBILE.fullmatch(text) is not None


def mask_mobile(mobile: str | None) -> str:
    """Return the number with its middle hidden, for logs and lists; an empty text if there is none."""
    return f"{mobile[:3]}****{mobile[-4:]}" if mobile else ""


def validate_mobile(text: str) -> None:
    """Raise ValidationError unless the text is a mobile number."""
    if not is_mobile(text):
        raise ValidationError(_("手机号格式不正确。"), code="invalid")


def validate_not_mobile(text: str) -> None:
    """
    Raise ValidationError if a username looks like a mobile number.

    One may log in by either, so such a name would let its owner stand in front of the number's owner.
    """
    if is_mobile(text):
        raise ValidationError(_("用户名不能是手机号。"), code="mobile")

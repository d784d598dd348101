"""Mobile numbers. Counters, SMS codes and accounts are stored by number, so each number has exactly one spelling."""

import re

from django.core.exceptions import ValidationError
from django.utils.translation import gettext_lazy as _

MOBILE = re.compile(r"1[3-9][0-9]{9}")  # [0-9]: \d would match the digits of every script


def is_mobile(text: str) -> bool:
    """Return whether the whole text is a mobile number of mainland China: 11 ASCII digits."""
    return MOBILE.fullmatch(text) is not None


def validate_mobile(text: str) -> None:
    """Raise ValidationError unless the text is a mobile number."""
    if not is_mobile(text):
        raise ValidationError(_("手机号格式不正确。"), code="invalid")


def validate_not_mobile(text: str) -> None:
    """Raise ValidationError if a username looks like a mobile number.

    A user logs in by either, so such a username would hide the account that owns the number.
    """
    if is_mobile(text):
        raise ValidationError(_("用户名不能是手机号。"), code="mobile")

"""The fields of the forms that pages and apps send. Not the model's: those are in fields.py."""

import re
from typing import Any

from rest_framework import serializers

from .language import translate_lazy


class PatternField(serializers.CharField):
    """Text that matches a pattern as a whole, unchanged."""

    def __init__(
        self, pattern: str | re.Pattern[str], *, malformed: str, missing: str | None = None, **options: Any
    ) -> None:
        """Take the two sentences for the user, in Chinese. `missing`: None if it is the same one."""
        messages: dict[str, Any] = dict.fromkeys(("required", "null", "blank"), translate_lazy(missing or malformed))
        messages["invalid"] = translate_lazy(malformed)
        # Trimming would change a password.
        super().__init__(trim_whitespace=False, error_messages=messages, **options)
        self.pattern = re.compile(pattern)

    def to_internal_value(self, data: Any) -> str:
        if not isinstance(data, str) or not self.pattern.fullmatch(data):  # CharField accepts numbers
            self.fail("invalid")
        return data

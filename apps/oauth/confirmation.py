"""The default of QQ_CONFIRM_SERIALIZER: a signed-in user confirms with the account's password."""

from typing import Any

from django.utils.functional import lazy
from django.utils.translation import gettext_noop as _
from rest_framework import serializers
from rest_framework.exceptions import ValidationError

from .account_lock import make_account_key, password_attempt
from .language import translate

LONGEST_PASSWORD = 128  # characters: no megabyte is hashed

translate_lazy = lazy(translate, str)
MISSING: Any = dict.fromkeys(("required", "null", "blank"), translate_lazy(_("请输入密码。")))


class PasswordSerializer(serializers.Serializer[Any]):
    """Take the password of `context["request"].user`. Wrong ones are counted, and lock the account, as in any form.

    A shop's own class takes what it likes in place of the password. `is_valid` decides; nothing is saved.
    """

    password = serializers.CharField(trim_whitespace=False, error_messages=MISSING)

    def validate_password(self, password: str) -> str:
        request = self.context["request"]
        user = request.user
        if not user.has_usable_password():
            raise ValidationError(translate(_("账号还没有密码，请先设置密码。")))
        with password_attempt(request, make_account_key(user)):
            if len(password) > LONGEST_PASSWORD or not user.check_password(password):
                raise ValidationError(translate(_("密码不正确。")))
        return password

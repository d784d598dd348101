"""The default of QQ_CONFIRM_SERIALIZER: a signed-in user confirms with the account's password."""

from typing import Any

from django.utils.translation import gettext_noop as _
from rest_framework import serializers
from rest_framework.exceptions import ValidationError

from .account_lock import make_account_key, password_attempt
from .form_fields import PatternField
from .language import translate

WRONG = _("密码不正确。")


class PasswordSerializer(serializers.Serializer[Any]):
    """Take the password of `context["request"].user`. Wrong ones are counted, and lock the account, as in any form.

    A shop's own class takes what it likes in place of the password. `is_valid` decides; nothing is saved. The context
    has the `request` and `attempt`, a text that is the same if the user sends the same form again.
    """

    # At most 128 characters, so that no megabyte is hashed.
    password = PatternField("[^\x00\ud800-\udfff]{1,128}", missing=_("请输入密码。"), malformed=WRONG)

    def validate_password(self, password: str) -> str:
        request = self.context["request"]
        user = request.user
        if not user.has_usable_password():
            raise ValidationError(translate(_("账号还没有密码，请先设置密码。")))
        with password_attempt(request, make_account_key(user)):
            if not user.check_password(password):
                raise ValidationError(translate(WRONG))
        return password

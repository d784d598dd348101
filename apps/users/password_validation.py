"""Rules for new passwords beside Django's own, for AUTH_PASSWORD_VALIDATORS."""

from django.core.exceptions import ValidationError
from django.utils.translation import gettext as _


class NotBlankValidator:
    """Refuse a password of blanks only: Django's rules let eight of them pass."""

    def validate(self, password, user=None):
        if not password.strip():
            raise ValidationError(self.get_help_text(), code="password_blank")

    def get_help_text(self):
        return _("密码不能全是空格。")

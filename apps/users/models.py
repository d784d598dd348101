from django.contrib.auth import hashers
from django.contrib.auth.models import AbstractUser
from django.contrib.auth.validators import UnicodeUsernameValidator
from django.db import models
from django.utils.translation import gettext_lazy as _

from .mobiles import validate_mobile, validate_not_mobile

LONGEST_USERNAME = 150  # characters, as in Django's own model


class User(AbstractUser):
    """A user of the shop. Staff created on the command line may have no mobile number."""

    username = models.CharField(
        _("用户名"),
        max_length=LONGEST_USERNAME,
        unique=True,
        validators=[UnicodeUsernameValidator(), validate_not_mobile],
        error_messages={"unique": _("该用户名已被使用。")},
    )
    mobile = models.CharField(
        _("手机号"),
        max_length=11,
        unique=True,
        null=True,
        blank=True,
        validators=[validate_mobile],
        error_messages={"unique": _("该手机号已注册。")},
    )
    email_active = models.BooleanField(_("邮箱已验证"), default=False)
    token_generation = models.PositiveIntegerField(_("令牌代次"), default=0, editable=False)

    class Meta:
        db_table = "tb_users"
        verbose_name = _("用户")
        verbose_name_plural = verbose_name

    def set_unusable_password(self):
        super().set_unusable_password()
        self._password = ""  # marks the password as changed; Django does so in set_password() only

    def check_password(self, raw_password):
        """Return whether the password is right. Renew an old hash, unless another password was set meanwhile."""
        old = self.password

        def renew(raw_password):
            new = hashers.make_password(raw_password)
            if User.objects.filter(pk=self.pk, password=old).update(password=new):
                self.password = new

        return hashers.check_password(raw_password, old, renew)

    def save(self, *args, update_fields=None, **kwargs):
        """Save. A changed password also raises `token_generation`, which invalidates all earlier login tokens.

        `_password` is Django's own mark of a password that is set and not yet saved.
        """
        mark = self._password
        password_is_saved = update_fields is None or "password" in update_fields
        ends_tokens = mark is not None and password_is_saved and not self._state.adding
        if ends_tokens:
            # The database counts: two simultaneous changes must not end with the same number.
            self.token_generation = models.F("token_generation") + 1
            if update_fields is not None:
                update_fields = {*update_fields, "token_generation"}
        super().save(*args, update_fields=update_fields, **kwargs)
        if ends_tokens:
            self.refresh_from_db(fields=["token_generation"])
        if not password_is_saved:
            self._password = mark  # Django clears it although the password was not among the saved fields

from django.conf import settings
from django.db import models
from django.utils.translation import gettext_lazy as _
from django.utils.translation import pgettext_lazy

from .fields import ExactCharField, OwnTextField
from .redaction import shorten_openid


class OAuthQQUser(models.Model):
    """A binding: a user of the shop and the QQ account, identified by its openid, that logs them in."""

    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, verbose_name=_("用户"))
    openid = ExactCharField(max_length=64, unique=True)
    unionid = models.CharField(max_length=64, null=True, blank=True, db_index=True)
    # Columns of our own, with names that no old table is likely to have. None: bound before they were there.
    client_id = OwnTextField(db_column="qq_client_id", db_comment="QQ APP ID", max_length=32)
    nickname = OwnTextField(db_column="qq_nickname", db_comment="QQ 昵称", max_length=64)
    avatar = OwnTextField(db_column="qq_avatar", db_comment="QQ 头像", max_length=512)
    create_time = models.DateTimeField(_("创建时间"), auto_now_add=True)
    update_time = models.DateTimeField(_("更新时间"), auto_now=True)

    class Meta:
        db_table = "tb_oauth_qq"
        verbose_name = _("QQ 绑定")
        verbose_name_plural = pgettext_lazy("plural", "QQ 绑定")

    def __str__(self) -> str:
        return shorten_openid(self.openid)

from django.conf import settings
from django.db import models


class OAuthQQUser(models.Model):
    """A binding: the person QQ calls `openid` is this user of the shop."""

    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, verbose_name="用户")
    openid = models.CharField(max_length=64, unique=True)
    unionid = models.CharField(max_length=64, null=True, blank=True, db_index=True)
    create_time = models.DateTimeField("创建时间", auto_now_add=True)
    update_time = models.DateTimeField("更新时间", auto_now=True)

    class Meta:
        db_table = "tb_oauth_qq"
        verbose_name = verbose_name_plural = "QQ 绑定"

    def __str__(self) -> str:
        return shorten(self.openid)


def shorten(openid: str | None) -> str:
    """Enough of an openid to tell two apart, too little to use. A table from before this app may hold none."""
    return f"{(openid or '')[:6]}…"

from functools import cache

from django.conf import settings
from django.contrib.auth import get_user_model
from django.contrib.auth.base_user import AbstractBaseUser
from django.db import connections, models


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


def find_user(openid: str) -> AbstractBaseUser | None:
    """Return the user the openid is bound to."""
    users = get_user_model()._base_manager
    for user in users.raw(_user_by_openid(users.db), [openid]):
        if user.qq_login_openid == openid:  # MySQL compares without case where the column was not made by us
            found: AbstractBaseUser = user
            return found
    return None


@cache
def _user_by_openid(database: str) -> str:
    # Written out, as the ORM takes longer to put it together than the database to answer it.
    quote = connections[database].ops.quote_name
    user, pk = get_user_model()._meta, get_user_model()._meta.pk
    assert pk is not None
    assert user.concrete_model is not None
    # Not u.*: a column left over from before could have the name of something else of the model's.
    columns = ", ".join(f"u.{quote(str(field.column))}" for field in user.concrete_model._meta.local_concrete_fields)
    table = quote(OAuthQQUser._meta.db_table)
    return (
        f"SELECT {columns}, b.openid AS qq_login_openid FROM {table} b "  # noqa: S608  no input in it
        f"JOIN {quote(user.db_table)} u ON u.{quote(str(pk.column))} = b.user_id WHERE b.openid = %s"
    )


def shorten(openid: str | None) -> str:
    """Enough of an openid to tell two apart, too little to use. A table from before this app may hold none."""
    return f"{(openid or '')[:6]}…"

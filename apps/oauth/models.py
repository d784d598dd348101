from functools import cache
from typing import Any

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


def find_user(openid: str, database: str | None = None) -> AbstractBaseUser | None:
    """Return the user the openid is bound to. `database`: its name; without one, where the shop reads users."""
    user_model = get_user_model()
    database = database or user_model._base_manager.db
    sql, names, converters = _look_up(database)
    connection = connections[database]
    with connection.cursor() as cursor:
        cursor.execute(sql, [openid])
        rows = cursor.fetchall()
    for bound_openid, *values in rows:
        if bound_openid == openid:  # MySQL compares without case where the column was not made by us
            for place, (converts, column) in converters.items():
                for convert in converts:
                    values[place] = convert(values[place], column, connection)
            user: AbstractBaseUser = user_model.from_db(database, names, values)
            return user
    return None


@cache
def _look_up(database: str) -> tuple[str, list[str], dict[int, Any]]:
    """Return the query for a user by openid, and what makes a user of its row: the names and converters of the fields.

    Put together once, as the ORM takes longer for that than the database to answer.
    """
    connection, user = connections[database], get_user_model()._meta
    assert user.concrete_model is not None
    assert user.pk is not None
    fields = user.concrete_model._meta.local_concrete_fields
    compiler = get_user_model()._base_manager.all().query.get_compiler(database)
    quote = connection.ops.quote_name
    # Not u.*: a column left over from before could have the name of something else of the model's.
    selected = [field.get_col("u") for field in fields]
    columns = ", ".join(column.select_format(compiler, *compiler.compile(column))[0] for column in selected)
    sql = (
        f"SELECT b.openid, {columns} FROM {quote(OAuthQQUser._meta.db_table)} b "  # noqa: S608  no input in it
        f"JOIN {quote(user.db_table)} {quote('u')} ON {quote('u')}.{quote(str(user.pk.column))} = b.user_id "
        "WHERE b.openid = %s"
    )
    # Bound to this thread's connection, of which they ask nothing but how it is set up.
    converters = compiler.get_converters(selected)
    return sql, [field.attname for field in fields], converters


def shorten(openid: str | None) -> str:
    """Enough of an openid to tell two apart, too little to use. A table from before this app may hold none."""
    return f"{(openid or '')[:6]}…"

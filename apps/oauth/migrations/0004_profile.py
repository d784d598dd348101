from django.db import migrations

from .. import fields
from ._own_columns import AddOwnColumn


class Migration(migrations.Migration):

    dependencies = [
        ("oauth", "0003_adopt_old_table"),
    ]

    operations = [
        AddOwnColumn("OAuthQQUser", "client_id", fields.OwnTextField(db_column="qq_client_id", db_comment="QQ APP ID", max_length=32)),
        AddOwnColumn("OAuthQQUser", "nickname", fields.OwnTextField(db_column="qq_nickname", db_comment="QQ 昵称", max_length=64)),
        AddOwnColumn("OAuthQQUser", "avatar", fields.OwnTextField(db_column="qq_avatar", db_comment="QQ 头像", max_length=512)),
    ]

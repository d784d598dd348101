from django.db import migrations


def compare_exactly(apps, schema_editor):
    """Let MySQL and MariaDB tell two openids apart that differ in case only, as every other database does."""
    collate(schema_editor, "CHARACTER SET utf8mb4 COLLATE utf8mb4_bin")


def compare_as_the_table_does(apps, schema_editor):
    collate(schema_editor, "")


def collate(schema_editor, collation):
    if schema_editor.connection.vendor == "mysql":
        schema_editor.execute(f"ALTER TABLE tb_oauth_qq MODIFY openid varchar(64) {collation} NOT NULL")


class Migration(migrations.Migration):
    atomic = False  # MySQL and MariaDB cannot undo an ALTER TABLE

    dependencies = [
        ("oauth", "0001_initial"),
    ]

    operations = [
        migrations.RunPython(compare_exactly, compare_as_the_table_does),
    ]

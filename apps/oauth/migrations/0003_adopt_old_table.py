from django.db import migrations

from . import _adopt


class Migration(migrations.Migration):
    # _adopt.py says what this does. It can run again after it died, and changes nothing in a table that 0001 created.

    dependencies = [
        ("oauth", "0002_exact_openid"),
    ]

    operations = [
        # Not atomic: MySQL cannot roll back ALTER TABLE.
        migrations.RunPython(_adopt.adopt, _adopt.restore, atomic=False, hints={"model_name": "oauthqquser"}),
    ]

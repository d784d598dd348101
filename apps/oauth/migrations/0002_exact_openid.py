from django.db import migrations


class Migration(migrations.Migration):
    # Empty: 0003 does this now, after checking that an old table can be converted. The file stays because databases
    # have recorded its name.

    dependencies = [
        ("oauth", "0001_initial"),
    ]

    operations = []

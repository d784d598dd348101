from django.db import migrations


class Migration(migrations.Migration):
    # What this did, 0003 does too, and of an old table only once it knows that it can go on. The name stays for the
    # databases that have recorded it.

    dependencies = [
        ("oauth", "0001_initial"),
    ]

    operations = []

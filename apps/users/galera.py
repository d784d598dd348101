"""At a node of MariaDB Galera, reads wait for what the other nodes have written: some hundredths of a millisecond."""

from django.db.backends.signals import connection_created
from django.dispatch import receiver


@receiver(connection_created)
def wait_for_other_nodes(connection, **kwargs):
    """Switch the wait on, in calls and commands alike.

    Not by `init_command`: a MariaDB built without Galera, as for Windows, does not know the variable.
    """
    if connection.vendor == "mysql":
        with connection.cursor() as cursor:
            cursor.execute("SHOW VARIABLES LIKE 'wsrep_on'")
            if cursor.fetchone() == ("wsrep_on", "ON"):
                cursor.execute("SET wsrep_sync_wait = @@wsrep_sync_wait | 1")  # its other bits are the shop's choice

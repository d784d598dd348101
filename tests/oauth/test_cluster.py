"""What qq_doctor says of a read-only database, and of a cluster in states that none on one machine can be in for long.

The real ones are in tests/cluster. Here a stand-in answers the doctor's queries as the servers do.
"""

import pytest
from django.db import DatabaseError

from apps.oauth.management.cluster import check_cluster

GALERA = {"wsrep_on": "ON", "wsrep_sync_wait": "1", "wsrep_retry_autocommit": "1"}
STATUS = {"wsrep_cluster_status": "Primary", "wsrep_ready": "ON", "wsrep_cluster_size": "3"}
STATUS |= {"wsrep_local_state_comment": "Synced"}
PREFIX = "group_replication_"
GROUP = {f"{PREFIX}group_name": "a-uuid", f"{PREFIX}single_primary_mode": "ON"}
GROUP |= {f"{PREFIX}unreachable_majority_timeout": "10"}
ONLINE = ((1, "ONLINE"), (0, "ONLINE"), (0, "ONLINE"))


class Server:
    """A connection, and its cursor, to a server that gives these answers."""

    def __init__(self, wsrep=(), status=(), group=(), members=(), read_only=0):
        self.answers = {
            "SHOW VARIABLES LIKE 'wsrep%'": dict(wsrep).items(),
            "SHOW GLOBAL STATUS LIKE 'wsrep%'": dict(status).items(),
            "SHOW GLOBAL VARIABLES LIKE 'group_replication%'": dict(group).items(),
            "SELECT @@GLOBAL.super_read_only": ((read_only,),),
            "SELECT @@GLOBAL.read_only": ((read_only,),),
        }
        self.members = members

    def cursor(self):
        return self

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def execute(self, sql):
        if sql not in self.answers and self.members is None:
            raise DatabaseError(1142, "SELECT command denied")
        self.rows = self.answers.get(sql, self.members)

    def fetchall(self):
        return tuple(self.rows)


def galera(status=(), **changes):
    return Server(GALERA | changes, STATUS | dict(status))


def group(members=ONLINE, read_only=0, **changes):
    changed = {f"{PREFIX}{name}": value for name, value in changes.items()}
    return Server(group=GROUP | changed, members=members, read_only=read_only)


GALERA_NOTE = ("Info", "The database is a Galera cluster of 3.")
GROUP_NOTE = ("Info", "The database is a replication group of 3; 3 are online.")
NOBODY = "The database is a node of Galera that serves nobody now"
READ_ONLY = ("Error", "The database takes no writes (read_only).")
OUTSIDE = ("Error", "The database is a server that is not in its replication group.")


@pytest.mark.parametrize(
    ("server", "expected"),
    [
        (Server(), []),
        (Server({"wsrep_on": "OFF", "wsrep_sync_wait": "0"}), []),  # any MariaDB
        (Server(group=GROUP | {f"{PREFIX}group_name": ""}), []),  # the plugin is there, and not used
        *((Server(read_only=value), [READ_ONLY]) for value in (1, "ON", "NO_LOCK_NO_ADMIN")),
        (Server(read_only="OFF"), []),
        (galera(), [GALERA_NOTE]),
        (galera(wsrep_sync_wait="15"), [GALERA_NOTE]),
        (
            galera(wsrep_sync_wait="6"),
            [
                GALERA_NOTE,
                (
                    "Warning",
                    "A read at one node of Galera may miss what another has just written: wsrep_sync_wait is off.",
                ),
            ],
        ),
        (
            galera(wsrep_retry_autocommit="0"),
            [
                GALERA_NOTE,
                ("Warning", "Galera does not repeat a single write that lost a conflict: wsrep_retry_autocommit is 0."),
            ],
        ),
        *(
            (
                galera({"wsrep_cluster_size": size}),
                [
                    ("Info", f"The database is a Galera cluster of {size}."),
                    ("Warning", f"The database's cluster has {size} nodes."),
                ],
            )
            for size in ("1", "2", "4")
        ),
        (
            galera({"wsrep_cluster_status": "non-Primary", "wsrep_local_state_comment": "Initialized"}),
            [("Error", f"{NOBODY} (non-Primary, Initialized).")],
        ),
        (
            galera({"wsrep_ready": "OFF", "wsrep_local_state_comment": "Joining: receiving State Transfer"}),
            [("Error", f"{NOBODY} (Primary, Joining: receiving State Transfer).")],
        ),
        (group(), [GROUP_NOTE]),
        (
            group(members=None),
            [("Warning", "The database uses Group Replication, but its members cannot be read.")],
        ),
        (group(members=((1, "OFFLINE"),)), [OUTSIDE]),
        (group(members=()), [OUTSIDE]),
        (
            group(members=((1, "ONLINE"), (0, "ONLINE"), (0, "UNREACHABLE"))),
            [
                ("Info", "The database is a replication group of 3; 2 are online."),
                ("Warning", "The database's cluster has 2 nodes."),
            ],
        ),
        (
            group(read_only=1),
            [GROUP_NOTE, ("Error", "The database takes no writes (super_read_only): it is a secondary of its group.")],
        ),
        (
            group(single_primary_mode="OFF"),
            [GROUP_NOTE, ("Warning", "The replication group has several primaries.")],
        ),
        (
            group(unreachable_majority_timeout="0"),
            [
                GROUP_NOTE,
                (
                    "Warning",
                    "A server of the group without the majority lets writes wait forever, and may commit them later.",
                ),
            ],
        ),
    ],
)
def test_cluster_is_named_with_its_problems(server, expected):
    assert [(type(finding).__name__, finding.msg) for finding in check_cluster(server)] == expected

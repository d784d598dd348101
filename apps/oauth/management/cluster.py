"""What `qq_doctor` says of a database that is read-only, or a cluster: MariaDB Galera, or MySQL's Group Replication."""

from collections.abc import Iterator
from typing import Any

from django.core.checks import CheckMessage, Error, Info, Warning
from django.db import DatabaseError

SYNC_WAIT = 'Add to its OPTIONS: "init_command": "SET wsrep_sync_wait = 1", with what yours has.'
ODD = "Have three nodes, or five: of an even number, a cut in the middle leaves no majority."
MEMBERS = "SELECT member_id = @@server_uuid, member_state FROM performance_schema.replication_group_members"
LOST = "Start it, or check its network: it takes writes again once it sees the majority of the cluster."


def check_cluster(connection: Any) -> Iterator[CheckMessage]:
    """Yield whether the database (MySQL or MariaDB) is a cluster, and why it may take no writes."""
    variables = read(connection, "SHOW VARIABLES LIKE 'wsrep%'")
    if variables.get("wsrep_on") == "ON":
        yield from check_galera(variables, read(connection, "SHOW GLOBAL STATUS LIKE 'wsrep%'"))
    variables = read(connection, "SHOW GLOBAL VARIABLES LIKE 'group_replication%'")
    if variables.get("group_replication_group_name"):
        yield from check_group(connection, variables)
        return
    ((read_only,),) = query(connection, "SELECT @@GLOBAL.read_only")
    if read_only not in (0, "OFF"):  # newer MariaDB has several kinds of read-only
        yield Error("The database takes no writes (read_only).", "Connect to the primary, or SET GLOBAL read_only = 0.")


def check_galera(variables: dict[str, str], status: dict[str, str]) -> Iterator[CheckMessage]:
    size, component = status.get("wsrep_cluster_size", "0"), status.get("wsrep_cluster_status")
    if component != "Primary" or status.get("wsrep_ready") != "ON":
        state = f"{component}, {status.get('wsrep_local_state_comment')}"
        yield Error(f"The database is a node of Galera that serves nobody now ({state}).", LOST)
        return
    yield Info(f"The database is a Galera cluster of {size}.")
    yield from check_size(int(size))
    if not int(variables["wsrep_sync_wait"]) & 1:
        yield Warning(
            "A read at one node of Galera may miss what another has just written: wsrep_sync_wait is off.", SYNC_WAIT
        )
    if variables["wsrep_retry_autocommit"] == "0":
        problem = "Galera does not repeat a single write that lost a conflict: wsrep_retry_autocommit is 0."
        yield Warning(problem, "Set it to 1, the default.")


def check_group(connection: Any, variables: dict[str, str]) -> Iterator[CheckMessage]:
    try:
        members = list(query(connection, MEMBERS))
    except DatabaseError:
        hint = "GRANT SELECT ON performance_schema.replication_group_members to its user, at least for this command."
        yield Warning("The database uses Group Replication, but its members cannot be read.", hint)
    else:
        online = sum(state == "ONLINE" for _, state in members)
        if [state for is_own, state in members if is_own] != ["ONLINE"]:
            yield Error("The database is a server that is not in its replication group.", LOST)
            return
        yield Info(f"The database is a replication group of {len(members)}; {online} are online.")
        yield from check_size(online)
    ((read_only,),) = query(connection, "SELECT @@GLOBAL.super_read_only")
    if read_only:
        hint = "Reach the group through a proxy that finds its primary, or MySQL Router."
        yield Error("The database takes no writes (super_read_only): it is a secondary of its group.", hint)
    if variables["group_replication_single_primary_mode"] != "ON":
        hint = (
            "SELECT group_replication_switch_to_single_primary_mode(): conflicts can make the members differ forever."
        )
        yield Warning("The replication group has several primaries.", hint)
    if variables["group_replication_unreachable_majority_timeout"] == "0":
        problem = "A server of the group without the majority lets writes wait forever, and may commit them later."
        yield Warning(problem, "Set group_replication_unreachable_majority_timeout to 10, say.")


def check_size(size: int) -> Iterator[CheckMessage]:
    if size % 2 == 0 or size == 1:
        yield Warning(f"The database's cluster has {size} nodes.", ODD)


def read(connection: Any, sql: str) -> dict[str, str]:
    return dict(query(connection, sql))


def query(connection: Any, sql: str) -> Any:
    with connection.cursor() as cursor:
        cursor.execute(sql)
        return cursor.fetchall()

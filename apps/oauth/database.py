"""Distinguish an outage of the database from a bug in a query.

In an outage the call is answered 503 `database_unavailable`, one line is logged, and no try is used up. A bug stays a
500 with its traceback.
"""

import logging
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, TypeVar

from django.db import Error, InterfaceError, OperationalError, connections
from django.db.backends.signals import connection_created
from django.dispatch import receiver

from .errors import DatabaseUnavailable

logger = logging.getLogger(__name__)

T = TypeVar("T")
DEADLOCK = 1213  # ER_LOCK_DEADLOCK of MySQL and MariaDB; in Galera also a conflict with another node, even at COMMIT

# Seconds to wait before a transaction that was rolled back is tried again. The last two errors are of MySQL's Group
# Replication, at COMMIT: the rows of the transaction that won arrive a moment later.
CONFLICTS = {DEADLOCK: 0.0, 1180: 0.1, 3101: 0.1}

# Error numbers of MySQL and MariaDB, from their references; 2000 to 2999 are the client library's. The class is not
# enough: mysqlclient raises OperationalError for an unknown column too.
OUTAGES = {
    *(2002, 2003, 2005, 2006, 2012, 2013, 2026, 2055),  # no connection, or it is lost
    *(1040, 1129, 1203, 1226),  # too many connections
    *(1053, 1927, 3169, 4031),  # the server shuts down, or has ended this connection
    *(1205, 1206, 1213),  # locks: time-out, too many, deadlock
    *(1317, 1969, 3024),  # the statement was ended, or took too long
    *(1036, 1290, 1792, 1836),  # read-only
    *(1021, 1026, 1030, 1114),  # the disk is full or broken
    *(1047, 1180, 3032, 3100, 3101, 6400),  # a node of a cluster: not ready, or its commit was refused
}
SQLITE_OUTAGES = {
    *("database is locked", "database table is locked", "attempt to write a readonly database"),
    *("database or disk is full", "disk I/O error", "unable to open database file"),
}


def is_outage(exc: BaseException | None) -> bool:
    """Return whether the exception says that the database cannot answer now."""
    if not isinstance(exc, Error):
        return False
    if type(exc.__cause__).__module__ == "sqlite3":
        return str(exc) in SQLITE_OUTAGES
    if isinstance(exc, InterfaceError):  # the driver has no connection any more
        return True
    number = exc.args[0] if exc.args else None
    return number in OUTAGES if isinstance(number, int) else isinstance(exc, OperationalError)


def name_error(exc: BaseException) -> str:
    """Return the error's class, and its number if it has one. Not its text, which may contain values."""
    return " ".join([type(exc).__name__, *(str(argument) for argument in exc.args if isinstance(argument, int))])


def report_outage(exc: BaseException) -> DatabaseUnavailable:
    """Log the outage; return the error to answer with."""
    logger.error("The database is unavailable: %s", name_error(exc))
    logger.debug("The failing call:", exc_info=exc)
    for connection in connections.all(initialized_only=True):
        # Otherwise Django keeps the connection to a server that answers and takes no writes, as after a failover.
        if not connection.in_atomic_block:
            connection.close()
    return DatabaseUnavailable()


def repeat_after_conflict(transaction: Callable[[], T]) -> T:
    """Run a function that is one whole transaction; once more if a deadlock, or a cluster, has rolled it back.

    Nothing inside may catch such an error: the server would commit only what comes after it.
    """
    try:
        return transaction()
    except OperationalError as exc:
        seconds = CONFLICTS.get(exc.args[0]) if exc.args else None
        if seconds is None:
            raise
    time.sleep(seconds)
    return transaction()


def read_as_health_check(connection: Any, read: Callable[[], T]) -> T:
    """Run a function that only reads. It takes the place of Django's health check of a kept connection.

    Django sends a ping before a request's first query: one of a login's five round trips, and 3 % of its CPU. Here the
    query itself shows whether the connection is alive. If it is not, the query runs again on a new one.
    """
    is_unchecked = connection.connection is not None and not connection.health_check_done
    if not is_unchecked or connection.in_atomic_block:
        return read()
    connection.health_check_done = True  # undocumented; without it Django only sends its ping again
    try:
        return read()
    except Error:
        if connection.is_usable():
            raise
        connection.close()
    return read()


def repeat_read(execute: Callable[..., Any], sql: str, params: Any, many: bool, context: dict[str, Any]) -> Any:
    """Run a statement; once more if it is a read outside a transaction that was rolled back.

    Galera rolls back plain reads while another node changes a table. It repeats writes itself (wsrep_retry_autocommit).
    """
    try:
        return execute(sql, params, many, context)
    except OperationalError as exc:
        is_rolled_back = exc.args[:1] == (DEADLOCK,)
        if not (is_rolled_back and sql.startswith("SELECT") and context["connection"].get_autocommit()):
            raise
    return execute(sql, params, many, context)


@receiver(connection_created)
def repeat_reads(connection: Any, **kwargs: Any) -> None:
    """Repeat such reads in the whole process: the shop's own code reads accounts and tokens too."""
    if repeat_read not in connection.execute_wrappers:  # they outlive a connection
        connection.execute_wrappers.insert(0, repeat_read)  # at the end, connection.execute_wrapper() would remove it


class database_guard:
    """Context manager: an outage becomes DatabaseUnavailable. Not for use in a transaction that may be repeated."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, _: TracebackType | None) -> None:
        if exc is not None and is_outage(exc):
            raise report_outage(exc) from exc

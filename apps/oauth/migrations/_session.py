"""
How the migration uses its connection: with settings of its own, and one process at a time.

A part of the migrations, so it is frozen, and imports nothing of the app.
"""

from contextlib import contextmanager, suppress

from django.db import DatabaseError, Error

from ._refusals import refusal
from ._table import TABLE, run

SETTINGS = {  # while the migration runs, whatever the shop's are
    # The shop may have the year 0000 in its rows, an id 0, or quotes of its own. Texts must not be cut.
    "sql_mode": "STRICT_ALL_TABLES,NO_AUTO_VALUE_ON_ZERO,ALLOW_INVALID_DATES",
    "sql_quote_show_create": 1,
    # While ALTER TABLE waits for another transaction, every login waits behind it.
    "lock_wait_timeout": 5,  # seconds
}
LOCK = f"CONCAT('{TABLE} ', LEFT(SHA2(DATABASE(), 256), 40))"  # all databases of a server share the names of locks
SECONDS = 60  # to wait for the lock
NO_LOCKS = {1105, 1235}  # what clusters answer that do not support GET_LOCK


@contextmanager
def session(connection):
    """Apply SETTINGS while the block runs, and keep other processes out. On SQLite, its transaction does."""
    if connection.vendor != "mysql":
        yield
        return
    assign = f"SET SESSION {', '.join(f'{name} = %s' for name in SETTINGS)}"
    take_lock(connection)
    (before,) = run(connection, f"SELECT {', '.join(f'@@SESSION.{name}' for name in SETTINGS)}")
    run(connection, assign, [*SETTINGS.values()])
    try:
        yield
    finally:
        with suppress(Error):  # the connection may be gone, and the lock with it
            run(connection, assign, before)
            run(connection, f"DO RELEASE_LOCK({LOCK})")


def take_lock(connection):
    """Wait for another process that adopts or restores the table: both would move the same rows. Locks are nested."""
    try:
        ((has_lock,),) = run(connection, f"SELECT GET_LOCK({LOCK}, {SECONDS})")
    except DatabaseError as exc:
        if exc.args[0] not in NO_LOCKS:
            raise
    else:
        if not has_lock:
            raise refusal(f"Another process is migrating {TABLE}: wait until it has ended.")

"""
Show on a terminal the progress of a statement that takes longer than two seconds.

A part of the migrations, so it is frozen, and imports nothing of the app.
"""

import sys
import time
from contextlib import contextmanager, suppress
from threading import Event, Thread

from django.db import DatabaseError

from ._table import TABLE, run

SECONDS = 2  # before anything is shown
QUERIES = {  # the part that is done, of the statement that a connection runs
    "mariadb": "SELECT (stage - 1 + progress / 100) / max_stage FROM information_schema.processlist"
               " WHERE id = %s AND max_stage > 0",
    # Empty unless the server's consumer events_stages_current is switched on.
    "mysql": "SELECT work_completed / work_estimated FROM performance_schema.events_stages_current"
             " JOIN performance_schema.threads USING (thread_id) WHERE processlist_id = %s AND work_estimated > 0",
}


@contextmanager
def showing_progress(connection, work):
    """Show the progress of the statements that the block runs over the table, if stderr is a terminal."""
    if connection.vendor != "mysql" or not sys.stderr.isatty():
        yield
        return
    ((number, rows),) = run(connection, f"SELECT CONNECTION_ID(), COUNT(*) FROM {TABLE}")
    done = Event()
    thread = Thread(target=show, args=(connection, number, work, rows, done), daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def show(connection, number, work, rows, done):
    connection = connection.copy()  # a second one, because the first is busy; it belongs to this thread
    start, is_shown = time.monotonic(), False
    query = QUERIES["mariadb" if connection.mysql_is_mariadb else "mysql"]
    while not done.wait(SECONDS):
        part = None
        with suppress(DatabaseError):
            part = next((float(row[0]) for row in run(connection, query, [number]) if row[0]), None)
        line = describe(work, rows, part, time.monotonic() - start)
        print(f"\r    {line}\x1b[K", end="", file=sys.stderr, flush=True)
        is_shown = True
    connection.close()
    if is_shown:
        print("\r\x1b[K", end="", file=sys.stderr, flush=True)


def describe(work, rows, part, seconds):
    """Return the line to show; `part` is what is done, from 0 to 1, or None if the server does not say."""
    if part is None:
        return f"{work}: {rows:,} rows, {seconds:.0f} s so far"
    return f"{work}: {rows * part:,.0f} of {rows:,} rows, {seconds * (1 - part) / part:.0f} s left"

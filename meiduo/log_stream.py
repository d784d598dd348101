"""Logs on stdout and stderr that block no request: a line that the reader does not take in time is lost.

A full pipe (64 KiB), whose reader has stalled, blocks its writers. A full disk, and a pipe whose reader has ended,
refuse every line. Lost lines are counted, and reported in the same log once it can be written again.
"""

import logging
import os
import select
import stat
import time
import weakref
from contextlib import suppress

MAX_WAIT = 0.4  # seconds that all lines of a stream together wait for a slow reader; a login writes to two streams
RECOVERY = 10  # seconds until lines may wait again: a slow reader must not delay every request


class BoundedHandler(logging.StreamHandler):
    """logging's StreamHandler for stdout or stderr, which waits no longer than MAX_WAIT for the reader."""

    def __init__(self, stream=None):
        super().__init__(stream)
        with suppress(AttributeError, OSError, ValueError):  # some servers have an object of their own, without a file
            self.stream = BoundedStream(self.stream)

    def emit(self, record):
        lost = getattr(self.stream, "lost", 0)
        if lost:
            self.stream.lost = 0
            super().emit(make_report(record.name, lost))
            if self.stream.lost:  # the report is lost too, and so would be the line
                self.stream.lost = lost + 1
                return
        super().emit(record)


def make_report(name, lost):
    """Return the record of the logger `name` that says how many lines are lost."""
    message = "Lines of this log are lost: %d. Its disk was full, or its reader had stalled or ended."
    level = {"levelno": logging.ERROR, "levelname": "ERROR"}
    return logging.makeLogRecord({**level, "name": name, "msg": message, "args": (lost,), "lost": lost})


class BoundedStream:
    """The file of a text stream. `write` raises no OSError; it counts in `lost` each text that it could not write."""

    def __init__(self, stream):
        """Raise AttributeError, OSError or ValueError if the stream has no file."""
        self.name, self.encoding = stream.name, stream.encoding
        self.lost = 0
        self._file = stream.fileno()
        kind = os.fstat(self._file).st_mode
        if stat.S_ISFIFO(kind) or stat.S_ISCHR(kind):
            # Opened anew: O_NONBLOCK belongs to the opened file, and other processes write to the inherited one.
            with suppress(OSError):  # Linux only, and not for a pipe of another user
                path, flags = f"/proc/self/fd/{self._file}", os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY
                self._file = os.open(path, flags)
                weakref.finalize(self, os.close, self._file).atexit = False
        # A blocking file that is ready takes this many bytes without blocking, unless another process writes first. A
        # disk is always ready.
        self._max_write = select.PIPE_BUF if os.get_blocking(self._file) and not stat.S_ISREG(kind) else None
        self._is_cut = False  # whether the last line was written in part
        self._gives_up_at = self._recovers_at = 0.0

    def write(self, text):
        data = text.encode(self.encoding, "backslashreplace")
        rest = b"\n" + data if self._is_cut else data
        with suppress(OSError):
            while rest:
                try:
                    if self._max_write and not self._is_ready(0):
                        raise BlockingIOError
                    rest = rest[os.write(self._file, rest[: self._max_write]) :]
                except BlockingIOError:
                    self._wait()
        self.lost += bool(rest)
        self._is_cut = bool(rest) and (self._is_cut or len(rest) < len(data))

    def flush(self):
        """Do nothing: `write` keeps nothing back."""

    def _wait(self):
        """Return when the file takes more; raise BlockingIOError if it does not in time."""
        now = time.monotonic()
        if now > self._recovers_at:
            self._gives_up_at, self._recovers_at = now + MAX_WAIT, now + RECOVERY
        if now > self._gives_up_at or not self._is_ready(self._gives_up_at - now):
            raise BlockingIOError

    def _is_ready(self, seconds):
        poll = select.poll()
        poll.register(self._file, select.POLLOUT)
        return bool(poll.poll(seconds * 1000))

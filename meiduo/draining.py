"""Whether this server is about to end: one byte that gunicorn's main process shares with its workers."""

import mmap

_shared = mmap.mmap(-1, 1)  # made before the workers are forked; a reload does not replace it


def begin():
    _shared[0] = 1


def has_begun():
    return bool(_shared[0])

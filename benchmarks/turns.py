"""Logs in twenty users for each line read, in one process and one thread; prints the microseconds of CPU per login.

The `turns` scenario runs it with the settings of two builds, also with an older benchmarks/profiled.py beside it.
"""

import sys
import time

from benchmarks.profiled import begin_flow, get

LOGINS = 20


def answer(persons: int) -> None:
    for line in sys.stdin:
        numbers = range(int(line) * LOGINS, (int(line) + 1) * LOGINS)  # each has a client address of its own
        flows = [begin_flow(number, persons) for number in numbers]
        begin = time.process_time_ns()
        for number, (query, cookie) in zip(numbers, flows, strict=True):
            _, body = get("/oauth/qq/users/", query, cookie, number)
            assert b"user_id" in body, body
        print("µs", (time.process_time_ns() - begin) / LOGINS / 1000, flush=True)

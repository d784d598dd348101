"""Many users who log in, so many a second, and what has become of them."""

import random
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Event, Thread

from tests.cluster.users import User
from tests.tools.remote_users import new_person


class Load:
    """Every other user has a QQ that is bound already; the others bind theirs. `both`: see User."""

    def __init__(self, cluster, rate, *, both=False):
        self.cluster, self.rate, self.both = cluster, rate, both
        self.users, self.faults = [], []
        self.ended, self.thread = Event(), Thread(target=self._run)

    def wait(self, seconds):
        """Let the users go on for so long."""
        time.sleep(seconds)

    @contextmanager
    def fault(self):
        """Note that something breaks, or is repaired, while the block runs."""
        began = time.time()
        try:
            yield
        finally:
            self.faults.append((began, time.time()))

    def start(self):
        self.thread.start()

    def end(self):
        """Let no user begin any more, and wait for those under way."""
        self.ended.set()
        self.thread.join()

    def _run(self):
        began, calls = time.monotonic(), []
        with ThreadPoolExecutor(1000) as pool:
            while not self.ended.wait(max(0.0, began + len(calls) / self.rate - time.monotonic())):
                self.users.append(self._make_user())
                calls.append(pool.submit(self.users[-1].run))
        for call in calls:
            call.result()  # raises the error of a bug in the tests

    def _make_user(self):
        known = list(self.cluster.bound.copy().items())
        if known and len(self.users) % 2:
            return User(self.cluster, *random.choice(known))
        return User(self.cluster, new_person(), both=self.both)

    def seconds_from_fault(self, at):
        """Return how long before (negative) or after the nearest fault this was; 0 during one."""
        distances = [min(0, at - began) or max(0, at - ended) for began, ended in self.faults]
        return round(min(distances, key=abs), 1)

    # What has become of them

    @property
    def new_starts(self):
        """Count the reasons for which logins began anew."""
        return Counter(reason for user in self.users for reason in user.new_starts)

    @property
    def refused_at_start(self):
        return sum(user.was_refused_at_start for user in self.users)

    @property
    def share(self):
        """Return the part of the users who had to press the QQ button again, for whatever reason."""
        return sum(bool(user.new_starts) or user.was_refused_at_start for user in self.users) / len(self.users)

    @property
    def documented(self):
        return sum((user.documented for user in self.users), Counter())

    @property
    def undocumented(self):
        return Counter(what for user in self.users for what in user.undocumented)

    @property
    def given_up(self):
        return [user.given_up for user in self.users if user.given_up]

    @property
    def wrong_refusals(self):
        return sum(user.wrong_refusals for user in self.users)

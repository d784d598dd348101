"""A Redis cache behind Sentinels: every call goes to the master, and a failover of a few seconds only delays it.

After a planned failover the old master takes writes for ten more seconds, and then loses them. A killed one that comes
back empty calls itself a master too. So only the Sentinels decide which server is the master.
"""

import os
import secrets
import threading
import time
from collections import Counter
from contextlib import suppress
from functools import cache

from django.core.cache.backends import redis
from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, AuthorizationError, ConnectionError, RedisError, TimeoutError
from redis.retry import Retry
from redis.sentinel import MasterNotFoundError, Sentinel, SentinelConnectionPool

from .cache import READ_SIZE, KeptConnectionClient, RedisCache

ASK_EVERY = 0.25  # seconds between two questions to a Sentinel, by all threads of a process together
SENTINEL_TIMEOUT = 0.5  # seconds
PATIENCE = 5  # seconds from the start of an outage during which calls wait for its end
PAUSE = 0.1  # seconds between two tries
NEVER_RETRY = Retry(NoBackoff(), 0)  # redis-py's own repeat would take a lock of our own for somebody else's
REPEATABLE = {"GET", "SET", "DEL", "EXISTS", "EXPIRE", "PERSIST", "GETDEL", "INCRBY"}  # INCRBY may count twice


class Master(Sentinel):
    """Knows the master's address, for all threads of a process."""

    def __init__(self, sentinels, service, options):
        super().__init__(sentinels, sentinel_kwargs=options)
        self.service, self.address, self.asked_at, self.lock = service, None, 0, threading.Lock()
        self.outage_began = None

    def get_address(self):
        """Return host and port, known for at most ASK_EVERY unless a Sentinel is slow. Raises MasterNotFoundError."""
        if self.address is None:
            self.ask_all()
            if self.address is None:
                raise MasterNotFoundError("No Sentinel names a master.")
        elif time.monotonic() - self.asked_at > ASK_EVERY and self.lock.acquire(blocking=False):
            try:
                self.asked_at = time.monotonic()
                if self._ask(self.sentinels[0]) != self.address:
                    self._ask_all()
            finally:
                self.lock.release()
        return self.address

    def discover_master(self, service_name):
        """Return the address for a new connection, to redis-py.

        Its own method reads SENTINEL MASTERS, where the Sentinel that leads a failover names the old master for one
        more second.
        """
        return self.get_address()

    def ask_all(self):
        began = time.monotonic()
        with self.lock:
            if self.asked_at < began:  # otherwise another thread has asked while this one waited
                self._ask_all()

    def _ask_all(self):
        """Believe the majority: one Sentinel may have missed a failover."""
        self.asked_at = time.monotonic()
        answers = [(sentinel, self._ask(sentinel)) for sentinel in self.sentinels]
        # Those that answer come first: the first one is asked from now on.
        self.sentinels = [one for one, named in answers if named] + [one for one, named in answers if not named]
        votes = Counter(named for _, named in answers if named)
        if votes:
            self.address = max(votes, key=lambda named: (votes[named], named == self.address))

    def _ask(self, sentinel):
        """Return what one Sentinel says, or None: it is down, or does not know the service."""
        with suppress(RedisError):
            if named := sentinel.sentinel_get_master_addr_by_name(self.service):
                return named[0].decode(), named[1]

    def wait(self, seconds):
        """Wait during an outage, then ask again. Return False if it lasts too long: then calls fail at once.

        Otherwise all threads of the shop would soon be waiting.
        """
        began = self.outage_began = self.outage_began or time.monotonic()  # another thread may set it to None
        if time.monotonic() - began > PATIENCE:
            return False
        time.sleep(seconds)
        self.ask_all()
        return True


class MasterClient(Redis):
    """One kept connection to the master. A command that a failover interrupts is sent again, where that is safe."""

    def __init__(self, master, options):
        pool = SentinelConnectionPool(master.service, master, **options)
        super().__init__(connection_pool=pool)
        self.master, self.connection, self.is_sent = master, pool.make_connection(), False

    def execute_command(self, *args, **options):
        try:
            response = self._send(args, options)
        except RedisError as exc:
            # A counter that is given back twice would allow one try too many.
            if not is_interruption(exc) or args[0] not in REPEATABLE or (args[0] == "INCRBY" and args[2] < 0):
                raise
            response = self._repeat(exc, args, options)
        if args[0] not in ("GET", "EXISTS"):  # a master without enough replicas still answers reads
            self.master.outage_began = None
        return response

    def _send(self, args, options):
        connection, self.is_sent = self.connection, False
        has_moved = (connection.host, connection.port) != self.master.get_address()
        if has_moved or (args[0] == "GETDEL" and has_ended(connection)):
            connection.disconnect()
            connection.connect()  # here redis-py takes the address anew; where it reconnects by itself, it does not
        self.is_sent = True
        return super().execute_command(*args, **options)

    def _repeat(self, error, args, options):
        pause, may_be_done = 0, self.is_sent
        while self.master.wait(pause):
            try:
                response = self._send(args, options)
            except RedisError as exc:
                if not is_interruption(exc):
                    raise
                error, pause, may_be_done = exc, PAUSE, may_be_done or self.is_sent
            else:
                self.master.outage_began = None
                return self._explain(error, args) if response is None and may_be_done else response
        raise error

    def _explain(self, error, args):
        """Return the answer of a repeated command that changed nothing: its first attempt may have done it already."""
        if args[0] == "GETDEL":
            raise error  # the first attempt may have deleted the value, and its answer is lost
        if args[0] == "SET":
            # The same value means that the first attempt stored it. Only numbers can be equal by chance: a counter that
            # another call has just begun. Then one try is not counted; otherwise a user's first SMS could be refused.
            value = args[2] if isinstance(args[2], bytes) else str(args[2]).encode()
            return True if self._send(("GET", args[1]), {}) == value else None
        return None


def is_interruption(error):
    """Return whether the next master, or the same one in a moment, may answer the command."""
    if isinstance(error, (AuthenticationError, AuthorizationError, MasterNotFoundError)):
        return False  # no Sentinel has named a master since the process started: more likely a wrong setting
    return isinstance(error, (ConnectionError, TimeoutError)) or str(error).startswith("NOREPLICAS")


def has_ended(connection):
    """Return whether the server has closed an idle connection. A GETDEL on it would seem to be interrupted."""
    try:
        return connection.can_read()
    except ConnectionError:
        return True


class UniqueSerializer(redis.RedisSerializer):
    """Makes no two values the same, so that a repeated SET NX can tell the entry it made from anybody else's."""

    def dumps(self, obj):
        data = super().dumps(obj)
        return data + secrets.token_bytes(8) if isinstance(data, bytes) else data  # pickle ignores what follows


@cache
def get_master(pid, sentinels, service, options):
    """Return the process's Master. `options`: of the connections to Sentinels, as pairs."""
    return Master(sentinels, service, dict(options))


class SentinelCacheClient(KeptConnectionClient):
    def __init__(self, servers, *, service, sentinel_password=None, **options):
        super().__init__(servers, serializer=UniqueSerializer, **options)
        self.service, self.options = service, {**options, "retry": NEVER_RETRY}
        timeouts = dict.fromkeys(("socket_timeout", "socket_connect_timeout"), SENTINEL_TIMEOUT)
        own = {"db", "username", "password"}
        shared = {name: value for name, value in self.options.items() if name not in own}
        self.sentinel_options = shared | timeouts | {"password": sentinel_password}

    def connect(self):
        sentinels = tuple(map(tuple, self._servers))
        master = get_master(os.getpid(), sentinels, self.service, tuple(self.sentinel_options.items()))
        return MasterClient(master, self.options)


class SentinelCache(RedisCache):
    """LOCATION: the Sentinels, as [(host, port), …]. OPTIONS: `service`, and options of redis-py's connections."""

    client_class = SentinelCacheClient
    default_options = {"socket_read_size": READ_SIZE}

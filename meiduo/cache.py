"""Django's Redis cache at half its price: it makes a client and borrows a connection anew for each command."""

import os

from django.core.cache.backends import redis
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError
from redis.retry import Retry

TAKE = """
local kept = redis.call("GET", KEYS[1])
redis.call("DEL", KEYS[1])
return kept
"""  # GETDEL, for those before Redis 6.2 too


class KeptClient(redis.RedisCacheClient):
    pid = None

    def get_client(self, key=None, *, write=False):
        if self.pid != os.getpid():  # a process that was forked off must not read its parent's answers
            # One connection will do, as Django has a cache for each thread.
            pool = self._get_connection_pool(write=True)
            self.kept, self.pid = self._client(connection_pool=pool, single_connection_client=True), os.getpid()
        return self.kept

    def set(self, key, value, timeout):
        if timeout:
            self.ask("SET", key, self._serializer.dumps(value), "EX", timeout)
        else:
            super().set(key, value, timeout)

    def get_and_delete(self, key):
        value = self.ask("EVAL", TAKE, 1, key)
        return None if value is None else self._serializer.loads(value)

    def ask(self, *command):
        """Return Redis' answer, without what the client looks up and notes for each command. Raises RedisError."""
        client = self.get_client()
        connection = client.connection

        def ask_once():
            connection.send_command(*command)
            return connection.read_response()

        with client.single_connection_lock:  # asynchronous code may share a cache between its threads
            return connection.retry.call_with_retry(ask_once, lambda _error: connection.disconnect())


class RedisCache(redis.RedisCache):
    def __init__(self, server, params):
        # A connection that broke while it lay idle shows at the next command: that is sent once more, on a new one.
        params["OPTIONS"] = {"retry": Retry(NoBackoff(), 1, (ConnectionError,)), **params.get("OPTIONS", {})}
        super().__init__(server, params)
        self._class = KeptClient

    def get_and_delete(self, key, version=None):
        """Return what is kept under the key, or None, and keep it no longer: of all who ask at once, one gets it."""
        return self._cache.get_and_delete(self.make_key(key, version))

    def validate_key(self, key):
        pass  # Django looks at each for what memcached would not take

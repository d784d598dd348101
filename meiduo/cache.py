"""Django's Redis cache with one kept connection per thread, and GETDEL. Needs Redis 6.2 or later.

Django's own creates a client and borrows a connection for each command.
"""

import os

from django.core.cache.backends import redis
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError
from redis.retry import Retry

READ_SIZE = 4096  # bytes of a buffer that each thread keeps; redis-py's default is 65536, and our answers have hundreds


class KeptConnectionClient(redis.RedisCacheClient):
    pid = None

    def get_client(self, key=None, *, write=False):
        if self.pid != os.getpid():  # a forked process must not share its parent's connection
            self.kept, self.pid = self.connect(), os.getpid()
        return self.kept

    def connect(self):
        # Django has a cache object per thread, so one connection is enough.
        return self._client(connection_pool=self._get_connection_pool(write=True), single_connection_client=True)

    def get_and_delete(self, key):
        value = self.get_client(key, write=True).getdel(key)
        return None if value is None else self._serializer.loads(value)


class RedisCache(redis.RedisCache):
    client_class = KeptConnectionClient
    default_options = {
        # A connection that broke while idle fails at the next command, which is then sent once more on a new one.
        "retry": Retry(NoBackoff(), 1, (ConnectionError,)),
        "socket_read_size": READ_SIZE,
    }

    def __init__(self, server, params):
        params["OPTIONS"] = {**self.default_options, **params.get("OPTIONS", {})}
        super().__init__(server, params)
        self._class = self.client_class

    def validate_key(self, key):
        """Accept any key. Django's check, which reads each character, is for memcached."""

    def get_and_delete(self, key, version=None):
        """Return the value and delete it; None if there is none. Of several callers at once, one gets the value."""
        return self._cache.get_and_delete(self.make_and_validate_key(key, version))

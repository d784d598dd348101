"""Django's Redis cache at half its price: it makes a client and borrows a connection anew for each command."""

from functools import cached_property

from django.core.cache.backends import redis
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError
from redis.retry import Retry


class KeptClient(redis.RedisCacheClient):
    @cached_property
    def kept(self):
        # One connection will do, as Django has a cache for each thread.
        return self._client(connection_pool=self._get_connection_pool(write=True), single_connection_client=True)

    def get_client(self, key=None, *, write=False):
        return self.kept


class RedisCache(redis.RedisCache):
    def __init__(self, server, params):
        # A connection that broke while it lay idle shows at the next command: that is sent once more, on a new one.
        params["OPTIONS"] = {"retry": Retry(NoBackoff(), 1, (ConnectionError,)), **params.get("OPTIONS", {})}
        super().__init__(server, params)
        self._class = KeptClient

"""A cache in a Redis Cluster. Each key is read and written at its master."""

import os
from functools import cache

from redis.backoff import NoBackoff
from redis.cluster import ClusterNode, RedisCluster
from redis.retry import Retry

from .cache import READ_SIZE, KeptConnectionClient, RedisCache


@cache
def get_cluster(pid, nodes, options):
    """Return the process's client. Its threads share it, and with it the map of keys to nodes."""
    # Its own repeats are off: a repeated SET NX takes a lock of our own for somebody else's, and a repeated GETDEL
    # loses the value. It still follows a key that has moved.
    nodes = [ClusterNode(host, port) for host, port in nodes]
    return RedisCluster(startup_nodes=nodes, retry=Retry(NoBackoff(), 0), **dict(options))


class ClusterCacheClient(KeptConnectionClient):
    def __init__(self, servers, **options):
        super().__init__(servers, **options)
        self.options = options

    def connect(self):
        return get_cluster(os.getpid(), tuple(map(tuple, self._servers)), tuple(self.options.items()))


class ClusterCache(RedisCache):
    """LOCATION: some nodes, as [(host, port), …]. OPTIONS: those of redis-py's RedisCluster.

    Several keys at once, as in get_many(), are refused: they lie on different nodes.
    """

    client_class = ClusterCacheClient
    default_options = {"socket_read_size": READ_SIZE}

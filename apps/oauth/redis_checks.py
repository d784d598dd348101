"""What the system checks can say about the servers of a Redis cache without calling them."""

from typing import Any

from django.core.cache.backends import redis
from django.core.exceptions import ImproperlyConfigured


def has_usable_servers(cache: Any) -> bool:
    """Return whether django-redis's options for Sentinel or Redis Cluster fit together. True for other clients."""
    try:
        client = getattr(cache, "client", None)
    except ImproperlyConfigured:  # django-redis: no SENTINELS
        return False
    factory = getattr(client, "connection_factory", None)
    if factory is None:
        return True
    knows_sentinels = "SENTINELS" in factory.options or is_a(type(client), "SentinelClient")
    if knows_sentinels and not is_a(factory.pool_cls, "SentinelConnectionPool"):
        return False  # it would look up the name of the master in DNS
    if is_a(factory.redis_client_cls, "RedisCluster"):
        # django-redis's own methods give the client a pool, which RedisCluster does not take.
        return any(method.__module__ != "django_redis.pool" for method in (factory.connect, factory.get_connection))
    return "is_master=0" not in str(get_servers(client)[0])  # the first is written to


def has_one_server(cache: Any) -> bool:
    """Return whether the cache reads only from the server it writes to.

    False for a Redis client with replicas; servers that share the keys (shards) are fine.
    """
    client = cache if isinstance(cache, redis.RedisCache) else getattr(cache, "client", None)
    servers = get_servers(client)
    # Sentinels in place of URLs: of a cache class that asks them for the master.
    is_url = all(isinstance(server, str) for server in servers)
    return len(servers) < 2 or is_a(type(client), "ShardClient") or not is_url


def get_servers(client: Any) -> list[Any]:
    servers = getattr(client, "_servers" if isinstance(client, redis.RedisCache) else "_server", None)
    return [*servers] if isinstance(servers, (list, tuple)) else [servers]


def is_a(kind: Any, name: str) -> bool:
    return any(base.__name__ == name for base in kind.__mro__)

"""Faults of the Redis behind a cache, for `qq_doctor`: what kind of server it is, and what a failover would lose."""

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from django.core.checks import CheckMessage, Error, Warning

from ..cache import CACHE_ERRORS

READ = 'docs/operations.md, "The cache", shows how.'


def find_wrong_server(client: Any, name: str) -> Iterator[CheckMessage]:
    """Yield an error if the client of a cache, called `name`, speaks to a server that is not the one to write to."""
    if is_cluster_client(client):
        return
    with suppress(*CACHE_ERRORS):  # not allowed to read it, or out of reach
        info = client.info()
        mode = info.get("redis_mode")
        if mode == "sentinel":
            yield Error(f"{name} is a Sentinel, which stores nothing.", f"Let the client ask it for the master: {READ}")
        elif mode == "cluster":
            hint = f"Use a client for Redis Cluster: {READ}"
            yield Error(f"{name} is a node of a Redis Cluster, used as a single server: it refuses most keys.", hint)
        elif info.get("role") == "slave":
            problem = f"{name} is a replica of {info['master_host']}:{info['master_port']}."
            yield Error(problem, f"Connect to the master; if it changes, by Sentinel: {READ}")


def find_risks(client: Any) -> Iterator[CheckMessage]:
    """Yield warnings about the settings of the server, or of each master of a cluster."""
    if not is_cluster_client(client):
        yield from find_risks_of_server(client)
        return
    with suppress(*CACHE_ERRORS):
        if client.retry.get_retries():
            problem = "The client of the Redis Cluster repeats commands by itself, so logins may fail after a time-out."
            yield Warning(problem, "Create it with retry=Retry(NoBackoff(), 0).")
        for node in client.get_primaries():
            yield from find_risks_of_server(client.get_redis_connection(node))


def find_risks_of_server(client: Any) -> Iterator[CheckMessage]:
    with suppress(*CACHE_ERRORS):  # not allowed to read it
        config = client.config_get("*")
        if (policy := config.get("maxmemory-policy", "noeviction")) != "noeviction":
            yield Warning(f"Redis evicts entries when full: {policy}.", "Set maxmemory-policy noeviction.")
        if not client.info("replication").get("connected_slaves"):
            return
        if config.get("min-replicas-to-write") == "0":
            yield Warning(
                "A Redis master that lost its replicas still takes writes, which a failover then forgets: used states "
                "and codes would work again.",
                "Set min-replicas-to-write 1 and min-replicas-max-lag 10 on all of them.",
            )
        if (config.get("save"), config.get("appendonly")) == ("", "no"):
            yield Warning(
                "Redis saves nothing on disk. If it is restarted at once after a crash, it is empty, still the master, "
                "and its replicas empty themselves too.",
                "Switch its automatic restart off (systemd: Restart=no), or set appendonly yes.",
            )


def is_cluster_client(client: Any) -> bool:
    return hasattr(client, "get_primaries")

"""What qq_doctor says about the Redis behind a cache: not the master, or one that forgets."""

import pytest
from redis.cluster import RedisCluster

from meiduo import cluster_cache, environment
from tests.oauth.test_qq_doctor import findings, put_in_order
from tests.tools.processes import HOST
from tests.tools.redis_servers import redis_cluster, sentinel_group

pytestmark = pytest.mark.servers
DJANGO, PACKAGE = "django.core.cache.backends.redis.RedisCache", "django_redis.cache.RedisCache"


@pytest.fixture
def plugged_in(shop, db):
    put_in_order(shop)
    return shop


@pytest.fixture(scope="module")
def group(tmp_path_factory):
    with sentinel_group(tmp_path_factory.mktemp("group"), replicas=1) as group:
        yield group


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    with redis_cluster(tmp_path_factory.mktemp("cluster")) as cluster:
        yield cluster


def at(server, backend=DJANGO):
    return {"BACKEND": backend, "LOCATION": f"redis://{HOST}:{server.port}/0"}


@pytest.mark.parametrize("backend", [DJANGO, PACKAGE])
def test_server_that_is_not_the_master_is_named(plugged_in, group, cluster, backend):
    wrong = {
        group.replicas()[0]: f"is a replica of {HOST}:{group.master().port}.",
        group.sentinels[0]: "is a Sentinel, which stores nothing.",
        cluster.nodes[0]: "is a node of a Redis Cluster, used as a single server: it refuses most keys.",
    }
    for server, problem in wrong.items():
        plugged_in.CACHES = {"default": at(server, backend)}
        assert [found[:2] for found in findings()] == [("wrong", f'CACHES["default"] {problem}')]


def test_sms_codes_on_a_replica_are_wrong_too(plugged_in, group):
    plugged_in.QQ_ACCOUNT_SERIALIZER = "apps.oauth.contrib.meiduo.AccountSerializer"
    plugged_in.CACHES = {**plugged_in.CACHES, "verify_codes": at(group.replicas()[0], PACKAGE)}
    problem = f"The Redis with the SMS codes, 'verify_codes', is a replica of {HOST}:{group.master().port}."
    assert [found[:2] for found in findings()] == [("wrong", problem)]


@pytest.mark.parametrize("kind", ["Sentinel", "single"])
def test_master_that_would_forget_is_a_warning(plugged_in, group, kind):
    plugged_in.CACHES = {"default": environment.cache(group.url) if kind == "Sentinel" else at(group.master())}
    kinds, problems, _ = zip(*findings(), strict=True)
    assert set(kinds) == {"warning"}
    assert [problem.partition(" ")[0] for problem in problems] == ["A", "Redis"]
    with group.master().client() as client:
        client.config_set("min-replicas-to-write", 1)
        client.config_set("save", "3600 1")
        assert findings() == []
        client.config_set("min-replicas-to-write", 0)
        client.config_set("save", "")


class RepeatingClient(cluster_cache.ClusterCacheClient):
    def connect(self):
        host, port = self._servers[0]
        return RedisCluster(host, port)


class RepeatingCluster(cluster_cache.ClusterCache):
    client_class = RepeatingClient


def test_cluster_is_in_order_unless_its_client_repeats_commands(plugged_in, cluster):
    plugged_in.CACHES = {"default": environment.cache(cluster.url)}
    assert findings() == []
    plugged_in.CACHES = {"default": plugged_in.CACHES["default"] | {"BACKEND": f"{__name__}.RepeatingCluster"}}
    ((kind, problem, hint),) = findings()
    assert (kind, hint) == ("warning", "Create it with retry=Retry(NoBackoff(), 0).")
    assert problem.startswith("The client of the Redis Cluster repeats commands by itself")

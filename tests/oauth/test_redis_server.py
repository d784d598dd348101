"""What qq_doctor says about the Redis behind a cache: not the master, or one that forgets."""

from functools import cache
from urllib.parse import quote

import pytest
from django_redis import get_redis_connection
from django_redis.pool import ConnectionFactory
from redis.backoff import NoBackoff
from redis.cluster import RedisCluster
from redis.retry import Retry

from meiduo import cluster_cache, environment
from tests.conftest import MOBILE, PASSWORD
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
    password = quote(server.password or "", safe="")
    return {"BACKEND": backend, "LOCATION": f"redis://:{password}@{HOST}:{server.port}/0"}


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


def test_cache_that_fails_gets_the_hint_that_fits(plugged_in, group):
    def hint(cache):
        plugged_in.CACHES = {"default": cache}
        ((kind, _, hint),) = findings()
        return kind, hint

    master = group.master()
    address = at(master)["LOCATION"]
    assert hint(environment.cache(group.url.replace(f"/{group.service}/", "/other/"))) == (
        "wrong",
        "Check the Sentinels' addresses, and the name that they have for the master.",
    )
    login = "Check user and password. With requirepass alone there is no user: redis://:password@…"
    for backend in (DJANGO, PACKAGE):
        assert hint({"BACKEND": backend, "LOCATION": address.replace("://", "://user")}) == ("wrong", login)
    no_cluster = "Check whether it is a Redis Cluster, and whether each node can be reached."
    assert hint(environment.cache(address.replace("://", "+cluster://"))) == ("wrong", no_cluster)
    with master.client() as client:
        client.config_set("min-replicas-to-write", 5)
        no_replicas = "Start its replicas: it lacks those that min-replicas-to-write demands."
        assert hint(at(master)) == ("wrong", no_replicas)
        client.config_set("min-replicas-to-write", 0)
        client.config_set("maxmemory", 1)
        assert hint(at(master)) == ("wrong", "Redis is full: raise its maxmemory.")
        client.config_set("maxmemory", 0)


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


@cache
def get_cluster(url):
    return RedisCluster.from_url(url, retry=Retry(NoBackoff(), 0), socket_timeout=1, socket_connect_timeout=1)


class ClusterFactory(ConnectionFactory):
    def connect(self, url):
        return get_cluster(url)


def as_documented(kind, group, cluster):
    """Return the settings that docs/operations.md has for django-redis."""
    if kind == "cluster":
        return at(cluster.nodes[0], PACKAGE) | {"OPTIONS": {"CONNECTION_FACTORY": f"{__name__}.ClusterFactory"}}
    options = {
        "CLIENT_CLASS": "django_redis.client.SentinelClient",
        "CONNECTION_FACTORY": "django_redis.pool.SentinelConnectionFactory",
        "SENTINELS": [(HOST, sentinel.port) for sentinel in group.sentinels],
        "SENTINEL_KWARGS": {"password": group.password, "socket_timeout": 1, "socket_connect_timeout": 1},
        "PASSWORD": group.password,
        "SOCKET_TIMEOUT": 1,
        "SOCKET_CONNECT_TIMEOUT": 1,
    }
    return {"BACKEND": PACKAGE, "LOCATION": [f"redis://{group.service}/0"], "OPTIONS": options}


@pytest.mark.parametrize("kind", ["sentinel", "cluster"])
def test_django_redis_as_documented_does_a_whole_login(plugged_in, group, cluster, browser, kind):
    own = as_documented(kind, group, cluster)
    plugged_in.CACHES = {"default": own, "verify_codes": own}
    assert [found for found, _, _ in findings()] == (["warning"] * 2 if kind == "sentinel" else [])
    address = browser.sign_in()
    code = browser.come_back(address)["code"]
    assert browser.come_back(f"{address}&usercancel=1") == {"error": "state_used", "state": "/cart"}
    plugged_in.QQ_ACCOUNT_SERIALIZER = "apps.oauth.contrib.meiduo.AccountSerializer"
    redis = get_redis_connection("verify_codes")
    redis.set(f"sms_{MOBILE}", "123456", ex=60)
    form = {"mobile": MOBILE, "password": PASSWORD, "sms_code": "123456"}
    form["access_token"] = browser.redeem_code(code).json()["access_token"]
    assert browser.bind(form).status_code == 200
    assert redis.get(f"sms_{MOBILE}") is None  # a script has deleted it

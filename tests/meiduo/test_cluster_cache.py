"""The shop's cache in a Redis Cluster."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from django.core.cache import cache
from redis.exceptions import RedisClusterException

from apps.oauth import cache as oauth_cache
from apps.oauth.errors import CacheUnavailable
from meiduo import environment
from tests.conftest import MOBILE, PASSWORD, token_requests
from tests.oauth.test_cache import start
from tests.tools.redis_servers import redis_cluster

pytestmark = pytest.mark.servers


@pytest.fixture(scope="module")
def servers(tmp_path_factory):
    with redis_cluster(tmp_path_factory.mktemp("cluster")) as cluster:
        yield cluster


@pytest.fixture
def cluster(servers, shop):
    shop.CACHES = {"default": environment.cache(servers.url)}
    return servers


def test_whole_login_and_limits_work(cluster, browser, phone, qq, set_rates):
    address = browser.sign_in()
    code = browser.come_back(address)["code"]
    assert browser.come_back(address) == {"code": code, "state": "/cart"}
    assert browser.come_back(f"{address}&usercancel=1") == {"error": "state_used", "state": "/cart"}
    form = {"mobile": MOBILE, "password": PASSWORD, "access_token": browser.redeem_code(code).json()["access_token"]}
    user_id = browser.bind({**form, "sms_code": phone.receive_code()}).json()["user_id"]
    assert phone.ask_for_code().status_code == 429
    assert browser.redeem_code(browser.arrive()).json()["user_id"] == user_id
    assert token_requests(qq) == 2
    set_rates(qq_start="50/hour")
    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(start, range(100))).count(True) == 50
    cache.clear()
    assert browser.redeem_code(code).status_code != 200


def test_keys_of_a_dead_node_are_an_outage_and_the_others_work(cluster):
    for number in range(20):
        oauth_cache.set(f"key{number}", number, 60)
    dead = cluster.node_of(":1:key0")
    dead.kill()
    with pytest.raises(CacheUnavailable):
        oauth_cache.add("key0", 1, 60)
    others = [number for number in range(20) if cluster.node_of(f":1:key{number}") is not dead]
    assert [oauth_cache.get(f"key{number}") for number in others] == others
    with pytest.raises(RedisClusterException):
        cache.get_many(["key0", "key1"])

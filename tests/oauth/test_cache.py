"""Without the cache nothing works, and every answer says so."""

from concurrent.futures import ThreadPoolExecutor
from socket import gaierror

import pytest
from django.core.cache import cache
from django.core.cache.backends.locmem import LocMemCache
from django.test import Client
from pymemcache.exceptions import MemcacheError
from redis.exceptions import RedisClusterException, RedisError

from apps.oauth import cache as oauth_cache
from apps.oauth.models import OAuthQQUser
from tests.conftest import MOBILE, PASSWORD, error_of, invalid_fields, page_query, token_requests
from tests.oauth.views.test_apps import DOORS, App
from tests.oauth.views.test_bindings import SignedIn
from tests.tools import processes
from tests.tools.requirements import requirement

UNAVAILABLE = {"error": "cache_unavailable", "state": "/cart"}


class Unreachable(LocMemCache):
    def add(self, *args, **kwargs):
        raise self.error

    get = set = incr = add


def assert_nothing_works(browser, code, address, form):
    assert page_query(browser.get("/oauth/qq/login/?next=/cart")) == UNAVAILABLE
    assert browser.come_back(address) == UNAVAILABLE
    for answer in (browser.redeem_code(code), browser.bind(form)):
        assert error_of(answer) == (503, "cache_unavailable")
        assert answer["Retry-After"] == "2"


@requirement("1.3", "9.8")
@pytest.mark.parametrize(
    "error", [ConnectionError, TimeoutError, gaierror, RedisError, RedisClusterException, MemcacheError]
)
def test_nothing_works_while_the_cache_is_unreachable(browser, form, qq, shop, monkeypatch, error):
    code, address = browser.arrive(), browser.sign_in()
    before = token_requests(qq)
    monkeypatch.setattr(Unreachable, "error", error("gone"), raising=False)
    shop.CACHES = {"default": {"BACKEND": f"{__name__}.Unreachable"}}
    assert_nothing_works(browser, code, address, form)
    assert token_requests(qq) == before


@requirement("9.8")
@pytest.mark.parametrize("door", DOORS)
def test_no_door_opens_while_the_cache_is_unreachable_and_nothing_is_used_up(qq, account, shop, monkeypatch, door):
    app, user, working = App(qq, door), SignedIn(qq, account), shop.CACHES
    proof, token = app.prove(), user.get_bind_token("李思思")
    binding = OAuthQQUser.objects.create(user=account, openid="A" * 32)
    monkeypatch.setattr(Unreachable, "error", RedisError("gone"), raising=False)
    shop.CACHES = {"default": {"BACKEND": f"{__name__}.Unreachable"}}
    for answer in (app.send(proof), user.link(token), user.unlink(binding.pk)):
        assert error_of(answer) == (503, "cache_unavailable")
    shop.CACHES = working
    assert [answer.status_code for answer in (app.send(proof), user.link(token), user.unlink(binding.pk))] == [
        200,
        201,
        204,
    ]


class TakesNoUnlock(LocMemCache):
    """A cache that fails once the password was right, when the failures are to be forgotten."""

    def set(self, key, value, *args, **kwargs):
        if ":password:" in key:
            raise RedisError("gone")
        super().set(key, value, *args, **kwargs)

    def decr(self, *args, **kwargs):
        raise RedisError("gone")


def test_right_password_logs_in_though_its_failures_cannot_be_forgotten(client, account, use_cache):
    use_cache(f"{__name__}.TakesNoUnlock")
    right = {"username": MOBILE, "password": PASSWORD}
    assert client.post("/authorizations/", right, content_type="application/json").status_code == 200


# memcached ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def memcached_address(tmp_path_factory):
    if processes.find("memcached") is None:
        pytest.skip("no memcached")
    with processes.memcached(tmp_path_factory.mktemp("memcached")) as address:
        yield address


@pytest.fixture
def memcached(shop, memcached_address):
    backend = "django.core.cache.backends.memcached.PyMemcacheCache"
    shop.CACHES = {"default": {"BACKEND": backend, "LOCATION": memcached_address}}
    cache.clear()
    yield
    cache.close()


def start(_):
    """Call login/ in a thread, from an address not used before; return whether it was accepted."""
    try:
        answer = Client().get("/oauth/qq/login/", REMOTE_ADDR="198.18.0.1")
        return "error=throttled" not in answer["Location"]
    finally:
        cache.close()  # the thread's own connection


@requirement("9.7", "9.8")
@pytest.mark.servers
@pytest.mark.django_db(transaction=True)
def test_whole_login_and_limits_work_with_memcached_and_nothing_without(
    memcached, browser, phone, client, qq, shop, set_rates
):
    address = browser.sign_in()
    code = browser.come_back(address)["code"]
    assert browser.come_back(address) == {"code": code, "state": "/cart"}
    assert browser.come_back(f"{address}&usercancel=1") == {"error": "state_used", "state": "/cart"}
    form = {"mobile": MOBILE, "password": PASSWORD, "access_token": browser.redeem_code(code).json()["access_token"]}
    assert invalid_fields(browser.bind({**form, "sms_code": "000000"})) == ["sms_code"]
    form["sms_code"] = phone.receive_code()
    user_id = browser.bind(form).json()["user_id"]
    assert browser.bind(form).json()["user_id"] == user_id  # the repeat
    assert error_of(browser.bind({**form, "password": "another horse"})) == (400, "already_bound")
    assert phone.ask_for_code().status_code == 429
    assert browser.redeem_code(browser.arrive()).json()["user_id"] == user_id
    assert token_requests(qq) == 2

    wrong = {"username": "li4", "password": PASSWORD}
    answers = [client.post("/authorizations/", wrong, content_type="application/json") for _ in range(6)]
    assert [answer.status_code for answer in answers] == [400] * 5 + [429]

    set_rates(qq_start="50/hour")
    with ThreadPoolExecutor(8) as threads:
        starts = list(threads.map(start, range(100)))
    assert starts.count(True) == 50

    code, address = browser.arrive(), browser.sign_in()
    shop.CACHES = {"default": {**shop.CACHES["default"], "LOCATION": f"127.0.0.1:{processes.free_port()}"}}
    assert_nothing_works(browser, code, address, form)


@pytest.mark.servers
def test_one_of_many_callers_gets_a_value_on_memcached(memcached):
    def pop(_):
        try:
            return oauth_cache.pop("qq-login:value")
        finally:
            cache.close()  # the thread's own connection

    with ThreadPoolExecutor(8) as threads:
        for _ in range(30):
            oauth_cache.set("qq-login:value", "code", 60)
            assert sorted(map(str, threads.map(pop, range(8)))) == ["None"] * 7 + ["code"]

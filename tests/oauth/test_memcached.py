"""The limits and one whole login on memcached, the cache of many an older shop."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from apps.oauth.throttling import count
from django.core.cache import cache

from tests.conftest import MOBILE
from tests.tools import processes

pytestmark = [
    pytest.mark.servers,
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif(processes.find("memcached") is None, reason="no memcached"),
]


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    with processes.memcached(tmp_path_factory.mktemp("memcached")) as address:
        yield address


@pytest.fixture(autouse=True)
def memcached(shop, address):
    backend = "django.core.cache.backends.memcached.PyMemcacheCache"
    shop.CACHES = {"default": {"BACKEND": backend, "LOCATION": address}}
    cache.clear()
    yield
    cache.close()


def count_in_a_thread(_):
    try:
        return count("a", 60)
    finally:
        cache.close()  # each thread has a connection of its own


def test_no_two_callers_get_the_same_number():
    with ThreadPoolExecutor(16) as threads:
        assert sorted(threads.map(count_in_a_thread, range(200))) == list(range(1, 201))


def test_somebody_new_binds_and_gets_in_again_and_nothing_is_good_twice(browser, phone, qq):
    back = browser.sign_in()
    code = browser.come_back(back)["code"]
    assert browser.come_back(back)["error"] == "state_used"
    bind_token = browser.collect(code).json()["access_token"]
    form = {"mobile": MOBILE, "password": "correct horse", "access_token": bind_token}
    wrong = browser.bind({**form, "sms_code": "000000"})
    assert (wrong.status_code, wrong.json().keys()) == (400, {"sms_code", "message", "code"})
    form["sms_code"] = phone.receive_code()
    bound = browser.bind(form)
    assert bound.status_code == 200
    assert browser.bind(form).json()["user_id"] == bound.json()["user_id"]  # the identical repeat
    assert browser.bind({**form, "password": "another horse"}).json()["code"] == "already_bound"
    assert phone.ask_for_code().status_code == 429
    again = browser.collect(browser.arrive()).json()
    assert (again["user_id"], again["next"]) == (bound.json()["user_id"], "/cart")
    assert len(qq.requests("/oauth2.0/token")) == 2


def test_sixty_starts_a_minute_and_five_wrong_passwords(browser, client):
    starts = [browser.start() for _ in range(130)]  # of two minutes at most
    assert 60 <= sum("error=throttled" not in start for start in starts) <= 120
    login = {"username": "li4", "password": "correct horse"}
    answers = [client.post("/authorizations/", login, content_type="application/json") for _ in range(6)]
    assert [answer.status_code for answer in answers] == [400] * 5 + [429]


def test_a_memcached_that_is_gone_lets_nobody_pass(browser, form, shop):
    code, back = browser.arrive(), browser.sign_in()
    shop.CACHES = {"default": {**shop.CACHES["default"], "LOCATION": f"127.0.0.1:{processes.free_port()}"}}
    assert "error=cache_unavailable" in browser.start()
    assert browser.come_back(back)["error"] == "cache_unavailable"
    for answer in (browser.collect(code), browser.bind(form)):
        assert (answer.status_code, answer.json()["code"]) == (503, "cache_unavailable")

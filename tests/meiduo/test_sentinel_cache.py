"""The shop's cache behind Sentinels: it goes where they say, and a failover only delays calls."""

import socket
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.core.cache import cache
from redis.exceptions import ConnectionError, NoPermissionError, ResponseError
from redis.sentinel import MasterNotFoundError

from apps.oauth.cache import increment
from meiduo import environment, sentinel_cache
from tests.conftest import MOBILE, PASSWORD, error_of, token_requests
from tests.tools.processes import HOST, free_port, wait_until
from tests.tools.redis_servers import Server, sentinel_group
from tests.tools.requirements import requirement

pytestmark = pytest.mark.servers


@pytest.fixture
def group(tmp_path, shop):
    # The Sentinels must not take a busy machine's master for dead: where one dies, the test tells them.
    with sentinel_group(tmp_path, down_after=30_000, options=["min-replicas-to-write 1"]) as group:
        shop.CACHES = {"default": environment.cache(group.url)}
        yield group


def stored(server, key):
    with server.client() as client:
        return client.exists(f":1:{key}")


@requirement("15.18")
def test_flow_survives_a_killed_master_and_nothing_is_used_twice(group, browser, phone, qq):
    address = browser.sign_in()
    old = group.master()
    old.kill()
    with ThreadPoolExecutor(1) as threads:
        threads.submit(group.fail_over)
        code = browser.come_back(address)["code"]  # the call waits for the next master
    old.start()  # empty, and it calls itself the master
    form = {"mobile": MOBILE, "password": PASSWORD, "access_token": browser.redeem_code(code).json()["access_token"]}
    user_id = browser.bind({**form, "sms_code": phone.receive_code()}).json()["user_id"]
    assert browser.come_back(f"{address}&usercancel=1") == {"error": "state_used", "state": "/cart"}
    assert browser.redeem_code(code).json()["user_id"] == user_id  # the repeat
    assert browser.redeem_code(browser.arrive()).json()["user_id"] == user_id
    assert token_requests(qq) == 2


@requirement("15.18")
def test_writes_leave_the_old_master_while_it_still_takes_them(group):
    cache.set("before", 1)
    old = group.master()
    new = group.fail_over()

    def arrives():
        cache.set("after", 1)
        return stored(new, "after")

    wait_until(arrives, "writes arrive at the new master", 5)
    with old.client() as client:
        assert client.role()[0] == b"master"  # for ten seconds


def test_failover_with_paused_writes_loses_none(group):
    stop, written = threading.Event(), []

    def write():
        while not stop.is_set():
            cache.set(f"key{len(written)}", 1, 60)
            written.append(f"key{len(written)}")

    with ThreadPoolExecutor(1) as threads:
        writer = threads.submit(write)
        new = group.fail_over(pause_writes=4000)
        count = len(written)
        wait_until(lambda: len(written) > count + 10, "writing goes on")
        stop.set()
        writer.result()
    assert [key for key in written if not stored(new, key)] == []


def test_hanging_master_delays_calls_of_all_threads_and_each_lock_is_its_owners(group):
    def take(number):
        cache.set("seen", 1)
        ready.wait()
        return cache.add(f"lock{number}", True, 60), cache.get_and_delete(f"code{number}")

    for number in range(4):
        cache.set(f"code{number}", number)
    key = cache.make_key("code3")
    wait_until(lambda: all(server.client().exists(key) for server in group.servers), "the replicas have the values")
    ready = threading.Barrier(5)
    with ThreadPoolExecutor(4) as threads:
        taken = [threads.submit(take, number) for number in range(4)]
        wait_until(lambda: ready.n_waiting == 4, "all threads have a connection")
        group.master().pause()
        ready.wait()
        group.fail_over()
        assert [each.result() for each in taken] == [(True, number) for number in range(4)]


def test_value_that_is_not_there_is_no_outage_while_the_master_changes(group):
    cache.set("key", 1)
    group.master().kill()
    with ThreadPoolExecutor(1) as threads:
        threads.submit(group.fail_over)
        assert cache.get_and_delete("none") is None


def test_outage_that_does_not_end_fails_calls_and_then_at_once(group, browser, monkeypatch):
    monkeypatch.setattr(sentinel_cache, "PATIENCE", 0.2)
    cache.set("key", 1)
    for server in group.servers:
        server.kill()
    assert error_of(browser.redeem_code("any.thing.else")) == (503, "cache_unavailable")
    with pytest.raises(ConnectionError):
        cache.get("key")


def test_outage_may_end_while_other_calls_wait(monkeypatch):
    monkeypatch.setattr(sentinel_cache, "PATIENCE", -1)  # they give up at once
    master, is_over = sentinel_cache.Master([(HOST, free_port())], "shop", {}), threading.Event()

    def succeed():
        while not is_over.is_set():
            master.outage_began = None

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(1) as threads:
            threads.submit(succeed)
            try:
                assert not any(master.wait(0) for _ in range(300_000))
            finally:
                is_over.set()
    finally:
        sys.setswitchinterval(interval)


def test_sentinels_that_are_down_do_not_matter_until_an_address_is_needed(group, shop):
    cache.set("key", 1)
    for sentinel in group.sentinels:
        sentinel.kill()
    client, asked = cache._cache.get_client(), time.monotonic()
    wait_until(lambda: cache.get("key") == 1 and client.master.asked_at > asked, "they are asked again")
    group.sentinels[1].start()  # it remembers
    shop.CACHES = {"default": {**shop.CACHES["default"], "LOCATION": [*shop.CACHES["default"]["LOCATION"][:2]]}}
    assert cache.get("key") == 1
    shop.CACHES = {"default": environment.cache(f"redis+sentinel://{HOST}:{free_port()}/shop")}
    with pytest.raises(ConnectionError):
        cache.get("key")


def test_calls_of_all_threads_are_an_outage_while_no_sentinel_has_answered_yet(tmp_path, shop):
    sentinel = Server(tmp_path, [], arguments=["--sentinel"])
    sentinel.start()
    sentinel.pause()
    shop.CACHES = {"default": environment.cache(f"redis+sentinel://{HOST}:{sentinel.port}/shop")}
    try:
        with ThreadPoolExecutor(32) as threads:
            calls = [threads.submit(cache.get, "key") for _ in range(32)]
        assert [type(call.exception()) for call in calls] == [MasterNotFoundError] * 32
    finally:
        sentinel.stop()


def test_one_sentinel_that_missed_a_failover_is_not_believed(group):
    stale = group.sentinels[0]
    cache.set("key", 1)
    stale.pause()
    group.sentinels = group.sentinels[1:]
    new = group.fail_over()
    for sentinel in group.sentinels:
        sentinel.pause()
    stale.resume()  # for a moment it still names the old master
    for sentinel in group.sentinels:
        sentinel.resume()
    wait_until(lambda: cache.set("after", 1) or stored(new, "after"), "writes arrive at the new master", 5)


def test_write_waits_for_replicas_that_the_next_master_misses(group):
    with group.master().client() as client:
        client.config_set("min-replicas-to-write", 3)  # it has two: a write is refused, a read is not
        threading.Timer(0.5, client.config_set, ["min-replicas-to-write", 1]).start()
        assert cache.add("key", True, 60)
    assert cache.get("key") is True


def test_connection_that_ended_while_idle_interrupts_nothing(group):
    for read in (cache.get_and_delete, cache.get):
        cache.set("key", 1)
        with group.master().client() as client:
            client.client_kill_filter(_type="normal", skipme=True)
        assert read("none") is None
    assert cache.get("key") == 1


def test_refusals_of_the_server_are_not_repeated(group):
    cache.set("text", "no number")
    with pytest.raises(ResponseError):
        cache._cache.get_client().incr(":1:text")
    with group.master().client() as client:
        client.execute_command("ACL", "SETUSER", "default", "-get")
    with pytest.raises(NoPermissionError):
        cache.get("text")


# A server whose answer is lost ----------------------------------------------------------------------------------------


class Forgetful:
    """Passes everything on to a Redis, but ends a connection in place of the answer to a command with a chosen word."""

    def __init__(self, port):
        self.listener, self.target, self.word, self.lost = socket.create_server((HOST, 0)), port, None, 0
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=[client], daemon=True).start()

    def _serve(self, client):
        with client, socket.create_connection((HOST, self.target)) as server:
            while request := client.recv(65536):
                server.sendall(request)
                answer = server.recv(65536)
                if self.word and self.word in request:
                    self.word, self.lost = None, self.lost + 1
                    return
                client.sendall(answer)


@pytest.fixture
def forgetful(tmp_path, shop):
    server = Server(tmp_path, ['save ""'])
    server.start()
    proxy = Forgetful(server.port)
    sentinel = Server(tmp_path, [f"sentinel monitor shop {HOST} {proxy.port} 1"], arguments=["--sentinel"])
    sentinel.start()
    shop.CACHES = {"default": environment.cache(f"redis+sentinel://{HOST}:{sentinel.port}/shop")}
    yield proxy
    sentinel.stop()
    server.stop()
    proxy.listener.close()


def test_lock_whose_answer_was_lost_is_ones_own(forgetful):
    cache.get("key")
    forgetful.word = b"lock"
    assert cache.add("lock", True, 60)
    assert not cache.add("lock", True, 60)
    forgetful.word = b"lock"
    assert not cache.add("lock", True, 60)
    assert forgetful.lost == 2


def test_first_try_whose_answer_was_lost_is_counted_once(forgetful):
    cache.get("key")
    forgetful.word = b"tries"
    assert increment("tries", 60) == 1
    assert (forgetful.lost, cache.get("tries")) == (1, 1)


def test_value_whose_answer_was_lost_is_nobodys(forgetful):
    cache.set("code", "QQ's")
    forgetful.word = b"code"
    with pytest.raises(ConnectionError):
        cache.get_and_delete("code")
    assert cache.get_and_delete("code") is None
    assert forgetful.lost == 1


def test_lost_count_is_made_twice_and_a_lost_refund_not_at_all(forgetful):
    cache.set("tries", 3)
    forgetful.word = b"INCRBY"
    assert cache.incr("tries") == 5  # one try too few is safe, one too many is not
    forgetful.word = b"INCRBY"
    with pytest.raises(ConnectionError):
        cache.decr("tries")
    assert cache.get("tries") == 4
    assert forgetful.lost == 2

"""A worker, the database or the cache fails in the middle: nothing is half done, nobody is let in, and work goes on.

This shop has one worker and its own servers, so that they can be killed.
"""

import os
import signal
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from uuid import uuid4

import pytest
from redis import Redis

from tests.e2e.stops import ANSWERING, COMMITTED, SETTINGS, USER_WRITTEN, Stop
from tests.tools import processes
from tests.tools.requirements import requirement
from tests.tools.shoppers import (
    PASSWORD,
    Shopper,
    find_inconsistencies,
    new_mobile,
    query_database,
    read_page,
    shop_and_qq,
    status_and_code,
)

pytestmark = pytest.mark.servers

PAGES = ("/", "/oauth_callback.html", "/oauth/qq/authorization/?next=/cart")
CACHE_UNAVAILABLE = (503, "cache_unavailable")


class Site:
    """A shop whose servers can be stopped and started again on the same ports."""

    def __init__(self, folder):
        self.var = folder
        self.database, self.cache, self.rest = ExitStack(), ExitStack(), ExitStack()
        self.database_url = self.cache_url = None
        self.redis_port = processes.free_port()

    def start(self):
        self.start_database()
        self.start_cache()
        environ = {"DATABASE_URL": self.database_url, "CACHE_URL": self.cache_url, "QQ_TIMEOUT": "2"}
        serving = shop_and_qq(self.var, DJANGO_SETTINGS_MODULE=SETTINGS, **environ)
        self.shop, self.qq = self.rest.enter_context(serving)

    def new_shopper(self, person=None):
        return Shopper([self.shop], self.qq, person)

    def count_exchanges(self):
        return len(self.qq.requests("/oauth2.0/token"))

    def start_database(self):
        self.database_url = self.database.enter_context(processes.mariadb(self.var, self.database_url))

    def restart_database(self, _worker):
        self.database.close()
        self.start_database()

    def crash_database(self, worker):
        os.kill(int((self.var / "mariadb.pid").read_text()), signal.SIGKILL)
        self.restart_database(worker)

    def kill_worker(self, worker):
        os.kill(worker, signal.SIGKILL)

    def start_cache(self):
        self.cache_url = self.cache.enter_context(processes.redis(self.var, self.redis_port))

    def flush_cache(self):
        with Redis.from_url(self.cache_url) as redis:
            redis.flushall()

    @contextmanager
    def cache_stopped(self):
        self.cache.close()
        try:
            yield
        finally:
            self.start_cache()

    @contextmanager
    def cache_read_only(self):
        """Make the cache the replica of a master that does not exist, as after a failed failover."""
        with Redis.from_url(self.cache_url) as redis:
            redis.replicaof("127.0.0.1", processes.free_port())
            try:
                yield
            finally:
                redis.replicaof("NO", "ONE")

    def end(self):
        for stack in (self.rest, self.cache, self.database):
            stack.close()


@pytest.fixture(scope="module")
def running_site(tmp_path_factory):
    site = Site(tmp_path_factory.mktemp("site"))
    try:
        site.start()
        yield site
    finally:
        site.end()


@pytest.fixture
def site(running_site):
    running_site.qq.reset()
    yield running_site
    assert find_inconsistencies(running_site.database_url) == {}


@pytest.fixture
def shopper(site):
    return site.new_shopper()


@pytest.fixture
def form(shopper):
    return shopper.fill_in(new_mobile())


@pytest.fixture
def pool():
    with ThreadPoolExecutor(1) as pool:
        yield pool


@pytest.fixture
def bind_until(site, shopper, form, pool):
    """Send the form and hold the call at a moment while the block runs, which gets the stop and the future answer."""

    @contextmanager
    def bind_until(moment):
        with Stop(site.var, moment) as stop:
            sent = pool.submit(shopper.bind, form)
            stop.wait()
            yield stop, sent

    return bind_until


def assert_failed(call, failure):
    if failure == "kill_worker":
        with pytest.raises(OSError, match="closed connection"):
            call.result()
    else:
        assert_server_error(call.result())


def users_with(site, shopper, form):
    """Return the users who have the form's mobile, and those the shopper's openid is bound to."""
    return (
        query_database(site.database_url, "SELECT id FROM tb_users WHERE mobile = %s", form["mobile"]),
        query_database(
            site.database_url, "SELECT user_id FROM tb_oauth_qq WHERE openid = %s", site.qq.openid(shopper.person)
        ),
    )


def assert_logged_in(site, shopper, form, answer):
    """The answer is a login of the one user with the form's mobile and the shopper's openid; return that user."""
    assert status_and_code(answer) == (200, None)
    user_id = answer.json()["user_id"]
    assert users_with(site, shopper, form) == ([user_id], [user_id])
    me = shopper.visitor.get(f"{site.shop.url}/user/", Authorization=f"JWT {answer.json()['token']}")
    assert (me.status, me.json()["id"]) == (200, user_id)
    return user_id


def assert_can_bind(site, shopper):
    form = shopper.fill_in(new_mobile())
    assert_logged_in(site, shopper, form, shopper.bind(form))


def assert_gets_bind_token(answer):
    assert (answer.status, answer.json().keys()) == (200, {"access_token", "next"})


def assert_server_error(answer):
    assert answer.status in (500, 503)
    assert answer.json()["message"]


def assert_pages_work(site, shopper):
    assert [shopper.visitor.get(f"{site.shop.url}{path}").status for path in PAGES] == [200] * len(PAGES)


# Worker and database --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("failure", ["kill_worker", "restart_database", "crash_database"])
def test_failure_before_the_binding_is_written_leaves_nothing(site, shopper, form, bind_until, failure):
    with bind_until(USER_WRITTEN) as (stop, sent):
        getattr(site, failure)(stop.wait())
    assert_failed(sent, failure)
    assert users_with(site, shopper, form) == ([], [])
    assert_logged_in(site, shopper, form, shopper.bind(form))


@pytest.mark.parametrize("moment", [COMMITTED, ANSWERING])
@pytest.mark.parametrize("failure", ["kill_worker", "crash_database"])
def test_failure_after_the_commit_keeps_the_binding(site, shopper, form, bind_until, moment, failure):
    with bind_until(moment) as (stop, sent):
        getattr(site, failure)(stop.wait())
    if failure == "kill_worker":
        assert_failed(sent, failure)
    else:
        sent.result()  # a login or an error: the shop may or may not need the database for its answer
    (user_id,), _ = users_with(site, shopper, form)
    assert status_and_code(shopper.bind({**form, "password": "another horse"})) == (400, "already_bound")
    other_browser = site.new_shopper(shopper.person)
    assert status_and_code(other_browser.bind(form)) == (400, "bind_token_invalid")
    assert assert_logged_in(site, shopper, form, shopper.bind(form)) == user_id
    assert shopper.collect(shopper.arrive()).json()["user_id"] == user_id


@requirement("1.5")
def test_worker_killed_during_the_call_to_qq_does_not_send_the_code_again(site, bind_until, pool):
    with bind_until(ANSWERING) as (stop, sent):
        worker = stop.wait()
    assert sent.result().status == 200

    other = site.new_shopper()
    code, before = other.arrive(), site.count_exchanges()
    site.qq.behave(token={"fault": "hang", "times": 1})
    call = pool.submit(other.collect, code)
    processes.wait_until(lambda: site.count_exchanges() > before, "QQ is called")
    site.kill_worker(worker)
    assert_failed(call, "kill_worker")
    assert [status_and_code(other.collect(code)) for _ in range(2)] == [(503, "qq_unavailable")] * 2
    assert site.count_exchanges() == before + 1
    assert_gets_bind_token(other.collect(other.arrive()))


def test_nothing_is_used_up_while_the_database_is_down(site, shopper, form):
    arrived, signed_in = site.new_shopper(), site.new_shopper()
    code, callback = arrived.arrive(), signed_in.sign_in()
    site.database.close()
    try:
        assert_server_error(shopper.bind(form))
        assert_server_error(arrived.collect(code))
        assert "code" in signed_in.come_back(callback)  # needs no database
        assert_pages_work(site, shopper)
    finally:
        site.start_database()
    assert_gets_bind_token(arrived.collect(code))
    assert_logged_in(site, shopper, form, shopper.bind(form))


# Cache ----------------------------------------------------------------------------------------------------------------


@pytest.fixture(params=["cache_stopped", "cache_read_only"])
def outage(site, request):
    return getattr(site, request.param)


def solve_image_code(site, shopper):
    """Return the address that sends an SMS to a new number."""
    image_code_id = str(uuid4())
    shopper.visitor.get(f"{site.shop.url}/image_codes/{image_code_id}/")
    text = site.shop.last_line("captcha.log", id=image_code_id)["text"]
    return f"{site.shop.url}/sms_codes/{new_mobile()}/?text={text}&image_code_id={image_code_id}"


@requirement("9.8")
def test_nobody_passes_while_the_cache_is_down_and_everybody_can_start_again(site, outage):
    newcomer, signed_in, arrived, asking, filling_in, member = shoppers = [site.new_shopper() for _ in range(6)]
    callback = signed_in.sign_in()
    code = arrived.arrive()
    sms_address = solve_image_code(site, asking)
    form = filling_in.fill_in(new_mobile())
    members_form = member.fill_in(new_mobile())
    logged_in = member.bind(members_form).json()
    password = {"username": members_form["mobile"], "password": PASSWORD}
    exchanges, sent = site.count_exchanges(), (site.var / "sms.log").read_text()

    with outage():
        assert read_page(newcomer.start()) == {"error": "cache_unavailable", "state": "/cart"}
        assert signed_in.come_back(callback)["error"] == "cache_unavailable"
        assert status_and_code(arrived.collect(code)) == CACHE_UNAVAILABLE
        for answer in (
            asking.visitor.get(sms_address),
            member.visitor.post(f"{site.shop.url}/authorizations/", password),
            asking.visitor.get(f"{site.shop.url}/image_codes/00000000-0000-4000-8000-000000000000/"),
        ):
            assert status_and_code(answer) == CACHE_UNAVAILABLE
        assert status_and_code(filling_in.bind(form)) == CACHE_UNAVAILABLE
        assert status_and_code(member.bind(members_form)) == CACHE_UNAVAILABLE  # a repeat needs the cache too
        assert_pages_work(site, newcomer)
        me = member.visitor.get(f"{site.shop.url}/user/", Authorization=f"JWT {logged_in['token']}")
        assert (me.status, me.json()["id"]) == (200, logged_in["user_id"])
    assert site.count_exchanges() == exchanges
    assert (site.var / "sms.log").read_text() == sent
    assert users_with(site, filling_in, form) == ([], [])

    for shopper in shoppers[:-1]:
        assert_can_bind(site, shopper)
    assert member.visitor.post(f"{site.shop.url}/authorizations/", password).status == 200


def test_cache_lost_before_the_binding_is_written_rolls_the_bind_back(site, outage, shopper, form, bind_until):
    with bind_until(USER_WRITTEN) as (stop, sent), outage():
        stop.let_go()
        assert status_and_code(sent.result()) == CACHE_UNAVAILABLE
    assert users_with(site, shopper, form) == ([], [])
    again = shopper.bind(form)
    if status_and_code(again) == (400, "invalid"):  # the cache lost the SMS code; the openid is in the bind token
        assert again.json().keys() == {"sms_code", "message", "code"}
        again = shopper.bind({**form, "sms_code": shopper.receive_sms_code(form["mobile"])})
    assert_logged_in(site, shopper, form, again)


def test_cache_lost_after_the_commit_keeps_the_binding(site, outage, shopper, form, bind_until):
    with bind_until(COMMITTED) as (stop, sent), outage():
        stop.let_go()
        assert status_and_code(sent.result()) in [(200, None), CACHE_UNAVAILABLE]
    (user_id,), _ = users_with(site, shopper, form)
    # The second one where the cache has forgotten the first answer.
    assert status_and_code(shopper.bind(form)) in [(200, None), (400, "already_bound")]
    assert shopper.collect(shopper.arrive()).json()["user_id"] == user_id


def test_flushed_cache_lets_nobody_in_and_everybody_can_go_on(site):
    signed_in, arrived, asking, filling_in = (site.new_shopper() for _ in range(4))
    callback = signed_in.sign_in()
    code = arrived.arrive()
    sms_address = solve_image_code(site, asking)
    form = filling_in.fill_in(new_mobile())
    exchanges = site.count_exchanges()
    site.flush_cache()

    assert status_and_code(arrived.collect(code)) == (400, "code_invalid")
    assert site.count_exchanges() == exchanges
    refused = asking.visitor.get(sms_address)
    assert (refused.status, refused.json().keys()) == (400, {"message", "code", "text"})
    unproved = filling_in.bind(form)
    assert (unproved.status, unproved.json().keys()) == (400, {"sms_code", "message", "code"})
    assert users_with(site, filling_in, form) == ([], [])

    # The state is in the cookie and the openid in the bind token: both outlive the cache.
    assert_gets_bind_token(signed_in.collect(signed_in.come_back(callback)["code"]))
    again = filling_in.bind({**form, "sms_code": filling_in.receive_sms_code(form["mobile"])})
    assert_logged_in(site, filling_in, form, again)
    for shopper in (arrived, asking):
        assert_can_bind(site, shopper)


def test_values_used_before_a_flush_stay_used(site, shopper):
    callback = shopper.sign_in()
    cookies = list(shopper.visitor.cookies)  # stolen, together with the address
    form = shopper.fill_in(new_mobile(), shopper.collect(shopper.come_back(callback)["code"]).json()["access_token"])
    assert_logged_in(site, shopper, form, shopper.bind(form))
    site.flush_cache()

    assert status_and_code(shopper.bind(form)) == (400, "already_bound")
    for cookie in cookies:
        shopper.visitor.cookies.set_cookie(cookie)
    code = shopper.come_back(callback)["code"]
    assert status_and_code(shopper.collect(code)) == (400, "qq_rejected")  # QQ accepts a code once

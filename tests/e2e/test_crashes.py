"""A worker, the database or the cache fails in the middle: nothing is half done, nobody is let in, and work goes on.

This shop has one worker and its own servers, so that they can be killed.
"""

import os
import re
import signal
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager, suppress
from functools import partial
from urllib.parse import urlsplit

import pytest
from redis import Redis

from tests.e2e import proxies
from tests.e2e.stops import ANSWERING, BINDING_WRITTEN, COMMITTED, SETTINGS, USER_WRITTEN, Stop
from tests.tools import processes, remote_users
from tests.tools.remote_users import (
    PASSWORD,
    RemoteUser,
    at_once,
    connect_database,
    new_mobile,
    query_database,
    read_page,
    status_and_code,
    tally,
)
from tests.tools.requirements import requirement

pytestmark = pytest.mark.servers

PAGES = ("/", "/oauth_callback.html", "/oauth/qq/authorization/?next=/cart")
QQ_TIMEOUT, THREADS = 2, 16  # seconds; gunicorn's threads
CACHE_UNAVAILABLE, DATABASE_UNAVAILABLE = (503, "cache_unavailable"), (503, "database_unavailable")
DATABASE_DOWN = {"message": "服务暂时不可用，请稍后再试。", "code": "database_unavailable"}
READY, NOT_READY = (200, b'{"status": "ready"}'), (503, b'{"status": "not ready"}')
BIND_TOKEN, NO_SMS_CODE = {"access_token", "fields", "next"}, {"sms_code", "message", "code"}


class Site:
    """A shop whose servers can be stopped and started again on the same ports."""

    def __init__(self, folder, stack):
        self.var = folder
        self.database, self.cache = (stack.enter_context(ExitStack()) for _ in range(2))
        self.database_url, self.redis_port = None, processes.free_port()
        self.start_database()
        self.start_cache()
        environ = {"DATABASE_URL": self.database_url, "CACHE_URL": self.cache_url, "DJANGO_SETTINGS_MODULE": SETTINGS}
        environ |= {"QQ_TIMEOUT": str(QQ_TIMEOUT), "ADMIN_PATH": "back-office"}
        self.shop, self.qq = stack.enter_context(remote_users.shop_and_qq(self.var, threads=THREADS, **environ))

    def new_user(self, person=None):
        return RemoteUser([self.shop], self.qq, person)

    def count_exchanges(self):
        return len(self.qq.requests("/oauth2.0/token"))

    def start_database(self, *options):
        self.database_url = self.database.enter_context(processes.database(self.var, self.database_url, *options))

    def restart_database(self, _worker=None, *options):
        self.database.close()
        self.start_database(*options)

    def crash_database(self, worker):
        self.signal_database(signal.SIGKILL)
        self.restart_database(worker)

    def signal_database(self, number):
        os.kill(int((self.var / "database.pid").read_text()), number)

    @contextmanager
    def database_gone(self):
        self.database.close()
        try:
            yield
        finally:
            self.start_database()

    @contextmanager
    def database_silent(self):
        """Stop the process: the kernel still accepts connections and data for it."""
        self.signal_database(signal.SIGSTOP)
        try:
            yield
        finally:
            self.signal_database(signal.SIGCONT)

    @contextmanager
    def database_read_only(self):
        self.restart_database(None, "--read-only", "--loose-super-read-only")  # the latter is MySQL's, for this user
        try:
            yield
        finally:
            self.restart_database()

    @contextmanager
    def database_full(self):
        """Hold all connections that the database accepts."""
        from MySQLdb import OperationalError  # only installed where MariaDB is

        self.restart_database(None, "--max-connections=10")  # its minimum
        try:
            with ExitStack() as stack:
                with suppress(OperationalError):
                    while True:
                        stack.enter_context(closing(connect_database(self.database_url)))
                yield
        finally:
            self.restart_database()

    @contextmanager
    def cache_full(self):
        """Let the cache refuse writes that need memory, while it answers reads and takes deletions."""
        with Redis.from_url(self.cache_url) as redis:
            redis.config_set("maxmemory", 1)
            try:
                yield
            finally:
                redis.config_set("maxmemory", 0)

    def kill_worker(self, worker):
        os.kill(worker, signal.SIGKILL)

    def start_cache(self):
        self.cache_url = self.cache.enter_context(processes.redis(self.var, self.redis_port))

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

    @contextmanager
    def cache_silent(self):
        with Redis.from_url(self.cache_url) as redis:
            process = redis.info("server")["process_id"]
        os.kill(process, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(process, signal.SIGCONT)

    @contextmanager
    def table_unreadable(self):
        """Let the database answer SELECT 1, but not read the table, as a Galera node without a quorum does."""
        query_database(self.database_url, "RENAME TABLE tb_oauth_qq TO tb_away")
        try:
            yield
        finally:
            query_database(self.database_url, "RENAME TABLE tb_away TO tb_oauth_qq")


@pytest.fixture(scope="module")
def running_site(tmp_path_factory):
    with ExitStack() as stack:
        yield Site(tmp_path_factory.mktemp("site"), stack)


@pytest.fixture
def site(running_site):
    running_site.qq.reset()
    yield running_site
    assert remote_users.find_inconsistencies(running_site.database_url) == {}


@pytest.fixture
def user(site):
    return site.new_user()


@pytest.fixture
def form(user):
    return user.fill_in(new_mobile())


@pytest.fixture
def bind_until(site, user, form):
    """Send the form and hold the call at a moment while the block runs, which gets the stop and the future answer."""

    @contextmanager
    def bind_until(moment):
        with ThreadPoolExecutor(1) as pool, Stop(site.var, moment) as stop:
            sent = pool.submit(user.bind, form)
            stop.wait()
            yield stop, sent

    return bind_until


def assert_connection_closed(call):
    with pytest.raises(OSError, match="closed connection"):
        call.result()


def users_with(site, user, form):
    """Return the users who have the form's mobile, and those that the openid is bound to."""
    has_mobile = "SELECT id FROM tb_users WHERE mobile = %s", form["mobile"]
    is_bound_to = "SELECT user_id FROM tb_oauth_qq WHERE openid = %s", site.qq.openid(user.person)
    return query_database(site.database_url, *has_mobile), query_database(site.database_url, *is_bound_to)


def assert_logged_in(site, user, form, answer):
    """The answer is a login of the one user with the mobile and the openid; return that user."""
    assert status_and_code(answer) == (200, None)
    user_id = answer.json()["user_id"]
    assert users_with(site, user, form) == ([user_id], [user_id])
    me = user.visitor.get(f"{site.shop.url}/user/", Authorization=f"JWT {answer.json()['token']}")
    assert (me.status, me.json()["id"]) == (200, user_id)
    return user_id


def assert_can_bind(site, user):
    form = user.fill_in(new_mobile())
    assert_logged_in(site, user, form, user.bind(form))


def assert_names(status, names, answer):
    """The answer has this status and exactly these fields."""
    assert (answer.status, answer.json().keys()) == (status, names)


def assert_database_unavailable(*answers):
    for answer in answers:
        assert (answer.json(), answer.status) == (DATABASE_DOWN, 503)
        assert answer.headers["Retry-After"] == "5"


def assert_pages_work(site, user):
    assert [user.visitor.get(f"{site.shop.url}{path}").status for path in PAGES] == [200] * len(PAGES)


@pytest.mark.parametrize("failure", ["kill_worker", "restart_database", "crash_database"])
def test_failure_before_the_binding_is_written_leaves_nothing(site, user, form, bind_until, failure):
    with bind_until(USER_WRITTEN) as (stop, sent):
        getattr(site, failure)(stop.wait())
    if failure == "kill_worker":
        assert_connection_closed(sent)
    else:
        assert_database_unavailable(sent.result())
    assert users_with(site, user, form) == ([], [])
    assert_logged_in(site, user, form, user.bind(form))


@pytest.mark.parametrize("moment", [COMMITTED, ANSWERING])
@pytest.mark.parametrize("failure", ["kill_worker", "crash_database"])
def test_failure_after_the_commit_keeps_the_binding(site, user, form, bind_until, moment, failure):
    with bind_until(moment) as (stop, sent):
        getattr(site, failure)(stop.wait())
    if failure == "kill_worker":
        assert_connection_closed(sent)
    else:
        sent.result()  # a login or an error: the shop may or may not need the database for its answer
    (user_id,), _ = users_with(site, user, form)
    assert status_and_code(user.bind({**form, "password": "another horse"})) == (400, "already_bound")
    assert status_and_code(site.new_user(user.person).bind(form)) == (400, "bind_token_invalid")
    assert assert_logged_in(site, user, form, user.bind(form)) == user_id
    assert user.redeem_code(user.arrive()).json()["user_id"] == user_id


@requirement("1.5")
def test_worker_killed_during_the_call_to_qq_does_not_send_the_code_again(site, bind_until):
    with bind_until(ANSWERING) as (stop, sent):
        worker = stop.wait()
    assert sent.result().status == 200

    other = site.new_user()
    code, before = other.arrive(), site.count_exchanges()
    site.qq.behave(token={"fault": "hang", "times": 1})
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(other.redeem_code, code)
        processes.wait_until(lambda: site.count_exchanges() > before, "QQ is called")
        site.kill_worker(worker)
    assert_connection_closed(call)
    assert [status_and_code(other.redeem_code(code)) for _ in range(2)] == [CACHE_UNAVAILABLE] * 2
    assert site.count_exchanges() == before + 1
    assert_names(200, BIND_TOKEN, other.redeem_code(other.arrive()))


# The database --------------------------------------------------------------------------------------------------------


@pytest.fixture
def register(site):
    """A function that returns a call: it registers a new account by one form, as often as it is made."""

    def register(mobile=None):
        user, mobile = site.new_user(), mobile or new_mobile()
        form = {"username": f"u{mobile}", "mobile": mobile, "sms_code": user.receive_sms_code(mobile), "allow": True}
        form |= {"password": PASSWORD, "password2": PASSWORD}
        return lambda: user.visitor.post(f"{site.shop.url}/users/", form)

    return register


@pytest.mark.parametrize("outage", ["database_gone", "database_silent", "database_full"])
def test_every_door_names_an_outage_and_nothing_is_used_up(site, user, form, register, outage):
    arrived, signed_in, visitor, url = site.new_user(), site.new_user(), user.visitor, site.shop.url
    code, callback, member = arrived.arrive(), signed_in.sign_in(), register()().json()
    password = {"username": member["username"], "password": PASSWORD}
    token = {"Authorization": f"JWT {member['token']}"}
    doors = [
        lambda: user.bind(form),
        lambda: arrived.redeem_code(code),
        lambda: visitor.post(f"{url}/authorizations/", password),
        lambda: visitor.get(f"{url}/user/", **token),
        lambda: visitor.get(f"{url}/mobiles/{form['mobile']}/count/"),
        lambda: visitor.get(f"{url}/usernames/{member['username']}/count/"),
        lambda: visitor.get(f"{url}/back-office/", Cookie=f"sessionid={'x' * 32}"),
    ]
    log = next(site.var.glob("shop-*.log"))
    before = len(log.read_text())
    with ThreadPoolExecutor(THREADS) as pool, getattr(site, outage)():
        calls = [pool.submit(door) for door in doors for _ in range(6)]  # one more than may fail
        seconds = -(-len(calls) // THREADS) * (QQ_TIMEOUT + 5)
        processes.wait_until(lambda: all(call.done() for call in calls), "all threads are free again", seconds)
        assert_database_unavailable(*(call.result() for call in calls))
        assert "code" in signed_in.come_back(callback)  # needs no database
        assert_pages_work(site, user)
    logged = log.read_text()[before:]
    assert (
        logged.count("ERROR apps.oauth.database: The database is unavailable: OperationalError ")
        == logged.count("ERROR")
        == len(calls)
    )
    assert "Traceback" not in logged
    assert [door().status for door in doors] == [200] * (len(doors) - 1) + [302]


def test_read_only_database_uses_up_no_try_and_no_sms_code(site, user, form, register):
    doors = [lambda: user.bind(form), register()]
    with site.database_read_only():
        for door in doors:
            assert_database_unavailable(*(door() for _ in range(6)))
    assert [door().status for door in doors] == [200, 201]


def test_restart_of_the_database_costs_no_call(site, user, form):
    def count():
        return at_once(*[lambda: user.visitor.get(f"{site.shop.url}/mobiles/{new_mobile()}/count/")] * THREADS)

    def log_in():
        return at_once(*[partial(user.redeem_code, user.arrive()) for _ in range(THREADS // 2)])

    user.bind(form)
    for call in (count, log_in):
        count()  # each thread keeps its connection
        site.restart_database()
        assert {status for status, _ in tally(call())} == {200}


@pytest.mark.parametrize("lock", ["SELECT id FROM tb_users FOR UPDATE", "LOCK TABLES tb_users WRITE"])
def test_bind_that_waits_for_a_lock_ends_within_seconds(site, user, form, lock):
    with ThreadPoolExecutor(1) as pool, closing(connect_database(site.database_url)) as other:
        other.cursor().execute(lock)
        call = pool.submit(user.bind, form)
        processes.wait_until(call.done, "the bind ends", QQ_TIMEOUT + 5)
        assert_database_unavailable(call.result())
    assert_logged_in(site, user, form, user.bind(form))


def test_bind_whose_commit_is_not_answered_may_have_been_written(site, user, form, bind_until):
    with bind_until(BINDING_WRITTEN) as (stop, sent), site.database_silent():
        stop.let_go()
        assert_database_unavailable(sent.result(), user.bind(form))
    user_id = assert_logged_in(site, user, form, user.bind(form))
    assert user.redeem_code(user.arrive()).json()["user_id"] == user_id


@pytest.fixture
def reset(site, register):
    """A function that returns a call: it resets the password of a new account by one form."""

    def reset():
        user, mobile = site.new_user(), new_mobile()
        assert register(mobile)().status == 201
        with Redis.from_url(site.cache_url) as redis:
            redis.flushall()  # otherwise the number gets its next SMS in a minute
        form = {"mobile": mobile, "password": "another horse", "sms_code": user.receive_sms_code(mobile)}
        return lambda: user.visitor.post(f"{site.shop.url}/password/", form)

    return reset


@pytest.mark.parametrize(("name", "status"), [("register", 201), ("reset", 200)])
def test_commit_that_fails_uses_up_no_sms_code(request, site, name, status):
    send = request.getfixturevalue(name)()
    with ThreadPoolExecutor(1) as pool, Stop(site.var, USER_WRITTEN) as stop:
        sent = pool.submit(send)
        site.restart_database(stop.wait())
    assert_database_unavailable(sent.result())
    assert send().status == status


# The cache ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("outage", ["cache_full", "cache_read_only"])
def test_call_that_has_qqs_answer_logs_in_without_the_cache(site, user, form, outage):
    user_id = user.bind(form).json()["user_id"]
    code, before = user.arrive(), site.count_exchanges()
    site.qq.behave(token={"fault": "slow", "seconds": 1})
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(user.redeem_code, code)
        processes.wait_until(lambda: site.count_exchanges() > before, "QQ is called")
        with getattr(site, outage)():
            assert call.result().json()["user_id"] == user_id
            assert status_and_code(user.redeem_code(code)) == CACHE_UNAVAILABLE
    assert status_and_code(user.redeem_code(code)) == CACHE_UNAVAILABLE  # the answer is lost
    assert site.count_exchanges() == before + 1
    assert user.redeem_code(user.arrive()).json()["user_id"] == user_id


@pytest.fixture(params=["cache_stopped", "cache_read_only", "cache_full"])
def outage(site, request):
    return getattr(site, request.param)


@requirement("9.8")
def test_nobody_passes_while_the_cache_is_down_and_everybody_can_start_again(site, outage):
    newcomer, signed_in, arrived, asking, filling_in, member = everybody = [site.new_user() for _ in range(6)]
    callback, code = signed_in.sign_in(), arrived.arrive()
    sms_address = site.shop.sms_address(asking.visitor, new_mobile())
    form = filling_in.fill_in(new_mobile())
    members_form = member.fill_in(new_mobile())
    logged_in = member.bind(members_form).json()
    password = {"username": members_form["mobile"], "password": PASSWORD}
    before = site.count_exchanges(), (site.var / "sms.log").read_text()

    is_full = outage == site.cache_full  # then it gives out what it holds, each code once
    with outage():
        assert read_page(newcomer.start()) == {"error": "cache_unavailable", "state": "/cart"}
        assert signed_in.come_back(callback)["error"] == "cache_unavailable"
        assert status_and_code(arrived.redeem_code(code)) == ((200, None) if is_full else CACHE_UNAVAILABLE)
        for answer in (
            arrived.redeem_code(code),
            asking.visitor.get(sms_address),
            member.visitor.post(f"{site.shop.url}/authorizations/", password),
            asking.visitor.get(f"{site.shop.url}/image_codes/00000000-0000-4000-8000-000000000000/"),
            filling_in.bind(form),
            member.bind(members_form),  # a repeat needs the cache too
        ):
            assert status_and_code(answer) == CACHE_UNAVAILABLE
        assert_pages_work(site, newcomer)
        me = member.visitor.get(f"{site.shop.url}/user/", Authorization=f"JWT {logged_in['token']}")
        assert (me.status, me.json()["id"]) == (200, logged_in["user_id"])
    assert (site.count_exchanges() - is_full, (site.var / "sms.log").read_text()) == before
    assert users_with(site, filling_in, form) == ([], [])

    for user in everybody[:-1]:
        assert_can_bind(site, user)
    assert member.visitor.post(f"{site.shop.url}/authorizations/", password).status == 200


def test_cache_lost_before_the_binding_is_written_rolls_the_bind_back(site, outage, user, form, bind_until):
    with bind_until(USER_WRITTEN) as (stop, sent), outage():
        stop.let_go()
        assert status_and_code(sent.result()) == CACHE_UNAVAILABLE
    assert users_with(site, user, form) == ([], [])
    again = user.bind(form)
    if status_and_code(again) == (400, "invalid"):  # the cache lost the SMS code; the openid is in the bind token
        assert_names(400, NO_SMS_CODE, again)
        again = user.bind({**form, "sms_code": user.receive_sms_code(form["mobile"])})
    assert_logged_in(site, user, form, again)


def test_cache_lost_after_the_commit_keeps_the_binding(site, outage, user, form, bind_until):
    with bind_until(COMMITTED) as (stop, sent), outage():
        stop.let_go()
        assert status_and_code(sent.result()) in [(200, None), CACHE_UNAVAILABLE]
    (user_id,), _ = users_with(site, user, form)
    # The second one where the cache has forgotten the first answer.
    assert status_and_code(user.bind(form)) in [(200, None), (400, "already_bound")]
    assert user.redeem_code(user.arrive()).json()["user_id"] == user_id


def test_flushed_cache_lets_nobody_in_and_everybody_can_go_on(site):
    signed_in, arrived, asking, filling_in, member = (site.new_user() for _ in range(5))
    callback, used_callback = signed_in.sign_in(), member.sign_in()
    stolen_cookies = list(member.visitor.cookies)
    code, members_code = arrived.arrive(), member.come_back(used_callback)["code"]
    sms_address = site.shop.sms_address(asking.visitor, new_mobile())
    form = filling_in.fill_in(new_mobile())
    members_form = member.fill_in(new_mobile(), member.redeem_code(members_code).json()["access_token"])
    assert_logged_in(site, member, members_form, member.bind(members_form))
    exchanges = site.count_exchanges()
    with Redis.from_url(site.cache_url) as redis:
        redis.flushall()

    assert status_and_code(arrived.redeem_code(code)) == (400, "code_invalid")
    assert site.count_exchanges() == exchanges
    assert_names(400, {"text", "message", "code"}, asking.visitor.get(sms_address))
    assert_names(400, NO_SMS_CODE, filling_in.bind(form))
    assert users_with(site, filling_in, form) == ([], [])
    assert status_and_code(member.bind(members_form)) == (400, "already_bound")
    for cookie in stolen_cookies:
        member.visitor.cookies.set_cookie(cookie)
    code = member.come_back(used_callback)["code"]
    assert status_and_code(member.redeem_code(code)) == (400, "qq_rejected")  # QQ accepts a code once

    # The state is in the cookie and the openid in the bind token: both outlive the cache.
    assert_names(200, BIND_TOKEN, signed_in.redeem_code(signed_in.come_back(callback)["code"]))
    again = filling_in.bind({**form, "sms_code": filling_in.receive_sms_code(form["mobile"])})
    assert_logged_in(site, filling_in, form, again)
    for user in (arrived, asking):
        assert_can_bind(site, user)


# Readiness ------------------------------------------------------------------------------------------------------------

OUTAGES = {
    "database": ("database_gone", "database_silent", "database_read_only", "table_unreadable"),
    "cache": ("cache_stopped", "cache_silent", "cache_read_only", "cache_full"),
}


@pytest.fixture
def probe(site):
    """A function that returns the answer of /readyz; the shop is ready."""

    def probe():
        answer = processes.Visitor().get(f"{site.shop.url}/readyz")
        return answer.status, answer.body

    processes.wait_until(lambda: probe() == READY, "the shop is ready")
    return probe


@requirement("15.16")
@pytest.mark.parametrize(("server", "outage"), [(server, outage) for server in OUTAGES for outage in OUTAGES[server]])
def test_shop_is_ready_only_while_database_and_cache_can_serve(site, probe, server, outage):
    (log,) = site.var.glob("shop-*.log")
    before = len(log.read_text())
    with getattr(site, outage)():
        processes.wait_until(lambda: probe() == NOT_READY, "the shop is not ready")
        assert set(at_once(*[probe] * 2 * THREADS)) == {NOT_READY}
        assert processes.Visitor().get(f"{site.shop.url}/healthz").body == b'{"status": "alive"}'
    processes.wait_until(lambda: probe() == READY, "the shop is ready again")
    lines = re.findall(r" (\w+) meiduo\.health: (.*) host=", log.read_text()[before:])
    (bad, reason), good = lines
    assert (bad, reason.rpartition(": ")[0]) == ("ERROR", f"Not ready: the {server} cannot serve")
    assert good == ("WARNING", f"The {server} can serve again.")


def test_flood_of_probes_costs_one_connection_at_most(site, probe):
    def count_connections():
        return int(query_database(site.database_url, "SHOW GLOBAL STATUS LIKE 'Connections'")[0][1])

    before = count_connections()
    assert set(at_once(*[probe] * 100)) == {READY}
    assert count_connections() - before <= 2  # one is this test's own


@pytest.mark.skipif(not processes.find("haproxy"), reason="no haproxy")
def test_shop_that_is_not_ready_still_answers_through_haproxy(site, probe, tmp_path):
    log = tmp_path / "haproxy.log"
    with ExitStack() as stack:
        stack.enter_context(proxies.certificate(tmp_path))
        _, https = stack.enter_context(proxies.haproxy(tmp_path, tmp_path, urlsplit(site.shop.url).netloc))
        stack.enter_context(site.cache_stopped())
        processes.wait_until(lambda: "Server shops/shop1 is DOWN" in log.read_text(), "haproxy has noticed")
        answer = processes.Visitor().get(f"{https}/oauth/qq/users/?code=none")
        assert status_and_code(answer) == CACHE_UNAVAILABLE
        assert processes.Visitor().get(f"{https}/login.html").status == 200

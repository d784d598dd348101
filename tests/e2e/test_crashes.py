"""A worker, the database or the cache that goes away in the middle: nothing half-done, nobody let in, all goes on.

The shop here has one worker and servers of its own, so that they can be killed. What it is asked next after a crash
can be answered by nobody but a new worker.
"""

import os
import signal
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from uuid import uuid4

import pytest
from redis import Redis

from tests.e2e.crashing_seams import ANSWERING, COMMITTED, SETTINGS, USER_WRITTEN, Stop
from tests.tools import processes
from tests.tools.shoppers import PASSWORD, Shopper, ask_database, find_wrongs, new_mobile, read_page, shop_and_qq, told

pytestmark = pytest.mark.servers

TIMEOUT = 2  # seconds the shop gives QQ here
PAGES = ("/", "/oauth_callback.html", "/oauth/qq/authorization/?next=/cart")
CACHE_IS_DOWN = (503, "cache_unavailable")


class Site:
    """A shop whose servers can be stopped and started again, each where it was."""

    def __init__(self, folder):
        self.folder = folder
        self.database, self.cache, self.rest = ExitStack(), ExitStack(), ExitStack()
        self.database_url = self.cache_url = None
        self.redis_port = processes.free_port()

    def start(self):
        self.start_database()
        self.start_cache()
        environ = {"DATABASE_URL": self.database_url, "CACHE_URL": self.cache_url, "QQ_TIMEOUT": str(TIMEOUT)}
        serving = shop_and_qq(self.folder, DJANGO_SETTINGS_MODULE=SETTINGS, **environ)
        self.shop, self.qq = self.rest.enter_context(serving)
        self.var = self.folder

    def start_database(self):
        self.database_url = self.database.enter_context(processes.mariadb(self.folder, self.database_url))

    def kill_database(self):
        os.kill(int((self.folder / "mariadb.pid").read_text()), signal.SIGKILL)
        self.stop_database()

    def stop_database(self):
        self.database.close()

    def start_cache(self):
        self.cache_url = self.cache.enter_context(processes.redis(self.folder, self.redis_port))

    def stop_cache(self):
        self.cache.close()

    def flush_cache(self):
        with Redis.from_url(self.cache_url) as redis:
            redis.flushall()

    @contextmanager
    def cache_stopped(self):
        self.stop_cache()
        try:
            yield
        finally:
            self.start_cache()

    @contextmanager
    def cache_read_only(self):
        """While the block runs, the cache is what it is after a fail-over went wrong: a replica of nobody."""
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
    assert find_wrongs(running_site.database_url) == {}


@pytest.fixture
def shopper(site):
    return Shopper([site.shop], site.qq)


@pytest.fixture
def form(shopper):
    return shopper.fill_in(new_mobile())


@pytest.fixture
def pool():
    with ThreadPoolExecutor(1) as pool:
        yield pool


def users_with(site, mobile):
    return ask_database(site.database_url, "SELECT id FROM tb_users WHERE mobile = %s", mobile)


def users_bound_to(site, openid):
    return ask_database(site.database_url, "SELECT user_id FROM tb_oauth_qq WHERE openid = %s", openid)


def assert_nothing_is_done(site, shopper, form):
    assert users_with(site, form["mobile"]) == users_bound_to(site, site.qq.openid(shopper.person)) == []


def assert_is_bound_once(site, shopper, form, answer):
    """The answer is a login of the one user that has the form's mobile and the shopper's openid."""
    assert told(answer) == (200, None)
    user_id = answer.json()["user_id"]
    assert users_with(site, form["mobile"]) == users_bound_to(site, site.qq.openid(shopper.person)) == [user_id]
    me = shopper.visitor.get(f"{site.shop.url}/user/", Authorization=f"JWT {answer.json()['token']}")
    assert (me.status, me.json()["id"]) == (200, user_id)


def assert_another_can_log_in(site):
    other = Shopper([site.shop], site.qq)
    form = other.fill_in(new_mobile())
    assert_is_bound_once(site, other, form, other.bind(form))


def assert_gets_in_by_the_button(shopper, user_id):
    answer = shopper.collect(shopper.arrive())
    assert (answer.status, answer.json().get("user_id")) == (200, user_id)


def is_server_error(answer):
    """An answer in JSON with a sentence, that nothing was done about the call or that it is not known."""
    return answer.status in (500, 503) and bool(answer.json()["message"])


# The worker -----------------------------------------------------------------------------------------------------------


def test_a_worker_killed_before_the_binding_is_written_leaves_nothing_and_the_same_form_succeeds(
    site, shopper, form, pool
):
    with Stop(site.var, USER_WRITTEN) as stop:
        lost = pool.submit(shopper.bind, form)
        os.kill(stop.wait(), signal.SIGKILL)
        with pytest.raises(OSError, match="closed connection"):
            lost.result()
    assert_nothing_is_done(site, shopper, form)
    assert_is_bound_once(site, shopper, form, shopper.bind(form))


@pytest.mark.parametrize("moment", [COMMITTED, ANSWERING])
def test_a_worker_killed_before_it_answers_has_bound_and_the_same_form_gets_the_login(
    site, shopper, form, pool, moment
):
    with Stop(site.var, moment) as stop:
        lost = pool.submit(shopper.bind, form)
        os.kill(stop.wait(), signal.SIGKILL)
        with pytest.raises(OSError, match="closed connection"):
            lost.result()
    (user_id,) = users_with(site, form["mobile"])
    assert told(shopper.bind({**form, "password": "another horse"})) == (400, "already_bound")
    stranger = Shopper([site.shop], site.qq, shopper.person)
    assert told(stranger.bind(form)) == (400, "bind_token_invalid")
    again = shopper.bind(form)
    assert_is_bound_once(site, shopper, form, again)
    assert again.json()["user_id"] == user_id
    assert_gets_in_by_the_button(shopper, user_id)


def test_after_a_worker_was_killed_while_qq_was_asked_qq_is_not_asked_again_for_the_code(site, shopper, pool):
    bound = Shopper([site.shop], site.qq)
    form = bound.fill_in(new_mobile())
    with Stop(site.var, ANSWERING) as stop:  # tells which process there is
        binding = pool.submit(bound.bind, form)
        worker = stop.wait()
    assert binding.result().status == 200

    code = shopper.arrive()
    before = len(site.qq.requests("/oauth2.0/token"))
    site.qq.behave(token={"fault": "hang", "times": 1})
    lost = pool.submit(shopper.collect, code)
    processes.wait_until(lambda: len(site.qq.requests("/oauth2.0/token")) > before, "QQ is asked")
    os.kill(worker, signal.SIGKILL)
    with pytest.raises(OSError, match="closed connection"):
        lost.result()
    assert [told(shopper.collect(code)) for _ in range(2)] == [(503, "qq_unavailable")] * 2
    assert len(site.qq.requests("/oauth2.0/token")) == before + 1
    assert shopper.collect(shopper.arrive()).json().keys() == {"access_token", "next"}


# The database ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["stop_database", "kill_database"])
def test_a_database_restarted_inside_a_bind_leaves_nothing_and_the_same_form_succeeds(site, shopper, form, pool, way):
    with Stop(site.var, USER_WRITTEN) as stop:
        lost = pool.submit(shopper.bind, form)
        stop.wait()
        getattr(site, way)()
        site.start_database()
    assert is_server_error(lost.result())
    assert_nothing_is_done(site, shopper, form)
    assert_is_bound_once(site, shopper, form, shopper.bind(form))


def test_while_the_database_is_down_nothing_is_used_up_for_good(site, shopper, form):
    arrived, signed_in = (Shopper([site.shop], site.qq) for _ in range(2))
    code, back = arrived.arrive(), signed_in.sign_in()
    site.stop_database()
    try:
        assert is_server_error(shopper.bind(form))
        assert is_server_error(arrived.collect(code))
        assert "code" in signed_in.come_back(back)  # asks no database
        assert [shopper.visitor.get(f"{site.shop.url}{path}").status for path in PAGES] == [200] * len(PAGES)
    finally:
        site.start_database()
    assert arrived.collect(code).json().keys() == {"access_token", "next"}
    assert_is_bound_once(site, shopper, form, shopper.bind(form))


@pytest.mark.parametrize("moment", [COMMITTED, ANSWERING])
def test_a_bind_outlives_the_database_that_is_killed_before_the_answer(site, shopper, form, pool, moment):
    with Stop(site.var, moment) as stop:
        lost = pool.submit(shopper.bind, form)
        stop.wait()
        site.kill_database()
        site.start_database()
    lost.result()  # whatever it is: the shop may need the database for its answer, or not
    assert_is_bound_once(site, shopper, form, shopper.bind(form))


# The cache ------------------------------------------------------------------------------------------------------------


@pytest.fixture(params=["cache_stopped", "cache_read_only"])
def outage(site, request):
    return getattr(site, request.param)


def read_picture(site, shopper):
    """Have an image code drawn; return the query of the SMS call that solves it."""
    picture = str(uuid4())
    shopper.visitor.get(f"{site.shop.url}/image_codes/{picture}/")
    return f"text={site.shop.last_line('captcha.log', id=picture)['text']}&image_code_id={picture}"


def test_nobody_passes_while_the_cache_is_out_and_everybody_may_start_again(site, outage):
    newcomer, signed_in, arrived, asking, filling_in, member = people = [
        Shopper([site.shop], site.qq) for _ in range(6)
    ]
    back = signed_in.sign_in()
    code = arrived.arrive()
    picture = read_picture(site, asking)
    form = filling_in.fill_in(new_mobile())
    members_form = member.fill_in(new_mobile())
    logged_in = member.bind(members_form).json()
    asked, sent = len(site.qq.requests("/oauth2.0/token")), (site.var / "sms.log").read_text()

    with outage():
        assert read_page(newcomer.start()) == {"error": "cache_unavailable", "state": "/cart"}
        assert signed_in.come_back(back)["error"] == "cache_unavailable"
        assert told(arrived.collect(code)) == CACHE_IS_DOWN
        sms = asking.visitor.get(f"{site.shop.url}/sms_codes/{new_mobile()}/?{picture}")
        password = {"username": members_form["mobile"], "password": PASSWORD}
        login = member.visitor.post(f"{site.shop.url}/authorizations/", password)
        image = asking.visitor.get(f"{site.shop.url}/image_codes/00000000-0000-4000-8000-000000000000/")
        for answer in (sms, login, image):
            assert (answer.status, answer.json().keys()) == (503, {"message"})
        assert told(filling_in.bind(form)) == CACHE_IS_DOWN
        assert told(member.bind(members_form)) == CACHE_IS_DOWN  # also the repeat

        assert [newcomer.visitor.get(f"{site.shop.url}{path}").status for path in PAGES] == [200] * len(PAGES)
        me = member.visitor.get(f"{site.shop.url}/user/", Authorization=f"JWT {logged_in['token']}")
        assert (me.status, me.json()["id"]) == (200, logged_in["user_id"])
    assert len(site.qq.requests("/oauth2.0/token")) == asked
    assert (site.var / "sms.log").read_text() == sent
    assert_nothing_is_done(site, filling_in, form)

    for shopper in people[:-1]:
        form = shopper.fill_in(new_mobile())
        assert_is_bound_once(site, shopper, form, shopper.bind(form))
    assert member.visitor.post(f"{site.shop.url}/authorizations/", password).status == 200


def test_a_bind_whose_cache_goes_out_before_the_binding_is_written_is_undone(site, outage, shopper, form, pool):
    with Stop(site.var, USER_WRITTEN) as stop:
        lost = pool.submit(shopper.bind, form)
        stop.wait()
        with outage():
            stop.let_go()
            assert told(lost.result()) == CACHE_IS_DOWN
    assert_nothing_is_done(site, shopper, form)
    again = shopper.bind(form)
    if told(again) == (400, "invalid"):  # with the cache went the proof of the number, but not that of the openid
        assert again.json().keys() == {"sms_code", "message", "code"}
        again = shopper.bind({**form, "sms_code": shopper.receive_sms_code(form["mobile"])})
    assert_is_bound_once(site, shopper, form, again)


def test_a_bind_whose_cache_goes_out_before_the_answer_is_done(site, outage, shopper, form, pool):
    with Stop(site.var, COMMITTED) as stop:
        lost = pool.submit(shopper.bind, form)
        stop.wait()
        with outage():
            stop.let_go()
            assert told(lost.result()) in [(200, None), CACHE_IS_DOWN]
    (user_id,) = users_with(site, form["mobile"])
    assert told(shopper.bind(form)) in [(200, None), (400, "already_bound")]  # the latter where the cache forgot
    assert_gets_in_by_the_button(shopper, user_id)


def test_a_flush_of_the_cache_ends_what_it_kept_and_lets_nobody_in(site):
    back_at_qq, at_the_page, before_the_sms, before_the_form = (Shopper([site.shop], site.qq) for _ in range(4))
    back = back_at_qq.sign_in()
    code = at_the_page.arrive()
    picture = read_picture(site, before_the_sms)
    form = before_the_form.fill_in(new_mobile())
    asked = len(site.qq.requests("/oauth2.0/token"))
    site.flush_cache()

    assert told(at_the_page.collect(code)) == (400, "code_invalid")
    assert len(site.qq.requests("/oauth2.0/token")) == asked
    refused = before_the_sms.visitor.get(f"{site.shop.url}/sms_codes/{new_mobile()}/?{picture}")
    assert (refused.status, refused.json().keys()) == (400, {"message", "text"})
    unproved = before_the_form.bind(form)
    assert (unproved.status, unproved.json().keys()) == (400, {"sms_code", "message", "code"})
    assert_nothing_is_done(site, before_the_form, form)

    # What needs nothing of the cache goes on: the cookie says whose state it is, the bind token whose openid.
    assert back_at_qq.collect(back_at_qq.come_back(back)["code"]).json().keys() == {"access_token", "next"}
    again = before_the_form.bind({**form, "sms_code": before_the_form.receive_sms_code(form["mobile"])})
    assert_is_bound_once(site, before_the_form, form, again)
    for shopper in (at_the_page, before_the_sms):
        form = shopper.fill_in(new_mobile())
        assert_is_bound_once(site, shopper, form, shopper.bind(form))


def test_what_was_used_up_before_a_flush_opens_nothing_after_it(site, shopper):
    back = shopper.sign_in()
    cookies = list(shopper.visitor.cookies)  # as a thief has them who also has the address
    mobile = new_mobile()
    bind_token = shopper.collect(shopper.come_back(back)["code"]).json()["access_token"]
    sms_code = shopper.receive_sms_code(mobile)
    form = {"mobile": mobile, "password": PASSWORD, "sms_code": sms_code, "access_token": bind_token}
    assert_is_bound_once(site, shopper, form, shopper.bind(form))
    site.flush_cache()

    assert told(shopper.bind(form)) == (400, "already_bound")
    for cookie in cookies:
        shopper.visitor.cookies.set_cookie(cookie)
    code = shopper.come_back(back)["code"]
    assert told(shopper.collect(code)) == (400, "qq_rejected")  # QQ takes its own code once

"""What may happen at the same moment, in two processes of one shop that share a MariaDB and a Redis."""

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest
from django.contrib.auth import get_user_model
from django.core.cache import cache
from itsdangerous import URLSafeTimedSerializer

import standin
from apps.oauth.models import OAuthQQUser
from apps.users.models import User
from tests.e2e.crashing_seams import SETTINGS, noted_binds
from tests.tools import processes
from tests.tools.shoppers import (
    PASSWORD,
    Shopper,
    a_few_at_a_time,
    at_once,
    database_of_the_tests,
    find_wrongs,
    new_mobile,
    new_person,
    shop_and_qq,
    tally,
    told,
)

pytestmark = pytest.mark.servers

TIMEOUT = 2  # seconds the shop gives QQ here, so that a QQ that hangs is soon over
WIDE = 50
ROUNDS = 20  # a race is not lost every time


@pytest.fixture(scope="module")
def listener():
    with processes.listen() as listener:
        yield listener


@pytest.fixture(scope="module")
def qq_of_two(listener):
    with standin.running(callbacks=[processes.callback_of(listener)]) as qq:
        yield qq


@pytest.fixture
def qq(qq_of_two):
    qq_of_two.reset()
    return qq_of_two


@pytest.fixture(scope="module")
def environ(django_db_setup, tmp_path_factory):
    """What the processes of one shop have in common: the database of the tests among it, to be looked into."""
    return {"DATABASE_URL": database_of_the_tests(), "QQ_TIMEOUT": str(TIMEOUT)}


@pytest.fixture(scope="module")
def two_processes(environ, listener, qq_of_two, tmp_path_factory):
    var = tmp_path_factory.mktemp("var")
    page = f"{processes.address_of(listener)}/oauth_callback.html"
    common = {**environ, "QQ_REDIRECT_URI": processes.callback_of(listener), "QQ_CALLBACK_PAGE": page}
    common |= {"DJANGO_SETTINGS_MODULE": SETTINGS, "threads": 32}
    with (
        processes.shop(var, qq_of_two, listener=listener, **common) as first,
        processes.shop(var, qq_of_two, **common) as second,
    ):
        yield first, second


@pytest.fixture
def shops(two_processes, transactional_db):
    return two_processes


@pytest.fixture
def shopper(shops, qq):
    return Shopper(shops, qq)


def token_requests(qq):
    return len(qq.requests("/oauth2.0/token"))


def read_bind_token(bind_token):
    return URLSafeTimedSerializer("any key").loads_unsafe(bind_token)[1]


def ask_six_times(shopper, code):
    return at_once(*(lambda shop=shop: shopper.collect(code, shop) for shop in (0, 1) * 3))


def test_qq_is_asked_once_when_two_processes_are_asked_six_times_for_one_flow(shopper, qq):
    code = shopper.arrive()
    qq.behave(token={"fault": "slow", "seconds": 1})
    answers = ask_six_times(shopper, code)
    assert [answer.status for answer in answers] == [200] * 6
    bodies = [answer.json() for answer in answers]
    bind_tokens = [body.pop("access_token") for body in bodies]
    assert bodies == [{"next": "/cart"}] * 6
    assert token_requests(qq) == 1

    # The six differ in the second they were signed in, at most, and each is as good as the others.
    assert [read_bind_token(bind_token) for bind_token in bind_tokens] == [read_bind_token(bind_tokens[0])] * 6
    assert read_bind_token(bind_tokens[0])["openid"] == qq.openid(shopper.person)
    mobile = new_mobile()
    sms_code = shopper.shops[0].receive_sms_code(shopper.visitor, mobile)
    form = {"mobile": mobile, "password": PASSWORD, "sms_code": sms_code, "access_token": bind_tokens[-1]}
    assert shopper.bind(form, shop=1).status == 200


def test_a_bound_shopper_gets_the_same_login_six_times(shopper, qq):
    user = shopper.bind(shopper.fill_in(new_mobile())).json()
    qq.reset()
    code = shopper.arrive()
    qq.behave(token={"fault": "slow", "seconds": 1})
    answers = ask_six_times(shopper, code)
    assert [answer.status for answer in answers] == [200] * 6
    bodies = [answer.json() for answer in answers]
    assert all(body.pop("token") for body in bodies)
    assert bodies == [{"user_id": user["id"], "username": user["username"], "next": "/cart"}] * 6
    assert token_requests(qq) == 1


def test_qq_is_asked_once_also_where_it_does_not_answer(shopper, qq):
    code = shopper.arrive()
    qq.behave(token={"fault": "hang"})
    assert list(map(told, ask_six_times(shopper, code))) == [(503, "qq_unavailable")] * 6
    qq.behave(token=None)
    assert told(shopper.collect(code)) == (503, "qq_unavailable")  # what QQ said once stays said
    assert token_requests(qq) == 1


def test_one_state_gets_back_in_once(shopper):
    back = shopper.sign_in()
    other = back.replace(shopper.shops[0].url, shopper.shops[1].url)
    queries = at_once(*(lambda address=address: shopper.come_back(address) for address in (back, other) * 3))
    codes = [query["code"] for query in queries if "code" in query]
    assert len(codes) == 1
    assert [query for query in queries if "code" not in query] == [{"error": "state_used", "state": "/cart"}] * 5
    assert shopper.collect(codes[0]).status == 200


# Binds ----------------------------------------------------------------------------------------------------------------


@pytest.fixture
def check_database(shops, environ):
    """Where a race is over nothing may be wrong with the database; and the next one begins with nobody."""

    def check_database():
        assert find_wrongs(environ["DATABASE_URL"]) == {}
        OAuthQQUser.objects.all().delete()
        get_user_model().objects.all().delete()
        cache.clear()

    return check_database


def get_bind_tokens(shoppers):
    """Bring everybody to the form; return their bind tokens, which are as good in the next round."""
    return a_few_at_a_time([shopper.get_bind_token for shopper in shoppers])


def bind_at_once(shoppers, forms):
    """Send each shopper's form at the same moment, to the two processes in turn."""
    everybody = enumerate(zip(shoppers, forms, strict=True))
    return at_once(*(lambda s=s, form=form, shop=place % 2: s.bind(form, shop) for place, (s, form) in everybody))


def test_one_openid_with_fifty_mobiles_at_once_is_bound_once(shops, qq, check_database):
    person = new_person()
    shoppers = [Shopper(shops, qq, person) for _ in range(WIDE)]
    bind_tokens = get_bind_tokens(shoppers)
    for _ in range(ROUNDS):
        mobiles = [new_mobile() for _ in shoppers]
        asks = [
            lambda s=s, mobile=mobile: s.receive_sms_code(mobile) for s, mobile in zip(shoppers, mobiles, strict=True)
        ]
        forms = [
            {"mobile": mobile, "password": PASSWORD, "sms_code": sms_code, "access_token": bind_token}
            for mobile, sms_code, bind_token in zip(mobiles, a_few_at_a_time(asks), bind_tokens, strict=True)
        ]
        answers = bind_at_once(shoppers, forms)
        assert tally(answers) == {(200, None): 1, (400, "already_bound"): WIDE - 1}
        user = User.objects.get()  # the accounts of the losers were not made
        binding = OAuthQQUser.objects.get()
        assert (binding.openid, binding.user_id) == (qq.openid(person), user.pk)
        (winner,) = (place for place, answer in enumerate(answers) if answer.status == 200)
        assert (answers[winner].json()["user_id"], mobiles[winner]) == (user.pk, user.mobile)
        check_database()


def test_one_mobile_with_fifty_openids_at_once_is_bound_to_one(shops, qq, check_database):
    shoppers = [Shopper(shops, qq) for _ in range(WIDE)]
    bind_tokens = get_bind_tokens(shoppers)
    for _ in range(ROUNDS):
        mobile = new_mobile()
        form = {"mobile": mobile, "password": PASSWORD, "sms_code": shoppers[0].receive_sms_code(mobile)}
        answers = bind_at_once(shoppers, [{**form, "access_token": bind_token} for bind_token in bind_tokens])
        (winner,) = (place for place, answer in enumerate(answers) if answer.status == 200)
        # The SMS code is good for one of them. The others are told that, or that the number was tried too often.
        refused = tally(answers[:winner] + answers[winner + 1 :])
        assert refused.keys() <= {(400, "invalid"), (429, "throttled")}
        user = User.objects.get()
        assert user.mobile == mobile
        binding = OAuthQQUser.objects.get()
        assert (binding.openid, binding.user_id) == (qq.openid(shoppers[winner].person), user.pk)
        check_database()


def test_one_form_sent_twenty_times_at_once_binds_once(shopper, check_database, two_processes):
    var = two_processes[0].var
    bind_token = shopper.get_bind_token()
    for _ in range(ROUNDS):
        before = len(noted_binds(var))
        mobile = new_mobile()
        sms_code = shopper.receive_sms_code(mobile)
        form = {"mobile": mobile, "password": PASSWORD, "sms_code": sms_code, "access_token": bind_token}
        answers = bind_at_once([shopper] * 20, [form] * 20)
        user = User.objects.get()
        # The identical repeat gets the same login. Who came while it was not done yet has lost.
        logged_in = [answer.json()["user_id"] for answer in answers if answer.status == 200]
        assert logged_in == [user.pk] * max(1, len(logged_in))
        refusals = {(400, "already_bound"), (400, "bind_tries"), (400, "invalid"), (429, "throttled")}
        assert tally(answers).keys() - {(200, None)} <= refusals
        assert OAuthQQUser.objects.get().user_id == user.pk
        assert noted_binds(var)[before:] == [user.pk]
        check_database()


# A slow QQ ------------------------------------------------------------------------------------------------------------


def test_a_qq_that_hangs_is_answered_in_time_and_asked_once(shopper, qq):
    code = shopper.arrive()
    qq.behave(token={"fault": "hang"})
    start = time.monotonic()
    assert told(shopper.collect(code)) == (503, "qq_unavailable")
    assert time.monotonic() - start < TIMEOUT + 1
    assert token_requests(qq) == 1


def test_who_finds_all_calls_to_qq_taken_may_ask_again(environ, transactional_db, tmp_path):
    listener = processes.listen()
    with (
        standin.running(callbacks=[processes.callback_of(listener)]) as qq,
        processes.shop(tmp_path, qq, listener=listener, **environ, QQ_MAX_CONNECTIONS="1") as shop,
        ThreadPoolExecutor(1) as pool,
    ):
        patient, busy = Shopper([shop], qq), Shopper([shop], qq)
        patients_code, busys_code = patient.arrive(), busy.arrive()
        qq.behave(token={"fault": "hang", "times": 1})
        waiting = pool.submit(patient.collect, patients_code)
        processes.wait_until(lambda: token_requests(qq) == 1, "QQ is asked for the first shopper")

        answer = busy.collect(busys_code)
        assert not waiting.done()  # the second one was answered at once
        assert told(answer) == (503, "qq_busy")
        assert answer.headers["Retry-After"] == "1"

        assert told(waiting.result()) == (503, "qq_unavailable")
        again = busy.collect(busys_code)
        assert (again.status, again.json().keys()) == (200, {"access_token", "next"})
        assert token_requests(qq) == 2


def test_a_qq_that_hangs_takes_no_other_page_of_the_shop_down(environ, transactional_db, tmp_path):
    hanging, visitor = 48, processes.Visitor()  # of the 64 threads that the shop is run with
    with ExitStack() as stack:
        pool = stack.enter_context(ThreadPoolExecutor(100))  # left last, when nothing hangs any more
        settings = {**environ, "threads": 64, "QQ_TIMEOUT": "60", "QQ_MAX_CONNECTIONS": str(hanging)}
        shop, qq = stack.enter_context(shop_and_qq(tmp_path, **settings))
        member = Shopper([shop], qq)
        form = member.fill_in(new_mobile())
        token = member.bind(form).json()["token"]
        shoppers = [Shopper([shop], qq) for _ in range(100)]
        codes = a_few_at_a_time([shopper.arrive for shopper in shoppers])
        qq.behave(token={"fault": "hang"})
        before = token_requests(qq)
        calls = [pool.submit(shopper.collect, code) for shopper, code in zip(shoppers, codes, strict=True)]
        processes.wait_until(lambda: sum(call.done() for call in calls) == 100 - hanging, "the others are turned away")
        assert token_requests(qq) == before + hanging

        for path in ("/", "/oauth_callback.html", "/oauth/qq/authorization/?next=/", f"/mobiles/{new_mobile()}/count/"):
            assert visitor.get(f"{shop.url}{path}").status == 200
        assert visitor.get(f"{shop.url}/user/", Authorization=f"JWT {token}").status == 200
        password = {"username": form["mobile"], "password": PASSWORD}
        assert visitor.post(f"{shop.url}/authorizations/", password).status == 200
        newcomer = Shopper([shop], qq)
        assert newcomer.start().startswith(qq.url)
        assert newcomer.receive_sms_code(new_mobile())
        assert sum(call.done() for call in calls) == 100 - hanging  # QQ has not let go of one

        answers = [call.result() for call in calls if call.done()]
        assert tally(answers) == {(503, "qq_busy"): 100 - hanging}
        assert {answer.headers["Retry-After"] for answer in answers} == {"1"}

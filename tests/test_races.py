"""What may happen at the same moment, in two processes of one shop that share a MariaDB and a Redis."""

import os
import secrets
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from threading import Barrier
from urllib.parse import parse_qs, urlsplit

import pytest
from django.contrib.auth import get_user_model
from django.db import connection
from itsdangerous import URLSafeTimedSerializer

import standin
from apps.oauth.models import OAuthQQUser
from tests import processes

pytestmark = pytest.mark.servers

TIMEOUT = 2  # seconds the shop gives QQ here, so that a QQ that hangs is soon over
PASSWORD = "correct horse"


class Shopper:
    """A person with a browser of their own, who goes to the shop's first process unless told otherwise."""

    def __init__(self, shops, qq, person=None):
        self.shops = shops
        self.qq = qq
        self.person = person or new_person()
        self.visitor = processes.Visitor()

    def sign_in(self):
        """Press the button and sign in at QQ; return the address QQ sends the browser to."""
        at_qq = self.visitor.get(f"{self.shops[0].url}/oauth/qq/login/?next=/cart").headers["Location"]
        return self.qq.sign_in(at_qq, self.person)

    def come_back(self, address):
        """Follow QQ's redirect; return the parameters the page gets."""
        answer = self.visitor.get(address)
        assert answer.status == 302
        page = urlsplit(answer.headers["Location"])
        assert page.path == "/oauth_callback.html"
        return {name: values[0] for name, values in parse_qs(page.query).items()}

    def arrive(self):
        return self.come_back(self.sign_in())["code"]

    def collect(self, code, shop=0):
        return self.visitor.get(f"{self.shops[shop].url}/oauth/qq/users/?code={code}")

    def fill_in(self, mobile, **changes):
        """Return the whole form of somebody new, ready to be sent once."""
        bind_token = self.collect(self.arrive()).json()["access_token"]
        sms_code = self.shops[0].receive_sms_code(self.visitor, mobile)
        return {"mobile": mobile, "password": PASSWORD, "sms_code": sms_code, "access_token": bind_token, **changes}

    def bind(self, form, shop=0):
        return self.visitor.post(f"{self.shops[shop].url}/oauth/qq/users/", form)


def new_person():
    return f"小明 {secrets.token_hex(8)}"


def new_mobile():
    return f"13{secrets.randbelow(10**9):09}"


def at_once(*calls):
    """Make the calls at the same moment, each in a thread; return what they return."""
    barrier = Barrier(len(calls))

    def wait_and_call(call):
        barrier.wait(60)
        return call()

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(wait_and_call, calls))


def told(answer):
    """What matters of an answer: its status, and the code of an error."""
    return answer.status, answer.json().get("code")


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
    server = os.environ["DATABASE_URL"].rpartition("/")[0]
    return {"DATABASE_URL": f"{server}/{connection.settings_dict['NAME']}", "QQ_TIMEOUT": str(TIMEOUT)}


@pytest.fixture(scope="module")
def two_processes(environ, listener, qq_of_two, tmp_path_factory):
    var = tmp_path_factory.mktemp("var")
    page = f"{processes.address_of(listener)}/oauth_callback.html"
    common = {**environ, "QQ_REDIRECT_URI": processes.callback_of(listener), "QQ_CALLBACK_PAGE": page}
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


# Ten rounds, as a race is not lost every time.
@pytest.mark.parametrize("contenders", [2] * 10 + [8] * 4)
def test_one_openid_is_bound_once_however_many_bind_it_at_once(shops, qq, contenders):
    person = new_person()
    shoppers = [Shopper(shops, qq, person) for _ in range(contenders)]
    forms = [shopper.fill_in(new_mobile()) for shopper in shoppers]
    answers = at_once(
        *(
            lambda shopper=shopper, form=form, shop=place % 2: shopper.bind(form, shop)
            for place, (shopper, form) in enumerate(zip(shoppers, forms, strict=True))
        )
    )
    assert sorted(map(told, answers), key=str) == [(200, None)] + [(400, "already_bound")] * (contenders - 1)
    user = get_user_model().objects.get()  # the accounts of the losers were not made
    (binding,) = OAuthQQUser.objects.all()
    assert (binding.openid, binding.user_id) == (qq.openid(person), user.pk)
    assert [answer.json()["user_id"] for answer in answers if answer.status == 200] == [user.pk]


@pytest.mark.parametrize("round", range(3))
def test_one_bind_token_binds_once_however_often_it_is_sent_at_once(shopper, round):
    form = shopper.fill_in(new_mobile())
    answers = at_once(*(lambda shop=shop: shopper.bind(form, shop) for shop in (0, 1) * 2))
    statuses = sorted(answer.status for answer in answers)
    assert statuses == [200, 400, 400, 400]
    assert get_user_model().objects.count() == OAuthQQUser.objects.count() == 1


@pytest.mark.parametrize("round", range(5))
def test_one_new_mobile_with_two_openids_at_once_makes_one_account(shops, qq, round):
    mobile = new_mobile()
    first, second = Shopper(shops, qq), Shopper(shops, qq)
    form = first.fill_in(mobile)
    other_form = form | {"access_token": second.collect(second.arrive()).json()["access_token"]}
    answers = at_once(lambda: first.bind(form), lambda: second.bind(other_form, shop=1))
    # The SMS code is good for one of them.
    assert sorted(map(told, answers), key=str) == [(200, None), (400, "invalid")]
    (refused,) = (answer.json() for answer in answers if answer.status == 400)
    assert refused.keys() == {"sms_code", "message", "code"}
    assert get_user_model().objects.count() == OAuthQQUser.objects.count() == 1


def test_nobody_passes_while_the_cache_is_down(environ, transactional_db, tmp_path):
    listener, port = processes.listen(), processes.free_port()
    with ExitStack() as stack, ExitStack() as redis:
        cache_url = redis.enter_context(processes.redis(tmp_path, port))
        qq = stack.enter_context(standin.running(callbacks=[processes.callback_of(listener)]))
        environ = {**environ, "CACHE_URL": cache_url}
        shop = stack.enter_context(processes.shop(tmp_path, qq, listener=listener, **environ))
        arrived, signed_in, filling_in = (Shopper([shop], qq) for _ in range(3))
        code = arrived.arrive()
        back = signed_in.sign_in()
        form = filling_in.fill_in(new_mobile())

        redis.close()
        before = token_requests(qq)
        assert told(arrived.collect(code)) == (503, "cache_unavailable")
        assert signed_in.come_back(back) == {"error": "cache_unavailable", "state": "/cart"}
        assert told(filling_in.bind(form)) == (503, "cache_unavailable")
        picture = "00000000-0000-4000-8000-000000000000"
        sms = arrived.visitor.get(f"{shop.url}/sms_codes/13812345678/?text=ABCD&image_code_id={picture}")
        assert sms.status == 503
        assert sms.json().keys() == {"message"}
        assert token_requests(qq) == before
        assert not OAuthQQUser.objects.exists()

        redis.enter_context(processes.redis(tmp_path, port))
        assert arrived.bind(arrived.fill_in(new_mobile())).status == 200


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

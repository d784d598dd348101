"""Calls at the same moment, in two processes of one shop that share a MariaDB and a Redis; limits hold under load."""

import math
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial

import pytest
from django.contrib.auth import get_user_model
from django.core.cache import cache
from itsdangerous import URLSafeTimedSerializer

from apps.oauth.models import OAuthQQUser
from apps.oauth.qq.resilience import RETRY_SHARE
from tests.conftest import token_requests
from tests.e2e.stops import SETTINGS, noted_binds
from tests.tools import processes
from tests.tools.processes import Visitor, random_address
from tests.tools.remote_users import (
    PASSWORD,
    RemoteUser,
    a_few_at_a_time,
    database_of_the_tests,
    each_at_once,
    find_inconsistencies,
    new_mobile,
    new_person,
    read_page,
    shop_and_qq,
    tally,
)
from tests.tools.requirements import requirement

pytestmark = pytest.mark.servers

TIMEOUT = 2  # QQ_TIMEOUT of this shop, in seconds
WIDE = 50
ROUNDS = 20  # a race condition does not show every time


@pytest.fixture(scope="module")
def environ(django_db_setup):
    return {"DATABASE_URL": database_of_the_tests(), "DJANGO_SETTINGS_MODULE": SETTINGS, "QQ_TIMEOUT": str(TIMEOUT)}


@pytest.fixture(scope="module")
def two_processes(environ, tmp_path_factory):
    var = tmp_path_factory.mktemp("var")
    with shop_and_qq(var, **environ, threads=32) as (first, qq):
        urls = {
            "QQ_REDIRECT_URI": f"{first.url}/oauth/qq/callback/",
            "QQ_CALLBACK_PAGE": f"{first.url}/oauth_callback.html",
        }
        with processes.shop(var, qq, **environ, **urls, threads=32) as second:
            yield (first, second), qq


@pytest.fixture
def shops(two_processes, transactional_db):
    return two_processes[0]


@pytest.fixture
def qq(two_processes):
    two_processes[1].reset()
    return two_processes[1]


@pytest.fixture
def remote_user(shops, qq):
    return RemoteUser(shops, qq)


def redeem_six_times(remote_user, code):
    return each_at_once(partial(remote_user.redeem_code, code), (0, 1) * 3)


@requirement("1.5")
def test_six_calls_for_one_flow_share_one_exchange_with_qq(remote_user, qq):
    code = remote_user.arrive()
    qq.behave(token={"fault": "slow", "seconds": 1})
    answers = redeem_six_times(remote_user, code)
    assert tally(answers) == {(200, None): 6}
    bodies = [answer.json() for answer in answers]
    bind_tokens = [body.pop("access_token") for body in bodies]
    assert bodies == [{"fields": ["mobile", "password", "sms_code"], "next": "/cart"}] * 6
    payloads = [URLSafeTimedSerializer("any key").loads_unsafe(bind_token)[1] for bind_token in bind_tokens]
    assert payloads == [payloads[0]] * 6  # the tokens differ only in the second they were signed
    assert payloads[0]["openid"] == qq.openid(remote_user.person)
    assert token_requests(qq) == 1


@requirement("1.5")
def test_six_calls_share_one_failure_of_qq_within_the_timeout(remote_user, qq):
    code = remote_user.arrive()
    qq.behave(token={"fault": "hang"})
    start = time.monotonic()
    answers = redeem_six_times(remote_user, code)
    assert time.monotonic() - start < TIMEOUT + 1
    qq.behave(token=None)
    answers.append(remote_user.redeem_code(code))  # the failure is remembered
    assert tally(answers) == {(503, "qq_unavailable"): 7}
    assert token_requests(qq) == 1


@requirement("1.4")
def test_callbacks_with_one_state_and_different_queries_let_one_pass(remote_user):
    callback = remote_user.sign_in()
    other = callback.replace(remote_user.shops[0].url, remote_user.shops[1].url)
    addresses = (callback, other.replace("code=", "code=A"), f"{callback}&usercancel=1", f"{other}&error=100010")
    pages = each_at_once(remote_user.come_back, addresses)
    assert pages.count({"error": "state_used", "state": "/cart"}) == 3


@requirement("1.4", "1.5")
def test_six_equal_callbacks_give_the_same_redirect_and_use_the_code_once(shops, qq):
    for _ in range(ROUNDS):
        remote_user = RemoteUser(shops, qq)  # with an address, and so a limit, of its own
        callback = remote_user.sign_in()
        other = callback.replace(remote_user.shops[0].url, remote_user.shops[1].url)
        first, *others = each_at_once(remote_user.come_back, (callback, other) * 3)
        assert others == [first] * 5
        assert tally(redeem_six_times(remote_user, first["code"])) == {(200, None): 6}
    assert token_requests(qq) == ROUNDS


# Binds ----------------------------------------------------------------------------------------------------------------


@pytest.fixture
def bind_at_once(shops, environ):
    """Send each user's form at the same moment, to the two processes in turn; check and then empty the database.

    Returns the answers, the one user, the user of the one binding and its openid.
    """

    def bind_at_once(remote_users, forms):
        answers = each_at_once(RemoteUser.bind, remote_users, forms, (0, 1) * (len(forms) // 2))
        user, binding = get_user_model().objects.get(), OAuthQQUser.objects.get()
        assert binding.user_id == user.pk
        assert {answer.json()["user_id"] for answer in answers if answer.status == 200} <= {user.pk}
        assert find_inconsistencies(environ["DATABASE_URL"]) == {}
        OAuthQQUser.objects.all().delete()
        get_user_model().objects.all().delete()
        cache.clear()
        return answers, user, binding.openid

    return bind_at_once


def only_winner(answers):
    (winner,) = (place for place, answer in enumerate(answers) if answer.status == 200)
    return winner


@requirement("7.5")
def test_one_openid_with_50_mobiles_at_once_is_bound_once(shops, qq, bind_at_once):
    person = new_person()
    remote_users = [RemoteUser(shops, qq, person) for _ in range(WIDE)]
    bind_tokens = a_few_at_a_time([remote_user.get_bind_token for remote_user in remote_users])
    for _ in range(ROUNDS):
        fillings = zip(remote_users, bind_tokens, strict=True)
        forms = a_few_at_a_time([partial(remote_user.fill_in, new_mobile(), token) for remote_user, token in fillings])
        answers, user, openid = bind_at_once(remote_users, forms)
        assert tally(answers) == {(200, None): 1, (400, "already_bound"): WIDE - 1}
        assert (openid, user.mobile) == (qq.openid(person), forms[only_winner(answers)]["mobile"])


@requirement("7.5")
def test_one_mobile_with_50_openids_at_once_is_bound_to_one(shops, qq, bind_at_once):
    remote_users = [RemoteUser(shops, qq) for _ in range(WIDE)]
    bind_tokens = a_few_at_a_time([remote_user.get_bind_token for remote_user in remote_users])
    for _ in range(ROUNDS):
        form = remote_users[0].fill_in(new_mobile(), bind_tokens[0])
        answers, user, openid = bind_at_once(remote_users, [{**form, "access_token": token} for token in bind_tokens])
        # The SMS code is good for one of them. For the others it is used up, or the number was tried too often.
        assert tally(answers).keys() <= {(200, None), (400, "invalid"), (429, "throttled")}
        assert (openid, user.mobile) == (qq.openid(remote_users[only_winner(answers)].person), form["mobile"])


@requirement("7.5")
def test_one_form_sent_twice_at_once_logs_in_twice(remote_user, qq, bind_at_once):
    bind_token = remote_user.get_bind_token()
    for _ in range(ROUNDS):
        form = remote_user.fill_in(new_mobile(), bind_token)
        answers, *_ = bind_at_once([remote_user] * 2, [form] * 2)
        assert tally(answers) == {(200, None): 2}


@requirement("7.5")
def test_one_form_sent_20_times_at_once_binds_once(remote_user, qq, bind_at_once):
    var = remote_user.shops[0].var
    bind_token = remote_user.get_bind_token()
    for _ in range(ROUNDS):
        before = len(noted_binds(var))
        form = remote_user.fill_in(new_mobile(), bind_token)
        answers, user, openid = bind_at_once([remote_user] * 20, [form] * 20)
        # A repeat gets the same login, or an error if it arrived before the first one was done.
        errors = {(400, "already_bound"), (400, "bind_tries"), (400, "invalid"), (429, "throttled")}
        assert {(200, None)} <= tally(answers).keys() <= {(200, None), *errors}
        assert (openid, user.mobile) == (qq.openid(remote_user.person), form["mobile"])
        assert noted_binds(var)[before:] == [user.pk]


# A slow QQ ------------------------------------------------------------------------------------------------------------


@requirement("8.7")
def test_a_hanging_qq_blocks_no_other_page(environ, transactional_db, tmp_path):
    hanging, visitor = 48, Visitor()  # of the shop's 64 threads
    with ExitStack() as stack:
        pool = stack.enter_context(ThreadPoolExecutor(100))  # closed last, after the shop and its QQ have ended
        settings = {**environ, "threads": 64, "QQ_TIMEOUT": "60", "QQ_MAX_CONCURRENCY": str(hanging)}
        shop, qq = stack.enter_context(shop_and_qq(tmp_path, **settings))
        member = RemoteUser([shop], qq)
        form = member.fill_in(new_mobile())
        token = member.bind(form).json()["token"]
        remote_users = [RemoteUser([shop], qq) for _ in range(100)]
        codes = a_few_at_a_time([remote_user.arrive for remote_user in remote_users])
        qq.behave(token={"fault": "hang"})
        before, begin = token_requests(qq), time.monotonic()
        calls = [
            pool.submit(remote_user.redeem_code, code) for remote_user, code in zip(remote_users, codes, strict=True)
        ]
        processes.wait_until(lambda: sum(call.done() for call in calls) == 100 - hanging, "the others are rejected")
        seconds = time.monotonic() - begin
        assert token_requests(qq) == before + hanging

        for path in ("/", "/oauth_callback.html", "/oauth/qq/authorization/?next=/", f"/mobiles/{new_mobile()}/count/"):
            assert visitor.get(f"{shop.url}{path}").status == 200
        assert visitor.get(f"{shop.url}/user/", Authorization=f"JWT {token}").status == 200
        password = {"username": form["mobile"], "password": PASSWORD}
        assert visitor.post(f"{shop.url}/authorizations/", password).status == 200
        newcomer = RemoteUser([shop], qq)
        assert newcomer.start().startswith(qq.url)
        assert newcomer.receive_sms_code(new_mobile())

        rejected = [call.result() for call in calls if call.done()]
        assert tally(rejected) == {(503, "qq_busy"): 100 - hanging}  # all others still wait for QQ
        # Each is told to come back one free slot later; until then no slot has been in use for longer than `seconds`.
        last = math.ceil(len(rejected) * seconds / hanging / RETRY_SHARE)
        assert {int(answer.headers["Retry-After"]) for answer in rejected} <= {*range(1, last + 1)}


# Limits: each way of counting once; tests/oauth/test_ratelimit.py and tests/users/ test all limits in one process -----


def forged(address):
    """Headers of a caller at this address who claims to be a proxy for another client each time."""
    return {"X_Forwarded_For": f"{random_address()}, {address}"}


def assert_passed(number, answers, passed=(400, "invalid")):
    """This many answers have this status and code; all others are "throttled" and say when to try again."""
    assert tally(answers) == {passed: number, (429, "throttled"): len(answers) - number}
    assert_retry_after(answer for answer in answers if answer.status == 429)


def assert_retry_after(answers):
    assert all(1 <= int(answer.headers["Retry-After"]) <= 3600 for answer in answers)


@requirement("9.7", "11 start")
def test_60_of_100_starts_from_one_address_pass(shops, qq):
    address = random_address()
    urls = [f"{shop.url}/oauth/qq/login/?next=/cart" for shop in shops] * WIDE
    answers = each_at_once(lambda url: Visitor().get(url, **forged(address)), urls)
    assert {answer.status for answer in answers} == {302}
    at_qq = [answer for answer in answers if answer.headers["Location"].startswith(qq.url)]
    refused = [answer for answer in answers if answer not in at_qq]
    assert (len(at_qq), len(refused)) == (60, 40)
    assert all(read_page(answer.headers["Location"])["error"] == "throttled" for answer in refused)
    assert not any(answer.headers["Set-Cookie"] for answer in refused)
    assert_retry_after(refused)


@requirement("11 callback")
def test_30_of_50_callbacks_from_one_address_pass(shops, qq):
    address, remote_users = random_address(), [RemoteUser(shops, qq) for _ in range(WIDE)]
    callbacks = a_few_at_a_time([remote_user.sign_in for remote_user in remote_users])
    callbacks[::2] = [callback.replace(shops[0].url, shops[1].url) for callback in callbacks[::2]]
    answers = each_at_once(lambda s, callback: s.visitor.get(callback, **forged(address)), remote_users, callbacks)
    errors = Counter(read_page(answer.headers["Location"]).get("error") for answer in answers)
    assert errors == {None: 30, "throttled": 20}


@requirement("6.1")
def test_10_of_100_wrong_passwords_from_one_address_pass(shops):
    address, urls = random_address(), [f"{shop.url}/authorizations/" for shop in shops] * WIDE

    def log_in(url):
        return Visitor().post(url, {"username": new_mobile(), "password": PASSWORD}, **forged(address))

    assert_passed(10, each_at_once(log_in, urls))


@requirement("9.7", "11 bind, failed")
def test_5_of_100_wrong_forms_of_one_flow_pass_from_whatever_address(remote_user):
    form = {
        "mobile": new_mobile(),
        "password": PASSWORD,
        "sms_code": "000000",
        "access_token": remote_user.get_bind_token(),
    }
    answers = each_at_once(lambda shop: remote_user.bind(form, shop, X_Forwarded_For=random_address()), (0, 1) * WIDE)
    assert tally(answers) == {(400, "invalid"): 5, (400, "bind_tries"): 95}


def assert_sms_sent(number, shops, mobiles, **headers):
    """Ask for SMS codes at the same moment: this many are sent."""
    log = shops[0].var / "sms.log"
    log.unlink(missing_ok=True)
    pairs = zip(shops * (len(mobiles) // 2), mobiles, strict=True)
    addresses = a_few_at_a_time([partial(shop.sms_address, Visitor(), mobile) for shop, mobile in pairs])
    answers = each_at_once(lambda address: Visitor().get(address, **headers), addresses)
    assert_passed(number, answers, passed=(200, None))
    assert len(log.read_text().splitlines()) == number


@requirement("6.4", "11 SMS send")
def test_20_requests_at_once_send_1_sms_to_one_number(shops):
    for _ in range(5):
        assert_sms_sent(1, shops, [new_mobile()] * 20)


@requirement("6.4", "11 SMS send")
def test_20_of_40_sms_requests_from_one_address_pass(shops):
    assert_sms_sent(20, shops, [new_mobile() for _ in range(40)], **forged(random_address()))

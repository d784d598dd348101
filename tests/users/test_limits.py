"""How often something may be tried: logins, guesses at a password, SMS, looks at what is taken."""

import json
import os
import re
import secrets
from concurrent.futures import ThreadPoolExecutor
from itertools import count as numbers
from urllib.parse import urlencode
from uuid import uuid4

import pytest
import time_machine
from django.core.cache import cache
from django.core.cache.backends.locmem import LocMemCache
from django.db import connection
from django.test import Client, RequestFactory

from apps.oauth.cache import decrement as give_back
from apps.oauth.cache import increment as count
from apps.oauth.client_ip import get_client_ip, get_network
from apps.oauth.errors import CacheUnavailable
from apps.users import sms
from apps.users.serializers import AccountSerializer
from tests.conftest import MOBILE, PASSWORD, Browser, Phone
from tests.tools import processes
from tests.users.test_views import CountingHasher, at_once, post, stopped_clock

TOO_OFTEN = {"code": "throttled", "message": "操作太频繁，请稍后再试。"}
HOUR, DAY = 3600, 24 * 3600


@pytest.fixture
def clock(settings):
    with stopped_clock(settings) as clock:
        yield clock


@pytest.fixture
def strangers():
    """Callers that come from an address each."""
    return (Client(REMOTE_ADDR=f"198.51.{number // 250}.{number % 250}") for number in numbers())


def log_in(client, username="zhang3", password=PASSWORD):
    return post(client, "/authorizations/", {"username": username, "password": password})


def assert_too_often(response, wait):
    assert response.status_code == 429
    assert response["Retry-After"] == str(wait)
    assert response["Cache-Control"] == "no-store"
    assert response.json() == TOO_OFTEN


# The counters


def test_a_counter_counts_from_one(shop):
    assert [count("a", 60), count("a", 60), count("b", 60)] == [1, 2, 1]


def test_no_two_callers_get_the_same_number(shop):
    with ThreadPoolExecutor(16) as threads:
        assert sorted(threads.map(lambda _: count("a", 60), range(200))) == list(range(1, 201))


def test_what_is_given_back_is_one_and_the_counter_goes_on(clock):
    for _ in range(3):
        count("a", 60)
    give_back("a")
    assert count("a", 60) == 3
    clock.shift(60)
    give_back("a")  # too late, and no error
    assert count("a", 60) == 1
    give_back("a")
    clock.shift(59)
    assert count("a", 60) == 1
    clock.shift(60)
    assert cache.get("a") is None


class ExpiringCache(LocMemCache):
    """A cache where each counter's time is up at the first moment it is asked to count."""

    def incr(self, key, delta=1, version=None):
        if self.delete(f"grace-{key}"):
            return super().incr(key, delta, version)
        self.set(f"grace-{key}", True)
        self.delete(key)
        raise ValueError


def test_a_counter_that_expires_in_between_begins_anew(settings):
    settings.CACHES = {"default": {"BACKEND": f"{__name__}.ExpiringCache", "LOCATION": "expiring"}}
    cache.clear()
    assert [count("a", 60), count("a", 60), count("a", 60)] == [1, 1, 2]


class RevivingCache(LocMemCache):
    """As Django's Redis does it: looks whether there is a counter, then counts, and so may make one without an end."""

    def incr(self, key, delta=1, version=None):
        self.set(key, 0, timeout=None)
        return super().incr(key, delta, version)


def test_a_counter_made_anew_in_between_ends_too(settings):
    settings.CACHES = {"default": {"BACKEND": f"{__name__}.RevivingCache", "LOCATION": "reviving"}}
    cache.clear()
    with time_machine.travel(1_900_000_000, tick=False) as clock:
        assert [count("a", 60), count("a", 60)] == [1, 1]
        clock.shift(61)
        assert cache.get("a") is None


class SwallowingCache(LocMemCache):
    """A client that was told to swallow its errors, while the server is down."""

    def add(self, *args, **kwargs):
        return False

    def incr(self, *args, **kwargs):
        return False

    def get(self, key, default=None, version=None):
        return default


class EndlessCache(SwallowingCache):
    def incr(self, *args, **kwargs):
        raise ValueError


@pytest.mark.parametrize("backend", ["SwallowingCache", "EndlessCache"])
def test_a_cache_that_does_not_count_is_an_outage_and_no_free_try(settings, client, account, backend):
    settings.CACHES = {"default": {"BACKEND": f"{__name__}.{backend}"}}
    with pytest.raises(CacheUnavailable):
        count("a", 60)
    assert log_in(client).status_code == 503


# Whose address it is


@pytest.mark.parametrize(
    ("proxies", "forwarded", "counted"),
    [
        (0, "203.0.113.9", "192.0.2.1"),
        (1, None, "192.0.2.1"),
        (1, "203.0.113.9", "203.0.113.9"),
        (1, "1.1.1.1, 203.0.113.9", "203.0.113.9"),
        (1, "203.0.113.9, unknown", "192.0.2.1"),
        (1, "203.0.113.9,", "192.0.2.1"),
        (2, "203.0.113.9", "192.0.2.1"),
        (2, "1.1.1.1, 203.0.113.9, 10.0.0.1", "203.0.113.9"),
        (1, "2001:db8:1:2:3:4:5:6", "20010db800010002"),
        (1, "2001:DB8:1:2::9", "20010db800010002"),
        (1, "::ffff:203.0.113.9", "203.0.113.9"),
    ],
)
def test_an_address_is_the_word_of_the_proxies_and_of_nobody_else(settings, proxies, forwarded, counted):
    settings.REST_FRAMEWORK = settings.REST_FRAMEWORK | {"NUM_PROXIES": proxies}
    headers = {} if forwarded is None else {"X-Forwarded-For": forwarded}
    request = RequestFactory().get("/", REMOTE_ADDR="192.0.2.1", headers=headers)
    assert get_network(get_client_ip(request)) == counted


def test_a_server_on_a_socket_of_the_file_system_names_no_address(rf):
    assert get_network(get_client_ip(rf.get("/", REMOTE_ADDR=""))) == "unknown"


@pytest.mark.parametrize(("proxies", "forwarded"), [(0, "203.0.113.{}"), (1, "203.0.113.{}, 192.0.2.7")])
def test_a_forged_header_is_no_new_address(settings, client, account, proxies, forwarded):
    settings.REST_FRAMEWORK = settings.REST_FRAMEWORK | {"NUM_PROXIES": proxies}
    statuses = []
    for number in range(11):
        headers = {"X-Forwarded-For": forwarded.format(number)}
        form = {"username": f"nobody{number}", "password": "x"}
        statuses.append(post(client, "/authorizations/", form, **headers).status_code)
    assert statuses == [400] * 10 + [429]


# By address


@pytest.mark.parametrize("path", ["/usernames/zhang3/count/", f"/mobiles/{MOBILE}/count/", "/image_codes/{}/"])
def test_looks_from_one_address_are_sixty_a_minute(clock, client, strangers, db, path):
    path = path.format("00000000-0000-4000-8000-000000000000")
    assert [client.get(path).status_code for _ in range(60)] == [200] * 60
    clock.shift(20)
    assert_too_often(client.get(path), 40)
    assert next(strangers).get(path).status_code == 200
    clock.shift(40)
    assert client.get(path).status_code == 200


def test_names_looked_up_by_registering_are_counted_with_the_others(clock, client, account, strangers, tmp_path):
    """The answer to a number that was proved tells whether a name is taken, and its code is not used up by that."""
    assert send(client, tmp_path).status_code == 200
    form = {"username": "zhang3", "password": PASSWORD, "password2": PASSWORD, "mobile": MOBILE, "allow": True}
    form["sms_code"] = re.search("[0-9]{6}", Phone(tmp_path, client).last_line("sms.log")["text"])[0]
    assert [post(client, "/users/", form).status_code for _ in range(60)] == [400] * 60
    assert_too_often(post(client, "/users/", form), 60)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("get", "/usernames/zhang3/count/"),
        ("get", "/image_codes/00000000-0000-4000-8000-000000000000/"),
        ("get", f"/sms_codes/{MOBILE}/"),
        ("post", "/authorizations/"),
        ("post", "/users/"),
        ("post", "/password/"),
    ],
)
def test_no_page_of_another_site_uses_up_what_its_visitor_may_do(client, settings, db, method, path):
    settings.CORS_ALLOWED_ORIGINS = ["https://www.shop.example"]
    call = getattr(client, method)
    foreign = {"sec-fetch-site": "cross-site"}
    for headers in (foreign, foreign | {"origin": "https://evil.example"}):
        assert {call(path, headers=headers).status_code for _ in range(70)} == {403}
    assert call(path).status_code not in (403, 429)
    listed = foreign | {"origin": "https://www.shop.example"}
    assert call(path, headers=listed, REMOTE_ADDR="198.51.100.7").status_code != 403


def test_what_is_no_form_is_not_counted(client, account):
    for _ in range(31):
        assert client.post("/authorizations/", "x", content_type="text/plain").status_code == 415
    assert log_in(client).status_code == 200


def test_answers_to_image_codes_from_one_address_are_sixty_a_minute(clock, client, strangers, tmp_path):
    asked = {"text": "abcd", "image_code_id": "00000000-0000-4000-8000-000000000000"}
    assert [client.get(f"/sms_codes/{MOBILE}/", asked).status_code for _ in range(60)] == [400] * 60
    assert_too_often(send(client, tmp_path), 60)
    assert send(next(strangers), tmp_path).status_code == 200
    clock.shift(60)
    assert send(client, tmp_path, "13900000000").status_code == 200


def test_looks_at_names_and_at_numbers_are_counted_together(clock, client, db):
    for _ in range(30):
        client.get("/usernames/zhang3/count/")
        client.get(f"/mobiles/{MOBILE}/count/")
    assert_too_often(client.get("/usernames/zhang3/count/"), 60)


def test_logins_from_one_address_are_thirty_a_minute(clock, client, strangers, account):
    assert [log_in(client).status_code for _ in range(30)] == [200] * 30
    assert_too_often(log_in(client), 60)
    assert log_in(next(strangers)).status_code == 200
    clock.shift(60)
    assert log_in(client).status_code == 200


def test_failed_logins_from_one_address_are_ten_a_minute_however_many_succeed(clock, client, strangers, account):
    statuses = []
    for number in range(10):
        statuses += [log_in(client, f"nobody{number}").status_code, log_in(client).status_code]
    assert statuses == [400, 200] * 9 + [400, 429]
    assert_too_often(log_in(client), 60)
    assert log_in(next(strangers)).status_code == 200
    clock.shift(60)
    assert log_in(client).status_code == 200


def wrong_code(number):
    """A registration of a number that nobody has sent a code to."""
    form = {"username": f"user{number:03}", "password": PASSWORD, "password2": PASSWORD, "allow": True}
    return form | {"mobile": f"139{number:08}", "sms_code": "123456"}


def test_failed_sms_checks_from_one_address_are_thirty_an_hour(clock, client, strangers, db, tmp_path):
    right = wrong_code(77) | {"sms_code": Phone(tmp_path, client).receive_code("13900000077")}
    for number in range(29):
        assert post(client, "/users/", wrong_code(number)).status_code == 400
    stranger = next(strangers)
    # One that is right is not counted.
    other = wrong_code(78) | {"sms_code": Phone(tmp_path, client).receive_code("13900000078")}
    assert post(client, "/users/", other).status_code == 201
    assert post(client, "/users/", wrong_code(29)).status_code == 400
    assert_too_often(post(client, "/users/", right), HOUR)
    assert_too_often(post(client, "/password/", right), HOUR)
    assert post(stranger, "/users/", right).status_code == 201
    clock.shift(HOUR)
    assert post(client, "/users/", wrong_code(30)).status_code == 400


# SMS


def send(client, tmp_path, mobile=MOBILE):
    return Phone(tmp_path, client).ask_for_code(mobile)


def test_sms_to_one_number_are_five_an_hour(clock, strangers, tmp_path):
    for _ in range(5):
        assert send(next(strangers), tmp_path).status_code == 200
        clock.shift(60)
    assert_too_often(send(next(strangers), tmp_path), HOUR - 300)
    assert send(next(strangers), tmp_path, "13900000000").status_code == 200
    clock.shift(HOUR - 300)
    assert send(next(strangers), tmp_path).status_code == 200


def test_sms_to_one_number_are_ten_a_day(clock, strangers, tmp_path):
    for _ in range(10):
        assert send(next(strangers), tmp_path).status_code == 200
        clock.shift(HOUR)
    assert_too_often(send(next(strangers), tmp_path), DAY - 10 * HOUR)
    clock.shift(DAY - 10 * HOUR)
    assert send(next(strangers), tmp_path).status_code == 200


def test_sms_from_one_address_are_twenty_an_hour(clock, client, strangers, tmp_path):
    for number in range(20):
        assert send(client, tmp_path, f"139{number:08}").status_code == 200
    assert_too_often(send(client, tmp_path), HOUR)
    # What was refused to this address has not been taken from the number.
    assert send(next(strangers), tmp_path).status_code == 200
    clock.shift(HOUR)
    assert send(client, tmp_path).status_code == 200


def test_sms_from_one_address_are_a_hundred_a_day(clock, client, tmp_path):
    for number in range(100):
        assert send(client, tmp_path, f"139{number:08}").status_code == 200
        if number % 20 == 19:
            clock.shift(HOUR)
    assert_too_often(send(client, tmp_path), DAY - 5 * HOUR)
    clock.shift(DAY - 5 * HOUR)
    assert send(client, tmp_path).status_code == 200


def test_what_the_cool_down_refuses_is_not_taken_from_the_hour(clock, client, strangers, tmp_path):
    for _ in range(5):
        assert send(next(strangers), tmp_path).status_code == 200
        assert_too_often(send(client, tmp_path), 60)
        clock.shift(60)
    # Nor from the address that asked in vain: it has sent nothing yet.
    for number in range(20):
        assert send(client, tmp_path, f"139{number:08}").status_code == 200
    assert_too_often(send(client, tmp_path), HOUR)


def test_what_the_hour_refuses_begins_no_cool_down(clock, strangers, tmp_path):
    for _ in range(5):
        send(next(strangers), tmp_path)
        clock.shift(60)
    clock.shift(HOUR - 310)
    assert_too_often(send(next(strangers), tmp_path), 10)
    clock.shift(10)
    assert send(next(strangers), tmp_path).status_code == 200


def test_sms_of_the_whole_shop_have_a_ceiling(clock, settings, strangers, tmp_path, caplog):
    settings.SMS_HOURLY_CEILING = 3
    for number in range(3):
        assert send(next(strangers), tmp_path, f"139{number:08}").status_code == 200
    assert [record.levelname for record in caplog.records if record.msg == "sms_ceiling"] == []
    assert_too_often(send(next(strangers), tmp_path), HOUR)
    assert_too_often(send(next(strangers), tmp_path), HOUR)
    # One call in the night is enough.
    assert [record.levelname for record in caplog.records if record.msg == "sms_ceiling"] == ["ERROR"]
    clock.shift(HOUR)
    assert send(next(strangers), tmp_path).status_code == 200


def test_an_image_code_that_is_wrong_takes_no_sms_from_anybody(clock, client, strangers, tmp_path):
    image_code_id = "00000000-0000-4000-8000-000000000000"
    for _ in range(30):
        client.get(f"/image_codes/{image_code_id}/")
        asked = client.get(f"/sms_codes/{MOBILE}/", {"text": "0000", "image_code_id": image_code_id})
        assert asked.status_code == 400
    assert send(client, tmp_path).status_code == 200


def test_known_and_unknown_numbers_wait_alike(clock, account, strangers, tmp_path):
    def answers(mobile):
        responses = [send(next(strangers), tmp_path, mobile) for _ in range(3)]
        return [(response.status_code, response.content, response.headers) for response in responses]

    assert answers(MOBILE) == answers("13900000000")


def fail_to_send(mobile, code, minutes):
    raise sms.SMSError


def test_a_provider_that_fails_does_not_end_the_wait(clock, settings, client, strangers, tmp_path):
    settings.SMS_BACKEND = f"{__name__}.fail_to_send"
    assert send(client, tmp_path).status_code == 503
    settings.SMS_BACKEND = "apps.users.development.send_sms"
    assert_too_often(send(client, tmp_path), 60)
    clock.shift(60)
    assert send(client, tmp_path).status_code == 200


# The password of one account


def test_locks_of_an_account_grow_to_an_hour(clock, account, strangers):
    for minutes in (1, 2, 4, 8, 16, 32, 60, 60):
        for _ in range(5):
            assert log_in(next(strangers), password="another horse").status_code == 400
        assert_too_often(log_in(next(strangers)), minutes * 60)
        clock.shift(minutes * 60 - 1)
        assert_too_often(log_in(next(strangers)), 1)
        clock.shift(1)
    assert log_in(next(strangers)).status_code == 200


def test_a_success_forgets_the_failures_of_its_account(clock, account, strangers):
    for _ in range(5):
        log_in(next(strangers), password="another horse")
    clock.shift(60)
    assert log_in(next(strangers)).status_code == 200
    for _ in range(3):
        for _ in range(4):
            assert log_in(next(strangers), password="another horse").status_code == 400
        assert log_in(next(strangers)).status_code == 200
    for _ in range(5):
        assert log_in(next(strangers), password="another horse").status_code == 400
    assert_too_often(log_in(next(strangers)), 60)


def test_failures_are_forgotten_after_five_minutes(clock, account, strangers):
    for _ in range(4):
        log_in(next(strangers), password="another horse")
    clock.shift(299)
    assert log_in(next(strangers), password="another horse").status_code == 400
    assert_too_often(log_in(next(strangers)), 60)
    clock.shift(60)
    for _ in range(4):
        log_in(next(strangers), password="another horse")
    clock.shift(300)
    for _ in range(4):
        assert log_in(next(strangers), password="another horse").status_code == 400
    assert log_in(next(strangers)).status_code == 200


def test_who_waits_between_his_guesses_meets_the_lock_too(clock, account, strangers):
    def guess():
        clock.shift(300)
        return log_in(next(strangers), password="another horse").status_code

    assert [guess() for _ in range(10)] == [400] * 10
    assert_too_often(log_in(next(strangers)), 60)
    assert [guess() for _ in range(10)] == [400] * 10
    assert_too_often(log_in(next(strangers)), 120)
    clock.shift(120)
    assert log_in(next(strangers)).status_code == 200


@pytest.mark.parametrize(("age", "seconds"), [(DAY - 1, 120), (DAY, 60)])
def test_locks_are_remembered_for_a_day(clock, account, strangers, age, seconds):
    for _ in range(5):
        log_in(next(strangers), password="another horse")
    clock.shift(age)
    for _ in range(5):
        assert log_in(next(strangers), password="another horse").status_code == 400
    assert_too_often(log_in(next(strangers)), seconds)


@pytest.mark.parametrize(
    ("mobile", "names"),
    [
        (MOBILE, ["zhang3", MOBILE, "zhang3", MOBILE, "zhang3"]),
        (MOBILE, [MOBILE, "１３８１２３４５６７８", f"{MOBILE} ", f" {MOBILE}", MOBILE]),
        (None, ["zhang3", "ZHANG3", "zhang3", "Zhang3", "zhàng3"]),
        (None, ["zhang3", "zhang3 ", " zhang3", "ｚｈａｎｇ3", "zhang3"]),
        (None, ["nobody", "NOBODY", "nobody", "Nobody", "nobödy"]),
        (None, ["13900000000", "１３９００００００００", "13900000000 ", " 13900000000", "13900000000"]),
    ],
)
def test_every_way_to_name_an_account_is_counted_together(clock, users, strangers, mobile, names):
    users.create_user("zhang3", password=PASSWORD, mobile=mobile)
    for name in names:
        assert log_in(next(strangers), name, "another horse").status_code == 400
    for name in names:
        assert_too_often(log_in(next(strangers), name), 60)


@pytest.fixture
def users(django_user_model, db):
    return django_user_model.objects


def test_lock_of_one_account_is_not_that_of_another(clock, account, users, strangers):
    users.create_user("li4", password=PASSWORD, mobile="13900000000")
    for _ in range(6):
        log_in(next(strangers), password="another horse")
    assert log_in(next(strangers), "li4").status_code == 200


def bind_form(browser, phone, person):
    return {
        "mobile": MOBILE,
        "password": "another horse",
        "sms_code": phone.receive_code(),
        "access_token": browser.get_bind_token(person),
    }


def test_login_and_bind_share_one_lock(clock, account, qq, strangers, tmp_path):
    phone = Phone(tmp_path, next(strangers))
    for person, tries in [("小明", 2), ("小红", 2)]:
        browser = Browser(qq)
        form = bind_form(browser, phone, person)
        for _ in range(tries):
            assert list(browser.bind(form).json()) == ["password", "message", "code"]
        clock.shift(60)
    assert log_in(next(strangers), password="another horse").status_code == 400
    refused = browser.bind(form | {"password": PASSWORD})
    assert (refused.status_code, refused["Retry-After"], refused.json()["code"]) == (429, "60", "throttled")
    assert_too_often(log_in(next(strangers)), 60)
    clock.shift(60)
    assert browser.bind(form | {"password": PASSWORD}).status_code == 200


@pytest.mark.django_db(transaction=True)
def test_guesses_at_the_same_moment_are_five(settings, account, strangers):
    settings.PASSWORD_HASHERS = ["tests.users.test_views.CountingHasher"]
    account.set_password(PASSWORD)
    account.save()
    guessers = [next(strangers) for _ in range(50)]
    CountingHasher.hashed = 0
    names = ["zhang3", MOBILE]
    answers = at_once(lambda number: log_in(guessers[number], names[number % 2], f"horse {number}"), 50)
    assert sorted(answer.status_code for answer in answers) == [400] * 5 + [429] * 45
    assert {answer["Retry-After"] for answer in answers if answer.status_code == 429} <= {"60", "59", "58", "57", "56"}
    assert CountingHasher.hashed == 5
    assert log_in(next(strangers)).status_code == 429


@pytest.mark.django_db(transaction=True)
def test_guesses_by_binding_at_the_same_moment_are_five(account):
    def guess(number):
        attempt = f"{number:012x}"  # each with a bind token of its own
        sms.remember_proof(MOBILE, attempt)
        form = {"mobile": MOBILE, "password": f"another horse {number}", "sms_code": "123456"}
        context = {"request": RequestFactory().post("/"), "attempt": attempt}
        try:
            return AccountSerializer(data=form, context=context).is_valid()
        except Exception as exc:
            return type(exc).__name__

    assert sorted(map(str, at_once(guess, 20))) == ["False"] * 5 + ["RateLimited"] * 15


def test_an_account_that_is_locked_opens_to_who_holds_the_phone(clock, account, strangers, tmp_path):
    for _ in range(5):
        log_in(next(strangers), password="another horse")
    owner = next(strangers)
    assert_too_often(log_in(owner), 60)
    form = {"mobile": MOBILE, "password": "new correct horse", "sms_code": Phone(tmp_path, owner).receive_code()}
    assert post(owner, "/password/", form).status_code == 200
    assert log_in(owner, password="new correct horse").status_code == 200


def test_the_admin_is_no_door_around_the_limits(clock, rf, users):
    from django.contrib.admin import site

    users.create_superuser("boss", password=PASSWORD, mobile=MOBILE)

    def submit(number, password, name="boss"):
        request = rf.post("/", {"username": name, "password": password}, REMOTE_ADDR=f"203.0.113.{number}")
        form = site.login_form(request, data=request.POST)
        return form.is_valid() or form.errors.as_data()["__all__"][0].code

    assert submit(0, PASSWORD) is True
    assert [submit(number, "another horse") for number in range(6)] == ["invalid_login"] * 5 + ["throttled"]
    assert submit(7, PASSWORD) == "throttled"
    assert [submit(8, "x", f"nobody{number}") for number in range(11)] == ["invalid_login"] * 10 + ["throttled"]
    request = rf.post("/", {"username": "boss", "password": ""})
    assert list(site.login_form(request, data=request.POST).errors) == ["password"]
    assert submit(9, PASSWORD) == "throttled"  # a form with a hole in it is no success


@pytest.mark.parametrize("kind", ["present", "disabled", "staff"])
def test_a_lock_does_not_tell_whether_there_is_an_account(clock, users, strangers, kind):
    flags = {"present": {}, "disabled": {"is_active": False}, "staff": {"is_staff": True}}[kind]
    users.create_user("zhang3", password=PASSWORD, mobile=MOBILE, **flags)

    def answers(name):
        responses = [log_in(next(strangers), name, "another horse") for _ in range(7)]
        clock.shift(1)
        responses.append(log_in(next(strangers), name, "another horse"))
        clock.shift(-1)
        return [(response.status_code, response.content, response.headers) for response in responses]

    assert answers("zhang3") == answers("nobody")
    assert json.loads(answers(MOBILE)[-1][1]) == TOO_OFTEN
    assert answers("13900000000") == answers("13900000001")


# Two processes of one shop


@pytest.fixture(scope="module")
def two_processes(django_db_setup, tmp_path_factory):
    var = tmp_path_factory.mktemp("var")
    server = os.environ["DATABASE_URL"].rpartition("/")[0]
    environ = {"DATABASE_URL": f"{server}/{connection.settings_dict['NAME']}"}
    with processes.shop(var, **environ) as first, processes.shop(var, **environ) as second:
        yield first, second


def ask_at_once(shops, call, times):
    """Make a call from as many addresses to both processes at the same moment; return the statuses, counted."""
    visitors = [processes.Visitor(f"203.0.{number // 250}.{number % 250}") for number in range(times)]
    statuses = at_once(lambda number: call(visitors[number], shops[number % 2], number).status, times)
    return {status: statuses.count(status) for status in sorted(set(statuses))}


@pytest.mark.servers
@pytest.mark.django_db(transaction=True)
def test_a_hundred_guesses_at_two_processes_are_five(two_processes, users, settings):
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.PBKDF2PasswordHasher"]  # the processes'
    name = f"zhang_{secrets.token_hex(4)}"
    users.create_user(name, password=PASSWORD)

    def guess(visitor, shop, number):
        return visitor.post(f"{shop.url}/authorizations/", {"username": name, "password": f"horse {number}"})

    assert ask_at_once(two_processes, guess, 100) == {400: 5, 429: 95}
    assert ask_at_once(two_processes, guess, 10) == {429: 10}


@pytest.mark.servers
@pytest.mark.django_db(transaction=True)
def test_twenty_who_ask_two_processes_for_an_sms_get_one(two_processes, users):
    mobile = f"13{secrets.randbelow(10**9):09}"
    visitors = [processes.Visitor() for _ in range(20)]
    answers = []
    for visitor in visitors:
        image_code_id = str(uuid4())
        visitor.get(f"{two_processes[0].url}/image_codes/{image_code_id}/")
        text = two_processes[0].last_line("captcha.log", id=image_code_id)["text"]
        answers.append(urlencode({"text": text, "image_code_id": image_code_id}))

    def ask(number):
        return visitors[number].get(f"{two_processes[number % 2].url}/sms_codes/{mobile}/?{answers[number]}").status

    assert sorted(at_once(ask, 20)) == [200] + [429] * 19


@pytest.mark.servers
@pytest.mark.django_db(transaction=True)
def test_a_changed_password_ends_tokens_at_the_other_process_at_once(two_processes, users, settings):
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.PBKDF2PasswordHasher"]  # the processes'
    first, second = two_processes
    name = f"zhang_{secrets.token_hex(4)}"
    users.create_user(name, password=PASSWORD)
    visitor = processes.Visitor()
    token = visitor.post(f"{first.url}/authorizations/", {"username": name, "password": PASSWORD}).json()["token"]
    assert visitor.get(f"{second.url}/user/", Authorization=f"JWT {token}").status == 200
    user = users.get(username=name)
    user.set_password("another horse")
    user.save()
    assert visitor.get(f"{first.url}/user/", Authorization=f"JWT {token}").status == 401
    assert visitor.get(f"{second.url}/user/", Authorization=f"JWT {token}").status == 401

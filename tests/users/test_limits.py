"""How often one address, one mobile and the whole shop may do something."""

from itertools import cycle
from uuid import uuid4

import pytest

from tests.conftest import MOBILE, PASSWORD, Phone
from tests.tools.requirements import requirement
from tests.users import texts
from tests.users.helpers import OTHER_MOBILE, assert_invalid, assert_too_often, at_once, log_in, post

HOUR, DAY = 3600, 24 * 3600
IMAGE_CODE = "/image_codes/00000000-0000-4000-8000-000000000000/"


def new_mobile(number):
    return f"139{number:08}"


# One address ----------------------------------------------------------------------------------------------------------

IMAGE_ANSWER = {"text": "abcd", "image_code_id": "00000000-0000-4000-8000-000000000000"}
CALLS = {
    "lookups": (
        60,
        lambda client: client.get("/usernames/zhang3/count/"),
        lambda client: client.get(f"/mobiles/{MOBILE}/count/"),
        lambda client: post(client, "/users/", {}),  # a registration also shows whether a name is taken
    ),
    "image codes": (60, lambda client: client.get(IMAGE_CODE)),
    "answers to image codes": (60, lambda client: client.get(f"/sms_codes/{MOBILE}/", IMAGE_ANSWER)),
    "logins": (30, log_in),
}


@pytest.mark.parametrize("name", CALLS)
def test_calls_from_one_address_are_limited_by_the_minute(clock, client, strangers, account, name):
    maximum, *calls = CALLS[name]
    for _, call in zip(range(maximum), cycle(calls), strict=False):
        assert call(client).status_code in (200, 400)
    clock.shift(20)
    for call in calls:
        assert_too_often(call(client), 40)
    assert calls[0](next(strangers)).status_code != 429
    clock.shift(40)
    assert calls[0](client).status_code != 429


@requirement("6.1")
def test_failed_logins_from_one_address_are_ten_a_minute_however_many_succeed(clock, client, strangers, account):
    for number in range(9):
        assert [log_in(client, f"nobody{number}").status_code, log_in(client).status_code] == [400, 200]
    assert log_in(client, "nobody").status_code == 400
    assert_too_often(log_in(client), 60)
    assert log_in(next(strangers)).status_code == 200
    clock.shift(60)
    assert log_in(client).status_code == 200


@requirement("11 SMS check")
def test_failed_sms_checks_from_one_address_are_thirty_an_hour(clock, client, strangers, db, tmp_path):
    def registration(number, **fields):
        form = {"username": f"user{number:03}", "password": PASSWORD, "password2": PASSWORD, "allow": True}
        return {**form, "mobile": new_mobile(number), "sms_code": "123456", **fields}

    def receive_code(number):
        return Phone(tmp_path, client).receive_code(new_mobile(number))

    right, later = registration(77, sms_code=receive_code(77)), registration(78, sms_code=receive_code(78))
    for number in range(29):
        assert_invalid(post(client, "/users/", registration(number)), "sms_code", texts.SMS_CODE_WRONG)
    assert post(client, "/users/", right).status_code == 201  # a success is not counted
    assert post(client, "/users/", registration(29)).status_code == 400
    assert_too_often(post(client, "/users/", later), HOUR)
    assert_too_often(post(client, "/password/", later), HOUR)
    assert post(next(strangers), "/users/", later).status_code == 201
    clock.shift(HOUR)
    assert post(client, "/users/", registration(30)).status_code == 400


@requirement("9.6")
@pytest.mark.parametrize(("proxies", "forwarded"), [(0, "203.0.113.{}"), (1, "203.0.113.{}, 192.0.2.7")])
def test_forged_header_does_not_change_the_counted_address(settings, client, account, proxies, forwarded):
    settings.REST_FRAMEWORK = settings.REST_FRAMEWORK | {"NUM_PROXIES": proxies}
    statuses = [
        log_in(client, f"nobody{number}", **{"X-Forwarded-For": forwarded.format(number)}).status_code
        for number in range(11)
    ]
    assert statuses == [400] * 10 + [429]


def test_body_that_is_not_json_is_not_counted(client, account):
    for _ in range(31):
        assert client.post("/authorizations/", "x", content_type="text/plain").status_code == 415
    assert log_in(client).status_code == 200


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("get", "/usernames/zhang3/count/"),
        ("get", IMAGE_CODE),
        ("get", f"/sms_codes/{MOBILE}/"),
        ("post", "/authorizations/"),
        ("post", "/users/"),
        ("post", "/password/"),
    ],
)
def test_page_of_another_site_cannot_use_up_the_limits_of_its_visitor(client, settings, db, method, path):
    settings.CORS_ALLOWED_ORIGINS = ["https://www.shop.example"]
    call, foreign = getattr(client, method), {"sec-fetch-site": "cross-site"}
    for headers in (foreign, foreign | {"origin": "https://evil.example"}):
        assert {call(path, headers=headers).status_code for _ in range(31)} == {403}
    assert call(path).status_code not in (403, 429)
    listed = foreign | {"origin": "https://www.shop.example"}
    assert call(path, headers=listed, REMOTE_ADDR="198.51.100.7").status_code != 403


# SMS ------------------------------------------------------------------------------------------------------------------


def send(client, tmp_path, mobile=MOBILE):
    return Phone(tmp_path, client).ask_for_code(mobile)


@requirement("6.4", "11 SMS send")
def test_second_sms_to_one_mobile_waits_a_minute(clock, phone):
    phone.receive_code()
    clock.shift(59)
    assert_too_often(phone.ask_for_code(), 1)
    clock.shift(1)
    assert phone.receive_code()


@requirement("6.4")
def test_one_of_many_simultaneous_requests_sends_an_sms(strangers, tmp_path):
    clients, asked = [next(strangers) for _ in range(20)], []
    for client in clients:
        asked.append({"image_code_id": str(uuid4())})
        client.get(f"/image_codes/{asked[-1]['image_code_id']}/")
        asked[-1]["text"] = Phone(tmp_path, client).last_line("captcha.log")["text"]

    def ask(number):
        return clients[number].get(f"/sms_codes/{MOBILE}/", asked[number]).status_code

    assert sorted(at_once(ask, 20)) == [200] + [429] * 19
    assert len((tmp_path / "sms.log").read_text().splitlines()) == 1


@requirement("6.4", "11 SMS send")
def test_sms_to_one_mobile_are_five_an_hour_and_ten_a_day(clock, strangers, tmp_path):
    for _ in range(5):
        assert send(next(strangers), tmp_path).status_code == 200
        assert_too_often(send(next(strangers), tmp_path), 60)  # and is not counted in the hour
        clock.shift(60)
    assert_too_often(send(next(strangers), tmp_path), HOUR - 5 * 60)
    assert send(next(strangers), tmp_path, OTHER_MOBILE).status_code == 200
    clock.shift(HOUR - 5 * 60 - 10)
    assert_too_often(send(next(strangers), tmp_path), 10)
    clock.shift(10)  # the refusal ten seconds ago began no wait of a minute
    for _ in range(5):
        assert send(next(strangers), tmp_path).status_code == 200
        clock.shift(60)
    clock.shift(HOUR)
    left = DAY - 2 * HOUR - 5 * 60
    assert_too_often(send(next(strangers), tmp_path), left)
    clock.shift(left)
    assert send(next(strangers), tmp_path).status_code == 200


@requirement("6.4", "11 SMS send")
def test_sms_from_one_address_are_twenty_an_hour_and_a_hundred_a_day(clock, client, strangers, tmp_path):
    assert send(next(strangers), tmp_path).status_code == 200
    for _ in range(3):
        assert_too_often(send(client, tmp_path), 60)  # and is not counted for the address
    for number in range(100):
        assert send(client, tmp_path, new_mobile(number)).status_code == 200
        if number % 20 == 19:
            assert_too_often(send(client, tmp_path, OTHER_MOBILE), HOUR)
            clock.shift(HOUR)
    assert_too_often(send(client, tmp_path, OTHER_MOBILE), DAY - 5 * HOUR)
    assert send(next(strangers), tmp_path, OTHER_MOBILE).status_code == 200  # not counted for the mobile either
    clock.shift(DAY - 5 * HOUR)
    assert send(client, tmp_path).status_code == 200


@requirement("6.4", "11 SMS send")
def test_sms_of_the_whole_shop_have_an_hourly_ceiling_with_one_alarm(clock, settings, strangers, tmp_path, caplog):
    def alarms():
        return [record.levelname for record in caplog.records if record.msg == "sms_ceiling"]

    settings.SMS_HOURLY_CEILING = 3
    for number in range(3):
        assert send(next(strangers), tmp_path, new_mobile(number)).status_code == 200
    assert alarms() == []
    for _ in range(2):
        assert_too_often(send(next(strangers), tmp_path), HOUR)
    assert alarms() == ["ERROR"]
    clock.shift(HOUR)
    assert send(next(strangers), tmp_path).status_code == 200

"""How often one address, one mobile and the whole shop may do something."""

from itertools import cycle

import pytest

from tests.conftest import MOBILE, Phone
from tests.tools.requirements import requirement
from tests.users import texts
from tests.users.checks import assert_invalid, assert_too_often
from tests.users.helpers import OTHER_MOBILE, log_in, post

HOUR, DAY = 3600, 24 * 3600
IMAGE_ANSWER = {"text": "abcd", "image_code_id": "00000000-0000-4000-8000-000000000000"}
IMAGE_CODE = f"/image_codes/{IMAGE_ANSWER['image_code_id']}/"


def new_mobile(number):
    return f"139{number:08}"


LOOKUPS = (
    lambda client: client.get("/usernames/zhang3/count/"),
    lambda client: client.get(f"/mobiles/{MOBILE}/count/"),
    lambda client: post(client, "/users/", {}),  # a registration also shows whether a name is taken
)
CALLS = {
    "lookups": (60, *LOOKUPS),
    "image codes": (60, lambda client: client.get(IMAGE_CODE)),
    "answers to image codes": (60, lambda client: client.get(f"/sms_codes/{MOBILE}/", IMAGE_ANSWER)),
    "logins": (30, log_in),
}


@pytest.mark.parametrize("name", CALLS)
def test_calls_from_one_address_are_limited_by_the_minute(clock, client, new_client, account, name):
    maximum, *calls = CALLS[name]
    for _, call in zip(range(maximum), cycle(calls), strict=False):
        assert call(client).status_code in (200, 400)
    clock.shift(20)
    for call in calls:
        assert_too_often(call(client), 40)
    assert calls[0](new_client()).status_code != 429
    clock.shift(40)
    assert calls[0](client).status_code != 429


@requirement("6.1")
def test_failed_logins_from_one_address_are_ten_a_minute_however_many_succeed(clock, client, new_client, account):
    for number in range(9):
        assert [log_in(client, f"nobody{number}").status_code, log_in(client).status_code] == [400, 200]
    assert log_in(client, "nobody").status_code == 400
    assert_too_often(log_in(client), 60)
    assert log_in(new_client()).status_code == 200
    clock.shift(60)
    assert log_in(client).status_code == 200


@requirement("11 SMS check")
def test_failed_sms_checks_from_one_address_are_thirty_an_hour(clock, client, new_client, registration):
    def try_to_register(client, **fields):
        return post(client, "/users/", registration | fields)

    for number in range(29):
        failed = try_to_register(client, mobile=new_mobile(number))
        assert_invalid(failed, "sms_code", texts.SMS_CODE_WRONG)
    common = try_to_register(client, password="password1", password2="password1")
    assert_invalid(common, "password", texts.PASSWORD_COMMON)  # the code was right: not counted
    assert try_to_register(client, mobile=new_mobile(29)).status_code == 400
    assert_too_often(try_to_register(client), HOUR)
    assert_too_often(post(client, "/password/", registration), HOUR)
    assert try_to_register(new_client()).status_code == 201
    clock.shift(HOUR)
    assert try_to_register(client).status_code == 400


def test_body_that_is_not_json_is_not_counted(client, account):
    assert {client.post("/authorizations/", "x", content_type="text/plain").status_code for _ in range(31)} == {415}
    assert log_in(client).status_code == 200


READING = ("/usernames/zhang3/count/", IMAGE_CODE, f"/sms_codes/{MOBILE}/")


@pytest.mark.parametrize("path", [*READING, "/authorizations/", "/users/", "/password/"])
def test_page_of_another_site_cannot_use_up_the_limits_of_its_visitor(client, settings, db, path):
    settings.CORS_ALLOWED_ORIGINS = ["https://www.shop.example"]
    call = client.get if path in READING else client.post
    foreign = {"sec-fetch-site": "cross-site"}
    for headers in (foreign, foreign | {"origin": "https://evil.example"}):
        assert {call(path, headers=headers).status_code for _ in range(31)} == {403}
    assert call(path).status_code not in (403, 429)
    listed = foreign | {"origin": "https://www.shop.example"}
    assert call(path, headers=listed, REMOTE_ADDR="198.51.100.7").status_code != 403


def send(client, tmp_path, mobile=MOBILE):
    return Phone(tmp_path, client).ask_for_code(mobile)


@requirement("6.4", "11 SMS send")
def test_sms_to_one_mobile_are_one_a_minute_five_an_hour_and_ten_a_day(clock, new_client, tmp_path):
    def send_every_minute():
        for _ in range(5):
            assert send(new_client(), tmp_path).status_code == 200
            clock.shift(59)
            assert_too_often(send(new_client(), tmp_path), 1)  # and is not counted in the hour
            clock.shift(1)

    send_every_minute()
    assert_too_often(send(new_client(), tmp_path), HOUR - 5 * 60)
    assert send(new_client(), tmp_path, OTHER_MOBILE).status_code == 200
    clock.shift(HOUR - 5 * 60 - 10)
    assert_too_often(send(new_client(), tmp_path), 10)
    clock.shift(10)  # the get_errors ten seconds ago began no wait of a minute
    send_every_minute()
    clock.shift(HOUR)
    left = DAY - 2 * HOUR - 5 * 60
    assert_too_often(send(new_client(), tmp_path), left)
    clock.shift(left)
    assert send(new_client(), tmp_path).status_code == 200


@requirement("6.4", "11 SMS send")
def test_sms_from_one_address_are_twenty_an_hour_and_a_hundred_a_day(clock, client, new_client, tmp_path):
    assert send(new_client(), tmp_path).status_code == 200
    for _ in range(3):
        assert_too_often(send(client, tmp_path), 60)  # and is not counted for the address
    for number in range(100):
        assert send(client, tmp_path, new_mobile(number)).status_code == 200
        if number % 20 == 19:
            assert_too_often(send(client, tmp_path, OTHER_MOBILE), HOUR)
            clock.shift(HOUR)
    assert_too_often(send(client, tmp_path, OTHER_MOBILE), DAY - 5 * HOUR)
    assert send(new_client(), tmp_path, OTHER_MOBILE).status_code == 200  # not counted for the mobile either
    clock.shift(DAY - 5 * HOUR)
    assert send(client, tmp_path).status_code == 200


@requirement("6.4", "10.4", "11 SMS send")
def test_sms_of_the_whole_shop_have_an_hourly_ceiling_with_one_alarm(clock, settings, new_client, tmp_path, caplog):
    settings.SMS_HOURLY_CEILING = 3
    for number in range(3):
        assert send(new_client(), tmp_path, new_mobile(number)).status_code == 200
    for _ in range(2):
        assert_too_often(send(new_client(), tmp_path), HOUR)
    alarms = [record for record in caplog.records if record.levelname == "ERROR"]
    assert [(alarm.msg, alarm.outcome, alarm.limit) for alarm in alarms] == [("sms_ceiling", "alarm", "sms_ceiling")]
    clock.shift(HOUR)
    assert send(new_client(), tmp_path).status_code == 200

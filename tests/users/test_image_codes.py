"""Image codes: a picture whose answer allows one SMS."""

from datetime import datetime, timedelta
from uuid import uuid4

import pytest
from django.test import Client
from PIL import Image

from tests.conftest import MOBILE
from tests.tools.requirements import requirement
from tests.users import texts
from tests.users.checks import assert_invalid
from tests.users.helpers import OTHER_MOBILE, simultaneously


@pytest.fixture
def image_code(client, phone):
    """An image code as the page sends it back with its request for an SMS."""
    image_code_id = str(uuid4())
    client.get(f"/image_codes/{image_code_id}/")
    line = phone.last_line("captcha.log")
    assert line == {"id": image_code_id, "text": line["text"], "time": line["time"]}
    assert datetime.fromisoformat(line["time"]).utcoffset() == timedelta(0)
    return {"image_code_id": image_code_id, "text": line["text"]}


def ask_for_sms(client, image_code, mobile=MOBILE):
    return client.get(f"/sms_codes/{mobile}/", image_code)


def test_image_code_is_an_uncached_png_whose_answer_is_written_down_only_on_request(client, settings, tmp_path):
    settings.CAPTCHA_LOG = ""
    response = client.get(f"/image_codes/{uuid4()}/", headers={"Accept": "image/png"})
    assert (response.status_code, response["Content-Type"], response["Cache-Control"]) == (200, "image/png", "no-store")
    path = tmp_path / "code.png"
    path.write_bytes(response.content)
    with Image.open(path) as image:
        assert (image.format, image.size) == ("PNG", (160, 60))
    assert not (tmp_path / "captcha.log").exists()


@requirement("6.5")
def test_image_code_is_used_up_by_any_answer_and_a_wrong_one_sends_no_sms(client, image_code, phone):
    for text in ("0000", image_code["text"]):
        assert_invalid(ask_for_sms(client, image_code | {"text": text}), "text", texts.IMAGE_CODE_WRONG)
    assert not (phone.var / "sms.log").exists()
    client.get(f"/image_codes/{image_code['image_code_id']}/")
    lower = image_code | {"text": phone.last_line("captcha.log")["text"].lower()}
    response = ask_for_sms(client, lower)
    assert (response.status_code, response.json()) == (200, {"message": "OK"})
    assert_invalid(ask_for_sms(client, lower, OTHER_MOBILE), "text", texts.IMAGE_CODE_WRONG)


@requirement("6.5")
def test_simultaneous_requests_use_an_image_code_once(image_code):
    def ask(number):
        return ask_for_sms(Client(), image_code, f"1390000000{number}").status_code

    assert sorted(simultaneously(ask)) == [200] + [400] * 7


@pytest.mark.parametrize(("age", "status"), [(299, 200), (300, 400)])
def test_image_code_lives_five_minutes(clock, client, image_code, age, status):
    clock.shift(age)
    assert ask_for_sms(client, image_code).status_code == status


@requirement("6.2")
@pytest.mark.parametrize(
    ("change", "field", "sentence"),
    [
        ({"text": ""}, "text", "请输入图形验证码。"),
        ({"text": "x" * 1000}, "text", texts.IMAGE_CODE_WRONG),
        ({"text": "a\0b"}, "text", texts.IMAGE_CODE_WRONG),
        ({"image_code_id": "no id"}, "image_code_id", texts.IMAGE_CODE_WRONG),
        ({"image_code_id": ""}, "image_code_id", texts.IMAGE_CODE_WRONG),
        ({"mobile": "123"}, "mobile", texts.MOBILE_MALFORMED),
    ],
)
def test_malformed_request_for_an_sms_is_refused(client, image_code, change, field, sentence):
    asked = {**image_code, "mobile": MOBILE, **change}
    assert_invalid(ask_for_sms(client, asked, asked.pop("mobile")), field, sentence)

"""QQ_PROFILE: nickname and avatar reach the form, the shop's serializer and the binding, and never stop a login."""

import logging

import pytest
from django.db import connection
from rest_framework.serializers import Serializer

from apps.oauth.models import OAuthQQUser
from apps.oauth.profiles import fit_nickname
from tests.conftest import fill_in, token_requests
from tests.oauth.views.test_apps import App
from tests.oauth.views.test_bindings import SignedIn

INFO = "/user/get_user_info"


@pytest.fixture(autouse=True)
def with_profile(shop):
    shop.QQ_PROFILE = True


def test_form_greets_the_user_and_the_binding_keeps_the_profile(browser, qq, phone, account):
    qq.behave(nickname="小企鹅🐧")
    code = browser.arrive()
    first, again = (browser.redeem_code(code).json() for _ in range(2))
    assert first["nickname"] == again["nickname"] == "小企鹅🐧"
    assert first["avatar"] == again["avatar"]
    assert first["avatar"].startswith("https://")
    assert len(qq.requests(INFO)) == 1
    browser.bind(fill_in(phone, first["access_token"]))
    binding = OAuthQQUser.objects.get()
    assert (binding.nickname, binding.avatar, binding.client_id) == ("小企鹅🐧", first["avatar"], qq.client_id)


def test_login_of_a_known_user_asks_for_no_profile(browser, qq, binding):
    assert "user_id" in browser.redeem_code(browser.arrive()).json()
    assert (token_requests(qq), qq.requests(INFO)) == (1, [])


@pytest.mark.parametrize("fault", ["reset", "html", "502", {"fault": "error", "number": 1002}, "hang"])
def test_failing_profile_stops_nothing(browser, qq, phone, caplog, fault):
    qq.behave(get_user_info=fault if isinstance(fault, dict) else {"fault": fault})
    body = browser.redeem_code(browser.arrive()).json()
    assert (body["nickname"], body["avatar"]) == ("", "")
    assert "QQ gave no profile" in caplog.text
    assert browser.bind(fill_in(phone, body["access_token"])).status_code == 200
    assert OAuthQQUser.objects.get().nickname is None


def test_mini_program_has_no_token_to_ask_with(qq, db):
    body = App(qq, "mini").send().json()
    assert (body["nickname"], body["avatar"], qq.requests(INFO)) == ("", "", [])


def test_shop_without_the_setting_is_asked_nothing_and_gets_nothing(browser, qq, shop):
    shop.QQ_PROFILE = False
    offer = browser.redeem_code(browser.arrive()).json()
    assert offer.keys() == {"access_token", "fields", "next"}
    assert offer["fields"] == ["mobile", "password", "sms_code"]
    assert qq.requests(INFO) == []


def test_serializer_of_the_shop_gets_the_profile(browser, qq, shop, phone, account):
    shop.QQ_ACCOUNT_SERIALIZER = f"{__name__}.GreetedSerializer"
    qq.behave(nickname="小明")
    token = browser.get_bind_token()
    GreetedSerializer.account = account
    assert browser.bind({"access_token": token}).status_code == 200
    assert GreetedSerializer.seen["nickname"] == "小明"


class GreetedSerializer(Serializer):
    account = seen = None

    def save(self):
        type(self).seen = self.context["profile"]
        return self.account


def test_list_shows_the_profile(qq, account):
    user = SignedIn(qq, account)
    qq.behave(nickname="<b>小明</b>")
    added = user.link(user.get_bind_token()).json()
    assert (added["nickname"], added["avatar"][:8]) == ("<b>小明</b>", "https://")


@pytest.mark.parametrize("charset", ["utf8", "utf8mb3", "utf8mb4", None])
def test_nickname_fits_the_connection(monkeypatch, caplog, charset):
    caplog.set_level(logging.INFO)
    options = {} if charset is None else {"charset": charset}
    monkeypatch.setitem(connection.settings_dict, "OPTIONS", options)
    is_small = connection.vendor == "mysql" and charset in ("utf8", "utf8mb3")
    assert fit_nickname("小明", "default") == "小明"
    assert fit_nickname("a🐧b", "default") == ("ab" if is_small else "a🐧b")
    assert ("A nickname is stored without 1 of its characters" in caplog.text) is is_small

"""Each thing the shop signs is good for one purpose, by its own keys, for as long as those are kept."""

import os
import secrets

import pytest
from django.contrib.auth import get_user_model
from django.contrib.auth.tokens import default_token_generator
from django.contrib.sessions.backends.signed_cookies import SessionStore as SignedSession
from django.core import signing
from django.db.models import F
from django.test import Client

import standin
from apps.users.tokens import login_payload
from tests.conftest import PASSWORD, Browser, query_of
from tests.tools import processes


class Shop:
    """One browser halfway through a login at a shop, with one of each thing the shop signs."""

    def __init__(self, qq, account):
        self.qq, self.account = qq, account
        self.browser, self.returned, self.bound = Browser(qq), Browser(qq), Browser(qq)
        self.address = self.browser.sign_in()
        self.sealed = self.returned.arrive("小红")
        self.values = {
            "flow cookie": self.cookie(self.browser).value,
            "sealed code": self.sealed,
            "bind token": self.bound.get_bind_token("小刚"),
            "login token": login_payload(account, None)["token"],
            "signed value": signing.dumps({"id": account.pk}),
            "signed session": self.make_session(),
            "password reset": default_token_generator.make_token(account),
        }

    def cookie(self, browser):
        (morsel,) = browser.client.cookies.values()
        return morsel

    def make_session(self):
        session = SignedSession()
        session["user"] = self.account.pk
        session.save()
        return session.session_key

    def takes(self, place, value):
        """Tell whether the value opens what one has to show a `place` for."""
        return getattr(self, place.replace(" ", "_"))(value)

    def flow_cookie(self, value):
        self.browser.client.cookies[self.cookie(self.browser).key] = value
        return "code" in self.browser.come_back(self.address)

    def sealed_code(self, value):
        return self.returned.collect(value).status_code == 200

    def bind_token(self, value):
        # Refused later, for what else is wrong with the form, if it is taken.
        return self.bound.bind({"access_token": value}).json()["code"] == "invalid"

    def login_token(self, value):
        return Client().get("/user/", headers={"Authorization": f"JWT {value}"}).status_code == 200

    def signed_value(self, value):
        try:
            return bool(signing.loads(value))
        except signing.BadSignature:
            return False

    def signed_session(self, value):
        return SignedSession(value).get("user") == self.account.pk

    def password_reset(self, value):
        return default_token_generator.check_token(self.account, value)


THINGS = (
    "flow cookie",
    "sealed code",
    "bind token",
    "login token",
    "signed value",
    "signed session",
    "password reset",
)


@pytest.fixture
def keys(settings):
    """Change the shop's keys, for login tokens and for all else: the one that signs, then those of before."""

    def keys(key, *fallbacks):
        settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS = key, list(fallbacks)
        settings.SIMPLE_JWT = {**settings.SIMPLE_JWT, "SIGNING_KEY": f"{key} of tokens"}
        settings.JWT_SIGNING_KEY_FALLBACKS = [f"{fallback} of tokens" for fallback in fallbacks]

    return keys


OLD, NEW, OTHER = (letter * 50 for letter in "ano")


@pytest.mark.parametrize("place", THINGS)
@pytest.mark.parametrize("thing", THINGS)
def test_each_thing_is_good_in_its_own_place_only(qq, account, thing, place):
    shop = Shop(qq, account)
    assert shop.takes(place, shop.values[thing]) == (thing == place)


@pytest.mark.parametrize("thing", THINGS)
def test_nothing_of_another_shop_is_good_here(qq, account, keys, thing):
    keys(OLD)
    shop = Shop(qq, account)
    keys(OTHER)
    assert not shop.takes(thing, shop.values[thing])


@pytest.mark.parametrize("thing", THINGS)
def test_a_change_of_key_ends_nothing_while_the_old_one_is_kept(qq, account, keys, thing):
    keys(OLD)
    shop = Shop(qq, account)
    keys(NEW, "unrelated" * 6, OLD)
    assert shop.takes(thing, shop.values[thing])


@pytest.mark.parametrize("thing", THINGS)
def test_all_is_signed_with_the_new_key_at_once(qq, account, keys, thing):
    keys(NEW, OLD, "unrelated" * 6)
    shop = Shop(qq, account)
    keys(NEW)
    assert shop.takes(thing, shop.values[thing])


@pytest.mark.parametrize("thing", THINGS)
def test_without_the_old_key_what_it_signed_is_dead(qq, account, keys, thing):
    keys(OLD)
    shop = Shop(qq, account)
    keys(NEW, "unrelated" * 6)
    assert not shop.takes(thing, shop.values[thing])


def test_the_key_of_login_tokens_is_another_one(qq, account, settings):
    shop = Shop(qq, account)
    settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS = NEW, []
    assert shop.takes("login token", shop.values["login token"])


# The drill ------------------------------------------------------------------------------------------------------------


def start(shop, visitor):
    """Press the QQ button; return the address of QQ it leads to."""
    return visitor.get(f"{shop.url}/oauth/qq/login/").headers["Location"]


def come_back(shop, visitor, address):
    """Follow QQ's redirect, to where the shop is now; return the parameters its page gets."""
    path = address.partition("/oauth/")[2]
    return query_of(visitor.get(f"{shop.url}/oauth/{path}").headers["Location"])


def collect(shop, visitor, code):
    return visitor.get(f"{shop.url}/oauth/qq/users/?code={code}").json()


def profile(shop, token):
    return processes.Visitor().get(f"{shop.url}/user/", Authorization=f"JWT {token}").status


def test_after_a_breach_nothing_of_before_opens_anything_and_everybody_can_log_in_anew(tmp_path):
    listeners = processes.listen(), processes.listen()
    mobile = f"13{secrets.randbelow(10**9):09}"
    keys = [{name: secrets.token_urlsafe(64) for name in ("SECRET_KEY", "JWT_SIGNING_KEY")} for _ in listeners]
    owner, returned, waiting, away = (processes.Visitor() for _ in range(4))
    with standin.running(callbacks=map(processes.callback_of, listeners)) as qq:
        person = secrets.token_hex(8)

        with processes.shop(tmp_path, qq, listener=listeners[0], **keys[0]) as shop:
            code = come_back(shop, owner, qq.sign_in(start(shop, owner), person))["code"]
            form = {"mobile": mobile, "password": PASSWORD, "access_token": collect(shop, owner, code)["access_token"]}
            form["sms_code"] = shop.receive_sms_code(owner, mobile)
            by_qq = owner.post(f"{shop.url}/oauth/qq/users/", form).json()["token"]
            credentials = {"username": mobile, "password": PASSWORD}
            by_password = owner.post(f"{shop.url}/authorizations/", credentials).json()["token"]
            sealed = come_back(shop, returned, qq.sign_in(start(shop, returned), person))["code"]
            code = come_back(shop, waiting, qq.sign_in(start(shop, waiting), "小红"))["code"]
            bind_token = collect(shop, waiting, code)["access_token"]
            address = qq.sign_in(start(shop, away), person)
            assert [profile(shop, token) for token in (by_qq, by_password)] == [200, 200]

        # What SECURITY.md says to do: other keys, no fallbacks, every account's generation raised.
        raise_generations = (
            "from django.db.models import F; from apps.users.models import User;"
            "User.objects.update(token_generation=F('token_generation') + 1)"
        )
        environ = {**os.environ, "VAR_DIR": str(tmp_path), **keys[1]}
        processes.manage(environ, "shell", "--verbosity=0", "--command", raise_generations)

        with processes.shop(tmp_path, qq, listener=listeners[1], **keys[1]) as shop:
            assert [profile(shop, token) for token in (by_qq, by_password)] == [401, 401]
            assert come_back(shop, away, address) == {"error": "state_invalid"}
            assert collect(shop, returned, sealed)["code"] == "code_invalid"
            answer = waiting.post(f"{shop.url}/oauth/qq/users/", {**form, "access_token": bind_token})
            assert (answer.status, answer.json()["code"]) == (400, "bind_token_invalid")

            code = come_back(shop, away, qq.sign_in(start(shop, away), person))["code"]
            assert profile(shop, collect(shop, away, code)["token"]) == 200
            answer = owner.post(f"{shop.url}/authorizations/", credentials)
            assert profile(shop, answer.json()["token"]) == 200


def test_raised_generations_end_every_login_token_by_themselves(account):
    token = login_payload(account, None)["token"]
    client, headers = Client(), {"Authorization": f"JWT {token}"}
    assert client.get("/user/", headers=headers).status_code == 200
    get_user_model().objects.update(token_generation=F("token_generation") + 1)
    assert client.get("/user/", headers=headers).status_code == 401

"""Each signed value serves one purpose, and only as long as its key is kept."""

import pytest
from django.contrib.auth import get_user_model
from django.contrib.auth.tokens import default_token_generator
from django.contrib.sessions.backends.signed_cookies import SessionStore
from django.core import signing
from django.db.models import F
from django.test import Client

from apps.oauth.models import OAuthQQUser
from apps.users.tokens import login_payload
from tests.conftest import PASSWORD, Browser
from tests.tools.requirements import requirement


class SignedValues:
    """Three browsers, each in the middle of a login, and one of each value that the shop signs."""

    def __init__(self, qq, account):
        self.account = account
        self.at_qq, self.at_page, self.at_form = Browser(qq), Browser(qq), Browser(qq)
        self.address = self.at_qq.sign_in()
        ((self.cookie_name, cookie),) = self.at_qq.cookies.items()
        session = SessionStore()
        session["user"] = account.pk
        session.save()
        self.values = {
            "flow cookie": cookie,
            "sealed code": self.at_page.arrive("小红"),
            "bind token": self.at_form.get_bind_token("小刚"),
            "login token": login_payload(account, None)["token"],
            "signed value": signing.dumps({"id": account.pk}),
            "signed session": session.session_key,
            "password reset": default_token_generator.make_token(account),
        }

    def accepts(self, purpose, value):
        """Return whether the shop accepts the value for the purpose."""
        match purpose:
            case "flow cookie":
                self.at_qq.add_cookies({self.cookie_name: value})
                return "code" in self.at_qq.come_back(self.address)
            case "sealed code":
                return self.at_page.redeem_code(value).status_code == 200
            case "bind token":  # then the rest of the form is refused
                return self.at_form.bind({"access_token": value}).json()["code"] == "invalid"
            case "login token":
                return Client().get("/user/", headers={"authorization": f"JWT {value}"}).status_code == 200

    def accepted(self):
        """Return the purposes whose own value is accepted."""
        return [name for name in PURPOSES if self.accepts(name, self.values[name])]


PURPOSES = ["flow cookie", "sealed code", "bind token", "login token"]
OLD, NEW, OTHER, UNRELATED = (letter * 50 for letter in "anou")


@pytest.fixture
def set_keys(settings):
    """A function that changes all keys of the shop: the one that signs, then those that only verify."""

    def set_keys(key, *fallbacks):
        settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS = key, list(fallbacks)
        settings.SIMPLE_JWT = {**settings.SIMPLE_JWT, "SIGNING_KEY": f"{key} of tokens"}
        settings.JWT_SIGNING_KEY_FALLBACKS = [f"{fallback} of tokens" for fallback in fallbacks]

    return set_keys


@requirement("1.8", "4.4")
@pytest.mark.parametrize("purpose", PURPOSES)
def test_value_is_accepted_for_its_own_purpose_only(qq, account, purpose):
    signed = SignedValues(qq, account)
    others = (name for name in signed.values if name != purpose)
    assert [name for name in (*others, purpose) if signed.accepts(purpose, signed.values[name])] == [purpose]


@requirement("4.7")
@pytest.mark.parametrize(
    ("before", "after", "accepted"),
    [
        ([OLD], [OTHER], False),
        ([OLD], [NEW, UNRELATED, OLD], True),
        ([OLD], [NEW, UNRELATED], False),
        ([NEW, OLD, UNRELATED], [NEW], True),  # signed with the first key
    ],
    ids=["another shop", "rotated", "old key removed", "new key signs"],
)
def test_value_is_accepted_while_its_key_is_kept(qq, account, set_keys, before, after, accepted):
    set_keys(*before)
    signed = SignedValues(qq, account)
    set_keys(*after)
    assert signed.accepted() == (PURPOSES if accepted else [])


@requirement("5.2")
def test_login_tokens_have_a_key_of_their_own(qq, account, settings):
    signed = SignedValues(qq, account)
    settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS = NEW, []
    assert signed.accepted() == ["login token"]


@requirement("10.10")
def test_after_a_breach_nothing_old_is_accepted_and_users_log_in_again(qq, account, set_keys):
    """The steps of SECURITY.md: new keys without fallbacks, and a new generation of login tokens."""
    set_keys(OLD)
    signed = SignedValues(qq, account)
    get_user_model().objects.update(token_generation=F("token_generation") + 1)
    assert not signed.accepts("login token", signed.values["login token"])  # even if the old key were kept
    set_keys(NEW)
    assert signed.accepted() == []
    OAuthQQUser.objects.create(user=account, openid=qq.openid("小明"))
    browser = Browser(qq)
    login = {"username": "zhang3", "password": PASSWORD}
    by_password = browser.client.post("/authorizations/", login, content_type="application/json").json()
    answers = [browser.redeem_code(browser.arrive()).json(), by_password]
    assert all(signed.accepts("login token", answer["token"]) for answer in answers)

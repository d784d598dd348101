"""The app in another shop: copied as `oauth` or installed, another user model, hostile settings, its own process."""

import os
import secrets
from urllib.parse import parse_qs, urlsplit

import pytest

import standin
from tests import processes

TESTS = processes.ROOT / "tests"


@pytest.fixture(scope="module", params=["oauth", "meiduo_qq_login"])
def environ(request, tmp_path_factory):
    """The other shop's environment, away from the root of this project, where `apps.oauth` could be imported too."""
    var = tmp_path_factory.mktemp("other_shop")
    is_copied = request.param == "oauth"
    folder = processes.ROOT / "apps" if is_copied else request.getfixturevalue("installed_wheel")
    return {
        "DJANGO_SETTINGS_MODULE": "other_shop.settings",
        "PYTHONPATH": os.pathsep.join((str(folder), str(TESTS))),
        "OTHER_SHOP_OAUTH_APP": request.param,
        "OTHER_SHOP_DATABASE": str(var / "db.sqlite3"),
    }


@pytest.fixture(scope="module")
def manage(environ, tmp_path_factory):
    """Run a command of Django's in the other shop."""
    given = {"QQ_CLIENT_SECRET": "secret", "QQ_API_URL": "http://127.0.0.1:9"}
    given |= {"QQ_REDIRECT_URI": "https://shop.example/qq/callback/"}
    home = tmp_path_factory.mktemp("home")
    return lambda *arguments: processes.manage({**os.environ, **environ, **given}, *arguments, cwd=home)


@pytest.fixture(scope="module")
def other_shop(environ, tmp_path_factory):
    listener = processes.listen()
    callback = f"{processes.address_of(listener)}/qq/callback/"
    home = tmp_path_factory.mktemp("home")
    with (
        standin.running(callbacks=[callback]) as qq,
        processes.shop(
            home, qq, listener=listener, wsgi="other_shop.wsgi", cwd=home, **environ, QQ_REDIRECT_URI=callback
        ) as shop,
    ):
        yield OtherShop(shop.url, qq)


class OtherShop:
    def __init__(self, url, qq):
        self.url = f"{url}/qq"
        self.qq = qq

    def arrive(self, visitor, person):
        """Sign in at QQ; return the parameters the shop's page gets."""
        at_qq = visitor.get(f"{self.url}/login/?next=/basket").headers["Location"]
        back = self.qq.sign_in(at_qq, person)
        page = urlsplit(visitor.get(back).headers["Location"])
        assert page.path == "/after-qq/"
        return {name: values[0] for name, values in parse_qs(page.query).items()}

    def collect(self, visitor, person, **headers):
        code = self.arrive(visitor, person)["code"]
        return visitor.get(f"{self.url}/users/?code={code}", **headers).json()

    def bind(self, visitor, **fields):
        return visitor.post(f"{self.url}/users/", fields)


@pytest.fixture
def visitor():
    return processes.Visitor()


@pytest.fixture
def person():
    return f"小明 {secrets.token_hex(8)}"


def test_a_user_without_a_mobile_is_bound_and_then_logged_in(other_shop, visitor, person):
    asked = other_shop.collect(visitor, person)
    bind_token = asked["access_token"]
    assert asked == {"access_token": bind_token, "next": "/basket"}

    fields = {"email": f"{secrets.token_hex(4)}@example.com", "password": "correct horse"}
    bound = other_shop.bind(visitor, **fields, access_token=bind_token)
    user = bound.json()
    assert bound.status == 200
    assert user.keys() == {"token", "user_id", "id", "username", "next"}
    assert (user["username"], user["next"]) == (fields["email"], "/basket")

    again = other_shop.collect(processes.Visitor(), person)
    assert again == {name: user[name] for name in ("token", "user_id", "username", "next")}


@pytest.mark.parametrize("authorization", ["Token long-gone", "Token", "JWT a.b.c", "Bearer \xff"])
def test_an_authorization_header_that_is_no_good_does_not_break_the_login(other_shop, visitor, person, authorization):
    assert "access_token" in other_shop.collect(visitor, person, Authorization=authorization)


@pytest.mark.parametrize(
    ("headers", "message"),
    [
        ({}, "没有收到 QQ 的登录凭证，请在这个浏览器里再点一次 QQ 登录。"),
        ({"Accept_Language": "de"}, "没有收到 QQ 的登录凭证，请在这个浏览器里再点一次 QQ 登录。"),
        ({"Accept_Language": "en"}, None),
    ],
)
def test_errors_are_chinese_unless_english_is_asked_for_although_the_shop_is_english(
    other_shop, visitor, headers, message
):
    refused = visitor.get(f"{other_shop.url}/users/", **headers)
    told = refused.json()
    assert refused.status == 400
    assert told == {"message": message or told["message"], "code": "code_missing"}
    assert message or told["message"].isascii()


def test_a_wrong_field_is_named_beside_the_message(other_shop, visitor, person):
    bind_token = other_shop.collect(visitor, person)["access_token"]
    refused = other_shop.bind(visitor, email="no address", password="correct horse", access_token=bind_token)
    told = refused.json()
    assert refused.status == 400
    assert told.keys() == {"email", "message", "code"}
    assert (told["message"], told["code"]) == (told["email"][0], "invalid")


def test_django_has_nothing_to_say_against_it(manage):
    assert manage("check") == "System check identified no issues (0 silenced).\n"


def test_the_migrations_fit_the_models(manage):
    assert manage("makemigrations", "oauth", "--check", "--dry-run") == "No changes detected in app 'oauth'\n"

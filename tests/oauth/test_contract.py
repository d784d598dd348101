"""A script that knows only the contract logs in with QQ: cookies, redirects, forms and JSON, over real HTTP."""

import secrets
from html.parser import HTMLParser
from urllib.parse import parse_qs, urljoin, urlsplit

import pytest

import standin
from apps.oauth.redaction import mask_mobile
from tests.tools import processes


class FirstForm(HTMLParser):
    """The first form of a page: where it goes, and what it sends without a person's doing."""

    def __init__(self, page):
        super().__init__()
        self.action, self.fields = None, {}
        self.forms = 0
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.forms += tag == "form"
        if tag == "form" and self.forms == 1:
            self.action = attrs["action"]
        elif tag == "input" and self.forms == 1 and attrs.get("type") == "hidden":
            self.fields[attrs["name"]] = attrs["value"]


@pytest.fixture(scope="module")
def meiduo(tmp_path_factory):
    listener = processes.listen()
    with (
        standin.running(callbacks=[processes.callback_of(listener)]) as qq,
        processes.shop(tmp_path_factory.mktemp("var"), qq, listener=listener) as shop,
    ):
        yield shop


@pytest.fixture
def person():
    return f"小明 {secrets.token_hex(8)}"


@pytest.fixture
def mobile():
    return f"13{secrets.randbelow(10**9):09}"


def sign_in(meiduo, visitor, person, next="/cart"):
    """Go from the QQ button to the shop's page; return the query the page gets."""
    told = visitor.get(f"{meiduo.url}/oauth/qq/authorization/?next={next}").json()
    at_qq = visitor.get(told["login_url"], follow=True)
    form = FirstForm(at_qq.body.decode())
    page = visitor.submit(urljoin(at_qq.url, form.action), {**form.fields, "person": person}, follow=True)
    assert page.status == 200
    assert page.url.partition("?")[0] == f"{meiduo.url}/oauth_callback.html"
    return {name: values[0] for name, values in parse_qs(urlsplit(page.url).query).items()}


def profile(meiduo, visitor, token):
    return visitor.get(f"{meiduo.url}/user/", Authorization=f"JWT {token}")


def test_first_login_binds_and_the_second_goes_straight_in(meiduo, person, mobile):
    visitor = processes.Visitor()
    query = sign_in(meiduo, visitor, person)
    assert query.keys() == {"code", "state"}
    assert query["state"] == "/cart"

    asked = visitor.get(f"{meiduo.url}/oauth/qq/users/?code={query['code']}")
    assert asked.status == 200
    bind_token = asked.json()["access_token"]
    assert asked.json() == {"access_token": bind_token, "next": "/cart"}

    sms_code = meiduo.receive_sms_code(visitor, mobile)
    fields = {"mobile": mobile, "password": "correct horse", "sms_code": sms_code, "access_token": bind_token}
    bound = visitor.post(f"{meiduo.url}/oauth/qq/users/", fields)
    assert bound.status == 200
    user = bound.json()
    assert user.keys() == {"token", "user_id", "id", "username", "next"}
    assert user["id"] == user["user_id"]
    assert user["next"] == "/cart"
    shown = {
        "id": user["id"],
        "username": user["username"],
        "mobile": mask_mobile(mobile),
        "email": "",
        "email_active": False,
    }
    assert profile(meiduo, visitor, user["token"]).json() == shown

    another_day = processes.Visitor()
    query = sign_in(meiduo, another_day, person, next="/orders")
    again = another_day.get(f"{meiduo.url}/oauth/qq/users/?code={query['code']}").json()
    token = again.pop("token")
    assert again == {"user_id": user["id"], "username": user["username"], "next": "/orders"}
    assert profile(meiduo, another_day, token).json() == shown


def test_the_link_of_another_browser_is_worth_nothing(meiduo, person):
    query = sign_in(meiduo, processes.Visitor(), person)
    refused = processes.Visitor().get(f"{meiduo.url}/oauth/qq/users/?code={query['code']}")
    assert (refused.status, refused.json()["code"]) == (400, "code_invalid")


def test_a_shopper_who_registered_logs_in_by_mobile(meiduo, person, mobile):
    visitor = processes.Visitor()
    sms_code = meiduo.receive_sms_code(visitor, mobile)
    name = f"zhang_{secrets.token_hex(4)}"
    fields = {"username": name, "password": "correct horse", "password2": "correct horse", "mobile": mobile}
    registered = visitor.post(f"{meiduo.url}/users/", {**fields, "sms_code": sms_code, "allow": True})
    assert registered.status == 201

    logged_in = visitor.post(f"{meiduo.url}/authorizations/", {"username": mobile, "password": "correct horse"})
    assert profile(meiduo, visitor, logged_in.json()["token"]).json()["username"] == name

"""Each door of QQ over HTTP, as docs/http-api.md describes it, up to a login token that opens the shop's own page."""

import secrets
from urllib.parse import parse_qsl, urlencode, urlsplit

import pytest

from tests.e2e.stops import SETTINGS
from tests.tools import remote_users
from tests.tools.processes import Visitor
from tests.tools.remote_users import PASSWORD, new_mobile, new_person, status_and_code
from tests.tools.requirements import requirement


@pytest.fixture(scope="module")
def shop_and_qq(tmp_path_factory):
    environ = {"DATABASE_URL": "", "CACHE_URL": "", "DJANGO_SETTINGS_MODULE": SETTINGS}
    environ |= {"QQ_UNIONID": "True", "QQ_PROFILE": "True"}
    with remote_users.shop_and_qq(tmp_path_factory.mktemp("var"), **environ) as servers:
        yield servers


class Client:
    """A person with a browser, a phone app and a mini program of the shop."""

    def __init__(self, shop_and_qq):
        self.shop, self.qq = shop_and_qq
        self.person, self.mobile, self.visitor = new_person(), new_mobile(), Visitor()
        self.login = {}  # the header of the user who is signed in

    def url(self, path):
        return f"{self.shop.url}/oauth/qq/{path}"

    # At QQ

    def get_from_qq(self, path, **fields):
        return self.visitor.post(f"{self.qq.url}/_standin/{path}", {"person": self.person, **fields}).json()

    def allow(self, address):
        """Choose the person on QQ's page; return the address QQ leads to."""
        query = [*parse_qsl(urlsplit(address).query), ("person", self.person)]
        form = {"Content_Type": "application/x-www-form-urlencoded"}
        page = f"{self.qq.url}/oauth2.0/authorize"
        return self.visitor._send(page, urlencode(query).encode(), form).headers["Location"]

    # The doors. Each returns the answer and what `POST users/` and `POST bindings/` need beside the bind token

    def web(self, purpose="login"):
        start = self.visitor.get(self.url(f"authorization/?next=/cart&purpose={purpose}")).json()["login_url"]
        returned = self.allow(self.visitor.get(start).headers["Location"])
        page = dict(parse_qsl(urlsplit(self.visitor.get(returned).headers["Location"]).query))
        assert page["state"] == "/cart"
        return self.visitor.get(self.url(f"users/?code={page['code']}"), **self.login), {}

    def app(self, purpose="login"):
        given = self.get_from_qq("tokens")
        return self.send("app/", access_token=given["access_token"], openid=given["openid"], purpose=purpose)

    def app_with_code(self, purpose="login"):
        return self.send("app/", code=self.get_from_qq("tokens", kind="code")["code"], purpose=purpose)

    def mini(self, purpose="login"):
        return self.send("mini/", code=self.get_from_qq("mini_codes")["code"], purpose=purpose)

    def send(self, path, **form):
        key = {"key": secrets.token_urlsafe(32)}
        return Visitor().post(self.url(path), form | key), key

    # The shop

    def fill_in(self, token):
        form = {"mobile": self.mobile, "password": PASSWORD, "access_token": token}
        return form | {"sms_code": self.shop.receive_sms_code(self.visitor, self.mobile)}

    def bind(self, form):
        return self.visitor.post(self.url("users/"), form)

    def sign_in(self, answer):
        """Use the login of an answer; return the user's own page."""
        assert answer.status == 200
        self.login = {"Authorization": f"JWT {answer.json()['token']}"}
        return self.visitor.get(f"{self.shop.url}/user/", **self.login).json()

    def link(self, token, key, **confirmation):
        form = {"access_token": token} | key | (confirmation or {"password": PASSWORD})
        return self.visitor.post(self.url("bindings/"), form, **self.login)

    def unlink(self, binding, **confirmation):
        address = self.url(f"bindings/{binding['id']}/")
        return self.visitor.delete(address, confirmation or {"password": PASSWORD}, **self.login)

    def list(self):
        return self.visitor.get(self.url("bindings/"), **self.login).json()


DOORS = {"web": Client.web, "app": Client.app, "app with a code": Client.app_with_code, "mini": Client.mini}


@pytest.fixture
def client(shop_and_qq):
    return Client(shop_and_qq)


@requirement("15.2")
@pytest.mark.parametrize("enter", DOORS.values(), ids=DOORS)
def test_first_login_asks_for_the_form_and_every_door_then_opens(client, enter):
    first, key = enter(client)
    body = first.json()
    assert body.pop("next", "/cart") == "/cart"
    assert body.pop("fields", None) == (None if key else ["mobile", "password", "sms_code"])
    assert body.keys() == {"access_token", "nickname", "avatar"}
    form = client.fill_in(body["access_token"])
    if key:
        assert status_and_code(client.bind(form)) == (400, "bind_token_invalid")
    user = client.sign_in(client.bind(form | key))
    assert [client.sign_in(door(client)[0]) for door in DOORS.values()] == [user] * 4
    assert len(client.list()) == 3  # the phone app has one openid, whichever way it logs in


@requirement("15.5", "15.6", "15.7")
@pytest.mark.parametrize("enter", DOORS.values(), ids=DOORS)
def test_signed_in_user_adds_and_removes_a_qq(client, shop_and_qq, enter):
    client.sign_in(client.bind(client.fill_in(client.web()[0].json()["access_token"])))
    own, client.person = client.person, new_person()
    answer, key = enter(client, "bind")
    token = answer.json()["access_token"]
    form = {"mobile": client.mobile, "password": PASSWORD, "sms_code": "123456", "access_token": token}
    assert status_and_code(client.bind(form | key)) == (400, "bind_token_invalid")  # it logs nobody in
    assert status_and_code(client.link(token, key, password="wrong password")) == (400, "invalid")
    assert [client.link(token, key).status for _ in range(2)] == [201, 200]
    assert status_and_code(enter(client, "bind")[0]) == (400, "already_bound")
    assert client.sign_in(enter(client)[0])["id"]
    first, added = client.list()
    assert status_and_code(client.unlink(added, password="wrong password")) == (400, "invalid")
    assert [client.unlink(added).status for _ in range(2)] == [204, 404]
    assert enter(client)[0].json().keys() >= {"access_token"}
    stranger = Client(shop_and_qq)
    assert status_and_code(stranger.unlink(first)) == (401, "not_authenticated")
    client.person = own
    assert "token" in client.web()[0].json()

"""GET authorization/: the address of the QQ button."""

import pytest


@pytest.mark.parametrize("path", ["authorization/", "authorizations/", "statues/"])
@pytest.mark.parametrize("name", ["next", "state"])
def test_login_address_is_returned_under_every_name_pages_read(browser, path, name):
    response = browser.get(f"/oauth/qq/{path}", data={name: "/cart?a=1&b=车#top"})
    address = "http://testserver/oauth/qq/login/?next=/cart?a=1%26b=%E8%BD%A6%23top"
    names = ("login_url", "auth_url", "oauth_url", "url", "qq_login_url")
    assert (response.status_code, response.json()) == (200, dict.fromkeys(names, address))


@pytest.mark.parametrize(
    "redirect_uri",
    ["https://api.shop.example/oauth/qq/callback/", "https://api.shop.example/oauth_callback.html"],
    ids=["usual", "direct mode"],
)
def test_login_address_has_the_origin_of_the_redirect_uri_not_of_the_request(browser, shop, redirect_uri):
    shop.QQ_REDIRECT_URI = redirect_uri
    response = browser.get("/oauth/qq/authorization/", headers={"host": "127.0.0.1"})
    assert response.json()["login_url"] == "https://api.shop.example/oauth/qq/login/?next=/"

"""GET login/: a flow begins, and the browser goes to QQ."""

from tests.conftest import page_query, query_of
from tests.tools.requirements import requirement


@requirement("1.1", "1.6")
def test_login_redirects_to_qq_with_a_state_and_a_cookie(browser, qq, shop):
    headers = {"user-agent": "Mozilla/5.0 (X11; Linux)", "host": "127.0.0.1"}
    response = browser.get("/oauth/qq/login/?next=/cart&redirect_uri=http://evil.example/", headers=headers)
    assert response.status_code == 302
    assert response["Location"].startswith(f"{qq.url}/oauth2.0/authorize?")
    query = query_of(response["Location"])
    assert len(query.pop("state")) == 43
    assert query == {
        "response_type": "code",
        "client_id": qq.client_id,
        "redirect_uri": shop.QQ_REDIRECT_URI,
        "scope": "get_user_info",
    }
    (cookie,) = response.cookies.values()
    assert cookie.key.startswith("qq_flow_")
    attributes = ("httponly", "samesite", "path", "max-age", "secure", "domain")
    assert [cookie[name] for name in attributes] == [True, "Lax", "/", 600, "", ""]


def test_missing_client_id_is_reported_on_the_page(browser, shop):
    shop.QQ_CLIENT_ID = ""
    assert page_query(browser.get("/oauth/qq/login/?next=/cart")) == {"error": "qq_misconfigured", "state": "/cart"}


@requirement("1.4", "2.3")
def test_each_tab_returns_to_its_own_target(browser, binding):
    addresses = {next: browser.sign_in(next=next) for next in ("/one", "/two")}
    for next in ("/two", "/one"):
        page = browser.come_back(addresses[next])
        assert (page["state"], browser.redeem_code(page["code"]).json()["next"]) == (next, next)

"""`next` is always a path of the shop."""

import pytest

from tests.conftest import PAGE
from tests.tools.requirements import requirement

HOSTILE = [
    "", "cart", "?a", "#a", "//evil.example", "///evil.example", "/\\evil.example",
    "/%u002fevil.example",  # some old pages call unescape()
    "/%U002Fevil.example", "/%25u002fevil.example", "\\/evil.example", "/\t/evil.example", "/\n/evil.example",
    "/\r\nSet-Cookie:a=b", "\t//evil.example", " //evil.example", " /cart", "/cart\x00", "/cart\x7f", "/cart\u0085",
    "/cart\u2028", "/cart\u2029", "\x01/cart", "http:evil.example", "http:/evil.example", "https://evil.example/cart",
    "ftp://testserver/cart", "javascript:alert(1)", "java\tscript:alert(1)", "http://testserver@evil.example/",
    "http://evil.example#@testserver/", "http://evil.example\\@testserver/", "http://testserver.evil.example/",
    "http://eviltestserver/", "http://testserver./", "http://testserver:80@evil.example/", "//testserver/cart",
    "http://testserver．evil.example/",  # normalisation changes these characters
    "http://evil.example／.testserver/", "http://evil.example℀.testserver/", "http://ｔestserver/",
    "http://teſtserver/", "http://testserver\u00ad/", "http://xn--testserver-/", "blob:http://testserver/x",
    "https:///evil.example", "/／evil.example\t", "http://testserver:81/cart", "https://testserver/cart",
    "http://testserver:x/", "http://testserver:99999/", "//[", "http://[::1", "http://[::1]:80:80/", "http://",
    "http:", "//", "///", "/\\", "\\", "%2f%2fevil.example", "/%2fevil.example", "/%5cevil.example",
    "/%5Cevil.example", "/%255cevil.example", "/%09/evil.example", "/%0d%0aSet-Cookie:a=b",
    "http://testserver//evil.example", "http://testserver/%2fevil.example", "http://testserver/\\evil.example",
    "/" + "a" * 512, "/" + "车" * 60, "/a" * 10_000, "x" * 20_000,
]  # fmt: skip

UNCHANGED = [
    "/", "/cart", "/cart/", "/cart?a=1&b=2#top", "/goods//3", "/车?颜色=红", "/a%20b", "/a%2520b", "/a%252520b",
    "/a%2Fb", "/a+b", "/%EF%BC%8Fcart", "/%E8%BD%A6", "/100%", "/go?to=http://evil.example/",
    "/?next=//evil.example", "/" + "a" * 511,
]  # fmt: skip
FRIENDLY = dict(zip(UNCHANGED, UNCHANGED, strict=True)) | {
    "http://testserver": "/",
    "http://testserver/": "/",
    "http://testserver/cart?a=1#b": "/cart?a=1#b",
    "http://TESTSERVER:80/cart": "/cart",
    "http://testserver?a=1": "/?a=1",
    "http://user@testserver/cart": "/cart",
}


@requirement("2.1", "2.4", "2.5")
@pytest.mark.parametrize("value", HOSTILE, ids=lambda value: ascii(value)[:40])
def test_next_that_is_not_a_path_of_the_shop_becomes_the_front_page(browser, value):
    response = browser.get("/oauth/qq/authorization/", data={"next": value})
    assert response.json()["login_url"] == "http://testserver/oauth/qq/login/?next=/"
    assert browser.come_back(browser.sign_in(next=value))["state"] == "/"


@requirement("2.2")
@pytest.mark.parametrize("value", FRIENDLY, ids=lambda value: ascii(value)[:40])
def test_path_of_the_shop_is_returned_unchanged(browser, value):
    assert browser.redeem_code(browser.arrive(next=value)).json()["next"] == FRIENDLY[value]


@requirement("2.2")
@pytest.mark.parametrize(
    ("path", "state"),
    [
        ("/a?b=c:d@e,f;g", "/a?b=c:d@e,f;g"),
        ("/a&b", "/a%26b"),
        ("/a+b", "/a%2Bb"),
        ("/a%20b", "/a%2520b"),
        ("/a#b", "/a%23b"),
        ("/a'\"()*!$[]{}|^`<>", "/a%27%22%28%29%2A%21%24%5B%5D%7B%7D%7C%5E%60%3C%3E"),
        ("/-_.~", "/-_.~"),
    ],
)
def test_page_gets_next_encoded_as_old_pages_read_it(browser, path, state):
    location = browser.get(browser.sign_in(next=path))["Location"]
    assert location.startswith(PAGE)
    assert location.rpartition("&state=")[2] == state


@requirement("2.4", "9.3")
@pytest.mark.parametrize(
    ("query", "path"),
    [
        ("next=/a&next=/b", "/"),
        ("next=/a&next=/a", "/"),
        ("next=/a&next=//evil.example", "/"),
        ("state=/a&state=/b", "/"),
        ("next=&state=/b", "/b"),
        ("next=/a&state=/b", "/a"),
        ("next=/a", "/a"),
        ("next=%ff%fe", "/"),
        ("next=%ed%a0%80", "/"),
        ("", "/"),
    ],
)
def test_repeated_or_broken_next_becomes_the_front_page(browser, query, path):
    assert browser.get(f"/oauth/qq/authorization/?{query}").json()["login_url"].endswith(f"?next={path}")
    assert browser.get(f"/oauth/qq/login/?{query}").status_code == 302

"""The callback page is fast: the HTML itself asks how the login ends, once, and few files are fetched."""

import re
from urllib.parse import quote, urlsplit

import pytest
from playwright.sync_api import expect

from tests.e2e import browsers
from tests.e2e.browsers import button, sees
from tests.tools import processes

pytestmark = pytest.mark.browser

chromium, meet, user, member = browsers.chromium, browsers.meet, browsers.user, browsers.member
shop, direct_shop = browsers.shop, browsers.direct_shop
split_shop, built_shop = browsers.split_shop, browsers.built_shop

SCRIPTS = re.compile(r"/(pages\.\w+|callback)\.js$")  # the page's module, also in plain pages
CALLBACK, CALL = "/oauth/qq/callback/", "/oauth/qq/users/"
ADDED = quote("/account.html?added", safe="")


def hold_scripts(user):
    """Keep the page's module from arriving. Returns the list of its requests, which fills later."""
    held = []
    user.context.route(SCRIPTS, lambda route: held.append(route), times=1)
    return held


def describe(call):
    """Return what shop and browser see of a call, without the values of one login."""
    url, headers = urlsplit(call.url), call.all_headers()
    names = ("accept", "accept-language", "authorization", "origin", "referer")
    cookies = sorted(cookie.partition("=")[0].rpartition("_")[0] for cookie in headers["cookie"].split("; "))
    parameters = [part.partition("=")[0] for part in url.query.split("&")]
    return call.method, url.netloc, url.path, parameters, cookies, {name: headers.get(name) for name in names}


@pytest.mark.parametrize("place", ["shop", "split_shop", "built_shop", "direct_shop"])
@pytest.mark.parametrize("locale", ["zh-CN", "en-US"])
def test_html_makes_the_call_of_the_module_before_it_arrives(request, meet, place, locale):
    user = meet(request.getfixturevalue(place), locale=locale)
    held = hold_scripts(user)
    page = user.context.new_page()
    page.goto(user.sign_in_elsewhere("/?early"), wait_until="commit")
    processes.wait_until(lambda: page.evaluate("0") or (held and user.sent(CALL)), "the page calls")
    held.pop().continue_()
    expect(page.locator("#bind-form")).to_be_visible()
    page.reload()  # the module itself calls
    expect(page.locator("#bind-form")).to_be_visible()
    early, late = user.sent(CALL)
    assert describe(early) == describe(late)


@pytest.mark.parametrize(
    "query",
    ["", "?&", "?error=qq_unavailable&state=/", f"?code=a.b.c&state={ADDED}", f"?usercancel=1&error=&state={ADDED}"],
)
def test_html_leaves_other_calls_to_the_module(meet, query):
    user = meet()
    held = hold_scripts(user)
    page = user.context.new_page()
    page.goto(f"{user.place.pages}/oauth_callback.html{query}", wait_until="commit")
    page.wait_for_selector("footer", state="attached")
    assert page.evaluate("[location.search, window.earlyCall ?? null]") == ["", None]
    assert (len(held), user.sent(CALL)) == (1, [])


def test_html_makes_no_call_in_a_browser_without_modules(user):
    user.context.add_init_script("delete window.AbortController")
    hold_scripts(user)
    page = user.context.new_page()
    page.goto(f"{user.place.pages}/oauth_callback.html?code=a.b.c&state=/", wait_until="commit")
    page.wait_for_selector("footer", state="attached")
    assert (page.evaluate("location.search"), user.sent(CALL)) == ("", [])


def test_login_whose_module_fails_goes_on_after_a_reload_without_asking_qq_again(meet):
    member = meet(expected="net::ERR_FAILED")
    browsers.bind_elsewhere(member)
    member.place.qq.reset()
    member.context.route(SCRIPTS, lambda route: route.abort(), times=1)
    page = member.context.new_page()
    with page.expect_response(f"**{CALL}?*"):
        page.goto(member.come_back_elsewhere("/?reload"))
    sees(page, "页面没有加载完整")
    button(page, "再试一次").click()
    member.is_logged_in(page, "/?reload")
    assert (len(member.sent(CALL)), member.place.count_exchanges()) == (2, 1)


def test_visitor_of_the_login_page_makes_two_requests_when_back_from_qq(member):
    page = member.press_qq(next="/?few")
    member.sign_in(page)
    member.is_logged_in(page, "/?few")
    paths = [urlsplit(sent.url).path for sent in member.requests]
    begin = paths.index(CALLBACK)
    end = paths.index("/", begin)
    assert sorted(paths[begin:end])[:2] == [CALLBACK, CALL]
    assert all(re.fullmatch(r"/(pages|style)\.\w+\.(js|css)", path) for path in sorted(paths[begin:end])[2:])
    cached = page.evaluate("performance.getEntriesByType('resource').map((file) => [file.name, file.transferSize])")
    files = [size for name, size in cached if re.search(r"\.(js|css)$", name)]
    assert files == [0, 0]

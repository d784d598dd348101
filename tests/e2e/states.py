"""The states of the pages in which a user can see them, one after the other."""

import re
from functools import partial

from playwright.sync_api import expect

AVATAR = """<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 100 100">
<rect width="100" height="100" fill="#7cb342"/><circle cx="50" cy="40" r="20" fill="#fff"/>
<path d="M10 100c0-28 18-40 40-40s40 12 40 40z" fill="#fff"/></svg>"""


def fulfill(route, request, answer):
    route.fulfill(**answer)


FAILED = {"status": 500, "json": {"code": "server_error"}}


def paint_avatars(context):
    """Play the server of QQ's avatars. Returns the list of requests for them, which fills later."""
    requests = []

    def answer(route):
        requests.append(route.request)
        route.fulfill(content_type="image/svg+xml", body=AVATAR)

    context.route("https://*.qlogo.cn/**", answer)
    return requests


def visit_states(user):
    """Yield (name, page) of each state. The user is new; the shop has QQ_PROFILE."""
    context, pages = user.context, user.place.pages
    paint_avatars(context)
    page = context.new_page()

    def open_page(path, face="h1"):
        page.goto(pages + path)
        expect(page.locator(face).filter(visible=True).first).to_be_visible()

    def press(selector):
        page.locator(selector).filter(visible=True).click()

    open_page("/404.html")
    yield "not-found", page
    open_page("/500.html")
    yield "server-error", page
    open_page("/")
    yield "home-guest", page
    for name in ("login", "register", "reset"):
        open_page(f"/{name}.html")
        yield name, page
        press(f"#{name}-submit")
        expect(page.locator("[aria-invalid=true]").first).to_be_visible()
        yield f"{name}-incomplete", page
    open_page("/login.html")
    page.locator("#username").fill(user.mobile)
    page.locator("#password").fill("wrong horse")
    press("#login-submit")
    expect(page.locator("#form-message")).to_be_visible()
    yield "login-refused", page
    open_page("/account.html", "#go-login")
    yield "account-guest", page

    context.route("**/pages.*.js", lambda route: route.abort())
    page.goto(f"{pages}/login.html")
    expect(page.locator("#stuck")).to_be_visible()
    yield "stuck", page
    context.unroute("**/pages.*.js")

    for name, query in {"cancelled": "error=user_cancelled&state=/", "nothing": ""}.items():
        open_page(f"/oauth_callback.html?{query}", "#again")
        yield name, page
    context.route("**/oauth/qq/users/?*", lambda route: None)
    open_page("/oauth_callback.html?code=a.b.c&state=/")
    yield "waiting", page
    context.unroute("**/oauth/qq/users/?*")
    page.close()

    page = user.open("/login.html")
    press("#qq-login")
    user.sign_in(page)
    expect(page.locator("#qq-avatar")).to_be_visible()
    yield "bind", page
    press("#bind-submit")
    expect(page.locator("#password-error")).to_be_visible()
    yield "bind-incomplete", page
    page.reload()
    expect(page.locator("#bind-form")).to_be_visible()
    sms_code = user.receive_sms(page)
    yield "bind-sms", page
    user.fill_in(page, sms_code)
    press("#bind-submit")
    expect(page.locator("#account-username")).to_be_visible()
    yield "home-member", page
    open_page("/login.html", "#signed-in")
    yield "login-signed-in", page
    open_page("/account.html", "#bindings")
    yield "account", page
    press("[data-part=remove]")
    expect(page.locator("#remove-form")).to_be_visible()
    yield "remove", page
    page.locator("#password").fill("wrong horse")
    press("#remove-submit")
    expect(page.locator("#password-error")).to_be_visible()
    yield "remove-refused", page
    press("#other-proof")
    expect(page.locator("#mobile-hint")).to_be_visible()
    yield "remove-by-sms", page
    for query, name in {"error=user_cancelled": "add-cancelled", "error=state_used": "add-failed"}.items():
        open_page(f"/oauth_callback.html?{query}&state=/account.html%3Fadded", "#again")
        yield name, page
    for name, path, api in ("home", "/", "**/user/"), ("account", "/account.html", "**/oauth/qq/bindings/"):
        context.route(api, partial(fulfill, answer=FAILED))
        open_page(path, "#retry")
        yield f"{name}-failure", page
        context.unroute(api)

    for account, name in {"this": "add-bound-here", "another": "add-bound-elsewhere"}.items():
        refusal = {"status": 400, "json": {"code": "already_bound", "account": account, "message": "已经绑定"}}
        context.route("**/oauth/qq/users/?*", partial(fulfill, answer=refusal))
        open_page("/oauth_callback.html?code=a.b.c&state=/account.html%3Fadded", "#again")
        yield name, page
        context.unroute("**/oauth/qq/users/?*")
    open_page("/account.html", "#add")
    user.person += " 2"
    press("#add")
    user.sign_in(page)
    expect(page.locator("#bind-form")).to_be_visible()
    yield "add", page
    page.locator("#password").fill("correct horse")
    press("#bind-submit")
    expect(page).to_have_url(re.compile("/account.html$"))
    expect(page.locator("#list-message")).to_be_visible()
    yield "added", page

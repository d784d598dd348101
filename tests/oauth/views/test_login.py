"""From the QQ button to a login: authorization/, login/, callback/, GET users/."""

from random import Random
from string import ascii_letters
from urllib.parse import urlsplit

import pytest
import time_machine
from django.contrib.auth import SESSION_KEY, login
from django.contrib.auth.signals import user_logged_in
from django.core.cache import cache
from django.db import connection
from django.test import Client, RequestFactory

from apps.oauth import flow
from apps.oauth.models import OAuthQQUser
from apps.oauth.signals import qq_bound, qq_logged_in
from tests.conftest import PAGE, Browser, page_query, query_of

LOGIN = "http://testserver/oauth/qq/login/?next="


def token_requests(qq):
    return len(qq.requests("/oauth2.0/token"))


def error_of(response, status=400):
    assert response.status_code == status, response.content
    assert set(response.json()) == {"message", "code"}
    return response.json()["code"]


# The button


@pytest.mark.parametrize("path", ["authorization/", "authorizations/", "statues/"])
@pytest.mark.parametrize("name", ["next", "state"])
def test_the_page_learns_the_address_under_every_name_it_may_read(browser, path, name):
    response = browser.get(f"/oauth/qq/{path}", data={name: "/cart?a=1&b=车#top"})
    address = f"{LOGIN}/cart?a=1%26b=%E8%BD%A6%23top"
    names = ("login_url", "auth_url", "oauth_url", "url", "qq_login_url")
    assert (response.status_code, response.json()) == (200, dict.fromkeys(names, address))


def test_the_address_does_not_follow_the_host_of_the_request(browser, shop):
    shop.QQ_REDIRECT_URI = "https://api.shop.example/oauth/qq/callback/"
    response = browser.get("/oauth/qq/authorization/", headers={"host": "127.0.0.1"})
    assert response.json()["login_url"] == "https://api.shop.example/oauth/qq/login/?next=/"


def test_login_sends_the_browser_to_qq_with_a_state_and_a_cookie(browser, qq, shop):
    response = browser.get("/oauth/qq/login/?next=/cart", headers={"user-agent": "Mozilla/5.0 (X11; Linux)"})
    assert response.status_code == 302
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
    assert (cookie["httponly"], cookie["samesite"], cookie["path"], cookie["max-age"]) == (True, "Lax", "/", 600)
    assert (cookie["secure"], cookie["domain"]) == ("", "")


def test_over_https_the_cookie_is_a_secure_host_cookie_and_no_other_name_counts(qq, shop, db):
    shop.QQ_REDIRECT_URI = "https://testserver/oauth/qq/callback/"
    browser = Browser(qq, headers={"x-forwarded-proto": "https"})
    address = browser.sign_in()
    (cookie,) = browser.client.cookies.values()
    assert cookie.key.startswith("__Host-qq_flow_")
    assert (cookie["secure"], cookie["domain"], cookie["path"]) == (True, "", "/")
    for blank in ("", "\u2000", "\xa0", "\u3000", "\x1f", "\x0b"):  # names a browser takes from a sibling host
        name = cookie.key if blank else cookie.key.removeprefix("__Host-")
        planted = f"{blank}{name}={cookie.value}".encode().decode("latin-1")
        assert page_query(Client().get(address, HTTP_COOKIE=planted)) == {"error": "state_invalid"}
        assert page_query(Client().get(address, HTTP_COOKIE=f"a=b;{planted};c")) == {"error": "state_invalid"}
    assert set(browser.come_back(address)) == {"code", "state"}


def test_a_phone_gets_the_phone_layout(browser):
    phone = "Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) Mobile/15E148"
    response = browser.get("/oauth/qq/login/", headers={"user-agent": phone})
    assert query_of(response["Location"])["display"] == "mobile"


def test_every_login_has_a_state_of_its_own(browser):
    states = {query_of(browser.start())["state"] for _ in range(5)}
    assert len(states) == 5


def test_the_oldest_of_eleven_flows_is_dropped(browser):
    addresses = []
    with time_machine.travel(0, tick=False) as clock:
        for _ in range(11):
            addresses.append(browser.sign_in())
            clock.shift(1)
        live = [cookie for cookie in browser.client.cookies.values() if cookie.value]
        assert len(live) == 10
        assert browser.come_back(addresses[0]) == {"error": "state_invalid"}
        for address in addresses[1:]:
            assert set(browser.come_back(address)) == {"code", "state"}


def test_the_cookies_of_all_flows_stay_small_however_long_next_is(browser):
    letters = Random(1)
    with time_machine.travel(1_800_000_000, tick=False) as clock:
        for _ in range(10):
            target = "/" + "".join(letters.choices(ascii_letters, k=511))  # which no compression shortens
            address = browser.sign_in(next=target)
            clock.shift(1)
            sent = [(name, cookie.value) for name, cookie in browser.client.cookies.items() if cookie.value]
            assert sum(len(name) + len(value) for name, value in sent) <= 3072
        assert 3 <= len(sent) <= 4
        assert browser.come_back(address)["state"] == target


def test_another_flow_is_kept_to_the_last_byte_that_fits_in_beside_the_new_one(browser, no_limits):
    older, name = {}, "qq_flow_0123456789ab"
    for size in range(2500, 4500):
        held = {"next": "".join(Random(1).choices(ascii_letters, k=size))}
        value = flow._sign("flow", held)
        older[len(value)] = value
    together = set()
    for length in [*range(2795, 2806)] * 50:  # a new cookie is not always of one length
        if {3072, 3073} <= together:
            break
        if value := older.get(length):
            browser.client.cookies.clear()
            browser.client.cookies[name] = value
            browser.start()
            (new,) = (cookie for cookie in browser.client.cookies.values() if cookie.key != name)
            total = len(name) + length + len(new.key) + len(new.value)
            assert (browser.client.cookies[name].value == value) is (total <= 3072)
            together.add(total)
    assert {3072, 3073} <= together


@pytest.mark.parametrize(
    "name", ["qq_flow_a@", "qq_flow_é", "qq_flow_(", "qq_flow_", "qq_flow_0123456789abc", "qq_flow_x/y"]
)
def test_a_cookie_that_only_looks_like_a_flows_is_left_alone(browser, name):
    cookies = {"HTTP_COOKIE": f"{name}=x".encode().decode("latin-1")}
    response = browser.get("/oauth/qq/login/", **cookies)
    assert response.status_code == 302
    assert len(response.cookies) == 1


def test_of_foreign_flow_cookies_ten_at_a_time_are_cleared_away(browser):
    """Else a heap of them would make an answer that no proxy passes on."""
    for number in range(30):
        browser.client.cookies[f"qq_flow_{number:012x}"] = "planted"
    response = browser.get("/oauth/qq/login/")
    assert [cookie["max-age"] for cookie in response.cookies.values()].count(0) == 10


def test_a_foreign_flow_cookie_is_cleared_away(browser):
    browser.client.cookies["qq_flow_0123456789ab"] = "planted"
    response = browser.get("/oauth/qq/login/")
    cleared = response.cookies["qq_flow_0123456789ab"]
    assert (cleared["max-age"], cleared["path"], cleared["samesite"]) == (0, "/", "Lax")


def test_without_an_application_the_page_says_so(browser, shop):
    shop.QQ_CLIENT_ID = ""
    assert page_query(browser.get("/oauth/qq/login/?next=/cart")) == {"error": "qq_misconfigured", "state": "/cart"}


# Back from QQ


def test_the_page_gets_a_sealed_code_and_the_target_path(browser, qq):
    address = browser.sign_in(next="/cart?a=1&b=2#车")
    response = browser.get(address)
    assert response["Location"].startswith(f"{PAGE}?code=")
    assert response["Location"].endswith("&state=/cart?a=1%26b=2%23%E8%BD%A6")
    assert query_of(address)["code"] not in response["Location"]
    (cookie,) = response.cookies.values()
    assert cookie["max-age"] == 12 * 60
    assert token_requests(qq) == 0


@pytest.mark.parametrize(
    ("page", "expected"),
    [
        ("https://shop.example/back?lang=zh", "https://shop.example/back?lang=zh&error=state_missing"),
        ("https://shop.example/#/qq", "https://shop.example/?error=state_missing#/qq"),
        ("https://shop.example/?a=1#/qq", "https://shop.example/?a=1&error=state_missing#/qq"),
    ],
)
def test_a_page_with_its_own_query_or_fragment_keeps_both(browser, shop, page, expected):
    shop.QQ_CALLBACK_PAGE = page
    assert browser.get("/oauth/qq/callback/")["Location"] == expected


def test_without_a_page_errors_end_at_the_front_page(browser, shop):
    shop.QQ_CALLBACK_PAGE = ""
    assert browser.get("/oauth/qq/callback/")["Location"] == "/?error=state_missing"


def test_qq_may_come_back_without_the_final_slash(qq, shop, db):
    shop.QQ_REDIRECT_URI = shop.QQ_REDIRECT_URI.rstrip("/")
    browser = Browser(qq)
    state = query_of(browser.start())["state"]
    response = browser.get(f"/oauth/qq/callback?code=C0DE&state={state}")
    assert set(page_query(response)) == {"code", "state"}


@pytest.mark.parametrize(
    ("query", "error"),
    [
        ("code=C", "state_missing"),
        ("code=C&state=", "state_missing"),
        ("code=C&state=null", "state_missing"),
        ("code=C&state=%20", "state_invalid"),
        ("code=C&state=" + "s" * 43, "state_invalid"),
        ("code=C&state=" + "s" * 44, "state_invalid"),
        ("code=C&state=" + "车" * 43, "state_invalid"),
        ("code=C&state=" + "s" * 43 + "&state=" + "s" * 43, "state_invalid"),
    ],
)
def test_a_state_that_is_none_is_refused_without_asking_qq(browser, qq, query, error):
    browser.start()
    assert page_query(browser.get(f"/oauth/qq/callback/?{query}")) == {"error": error}
    assert token_requests(qq) == 0


def test_a_state_works_only_in_the_browser_that_began_it(browser, other_browser, qq):
    address = browser.sign_in()
    assert other_browser.come_back(address) == {"error": "state_invalid"}  # no cookie
    other_browser.start()
    assert other_browser.come_back(address) == {"error": "state_invalid"}  # a cookie of its own
    name, cookie = next(iter(other_browser.client.cookies.items()))
    stolen_name = next(iter(browser.client.cookies))
    other_browser.client.cookies[stolen_name] = cookie.value
    assert other_browser.come_back(address) == {"error": "state_invalid"}  # under the other flow's name
    assert set(browser.come_back(address)) == {"code", "state"}  # and it is not used up by all that
    assert name != stolen_name


def test_a_state_works_once(browser, qq):
    address = browser.sign_in()
    assert set(browser.come_back(address)) == {"code", "state"}
    assert browser.come_back(address) == {"error": "state_used", "state": "/cart"}


def test_a_state_works_once_even_with_the_cookie_of_before(browser):
    address = browser.sign_in()
    cookies = {name: cookie.value for name, cookie in browser.client.cookies.items()}
    browser.come_back(address)
    for name, value in cookies.items():
        browser.client.cookies[name] = value
    assert browser.come_back(address) == {"error": "state_used", "state": "/cart"}


@pytest.mark.parametrize(("seconds", "accepted"), [(600, True), (601, False), (-60, True), (-61, False)])
def test_a_state_lives_ten_minutes_by_clocks_that_differ_a_minute(browser, seconds, accepted):
    with time_machine.travel(1_800_000_000, tick=False) as clock:
        address = browser.sign_in()
        clock.shift(seconds)
        assert browser.come_back(address).get("error") == (None if accepted else "state_invalid")


def test_a_used_state_stays_used_though_the_cache_was_lost(browser):
    address = browser.sign_in()
    browser.come_back(address)
    cache.clear()
    assert browser.come_back(address) == {"error": "state_used", "state": "/cart"}


def test_a_used_state_is_remembered_past_its_cookies_life(browser):
    with time_machine.travel(1_800_000_000, tick=False) as clock:
        address = browser.sign_in()
        cookies = {name: cookie.value for name, cookie in browser.client.cookies.items()}
        browser.come_back(address)
        clock.shift(599)
        for name, value in cookies.items():
            browser.client.cookies[name] = value
        assert browser.come_back(address) == {"error": "state_used", "state": "/cart"}


@pytest.mark.parametrize("forged", [{"state": "f" * 43}, {"key": "another"}, {"id": "0123456789ab"}])
def test_a_cookie_that_differs_in_any_part_is_another_flows(browser, forged):
    """Were the signature broken, or a value of ours put under another name, each part is still compared."""
    code, address = browser.arrive(), browser.sign_in()
    for name, cookie in browser.client.cookies.items():
        held, _age = flow._open("flow", cookie.value)
        assert name.endswith(held["id"])
        browser.client.cookies[name] = flow._sign("flow", held | forged)
    if "key" not in forged:
        assert browser.come_back(address) == {"error": "state_invalid"}
    if forged.keys() & {"key", "id"}:
        assert error_of(browser.collect(code)) == "code_invalid"


@pytest.mark.usefixtures("no_limits")
def test_made_up_codes_and_states_never_reach_qq(browser, qq):
    letters = Random(2)
    for _ in range(1000):
        code, state = ("".join(letters.choices(ascii_letters, k=length)) for length in (32, 43))
        assert page_query(browser.get(f"/oauth/qq/callback/?code={code}&state={state}")) == {"error": "state_invalid"}
    assert token_requests(qq) == 0


def test_a_planted_cookie_gets_nobody_into_the_flow_of_its_victim(browser, other_browser, qq):
    other_browser.start()
    planted = {name: cookie.value for name, cookie in other_browser.client.cookies.items()}
    for name, value in planted.items():
        browser.client.cookies[name] = value
    address = browser.sign_in()
    assert other_browser.come_back(address) == {"error": "state_invalid"}  # who planted it has that one only
    mine = [cookie.value for name, cookie in browser.client.cookies.items() if name not in planted]
    assert mine
    for name, value in planted.items():  # nor does it serve under the name of the victim's
        other_browser.client.cookies[f"qq_flow_{flow.flow_id(query_of(address)['state'])}"] = value
        assert name not in address
    assert other_browser.come_back(address) == {"error": "state_invalid"}
    assert set(browser.come_back(address)) == {"code", "state"}


def test_who_brings_a_token_or_an_openid_in_place_of_a_code_is_nobody(browser, qq, binding):
    brought = {"access_token": "A" * 32, "openid": qq.openid("小明"), "unionid": "UID_" + "A" * 32}
    assert error_of(browser.get("/oauth/qq/users/", data=brought)) == "code_missing"
    address = browser.sign_in("小红")
    sealed = page_query(browser.get(address, data={**query_of(address), **brought}))["code"]
    answer = browser.get("/oauth/qq/users/", data={"code": sealed, **brought}).json()
    assert answer.keys() == {"access_token", "next"}  # 小红's, whom the shop does not know
    assert token_requests(qq) == 1


@pytest.mark.parametrize(
    ("query", "error"),
    [
        ("usercancel=1", "user_cancelled"),
        ("usercancel=2&code=C", "user_cancelled"),
        ("error=access_denied&error_description=x", "user_cancelled"),
        ("error=<script>alert(1)</script>", "qq_rejected"),
        ("error=100010&code=C", "qq_rejected"),
        ("", "code_missing"),
        ("code=", "code_missing"),
        ("code=null", "code_missing"),
        ("code=a%20b", "code_invalid"),
        ("code=a&code=b", "code_invalid"),
        ("code=" + "a" * 513, "code_invalid"),
    ],
)
def test_whatever_comes_in_place_of_a_code_uses_the_state_up(browser, qq, query, error):
    address = browser.sign_in()
    state = query_of(address)["state"]
    assert page_query(browser.get(f"/oauth/qq/callback/?state={state}&{query}")) == {"error": error, "state": "/cart"}
    assert browser.come_back(address) == {"error": "state_used", "state": "/cart"}
    assert token_requests(qq) == 0


def test_a_code_beside_usercancel_zero_is_a_code(browser):
    assert set(browser.come_back(browser.sign_in() + "&usercancel=0")) == {"code", "state"}


def test_cancelling_on_a_phone_comes_back_as_cancelled(browser, qq):
    start = browser.get("/oauth/qq/login/?next=/cart", headers={"user-agent": "Mobile"})["Location"]
    assert browser.come_back(qq.cancel(start)) == {"error": "user_cancelled", "state": "/cart"}


@pytest.mark.parametrize(
    "headers",
    [
        {"sec-purpose": "prefetch"},
        {"sec-purpose": "prefetch;prerender"},
        {"sec-purpose": "prefetch;anonymous-client-ip"},
        {"sec-fetch-dest": "image"},
        {"sec-fetch-dest": "iframe"},
        {"sec-fetch-dest": "empty"},
    ],
    ids=str,
)
def test_a_look_ahead_changes_nothing(browser, headers):
    address = browser.sign_in()
    ahead = browser.get(address, headers=headers)
    assert (ahead.status_code, ahead.content, len(ahead.cookies)) == (503, b"", 0)
    head = browser.client.head(address)
    assert (head.status_code, len(head.cookies)) == (405, 0)
    assert set(browser.come_back(address)) == {"code", "state"}


TOO_MANY = "&" * 1001  # Django's DATA_UPLOAD_MAX_NUMBER_FIELDS, and one


@pytest.mark.parametrize("path", ["login/", "callback/"])
def test_a_browser_with_a_thousand_parameters_gets_to_the_page(browser, path):
    response = browser.get(f"/oauth/qq/{path}?{TOO_MANY}")
    assert page_query(response) == {"error": "invalid"}


@pytest.mark.parametrize(("path", "limit"), [("login/", 60), ("callback/", 30), ("users/", 60)])
def test_calls_with_a_thousand_parameters_are_counted(browser, path, limit):
    with time_machine.travel(1_800_000_000, tick=False):
        *within, past = [browser.get(f"/oauth/qq/{path}?{TOO_MANY}") for _ in range(limit + 1)]
    told = past.json()["code"] if path == "users/" else page_query(past)["error"]
    assert told == "throttled"
    assert {answer.status_code for answer in within} == {400 if path == "users/" else 302}


@pytest.mark.parametrize("path", ["authorization/", "users/"])
def test_a_call_with_a_thousand_parameters_is_refused(browser, path, caplog):
    response = browser.get(f"/oauth/qq/{path}?{TOO_MANY}")
    assert error_of(response, 400) == "invalid"
    assert response.json()["message"] == "请求内容有误，请检查后重试。"
    assert "Traceback" not in caplog.text


def test_a_browser_never_gets_json(browser):
    for method in (browser.client.post, browser.client.put, browser.client.head, browser.client.options):
        for path in ("login/", "callback/"):
            response = method(f"/oauth/qq/{path}")
            assert (response.status_code, response.content) == (405, b"")
            assert "GET" in response["Allow"]


def test_a_bug_of_the_shop_stays_visible_to_its_developer(browser, shop):
    shop.QQ_API_URL = None
    with pytest.raises(AttributeError):
        browser.get("/oauth/qq/login/")


# The page's call


@pytest.mark.parametrize("path", ["users/", "user/"])
def test_a_bound_shopper_is_logged_in_by_one_request_to_qq(browser, qq, account, binding, path):
    code = browser.arrive()
    response = browser.get(f"/oauth/qq/{path}", data={"code": code})
    body = response.json()
    token = body.pop("token")
    assert (response.status_code, body) == (200, {"user_id": account.pk, "username": "zhang3", "next": "/cart"})
    profile = browser.get("/user/", headers={"authorization": f"JWT {token}"}).json()
    assert (profile["id"], profile["mobile"]) == (account.pk, "138****5678")
    assert token_requests(qq) == 1
    assert qq.requests("/oauth2.0/me") == []


def test_an_unknown_openid_gets_a_bind_token_and_nothing_else(browser):
    response = browser.collect(browser.arrive())
    assert response.status_code == 200
    assert set(response.json()) == {"access_token", "next"}
    assert response.json()["next"] == "/cart"


def test_a_login_is_one_look_up_and_writes_nothing(browser, binding, django_assert_num_queries):
    code = browser.arrive()
    with django_assert_num_queries(1):
        browser.collect(code)


@pytest.mark.skipif(not connection.features.can_rollback_ddl, reason="the column would stay")
def test_a_column_left_over_in_the_users_table_does_not_matter(browser, binding, account):
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE tb_users ADD COLUMN is_authenticated integer NOT NULL DEFAULT 0")
    assert browser.collect(browser.arrive()).json()["user_id"] == account.pk


def test_an_openid_is_compared_letter_by_letter(browser, qq, account):
    OAuthQQUser.objects.create(user=account, openid=qq.openid("小明").lower())
    assert set(browser.collect(browser.arrive()).json()) == {"access_token", "next"}


def test_a_repeat_in_the_same_flow_gets_an_equal_answer(browser, qq, binding):
    code = browser.arrive()
    first, second = browser.collect(code).json(), browser.collect(code).json()
    assert first.keys() == second.keys()
    assert {**first, "token": ""} == {**second, "token": ""}
    assert token_requests(qq) == 1


def test_a_repeat_of_a_refusal_gets_the_same_refusal(browser, qq):
    qq.behave(token={"fault": "error", "number": 100019})
    code = browser.arrive()
    assert error_of(browser.collect(code)) == "qq_rejected"
    qq.behave(token=None)
    assert error_of(browser.collect(code)) == "qq_rejected"
    assert token_requests(qq) == 1


def test_tabs_finish_each_with_its_own_target(browser, binding):
    first, second = browser.sign_in(next="/one"), browser.sign_in(next="/two")
    second, first = browser.come_back(second), browser.come_back(first)
    assert browser.collect(first["code"]).json()["next"] == first["state"] == "/one"
    assert browser.collect(second["code"]).json()["next"] == second["state"] == "/two"


@pytest.mark.parametrize(
    ("query", "error"),
    [
        ("", "code_missing"),
        ("code=", "code_missing"),
        ("code=null", "code_missing"),
        ("code=undefined", "code_missing"),
        ("state=/cart", "code_missing"),
        ("code=made.up.code", "code_invalid"),
        ("code=a&code=b", "code_invalid"),
        ("code=9A5F0123456789ABCDEF0123456706AF", "code_invalid"),
        ("code=" + "a" * 5000, "code_invalid"),
        ("code=%00", "code_invalid"),
        ("code=%ff%fe", "code_invalid"),
        ("access_token=A&openid=B&unionid=C", "code_missing"),
    ],
)
def test_a_code_that_is_none_is_refused_without_asking_qq(browser, qq, query, error):
    browser.arrive()
    assert error_of(browser.get(f"/oauth/qq/users/?{query}")) == error
    assert token_requests(qq) == 0


def test_qqs_own_code_is_no_code_for_the_page(browser, qq):
    address = browser.sign_in()
    query = query_of(address)
    assert error_of(browser.get("/oauth/qq/users/", data=query)) == "code_invalid"
    assert token_requests(qq) == 0


def test_a_sealed_code_is_refused_in_another_browser(browser, other_browser, qq):
    code = browser.arrive()
    assert error_of(other_browser.collect(code)) == "code_invalid"
    other_browser.arrive()
    assert error_of(other_browser.collect(code)) == "code_invalid"
    assert browser.collect(code).status_code == 200
    assert token_requests(qq) == 1


@pytest.mark.parametrize(("seconds", "accepted"), [(120, True), (121, False), (-60, True), (-61, False)])
def test_a_sealed_code_lives_two_minutes(browser, seconds, accepted):
    with time_machine.travel(1_800_000_000, tick=False) as clock:
        code = browser.arrive()
        clock.shift(seconds)
        response = browser.collect(code)
        assert response.status_code == 200 if accepted else error_of(response) == "code_invalid"


def test_a_sealed_code_with_any_letter_changed_is_refused(browser, qq, no_limits):
    code = browser.arrive()
    for place in range(len(code)):
        bent = code[:place] + ("A" if code[place] != "A" else "B") + code[place + 1 :]
        response = browser.collect(bent)
        if response.status_code == 200:  # the last letter of base64 carries bits that mean nothing
            assert place == len(code) - 1
        else:
            assert error_of(response) == "code_invalid"


def test_a_code_goes_to_qq_once_in_whatever_flow(browser, other_browser, qq):
    stolen = query_of(browser.sign_in())["code"]
    state = query_of(other_browser.sign_in("小红"))["state"]
    thief = other_browser.come_back(f"/oauth/qq/callback/?code={stolen}&state={state}")
    assert "access_token" in other_browser.collect(thief["code"]).json()  # before its owner: QQ has no defence either
    again = query_of(other_browser.sign_in("小红"))["state"]
    thief = other_browser.come_back(f"/oauth/qq/callback/?code={stolen}&state={again}")
    assert error_of(other_browser.collect(thief["code"])) == "code_invalid"
    assert token_requests(qq) == 1


@pytest.mark.parametrize("first", ["a server that has the new key", "one that does not yet"])
def test_a_code_goes_to_qq_once_while_a_new_key_is_brought_in(browser, other_browser, qq, shop, first):
    old = shop.SECRET_KEY
    keys = [("n" * 50, [old]), (old, [])]
    if first == "one that does not yet":
        keys.reverse()
    back = browser.sign_in()
    stolen, state = query_of(back)["code"], query_of(other_browser.start())["state"]

    shop.SECRET_KEY, shop.SECRET_KEY_FALLBACKS = keys[0]
    assert browser.collect(browser.come_back(back)["code"]).status_code == 200
    shop.SECRET_KEY, shop.SECRET_KEY_FALLBACKS = keys[1]
    sealed = page_query(other_browser.get(f"/oauth/qq/callback/?code={stolen}&state={state}"))["code"]
    assert error_of(other_browser.collect(sealed)) == "code_invalid"
    assert token_requests(qq) == 1


def test_a_key_that_is_named_twice_costs_nobody_his_login(browser, shop, binding):
    shop.SECRET_KEY_FALLBACKS = [shop.SECRET_KEY]
    assert browser.collect(browser.arrive()).status_code == 200


@pytest.mark.parametrize("seconds", [600, 719])  # by QQ's clock, or by one of ours two minutes from another of ours
def test_a_code_is_remembered_as_long_as_qq_would_take_it(browser, other_browser, qq, seconds):
    with time_machine.travel(1_800_000_000, tick=False) as clock:
        address = browser.sign_in()
        browser.collect(browser.come_back(address)["code"])
        clock.shift(seconds)
        state = query_of(other_browser.sign_in("小红"))["state"]
        thief = other_browser.come_back(f"/oauth/qq/callback/?code={query_of(address)['code']}&state={state}")
        assert error_of(other_browser.collect(thief["code"])) == "code_invalid"
    assert token_requests(qq) == 1


def test_the_cookie_of_a_flow_back_from_qq_lives_twelve_minutes(browser):
    with time_machine.travel(1_800_000_000, tick=False) as clock:
        browser.arrive()
        (name,) = browser.client.cookies
        value = browser.client.cookies[name].value
        for seconds, found in ((720, True), (1, False)):
            clock.shift(seconds)
            request = RequestFactory().get("/", headers={"cookie": f"{name}={value}"})
            assert (flow.Flow.find(request, name.removeprefix("qq_flow_")) is not None) is found


def test_a_code_the_cache_has_let_go_is_refused(browser, qq):
    code = browser.arrive()
    cache.clear()
    assert error_of(browser.collect(code)) == "code_invalid"
    assert token_requests(qq) == 0


@pytest.mark.parametrize(
    ("behaviour", "status", "code", "logged"),
    [
        ({"token": {"fault": "error", "number": 100020}}, 400, "qq_rejected", "100020"),
        ({"token": {"fault": "error", "number": 100009}}, 503, "qq_misconfigured", "100009"),
        ({"token": {"fault": "error", "number": 100017}}, 503, "qq_unavailable", "100017"),
        ({"token": {"fault": "html"}}, 503, "qq_unavailable", "unreadable"),
        ({"token": {"fault": "502"}}, 503, "qq_unavailable", "/oauth2.0/token: status 502"),
        ({"token": {"fault": "reset"}}, 503, "qq_unavailable", "/oauth2.0/token: ConnectionResetError"),
        ({"ignore_need_openid": True, "client_id": "101000002"}, 503, "qq_unavailable", "client_id"),
    ],
)
def test_qqs_failures_have_each_an_answer_without_qqs_words(browser, qq, behaviour, status, code, logged, caplog):
    qq.behave(**behaviour)
    response = browser.collect(browser.arrive())
    assert error_of(response, status) == code
    assert logged in caplog.text
    (warned,) = (record for record in caplog.records if record.name == "apps.oauth.asking")
    assert warned.levelname == ("ERROR" if code == "qq_misconfigured" else "WARNING")
    assert warned.getMessage().startswith("QQ did not name a person: QQ")
    assert "illegal" not in response.content.decode()


@pytest.mark.parametrize("fields", [{"is_active": False}, {"is_staff": True}, {"is_superuser": True}])
def test_a_disabled_or_staff_account_does_not_get_in(browser, account, binding, fields):
    for name, value in fields.items():
        setattr(account, name, value)
    account.save()
    assert error_of(browser.collect(browser.arrive()), 403) == "account_refused"


def test_a_deleted_account_takes_its_binding_along(browser, account, binding):
    account.delete()
    assert "access_token" in browser.collect(browser.arrive()).json()


def test_a_broken_authorization_header_does_not_break_a_login(browser, binding):
    response = browser.collect(browser.arrive(), headers={"authorization": "JWT expired"})
    assert response.status_code == 200


def test_no_transaction_of_the_shop_stays_open_while_qq_is_asked(browser, shop, binding, monkeypatch):
    monkeypatch.setitem(connection.settings_dict, "ATOMIC_REQUESTS", True)
    depth = []

    def look(sender, **kwargs):
        depth.append(len(connection.atomic_blocks))

    qq_logged_in.connect(look)
    try:
        assert browser.collect(browser.arrive()).status_code == 200
    finally:
        qq_logged_in.disconnect(look)
    assert depth == [len(connection.atomic_blocks)]


def test_whatever_the_client_would_accept_it_gets_json(browser, binding):
    for accept in ("text/html", "application/xml;q=0.9", "x", ""):
        response = browser.collect(browser.arrive(), headers={"accept": accept})
        assert (response.status_code, response["Content-Type"]) == (200, "application/json")


@pytest.fixture
def shop_with_sessions(shop):
    shop.MIDDLEWARE = [*shop.MIDDLEWARE, "django.contrib.sessions.middleware.SessionMiddleware"]
    return shop


def test_signals_are_sent_before_the_answer_leaves(browser, shop_with_sessions, account, binding):
    heard = []

    def merge_cart(sender, request, user, response, **kwargs):
        response.delete_cookie("cart")
        request.session["cart"] = "1 basket"  # which makes no login of a session that is nobody's
        heard.append((sender, request.COOKIES.get("cart"), user.pk))

    def note(sender, request, user, **kwargs):
        heard.append((sender, type(request).__name__))

    qq_logged_in.connect(merge_cart)
    qq_bound.connect(merge_cart)
    user_logged_in.connect(note)
    try:
        browser.client.cookies["cart"] = "3 pears"
        response = browser.collect(browser.arrive())
    finally:
        qq_logged_in.disconnect(merge_cart)
        qq_bound.disconnect(merge_cart)
        user_logged_in.disconnect(note)
    assert heard == [(type(account), "3 pears", account.pk), (type(account), "WSGIRequest")]
    assert response.cookies["cart"]["max-age"] == 0


def session_payload(user, request):
    login(request, user)
    return {"user_id": user.pk}


def test_a_login_by_session_is_told_once(browser, shop_with_sessions, account, binding):
    shop_with_sessions.QQ_LOGIN_PAYLOAD = f"{__name__}.session_payload"
    heard = []

    def note(sender, request, user, **kwargs):
        heard.append(user.pk)

    user_logged_in.connect(note)
    try:
        for times in (1, 2):  # the second time he is logged in already
            browser.collect(browser.arrive())
            assert heard == [account.pk] * times
            assert browser.client.session[SESSION_KEY] == str(account.pk)
    finally:
        user_logged_in.disconnect(note)


def telling_payload(user, request):
    return {"user_id": user.pk, "request": type(request).__name__, "by": request.query_params["by"]}


def test_the_shops_payload_is_told_who_and_by_which_call(browser, shop, account, binding):
    shop.QQ_LOGIN_PAYLOAD = f"{__name__}.telling_payload"
    answer = browser.get("/oauth/qq/users/", data={"code": browser.arrive(), "by": "button"}).json()
    assert answer == {"user_id": account.pk, "request": "Request", "by": "button", "next": "/cart"}


@pytest.mark.parametrize(("seconds", "alarms"), [(-5, 0), (-6, 1), (-60, 1), (-61, 1), (30, 0)])
def test_clocks_that_run_apart_are_noticed_before_they_hurt(browser, caplog, seconds, alarms):
    with time_machine.travel(1_800_000_000, tick=False) as clock:
        address = browser.sign_in()
        clock.shift(seconds)
        browser.come_back(address)
    told = [record for record in caplog.records if "clocks" in record.getMessage()]
    assert len(told) == alarms
    text = f"The clocks of the shop's servers differ by {-seconds} seconds or more."
    assert all((record.levelname, record.getMessage()) == ("ERROR", text) for record in told)


@pytest.mark.parametrize("call", ["authorization/", "login/", "callback/", "users/"])
def test_every_answer_says_that_it_loads_and_frames_nothing(browser, call):
    answers = [browser.get(f"/oauth/qq/{call}"), browser.client.post(f"/oauth/qq/{call}")]
    for answer in answers:
        assert answer["Content-Security-Policy"] == "default-src 'none'; frame-ancestors 'none'"
        assert answer["X-Content-Type-Options"] == "nosniff"


def test_no_answer_is_kept_by_anybody(browser, binding):
    address = browser.sign_in()
    responses = [
        browser.get("/oauth/qq/authorization/"),
        browser.get("/oauth/qq/login/"),
        browser.get(address),
        browser.get(address),
        browser.collect(browser.arrive()),
        browser.collect("bent"),
        browser.bind({}),
        browser.client.delete("/oauth/qq/users/"),
    ]
    for response in responses:
        assert (response["Cache-Control"], response["Referrer-Policy"]) == ("no-store", "no-referrer")
        assert not response.has_header("ETag")


def test_the_registered_address_is_the_settings_own(browser, qq):
    response = browser.get("/oauth/qq/login/?redirect_uri=http://evil.example/", headers={"host": "127.0.0.1"})
    assert query_of(response["Location"])["redirect_uri"] == "http://testserver/oauth/qq/callback/"
    assert urlsplit(response["Location"]).netloc == urlsplit(qq.url).netloc


def test_a_cookie_too_long_to_be_ours_is_not_looked_into(browser):
    address = browser.sign_in()
    name = next(iter(browser.client.cookies))
    held, _age = flow._open("flow", browser.client.cookies[name].value)
    padding = "".join(Random(1).choices(ascii_letters, k=4000))
    browser.client.cookies[name] = flow._sign("flow", held | {"padding": padding})
    assert browser.come_back(address) == {"error": "state_invalid"}

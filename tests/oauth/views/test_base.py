"""Shared parts of the views: headers, methods, JSON or redirect, no prefetch, many parameters, no open transaction."""

import json

import pytest
from django.db import connection

from apps.oauth.signals import qq_logged_in
from tests.conftest import PAGE, error_of, grouped, page_query
from tests.tools.requirements import requirement

BODIES = [
    b"{", b"[]", b"7", b'"text"', b"null", b'{"access_token": "a", "access_token": "b"}', b"[" * 5000,
    b'{"a":' * 2000, b"\xff\xfe{\x00}\x00", b'{"access_token": "\xff"}', b'{"mobile": "%s"}' % (b"1" * 20_000),
]  # fmt: skip
TOO_MANY = "&" * 1001  # one more than Django's DATA_UPLOAD_MAX_NUMBER_FIELDS


@requirement("9.10", "9.11")
def test_every_answer_has_the_security_headers(browser, binding, shop):
    shop.MIDDLEWARE = []  # this shop's adds the same headers
    address = browser.sign_in()
    answers = [
        browser.get("/oauth/qq/authorization/"),
        browser.get("/oauth/qq/login/"),
        browser.get(address),
        browser.get(address),
        browser.redeem_code(browser.arrive()),
        browser.redeem_code("malformed"),
        browser.bind({}),
        *(browser.client.put(f"/oauth/qq/{path}/") for path in ("authorization", "login", "callback", "users")),
    ]
    expected = {
        "Cache-Control": "no-store",
        "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
    }
    for answer in answers:
        assert {name: answer[name] for name in expected} == expected
        assert not answer.has_header("ETag")


@requirement("9.12")
def test_other_methods_of_a_navigation_are_refused_without_json(browser):
    for method in ("post", "put", "head", "options"):
        for path in ("login/", "callback/"):
            response = getattr(browser.client, method)(f"/oauth/qq/{path}")
            assert (response.status_code, response.content) == (405, b"")  # a browser never gets JSON
            assert "GET" in response["Allow"]


@requirement("9.13")
@pytest.mark.parametrize(
    ("name", "value"),
    grouped(
        sec_purpose=["prefetch", "prefetch;prerender", "prefetch;anonymous-client-ip"],
        sec_fetch_dest=["image", "iframe", "empty"],
    ),
)
def test_prefetch_changes_nothing(browser, name, value):
    address = browser.sign_in()
    for path in ("/oauth/qq/login/", address):
        prefetch = browser.get(path, headers={name.replace("_", "-"): value})
        assert (prefetch.status_code, prefetch.content, len(prefetch.cookies)) == (503, b"", 0)
    assert len(browser.client.head(address).cookies) == 0
    assert browser.come_back(address).keys() == {"code", "state"}


@pytest.mark.parametrize(("path", "limit"), [("login/", 60), ("callback/", 30), ("users/", 60)])
def test_calls_with_a_thousand_parameters_are_refused_and_counted(clock, browser, caplog, path, limit):
    answers = [browser.get(f"/oauth/qq/{path}?{TOO_MANY}") for _ in range(limit + 1)]
    if path == "users/":
        errors = [error_of(answer) for answer in answers]
        assert errors == [(400, "invalid")] * limit + [(429, "throttled")]
    else:
        errors = [page_query(answer) for answer in answers]
        assert errors == [{"error": "invalid"}] * limit + [{"error": "throttled"}]
        assert answers[0]["Location"].startswith(PAGE)
    assert error_of(browser.get(f"/oauth/qq/authorization/?{TOO_MANY}")) == (400, "invalid")
    assert "Traceback" not in caplog.text


@pytest.mark.parametrize("accept", ["text/html", "application/xml;q=0.9", "x", ""])
@requirement("5.7")
def test_accept_and_authorization_headers_do_not_matter(browser, binding, accept):
    response = browser.redeem_code(browser.arrive(), headers={"accept": accept, "authorization": "JWT expired"})
    assert (response.status_code, response["Content-Type"]) == (200, "application/json")


def test_bug_is_not_hidden(browser, shop):
    shop.QQ_API_URL = None
    with pytest.raises(AttributeError):
        browser.get("/oauth/qq/login/")


@requirement("8.10")
def test_no_transaction_is_open_while_qq_is_asked(browser, binding, connect, monkeypatch):
    monkeypatch.setitem(connection.settings_dict, "ATOMIC_REQUESTS", True)
    depths = []
    connect(lambda **_: depths.append(len(connection.atomic_blocks)), qq_logged_in)
    assert browser.redeem_code(browser.arrive()).status_code == 200
    assert depths == [len(connection.atomic_blocks)]


@requirement("9.3", "9.5")
@pytest.mark.parametrize(
    ("code", "body"),
    grouped(bind_token_missing=[b"", b"{}"], invalid=BODIES),
    ids=lambda value: repr(value[:12]),
)
def test_body_that_is_not_a_short_json_object_is_refused(browser, shop, code, body):
    shop.DATA_UPLOAD_MAX_MEMORY_SIZE = 10_000_000  # a higher limit of the shop changes nothing
    response = browser.client.post("/oauth/qq/users/", body, content_type="application/json")
    assert error_of(response) == (413 if len(body) > 16 * 1024 else 400, code)


@requirement("9.1")
@pytest.mark.parametrize(
    "content_type",
    ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "application/jsonx", ""],
)
def test_only_json_is_read(browser, form, content_type):
    body = json.dumps(form)
    assert error_of(browser.bind(body, content_type=content_type)) == (415, "invalid")
    assert browser.bind(body, content_type="Application/JSON; charset=utf-8").status_code == 200

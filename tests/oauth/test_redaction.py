"""What an error report shows of a login that met a bug: where it happened, and nothing that opens an account."""

import logging

import pytest
from apps.oauth.asking import make_client
from django.utils.log import AdminEmailHandler

from tests.conftest import PAGE, PASSWORD, Browser, query_of


class Broken(Exception):
    """A bug in the shop's own code."""


def broken_payload(user, request):
    raise Broken


@pytest.fixture
def mailed(shop, mailoutbox):
    """What Django mails to the shop's admins about each error, in its most talkative form."""
    shop.ADMINS = [("Operator", "operator@shop.example")]
    handler = AdminEmailHandler(include_html=True, reporter_class="django.views.debug.ExceptionReporter")
    handler.setLevel(logging.ERROR)
    logger = logging.getLogger("django.request")
    logger.addHandler(handler)
    yield lambda: [mail.body + "".join(body for body, _ in mail.alternatives) for mail in mailoutbox]
    logger.removeHandler(handler)


@pytest.fixture
def browser(qq, db):
    return Browser(qq, raise_request_exception=False)


def secrets_of(browser, **sent):
    return [*sent.values(), *(cookie.value for cookie in browser.client.cookies.values())]


@pytest.fixture
def bug(shop):
    shop.QQ_LOGIN_PAYLOAD = f"{__name__}.broken_payload"


def test_a_report_of_a_failed_login_has_no_code_and_no_cookie(browser, binding, mailed, bug, qq):
    code = browser.arrive()
    asked = f"/oauth/qq/users/?code={code}&why=?"
    servers = {"RAW_URI": asked, "REQUEST_URI": asked}  # gunicorn's and uWSGI's additions to what Django is handed
    referer = f"http://testserver/oauth_callback.html?code={code}"
    headers = {"referer": referer, "authorization": "JWT e30.e30.AAAA"}
    response = browser.collect(code, headers=headers, **servers)
    assert response.status_code == 500
    (report,) = mailed()
    assert "Broken" in report
    assert "broken_payload" in report
    assert "/oauth/qq/users/" in report
    for secret in [*secrets_of(browser, code=code), qq.openid("小明"), qq.client_secret]:
        assert secret not in report
    # Others make reports too, which hide less than Django's; and the server asks for what it has added.
    left = response.wsgi_request.META
    for secret in [*secrets_of(browser, code=code), "e30.e30.AAAA"]:
        assert secret not in str(left)
    assert [left[name] for name in ("QUERY_STRING", *servers)] == ["", "/oauth/qq/users/", "/oauth/qq/users/"]


def test_a_report_of_a_failed_bind_has_no_form(browser, account, form, mailed, bug, qq):
    assert browser.bind(form).status_code == 500
    (report,) = mailed()
    assert "Broken" in report
    for secret in [*secrets_of(browser, **form), PASSWORD, qq.openid("小明")]:
        assert secret not in report


def test_a_report_of_a_qq_that_does_not_answer_has_no_code_and_no_cookie(browser, mailed, qq):
    code = browser.arrive()
    qq.behave(token={"fault": "502"})
    assert browser.collect(code).status_code == 503
    (report,) = mailed()
    assert "/oauth/qq/users/" in report
    for secret in secrets_of(browser, code=code):
        assert secret not in report


def test_no_report_is_made_of_who_looks_ahead_nor_of_a_rush(browser, mailed, shop, qq):
    assert browser.get("/oauth/qq/login/", headers={"sec-purpose": "prefetch"}).status_code == 503
    shop.QQ_MAX_CONNECTIONS = 1
    code = browser.arrive()
    with make_client().waiting():
        assert browser.collect(code).json()["code"] == "qq_busy"
    assert mailed() == []


def test_a_report_of_a_qq_that_is_left_alone_has_no_code_of_qqs(browser, mailed, shop, qq):
    shop.QQ_REDIRECT_URI = PAGE
    qq.behave(token={"fault": "502"})
    for _ in range(6):
        sent = query_of(browser.sign_in())
        response = browser.client.get("/oauth/qq/users/", sent)
    assert (response.status_code, response.json()["code"]) == (503, "qq_unavailable")
    report = mailed()[-1]
    assert "/oauth/qq/users/" in report
    for secret in secrets_of(browser, **sent):
        assert secret not in report

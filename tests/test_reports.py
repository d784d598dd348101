"""What an error report shows of a login that met a bug: where it happened, and nothing that opens an account."""

import logging

import pytest
from django.utils.log import AdminEmailHandler

from tests.conftest import PASSWORD, Browser


class Broken(Exception):
    """A bug in the shop's own code."""


def broken_payload(user, request):
    raise Broken


@pytest.fixture
def mailed(shop, mailoutbox):
    """What Django mails to the shop's admins about each error, in its most talkative form."""
    shop.ADMINS = [("Operator", "operator@shop.example")]
    shop.QQ_LOGIN_PAYLOAD = f"{__name__}.broken_payload"
    handler = AdminEmailHandler(include_html=True)
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


def test_a_report_of_a_failed_login_has_no_code_and_no_cookie(browser, binding, mailed, qq):
    code = browser.arrive()
    response = browser.collect(code, headers={"referer": f"http://testserver/oauth_callback.html?code={code}"})
    assert response.status_code == 500
    (report,) = mailed()
    assert "Broken" in report
    assert "broken_payload" in report
    assert "/oauth/qq/users/" in report
    for secret in [*secrets_of(browser, code=code), qq.openid("小明"), qq.client_secret]:
        assert secret not in report


def test_a_report_of_a_failed_bind_has_no_form(browser, account, form, mailed, qq):
    assert browser.bind(form).status_code == 500
    (report,) = mailed()
    assert "Broken" in report
    for secret in [*secrets_of(browser, **form), PASSWORD, qq.openid("小明")]:
        assert secret not in report

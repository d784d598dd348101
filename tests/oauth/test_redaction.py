"""Error reports of a failed login show where it happened, and no secret."""

import logging
import time
from threading import Thread

import pytest
from django.utils.log import AdminEmailHandler

from tests.conftest import CALLBACK, PAGE, PASSWORD, Browser, error_of, query_of, token_requests
from tests.tools.requirements import requirement


class Bug(Exception):
    pass


def broken_payload(user, request):
    raise Bug


def unwritable_payload(user, request):
    return {"user": Bug()}


@pytest.fixture
def reports(admins, mailoutbox):
    """A function that returns Django's mails to the admins, in their most detailed form."""
    handler = AdminEmailHandler(include_html=True, reporter_class="django.views.debug.ExceptionReporter")
    handler.setLevel(logging.ERROR)
    logger = logging.getLogger("django.request")
    logger.addHandler(handler)
    yield lambda: [mail.body + "".join(body for body, _ in mail.alternatives) for mail in mailoutbox]
    logger.removeHandler(handler)


@pytest.fixture
def browser(qq, db):
    return Browser(qq, raise_request_exception=False)


@pytest.fixture(params=["broken_payload", "unwritable_payload"])
def bug(shop, request):
    shop.QQ_LOGIN_PAYLOAD = f"{__name__}.{request.param}"
    return request.param


def found_in(report, *secrets):
    return [secret for secret in secrets if secret in report]


@requirement("10.2")
def test_report_of_a_failed_login_contains_no_secret(browser, binding, reports, bug, qq):
    code = browser.arrive()
    path = f"/oauth/qq/users/?code={code}&why=?"
    added_by_servers = {"RAW_URI": path, "REQUEST_URI": path}  # by gunicorn and uWSGI
    referer = f"http://testserver/oauth_callback.html?code={code}"
    headers = {"referer": referer, "authorization": "JWT e30.e30.AAAA"}
    response = browser.redeem_code(code, headers=headers, **added_by_servers)
    assert response.status_code == 500
    (report,) = reports()
    useful = ["Bug", bug, "/oauth/qq/users/"]
    assert found_in(report, *useful) == useful
    secrets = [code, *browser.cookies.values()]
    assert found_in(report, *secrets, qq.openid("小明"), qq.client_secret) == []
    # Reporters other than Django's may hide less; the server reads its own additions again.
    meta = response.wsgi_request.META
    assert found_in(str(meta), *secrets, "e30.e30.AAAA") == []
    assert [meta[name] for name in ("QUERY_STRING", *added_by_servers)] == ["", "/oauth/qq/users/", "/oauth/qq/users/"]


@requirement("4.5", "10.2")
def test_report_of_a_failed_bind_contains_no_secret(browser, account, form, reports, bug, qq):
    assert browser.bind(form).status_code == 500
    (report,) = reports()
    assert "Bug" in report
    assert found_in(report, *form.values(), *browser.cookies.values(), PASSWORD, qq.openid("小明")) == []


@requirement("10.2")
@pytest.mark.parametrize("direct", [False, True])
def test_reports_of_an_unavailable_qq_contain_no_secret(browser, reports, shop, qq, direct):
    shop.QQ_REDIRECT_URI = PAGE if direct else CALLBACK
    qq.behave(token={"fault": "502"})
    for _ in range(6):  # the circuit opens: the sixth call is not sent
        address = browser.sign_in()
        sent = query_of(address if direct else browser.get(address)["Location"])
        assert error_of(browser.get("/oauth/qq/users/", data=sent)) == (503, "qq_unavailable")
        report = reports()[-1]
        assert "/oauth/qq/users/" in report
        assert found_in(report, sent["code"], *browser.cookies.values()) == []
        assert not (direct and sent["state"] in report)
    assert (token_requests(qq), len(reports())) == (5, 6)


def test_expected_503_is_not_reported(browser, other_browser, reports, shop, qq):
    assert browser.get("/oauth/qq/login/", headers={"sec-purpose": "prefetch"}).status_code == 503
    shop.QQ_MAX_CONCURRENCY = 1
    shop.QQ_TIMEOUT = 1.5
    qq.behave(token={"fault": "slow", "seconds": 3})
    code, slow = browser.arrive(), other_browser.arrive()
    thread = Thread(target=other_browser.redeem_code, args=[slow])  # times out before it needs the database
    thread.start()
    while not token_requests(qq):
        time.sleep(0.01)
    assert error_of(browser.redeem_code(code)) == (503, "qq_busy")
    assert reports() == []
    thread.join()

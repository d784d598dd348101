"""GET users/: the page trades its sealed code for a login or a bind token."""

import pytest
import trustme
from django.contrib.auth import SESSION_KEY, login
from django.contrib.auth.signals import user_logged_in
from django.core.exceptions import ImproperlyConfigured
from django.db import connection

from apps.oauth.signals import qq_audited, qq_bound, qq_logged_in
from tests.conftest import error_of, grouped, page_query, query_of, token_requests
from tests.oauth.qq.conftest import raw_server
from tests.tools.requirements import requirement


@requirement("2.3")
@pytest.mark.parametrize("path", ["users/", "user/"])
def test_login_is_one_query_and_one_request_to_qq(browser, qq, account, binding, path, django_assert_num_queries):
    code = browser.arrive()
    with django_assert_num_queries(1):
        response = browser.get(f"/oauth/qq/{path}", data={"code": code})
    body = response.json()
    token = body.pop("token")
    assert (response.status_code, body) == (200, {"user_id": account.pk, "username": "zhang3", "next": "/cart"})
    profile = browser.get("/user/", headers={"authorization": f"JWT {token}"}).json()
    assert (profile["id"], profile["mobile"]) == (account.pk, "138****5678")
    assert (token_requests(qq), qq.requests("/oauth2.0/me")) == (1, [])


@pytest.mark.skipif(not connection.features.can_rollback_ddl, reason="the column would stay")
def test_extra_column_in_the_users_table_does_not_matter(browser, binding, account):
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE tb_users ADD COLUMN is_authenticated integer NOT NULL DEFAULT 0")
    assert browser.redeem_code(browser.arrive()).json()["user_id"] == account.pk


@pytest.mark.usefixtures("binding")
@pytest.mark.parametrize(("fault", "status"), [(None, 200), ({"fault": "error", "number": 100019, "times": 1}, 400)])
def test_repeat_gets_an_equal_answer_without_asking_qq(browser, qq, fault, status):
    qq.behave(token=fault)
    code = browser.arrive()
    first, second = browser.redeem_code(code), browser.redeem_code(code)
    assert first.status_code == second.status_code == status
    assert first.json() | {"token": ""} == second.json() | {"token": ""}
    assert token_requests(qq) == 1


def test_repeat_is_answered_while_the_circuit_is_open(browser, qq, account, binding):
    code = browser.arrive()
    assert browser.redeem_code(code).status_code == 200
    qq.behave(token={"fault": "502"})
    for _ in range(6):  # the sixth one is not sent
        assert error_of(browser.redeem_code(browser.arrive())) == (503, "qq_unavailable")
    assert browser.redeem_code(code).json()["user_id"] == account.pk
    assert token_requests(qq) == 6


@requirement("1.7", "9.3")
@pytest.mark.parametrize(
    ("error", "query"),
    grouped(
        code_missing=["", "code=", "code=null", "code=undefined", "state=/cart", "access_token=A&openid=B"],
        code_invalid=[f"code={code}" for code in ("made.up.code", "a&code=b", "A5F0" * 8, "a" * 5000, "%00", "%ff%fe")],
    ),
)
def test_missing_or_malformed_code_is_refused(browser, qq, error, query):
    browser.arrive()
    assert error_of(browser.get(f"/oauth/qq/users/?{query}")) == (400, error)
    assert token_requests(qq) == 0


@requirement("1.12")
def test_qqs_own_values_in_place_of_a_sealed_code_identify_nobody(browser, qq, binding):
    sent = {"access_token": "A" * 32, "openid": qq.openid("小明"), "unionid": "UID_" + "A" * 32}
    assert error_of(browser.get("/oauth/qq/users/", data=sent)) == (400, "code_missing")
    address = browser.sign_in("小红")
    sealed = page_query(browser.get(address, data=query_of(address) | sent))["code"]
    answer = browser.get("/oauth/qq/users/", data={"code": sealed, **sent}).json()
    assert answer.keys() == {"access_token", "fields", "next"}  # for 小红, who has no account
    assert error_of(browser.get("/oauth/qq/users/", data=query_of(browser.sign_in()))) == (400, "code_invalid")
    assert token_requests(qq) == 1


def test_sealed_code_is_refused_in_another_browser(browser, other_browser, qq):
    code = browser.arrive()
    assert error_of(other_browser.redeem_code(code)) == (400, "code_invalid")
    other_browser.arrive()
    assert error_of(other_browser.redeem_code(code)) == (400, "code_invalid")
    assert browser.redeem_code(code).status_code == 200
    assert token_requests(qq) == 1


def replay(browser, address, person="小红"):
    """Bring the code of `address` back in a new flow; return the answer to its page."""
    state = query_of(browser.sign_in(person))["state"]
    code = query_of(address)["code"]
    return browser.redeem_code(browser.come_back(f"/oauth/qq/callback/?code={code}&state={state}")["code"])


@requirement("1.5")
def test_code_goes_to_qq_once_whichever_flow_brings_it(clock, browser, other_browser, qq):
    address = browser.sign_in()
    # A thief who is faster than the owner gets in: neither we nor QQ can tell.
    assert replay(other_browser, address).json().keys() == {"access_token", "fields", "next"}
    assert error_of(browser.redeem_code(browser.come_back(address)["code"])) == (400, "code_invalid")
    for seconds in (0, 600, 119):  # QQ accepts a code for ten minutes, and two of our servers differ by two
        clock.shift(seconds)
        assert error_of(replay(other_browser, address)) == (400, "code_invalid")
    assert token_requests(qq) == 1


@requirement("1.5")
@pytest.mark.parametrize("new_key_first", [True, False])
def test_code_goes_to_qq_once_while_keys_are_rotated(browser, other_browser, qq, shop, new_key_first):
    keys = [("n" * 50, [shop.SECRET_KEY]), (shop.SECRET_KEY, [])]
    address, state = browser.sign_in(), query_of(other_browser.start())["state"]
    first, second = keys if new_key_first else reversed(keys)  # of two servers
    shop.SECRET_KEY, shop.SECRET_KEY_FALLBACKS = first
    assert browser.redeem_code(browser.come_back(address)["code"]).status_code == 200
    shop.SECRET_KEY, shop.SECRET_KEY_FALLBACKS = second
    page = other_browser.come_back(f"/oauth/qq/callback/?code={query_of(address)['code']}&state={state}")
    assert error_of(other_browser.redeem_code(page["code"])) == (400, "code_invalid")
    assert token_requests(qq) == 1


def test_key_listed_twice_does_not_matter(browser, shop, binding):
    shop.SECRET_KEY_FALLBACKS = [shop.SECRET_KEY]
    assert browser.redeem_code(browser.arrive()).status_code == 200


OLD_FORM = '{\n"code": 100019,\n"msg": "code is illegal",\n}'  # as QQ's wiki prints it
FAILURES = [
    ({"fault": "error", "number": 100020}, "qq_rejected", "QQRejected", "100020"),
    ({"fault": "error", "number": 100009}, "qq_misconfigured", "QQMisconfigured", "100009"),
    ({"fault": "error", "number": 100017}, "qq_unavailable", "QQUnavailable", "100017"),
    ({"fault": "body", "body": OLD_FORM, "number": 100019}, "qq_rejected", "QQRejected", "100019"),
    ({"fault": "html"}, "qq_unavailable", "QQUnavailable", "unreadable"),
    ({"fault": "502"}, "qq_unavailable", "QQUnavailable", "/oauth2.0/token: status 502"),
    ({"fault": "reset"}, "qq_unavailable", "QQUnavailable", "/oauth2.0/token: ConnectionResetError"),
    ({}, "qq_unavailable", "QQForeignToken", "client_id"),
]


@requirement("3.1", "8.9")
@pytest.mark.parametrize(("fault", "error", "reason", "logged"), FAILURES)
def test_failure_of_qq_is_logged_recorded_and_answered_without_qqs_text(
    browser, qq, connect, caplog, fault, error, reason, logged
):
    foreign = {"ignore_need_openid": True, "client_id": "101000002"}  # QQ returns another application's token
    qq.behave(**{"token": fault} if fault else foreign)
    code, events = browser.arrive(), []
    connect(lambda event, fields, **_: events.append((event, fields)), qq_audited)
    response = browser.redeem_code(code)
    assert error_of(response) == (400 if error == "qq_rejected" else 503, error)
    assert "illegal" not in response.content.decode()
    *_, last = (record for record in caplog.records if record.name.startswith("apps.oauth"))
    assert logged in last.getMessage()
    assert last.levelname == ("ERROR" if error == "qq_misconfigured" else "WARNING")
    event, fields = events[0]
    fields = {name: fields.get(name) for name in ("outcome", "reason", "number")}
    outcome = "alarm" if reason in ("QQMisconfigured", "QQForeignToken") else "refused"
    assert (event, fields) == ("qq", {"outcome": outcome, "reason": reason, "number": fault.get("number")})


def test_answer_that_json_cannot_hold_is_a_500_and_no_recorded_login(browser, binding, connect):
    events = []
    connect(lambda event, **_: events.append(event), qq_audited)
    connect(lambda response, **_: response.data.update(user=binding), qq_logged_in)
    code = browser.arrive()
    text = "put in what JSON cannot hold: Object of type OAuthQQUser is not JSON serializable"
    with pytest.raises(ImproperlyConfigured, match=text):
        browser.redeem_code(code)
    assert events == ["start", "callback"]


def bind_token_payload(user, request):
    return {"token": "T", "access_token": "A"}


def text_payload(user, request):
    return "T"


def no_payload(user, request):
    pass


BIND_TOKEN_KEY = 'returned the key "access_token", which tells pages that the user is not bound'
PAYLOADS = [(bind_token_payload, BIND_TOKEN_KEY), (text_payload, "returned str"), (no_payload, "returned NoneType")]


@pytest.mark.parametrize(("payload", "fault"), PAYLOADS)
def test_payload_that_is_no_login_is_a_500_that_names_setting_and_function(
    browser, shop, binding, caplog, payload, fault
):
    shop.QQ_LOGIN_PAYLOAD = path = f"{__name__}.{payload.__name__}"
    browser.client.raise_request_exception = False
    assert browser.redeem_code(browser.arrive()).status_code == 500
    (record,) = (record for record in caplog.records if record.exc_info)
    hint = 'Return a dict, as in {"token": …, "user_id": …, "username": …}.'
    assert (record.name, str(record.exc_info[1])) == (
        "django.request",
        f"QQ_LOGIN_PAYLOAD: {path} {fault}. {hint}",
    )


def test_certificate_that_is_not_accepted_is_an_alarm(browser, shop, connect, caplog):
    code, events = browser.arrive(), []
    connect(lambda event, fields, **_: events.append((event, fields["outcome"], fields["reason"])), qq_audited)
    with raw_server(lambda connection, over: over.wait(), trustme.CA().issue_cert("127.0.0.1")) as (shop.QQ_API_URL, _):
        assert error_of(browser.redeem_code(code)) == (503, "qq_unavailable")
    assert events[0] == ("qq", "alarm", "QQCertificateError")
    (record,) = (record for record in caplog.records if record.levelname == "ERROR" and "QQ" in record.getMessage())
    reason = "the certificate is not accepted: unable to get local issuer certificate"
    assert record.getMessage() == f"QQ did not name a user: QQCertificateError: /oauth2.0/token: {reason}"


@requirement("5.5", "7.9")
@pytest.mark.parametrize("fields", [{"is_active": False}, {"is_staff": True}, {"is_superuser": True}])
def test_disabled_or_staff_account_is_refused(browser, binding, django_user_model, fields):
    django_user_model.objects.update(**fields)
    assert error_of(browser.redeem_code(browser.arrive())) == (403, "account_refused")


@requirement("5.5", "7.6", "10.9")
def test_deleted_account_deletes_its_binding(browser, account, binding):
    account.delete()
    assert "access_token" in browser.redeem_code(browser.arrive()).json()


@pytest.fixture
def shop_with_sessions(shop):
    shop.MIDDLEWARE = [*shop.MIDDLEWARE, "django.contrib.sessions.middleware.SessionMiddleware"]
    return shop


def test_signals_are_sent_before_the_answer(browser, shop_with_sessions, account, binding, connect):
    calls = []

    def merge_cart(sender, request, user, response, **kwargs):
        response.delete_cookie("cart")
        request.session["cart"] = "1 basket"  # a session alone is not a login
        calls.append((sender, request.COOKIES.get("cart"), user.pk))

    connect(merge_cart, qq_logged_in, qq_bound)
    connect(lambda sender, request, **_: calls.append((sender, type(request).__name__)), user_logged_in)
    browser.add_cookies({"cart": "3 pears"})
    response = browser.redeem_code(browser.arrive())
    assert calls == [(type(account), "3 pears", account.pk), (type(account), "WSGIRequest")]
    assert response.cookies["cart"]["max-age"] == 0


def session_payload(user, request):
    login(request, user)
    return {"user_id": user.pk}


def test_login_with_a_session_is_signalled_once(browser, shop_with_sessions, account, binding, connect):
    shop_with_sessions.QQ_LOGIN_PAYLOAD = f"{__name__}.session_payload"
    users = []
    connect(lambda user, **_: users.append(user.pk), user_logged_in)
    for logins in (1, 2):  # the second one in the session of the first
        browser.redeem_code(browser.arrive())
        assert users == [account.pk] * logins
        assert browser.client.session[SESSION_KEY] == str(account.pk)


def echo_payload(user, request):
    return {"user_id": user.pk, "request": type(request).__name__, "by": request.query_params["by"]}


def test_payload_function_gets_user_and_request(browser, shop, account, binding):
    shop.QQ_LOGIN_PAYLOAD = f"{__name__}.echo_payload"
    answer = browser.get("/oauth/qq/users/", data={"code": browser.arrive(), "by": "button"}).json()
    assert answer == {"user_id": account.pk, "request": "Request", "by": "button", "next": "/cart"}

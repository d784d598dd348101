"""An outage of the database is named, logged in one line, and uses up no try; a bug in a query stays visible."""

import logging
import sqlite3
from contextlib import closing

import pytest
from django.core.cache.backends.locmem import LocMemCache
from django.db import (
    DataError,
    IntegrityError,
    InterfaceError,
    InternalError,
    OperationalError,
    ProgrammingError,
    connection,
)

from apps.oauth.models import OAuthQQUser
from apps.oauth.signals import qq_audited, qq_logged_in
from apps.users.models import User
from apps.users.tokens import LoginToken
from tests.conftest import MOBILE, PAGE, PASSWORD, Browser, page_query
from tests.oauth.views.test_apps import DOORS, App
from tests.oauth.views.test_bindings import SignedIn
from tests.tools.remote_users import connect_database, database_of_the_tests

DOWN = (503, "5", {"message": "服务暂时不可用，请稍后再试。", "code": "database_unavailable"})


def sqlite_error(text):
    error = OperationalError(text)
    error.__cause__ = sqlite3.OperationalError(text)
    return error


MYSQL_OUTAGES = [1021, 1036, 1040, 1047, 1053, 1114, 1180, 1203, 1205, 1213, 1226, 1290, 1317, 1836, 1927, 1969]
MYSQL_OUTAGES += [2002, 2003, 2006, 2013, 3024, 3032, 3100, 3101, 4031, 6400]
OUTAGES = [  # and what the log says of them
    *((OperationalError(number, "a value"), f"OperationalError {number}") for number in MYSQL_OUTAGES),
    (InterfaceError(0, ""), "InterfaceError 0"),
    (InterfaceError("connection already closed"), "InterfaceError"),
    (OperationalError("connection refused"), "OperationalError"),  # another driver's
    (sqlite_error("database is locked"), "OperationalError"),
]
BUGS = [
    OperationalError(1054, "Unknown column"),  # mysqlclient's class for it
    OperationalError(1364, "Field has no default value"),
    ProgrammingError(1146, "Table does not exist"),
    DataError(1406, "Data too long"),
    IntegrityError(1048, "Column cannot be null"),
    InternalError(),
    sqlite_error("no such column: openid"),
]


@pytest.fixture
def failing():
    """{beginning of SQL: the error of such queries}"""
    errors = {}

    def execute(run, sql, params, many, context):
        for begin, error in errors.items():
            if sql.startswith(begin):
                raise error
        return run(sql, params, many, context)

    with connection.execute_wrapper(execute):
        yield errors


def answer_of(response):
    return response.status_code, response["Retry-After"], response.json()


def test_outage_is_named_in_one_line(browser, form, failing, no_limits, caplog):
    for failing["INSERT"], logged in OUTAGES:
        caplog.clear()
        assert answer_of(browser.bind(form)) == DOWN
        ours = (entry for entry in caplog.records if entry.name != "meiduo.audit" and entry.levelno > logging.DEBUG)
        lines = [(entry.levelno, entry.getMessage()) for entry in ours]
        assert lines == [(logging.ERROR, f"The database is unavailable: {logged}")]
    assert (User.objects.count(), OAuthQQUser.objects.count()) == (0, 0)


@pytest.mark.parametrize("error", BUGS, ids=repr)
def test_bug_in_a_query_is_not_hidden(browser, form, failing, error):
    failing["INSERT"] = error
    with pytest.raises(type(error)):
        browser.bind(form)


@pytest.mark.parametrize("sql", ["INSERT", "SELECT"])
def test_forms_that_met_an_outage_are_no_tries(browser, form, failing, sql):
    failing[sql] = OperationalError(2013, "Lost connection")
    assert [answer_of(browser.bind(form)) for _ in range(11)] == [DOWN] * 11  # more than a login or an address may fail
    failing.clear()
    assert browser.bind(form).status_code == 200


@pytest.mark.django_db(transaction=True)
def test_password_attempts_that_met_an_outage_are_not_counted(client, account, shop, failing):
    def log_in(password):
        form = {"username": MOBILE, "password": password}
        return client.post("/authorizations/", form, content_type="application/json")

    shop.PASSWORD_HASHERS = ["django.contrib.auth.hashers.PBKDF2SHA1PasswordHasher", *shop.PASSWORD_HASHERS]
    failing["UPDATE"] = OperationalError(1290, "read-only")  # the login stores a better hash of the right password
    assert answer_of(log_in(PASSWORD)) == DOWN
    assert [log_in("wrong").status_code for _ in range(4)] == [400] * 4  # the fifth one locks the account
    assert [answer_of(log_in(PASSWORD)) for _ in range(11)] == [DOWN] * 11
    failing["UPDATE"] = ProgrammingError(1146, "Table does not exist")
    with pytest.raises(ProgrammingError):
        log_in(PASSWORD)
    assert log_in(PASSWORD).status_code == 429  # that one was counted


def test_outage_at_another_view_of_the_shop_is_named_too(client, account, failing):
    token = LoginToken.for_user(account)
    failing["SELECT"] = OperationalError(2006, "Server has gone away")
    assert answer_of(client.get("/user/", headers={"Authorization": f"JWT {token}"})) == DOWN


@pytest.fixture
def fail_statements():
    """A function that lets the next statements that read or write fail with these database errors."""
    errors = []

    def execute(run, sql, params, many, context):
        if errors and sql.startswith(("SELECT", "UPDATE")):
            raise OperationalError(errors.pop(0), "refused by the cluster")
        return run(sql, params, many, context)

    with connection.execute_wrapper(execute):
        yield errors.extend


@pytest.mark.django_db(transaction=True)
def test_read_outside_a_transaction_is_repeated_once(qq, browser, account, binding, fail_statements):
    user, code = SignedIn(qq, account), browser.arrive()
    connection.close()
    reads = (
        lambda: user.get("/user/", headers=user.headers),
        user.list,
        lambda: browser.redeem_code(code),
        lambda: user.get("/usernames/zhang3/count/"),
    )
    for read in reads:
        fail_statements([1213, 1213])
        assert answer_of(read()) == DOWN
        fail_statements([1213])
        assert read().status_code == 200
        fail_statements([1205])
        assert answer_of(read()) == DOWN


@pytest.mark.django_db(transaction=True)
def test_write_outside_a_transaction_is_not_repeated(client, account, fail_statements):
    fail_statements([1213])
    with pytest.raises(OperationalError):
        User.objects.update(email="zhang3@shop.example")


def test_read_in_a_transaction_is_not_repeated(client, account, fail_statements):
    token = LoginToken.for_user(account)
    fail_statements([1213])
    assert answer_of(client.get("/user/", headers={"Authorization": f"JWT {token}"})) == DOWN


def test_outage_is_recorded(browser, form, failing, connect):
    recorded = []
    connect(lambda event, fields, **_: recorded.append((event, fields["outcome"], fields.get("reason"))), qq_audited)
    failing["INSERT"] = OperationalError(1205, "Lock wait timeout exceeded")
    browser.bind(form)
    assert recorded == [("bind", "refused", "database_unavailable")]


def test_receiver_that_meets_an_outage_leaves_the_binding(browser, form, connect):
    errors = [OperationalError(2006, "Server has gone away")]

    def fail(**_):
        if errors:
            raise errors.pop()

    connect(fail, qq_logged_in)
    assert answer_of(browser.bind(form)) == DOWN
    assert browser.bind(form).json()["user_id"] == OAuthQQUser.objects.get().user_id


@pytest.mark.parametrize("has_cookie", [True, False])
def test_sealed_code_that_met_an_outage_may_be_sent_again(browser, binding, qq, shop, failing, has_cookie):
    shop.QQ_REQUIRE_COOKIE = has_cookie
    code = browser.arrive()
    page = browser if has_cookie else Browser(qq)
    failing["SELECT"] = OperationalError(2006, "Server has gone away")
    assert answer_of(page.redeem_code(code)) == DOWN
    failing.clear()
    assert page.redeem_code(code).json()["user_id"] == binding.user_id


@pytest.mark.parametrize("door", DOORS)
def test_doors_that_met_an_outage_may_be_tried_again(qq, account, failing, door):
    app, user = App(qq, door), SignedIn(qq, account)
    proof, token = app.prove(), user.get_bind_token("李思思")
    failing["SELECT"] = OperationalError(2006, "Server has gone away")
    for answer in (app.send(proof), user.list(), user.link(token), user.unlink(1)):
        assert answer_of(answer) == DOWN
    failing.clear()
    assert [answer.status_code for answer in (app.send(proof), user.list(), user.link(token))] == [200, 200, 201]


class InDatabase(LocMemCache):
    """A cache in the database, which is down."""

    def add(self, *args, **kwargs):
        raise OperationalError(1040, "Too many connections")


@pytest.mark.parametrize("path", ["login/?next=/cart", "callback/?code=C&state="])
def test_browser_that_navigates_ends_on_the_page(browser, use_cache, path):
    use_cache(f"{__name__}.InDatabase")
    response = browser.get(f"/oauth/qq/{path}")
    assert page_query(response)["error"] == "database_unavailable"
    assert (response["Location"].startswith(PAGE), response["Retry-After"]) == (True, "5")


@pytest.mark.servers
@pytest.mark.django_db(transaction=True)
def test_connection_to_a_read_only_server_is_not_kept(browser, form):
    with connection.cursor() as cursor:
        cursor.execute("SET SESSION TRANSACTION READ ONLY")
    assert answer_of(browser.bind(form)) == DOWN
    assert browser.bind(form).status_code == 200


@pytest.mark.servers
@pytest.mark.django_db(transaction=True)
def test_look_up_finds_out_whether_a_kept_connection_is_alive(qq, browser, binding, fail_statements):
    def redeem_at_the_beginning_of_a_request(code):
        connection.close_if_unusable_or_obsolete()
        return browser.redeem_code(code)

    code = browser.arrive()
    connection.ensure_connection()
    assert redeem_at_the_beginning_of_a_request(code).status_code == 200
    with closing(connect_database(database_of_the_tests())) as other:
        other.query(f"KILL {connection.connection.thread_id()}")
    assert redeem_at_the_beginning_of_a_request(code).status_code == 200
    fail_statements([1205])
    assert answer_of(redeem_at_the_beginning_of_a_request(code)) == DOWN

"""The support desk's page: bindings are found, shown shortened and masked, and removed for a reason."""

import html
import re

import pytest
from django.contrib import admin
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import include, path

from apps.oauth.audit import hash_openid
from apps.oauth.models import OAuthQQUser
from apps.oauth.signals import qq_audited, qq_unbound
from tests.conftest import MOBILE
from tests.oauth import test_redaction
from tests.tools.requirements import requirement

reports = test_redaction.reports

urlpatterns = [path("oauth/qq/", include("apps.oauth.urls")), path("admin/", admin.site.urls)]

LIST = "/admin/oauth/oauthqquser/"
SUPPORT = ("view_oauthqquser", "delete_oauthqquser")


@pytest.fixture
def page(client, binding, account, shop, support):
    """A support desk's client in the admin of a shop whose usernames are mobile numbers."""
    shop.ROOT_URLCONF = __name__
    shop.MIDDLEWARE = [
        *shop.MIDDLEWARE,  # those that ADMIN_PATH adds
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.contrib.auth.middleware.AuthenticationMiddleware",
        "django.contrib.messages.middleware.MessageMiddleware",
    ]
    account.username, account.email = MOBILE, "zhang3@shop.example"
    account.save()
    client.force_login(support)
    return client


@pytest.fixture
def support(django_user_model):
    return permit(django_user_model.objects.create_user("support", is_staff=True), *SUPPORT)


def permit(employee, *names):
    employee.user_permissions.set(Permission.objects.filter(codename__in=names))
    return employee


@pytest.fixture
def heard(connect):
    """What receivers of the audit log and of qq_unbound have heard."""
    heard = []
    connect(lambda event, fields, **_: heard.append((event, fields)), qq_audited)
    connect(lambda sender, signal, **sent: heard.append(sent), qq_unbound)
    return heard


def search(page, text):
    """Return the page that a search ends on."""
    return page.post(LIST, {"q": text}, follow=True)


def read(response):
    """Return (message, rows of the list), each row with its cells as text."""
    text = response.content.decode()
    message = re.search(r'class="messagelist">\s*<li[^>]*>(.*?)</li>', text, re.DOTALL)
    body = re.search(r"<tbody>(.*?)</tbody>", text, re.DOTALL)
    rows = re.findall(r"<tr>(.*?)</tr>", body[1] if body else "", re.DOTALL)
    cells = [re.findall(r"<t[dh] class=\"field-[^>]*>(.*?)</t[dh]>", row, re.DOTALL) for row in rows]
    plain = [[html.unescape(re.sub("<[^>]*>", "", cell)).strip() for cell in row] for row in cells]
    return message and html.unescape(message[1]), [row[:3] for row in plain]


def shown(binding):
    return [f"{binding.openid[:6]}…", "138****5678", "138****5678"]


KEYS = {
    "username": lambda binding: binding.user.username,
    "mobile": lambda binding: f" {binding.user.mobile} ",
    "email": lambda binding: binding.user.email,
    "user id": lambda binding: str(binding.user_id),
    "openid": lambda binding: binding.openid,
    "shortened openid": str,
    "its six letters": lambda binding: binding.openid[:6],
    "typed dots": lambda binding: f"{binding.openid[:6]}...",
    "hash in the log": lambda binding: hash_openid(binding.openid),
}


@requirement("9.14", "10.7")
@pytest.mark.parametrize("key", KEYS)
def test_search_finds_a_binding_and_puts_no_personal_data_into_addresses_and_pages(page, binding, support, key):
    binding.user.username = "zhang3" if key in ("username", "mobile") else MOBILE
    binding.user.save()
    OAuthQQUser.objects.create(user=support, openid="0" * 32)
    response = search(page, KEYS[key](binding))
    assert response.redirect_chain == [(f"{LIST}?id__in={binding.pk}", 302)]
    assert read(response) == (
        None,
        [[*shown(binding)[:1], binding.user.username.replace("1234", "****"), shown(binding)[2]]],
    )
    assert not any(text in response.content.decode() for text in (MOBILE, binding.openid))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nobody", "没有找到。"),
        ("", "没有找到。"),
        ("0" * 12, "没有找到。"),
        ("0" * 6, "没有找到。"),
        ("4CF35", "没有找到。"),  # too little of the openid
        ("1" * 30, "没有找到。"),
        ("support", "账号没有绑定 QQ。"),
    ],
)
def test_search_says_what_it_did_not_find(page, text, message, django_user_model):
    nameless = django_user_model.objects.create_user("li4", mobile="")
    OAuthQQUser.objects.create(user=nameless, openid="B" * 32)
    assert read(search(page, text)) == (message, [])


def test_accounts_that_share_an_email_are_bounded(page, binding, django_user_model):
    users = [django_user_model(username=f"user {number}", email="a@b.example") for number in range(101)]
    django_user_model.objects.bulk_create(users)
    with CaptureQueriesContext(connection) as queries:
        assert read(search(page, "a@b.example")) == ("匹配的账号太多，只查了 100 个。", [])
    assert [query for query in queries if "LIMIT 100" in query["sql"] and "a@b.example" in query["sql"]]


def test_hash_is_found_under_an_earlier_key(page, binding, shop):
    hashed = hash_openid(binding.openid)
    shop.SECRET_KEY_FALLBACKS, shop.SECRET_KEY = [shop.SECRET_KEY], "n" * 50
    shop.SESSION_ENGINE = "django.contrib.sessions.backends.db"
    assert hash_openid(binding.openid) != hashed
    assert read(search(page, hashed)) == (None, [shown(binding)])


def test_long_search_for_a_hash_stops_and_goes_on(clock, page, binding):
    newer = [OAuthQQUser(user=binding.user, openid=f"{number:032X}") for number in range(2000)]
    OAuthQQUser.objects.bulk_create(newer)
    lowest = OAuthQQUser.objects.exclude(pk=binding.pk).earliest("pk").pk

    def be_slow(execute, *args):
        clock.shift(5.1)
        return execute(*args)

    hashed = hash_openid(binding.openid)
    with connection.execute_wrapper(be_slow):
        message, rows = read(search(page, hashed))
        assert message == f"编号不小于 {lowest} 的绑定里没有。请再搜一次以继续，或改搜日志同一行的 user_id。"
        assert rows == []
        assert read(search(page, hashed)) == (None, [shown(binding)])


def test_english_pages_of_bindings_have_no_chinese_text(page, binding):
    one, several = f"{LIST}{binding.pk}", {"action": "delete_selected", "_selected_action": binding.pk}
    headers = {"Accept-Language": "en"}
    pages = [page.get(path, headers=headers) for path in (LIST, f"{one}/change/", f"{one}/delete/")]
    for response in (*pages, page.post(LIST, several, headers=headers)):
        text = response.content.decode()
        assert "QQ bindings" in text
        assert re.findall("[\u4e00-\u9fff]+", text) == []


def test_list_is_the_newest_thousand_and_reads_neither_all_rows_nor_users_one_by_one(
    page, binding, django_assert_num_queries
):
    OAuthQQUser.objects.bulk_create(OAuthQQUser(user=binding.user, openid=f"{number:032X}") for number in range(1001))
    with CaptureQueriesContext(connection) as queries:
        response = page.get(LIST)
    # Session, employee, their permissions and those of their groups; count, rows, users.
    assert len(queries) == 7
    assert [query["sql"] for query in queries if "COUNT(" in query["sql"] and "LIMIT 1000" not in query["sql"]] == []
    text = response.content.decode()
    assert "最新的绑定，最多 1000 条；更早的请搜索" in text
    assert "1000 QQ 绑定" in text
    assert "action-counter" not in text  # with its link that selects all
    assert len(read(response)[1]) == 100


@requirement("7.7")
def test_binding_is_read_only(page, binding):
    text = page.get(f"{LIST}{binding.pk}/change/").content.decode()
    assert all(part in text for part in ("138****5678", hash_openid(binding.openid)))
    assert not any(part in text for part in (MOBILE, binding.openid, 'name="_save"'))
    assert page.post(f"{LIST}{binding.pk}/change/", {"openid": "A" * 32}).status_code == 403
    assert page.get(f"{LIST}add/").status_code == 403


def ask(page, binding, way, **form):
    """Open or send the page that asks for the reason: the one of a binding, or that of the list's action."""
    action = {} if way else {"action": "delete_selected", "_selected_action": binding.pk, "index": 0}
    return page.post(f"{LIST}{binding.pk}/{way}" if way else LIST, {**action, **form}, follow=True)


@pytest.mark.parametrize("way", ["delete/", ""], ids=["on its page", "in the list"])
def test_unbinding_asks_for_a_reason_is_recorded_and_heard(
    page, binding, support, heard, django_capture_on_commit_callbacks, way
):
    asked = page.get(f"{LIST}{binding.pk}/delete/") if way else ask(page, binding, way)
    assert all(part in asked.content.decode() for part in (*shown(binding), 'name="reason"', "解除绑定"))
    assert not any(part in asked.content.decode() for part in (MOBILE, binding.openid))
    for empty in ({}, {"reason": " \n"}):
        assert read(ask(page, binding, way, post="yes", **empty))[0] == "没有解除：请填写原因。"
    assert OAuthQQUser.objects.exists()

    reason = f"来电 {MOBILE}，\n86{MOBILE}，138-1234-5678，{binding.openid} {'长' * 200}"
    with django_capture_on_commit_callbacks(execute=True):
        response = ask(page, binding, way, post="yes", reason=reason)
        assert heard == []
    assert response.request["PATH_INFO"] == LIST
    assert not OAuthQQUser.objects.exists()
    cleaned = f"来电 138****5678， 86138****5678，138****5678，{binding.openid[:6]}… {'长' * 200}"[:200]
    (event, fields), sent = heard
    request = sent.pop("request")
    assert event == "unbind"
    assert fields == {
        "request_id": request.META["qq_login.request_id"],
        "address": "127.0.0.1",
        "outcome": "ok",
        "openid": hash_openid(binding.openid),
        "user_id": binding.user_id,
        "reason": cleaned,
        "staff_id": support.pk,
    }
    assert sent == {"user": binding.user, "openid": binding.openid, "reason": cleaned}
    assert binding.openid not in str(LogEntry.objects.values())


def test_several_are_unbound_at_once_though_a_receiver_fails_and_others_stay(
    page, binding, heard, connect, django_capture_on_commit_callbacks
):
    def fail(**_):
        raise RuntimeError("a receiver of the shop")

    connect(fail, qq_unbound)
    other, kept = (OAuthQQUser.objects.create(user=binding.user, openid=letter * 32) for letter in "AB")
    form = {"action": "delete_selected", "_selected_action": [binding.pk, other.pk], "index": 0}
    with django_capture_on_commit_callbacks(execute=True):
        assert page.post(LIST, {**form, "post": "yes", "reason": "lost phone"}).status_code == 302
    assert [row.pk for row in OAuthQQUser.objects.all()] == [kept.pk]
    assert {entry["openid"] for entry in heard[1::2]} == {binding.openid, other.openid}


@requirement("7.7")
@pytest.mark.parametrize(
    ("names", "may_see", "may_unbind"),
    [((), False, False), (SUPPORT[:1], True, False), (SUPPORT[1:], False, True), (SUPPORT, True, True)],
    ids=["neither", "view", "delete", "both"],
)
def test_permissions_are_respected(page, binding, support, names, may_see, may_unbind):
    permit(support, *names)
    detail = f"{LIST}{binding.pk}/"
    assert [page.get(address).status_code for address in (LIST, f"{detail}change/")] == [200 if may_see else 403] * 2
    assert page.post(LIST, {"q": binding.openid}).status_code == (302 if may_see else 403)
    if may_see:
        assert ("delete_selected" in page.get(LIST).content.decode()) is may_unbind
    ask(page, binding, "", post="yes", reason="lost phone")
    assert OAuthQQUser.objects.exists() is not (may_see and may_unbind)
    ask(page, binding, "delete/", post="yes", reason="lost phone")
    assert OAuthQQUser.objects.exists() is not may_unbind


class Bug(Exception):
    pass


@requirement("10.2")
@pytest.mark.parametrize("way", ["search", "delete/", ""], ids=["search", "on its page", "in the list"])
def test_report_of_a_failure_contains_nothing_that_was_typed(page, binding, reports, way):
    def fail(execute, sql, *args):
        if sql.startswith("SELECT" if way == "search" else "DELETE") and "tb_oauth_qq" in sql:
            raise Bug
        return execute(sql, *args)

    page.raise_request_exception = False
    with connection.execute_wrapper(fail):
        if way == "search":
            response = page.post(LIST, {"q": MOBILE})
        else:
            response = ask(page, binding, way, post="yes", reason=MOBILE)
    assert response.status_code == 500
    (report,) = reports()
    assert "Bug" in report
    assert MOBILE not in report


def test_search_needs_the_forms_token(page, binding, support):
    strict = Client(enforce_csrf_checks=True)
    strict.force_login(support)
    assert strict.post(LIST, {"q": binding.openid}).status_code == 403


@requirement("10.9")
@pytest.mark.parametrize(
    ("path", "form"),
    [("7/delete/", {}), ("", {"action": "delete_selected", "_selected_action": "7"})],
    ids=["on the user's page", "in the list"],
)
@pytest.mark.parametrize("may_delete_bindings", [True, False])
def test_deleting_a_user_deletes_the_bindings(
    page, binding, support, django_user_model, path, form, may_delete_bindings
):
    django_user_model.objects.create_user("li4", pk=7)
    OAuthQQUser.objects.filter(pk=binding.pk).update(user_id=7)
    permit(support, "view_user", "delete_user", *["delete_oauthqquser"] * may_delete_bindings)
    page.post(f"/admin/users/user/{path}", {**form, "post": "yes"})
    assert OAuthQQUser.objects.exists() is not may_delete_bindings

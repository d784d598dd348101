"""Bindings in the admin: read-only, shortened and masked."""

import pytest
from django.contrib import admin
from django.contrib.auth.models import Permission
from django.urls import include, path

from apps.oauth.models import OAuthQQUser
from tests.conftest import MOBILE
from tests.tools.requirements import requirement

urlpatterns = [path("oauth/qq/", include("apps.oauth.urls")), path("admin/", admin.site.urls)]

LIST = "/admin/oauth/oauthqquser/"


@pytest.fixture
def page(admin_client, binding, account, shop):
    """A client in the admin of a shop whose usernames are mobile numbers."""
    shop.ROOT_URLCONF = __name__
    shop.MIDDLEWARE = [
        *shop.MIDDLEWARE,  # those that ADMIN_PATH adds
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.contrib.auth.middleware.AuthenticationMiddleware",
        "django.contrib.messages.middleware.MessageMiddleware",
    ]
    account.username = MOBILE
    account.save()
    return admin_client


@requirement("9.14", "10.7")
def test_list_hides_personal_data_and_search_finds_the_whole_openid_only(page, account, binding):
    for query, is_found in ({}, True), ({"q": binding.openid}, True), ({"q": binding.openid[:6]}, False):
        html = page.get(LIST, query).content.decode()
        assert html.count("138****5678") == 2 * is_found
        assert (f"{binding.openid[:6]}…" in html) is is_found
        assert MOBILE not in html
        assert (binding.openid in html) is ("q" in query and is_found)  # in the search field
    account.mobile = None
    account.save()
    assert ">-<" in page.get(LIST).content.decode()


@requirement("7.7")
def test_binding_is_read_only(page, binding):
    html = page.get(f"{LIST}{binding.pk}/change/").content.decode()
    assert "138****5678" in html
    assert not any(text in html for text in (MOBILE, binding.openid, 'name="_save"'))
    for action, form in (("change", {"openid": "A" * 32}), ("delete", {"post": "yes"})):
        assert page.post(f"{LIST}{binding.pk}/{action}/", form).status_code == 403
    assert page.get(f"{LIST}add/").status_code == 403


@requirement("10.9")
@pytest.mark.parametrize(
    ("path", "form"),
    [("7/delete/", {}), ("", {"action": "delete_selected", "_selected_action": "7"})],
    ids=["on the user's page", "in the list"],
)
@pytest.mark.parametrize("may_delete_bindings", [True, False])
def test_deleting_a_user_deletes_the_bindings(page, binding, django_user_model, path, form, may_delete_bindings):
    django_user_model.objects.create_user("li4", pk=7)
    OAuthQQUser.objects.filter(pk=binding.pk).update(user_id=7)
    support = django_user_model.objects.create_user("support", is_staff=True)
    names = ["view_user", "delete_user", *["delete_oauthqquser"] * may_delete_bindings]
    support.user_permissions.set(Permission.objects.filter(codename__in=names))
    page.force_login(support)
    page.post(f"/admin/users/user/{path}", {**form, "post": "yes"})
    assert OAuthQQUser.objects.exists() is not may_delete_bindings

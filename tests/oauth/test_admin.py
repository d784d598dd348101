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
def test_list_hides_personal_data(page, binding):
    html = page.get(LIST).content.decode()
    assert html.count("138****5678") == 2
    assert binding.openid[:6] in html
    assert MOBILE not in html
    assert binding.openid not in html


@requirement("7.7")
def test_binding_is_read_only(page, binding):
    html = page.get(f"{LIST}{binding.pk}/change/").content.decode()
    assert "138****5678" in html
    for text in (MOBILE, binding.openid, 'name="_save"'):
        assert text not in html
    assert page.post(f"{LIST}{binding.pk}/change/", {"openid": "A" * 32}).status_code == 403
    assert page.get(f"{LIST}add/").status_code == 403
    assert page.post(f"{LIST}{binding.pk}/delete/", {"post": "yes"}).status_code == 403


@requirement("10.9")
@pytest.mark.parametrize(
    ("address", "form"),
    [
        ("{pk}/delete/", {"post": "yes"}),
        ("", {"action": "delete_selected", "_selected_action": "{pk}", "post": "yes"}),
    ],
    ids=["on the user's page", "in the list"],
)
def test_deleting_a_user_deletes_the_bindings(page, account, binding, address, form):
    form = {name: value.format(pk=account.pk) for name, value in form.items()}
    assert page.post(f"/admin/users/user/{address.format(pk=account.pk)}", form).status_code == 302
    assert not OAuthQQUser.objects.exists()


def test_deleting_a_user_needs_the_permission_to_delete_bindings(page, account, binding, django_user_model):
    support = django_user_model.objects.create_user("support", is_staff=True)
    support.user_permissions.set(Permission.objects.filter(codename__in=["view_user", "delete_user"]))
    page.force_login(support)
    assert page.post(f"/admin/users/user/{account.pk}/delete/", {"post": "yes"}).status_code == 403
    assert OAuthQQUser.objects.exists()


def test_user_without_mobile_shows_a_dash(page, account):
    account.mobile = None
    account.save()
    assert ">-<" in page.get(LIST).content.decode()


def test_search_finds_the_whole_openid_only(page, binding):
    assert binding.openid[:6] in page.get(LIST, {"q": binding.openid}).content.decode()
    assert ">0 " in page.get(LIST, {"q": binding.openid[:6]}).content.decode()

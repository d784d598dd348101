"""The bindings in Django's admin: to look at, shortened and masked."""

import pytest
from django.contrib import admin
from django.contrib.auth.models import Permission
from django.urls import include, path

from apps.oauth.models import OAuthQQUser
from tests.conftest import MOBILE

urlpatterns = [path("oauth/qq/", include("apps.oauth.urls")), path("admin/", admin.site.urls)]

LIST = "/admin/oauth/oauthqquser/"


@pytest.fixture
def page(admin_client, binding, account, shop):
    """The admin of a shop whose usernames are mobiles, as many a shop's are."""
    shop.ROOT_URLCONF = __name__
    shop.MIDDLEWARE = [
        *shop.MIDDLEWARE,  # and what ADMIN_PATH brings
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.contrib.auth.middleware.AuthenticationMiddleware",
        "django.contrib.messages.middleware.MessageMiddleware",
    ]
    account.username = MOBILE
    account.save()
    return admin_client


def test_the_list_hides_what_would_name_a_person(page, binding):
    html = page.get(LIST).content.decode()
    assert html.count("138****5678") == 2
    assert binding.openid[:6] in html
    for whole in (MOBILE, binding.openid):
        assert whole not in html


def test_a_binding_is_shown_the_same_way_and_cannot_be_changed(page, binding):
    response = page.get(f"{LIST}{binding.pk}/change/")
    html = response.content.decode()
    assert "138****5678" in html
    for whole in (MOBILE, binding.openid, 'name="_save"'):
        assert whole not in html
    assert page.post(f"{LIST}{binding.pk}/change/", {"openid": "A" * 32}).status_code == 403
    assert page.get(f"{LIST}add/").status_code == 403
    assert page.post(f"{LIST}{binding.pk}/delete/", {"post": "yes"}).status_code == 403


@pytest.mark.parametrize(
    ("address", "form"),
    [
        ("{pk}/delete/", {"post": "yes"}),
        ("", {"action": "delete_selected", "_selected_action": "{pk}", "post": "yes"}),
    ],
    ids=["on the user's page", "in the list"],
)
def test_a_user_is_deleted_with_what_is_bound_to_him(page, account, binding, address, form):
    form = {name: value.format(pk=account.pk) for name, value in form.items()}
    assert page.post(f"/admin/users/user/{address.format(pk=account.pk)}", form).status_code == 302
    assert not OAuthQQUser.objects.exists()


def test_who_may_not_delete_a_binding_may_not_delete_its_user(page, account, binding, django_user_model):
    support = django_user_model.objects.create_user("support", is_staff=True)
    support.user_permissions.set(Permission.objects.filter(codename__in=["view_user", "delete_user"]))
    page.force_login(support)
    assert page.post(f"/admin/users/user/{account.pk}/delete/", {"post": "yes"}).status_code == 403
    assert OAuthQQUser.objects.exists()


def test_a_user_without_a_mobile_has_a_dash(page, account):
    account.mobile = None
    account.save()
    assert ">-<" in page.get(LIST).content.decode()


def test_a_binding_is_found_by_its_openid(page, binding):
    assert binding.openid[:6] in page.get(LIST, {"q": binding.openid}).content.decode()
    assert ">0 " in page.get(LIST, {"q": binding.openid[:6]}).content.decode()

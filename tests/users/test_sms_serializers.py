"""Forms where an SMS code takes the place of the password."""

import logging

import pytest

from apps.oauth.models import OAuthQQUser
from apps.users.models import User
from apps.users.sms_serializers import MobileAccountSerializer
from tests.conftest import MOBILE, PASSWORD, error_of, invalid_fields
from tests.oauth.views.test_bindings import SignedIn
from tests.tools.requirements import requirement


@pytest.fixture
def by_sms(browser, phone, shop):
    """Send the form without a password, with these changes."""
    shop.QQ_ACCOUNT_SERIALIZER = f"{MobileAccountSerializer.__module__}.MobileAccountSerializer"
    form = {"mobile": MOBILE, "access_token": browser.get_bind_token(), "sms_code": phone.receive_code()}
    return lambda **changes: browser.bind(form | changes)


@requirement("15.13")
def test_new_account_has_no_usable_password(by_sms):
    assert invalid_fields(by_sms(sms_code="000000")) == ["sms_code"]
    assert by_sms().status_code == 200
    account = User.objects.get()
    assert (account.mobile, account.has_usable_password()) == (MOBILE, False)


@requirement("15.13")
def test_account_of_the_number_is_bound_and_the_log_names_the_form(by_sms, account, caplog):
    caplog.set_level(logging.INFO, "meiduo.audit")
    assert by_sms().json()["id"] == account.pk
    account.refresh_from_db()
    assert account.check_password(PASSWORD)
    assert caplog.records[-1].form == "MobileAccountSerializer"


@requirement("15.13")
@pytest.mark.parametrize("changes", [{"is_staff": True}, {"is_superuser": True}, {"is_active": False}])
def test_staff_and_disabled_accounts_are_refused(by_sms, account, changes):
    User.objects.update(**changes)
    assert error_of(by_sms()) == (400, "account_refused")
    assert OAuthQQUser.objects.count() == 0


@requirement("15.13")
def test_number_that_left_the_account_meanwhile_binds_nothing(by_sms, account, monkeypatch):
    class Moved(MobileAccountSerializer):
        def validate(self, attrs):
            attrs = super().validate(attrs)
            User.objects.update(mobile="13900000009")
            return attrs

    monkeypatch.setattr("apps.users.sms_serializers.MobileAccountSerializer", Moved)
    assert by_sms().status_code == 400
    assert OAuthQQUser.objects.count() == 0


@requirement("15.13")
def test_form_of_a_shop_that_did_not_choose_it_needs_the_password(browser, phone, account):
    form = {"mobile": MOBILE, "access_token": browser.get_bind_token(), "sms_code": phone.receive_code()}
    assert invalid_fields(browser.bind(form)) == ["password"]


def test_account_without_a_number_is_confirmed_by_its_password(qq, django_user_model):
    user = SignedIn(qq, django_user_model.objects.create_user("staffless", password=PASSWORD))
    token = user.get_bind_token()
    form = {"access_token": token, "sms_code": "123456"}
    answer = user.client.post("/oauth/qq/bindings/", form, content_type="application/json", headers=user.headers)
    assert invalid_fields(answer) == ["sms_code"]
    answer = user.client.post("/oauth/qq/bindings/", {"access_token": token}, "application/json", headers=user.headers)
    assert invalid_fields(answer) == ["password"]
    assert user.link(token, password="x" * 129).status_code == 400
    assert user.link(token).status_code == 201

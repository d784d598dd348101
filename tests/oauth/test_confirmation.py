"""The default of QQ_CONFIRM_SERIALIZER: the account's password."""

import pytest

from apps.oauth.account_lock import make_account_key, password_attempt
from apps.oauth.conf import Conf
from apps.oauth.ratelimit import RateLimited
from tests.conftest import error_of, grouped, invalid_fields
from tests.oauth.views.test_bindings import SignedIn
from tests.tools.requirements import requirement


@pytest.fixture
def user(qq, account, shop):
    shop.QQ_CONFIRM_SERIALIZER = vars(Conf)["CONFIRM_SERIALIZER"].default
    return SignedIn(qq, account)


@requirement("15.6")
def test_password_of_the_account_confirms(user):
    token = user.get_bind_token()
    assert invalid_fields(user.link(token, password="wrong password")) == ["password"]
    assert user.link(token).status_code == 201


@pytest.mark.parametrize(("_", "password"), grouped(bad=["", None, 7, ["a"], "a\0", "\ud800", "x" * 129]))
def test_other_values_are_no_password(user, _, password):
    assert invalid_fields(user.link(user.get_bind_token(), password=password)) == ["password"]


@requirement("15.6")
def test_wrong_ones_lock_the_account_for_every_form_that_asks_for_its_password(user, binding, no_limits, rf):
    for _ in range(5):
        assert user.unlink(binding.pk, password="wrong password").status_code == 400
    assert error_of(user.unlink(binding.pk)) == (429, "throttled")
    with pytest.raises(RateLimited), password_attempt(rf.post("/"), make_account_key(user.user)):
        pass


def test_account_without_a_password_is_told_so(user, binding):
    user.user.set_unusable_password()
    user.user.save()
    assert user.unlink(binding.pk).json()["password"] == ["账号还没有密码，请先设置密码。"]

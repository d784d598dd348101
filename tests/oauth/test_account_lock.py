"""The lock after wrong passwords; tests/users/test_password_lock.py has its times."""

from django.core.cache.backends.locmem import LocMemCache

from tests.conftest import error_of


class CountsOthersToo(LocMemCache):
    """A cache in which five attempts of other servers are counted at the same moment as ours."""

    def incr(self, key, delta=1, version=None):
        is_lock = key.startswith("qq-login:password:")
        return super().incr(key, delta + 5 * is_lock, version)


def test_attempt_beyond_those_under_way_is_refused(use_cache, account, request):
    use_cache(f"{__name__}.CountsOthersToo")
    browser, form = map(request.getfixturevalue, ("browser", "form"))  # the cache keeps their codes
    assert "password" in browser.bind(form | {"password": "another horse"}).json()
    assert error_of(browser.bind(form)) == (429, "throttled")

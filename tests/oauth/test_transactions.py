"""Binds whose transactions meet in MariaDB: over one new number, or each waiting for what the other has locked."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
import time_machine
from django.core.cache import cache
from django.db import OperationalError, connection, transaction

from apps.oauth.models import OAuthQQUser
from apps.oauth.signals import qq_bound
from apps.users.models import User
from apps.users.serializers import AccountSerializer
from tests.conftest import MOBILE, PASSWORD, Browser
from tests.tools.shoppers import at_once

pytestmark = [pytest.mark.servers, pytest.mark.django_db(transaction=True)]

# Clashes --------------------------------------------------------------------------------------------------------------


@pytest.fixture
def shifting_cache(shop):
    """A cache that keeps the clock of the test, where a minute may pass between two SMS."""
    shop.CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache", "LOCATION": "shifting"}}


def bind_in_a_thread(browser, form):
    try:
        return browser.bind(form)
    finally:
        connection.close()


@pytest.mark.parametrize("passwords", [{PASSWORD}, {PASSWORD, "another horse"}], ids=["one password", "two passwords"])
def test_openids_that_have_all_proved_one_new_mobile_make_one_account(qq, phone, shifting_cache, passwords):
    browsers = [Browser(qq, REMOTE_ADDR=f"198.18.0.{number}") for number in range(4)]
    for _ in range(20):
        cache.clear()
        forms = []
        with time_machine.travel(1_800_000_000, tick=False) as clock:
            for number, browser in enumerate(browsers):
                form = {"mobile": MOBILE, "access_token": browser.get_bind_token(f"小明 {number}")}
                form["sms_code"] = phone.receive_code()
                assert browser.bind({**form, "password": "password"}).json().keys() == {"password", "message", "code"}
                clock.shift(61)
                forms.append({**form, "password": sorted(passwords)[number % len(passwords)]})
            calls = zip(browsers, forms, strict=True)
            answers = at_once(*(lambda b=browser, form=form: bind_in_a_thread(b, form) for browser, form in calls))

        user = User.objects.get()
        fits = [user.check_password(form["password"]) for form in forms]
        assert [answer.status_code for answer in answers] == [200 if fit else 400 for fit in fits]
        assert all("password" in answer.json() for answer in answers if answer.status_code == 400)
        assert set(OAuthQQUser.objects.values_list("openid", "user_id")) == {
            (qq.openid(f"小明 {number}"), user.pk) for number, fit in enumerate(fits) if fit
        }
        user.delete()


# Deadlocks ------------------------------------------------------------------------------------------------------------

rivals = []  # one a deadlock that the next saves shall meet


class MeetingAccountSerializer(AccountSerializer):
    """Locks a second row that a rival has, which waits for the first: one of the two transactions has to go."""

    def save(self):
        user = super().save()
        if rivals:
            rival = rivals.pop()
            lock(rival.first)
            rival.meet()
            lock(rival.second)
        return user


class Rival:
    """Another transaction of the shop, with so much done in it that the database would rather undo the other one."""

    def __init__(self, first, second, binds=()):
        self.first, self.second, self.binds = first, second, binds
        self.barrier = Barrier(2)

    def meet(self):
        self.barrier.wait(20)

    def run(self):
        try:
            with transaction.atomic():
                for openid in self.binds:
                    OAuthQQUser.objects.create(user_id=self.second, openid=openid)
                with transaction.atomic():
                    much = [OAuthQQUser(user_id=self.second, openid=f"{self.second}-{number}") for number in range(100)]
                    OAuthQQUser.objects.bulk_create(much)
                    lock(self.second)
                    self.meet()
                    lock(self.first)  # had as soon as the bind is undone
                    transaction.set_rollback(True)
        finally:
            connection.close()


def lock(user_id):
    User.objects.select_for_update().get(pk=user_id)


@pytest.fixture
def meet_rivals(shop):
    """A function: let the next binds meet these rivals. What the rivals did is looked at in the end."""
    shop.QQ_ACCOUNT_SERIALIZER = f"{__name__}.MeetingAccountSerializer"
    with ThreadPoolExecutor(2) as pool:
        running = []

        def meet_rivals(*them):
            rivals.extend(them)
            running.extend(pool.submit(rival.run) for rival in them)

        yield meet_rivals
        not_met, rivals[:] = rivals[:], []
        for rival in running:
            rival.result()
    assert not_met == []


@pytest.fixture
def rows():
    """Four accounts the shop had before."""
    mobiles = ("13800000001", "13800000002", "13800000003", "13800000004")
    return [User.objects.create_user(f"old{mobile}", password="x", mobile=mobile).pk for mobile in mobiles]


@pytest.fixture
def binds():
    """The users qq_bound tells of."""
    users = []

    def note(user, **_):
        users.append(user.pk)

    qq_bound.connect(note)
    yield users
    qq_bound.disconnect(note)


def test_a_deadlock_is_retried_once_and_nobody_notices(browser, form, qq, rows, meet_rivals, binds):
    meet_rivals(Rival(*rows[:2]))
    answer = browser.bind(form)
    assert answer.status_code == 200
    user = User.objects.exclude(pk__in=rows).get()  # made twice, and once undone
    assert (user.mobile, answer.json()["user_id"]) == (MOBILE, user.pk)
    binding = OAuthQQUser.objects.get()
    assert (binding.user_id, binding.openid) == (user.pk, qq.openid("小明"))
    assert binds == [user.pk]


def test_who_loses_the_openid_in_a_deadlock_is_told_so(browser, form, qq, rows, meet_rivals, binds):
    meet_rivals(Rival(*rows[:2], binds=[qq.openid("小明")]))
    answer = browser.bind(form)
    assert (answer.status_code, answer.json()["code"]) == (400, "already_bound")
    assert OAuthQQUser.objects.get().user_id == rows[1]
    assert not User.objects.exclude(pk__in=rows).exists()
    assert binds == []


def test_a_second_deadlock_in_a_row_is_an_error_and_leaves_nothing(browser, form, rows, meet_rivals, binds):
    meet_rivals(Rival(*rows[:2]), Rival(*rows[2:]))
    with pytest.raises(OperationalError, match="1213"):
        browser.bind(form)
    assert not OAuthQQUser.objects.exists()
    assert not User.objects.exclude(pk__in=rows).exists()
    assert binds == []
    assert browser.bind(form).status_code == 200

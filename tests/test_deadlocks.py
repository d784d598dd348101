"""Two transactions that wait for one another: MariaDB undoes the bind, and the shop tries it once more."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
from django.db import OperationalError, connection, transaction

from apps.oauth.models import OAuthQQUser
from apps.oauth.signals import qq_bound
from apps.users.models import User
from apps.users.serializers import AccountSerializer
from tests.conftest import MOBILE

pytestmark = [pytest.mark.servers, pytest.mark.django_db(transaction=True)]

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

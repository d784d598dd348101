"""Account and binding are saved in one transaction: conflicts, deadlocks, replicas, a cache that fails afterwards."""

import logging
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier, Thread

import pytest
from django.contrib.auth import get_user_model
from django.core.cache.backends.locmem import LocMemCache
from django.core.exceptions import ImproperlyConfigured
from django.db import OperationalError, connection, connections, transaction
from django.db.models.signals import post_save, pre_save
from redis.exceptions import RedisError
from rest_framework.serializers import Serializer

from apps.oauth.binding import unbind
from apps.oauth.models import OAuthQQUser
from apps.oauth.signals import qq_audited, qq_bound, qq_unbound
from apps.users.models import User
from apps.users.serializers import AccountSerializer
from tests.conftest import MOBILE, PASSWORD, error_of
from tests.tools.requirements import requirement

ALREADY_BOUND = (400, "already_bound")


def stored_bindings():
    return {(binding.user.username, binding.openid) for binding in OAuthQQUser.objects.select_related("user")}


class Forgetful(Serializer):
    """Its save() returns nothing."""

    def save(self):
        User.objects.create_user("forgotten")


class Unsaved(Serializer):
    def save(self):
        return User(username="unsaved")


@pytest.mark.parametrize(("serializer", "returned"), [("Forgetful", "NoneType"), ("Unsaved", "User")])
def test_serializer_that_returns_no_saved_user_is_named_and_leaves_no_account(
    browser, form, shop, serializer, returned
):
    shop.QQ_ACCOUNT_SERIALIZER = path = f"{__name__}.{serializer}"
    with pytest.raises(ImproperlyConfigured) as caught:
        browser.bind(form)
    assert str(caught.value) == f"QQ_ACCOUNT_SERIALIZER: {path}.save() returned {returned}, not a saved user."
    assert not User.objects.exists()


# Conflicts ------------------------------------------------------------------------------------------------------------


class Creating(Serializer):
    """A serializer as DRF's documentation shows it."""

    def create(self, validated_data):
        return get_user_model().objects.create_user("patient", password=PASSWORD)


class Updating(Creating):
    """One that finds the account during validation, for DRF to update."""

    def validate(self, attrs):
        self.instance = get_user_model().objects.get(username="zhang3")
        return attrs

    def update(self, instance, validated_data):
        return instance


@pytest.fixture
def fail_saving(connect):
    """A function that lets the next saves of a binding fail with these database errors."""
    errors = []

    def fail(**kwargs):
        if errors:
            raise OperationalError(errors.pop(), "blocked by another transaction")

    connect(fail, pre_save, sender=OAuthQQUser)
    return errors.extend


@pytest.mark.parametrize("number", [1213, 1180, 3101])
@pytest.mark.parametrize(("serializer", "username"), [("Creating", "patient"), ("Updating", "zhang3")])
def test_bind_is_retried_after_a_conflict(browser, form, shop, account, qq, fail_saving, serializer, username, number):
    shop.QQ_ACCOUNT_SERIALIZER = f"{__name__}.{serializer}"
    fail_saving([number])
    for _ in range(2):  # the second one is a repeat
        assert browser.bind(form).json()["username"] == username
    assert stored_bindings() == {(username, qq.openid("小明"))}
    assert OAuthQQUser.objects.get().user.check_password(PASSWORD)


@pytest.mark.parametrize("errors", [[1213, 1213], [3101, 1180], [1205], [3100]])
def test_bind_is_not_retried_twice_nor_after_other_errors(browser, form, django_user_model, fail_saving, errors):
    fail_saving(errors)
    assert error_of(browser.bind(form)) == (503, "database_unavailable")
    assert (django_user_model.objects.count(), OAuthQQUser.objects.count()) == (0, 0)
    assert browser.bind(form).status_code == 200


@pytest.mark.django_db(transaction=True)
def test_form_whose_commit_was_carried_out_after_its_answer_logs_in(browser, form, connect):
    lost = [OperationalError(2013, "Lost connection to server during query")]

    def lose_connection():
        if lost:
            raise lost.pop()

    connect(lambda **_: transaction.on_commit(lose_connection), post_save, sender=OAuthQQUser)
    assert error_of(browser.bind(form)) == (503, "database_unavailable")
    bound = OAuthQQUser.objects.get()
    assert browser.bind(form).json()["user_id"] == bound.user_id
    assert (User.objects.count(), OAuthQQUser.objects.get()) == (1, bound)


# Replicas and the cache -----------------------------------------------------------------------------------------------


class ReadFromReplica:
    """A router that reads from a database which does not exist: no read may go there."""

    def db_for_read(self, model, **hints):
        return "replica"


def test_repeat_is_looked_up_in_the_primary_database(browser, form, shop):
    assert browser.bind(form).status_code == 200
    shop.DATABASE_ROUTERS = [f"{__name__}.ReadFromReplica"]
    assert browser.bind(form).status_code == 200
    assert error_of(browser.bind(form | {"password": "another password"})) == ALREADY_BOUND


class FailingRefund(LocMemCache):
    def decr(self, *args, **kwargs):
        raise RedisError("gone")


def test_bind_succeeds_if_the_cache_fails_after_it(browser, shop, db, use_cache, connect, caplog):
    use_cache(f"{__name__}.FailingRefund")
    shop.QQ_ACCOUNT_SERIALIZER = f"{__name__}.Creating"
    users = []
    connect(lambda user, **_: users.append(user.pk), qq_bound)
    with caplog.at_level(logging.DEBUG, "apps.oauth"):
        answer = browser.bind({"access_token": browser.get_bind_token()})
    assert (answer.status_code, users) == (200, [answer.json()["id"]])
    error, trace = (record for record in caplog.records if record.name.startswith("apps.oauth"))
    assert (error.levelname, trace.levelname) == ("ERROR", "DEBUG")
    assert error.getMessage() == "A cache call failed: redis.exceptions.RedisError"
    assert trace.exc_info[0] is RedisError


# Races (more in e2e/test_races.py) ------------------------------------------------------------------------------------


class Overtaken(Serializer):
    """Another request binds the openid after this one has looked it up."""

    def validate(self, attrs):
        winner = get_user_model().objects.create_user("winner")
        OAuthQQUser.objects.create(openid=self.initial_data["openid"], user=winner)
        return attrs

    def save(self):
        return get_user_model().objects.create_user("loser")


@requirement("7.3", "7.8")
@pytest.mark.parametrize("routers", [[], [f"{__name__}.ReadFromReplica"]], ids=["one database", "replica"])
def test_loser_of_a_race_for_an_openid_leaves_no_account_and_has_not_failed(browser, form, shop, qq, routers):
    shop.QQ_ACCOUNT_SERIALIZER = f"{__name__}.Overtaken"
    openid = qq.openid("小明")
    for _ in range(11):  # one more than may fail
        shop.DATABASE_ROUTERS = routers
        assert error_of(browser.bind(form | {"openid": openid})) == ALREADY_BOUND
        shop.DATABASE_ROUTERS = []
        assert (stored_bindings(), User.objects.count()) == ({("winner", openid)}, 1)
        User.objects.all().delete()


def lock(user_id):
    User.objects.select_for_update().get(pk=user_id)


class DeadlockedSerializer(AccountSerializer):
    """Its first save() runs into a deadlock with another transaction, which binds `openids`."""

    users, openids, barrier, thread = (), (), None, None

    def save(self):
        user = super().save()
        first, second = self.users
        if self.thread is None:
            type(self).thread = Thread(target=self.run_other_transaction)
            self.thread.start()
            lock(first)
            self.barrier.wait(20)
            lock(second)
        return user

    def run_other_transaction(self):
        first, second = self.users
        try:
            with transaction.atomic():
                for openid in self.openids:
                    OAuthQQUser.objects.create(user_id=second, openid=openid)
                with transaction.atomic():
                    # With so many changes that the database undoes the bind instead.
                    OAuthQQUser.objects.bulk_create(OAuthQQUser(user_id=second, openid=f"{n}") for n in range(100))
                    lock(second)
                    self.barrier.wait(20)
                    lock(first)  # returns once the bind is undone
                    transaction.set_rollback(True)
        finally:
            connection.close()


@requirement("7.5")
@pytest.mark.servers
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("is_lost", [False, True], ids=["retried", "openid lost"])
def test_deadlock_is_retried_unnoticed(browser, form, shop, qq, connect, monkeypatch, is_lost):
    users = [User.objects.create_user(f"old{n}", password="x", mobile=f"1380000000{n}") for n in range(2)]
    openid, bound = qq.openid("小明"), []
    connect(lambda user, **_: bound.append(user.pk), qq_bound)
    shop.QQ_ACCOUNT_SERIALIZER = f"{__name__}.DeadlockedSerializer"
    monkeypatch.setattr(DeadlockedSerializer, "users", [user.pk for user in users])
    monkeypatch.setattr(DeadlockedSerializer, "openids", [openid] * is_lost)
    monkeypatch.setattr(DeadlockedSerializer, "barrier", Barrier(2))
    monkeypatch.setattr(DeadlockedSerializer, "thread", None)
    answer = browser.bind(form)
    DeadlockedSerializer.thread.join()
    if is_lost:
        assert error_of(answer) == ALREADY_BOUND
        assert (stored_bindings(), User.objects.count(), bound) == ({("old1", openid)}, 2, [])
    else:
        user = User.objects.get(mobile=MOBILE)
        assert (answer.status_code, answer.json()["user_id"]) == (200, user.pk)
        assert (stored_bindings(), User.objects.count(), bound) == ({(user.username, openid)}, 3, [user.pk])


@requirement("7.5")
@pytest.mark.servers
@pytest.mark.django_db(transaction=True)
def test_loser_at_another_server_of_a_cluster_gets_the_login_too(browser, form, qq, connect):
    """In Galera neither transaction sees the other; the loser's commit is refused with 1213."""
    bound, losing = [], connections["default"]

    def overtake(**_):
        """Let the same form win elsewhere. This transaction is undone without Django's notice, so it locks nothing."""
        if not bound:
            connection.connection.rollback()
            with ThreadPoolExecutor(1) as pool:
                assert pool.submit(bind_elsewhere).result().status_code == 200
            losing._commit = lose

    def bind_elsewhere():
        bound.append(True)
        try:
            return browser.bind(form)
        finally:
            connection.close()

    def lose():
        del losing._commit
        raise OperationalError(1213, "Deadlock found when trying to get lock")

    connect(overtake, post_save, sender=OAuthQQUser)
    answer = browser.bind(form)
    user = User.objects.get()
    assert (answer.status_code, answer.json()["user_id"]) == (200, user.pk)
    assert stored_bindings() == {(user.username, qq.openid("小明"))}


# Unbinding ------------------------------------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_unbinding_that_is_rolled_back_is_not_announced(binding, connect):
    heard = []
    connect(lambda **sent: heard.append(sent), qq_audited, qq_unbound)
    with transaction.atomic():
        assert unbind(OAuthQQUser.objects.all(), "lost phone") == 1
        assert unbind(OAuthQQUser.objects.all(), "lost phone") == 0
        transaction.set_rollback(True)
    assert stored_bindings() == {("zhang3", binding.openid)}
    assert heard == []


@pytest.mark.servers
@pytest.mark.django_db(transaction=True)
def test_of_two_who_unbind_at_once_one_does_and_announces_it(binding, connect):
    users, barrier = [], Barrier(2)
    connect(lambda user, **_: users.append(user.pk), qq_unbound)

    def unbind_it():
        try:
            barrier.wait(20)
            return unbind(OAuthQQUser.objects.all(), "lost phone")
        finally:
            connection.close()

    with ThreadPoolExecutor(2) as pool:
        assert sorted(pool.map(lambda _: unbind_it(), range(2))) == [0, 1]
    assert users == [binding.user_id]


# Collations -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def column_without_case(transactional_db):
    """The openid column as an older shop may have it."""
    alter = "ALTER TABLE tb_oauth_qq MODIFY openid varchar(64) CHARACTER SET utf8mb4 COLLATE {} NOT NULL"
    with connection.cursor() as cursor:
        cursor.execute(alter.format("utf8mb4_general_ci"))
        yield
        cursor.execute("DELETE FROM tb_oauth_qq")
        cursor.execute(alter.format("utf8mb4_bin"))


@pytest.mark.servers
def test_openids_are_told_apart_on_a_database_that_ignores_case(column_without_case, request, qq):
    account, browser, form = map(request.getfixturevalue, ("account", "browser", "form"))
    OAuthQQUser.objects.create(user=account, openid=qq.openid("小明").lower())
    assert "access_token" in browser.redeem_code(browser.arrive()).json()
    assert error_of(browser.bind(form)) == ALREADY_BOUND

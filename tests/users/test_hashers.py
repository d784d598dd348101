"""Argon2id, and hashes of before."""

from collections import Counter
from threading import Lock

import argon2.low_level
import pytest
from django.contrib.auth import get_user_model
from django.contrib.auth.hashers import MD5PasswordHasher, PBKDF2PasswordHasher, make_password

import meiduo.settings
from apps.users.hashers import Argon2Hasher
from tests.conftest import MOBILE, PASSWORD
from tests.tools.requirements import requirement
from tests.users.helpers import get_user, log_in, simultaneously

hashed = Counter()


class NewHasher(Argon2Hasher):
    def encode(self, password, salt):
        hashed[self.algorithm] += 1
        return super().encode(password, salt)

    def verify(self, password, encoded):
        hashed[self.algorithm] += 1
        return super().verify(password, encoded)


class OldHasher(MD5PasswordHasher):
    """In place of PBKDF2. Its verify() calls encode()."""

    def encode(self, password, salt):
        hashed[self.algorithm] += 1
        return super().encode(password, salt)


@pytest.fixture
def hashers(settings):
    settings.PASSWORD_HASHERS = [f"{__name__}.NewHasher", f"{__name__}.OldHasher"]


@pytest.mark.django_db
def test_old_hash_is_read_and_renewed_at_the_next_login(client, settings):
    settings.PASSWORD_HASHERS = meiduo.settings.PASSWORD_HASHERS
    user = get_user_model()(username="zhang3", mobile=MOBILE, password=make_password(PASSWORD, hasher="pbkdf2_sha256"))
    user.save()
    assert log_in(client).status_code == 200
    user.refresh_from_db()
    assert user.password.startswith("argon2$argon2id$v=19$m=19456,t=2,p=1$")
    assert log_in(client).status_code == 200


class HasherDuringReset(MD5PasswordHasher):
    """While it checks a password, the owner sets another one."""

    def verify(self, password, encoded):
        user = get_user_model().objects.get()
        user.set_password("another horse")
        user.save()
        return super().verify(password, encoded)


@pytest.mark.django_db
def test_renewed_hash_does_not_replace_a_password_that_was_set_meanwhile(client, settings):
    settings.PASSWORD_HASHERS = [f"{__name__}.NewHasher", f"{__name__}.HasherDuringReset"]
    get_user_model()(username="zhang3", mobile=MOBILE, password=make_password(PASSWORD, hasher="md5")).save()
    token = log_in(client).json()["token"]
    assert get_user(client, token).status_code == 401
    assert log_in(client).status_code == 400
    assert log_in(client, password="another horse").status_code == 200


@requirement("6.6")
@pytest.mark.django_db
@pytest.mark.parametrize("password", ["new", "old", "disabled", "without one", "of an unknown hasher", None])
def test_refused_login_takes_the_same_hashes_whatever_the_account_is(client, hashers, password):
    if password:
        encoded = {"without one": "!", "of an unknown hasher": "md4$salt$1"}.get(password)
        encoded = encoded or make_password(PASSWORD, hasher="md5" if password == "old" else "argon2")
        is_active = password != "disabled"
        get_user_model()(username="zhang3", mobile=MOBILE, password=encoded, is_active=is_active).save()
    hashed.clear()
    answer = log_in(client, password=PASSWORD if password == "disabled" else "another horse")
    assert (answer.status_code, hashed) == (400, {"argon2": 1, "md5": 1})


class FewRounds(PBKDF2PasswordHasher):
    iterations = 10

    def encode(self, password, salt, iterations=None):
        hashed["rounds"] += iterations or self.iterations
        return super().encode(password, salt, iterations)


@requirement("6.6")
@pytest.mark.django_db
@pytest.mark.parametrize("iterations", [4, 10, None])
def test_refused_login_takes_as_many_iterations_for_an_older_hash(client, settings, iterations):
    settings.PASSWORD_HASHERS = [f"{__name__}.NewHasher", f"{__name__}.FewRounds"]
    if iterations:
        encoded = FewRounds().encode(PASSWORD, "salt", iterations)
        get_user_model()(username="zhang3", mobile=MOBILE, password=encoded).save()
    hashed.clear()
    answer = log_in(client, password="another horse")
    assert (answer.status_code, hashed) == (400, {"argon2": 1, "rounds": 10})


def test_two_hashes_run_at_once_and_the_others_wait(monkeypatch):
    running, most, lock, hash_secret = [], [], Lock(), argon2.low_level.hash_secret

    def watched(*args, **options):
        with lock:
            running.append(1)
            most.append(len(running))
        try:
            return hash_secret(*args, **options)
        finally:
            with lock:
                running.pop()

    monkeypatch.setattr("argon2.low_level.hash_secret", watched)
    simultaneously(lambda number: Argon2Hasher().encode(PASSWORD, "a salt of 16 char"), 16)
    assert max(most) == 2

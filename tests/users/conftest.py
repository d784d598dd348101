from itertools import count

import pytest
from django.test import Client

from tests.conftest import MOBILE, PASSWORD
from tests.users.helpers import CountingHasher, get_token


@pytest.fixture
def users(django_user_model, db):
    return django_user_model.objects


@pytest.fixture
def token(client, account):
    return get_token(client)


@pytest.fixture
def new_client():
    """A function that returns clients, each with its own address."""
    numbers = count()
    return lambda: Client(REMOTE_ADDR=f"198.51.{(number := next(numbers)) // 250}.{number % 250}")


@pytest.fixture
def proof(phone, db):
    """The account serializer's form, filled in by the owner of the phone."""
    return {"mobile": MOBILE, "password": PASSWORD, "sms_code": phone.receive_code()}


@pytest.fixture
def registration(proof):
    return {**proof, "username": "xiaoming", "password2": PASSWORD, "allow": True}


@pytest.fixture
def hasher(settings):
    """The hasher of new passwords, which counts its hashes. Request it before the accounts of a test."""
    settings.PASSWORD_HASHERS = ["tests.users.helpers.CountingHasher", *settings.PASSWORD_HASHERS]
    CountingHasher.hashed = 0
    return CountingHasher

"""Calls and tools that the tests of the shop's accounts share."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

from django.contrib.auth.hashers import PBKDF2PasswordHasher
from django.db import connection, connections
from django.test import RequestFactory

from apps.users.serializers import AccountSerializer
from tests.conftest import MOBILE, PASSWORD

OTHER_MOBILE = "13900000000"


def post(client, path, data, **headers):
    return client.post(path, data, content_type="application/json", headers=headers)


def log_in(client, username=MOBILE, password=PASSWORD, **headers):
    return post(client, "/authorizations/", {"username": username, "password": password}, **headers)


def get_token(client, *credentials):
    return log_in(client, *credentials).json()["token"]


def get_user(client, token):
    return client.get("/user/", headers={"Authorization": f"JWT {token}"})


def make_serializer(data, **context):
    """Return the account serializer of a form, as a login view makes it."""
    return AccountSerializer(data=data, context={"request": RequestFactory().post("/"), **context})


def other_code(code):
    return f"{(int(code) + 1) % 10**6:06}"


def simultaneously(call, times=8):
    """Call `call(number)` from as many threads at the same moment; return the results."""
    start = Barrier(times, timeout=30)

    def wait_and_call(number):
        start.wait()
        try:
            return call(number)
        finally:
            connections.close_all()
            if connection.connection:  # Django leaves SQLite in memory open, of which Python 3.13 warns
                connection.connection.close()

    with ThreadPoolExecutor(times) as pool:
        return list(pool.map(wait_and_call, range(times)))


class CountingHasher(PBKDF2PasswordHasher):
    """A password hasher that counts its hashes."""

    iterations = 1000
    hashed = 0

    def encode(self, password, salt, iterations=None):
        type(self).hashed += 1
        return super().encode(password, salt, iterations)

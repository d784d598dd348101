"""Calls, checks and tools that the tests of the shop's accounts share."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

from django.contrib.auth.hashers import PBKDF2PasswordHasher
from django.db import connections
from django.test import RequestFactory

from apps.users.serializers import AccountSerializer
from tests.conftest import MOBILE, PASSWORD
from tests.users import texts

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
    """Give the account serializer a form as a login view does."""
    return AccountSerializer(data=data, context={"request": RequestFactory().post("/"), **context})


def other_code(code):
    return f"{(int(code) + 1) % 10**6:06}"


def assert_error(response, status, code, message, **fields):
    """Compare the whole body of an error."""
    assert (response.status_code, response.json()) == (status, {"message": message, "code": code, **fields})
    assert response["Cache-Control"] == "no-store"


def assert_invalid(response, field, sentence):
    assert_error(response, 400, "invalid", sentence, **{field: [sentence]})


def assert_unauthorized(response, message=texts.LOGIN_ENDED):
    assert_error(response, 401, "not_authenticated", message)
    assert response["WWW-Authenticate"] == 'JWT realm="api"'


def assert_too_often(response, wait):
    assert_error(response, 429, "throttled", texts.TOO_OFTEN)
    assert response["Retry-After"] == str(wait)


def assert_logged_in(client, response, user):
    """Compare the answer to a login of any kind, and use its token."""
    assert (response.status_code, response["Cache-Control"]) == (200, "no-store")
    answer = response.json()
    assert get_user(client, answer.pop("token")).json()["id"] == user.pk
    assert answer == {"user_id": user.pk, "username": user.username}


def get_errors(serializer):
    assert not serializer.is_valid()
    return serializer.errors


def simultaneously(call, times=8):
    """Call `call(number)` from as many threads at the same moment; return the results."""
    start = Barrier(times, timeout=30)

    def wait_and_call(number):
        start.wait()
        try:
            return call(number)
        finally:
            connections.close_all()

    with ThreadPoolExecutor(times) as pool:
        return list(pool.map(wait_and_call, range(times)))


class CountingHasher(PBKDF2PasswordHasher):
    """A password hasher that counts its hashes."""

    iterations = 1000
    hashed = 0

    def encode(self, password, salt, iterations=None):
        type(self).hashed += 1
        return super().encode(password, salt, iterations)

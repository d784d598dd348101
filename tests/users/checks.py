"""Whole-answer checks that the tests of the shop's accounts share."""

from tests.users import texts
from tests.users.helpers import get_user


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

"""Login tokens: their claims, when they end, and which forgeries are refused."""

import base64
import hmac
import json
import time
from datetime import datetime, timedelta, timezone

import jwt
import pytest
import time_machine

from tests.conftest import PASSWORD
from tests.tools.requirements import requirement
from tests.users import texts
from tests.users.helpers import assert_unauthorized, get_token, get_user, log_in

OLD_KEY, NEW_KEY = "the old key of the shop, long enough", "the new key of the shop, long enough"
START = datetime(2030, 1, 1, tzinfo=timezone.utc)


@pytest.fixture
def sign_with(settings):
    def sign_with(key, fallbacks=()):
        settings.SIMPLE_JWT = settings.SIMPLE_JWT | {"SIGNING_KEY": key}
        settings.JWT_SIGNING_KEY_FALLBACKS = [*fallbacks]

    return sign_with


@requirement("5.3", "5.6")
def test_token_holds_exactly_these_claims(account, token, settings):
    claims = jwt.decode(token, settings.SIMPLE_JWT["SIGNING_KEY"], algorithms=["HS256"])
    issued, token_id = claims.pop("iat"), claims.pop("jti")
    assert jwt.get_unverified_header(token) == {"alg": "HS256", "typ": "JWT"}
    assert claims == {"user_id": account.pk, "username": "zhang3", "gen": 0, "exp": issued + 24 * 3600}
    assert issued == pytest.approx(time.time(), abs=60)
    assert len(token_id) == 32


@requirement("5.3")
@pytest.mark.parametrize("key_changes", [False, True])
def test_token_lives_24_hours_also_under_an_older_key(client, account, sign_with, key_changes):
    with time_machine.travel(START, tick=False) as clock:
        sign_with(OLD_KEY)
        token = get_token(client)
        if key_changes:
            sign_with(NEW_KEY, [OLD_KEY])
        clock.move_to(START - timedelta(seconds=30))  # a server whose clock is behind accepts it
        assert get_user(client, token).status_code == 200
        clock.move_to(START + timedelta(hours=24, seconds=-1))
        assert get_user(client, token).status_code == 200
        clock.move_to(START + timedelta(hours=24))
        assert_unauthorized(get_user(client, token))


def test_token_of_an_older_key_is_accepted_while_that_key_is_listed(client, account, sign_with):
    sign_with(OLD_KEY)
    old = get_token(client)
    sign_with(NEW_KEY)
    assert_unauthorized(get_user(client, old))
    sign_with(NEW_KEY, ["an unrelated key of the shop, long enough", OLD_KEY])
    assert get_user(client, old).status_code == 200
    new = get_token(client)
    assert jwt.decode(new, NEW_KEY, algorithms=["HS256"])["user_id"] == account.pk
    sign_with(NEW_KEY)
    assert get_user(client, new).status_code == 200
    assert_unauthorized(get_user(client, old))


# The account changes --------------------------------------------------------------------------------------------------


@requirement("5.4")
@pytest.mark.parametrize("fields", [None, ["password"], {"password", "email"}])
def test_changed_password_ends_all_earlier_tokens(client, account, token, fields):
    account.set_password("another horse")
    account.save(update_fields=fields)
    assert_unauthorized(get_user(client, token))
    assert get_user(client, get_token(client, "zhang3", "another horse")).status_code == 200


def test_tokens_end_when_the_changed_password_is_saved(client, account, token):
    account.set_password("another horse")
    account.save(update_fields=["email"])
    assert get_user(client, token).status_code == 200
    account.save(update_fields=["password"])
    assert_unauthorized(get_user(client, token))


def disable(account):
    account.is_active = False
    account.save()


def remove_password(account):
    account.set_unusable_password()
    account.save()


@requirement("5.5")
@pytest.mark.parametrize("change", [disable, remove_password, lambda account: account.delete()])
def test_token_of_a_disabled_or_deleted_account_is_refused(client, account, token, change):
    change(account)
    assert_unauthorized(get_user(client, token))


def test_two_password_changes_from_stale_copies_each_raise_the_generation(account, users):
    copies = [users.get(), users.get()]
    for number, copy in enumerate(copies):
        copy.set_password(f"horse number {number}")
        copy.save()
    assert [copy.token_generation for copy in copies] == [1, 2]


def test_tokens_survive_other_changes_and_a_stronger_hash_of_the_same_password(client, account, token, hasher):
    account.email = "zhang3@example.com"
    account.save()
    before = account.password
    log_in(client)
    account.refresh_from_db()
    assert account.password != before
    assert account.check_password(PASSWORD)
    assert get_user(client, token).status_code == 200


# Forgeries ------------------------------------------------------------------------------------------------------------


def encode(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def get(client, header):
    return client.get("/user/", headers={"Authorization": header})


def test_profile_needs_a_token(client, db):
    assert_unauthorized(client.get("/user/"), texts.NO_TOKEN)


@requirement("5.7")
@pytest.mark.parametrize(
    "header",
    [
        "JWT",
        "JWT a b",
        "JWT .",
        "JWT ..",
        "JWT a.b.c",
        "JWT é.é.é",
        "JWT ☃",
        "JWT " + "x" * 8000,
        "JWT " + encode(b"[" * 6000) + ".e30.AAAA",
        "JWT " + encode(b"1") + ".e30.AAAA",
        "JWT " + encode(b'{"alg": ["HS256"]}') + ".e30.AAAA",
        "JWT " + encode(b'{"alg": "HS256", "n": ' + b"1" * 5000 + b"}") + ".e30.AAAA",
    ],
    ids=range(12),
)
def test_malformed_header_is_refused(client, db, header):
    assert_unauthorized(get(client, header))


@requirement("5.1")
@pytest.mark.parametrize(
    "claims",
    [
        *({"gen": value} for value in (1, None, "0 ", {"a": 1})),
        *({"user_id": value} for value in (None, [1], "1 OR 1=1", 2**70)),
        *({"exp": value} for value in (None, 1_000_000_000, "tomorrow")),
        {"jti": None},
        {"iat": 5_000_000_000, "exp": 5_000_086_400},
        {"nbf": 5_000_000_000},
    ],
)
def test_token_with_missing_or_wrong_claims_is_refused(client, token, settings, claims):
    claims = jwt.decode(token, options={"verify_signature": False}) | claims
    claims = {name: value for name, value in claims.items() if value is not None}
    assert_unauthorized(get_user(client, jwt.encode(claims, settings.SIMPLE_JWT["SIGNING_KEY"])))


@requirement("5.1")
@pytest.mark.parametrize(
    "header",
    [
        {"jku": "http://127.0.0.1:9/keys"},
        {"x5u": "http://127.0.0.1:9/keys"},
        {"kid": "../../dev/null"},
        {"jwk": {"kty": "oct", "k": "aw"}},
    ],
    ids=lambda header: next(iter(header)),
)
@pytest.mark.filterwarnings("ignore:The HMAC key")
def test_key_named_in_the_header_is_ignored(client, account, token, settings, header):
    claims = jwt.decode(token, options={"verify_signature": False})
    own = jwt.encode(claims, settings.SIMPLE_JWT["SIGNING_KEY"], headers=header)
    assert get_user(client, own).json()["id"] == account.pk
    for key in ("k", "another key of thirty-two bytes and more"):
        assert_unauthorized(get_user(client, jwt.encode(claims, key, headers=header)))


@requirement("5.1")
@pytest.mark.parametrize(
    "algorithm", ["none", "None", "HS512", "HS384", "RS256", "ES256", "", None, ["HS256"], "hs256"]
)
def test_token_that_names_another_algorithm_is_refused(client, token, settings, algorithm):
    """Also with the signature that our own key makes."""
    signed = f"{encode(json.dumps({'alg': algorithm, 'typ': 'JWT'}).encode())}.{token.split('.')[1]}"
    for key in (settings.SIMPLE_JWT["SIGNING_KEY"].encode(), b""):
        for digest in ("sha256", "sha512"):
            assert_unauthorized(get_user(client, f"{signed}.{encode(hmac.digest(key, signed.encode(), digest))}"))
    assert_unauthorized(get_user(client, f"{signed}."))
    assert_unauthorized(get_user(client, signed))


@requirement("5.1")
def test_token_with_a_wrong_signature_is_refused(client, token):
    signed, _, signature = token.rpartition(".")
    empty_key = encode(hmac.digest(b"", signed.encode(), "sha256"))
    changed = ("A" if signature[0] != "A" else "B") + signature[1:]
    for end in ("", ".", ".AAAA", f".{signature}.", f".{signature}.AAAA", f".{empty_key}", f".{changed}"):
        assert_unauthorized(get_user(client, signed + end))

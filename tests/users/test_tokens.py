"""Login tokens: their claims, when they end, and which forgeries are refused."""

import base64
import hmac
import json
import time
from datetime import datetime, timedelta, timezone

import jwt
import pytest
import time_machine

from apps.users.models import User
from tests.conftest import PASSWORD
from tests.tools.requirements import requirement
from tests.users import texts
from tests.users.checks import assert_unauthorized
from tests.users.helpers import get_token, get_user, log_in

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
def test_token_lives_24_hours_also_under_an_older_key_that_is_listed(client, account, sign_with, key_changes):
    sign_with(OLD_KEY)
    with time_machine.travel(START, tick=False) as clock:
        token = get_token(client)
        if key_changes:
            sign_with(NEW_KEY)
            assert_unauthorized(get_user(client, token))
            sign_with(NEW_KEY, ["an unrelated key of the shop, long enough", OLD_KEY])
        for seconds in (-30, 24 * 3600 - 1):  # the first as on a server whose clock is behind
            clock.move_to(START + timedelta(seconds=seconds))
            assert get_user(client, token).status_code == 200
        clock.move_to(START + timedelta(hours=24))
        assert_unauthorized(get_user(client, token))
        new = get_token(client)
        sign_with(NEW_KEY if key_changes else OLD_KEY)
        assert get_user(client, new).status_code == 200


@requirement("5.4")
@pytest.mark.parametrize("fields", [None, ["password"], {"password", "email"}])
def test_tokens_end_when_a_changed_password_is_saved(client, account, token, fields):
    account.set_password("another horse")
    account.save(update_fields=["email"])
    assert get_user(client, token).status_code == 200
    account.save(update_fields=fields)
    assert_unauthorized(get_user(client, token))
    assert get_user(client, get_token(client, "zhang3", "another horse")).status_code == 200


def disable(account):
    account.is_active = False


@requirement("5.5")
@pytest.mark.parametrize("change", [disable, User.set_unusable_password, User.delete])
def test_token_ends_with_its_account_or_password(client, account, token, change):
    change(account)
    if account.pk:
        account.save()
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


def encode(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


HEADS = [b"[" * 6000, b"1", b'{"alg": ["HS256"]}', b'{"alg": "HS256", "n": ' + b"1" * 5000 + b"}"]
HEADERS = ["JWT", "JWT a b", "JWT ..", "JWT a.b.c", "JWT é.é.é", "JWT ☃", "JWT\x00", "JWT " + "x" * 8000, "\x80"]


@requirement("5.7")
@pytest.mark.parametrize("header", [*HEADERS, *(f"JWT {encode(head)}.e30.AAAA" for head in HEADS)], ids=range(13))
def test_missing_or_malformed_header_is_refused(client, db, header):
    response = client.get("/user/", headers={"Authorization": header})
    assert_unauthorized(response, texts.LOGIN_ENDED if header.split()[0] == "JWT" else texts.NO_TOKEN)
    assert_unauthorized(client.get("/user/"), texts.NO_TOKEN)


CLAIMS = [{"gen": value} for value in (1, None, "0 ", {"a": 1})]
CLAIMS += [{"user_id": value} for value in (None, [1], "1 OR 1=1", 2**70)]
CLAIMS += [{"exp": value} for value in (None, 1_000_000_000, "tomorrow")]
CLAIMS += [{"jti": None}, {"iat": 5_000_000_000, "exp": 5_000_086_400}, {"nbf": 5_000_000_000}]


@requirement("5.1")
@pytest.mark.parametrize("claims", CLAIMS)
def test_token_with_missing_or_wrong_claims_is_refused(client, token, settings, claims):
    claims = jwt.decode(token, options={"verify_signature": False}) | claims
    claims = {name: value for name, value in claims.items() if value is not None}
    assert_unauthorized(get_user(client, jwt.encode(claims, settings.SIMPLE_JWT["SIGNING_KEY"])))


@requirement("5.1")
@pytest.mark.parametrize("algorithm", ["none", "None", "HS512", "RS256", "", None, ["HS256"], "hs256", "HS256"])
def test_only_hs256_with_our_key_is_accepted(client, token, settings, algorithm):
    jwk = {"kty": "oct", "k": ""}  # a key in the header is ignored
    head = encode(json.dumps({"alg": algorithm, "typ": "JWT", "jwk": jwk, "kid": "../../dev/null"}).encode())
    signed = f"{head}.{token.split('.')[1]}"
    our_key = settings.SIMPLE_JWT["SIGNING_KEY"].encode()
    keys = [(b"", "sha256"), (b"", "sha512"), (our_key, "sha512"), (our_key, "sha256")]
    *forged, own = (encode(hmac.digest(key, signed.encode(), digest)) for key, digest in keys)
    for signature in (*forged, "", "AAAA", f"{own}.", f"{own}.AAAA"):
        assert_unauthorized(get_user(client, f"{signed}.{signature}"))
    assert get_user(client, f"{signed}.{own}").status_code == (200 if algorithm == "HS256" else 401)

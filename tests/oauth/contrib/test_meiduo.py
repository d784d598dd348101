"""The pieces for meiduo shops: the form with SMS codes in Redis, and the payloads with the shop's JWT."""

import base64
import hashlib
import hmac
import json
import os
import subprocess
import sys
import time
from datetime import timedelta
from functools import partial

import pytest
import time_machine
from django.core.cache import cache
from django.db import connections
from django.test import RequestFactory
from django.utils.module_loading import import_string
from django.utils.translation import override
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request

from apps.oauth.account_lock import unlock
from apps.oauth.contrib.meiduo import AccountSerializer, jwt_payload, simplejwt_payload
from apps.oauth.contrib.meiduo.serializers import DELETE_IF_EQUAL, keyed_digest
from apps.oauth.ratelimit import RateLimited
from apps.users.models import User
from apps.users.tokens import LoginToken
from tests.conftest import MOBILE, PASSWORD, Browser
from tests.tools import processes
from tests.tools.requirements import requirement
from tests.tools.shoppers import at_once

CODE, WRONG_CODE, OTHER_MOBILE = "024680", "024681", "13900000000"
ATTEMPT, OTHER_ATTEMPT = "0123456789ab", "ba9876543210"
SMS_CODE_WRONG = {"sms_code": ["短信验证码错误或已过期。"]}
PASSWORD_WRONG = {"password": ["手机号或密码不正确。"]}


def test_import_needs_no_package_of_the_shop():
    lines = [
        "import sys",
        "from django.conf import settings",
        "settings.configure(INSTALLED_APPS=['django.contrib.auth', 'django.contrib.contenttypes', 'apps.oauth'])",
        "for name in ('django_redis', 'redis', 'rest_framework_jwt', 'rest_framework_simplejwt', 'jwt'):",
        "    sys.modules[name] = None",
        "import django; django.setup()",
        "import apps.oauth.urls; assert 'apps.oauth.contrib' not in sys.modules",
        "import apps.oauth.contrib.meiduo",
    ]
    command = [sys.executable, "-c", "\n".join(lines)]
    done = subprocess.run(command, cwd=processes.ROOT, capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stderr


# The form -------------------------------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def chinese():
    with override("zh-hans"):  # the view activates a language; serializers alone would use that of an earlier test
        yield


class OtherNamesSerializer(AccountSerializer):
    connection = "code"
    key = "sms:{mobile}:bind"


@pytest.fixture
def codes(shop):
    """A connection to the Redis in which the shop stores SMS codes, and one code in it."""
    location = shop.CACHES["default"]["LOCATION"]
    shop.CACHES = {**shop.CACHES, "verify_codes": {"BACKEND": "django_redis.cache.RedisCache", "LOCATION": location}}
    shop.QQ_ACCOUNT_SERIALIZER = "apps.oauth.contrib.meiduo.AccountSerializer"
    connection = import_string("django_redis.get_redis_connection")("verify_codes")
    connection.set(f"sms_{MOBILE}", CODE, ex=300)
    yield connection
    connection.flushdb()


@pytest.fixture
def frozen_clock(codes, shop):
    """A clock that only the test moves, and a default cache that follows it, unlike Redis."""
    local = {"BACKEND": "django.core.cache.backends.locmem.LocMemCache", "LOCATION": "frozen"}
    shop.CACHES = {**shop.CACHES, "default": local}
    cache.clear()
    with time_machine.travel(1_800_000_000, tick=False) as clock:
        yield clock


@pytest.fixture
def bind(browser):
    """A function: send the form with this bind token and these changes."""
    form = {"mobile": MOBILE, "password": PASSWORD, "sms_code": CODE, "access_token": browser.get_bind_token()}
    return lambda headers=None, **changes: browser.bind(form | changes, headers=headers)


def fill_in(attempt=ATTEMPT, address="198.18.0.1", serializer=AccountSerializer, **changes):
    """Return the serializer as the view makes it."""
    request = Request(RequestFactory().post("/oauth/qq/users/", REMOTE_ADDR=address))
    form = {"mobile": MOBILE, "password": PASSWORD, "sms_code": CODE} | changes
    return serializer(data=form, context={"request": request, "view": None, "attempt": attempt})


def fill_in_elsewhere(number, **changes):
    """Return the serializer of another login at another address."""
    return fill_in(attempt=f"{number:012x}", address=f"198.18.1.{number}", **changes)


def errors_of(serializer):
    serializer.is_valid()
    return serializer.errors


def in_threads(times, call):
    def call_and_close(number):
        try:
            return call(number)
        finally:
            connections.close_all()

    return at_once(*(partial(call_and_close, number) for number in range(times)))


@pytest.mark.servers
def test_new_mobile_gets_an_account_and_the_code_is_deleted(codes, bind):
    response = bind()
    user = User.objects.get()
    assert (response.status_code, response.json()["id"]) == (200, user.pk)
    assert (user.username, user.mobile, user.check_password(PASSWORD)) == (MOBILE, MOBILE, True)
    assert codes.get(f"sms_{MOBILE}") is None


@pytest.mark.servers
def test_existing_account_is_bound_by_its_password(codes, bind, account):
    refused = bind(password="another horse")
    assert refused.status_code == 400
    assert refused.json() == {**PASSWORD_WRONG, "message": "手机号或密码不正确。", "code": "invalid"}
    assert bind().json()["id"] == account.pk


class ReplicaRouter:
    """Sends reads to a replica, which does not exist: a read there fails."""

    def db_for_read(self, model, **hints):
        return "replica"


@pytest.mark.servers
@pytest.mark.parametrize("is_new", [False, True])
def test_accounts_are_never_read_from_a_replica(codes, bind, account, shop, is_new):
    if is_new:
        account.delete()
    shop.DATABASE_ROUTERS = [f"{__name__}.ReplicaRouter"]
    assert bind().json()["id"] == User.objects.using("default").get().pk


@pytest.mark.servers
def test_subclass_sets_connection_and_key_and_may_decode_responses(codes, shop, account):
    codes_cache = shop.CACHES["verify_codes"]
    location = f"{codes_cache['LOCATION'].rpartition('/')[0]}/1"
    options = {"CONNECTION_POOL_KWARGS": {"decode_responses": True}}
    shop.CACHES = {**shop.CACHES, "code": {**codes_cache, "LOCATION": location, "OPTIONS": options}}
    other_codes = import_string("django_redis.get_redis_connection")("code")
    codes.set(f"sms:{MOBILE}:bind", CODE, ex=300)
    other_codes.set(f"sms_{MOBILE}", CODE, ex=300)
    assert errors_of(fill_in(serializer=OtherNamesSerializer)) == SMS_CODE_WRONG
    other_codes.set(f"sms:{MOBILE}:bind", CODE, ex=300)
    assert errors_of(fill_in(serializer=OtherNamesSerializer)) == {}
    assert other_codes.keys() == [f"sms_{MOBILE}"]
    other_codes.flushdb()


@pytest.mark.servers
def test_errors_are_english_if_the_browser_prefers_it(codes, bind):
    english = {"Accept-Language": "en"}
    assert bind(english, mobile="1381234567", password="short", sms_code="").json() == {
        "mobile": ["This is not a mobile number."],
        "password": ["The password must have 8 to 128 characters."],
        "sms_code": ["Please enter the SMS code."],
        "message": "This is not a mobile number.",
        "code": "invalid",
    }
    assert bind(english, sms_code=WRONG_CODE).json()["message"] == "The SMS code is wrong or no longer valid."


@pytest.mark.parametrize(
    ("field", "missing", "malformed", "values"),
    [
        ("mobile", "请输入手机号。", "手机号格式不正确。",
         ["12812345678", f"{MOBILE}\n", f" {MOBILE}", f"+86{MOBILE}", "1381234567٨", int(MOBILE), [MOBILE]]),
        ("password", "请输入密码。", "密码长度应为 8 到 128 个字符。",
         ["short77", "x" * 129, "x" * 1_000_000, "correct\x00horse", "correct\ud800horse", 12345678]),
        ("sms_code", "请输入短信验证码。", "短信验证码是 6 位数字。",
         ["12345", "1234567", "12345٨", "123456\n", 123456]),
    ],
)  # fmt: skip
def test_missing_and_malformed_fields_have_their_own_messages(field, missing, malformed, values):
    for value in (None, ""):
        assert errors_of(fill_in(**{field: value})) == {field: [missing]}
    for value in values:
        assert errors_of(fill_in(**{field: value})) == {field: [malformed]}


@pytest.mark.servers
@pytest.mark.parametrize("password", [" spaces at both ends ", " " * 8, "八个字也是密码的", "line\nline", "x" * 128])
def test_password_is_not_altered(codes, db, password):
    serializer = fill_in(password=password)
    assert serializer.is_valid()
    assert serializer.save().check_password(password)


@pytest.mark.servers
def test_common_password_is_refused_for_a_new_account(codes, db):
    assert errors_of(fill_in(password="password1")) == {"password": ["这个密码太常见了。"]}
    assert fill_in().is_valid()


# SMS codes


@pytest.mark.servers
def test_code_is_used_up_but_proves_the_mobile_for_the_rest_of_this_login(codes, account):
    assert errors_of(fill_in(password="another horse")) == PASSWORD_WRONG
    assert codes.get(f"sms_{MOBILE}") is None
    assert errors_of(fill_in(OTHER_ATTEMPT)) == SMS_CODE_WRONG
    assert errors_of(fill_in(mobile=OTHER_MOBILE)) == SMS_CODE_WRONG
    assert fill_in().is_valid()
    assert fill_in(sms_code=WRONG_CODE).is_valid()


@pytest.mark.servers
def test_mobile_stays_proved_for_ten_minutes(frozen_clock, account):
    assert fill_in().is_valid()
    frozen_clock.shift(599)
    assert fill_in().is_valid()
    frozen_clock.shift(1)
    assert errors_of(fill_in()) == SMS_CODE_WRONG


@pytest.mark.servers
@requirement("6.3")
@pytest.mark.parametrize("is_deleted", [False, True])
def test_form_can_be_repeated_after_a_crash(codes, account, is_deleted):
    assert fill_in().redeem_code(MOBILE, CODE)  # the process dies before it stores the proof
    if not is_deleted:
        codes.set(f"sms_{MOBILE}", CODE)  # or even before it deletes the code
    assert errors_of(fill_in(OTHER_ATTEMPT)) == SMS_CODE_WRONG
    assert fill_in().is_valid()


@pytest.mark.servers
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(("make_form", "accepted"), [(lambda _: fill_in(), 4), (fill_in_elsewhere, 1)])
def test_of_simultaneous_forms_those_of_one_login_are_accepted(codes, account, make_form, accepted):
    assert sum(in_threads(4, lambda number: make_form(number).is_valid())) == accepted


@pytest.mark.servers
def test_newer_code_is_not_deleted(codes):
    codes.set(f"sms_{OTHER_MOBILE}", "135790")
    assert codes.eval(DELETE_IF_EQUAL, 1, f"sms_{OTHER_MOBILE}", CODE) == 0
    assert codes.get(f"sms_{OTHER_MOBILE}") == b"135790"


@pytest.mark.servers
@requirement("6.3")
def test_code_is_void_after_five_wrong_guesses_and_the_next_code_has_five_of_its_own(codes, account):
    for _ in range(4):
        assert errors_of(fill_in(sms_code=WRONG_CODE)) == SMS_CODE_WRONG
    assert fill_in().is_valid()
    codes.set(f"sms_{MOBILE}", "135790", ex=300)
    for _ in range(5):
        assert errors_of(fill_in(OTHER_ATTEMPT)) == SMS_CODE_WRONG
    assert errors_of(fill_in(OTHER_ATTEMPT, sms_code="135790")) == SMS_CODE_WRONG
    codes.set(f"sms_{MOBILE}", "975310", ex=300)
    assert fill_in(OTHER_ATTEMPT, sms_code="975310").is_valid()


@pytest.mark.servers
@requirement("6.3")
@pytest.mark.django_db(transaction=True)
def test_simultaneous_guesses_void_the_code(codes, account):
    assert not any(in_threads(20, lambda number: fill_in_elsewhere(number, sms_code=f"{number:06}").is_valid()))
    assert errors_of(fill_in()) == SMS_CODE_WRONG


@pytest.mark.servers
def test_one_address_has_thirty_wrong_codes_an_hour_and_right_ones_do_not_count(codes, account):
    with time_machine.travel(1_800_000_000, tick=False) as clock:
        for number in range(30):
            assert errors_of(fill_in(f"{number:012x}", mobile=OTHER_MOBILE)) == SMS_CODE_WRONG
        clock.shift(600)
        with pytest.raises(RateLimited) as refused:
            fill_in().is_valid()
        assert refused.value.wait == 3000
        for number in range(31):
            codes.set(f"sms_{MOBILE}", f"{number:06}", ex=300)
            assert fill_in(f"{number:012x}", address="198.18.0.2", sms_code=f"{number:06}").is_valid()


@pytest.mark.servers
@requirement("6.6")
@pytest.mark.parametrize("kind", ["no account", "an account", "a disabled account"])
def test_nothing_is_revealed_about_the_account_before_the_mobile_is_proved(codes, bind, django_user_model, kind):
    if kind != "no account":
        django_user_model.objects.create_user("zhang3", PASSWORD, mobile=MOBILE, is_active=kind == "an account")
    for password in (PASSWORD, "another horse", "password"):
        refused = bind(password=password, sms_code=WRONG_CODE)
        assert refused.status_code == 400
        assert refused.json() == {**SMS_CODE_WRONG, "message": SMS_CODE_WRONG["sms_code"][0], "code": "invalid"}


@pytest.mark.servers
def test_unreachable_redis_is_cache_unavailable(codes, shop, bind):
    away = {"BACKEND": "django_redis.cache.RedisCache", "LOCATION": f"redis://127.0.0.1:{processes.free_port()}/0"}
    shop.CACHES = {**shop.CACHES, "verify_codes": away}
    refused = bind()
    assert refused.status_code == 503
    assert refused.json() == {"message": "登录服务暂时不可用，请稍后再试。", "code": "cache_unavailable"}


# The password


@pytest.mark.servers
@requirement("6.1")
def test_wrong_passwords_lock_the_account_longer_each_time_and_the_right_one_forgets_them(frozen_clock, account):
    assert fill_in().is_valid()  # proves the mobile
    for _ in range(3):
        for _ in range(4):
            assert errors_of(fill_in(password="another horse")) == PASSWORD_WRONG
        assert fill_in().is_valid()
    for seconds in (60, 120):
        for _ in range(5):
            assert errors_of(fill_in(password="another horse")) == PASSWORD_WRONG
        with pytest.raises(RateLimited) as refused:
            fill_in().is_valid()
        assert refused.value.wait == seconds
        frozen_clock.shift(seconds)
    assert fill_in().is_valid()


@pytest.mark.servers
@requirement("6.1")
@pytest.mark.django_db(transaction=True)
def test_of_simultaneous_passwords_five_are_compared(codes, account):
    assert fill_in().is_valid()

    def guess(number):
        try:
            return fill_in(password=f"another horse {number}").is_valid()
        except RateLimited:
            return "locked"

    assert sorted(in_threads(20, guess), key=str) == [False] * 5 + ["locked"] * 15


@pytest.mark.servers
def test_locked_account_gets_429_which_is_no_failed_try_of_the_login(codes, bind, account):
    for _ in range(4):
        assert bind(password="another horse").status_code == 400
    with pytest.raises(ValidationError):
        fill_in().check_password(account, "another horse")
    for _ in range(3):
        refused = bind()
        assert (refused.status_code, refused["Retry-After"]) == (429, "60")
        assert refused.json() == {"message": "操作太频繁，请稍后再试。", "code": "throttled"}
    unlock(keyed_digest(account.pk, account.password))
    assert bind().status_code == 200


@pytest.mark.servers
def test_new_password_is_not_locked(codes, account):
    for _ in range(5):
        assert errors_of(fill_in(password="another horse")) == PASSWORD_WRONG
    with pytest.raises(RateLimited):
        fill_in().is_valid()
    account.set_password("yet another horse")
    account.save()
    assert fill_in(password="yet another horse").is_valid()


# Changes between validate() and save()


@pytest.mark.servers
@pytest.mark.parametrize("change", [{"password": "!"}, {"mobile": OTHER_MOBILE}, None])
def test_account_that_has_changed_is_not_bound(codes, account, change):
    serializer = fill_in()
    assert serializer.is_valid()
    User.objects.filter(pk=account.pk).update(**change) if change else account.delete()
    with pytest.raises(ValidationError) as refused:
        serializer.save()
    assert refused.value.detail == PASSWORD_WRONG


@pytest.mark.servers
def test_account_with_a_new_hash_of_the_same_password_is_bound(codes, account):
    serializer = fill_in()
    assert serializer.is_valid()
    account.set_password(PASSWORD)
    account.save()
    assert serializer.save() == account


@pytest.mark.servers
@pytest.mark.parametrize(("password", "is_right"), [(PASSWORD, True), ("another horse", False)])
def test_account_created_meanwhile_needs_its_password(codes, db, password, is_right):
    serializer = fill_in()
    assert serializer.is_valid()
    account = User.objects.create_user("li4", password=password, mobile=MOBILE)
    if is_right:
        assert serializer.save() == account
    else:
        with pytest.raises(ValidationError):
            serializer.save()
    assert User.objects.get() == account


@pytest.mark.servers
def test_mobile_taken_as_a_username_gets_another_username(codes, db):
    other = User.objects.create_user(MOBILE, password=PASSWORD, mobile=OTHER_MOBILE)
    serializer = fill_in()
    assert serializer.is_valid()
    account = serializer.save()
    assert account != other
    assert (account.mobile, account.username[:12]) == (MOBILE, f"{MOBILE}_")


@pytest.mark.servers
@requirement("7.5")
@pytest.mark.django_db(transaction=True)
def test_simultaneous_logins_with_one_new_mobile_create_one_account(codes, qq):
    browsers = [Browser(qq, REMOTE_ADDR=f"198.18.0.{number}") for number in range(4)]
    forms = []
    for number, browser in enumerate(browsers):
        codes.set(f"sms_{MOBILE}", f"{number:06}", ex=300)
        form = {"mobile": MOBILE, "sms_code": f"{number:06}", "access_token": browser.get_bind_token(f"小明 {number}")}
        assert "password" in browser.bind({**form, "password": "password"}).json()  # the mobile is proved
        forms.append({**form, "password": PASSWORD})
    answers = in_threads(4, lambda number: browsers[number].bind(forms[number]))
    assert [answer.status_code for answer in answers] == [200] * 4
    assert User.objects.get().username == MOBILE


# The payloads ---------------------------------------------------------------------------------------------------------


def install(folder, *packages):
    """Install packages that this shop does not use into a folder; skip the test without a package index."""
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
    command += ["--target", folder, *packages]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, encoding="utf-8", check=False)
    if done.returncode != 0:
        pytest.skip(f"pip cannot install {' and '.join(packages)}")
    return str(folder)


@pytest.fixture(scope="module")
def drf_jwt_folder(tmp_path_factory):
    return install(tmp_path_factory.mktemp("drf_jwt"), "drf-jwt>=1.19.2,<1.20")


@pytest.fixture
def drf_jwt(drf_jwt_folder, monkeypatch, shop):
    """The settings of a shop with drf-jwt."""
    monkeypatch.syspath_prepend(drf_jwt_folder)
    shop.JWT_AUTH = {"JWT_AUTH_HEADER_PREFIX": "JWT", "JWT_EXPIRATION_DELTA": timedelta(days=1)}
    yield shop.JWT_AUTH
    for name in [name for name in sys.modules if name.split(".")[0] == "rest_framework_jwt"]:
        del sys.modules[name]


def handle_three(token, user=None, request=None):
    return {"token": token, "id": user.pk, "path": request.path}


def handle_four(token, user=None, request=None, issued_at=None):
    return {"token": token, "id": user.pk, "path": request.path, "is_fresh": abs(time.time() - issued_at) < 60}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # drf-jwt calls datetime.utcnow()
@pytest.mark.parametrize(
    ("handler", "added"),
    [
        (None, {}),
        ("handle_three", {"path": "/oauth/qq/users/"}),
        ("handle_four", {"path": "/oauth/qq/users/", "is_fresh": True}),
    ],
)
def test_drf_jwt_accepts_the_token_and_the_handler_of_the_shop_adds_fields(drf_jwt, account, handler, added):
    if handler:
        drf_jwt["JWT_RESPONSE_PAYLOAD_HANDLER"] = f"{__name__}.{handler}"
        added = {"id": account.pk, **added}
    payload = jwt_payload(account, Request(RequestFactory().post("/oauth/qq/users/")))
    token = payload.pop("token")
    assert payload == {"user_id": account.pk, "username": "zhang3", **added}
    request = RequestFactory().get("/user/", HTTP_AUTHORIZATION=f"JWT {token}")
    authentication = import_string("rest_framework_jwt.authentication.JSONWebTokenAuthentication")()
    assert authentication.authenticate(request) == (account, token)


@pytest.mark.parametrize(("serializer", "kind"), [("Pair", "AccessToken"), ("Sliding", "SlidingToken")])
def test_simplejwt_accepts_the_token(shop, account, serializer, kind):
    path = f"rest_framework_simplejwt.serializers.TokenObtain{serializer}Serializer"
    shop.SIMPLE_JWT = {"TOKEN_OBTAIN_SERIALIZER": path, "SIGNING_KEY": "k" * 40}
    payload = simplejwt_payload(account, None)
    token = import_string(f"rest_framework_simplejwt.tokens.{kind}")(payload.pop("token"))
    assert token["user_id"] == str(account.pk)
    assert payload == {"user_id": account.pk, "username": "zhang3"}


class LoginTokenSerializer:
    """A shop's own TOKEN_OBTAIN_SERIALIZER, with more in its tokens than simplejwt's."""

    get_token = LoginToken.for_user


def test_simplejwt_token_is_made_by_the_serializer_of_the_shop(shop, account):
    shop.SIMPLE_JWT = {**shop.SIMPLE_JWT, "TOKEN_OBTAIN_SERIALIZER": f"{__name__}.LoginTokenSerializer"}
    assert LoginToken(simplejwt_payload(account, None)["token"])["gen"] == account.token_generation


# djangorestframework-jwt 1.11 runs in a process of its own, as it needs another PyJWT.

SHOP_WITH_1_11 = """
import json, sys
from django.conf import settings
import django
key, fields, token = json.load(sys.stdin)
names = ["django.contrib.auth", "django.contrib.contenttypes", "rest_framework", "apps.oauth"]
jwt = {"JWT_SECRET_KEY": key, "JWT_RESPONSE_PAYLOAD_HANDLER": "__main__.handle", "JWT_ALLOW_REFRESH": True}
settings.configure(SECRET_KEY=key, INSTALLED_APPS=names, JWT_AUTH=jwt)
django.setup()
from django.contrib.auth.models import User
from apps.oauth.contrib.meiduo import jwt_payload
from rest_framework_jwt import VERSION
from rest_framework_jwt.settings import api_settings

def handle(token, user=None, request=None):
    return {"token": token, "id": user.id}

payload = jwt_payload(User(**fields), None)
print(json.dumps([VERSION, payload, *map(api_settings.JWT_DECODE_HANDLER, (payload["token"], token))]))
"""


def read_like_1_11(token, key):
    """Return the username that a shop with djangorestframework-jwt 1.11 logs in by this token."""
    *signed, signature = token.split(".")
    expected = hmac.new(key.encode(), ".".join(signed).encode(), hashlib.sha256).digest()
    header, claims, signature = (base64.urlsafe_b64decode(part + "==") for part in (*signed, signature))
    header, claims = json.loads(header), json.loads(claims)
    assert hmac.compare_digest(signature, expected)
    assert header["alg"] == "HS256"
    assert not {"aud", "iss", "nbf"} & claims.keys()  # 1.11 or its PyJWT would check these
    assert type(claims["exp"]) is int
    assert claims["exp"] > time.time()
    assert claims.get("iat", 0) <= time.time()
    return claims["username"]


# Made on this day for user 7 with this key by djangorestframework-jwt 1.11.0.
DAY = 1_800_000_000
KEY = "the key of a shop of the family, for tests only"
TOKEN_OF_1_11 = (
    "eyJ0eXAiOiJKV1QiLCJhbGciOiJIUzI1NiJ9.eyJ1c2VyX2lkIjo3LCJ1c2VybmFtZSI6IjEzODEyMzQ1Njc4IiwiZXhwIjoxODAwMDg2NDAwLCJlb"
    "WFpbCI6InNob3BwZXJAZXhhbXBsZS5jb20ifQ.8F-xakqbX6RikMFm2A8poWzDlXQ00mi4iWhmVtbYTyA"
)


def test_shop_with_1_11_accepts_its_own_tokens_and_those_of_this_shop(shop, django_user_model):
    shop.SIMPLE_JWT = {**shop.SIMPLE_JWT, "SIGNING_KEY": KEY}
    with time_machine.travel(DAY, tick=False):
        our_token = str(LoginToken.for_user(django_user_model(pk=7, username=MOBILE)))
        assert read_like_1_11(TOKEN_OF_1_11, KEY) == read_like_1_11(our_token, KEY) == MOBILE


def test_djangorestframework_jwt_makes_the_token_and_accepts_that_of_this_shop(shop, account, tmp_path):
    folder = install(tmp_path, "djangorestframework-jwt==1.11.0", "PyJWT==1.7.1")
    key, token = shop.SIMPLE_JWT["SIGNING_KEY"], str(LoginToken.for_user(account))
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", SHOP_WITH_1_11],
        cwd=processes.ROOT,
        env={**os.environ, "PYTHONPATH": folder},
        input=json.dumps([key, {"pk": 7, "username": MOBILE}, token]),
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == 0, done.stderr
    version, payload, claims, our_claims = json.loads(done.stdout)
    issued = claims["orig_iat"]
    assert version == "1.11.0"
    assert payload == {"token": payload["token"], "user_id": 7, "id": 7, "username": MOBILE}
    assert claims == {"user_id": 7, "username": MOBILE, "email": "", "exp": issued + 300, "orig_iat": issued}
    assert our_claims["username"] == "zhang3"
    assert read_like_1_11(payload["token"], key) == MOBILE


@pytest.fixture
def get_profile(shop, client, db):
    """A function: return the status of a call with the token of 1.11 on that day, or later."""
    shop.SIMPLE_JWT = {**shop.SIMPLE_JWT, "SIGNING_KEY": KEY}
    User.objects.create_user(MOBILE, password=PASSWORD, mobile=MOBILE, pk=7)

    def get_profile(seconds_later=0):
        with time_machine.travel(DAY + seconds_later, tick=False):
            return client.get("/user/", HTTP_AUTHORIZATION=f"JWT {TOKEN_OF_1_11}").status_code

    return get_profile


def test_old_tokens_are_accepted_here_by_setting_until_they_expire_or_the_password_changes(shop, get_profile):
    assert get_profile() == 401
    shop.JWT_OLD_TOKENS = True
    assert (get_profile(), get_profile(24 * 3600)) == (200, 401)
    shop.SIMPLE_JWT = {**shop.SIMPLE_JWT, "SIGNING_KEY": "another key " * 4}
    assert get_profile() == 401
    shop.JWT_SIGNING_KEY_FALLBACKS = [KEY]
    assert get_profile() == 200
    owner = User.objects.get()
    owner.set_password("another horse")
    owner.save()
    assert get_profile() == 401

"""The ready pieces for shops of the family: their SMS codes in Redis, their JWTs."""

import base64
import hashlib
import hmac
import json
import os
import subprocess
import sys
import time
from datetime import timedelta

import pytest
import time_machine
from django.core.cache import cache
from django.test import RequestFactory
from django.utils.module_loading import import_string
from django.utils.translation import override
from rest_framework.exceptions import Throttled, ValidationError
from rest_framework.request import Request

from apps.oauth import shops
from apps.users.models import User
from apps.users.tokens import LoginToken
from tests.conftest import MOBILE, PASSWORD, Browser
from tests.tools import processes
from tests.users.test_views import at_once, other_code, refusal

CODE = "024680"
ATTEMPT, OTHER_ATTEMPT = "0123456789ab", "ba9876543210"
SMS_CODE_WRONG = {"sms_code": ["短信验证码错误或已过期。"]}
PASSWORD_WRONG = {"password": ["手机号或密码不正确。"]}
SECONDS_OF_LOCKS = [300, 600, 1200, 2400, 3600, 3600]

# Without their packages -----------------------------------------------------------------------------------------------


def test_the_app_and_its_pieces_are_imported_without_a_shops_packages():
    lines = [
        "import sys",
        "from django.conf import settings",
        "settings.configure(INSTALLED_APPS=['django.contrib.auth', 'django.contrib.contenttypes', 'apps.oauth'])",
        "for name in ('django_redis', 'redis', 'rest_framework_jwt', 'rest_framework_simplejwt', 'jwt'):",
        "    sys.modules[name] = None",
        "import django; django.setup()",
        "import apps.oauth.urls; assert 'apps.oauth.shops' not in sys.modules",
        "import apps.oauth.shops",
    ]
    command = [sys.executable, "-c", "\n".join(lines)]
    done = subprocess.run(command, cwd=processes.ROOT, capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stderr


# The account ----------------------------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def chinese():
    with override("zh-hans"):  # as the view does; what a test before has left in force is English, at times
        yield


class OtherNames(shops.AccountSerializer):
    connection = "code"
    key = "sms:{mobile}:bind"


@pytest.fixture
def codes(shop):
    """The shop's Redis for codes, as it reaches it itself."""
    location = shop.CACHES["default"]["LOCATION"]
    shop.CACHES = {**shop.CACHES, "verify_codes": {"BACKEND": "django_redis.cache.RedisCache", "LOCATION": location}}
    shop.QQ_ACCOUNT_SERIALIZER = "apps.oauth.shops.AccountSerializer"
    connection = import_string("django_redis.get_redis_connection")("verify_codes")
    connection.set(f"sms_{MOBILE}", CODE, ex=300)
    yield connection
    connection.flushdb()


@pytest.fixture
def stopped_clock(codes, shop):
    """A clock that only the test moves, for all but the codes: what was counted or proved is in this process then."""
    local = {"BACKEND": "django.core.cache.backends.locmem.LocMemCache", "LOCATION": "stopped"}
    shop.CACHES = {**shop.CACHES, "default": local}
    cache.clear()
    with time_machine.travel(1_800_000_000, tick=False) as clock:
        yield clock


def ask(attempt=ATTEMPT, address="198.18.0.1", serializer=shops.AccountSerializer, **changes):
    """Return the serializer as the view makes it."""
    request = Request(RequestFactory().post("/oauth/qq/users/", REMOTE_ADDR=address))
    form = {"mobile": MOBILE, "password": PASSWORD, "sms_code": CODE} | changes
    return serializer(data=form, context={"request": request, "view": None, "attempt": attempt})


def ask_from_everywhere(number, **changes):
    return ask(attempt=f"{number:012x}", address=f"198.18.{number // 250}.{number % 250}", **changes)


@pytest.mark.servers
def test_a_new_number_gets_an_account_of_that_name_and_the_code_is_gone(codes, browser):
    form = {"mobile": MOBILE, "password": PASSWORD, "sms_code": CODE, "access_token": browser.get_bind_token()}
    answer = browser.bind(form)
    user = User.objects.get()
    assert answer.status_code == 200
    assert answer.json()["username"] == user.username == user.mobile == MOBILE
    assert user.check_password(PASSWORD)
    assert codes.get(f"sms_{MOBILE}") is None


@pytest.mark.servers
def test_an_account_that_is_there_is_bound_by_its_password(codes, browser, account):
    form = {"mobile": MOBILE, "password": "another horse", "sms_code": CODE, "access_token": browser.get_bind_token()}
    refused = browser.bind(form)
    assert refused.status_code == 400
    assert refused.json() == {**PASSWORD_WRONG, "message": "手机号或密码不正确。", "code": "invalid"}
    assert browser.bind({**form, "password": PASSWORD}).json()["id"] == account.pk


@pytest.mark.servers
@pytest.mark.parametrize("is_new", [False, True])
def test_an_account_is_neither_looked_for_nor_made_at_a_replica(codes, browser, account, shop, is_new):
    if is_new:
        account.delete()
    form = {"mobile": MOBILE, "password": PASSWORD, "sms_code": CODE, "access_token": browser.get_bind_token()}
    shop.DATABASE_ROUTERS = ["tests.oauth.test_binding.ReadingElsewhere"]
    answer = browser.bind(form)
    assert answer.status_code == 200
    assert answer.json()["id"] == User.objects.using("default").get().pk


@pytest.mark.servers
def test_a_shop_may_have_other_names_and_read_text(codes, shop, account):
    codes_of_others = shop.CACHES["verify_codes"]
    location = f"{codes_of_others['LOCATION'].rpartition('/')[0]}/1"
    text = {"CONNECTION_POOL_KWARGS": {"decode_responses": True}}
    shop.CACHES = {**shop.CACHES, "code": {**codes_of_others, "LOCATION": location, "OPTIONS": text}}
    other_codes = import_string("django_redis.get_redis_connection")("code")
    codes.set(f"sms:{MOBILE}:bind", CODE, ex=300)
    other_codes.set(f"sms_{MOBILE}", CODE, ex=300)
    assert refusal(ask(serializer=OtherNames)) == SMS_CODE_WRONG
    other_codes.set(f"sms:{MOBILE}:bind", CODE, ex=300)
    assert ask(serializer=OtherNames).is_valid()
    assert other_codes.keys() == [f"sms_{MOBILE}"]
    other_codes.flushdb()


@pytest.mark.servers
def test_errors_are_english_for_who_asks_for_it(codes, browser):
    form = {"mobile": "1381234567", "password": "short", "sms_code": "", "access_token": browser.get_bind_token()}
    told = browser.bind(form, HTTP_ACCEPT_LANGUAGE="en").json()
    assert told == {
        "mobile": ["This is not a mobile number."],
        "password": ["The password must have 8 to 128 characters."],
        "sms_code": ["Please enter the SMS code."],
        "message": "This is not a mobile number.",
        "code": "invalid",
    }
    told = browser.bind(form | {"mobile": MOBILE, "password": PASSWORD, "sms_code": "1" * 6}, HTTP_ACCEPT_LANGUAGE="en")
    assert told.json()["message"] == "The SMS code is wrong or no longer valid."


@pytest.mark.parametrize(
    ("changes", "errors"),
    [
        ({"mobile": None}, {"mobile": ["请输入手机号。"]}),
        ({"mobile": ""}, {"mobile": ["请输入手机号。"]}),
        *[
            ({"mobile": mobile}, {"mobile": ["手机号格式不正确。"]})
            for mobile in (
                "12812345678",
                f"{MOBILE}\n",
                f" {MOBILE}",
                f"+86{MOBILE}",
                "1381234567٨",
                int(MOBILE),
                [MOBILE],
            )
        ],
        ({"password": ""}, {"password": ["请输入密码。"]}),
        *[
            ({"password": password}, {"password": ["密码长度应为 8 到 128 个字符。"]})
            for password in ("short77", "x" * 129, "x" * 1_000_000, "correct\x00horse", "correct\ud800horse", 12345678)
        ],
        ({"sms_code": ""}, {"sms_code": ["请输入短信验证码。"]}),
        *[
            ({"sms_code": code}, {"sms_code": ["短信验证码是 6 位数字。"]})
            for code in ("12345", "1234567", "12345٨", "123456\n", 123456)
        ],
    ],
)
def test_a_field_of_the_wrong_shape_is_refused_with_its_own_sentence(changes, errors):
    assert refusal(ask(**changes)) == errors


@pytest.mark.servers
@pytest.mark.parametrize("password", [" edges belong to it ", " " * 8, "八个字也是密码的", "line\nline", "x" * 128])
def test_a_password_is_taken_as_it_is(codes, db, password):
    serializer = ask(password=password)
    assert serializer.is_valid()
    assert serializer.save().check_password(password)


@pytest.mark.servers
def test_a_common_password_is_refused_for_a_new_account_and_costs_no_code(codes, db):
    assert refusal(ask(password="password1")) == {"password": ["这个密码太常见了。"]}
    assert ask().is_valid()


# What a code proves


@pytest.mark.servers
def test_a_mistyped_password_costs_no_new_sms_in_this_login_and_the_code_serves_no_other(codes, account):
    assert refusal(ask(password="another horse")) == PASSWORD_WRONG
    assert codes.get(f"sms_{MOBILE}") is None
    assert refusal(ask(OTHER_ATTEMPT)) == SMS_CODE_WRONG
    assert refusal(ask(mobile="13900000000")) == SMS_CODE_WRONG
    assert ask().is_valid()
    assert ask(sms_code=other_code(CODE)).is_valid()


@pytest.mark.servers
def test_a_number_stays_proved_for_ten_minutes(stopped_clock, account):
    assert ask().is_valid()
    stopped_clock.shift(599)
    assert ask().is_valid()
    stopped_clock.shift(1)
    assert refusal(ask()) == SMS_CODE_WRONG


@pytest.mark.servers
@pytest.mark.parametrize("deleted", [False, True])
def test_a_process_that_died_halfway_costs_no_new_sms(codes, account, deleted):
    cache.add(f"qq-login:sms-claim:{shops.digest(MOBILE, CODE)}", ATTEMPT, 60)
    if deleted:
        codes.delete(f"sms_{MOBILE}")
    assert refusal(ask(OTHER_ATTEMPT)) == SMS_CODE_WRONG
    assert ask().is_valid()


@pytest.mark.servers
@pytest.mark.django_db(transaction=True)
def test_one_of_many_logins_gets_the_code(codes, account):
    assert sorted(at_once(lambda number: ask_from_everywhere(number).is_valid())) == [False] * 7 + [True]


@pytest.mark.servers
@pytest.mark.django_db(transaction=True)
def test_a_form_sent_twice_at_once_is_good_twice(codes, account):
    assert at_once(lambda _: ask().is_valid(), 4) == [True] * 4


@pytest.mark.servers
def test_a_code_that_was_sent_meanwhile_stays(codes):
    codes.set("sms_13900000000", "135790")
    assert codes.eval(shops.DELETE_IF_SAME, 1, "sms_13900000000", CODE) == 0
    assert codes.get("sms_13900000000") == b"135790"


@pytest.mark.servers
def test_a_code_dies_of_five_wrong_tries_and_the_next_has_its_own(codes, account):
    for _ in range(4):
        assert refusal(ask(sms_code=other_code(CODE))) == SMS_CODE_WRONG
    assert ask().is_valid()
    codes.set(f"sms_{MOBILE}", "135790", ex=300)
    for _ in range(5):
        assert refusal(ask(OTHER_ATTEMPT, sms_code=CODE)) == SMS_CODE_WRONG
    assert refusal(ask(OTHER_ATTEMPT, sms_code="135790")) == SMS_CODE_WRONG
    codes.set(f"sms_{MOBILE}", "975310", ex=300)
    assert ask(OTHER_ATTEMPT, sms_code="975310").is_valid()


@pytest.mark.servers
@pytest.mark.django_db(transaction=True)
def test_of_guesses_at_the_same_moment_five_are_looked_at(codes, account):
    def guess(number):
        return ask_from_everywhere(number, sms_code=f"{(int(CODE) + number + 1) % 10**6:06}").is_valid()

    assert not any(at_once(guess, 20))
    assert refusal(ask()) == SMS_CODE_WRONG


@pytest.mark.servers
def test_wrong_codes_from_one_address_are_thirty_an_hour_and_right_ones_are_none(codes, account):
    with time_machine.travel(1_800_000_000 + 600, tick=False):
        for number in range(30):
            assert refusal(ask(f"{number:012x}", sms_code=other_code(CODE), mobile="13900000000")) == SMS_CODE_WRONG
        with pytest.raises(Throttled) as refused:
            ask().is_valid()
        assert refused.value.wait == 3000
        for number in range(31):
            codes.set(f"sms_{MOBILE}", f"{number:06}", ex=300)
            assert ask(f"{number:012x}", address="198.18.0.2", sms_code=f"{number:06}").is_valid()


@pytest.mark.servers
@pytest.mark.parametrize("kind", ["no account", "an account", "a disabled account"])
def test_nothing_is_told_about_the_account_before_the_number_is_proved(codes, browser, django_user_model, kind):
    if kind != "no account":
        django_user_model.objects.create_user("zhang3", PASSWORD, mobile=MOBILE, is_active=kind == "an account")
    form = {"mobile": MOBILE, "sms_code": other_code(CODE), "access_token": browser.get_bind_token()}
    for password in (PASSWORD, "another horse", "password"):
        refused = browser.bind(form | {"password": password})
        assert refused.status_code == 400
        assert refused.json() == {**SMS_CODE_WRONG, "message": SMS_CODE_WRONG["sms_code"][0], "code": "invalid"}


@pytest.mark.servers
def test_without_its_redis_nobody_passes(codes, shop, browser):
    away = {"BACKEND": "django_redis.cache.RedisCache", "LOCATION": f"redis://127.0.0.1:{processes.free_port()}/0"}
    shop.CACHES = {**shop.CACHES, "verify_codes": away}
    form = {"mobile": MOBILE, "password": PASSWORD, "sms_code": CODE, "access_token": browser.get_bind_token()}
    refused = browser.bind(form)
    assert (refused.status_code, refused.json()["code"]) == (503, "cache_unavailable")


# Its password


@pytest.mark.servers
def test_five_wrong_passwords_lock_the_account_longer_each_time(stopped_clock, account):
    for seconds in SECONDS_OF_LOCKS:
        for _ in range(5):
            stopped_clock.shift(1)  # guesses need not be quick
            prove()
            assert refusal(ask(password="another horse")) == PASSWORD_WRONG
        for _ in range(2):
            with pytest.raises(Throttled) as refused:
                ask().is_valid()
            assert refused.value.wait == seconds
        stopped_clock.shift(seconds - 1)
        prove()
        with pytest.raises(Throttled) as refused:
            ask().is_valid()
        assert refused.value.wait == 1
        stopped_clock.shift(1)
    assert ask().is_valid()


def prove():
    cache.set(f"qq-login:sms-proof:{ATTEMPT}:{MOBILE}", True, 600)


@pytest.mark.servers
def test_the_right_password_forgets_the_wrong_ones(codes, account):
    for _ in range(3):
        for _ in range(4):
            assert refusal(ask(password="another horse")) == PASSWORD_WRONG
        assert ask().is_valid()


@pytest.mark.servers
@pytest.mark.django_db(transaction=True)
def test_of_passwords_at_the_same_moment_five_are_compared(codes, account):
    prove()

    def guess(number):
        try:
            return ask(password=f"another horse {number}").is_valid()
        except Throttled:
            return None

    assert sorted(at_once(guess, 20), key=str) == [False] * 5 + [None] * 15


@pytest.mark.servers
def test_a_locked_account_is_answered_429_and_is_no_failed_try_of_the_login(codes, browser, account):
    form = {"mobile": MOBILE, "password": "another horse", "sms_code": CODE, "access_token": browser.get_bind_token()}
    for _ in range(4):
        assert browser.bind(form).status_code == 400
    failures = f"qq-login:password:{shops.digest(account.pk, account.password)}"
    cache.set(f"{failures}:0", 5, 300)
    with time_machine.travel(time.time(), tick=False):
        for _ in range(3):
            refused = browser.bind(form | {"password": PASSWORD})
            assert (refused.status_code, refused["Retry-After"]) == (429, "300")
            assert refused.json() == {"message": "操作太频繁，请稍后再试。", "code": "throttled"}
    cache.delete_many([failures, f"{failures}:0"])
    assert browser.bind(form | {"password": PASSWORD}).status_code == 200


@pytest.mark.servers
def test_an_account_that_is_locked_opens_to_who_sets_a_new_password(codes, account):
    for _ in range(5):
        assert refusal(ask(password="another horse")) == PASSWORD_WRONG
    with pytest.raises(Throttled):
        ask().is_valid()
    account.set_password("yet another horse")
    account.save()
    assert ask(password="yet another horse").is_valid()


# The moment between its check and the end


@pytest.mark.servers
@pytest.mark.parametrize("change", [{"password": "!"}, {"mobile": "13900000000"}, None])
def test_an_account_that_is_another_by_now_is_not_bound(codes, account, change):
    serializer = ask()
    assert serializer.is_valid()
    if change is None:
        account.delete()
    else:
        User.objects.filter(pk=account.pk).update(**change)
    with pytest.raises(ValidationError) as refused:
        serializer.save()
    assert refused.value.detail == PASSWORD_WRONG


@pytest.mark.servers
def test_a_better_hash_of_the_same_password_changes_nothing(codes, account):
    serializer = ask()
    assert serializer.is_valid()
    account.set_password(PASSWORD)
    User.objects.filter(pk=account.pk).update(password=account.password)
    assert serializer.save() == account


@pytest.mark.servers
@pytest.mark.parametrize(("password", "is_good"), [(PASSWORD, True), ("another horse", False)])
def test_an_account_made_meanwhile_is_taken_by_its_password_only(codes, db, password, is_good):
    serializer = ask()
    assert serializer.is_valid()
    account = User.objects.create_user("li4", password=password, mobile=MOBILE)
    if is_good:
        assert serializer.save() == account
    else:
        with pytest.raises(ValidationError):
            serializer.save()
    assert User.objects.get() == account


@pytest.mark.servers
def test_who_has_taken_the_number_for_a_username_keeps_nobody_out(codes, db):
    squatter = User.objects.create_user(MOBILE, password=PASSWORD, mobile="13900000000")
    serializer = ask()
    assert serializer.is_valid()
    account = serializer.save()
    assert account != squatter
    assert account.mobile == MOBILE
    assert account.username.startswith(f"{MOBILE}_")


@pytest.mark.servers
@pytest.mark.django_db(transaction=True)
def test_logins_that_have_all_proved_one_new_number_make_one_account(codes, qq):
    browsers = [Browser(qq, REMOTE_ADDR=f"198.18.0.{number}") for number in range(4)]
    forms = []
    for number, browser in enumerate(browsers):
        codes.set(f"sms_{MOBILE}", f"{number:06}", ex=300)
        form = {"mobile": MOBILE, "sms_code": f"{number:06}", "access_token": browser.get_bind_token(f"小明 {number}")}
        assert "password" in browser.bind({**form, "password": "password"}).json()
        forms.append({**form, "password": PASSWORD})
    answers = at_once(lambda number: browsers[number].bind(forms[number]), 4)
    assert [answer.status_code for answer in answers] == [200] * 4
    assert User.objects.get().username == MOBILE


# The login ------------------------------------------------------------------------------------------------------------


def installed(folder, *packages):
    """Put packages that the shop here has no use for into a folder of their own, which may come before ours."""
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
    done = subprocess.run(
        [*command, "--target", folder, *packages],
        stdin=subprocess.DEVNULL, capture_output=True, encoding="utf-8", check=False,
    )  # fmt: skip
    if done.returncode != 0:
        pytest.skip(f"pip cannot install {' and '.join(packages)}")
    return str(folder)


@pytest.fixture(scope="module")
def drf_jwt_folder(tmp_path_factory):
    return installed(tmp_path_factory.mktemp("drf_jwt"), "drf-jwt>=1.19.2,<1.20")


@pytest.fixture
def drf_jwt(drf_jwt_folder, monkeypatch, shop):
    """A shop with drf-jwt, the fork that goes on, whose pages still say JWT."""
    monkeypatch.syspath_prepend(drf_jwt_folder)
    shop.JWT_AUTH = {"JWT_AUTH_HEADER_PREFIX": "JWT", "JWT_EXPIRATION_DELTA": timedelta(days=1)}
    yield shop.JWT_AUTH
    for name in [name for name in sys.modules if name.split(".")[0] == "rest_framework_jwt"]:
        del sys.modules[name]


def answer_of_three(token, user=None, request=None):
    return {"token": token, "id": user.pk, "path": request.path}


def answer_of_four(token, user=None, request=None, issued_at=None):
    return {"token": token, "id": user.pk, "path": request.path, "is_fresh": abs(time.time() - issued_at) < 60}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of its datetime.utcnow()
@pytest.mark.parametrize(
    ("handler", "more"),
    [
        (None, {}),
        ("answer_of_three", {"path": "/oauth/qq/users/"}),
        ("answer_of_four", {"path": "/oauth/qq/users/", "is_fresh": True}),
    ],
)
def test_drf_jwt_takes_the_token_and_the_shop_adds_what_it_adds_to_its_own_logins(drf_jwt, account, handler, more):
    if handler:
        drf_jwt["JWT_RESPONSE_PAYLOAD_HANDLER"] = f"{__name__}.{handler}"
        more = {"id": account.pk, **more}
    answer = shops.jwt_payload(account, Request(RequestFactory().post("/oauth/qq/users/")))
    token = answer.pop("token")
    assert answer == {"user_id": account.pk, "username": "zhang3", **more}
    request = RequestFactory().get("/user/", HTTP_AUTHORIZATION=f"JWT {token}")
    authentication = import_string("rest_framework_jwt.authentication.JSONWebTokenAuthentication")()
    assert authentication.authenticate(request) == (account, token)


class ChattyToken(LoginToken):
    """What a shop does that wants more in its tokens than simplejwt puts there."""

    @classmethod
    def get_token(cls, user):
        return cls.for_user(user)


@pytest.mark.parametrize(("serializer", "kind"), [("Pair", "AccessToken"), ("Sliding", "SlidingToken")])
def test_simplejwt_takes_the_token(shop, account, serializer, kind):
    path = f"rest_framework_simplejwt.serializers.TokenObtain{serializer}Serializer"
    shop.SIMPLE_JWT = {"TOKEN_OBTAIN_SERIALIZER": path, "SIGNING_KEY": "k" * 40}
    answer = shops.simplejwt_payload(account, None)
    token = import_string(f"rest_framework_simplejwt.tokens.{kind}")(answer.pop("token"))
    assert token["user_id"] == str(account.pk)
    assert answer == {"user_id": account.pk, "username": "zhang3"}


def test_simplejwt_token_is_the_shops_own(shop, account):
    shop.SIMPLE_JWT = {**shop.SIMPLE_JWT, "TOKEN_OBTAIN_SERIALIZER": f"{__name__}.ChattyToken"}
    assert LoginToken(shops.simplejwt_payload(account, None)["token"])["gen"] == account.token_generation


# djangorestframework-jwt 1.11 cannot be used in-process: its PyJWT is another one.

SHOP_WITH_1_11 = """
import json, sys
from django.conf import settings
import django
key, made, token = json.load(sys.stdin)
names = ["django.contrib.auth", "django.contrib.contenttypes", "rest_framework", "apps.oauth"]
jwt = {"JWT_SECRET_KEY": key, "JWT_RESPONSE_PAYLOAD_HANDLER": "__main__.answer_login", "JWT_ALLOW_REFRESH": True}
settings.configure(SECRET_KEY=key, INSTALLED_APPS=names, JWT_AUTH=jwt)
django.setup()
from django.contrib.auth.models import User
from apps.oauth.shops import jwt_payload
from rest_framework_jwt import VERSION
from rest_framework_jwt.settings import api_settings

def answer_login(token, user=None, request=None):
    return {"token": token, "id": user.id}

answer = jwt_payload(User(**made), None)
print(json.dumps([VERSION, answer, *map(api_settings.JWT_DECODE_HANDLER, (answer["token"], token))]))
"""


def read_by_the_rules_of_1_11(token, key):
    """Return the username a shop with djangorestframework-jwt 1.11 lets in by this token."""
    *signed, signature = token.split(".")
    expected = hmac.new(key.encode(), ".".join(signed).encode(), hashlib.sha256).digest()
    header, claims, signature = (base64.urlsafe_b64decode(part + "==") for part in (*signed, signature))
    header, claims = json.loads(header), json.loads(claims)
    assert hmac.compare_digest(signature, expected)
    assert header["alg"] == "HS256"
    assert not {"aud", "iss", "nbf"} & claims.keys()  # of which 1.11, or its PyJWT, would want to know more
    assert type(claims["exp"]) is int
    assert claims["exp"] > time.time()
    assert claims.get("iat", 0) <= time.time()
    return claims["username"]


# Made on this day for user 7 with this key, the first by djangorestframework-jwt 1.11.0, the other by LoginToken.
DAY = 1_800_000_000
KEY = "the key of a shop of the family, for tests only"
TOKEN_OF_1_11 = (
    "eyJ0eXAiOiJKV1QiLCJhbGciOiJIUzI1NiJ9.eyJ1c2VyX2lkIjo3LCJ1c2VybmFtZSI6IjEzODEyMzQ1Njc4IiwiZXhwIjoxODAwMDg2NDAwLCJlb"
    "WFpbCI6InNob3BwZXJAZXhhbXBsZS5jb20ifQ.8F-xakqbX6RikMFm2A8poWzDlXQ00mi4iWhmVtbYTyA"
)
TOKEN_OF_OURS = (
    "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJleHAiOjE4MDAwODY0MDAsImlhdCI6MTgwMDAwMDAwMCwianRpIjoiNDc2ZGE3NjMyZDAyNGEzO"
    "GE2MjgwY2E5NmRlMmI1ZTgiLCJ1c2VyX2lkIjo3LCJ1c2VybmFtZSI6IjEzODEyMzQ1Njc4IiwiZ2VuIjowfQ.tRHjxSxV2jZAcTdqRf6uYaJv37FjL"
    "FVlHBaCVS50Sfc"
)


@pytest.mark.parametrize("token", [TOKEN_OF_1_11, TOKEN_OF_OURS])
def test_the_rules_of_djangorestframework_jwt_let_the_owner_of_either_token_in(token):
    with time_machine.travel(DAY, tick=False):
        assert read_by_the_rules_of_1_11(token, KEY) == MOBILE


def test_the_token_of_ours_is_what_the_shop_here_makes(shop, django_user_model):
    shop.SIMPLE_JWT = {**shop.SIMPLE_JWT, "SIGNING_KEY": KEY}
    with time_machine.travel(DAY, tick=False):
        claims = LoginToken(TOKEN_OF_OURS).payload
        made = LoginToken.for_user(django_user_model(pk=7, username=MOBILE)).payload
    assert claims == {**made, "jti": claims["jti"]}


def test_djangorestframework_jwt_itself_makes_the_token_and_takes_that_of_the_shop_here(shop, account, tmp_path):
    folder = installed(tmp_path, "djangorestframework-jwt==1.11.0", "PyJWT==1.7.1")
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
    version, answer, claims, claims_of_ours = json.loads(done.stdout)
    assert version == "1.11.0"
    assert answer == {"token": answer["token"], "user_id": 7, "id": 7, "username": MOBILE}
    assert claims == {
        "user_id": 7,
        "username": MOBILE,
        "email": "",
        "exp": claims["orig_iat"] + 300,
        "orig_iat": claims["orig_iat"],
    }
    assert claims_of_ours["username"] == "zhang3"
    assert read_by_the_rules_of_1_11(answer["token"], key) == MOBILE


@pytest.fixture
def owner(shop, db):
    shop.SIMPLE_JWT = {**shop.SIMPLE_JWT, "SIGNING_KEY": KEY}
    with time_machine.travel(DAY, tick=False):
        yield User.objects.create_user(MOBILE, password=PASSWORD, mobile=MOBILE, pk=7)


def get_profile(client, token):
    return client.get("/user/", HTTP_AUTHORIZATION=f"JWT {token}").status_code


def test_a_token_of_djangorestframework_jwt_is_good_here_where_the_shop_says_so_until_the_password_changes(
    shop, client, owner
):
    assert get_profile(client, TOKEN_OF_1_11) == 401
    shop.JWT_OLD_TOKENS = True
    assert get_profile(client, TOKEN_OF_1_11) == 200
    with time_machine.travel(DAY + 24 * 3600, tick=False):
        assert get_profile(client, TOKEN_OF_1_11) == 401
    owner.set_password("another horse")
    owner.save()
    assert get_profile(client, TOKEN_OF_1_11) == 401


def test_a_token_of_djangorestframework_jwt_made_with_an_older_key_is_good_too(shop, client, owner):
    shop.JWT_OLD_TOKENS = True
    shop.SIMPLE_JWT = {**shop.SIMPLE_JWT, "SIGNING_KEY": "another key " * 4}
    assert get_profile(client, TOKEN_OF_1_11) == 401
    shop.JWT_SIGNING_KEY_FALLBACKS = [KEY]
    assert get_profile(client, TOKEN_OF_1_11) == 200

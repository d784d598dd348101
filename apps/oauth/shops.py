"""
Ready pieces for shops of the meiduo family, for QQ_ACCOUNT_SERIALIZER and QQ_LOGIN_PAYLOAD to name.

Nothing in the app imports this file, and it imports a shop's packages only when they are used.
"""

import re
import secrets
import time
from inspect import signature
from typing import Any

from django.contrib.auth import get_user_model
from django.contrib.auth.password_validation import validate_password
from django.core.cache import cache
from django.core.exceptions import ValidationError as DjangoValidationError
from django.db import IntegrityError, router, transaction
from django.utils.crypto import constant_time_compare, salted_hmac
from django.utils.encoding import force_str
from django.utils.functional import lazy
from django.utils.module_loading import import_string
from django.utils.translation import gettext_noop as _
from rest_framework import serializers
from rest_framework.exceptions import Throttled, ValidationError
from rest_framework.request import Request

from .audit import record
from .old_errors import translate
from .throttling import AddressThrottle, count

translate_lazy = lazy(translate, str)

# The account ----------------------------------------------------------------------------------------------------------

SMS_TRIES = 5  # wrong ones for a code: with a million codes, guessing stays hopeless
SMS_TRIES_KEPT = 3600  # seconds: longer than any shop's code is good
CLAIM_KEPT = 60  # seconds: the same form again, after a crash; a shop sends no second SMS before
PROOF_KEPT = 600  # seconds: as long as the form of one login is good
PASSWORD_TRIES = 5  # of one account, within what password_seconds says
LOCKS_REMEMBERED = 24 * 3600  # seconds

# Not just a `del`: a code that was sent this moment is another one, and stays.
DELETE_IF_SAME = "return redis.call('get', KEYS[1]) == ARGV[1] and redis.call('del', KEYS[1]) or 0"


class TextField(serializers.CharField):
    """Text of one shape, taken exactly as it was sent."""

    def __init__(self, shape: str, *, missing: str, wrong: str) -> None:
        messages: dict[str, Any] = dict.fromkeys(("required", "null", "blank"), translate_lazy(missing))
        messages["invalid"] = translate_lazy(wrong)
        super().__init__(trim_whitespace=False, error_messages=messages)  # trimming would change a password
        self.shape = re.compile(shape)

    def to_internal_value(self, data: Any) -> str:
        if not isinstance(data, str) or not self.shape.fullmatch(data):  # a number would pass for its digits
            self.fail("invalid")
        return data


class AccountSerializer(serializers.Serializer[Any]):
    """
    Whose account is this: mobile, password and SMS code in; `save()` returns the user, made where there was none.

    The code is the shop's own: text in a Redis that django_redis knows. Other names of the two are said in a subclass.
    The user model has a unique `mobile`; an account made here has the number for its username, as those shops have it.

    `validate` uses the SMS code up, and the number then stays proved for this login at QQ: a mistyped password costs no
    second SMS. Nothing about the account is told before.
    """

    connection = "verify_codes"  # a name in CACHES
    key = "sms_{mobile}"

    mobile = TextField("1[3-9][0-9]{9}", missing=_("请输入手机号。"), wrong=_("手机号格式不正确。"))
    # The upper end keeps a megabyte of password from being hashed. Databases cut text at NUL, and half a character
    # (a surrogate) cannot be encoded.
    password = TextField(
        "[^\x00\ud800-\udfff]{8,128}", missing=_("请输入密码。"), wrong=_("密码长度应为 8 到 128 个字符。")
    )
    sms_code = TextField("[0-9]{6}", missing=_("请输入短信验证码。"), wrong=_("短信验证码是 6 位数字。"))

    def validate(self, attrs: dict[str, str]) -> dict[str, str]:
        mobile, password = attrs["mobile"], attrs["password"]
        self.require_proof(mobile, attrs["sms_code"])
        self.account = self.find_account(mobile)
        if self.account is not None:
            self.require_password_of(self.account, password)
        else:
            try:
                validate_password(password)
            except DjangoValidationError as exc:
                raise ValidationError({"password": exc.messages}) from None
        return attrs

    def save(self, **kwargs: Any) -> Any:
        """Return the account. Raises ValidationError if its password is another one by now.

        Called in a transaction: until that ends nobody resets the password.
        """
        mobile, password = self.validated_data["mobile"], self.validated_data["password"]
        if self.account is not None:
            held = self.users.select_for_update().filter(pk=self.account.pk, mobile=mobile).first()
            if held is None:
                raise self.wrong_password()
            if held.password != self.account.password:
                self.require_password_of(held, password)
            return held
        try:
            return self.make_account(mobile, mobile, password)
        except IntegrityError:
            account = self.find_account(mobile)
            if account is not None:
                self.require_password_of(account, password)
                return account
            # Somebody has chosen this number for a username.
            return self.make_account(f"{mobile}_{secrets.token_hex(4)}", mobile, password)

    @property
    def users(self) -> Any:
        user_model = get_user_model()
        # A replica may not know yet of an account that was made just now.
        return user_model._default_manager.db_manager(router.db_for_write(user_model))

    def find_account(self, mobile: str) -> Any:
        return self.users.filter(mobile=mobile).first()

    def make_account(self, username: str, mobile: str, password: str) -> Any:
        users = self.users
        with transaction.atomic(users.db):
            return users.create_user(username=username, mobile=mobile, password=password)

    def require_proof(self, mobile: str, code: str) -> None:
        """Raise ValidationError unless the code, or one before it in this login, proves the number."""
        attempt = self.context["attempt"]
        proof = f"qq-login:sms-proof:{attempt}:{mobile}"
        if cache.get(proof) is not None:
            return
        failures = AddressThrottle("qq_sms_failed")
        if not failures.allow_request(self.context["request"], self.context["view"]):
            raise Throttled(failures.wait())
        if not self.use_up(mobile, code, attempt):
            raise ValidationError({"sms_code": [translate(_("短信验证码错误或已过期。"))]})
        cache.set(proof, True, PROOF_KEPT)
        failures.forgive()

    def use_up(self, mobile: str, code: str, attempt: str) -> bool:
        """Tell whether this is the code that was sent, and nobody else's by now.

        Who claims it has it, and the claim is there before the code is gone: dying in between, the same form succeeds.
        """
        redis = import_string("django_redis.get_redis_connection")(self.connection)
        key = self.key.format(mobile=mobile)
        claim = f"qq-login:sms-claim:{digest(mobile, code)}"
        found = redis.get(key)
        if found is None:
            return bool(cache.get(claim) == attempt)
        sent = force_str(found, errors="replace")
        # Counted before it is compared, so that guesses made at the same moment are not free. Counted for the one code:
        # the next has tries of its own.
        tries = f"qq-login:sms-tries:{digest(mobile, sent)}"
        if count(tries, SMS_TRIES_KEPT) > SMS_TRIES or not constant_time_compare(sent, code):
            return False
        if not cache.add(claim, attempt, CLAIM_KEPT) and cache.get(claim) != attempt:
            return False
        redis.eval(DELETE_IF_SAME, 1, key, sent)
        return True

    def require_password_of(self, account: Any, password: str) -> None:
        """Raise ValidationError unless it is the account's password, Throttled after too many that were not.

        Five failures lock the account, for 5, 10, 20, 40 and then 60 minutes. They are counted apart after each lock,
        and a lock is a counter that begins full: no moment is left to slip in between. A new password is not locked.
        """
        subject = f"qq-login:password:{digest(account.pk, account.password)}"
        level = cache.get(subject, 0)
        tries = count(f"{subject}:{level}", password_seconds(level))
        if tries > PASSWORD_TRIES:
            now, lock = time.time(), f"{subject}:ends"
            if tries == PASSWORD_TRIES + 1:
                level += 1
                seconds = password_seconds(level)
                cache.set(lock, now + seconds, seconds)
                cache.add(f"{subject}:{level}", PASSWORD_TRIES + 1, seconds)
                cache.set(subject, level, LOCKS_REMEMBERED)
            record(self.context["request"], "limit", "refused", limit="qq_password")
            raise Throttled(cache.get(lock, now + password_seconds(level)) - now)
        if not account.check_password(password):
            raise self.wrong_password()
        cache.delete_many([subject, f"{subject}:{level}"])

    def wrong_password(self) -> ValidationError:
        return ValidationError({"password": [translate(_("手机号或密码不正确。"))]})


def digest(*parts: Any) -> str:
    """Return what these are known by in the cache, where they must not be read."""
    return salted_hmac("qq-login.shops", repr(parts), algorithm="sha256").hexdigest()


def password_seconds(level: int) -> int:
    """Return how long failures are counted, and how long the lock is that began this level."""
    return 300 * 2 ** max(level - 1, 0) if level < 5 else 3600


# The login ------------------------------------------------------------------------------------------------------------


def jwt_payload(user: Any, request: Request) -> dict[str, Any]:
    """Answer a login as a shop with rest_framework_jwt does: djangorestframework-jwt 1.11, or drf-jwt.

    With what the shop's own JWT_RESPONSE_PAYLOAD_HANDLER adds: 1.11 gives it three arguments, drf-jwt a fourth.
    """
    jwt = import_string("rest_framework_jwt.settings.api_settings")
    claims = jwt.JWT_PAYLOAD_HANDLER(user)
    token = jwt.JWT_ENCODE_HANDLER(claims)
    answer = {"token": token, "user_id": user.pk, "username": user.get_username()}
    handler = jwt.JWT_RESPONSE_PAYLOAD_HANDLER
    if handler.__module__ == "rest_framework_jwt.utils":  # the package's own has nothing more to say
        return answer
    arguments = [token, user, request, claims.get("iat")]
    try:
        signature(handler).bind(*arguments)
    except TypeError:
        arguments.pop()
    answer |= handler(*arguments)
    return answer


def simplejwt_payload(user: Any, request: Request) -> dict[str, Any]:
    """Answer a login with the token that the shop's own TOKEN_OBTAIN_SERIALIZER makes: of a pair the one for access."""
    path = import_string("rest_framework_simplejwt.settings.api_settings").TOKEN_OBTAIN_SERIALIZER
    token = import_string(path).get_token(user)
    token = getattr(token, "access_token", token)
    return {"token": str(token), "user_id": user.pk, "username": user.get_username()}

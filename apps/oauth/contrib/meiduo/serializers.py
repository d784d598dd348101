"""The form that proves an account, for QQ_ACCOUNT_SERIALIZER: mobile, password and SMS code."""

import secrets
from typing import Any

from django.contrib.auth import get_user_model
from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError as DjangoValidationError
from django.db import IntegrityError, router, transaction
from django.utils.crypto import constant_time_compare, salted_hmac
from django.utils.encoding import force_str
from django.utils.module_loading import import_string
from django.utils.translation import gettext_noop as _
from rest_framework import serializers
from rest_framework.exceptions import ValidationError

from ... import cache
from ...account_lock import make_account_key, password_attempt
from ...flow import lifetimes
from ...form_fields import PatternField
from ...language import translate
from ...ratelimit import get_rate_limit
from ...user_lookup import lock_user

MAX_GUESSES = 5  # per SMS: with a million possible codes, guessing stays hopeless
GUESSES_KEPT = 3600  # seconds: longer than any shop's code is valid
CLAIM_KEPT = 60  # seconds: for a repeat of the form after a crash; no shop sends the next SMS sooner

# Not DEL alone: a new code may have been sent since the comparison.
DELETE_IF_EQUAL = "return redis.call('get', KEYS[1]) == ARGV[1] and redis.call('del', KEYS[1]) or 0"


class AccountSerializer(serializers.Serializer[Any]):
    """Find the account by mobile and password, or create it. `save()` returns the user.

    SMS codes are text in a Redis that django_redis connects to; a subclass may set another connection or key. The user
    model needs a unique `mobile`. A new account gets the mobile as its username, as the tutorial's registration does.

    Validation uses the SMS code up. The mobile then stays proved for this QQ login, so a mistyped password costs no
    second SMS. No answer depends on the account before that.
    """

    connection = "verify_codes"  # an alias in CACHES
    key = "sms_{mobile}"

    mobile = PatternField("1[3-9][0-9]{9}", missing=_("请输入手机号。"), malformed=_("手机号格式不正确。"))
    # At most 128 characters, so that no megabyte is hashed. Databases truncate text at NUL, and surrogates cannot be
    # encoded.
    password = PatternField(
        "[^\x00\ud800-\udfff]{8,128}", missing=_("请输入密码。"), malformed=_("密码长度应为 8 到 128 个字符。")
    )
    sms_code = PatternField("[0-9]{6}", missing=_("请输入短信验证码。"), malformed=_("短信验证码是 6 位数字。"))

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        self.check_mobile(attrs["mobile"], attrs["sms_code"])
        account = self.find_account(attrs["mobile"])
        if account is not None:
            self.check_password(account, attrs["password"])
        else:
            self.check_new_password(attrs["mobile"], attrs["password"])
        return {**attrs, "account": account}

    def save(self, **kwargs: Any) -> Any:
        """Return the account. Raises ValidationError if it has changed since validation and the password is wrong now.

        Must run in a transaction, which locks the account: nobody can reset the password until it ends.
        """
        mobile, password, account = (self.validated_data[name] for name in ("mobile", "password", "account"))
        if account is not None:
            locked: Any = lock_user(account.pk, self.users.db)
            if locked is None or locked.mobile != mobile:
                raise _make_password_error()
            if locked.password != account.password:
                self.check_password(locked, password)
            return locked
        try:
            return self.create_account(mobile, mobile, password)
        except IntegrityError:
            account = self.find_account(mobile)
            if account is not None:
                self.check_password(account, password)
                return account
            # Another user has chosen this mobile as a username.
            return self.create_account(f"{mobile}_{secrets.token_hex(4)}", mobile, password)

    @property
    def users(self) -> Any:
        user_model = get_user_model()
        # Not a replica: it may not have an account that was created a moment ago.
        return user_model._default_manager.db_manager(router.db_for_write(user_model))

    def find_account(self, mobile: str) -> Any:
        return self.users.filter(mobile=mobile).first()

    def create_account(self, username: str, mobile: str, password: str) -> Any:
        users = self.users
        with transaction.atomic(users.db):
            return users.create_user(username=username, mobile=mobile, password=password)

    def check_new_password(self, mobile: str, password: str) -> None:
        """Raise ValidationError for a weak password, by AUTH_PASSWORD_VALIDATORS, which may be empty, and by us."""
        if password.strip() in ("", mobile):
            raise ValidationError({"password": [translate(_("密码不能是手机号，也不能全是空格。"))]})
        user_model = get_user_model()
        try:
            validate_password(password, user_model(**{"mobile": mobile, user_model.USERNAME_FIELD: mobile}))
        except DjangoValidationError as exc:
            raise ValidationError({"password": exc.messages}) from None

    def check_mobile(self, mobile: str, code: str) -> None:
        """Raise ValidationError unless this code, or an earlier one in this login, proves the mobile."""
        proof = f"qq-login:sms-proof:{self.context['attempt']}:{mobile}"
        if cache.get(proof) is not None:
            return
        with get_rate_limit("qq_sms_failed").count_failures(self.context["request"]):
            with cache.cache_guard():  # the Redis of the SMS codes is a cache too
                is_right = self.redeem_code(mobile, code)
            if not is_right:
                raise ValidationError({"sms_code": [translate(_("短信验证码错误或已过期。"))]})
            cache.set(proof, True, lifetimes.BIND_TOKEN)

    def redeem_code(self, mobile: str, code: str) -> bool:
        """Return whether this is the code that was sent. Delete it then, so that no other login can use it.

        A login claims the code before it is deleted: if the process dies in between, a repeat of the form succeeds.
        """
        redis = import_string("django_redis.get_redis_connection")(self.connection)
        key = self.key.format(mobile=mobile)
        claim, claimant = f"qq-login:sms-claim:{make_keyed_digest(mobile, code)}", self.context["attempt"]
        stored = redis.get(key)
        if stored is None:
            return bool(cache.get(claim) == claimant)
        sent = force_str(stored, errors="replace")
        # Counted before the comparison, so that simultaneous guesses are limited too, and for each code separately.
        guesses = cache.increment(f"qq-login:sms-guesses:{make_keyed_digest(mobile, sent)}", GUESSES_KEPT)
        if guesses > MAX_GUESSES or not constant_time_compare(sent, code):
            return False
        if not cache.add(claim, claimant, CLAIM_KEPT) and cache.get(claim) != claimant:
            return False
        redis.eval(DELETE_IF_EQUAL, 1, key, sent)
        return True

    def check_password(self, account: Any, password: str) -> None:
        """Raise ValidationError unless it is the account's password, and RateLimited while the account is locked."""
        with password_attempt(self.context["request"], make_account_key(account)):
            if not account.check_password(password):
                raise _make_password_error()


class MobileAccountSerializer(AccountSerializer):
    """Find or create the account by mobile and SMS code alone. A new account has no usable password.

    Networks give old numbers to new people, who can then bind their QQ to the old account, as with any login by SMS.
    """

    password = None  # type: ignore[assignment]  # not a field of this form

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        return super().validate({**attrs, "password": None})

    def check_new_password(self, mobile: str, password: str) -> None:
        """Do nothing: there is none."""

    def check_password(self, account: Any, password: str) -> None:
        """Do nothing: the SMS code is the proof."""


def make_keyed_digest(*parts: Any) -> str:
    """Return a name for secrets in the cache, from which they cannot be guessed without SECRET_KEY."""
    return salted_hmac("qq-login.contrib.meiduo", repr(parts), algorithm="sha256").hexdigest()


def _make_password_error() -> ValidationError:
    return ValidationError({"password": [translate(_("手机号或密码不正确。"))]})

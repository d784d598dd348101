import secrets

from django.contrib.auth import authenticate
from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError as DjangoValidationError
from django.db import IntegrityError, transaction
from django.utils.translation import gettext_lazy as _
from rest_framework import serializers
from rest_framework.exceptions import ValidationError

from apps.oauth.account_lock import password_attempt
from apps.oauth.database import repeat_after_conflict
from apps.oauth.redaction import mask_mobile
from apps.oauth.user_lookup import lock_user

from . import sms
from .backends import find_account, get_account_key
from .fields import (
    IMAGE_CODE_WRONG,
    LONGEST_PASSWORD,
    ImageTextField,
    MobileField,
    NewUsernameField,
    PasswordField,
    SMSCodeField,
    TextField,
)
from .limits import LOGIN_FAILED
from .mobiles import validate_not_mobile
from .models import LONGEST_USERNAME, User
from .proofs import prove_mobile

AGREEMENT_MISSING = _("请阅读并同意用户协议。")


def require_good_password(password, user):
    """Raise ValidationError if the password is weak, or like a name of the User, who need not be saved."""
    try:
        validate_password(password, user)
    except DjangoValidationError as exc:
        raise ValidationError({"password": exc.messages}) from None


class AccountSerializer(serializers.Serializer):
    """Find or create the account of a mobile number, a password and an SMS code. `save()` returns the User.

    `validate` uses the SMS code up, so `save()` may be called again after its transaction was rolled back. The caller
    decides whether a disabled account or a staff account may go on.

    The context has the `request`. It may have `attempt`, a text that joins the calls of one login and that no other
    browser can send: within an attempt a number stays proved for a while, so a mistyped password costs no second SMS.
    """

    mobile = MobileField()
    password = PasswordField()
    sms_code = SMSCodeField()

    def validate(self, attrs):
        request, attempt = self.context["request"], self.context.get("attempt")
        proof = None
        if attempt is None:
            proof = prove_mobile(request, attrs)
        elif not sms.is_proved(attrs["mobile"], attempt):
            # If this process dies between the two steps, the attempt may redeem its code again; no other attempt can.
            prove_mobile(request, attrs, claimant=attempt).redeem()
            sms.remember_proof(attrs["mobile"], attempt)
        account = find_account(attrs["mobile"])
        if account is None:
            self.require_good_new_password(attrs["mobile"], attrs["password"])
        else:
            self.require_password_of(account, attrs["password"])
        if proof is not None:
            proof.redeem()
        return {**attrs, "account": account}

    def save(self):
        """Return the account. Raises ValidationError if its password has changed since `validate`, or is not this one.

        Call it in a transaction. The account stays locked until that ends, so a password reset waits and then finds
        what was bound.
        """
        mobile, password, account = (self.validated_data[name] for name in ("mobile", "password", "account"))
        if account is not None:
            locked = lock_user(account.pk, User.objects.db)
            if self.has_changed(locked, account):
                raise self.make_password_error()
            return locked
        try:
            with transaction.atomic():
                # The username is random: others see it, and it must not reveal the number.
                return User.objects.create_user(f"user_{secrets.token_hex(8)}", mobile=mobile, password=password)
        except IntegrityError:
            account = find_account(mobile)
            if account is None:
                raise
            self.require_password_of(account, password)
            return account

    def has_changed(self, locked, account):
        """Return whether the account is not the one that was validated any more."""
        return locked is None or locked.token_generation != account.token_generation

    def require_good_new_password(self, mobile, password):
        require_good_password(password, User(mobile=mobile))

    def require_password_of(self, account, password):
        with password_attempt(self.context["request"], get_account_key(account)):
            if not account.check_password(password):
                raise self.make_password_error()

    def make_password_error(self):
        return ValidationError({"password": [_("手机号或密码不正确。忘记密码的话，可以用短信验证码重设密码。")]})


class RegistrationSerializer(serializers.Serializer):
    username = NewUsernameField(validators=[validate_not_mobile])
    password = PasswordField()
    password2 = TextField(missing=_("请再次输入密码。"))
    mobile = MobileField()
    sms_code = SMSCodeField()
    allow = serializers.BooleanField(error_messages=dict.fromkeys(("required", "null", "invalid"), AGREEMENT_MISSING))

    def validate_allow(self, allow):
        if not allow:
            raise ValidationError(AGREEMENT_MISSING)
        return allow

    def validate(self, attrs):
        if attrs["password"] != attrs["password2"]:
            raise ValidationError({"password2": [_("两次输入的密码不一致。")]})
        proof = prove_mobile(self.context["request"], attrs)
        require_good_password(attrs["password"], User(username=attrs["username"], mobile=attrs["mobile"]))
        self.require_free(attrs)
        return {**attrs, "proof": proof}

    def save(self):
        """Return the new User. Raises ValidationError if username, number or SMS code has been taken meanwhile."""
        fields = {name: self.validated_data[name] for name in ("username", "password", "mobile")}
        proof = self.validated_data["proof"]

        def create():
            with transaction.atomic():
                user = User.objects.create_user(**fields)
                proof.redeem()
                return user

        try:
            with proof.refunded_by_outage():
                return repeat_after_conflict(create)
        except IntegrityError:
            self.require_free(fields)
            raise

    def require_free(self, fields):
        for name in ("username", "mobile"):
            if User.objects.filter(**{name: fields[name]}).exists():
                raise ValidationError({name: [User._meta.get_field(name).error_messages["unique"]]})


class LoginSerializer(serializers.Serializer):
    """A username or mobile number, and a password; `validate` returns the `user`. All mistakes get the same answer."""

    username = TextField(missing=_("请输入用户名或手机号。"))
    password = TextField(missing=_("请输入密码。"))

    def validate(self, attrs):
        request, name, password = self.context["request"], attrs["username"], attrs["password"]
        refused = ValidationError(_("账号或密码不正确。"))
        with LOGIN_FAILED.count_failures(request):
            # No account has a longer name or password: a longer one is not worth hashing.
            if len(name) > LONGEST_USERNAME or len(password) > LONGEST_PASSWORD:
                raise refused
            with password_attempt(request, get_account_key(find_account(name), name)):
                user = authenticate(request, username=name, password=password)
                if user is None:
                    raise refused
        return {"user": user}


class SMSRequestSerializer(serializers.Serializer):
    """A mobile number and the answer to an image code, under the names that the pages send."""

    mobile = MobileField()
    text = ImageTextField()
    image_code_id = serializers.UUIDField(
        error_messages=dict.fromkeys(("required", "null", "invalid"), IMAGE_CODE_WRONG)
    )


class UsernameSerializer(serializers.Serializer):
    username = TextField(max_length=LONGEST_USERNAME)


class MobileSerializer(serializers.Serializer):
    mobile = MobileField()


class ProfileSerializer(serializers.ModelSerializer):
    """The user who is logged in. The mobile number is masked: other people may see the page."""

    mobile = serializers.SerializerMethodField()
    email = serializers.CharField(read_only=True)  # "" if there is none

    def get_mobile(self, user) -> str | None:
        return mask_mobile(user.mobile)

    class Meta:
        model = User
        fields = read_only_fields = ("id", "username", "mobile", "email", "email_active")

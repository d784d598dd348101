import secrets

from django.contrib.auth import authenticate
from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError as DjangoValidationError
from django.db import IntegrityError, transaction
from django.utils.translation import gettext_lazy as _
from rest_framework import serializers
from rest_framework.exceptions import AuthenticationFailed, ValidationError

from . import sms
from .backends import find_account
from .fields import ImageTextField, MobileField, NewUsernameField, PasswordField, SMSCodeField, TextField
from .limits import LOGIN_FAILED, SMS_CHECK_FAILED, failures, forget_failures, lock_name, password_try
from .mobiles import mask_mobile, validate_not_mobile
from .models import User
from .signals import password_was_reset
from .tokens import LOGIN_ENDED

LONGEST_PASSWORD = 128  # no account has a longer one: not worth a hash


class SMSCodeMixin:
    """
    For forms with `mobile` and `sms_code`. Nothing about the account may be told before `require_sms_code`.

    `use_up_sms_code` is the last step, so that mistakes elsewhere in the form cost no new SMS; or an early one, after
    which the number stays proved.
    """

    def require_sms_code(self, attrs, claimant=None):
        """Raise ValidationError unless the code proves the number."""
        self.claimant = claimant or secrets.token_hex(8)
        with failures(self.context["request"], SMS_CHECK_FAILED):
            self.code_id = sms.find_code(attrs["mobile"], attrs["sms_code"], self.claimant)
            if self.code_id is None:
                raise self.wrong_sms_code()

    def use_up_sms_code(self):
        """Raise ValidationError if somebody else has used the code up meanwhile."""
        if not sms.claim_code(self.code_id, self.claimant):
            raise self.wrong_sms_code()

    def wrong_sms_code(self):
        return ValidationError({"sms_code": [_("短信验证码错误或已过期。")]})


def require_good_password(password):
    try:
        validate_password(password)
    except DjangoValidationError as exc:
        raise ValidationError({"password": exc.messages}) from None


class AccountSerializer(SMSCodeMixin, serializers.Serializer):
    """
    Whose account is this: mobile, password and SMS code in; `save()` returns the user, made where there was none.

    `validate` uses the SMS code up, so that `save()` may be called again after its transaction was rolled back.
    Whether a disabled or a staff account may go on is the caller's to decide.

    The context has the `request`. Its `attempt`, a text that only one browser can send again, ties several calls
    together: for these a number stays proved for a while, so that a mistyped password costs no second SMS.
    """

    mobile = MobileField()
    password = PasswordField()
    sms_code = SMSCodeField()

    def validate(self, attrs):
        attempt = self.context.get("attempt")
        if attempt is None:
            self.require_sms_code(attrs)
        elif not sms.is_proved(attrs["mobile"], attempt):
            self.require_sms_code(attrs, claimant=attempt)
            # In this order: dying in between, the attempt may claim its code again, and nobody else has got it.
            self.use_up_sms_code()
            sms.remember_proof(attrs["mobile"], attempt)
        self.account = User.objects.filter(mobile=attrs["mobile"]).first()
        if self.account is None:
            require_good_password(attrs["password"])
        else:
            self.require_password_of(self.account, attrs["password"])
        if attempt is None:
            self.use_up_sms_code()
        return attrs

    def save(self):
        """Return the account. Raises ValidationError if its password is another one by now, or it is another's.

        Called in a transaction: until that ends nobody resets the password, and a reset after it finds what was bound.
        """
        if self.account is not None:
            held = User.objects.select_for_update().filter(pk=self.account.pk).first()
            if held is None or held.token_generation != self.account.token_generation:
                raise self.wrong_password()
            return held
        mobile, password = self.validated_data["mobile"], self.validated_data["password"]
        try:
            with transaction.atomic():
                # A name nobody can guess from the number, as a name is shown to others.
                return User.objects.create_user(f"user_{secrets.token_hex(8)}", mobile=mobile, password=password)
        except IntegrityError:
            account = User.objects.filter(mobile=mobile).first()
            if account is None:
                raise
            self.require_password_of(account, password)
            return account

    def require_password_of(self, account, password):
        with password_try(self.context["request"], lock_name(account)):
            if not account.check_password(password):
                raise self.wrong_password()

    def wrong_password(self):
        return ValidationError({"password": [_("手机号或密码不正确。忘记密码的话，可以用短信验证码重设密码。")]})


class RegistrationSerializer(SMSCodeMixin, serializers.Serializer):
    username = NewUsernameField(validators=[validate_not_mobile])
    password = PasswordField()
    password2 = TextField(error_messages=dict.fromkeys(("required", "null", "blank"), _("请再次输入密码。")))
    mobile = MobileField()
    sms_code = SMSCodeField()
    allow = serializers.BooleanField(
        error_messages=dict.fromkeys(("required", "null", "invalid"), _("请阅读并同意用户协议。"))
    )

    def validate_allow(self, allow):
        if not allow:
            raise ValidationError(_("请阅读并同意用户协议。"))
        return allow

    def validate(self, attrs):
        if attrs["password"] != attrs["password2"]:
            raise ValidationError({"password2": [_("两次输入的密码不一致。")]})
        self.require_sms_code(attrs)
        require_good_password(attrs["password"])
        self.require_free(attrs)
        self.use_up_sms_code()
        return attrs

    def save(self):
        """Return the new user. Raises ValidationError if the name or the number was taken meanwhile."""
        fields = {name: self.validated_data[name] for name in ("username", "password", "mobile")}
        try:
            with transaction.atomic():
                return User.objects.create_user(**fields)
        except IntegrityError:
            self.require_free(fields)
            raise

    def require_free(self, fields):
        for name in ("username", "mobile"):
            if User.objects.filter(**{name: fields[name]}).exists():
                raise ValidationError({name: [User._meta.get_field(name).error_messages["unique"]]})


class LoginSerializer(serializers.Serializer):
    """Username or mobile number, and password; `validate` adds `user`. One answer whatever was wrong."""

    username = TextField(error_messages=dict.fromkeys(("required", "null", "blank"), _("请输入用户名或手机号。")))
    password = TextField(error_messages=dict.fromkeys(("required", "null", "blank"), _("请输入密码。")))

    def validate(self, attrs):
        request, name, password = self.context["request"], attrs["username"], attrs["password"]
        refused = ValidationError(_("账号或密码不正确。"))
        with failures(request, LOGIN_FAILED):
            if len(name) > 150 or len(password) > LONGEST_PASSWORD:
                raise refused
            with password_try(request, lock_name(find_account(name), name)):
                user = authenticate(request, username=name, password=password)
                if user is None:
                    raise refused
        return {"user": user}


class PasswordResetSerializer(SMSCodeMixin, serializers.Serializer):
    """A new password for whoever holds the phone; `save()` returns the user. Ends every login of before."""

    mobile = MobileField()
    password = PasswordField()
    sms_code = SMSCodeField()

    def validate(self, attrs):
        self.require_sms_code(attrs)
        require_good_password(attrs["password"])
        self.account = User.objects.filter(mobile=attrs["mobile"]).first()
        if self.account is None:
            raise ValidationError({"mobile": [_("该手机号还没有账号。请用 QQ 登录并绑定这个手机号，账号会自动创建。")]})
        if not self.account.is_active or self.account.is_staff or self.account.is_superuser:
            # An SMS can be intercepted: for those who run the shop it is too weak a door.
            raise ValidationError({"mobile": [_("该账号不能用短信重设密码，请联系客服。")]})
        self.use_up_sms_code()
        return attrs

    def save(self):
        self.account.set_password(self.validated_data["password"])
        with transaction.atomic():
            self.account.save(update_fields=["password"])
            password_was_reset.send(sender=User, request=self.context["request"], user=self.account)
        forget_failures(lock_name(self.account))  # a stranger's guesses must not keep the owner out
        return self.account


class PasswordChangeSerializer(serializers.Serializer):
    """The old password and a new one, of somebody logged in; `save()` returns the user. Ends every login of before."""

    old_password = TextField(error_messages=dict.fromkeys(("required", "null", "blank"), _("请输入原密码。")))
    password = PasswordField()

    def validate(self, attrs):
        request, old_password = self.context["request"], attrs["old_password"]
        with password_try(request, lock_name(request.user)):
            if len(old_password) > LONGEST_PASSWORD or not request.user.check_password(old_password):
                raise ValidationError({"old_password": [_("原密码不正确。")]})
        require_good_password(attrs["password"])
        return attrs

    def save(self):
        """Return the user. Raises AuthenticationFailed if the password was changed meanwhile: the old one is void."""
        user = self.context["request"].user
        with transaction.atomic():
            same = User.objects.select_for_update().filter(pk=user.pk, token_generation=user.token_generation).first()
            if same is None:
                raise AuthenticationFailed(LOGIN_ENDED)
            same.set_password(self.validated_data["password"])
            same.save(update_fields=["password"])
        return same


class SMSRequestSerializer(serializers.Serializer):
    """A number, and the answer to an image code. Names as the pages send them."""

    mobile = MobileField()
    text = ImageTextField()
    image_code_id = serializers.UUIDField(
        error_messages=dict.fromkeys(("required", "null", "invalid"), _("图形验证码错误或已过期。"))
    )


class UsernameSerializer(serializers.Serializer):
    username = TextField(max_length=150)


class MobileSerializer(serializers.Serializer):
    mobile = MobileField()


class ProfileSerializer(serializers.ModelSerializer):
    """Who is logged in. The mobile number is masked: a page that shows it whole shows it to others too."""

    mobile = serializers.SerializerMethodField()

    def get_mobile(self, user):
        return mask_mobile(user.mobile) or None

    class Meta:
        model = User
        fields = read_only_fields = ("id", "username", "mobile", "email", "email_active")

import secrets

from django.contrib.auth import authenticate
from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError as DjangoValidationError
from django.db import IntegrityError, transaction
from django.utils.translation import gettext_lazy as _
from rest_framework import serializers
from rest_framework.exceptions import ValidationError

from . import sms
from .fields import ImageTextField, MobileField, NewUsernameField, PasswordField, SMSCodeField, TextField
from .mobiles import validate_not_mobile
from .models import User


def require_sms_code(attrs):
    """Raise ValidationError unless `attrs` proves its mobile number. Nothing about the account may be told before."""
    if not sms.check_code(attrs["mobile"], attrs["sms_code"]):
        raise ValidationError({"sms_code": [_("短信验证码错误或已过期")]})


def use_up_sms_code(attrs):
    """Raise ValidationError if another call has used the code up meanwhile. The last step: mistakes cost no new SMS."""
    if not sms.use_up_code(attrs["mobile"]):
        raise ValidationError({"sms_code": [_("短信验证码错误或已过期")]})


def require_good_password(password):
    try:
        validate_password(password)
    except DjangoValidationError as exc:
        raise ValidationError({"password": exc.messages}) from None


class AccountSerializer(serializers.Serializer):
    """
    Whose account is this: mobile, password and SMS code in; `save()` returns the user, made where there was none.

    `validate` uses the SMS code up, so that `save()` may be called again after its transaction was rolled back.
    Whether a disabled or a staff account may go on is the caller's to decide.
    """

    mobile = MobileField()
    password = PasswordField()
    sms_code = SMSCodeField()

    def validate(self, attrs):
        require_sms_code(attrs)
        self.account = User.objects.filter(mobile=attrs["mobile"]).first()
        if self.account is None:
            require_good_password(attrs["password"])
        else:
            self.require_password_of(self.account, attrs["password"])
        use_up_sms_code(attrs)
        return attrs

    def save(self):
        """Return the account. Raises ValidationError if one was made on the number meanwhile, with another password."""
        if self.account is not None:
            return self.account
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
        if not account.check_password(password):
            raise ValidationError({"password": [_("手机号或密码不正确")]})


class RegistrationSerializer(serializers.Serializer):
    username = NewUsernameField(validators=[validate_not_mobile])
    password = PasswordField()
    password2 = TextField(error_messages=dict.fromkeys(("required", "null", "blank"), _("请再次输入密码")))
    mobile = MobileField()
    sms_code = SMSCodeField()
    allow = serializers.BooleanField(
        error_messages=dict.fromkeys(("required", "null", "invalid"), _("请阅读并同意用户协议"))
    )

    def validate_allow(self, allow):
        if not allow:
            raise ValidationError(_("请阅读并同意用户协议"))
        return allow

    def validate(self, attrs):
        if attrs["password"] != attrs["password2"]:
            raise ValidationError({"password2": [_("两次输入的密码不一致")]})
        require_sms_code(attrs)
        require_good_password(attrs["password"])
        self.require_free(attrs)
        use_up_sms_code(attrs)
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

    username = TextField(error_messages=dict.fromkeys(("required", "null", "blank"), _("请输入用户名或手机号")))
    password = TextField(error_messages=dict.fromkeys(("required", "null", "blank"), _("请输入密码")))

    def validate(self, attrs):
        refused = ValidationError(_("用户名或密码不正确"))
        if len(attrs["username"]) > 150 or len(attrs["password"]) > 128:  # no account has such; not worth a hash
            raise refused
        user = authenticate(self.context["request"], username=attrs["username"], password=attrs["password"])
        if user is None:
            raise refused
        return {"user": user}


class SMSRequestSerializer(serializers.Serializer):
    """A number, and the answer to an image code. Names as the pages send them."""

    mobile = MobileField()
    text = ImageTextField()
    image_code_id = serializers.UUIDField(
        error_messages=dict.fromkeys(("required", "null", "invalid"), _("图形验证码错误或已过期"))
    )


class UsernameSerializer(serializers.Serializer):
    username = TextField(max_length=150)


class MobileSerializer(serializers.Serializer):
    mobile = MobileField()


class ProfileSerializer(serializers.ModelSerializer):
    class Meta:
        model = User
        fields = read_only_fields = ("id", "username", "mobile", "email", "email_active")

"""Forms where an SMS code takes the place of the password. A shop chooses them by the settings that name them."""

from django.utils.translation import gettext_lazy as _
from rest_framework import serializers
from rest_framework.exceptions import ValidationError

from apps.oauth.account_lock import password_attempt

from .backends import get_account_key
from .fields import LONGEST_PASSWORD, SMSCodeField, TextField
from .proofs import prove_mobile
from .serializers import AccountSerializer

PASSWORD_MISSING = _("请输入密码。")


class MobileAccountSerializer(AccountSerializer):
    """For QQ_ACCOUNT_SERIALIZER: find or create the account of a mobile number by its SMS code alone.

    A new account has no usable password. Networks give old numbers to new people, who can then bind their QQ to the old
    account, as with any login by SMS.
    """

    password = None  # not a field of this form

    def validate(self, attrs):
        return super().validate({**attrs, "password": None})

    def require_good_new_password(self, mobile, password):
        """Do nothing: there is none."""

    def require_password_of(self, account, password):
        """Do nothing: the SMS code is the proof."""

    def has_changed(self, locked, account):
        return locked is None or locked.mobile != account.mobile


class ConfirmSerializer(serializers.Serializer):
    """For QQ_CONFIRM_SERIALIZER: the signed-in user's password, or an SMS code of the account's mobile number."""

    password = TextField(missing=PASSWORD_MISSING, required=False)
    sms_code = SMSCodeField(required=False)

    def validate(self, attrs):
        request = self.context["request"]
        if "sms_code" in attrs:
            if not request.user.mobile:
                raise ValidationError({"sms_code": [_("账号没有手机号，请用密码确认。")]})
            form = {"mobile": request.user.mobile, "sms_code": attrs["sms_code"]}
            # If the change fails because of an outage, the same user may send the same form again.
            prove_mobile(request, form, claimant=f"{request.user.pk} {self.context['attempt']}").redeem()
        elif "password" in attrs:
            with password_attempt(request, get_account_key(request.user)):
                if len(attrs["password"]) > LONGEST_PASSWORD or not request.user.check_password(attrs["password"]):
                    raise ValidationError({"password": [_("密码不正确。")]})
        else:
            raise ValidationError({"password": [PASSWORD_MISSING]})
        return attrs

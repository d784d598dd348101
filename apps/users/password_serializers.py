"""New passwords for accounts that exist."""

from django.db import transaction
from django.utils.translation import gettext_lazy as _
from rest_framework import serializers
from rest_framework.exceptions import AuthenticationFailed, ValidationError

from apps.oauth.account_lock import password_attempt, unlock
from apps.oauth.database import repeat_after_conflict

from .backends import find_account, get_account_key
from .fields import LONGEST_PASSWORD, MobileField, PasswordField, SMSCodeField, TextField
from .models import User
from .proofs import prove_mobile
from .serializers import require_good_password
from .signals import password_was_reset
from .tokens import LOGIN_ENDED


class PasswordResetSerializer(serializers.Serializer):
    """A new password, proved by an SMS code; `save()` returns the User. It ends all earlier logins."""

    mobile = MobileField()
    password = PasswordField()
    sms_code = SMSCodeField()

    def validate(self, attrs):
        proof = prove_mobile(self.context["request"], attrs)
        account = find_account(attrs["mobile"])
        require_good_password(attrs["password"], account or User(mobile=attrs["mobile"]))
        if account is None:
            raise ValidationError({"mobile": [_("该手机号还没有账号。请用 QQ 登录并绑定这个手机号，账号会自动创建。")]})
        if not account.is_active or account.is_staff or account.is_superuser:
            # An SMS can be intercepted, so it is too weak a proof for staff.
            raise ValidationError({"mobile": [_("该账号不能用短信重设密码，请联系客服。")]})
        return {**attrs, "account": account, "proof": proof}

    def save(self):
        account, proof = self.validated_data["account"], self.validated_data["proof"]

        def reset():
            with transaction.atomic():
                account.set_password(self.validated_data["password"])  # at each try: a save forgets the change
                account.save(update_fields=["password"])
                proof.redeem()
                password_was_reset.send(sender=User, request=self.context["request"], user=account)

        with proof.refunded_by_outage():
            repeat_after_conflict(reset)
        unlock(get_account_key(account))  # a stranger's wrong guesses must not keep the owner out
        return account


class PasswordChangeSerializer(serializers.Serializer):
    """The old password and a new one; `save()` returns the User. It ends all earlier logins."""

    old_password = TextField(missing=_("请输入原密码。"))
    password = PasswordField()

    def validate(self, attrs):
        request, old_password = self.context["request"], attrs["old_password"]
        with password_attempt(request, get_account_key(request.user)):
            if len(old_password) > LONGEST_PASSWORD or not request.user.check_password(old_password):
                raise ValidationError({"old_password": [_("原密码不正确。")]})
        require_good_password(attrs["password"], request.user)
        return attrs

    def save(self):
        """Return the User. Raises AuthenticationFailed if the password was changed meanwhile: the old one is void."""
        user = self.context["request"].user

        def change():
            with transaction.atomic():
                users = User.objects.filter(pk=user.pk, token_generation=user.token_generation)
                same = users.select_for_update().first()
                if same is None:
                    raise AuthenticationFailed(LOGIN_ENDED)
                same.set_password(self.validated_data["password"])
                same.save(update_fields=["password"])
            return same

        return repeat_after_conflict(change)

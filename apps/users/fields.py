"""The fields of the shop's forms. Each has one sentence for nothing given and one for a wrong shape."""

import re

from django.utils.translation import gettext_lazy as _
from rest_framework import serializers

from .mobiles import is_mobile
from .models import User


class TextField(serializers.CharField):
    """Text taken exactly as it was sent."""

    missing = _("请填写。")
    wrong = _("格式不正确。")

    def __init__(self, **kwargs):
        messages = dict.fromkeys(("required", "null", "blank"), self.missing) | {"invalid": self.wrong}
        messages |= kwargs.pop("error_messages", {})
        # Trimming would change a password, and makes text of lists and objects before it refuses them.
        super().__init__(trim_whitespace=False, error_messages=messages, **kwargs)

    def to_internal_value(self, data):
        if not isinstance(data, str):  # a number would pass for its digits
            self.fail("invalid")
        text = super().to_internal_value(data)
        # Surrogates (what is left of half a character) cannot be encoded, and databases cut text at NUL.
        if re.search("[\x00\ud800-\udfff]", text) or not self.has_right_shape(text):
            self.fail("invalid")
        return text

    def has_right_shape(self, text):
        return True


class MobileField(TextField):
    missing = _("请输入手机号。")
    wrong = _("手机号格式不正确。")

    def has_right_shape(self, text):
        return is_mobile(text)


class SMSCodeField(TextField):
    missing = _("请输入短信验证码。")
    wrong = _("短信验证码是 6 位数字。")

    def has_right_shape(self, text):
        return re.fullmatch("[0-9]{6}", text) is not None


class ImageTextField(TextField):
    missing = _("请输入图形验证码。")
    wrong = _("图形验证码错误或已过期。")

    def has_right_shape(self, text):
        return len(text) <= 16


class PasswordField(TextField):
    missing = _("请输入密码。")
    wrong = _("密码长度应为 8 到 128 个字符。")

    def has_right_shape(self, text):
        # The upper end keeps a megabyte of password from being hashed.
        return 8 <= len(text) <= 128


class NewUsernameField(TextField):
    missing = _("请输入用户名。")
    wrong = _("用户名应为 5 到 20 个字符，可以用文字、数字和 @ . + - _ 这些符号。")

    def to_internal_value(self, data):
        # Before the shape is judged: full-width digits become a mobile number here.
        return super().to_internal_value(User.normalize_username(data) if isinstance(data, str) else data)

    def has_right_shape(self, text):
        return re.fullmatch(r"[\w.@+-]{5,20}", text) is not None

"""The fields of the shop's forms. Each has a sentence for a missing value and one for a malformed value."""

import re

from django.utils.translation import gettext_lazy as _
from rest_framework import serializers

from .mobiles import MOBILE, is_mobile
from .models import User

SHORTEST_PASSWORD = 8
LONGEST_PASSWORD = 128  # characters: hashing a longer text would waste CPU time
LONGEST_IMAGE_TEXT = 16
SMS_CODE = "[0-9]{6}"
SHORTEST_USERNAME, LONGEST_NEW_USERNAME = 5, 20
IMAGE_CODE_WRONG = _("图形验证码错误或已过期。")


class TextField(serializers.CharField):
    """Text, stored exactly as it was sent. `limits` is what JSON Schema can say of is_well_formed."""

    limits = {"minLength": 1}
    missing = _("请填写。")
    malformed = _("格式不正确。")

    def __init__(self, missing=None, **kwargs):
        messages = dict.fromkeys(("required", "null", "blank"), missing or self.missing)
        # Trimming would change a password, and would turn lists and objects into text before they are refused.
        super().__init__(trim_whitespace=False, error_messages=messages | {"invalid": self.malformed}, **kwargs)

    def to_internal_value(self, data):
        if not isinstance(data, str):  # CharField would accept a number
            self.fail("invalid")
        text = super().to_internal_value(data)
        # Lone surrogates cannot be encoded, and some databases cut text at NUL.
        if re.search("[\x00\ud800-\udfff]", text) or not self.is_well_formed(text):
            self.fail("invalid")
        return text

    def is_well_formed(self, text):
        return True


class MobileField(TextField):
    limits = {"pattern": f"^{MOBILE.pattern}$"}
    missing = _("请输入手机号。")
    malformed = _("手机号格式不正确。")

    def is_well_formed(self, text):
        return is_mobile(text)


class SMSCodeField(TextField):
    limits = {"pattern": f"^{SMS_CODE}$"}
    missing = _("请输入短信验证码。")
    malformed = _("短信验证码是 6 位数字。")

    def is_well_formed(self, text):
        return re.fullmatch(SMS_CODE, text) is not None


class ImageTextField(TextField):
    limits = {"minLength": 1, "maxLength": LONGEST_IMAGE_TEXT}
    missing = _("请输入图形验证码。")
    malformed = IMAGE_CODE_WRONG

    def is_well_formed(self, text):
        return len(text) <= LONGEST_IMAGE_TEXT


class PasswordField(TextField):
    limits = {"minLength": SHORTEST_PASSWORD, "maxLength": LONGEST_PASSWORD}
    missing = _("请输入密码。")
    malformed = _("密码长度应为 8 到 128 个字符。")

    def is_well_formed(self, text):
        return SHORTEST_PASSWORD <= len(text) <= LONGEST_PASSWORD


class NewUsernameField(TextField):
    limits = {"minLength": SHORTEST_USERNAME, "maxLength": LONGEST_NEW_USERNAME}
    missing = _("请输入用户名。")
    malformed = _("用户名应为 5 到 20 个字符，可以用文字、数字和 @ . + - _ 这些符号。")

    def to_internal_value(self, data):
        # Normalised before it is validated: full-width digits become a mobile number here.
        return super().to_internal_value(User.normalize_username(data) if isinstance(data, str) else data)

    def is_well_formed(self, text):
        return re.fullmatch(rf"[\w.@+-]{{{SHORTEST_USERNAME},{LONGEST_NEW_USERNAME}}}", text) is not None

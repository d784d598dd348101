from django import forms
from django.contrib import admin
from django.contrib.admin.forms import AdminAuthenticationForm
from django.contrib.auth.admin import UserAdmin
from django.utils.translation import gettext_lazy as _

from apps.oauth.account_lock import password_attempt
from apps.oauth.ratelimit import RateLimited
from apps.oauth.redaction import mask_mobile

from .backends import find_account, get_account_key
from .limits import LOGIN_FAILED
from .models import User


@admin.register(User)
class ShopUserAdmin(UserAdmin):
    """Django's admin of users, with masked mobile numbers.

    It searches by username only: a number in the page's address would end up in access logs.
    """

    list_display = ("username", "masked_mobile", "is_active", "is_staff", "date_joined")
    search_fields = ("username",)
    readonly_fields = ("masked_mobile",)
    fieldsets = (
        *UserAdmin.fieldsets[:-1],
        (UserAdmin.fieldsets[-1][0], {"fields": ("date_joined",)}),  # without last_login, which the shop does not store
        (None, {"fields": ("masked_mobile", "email_active")}),
    )

    @admin.display(description=_("手机号"))
    def masked_mobile(self, user):
        return mask_mobile(user.mobile) or ""


class LimitedAuthenticationForm(AdminAuthenticationForm):
    """The admin's login form, with the limits of the shop's login: it must not allow endless guesses."""

    def clean(self):
        name = self.cleaned_data.get("username")
        if name is None or not self.cleaned_data.get("password"):
            return super().clean()
        account_key = get_account_key(find_account(name), name)
        try:
            with LOGIN_FAILED.count_failures(self.request), password_attempt(self.request, account_key):
                return super().clean()
        except RateLimited as exc:
            raise forms.ValidationError(exc.detail, code="throttled") from exc


admin.site.login_form = LimitedAuthenticationForm

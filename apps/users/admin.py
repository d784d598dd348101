from django import forms
from django.contrib import admin
from django.contrib.admin.forms import AdminAuthenticationForm
from django.contrib.auth.admin import UserAdmin
from django.utils.translation import gettext_lazy as _

from .backends import find_account
from .limits import LOGIN_FAILED, LimitReached, failures, lock_name, password_try
from .mobiles import mask_mobile
from .models import User


@admin.register(User)
class ShopUserAdmin(UserAdmin):
    """Django's, with the mobile number masked. Looked for by username: a number in the address would end up in logs."""

    list_display = ("username", "masked_mobile", "is_active", "is_staff", "date_joined")
    search_fields = ("username",)
    readonly_fields = ("masked_mobile",)
    fieldsets = (
        *UserAdmin.fieldsets[:-1],
        (UserAdmin.fieldsets[-1][0], {"fields": ("date_joined",)}),  # without the last login, which is not kept
        (None, {"fields": ("masked_mobile", "email_active")}),
    )

    @admin.display(description=_("手机号"))
    def masked_mobile(self, user):
        return mask_mobile(user.mobile)


class LimitedAuthenticationForm(AdminAuthenticationForm):
    """The admin's login, with the limits of the shop's: it must not be the door where one may guess for ever."""

    def clean(self):
        name = self.cleaned_data.get("username")
        if name is None or not self.cleaned_data.get("password"):
            return super().clean()
        try:
            with (
                failures(self.request, LOGIN_FAILED),
                password_try(self.request, lock_name(find_account(name), name)),
            ):
                return super().clean()
        except LimitReached as exc:
            raise forms.ValidationError(exc.detail, code="throttled") from exc


admin.site.login_form = LimitedAuthenticationForm

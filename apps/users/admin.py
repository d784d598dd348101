from django.contrib import admin
from django.contrib.auth.admin import UserAdmin
from django.utils.translation import gettext_lazy as _

from .mobiles import mask_mobile
from .models import User


@admin.register(User)
class ShopUserAdmin(UserAdmin):
    """Django's, with the mobile number masked. Looked for by username: a number in the address would end up in logs."""

    list_display = ("username", "masked_mobile", "is_active", "is_staff", "date_joined")
    search_fields = ("username",)
    readonly_fields = ("masked_mobile",)
    fieldsets = (*UserAdmin.fieldsets, (None, {"fields": ("masked_mobile", "email_active")}))

    @admin.display(description=_("手机号"))
    def masked_mobile(self, user):
        return mask_mobile(user.mobile)

from django.contrib import admin
from django.http import HttpRequest

from .models import OAuthQQUser
from .redaction import mask_mobiles, shorten_openid


@admin.register(OAuthQQUser)
class OAuthQQUserAdmin(admin.ModelAdmin):  # type: ignore[type-arg]  # Django's cannot be subscripted
    """Bindings are read-only here: only the users themselves can bind, by proving that they own both accounts."""

    list_display = fields = readonly_fields = ("short_openid", "masked_user", "masked_mobile", "create_time")
    list_select_related = ("user",)
    search_fields = ("=openid",)

    @admin.display(description="openid")
    def short_openid(self, binding: OAuthQQUser) -> str:
        return shorten_openid(binding.openid)

    @admin.display(description="用户")
    def masked_user(self, binding: OAuthQQUser) -> str:
        return mask_mobiles(str(binding.user))

    @admin.display(description="手机号")
    def masked_mobile(self, binding: OAuthQQUser) -> str:
        return mask_mobiles(getattr(binding.user, "mobile", None) or "-")

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: OAuthQQUser | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: OAuthQQUser | None = None) -> bool:
        # A user's own admin page asks this too: deleting a user deletes the bindings.
        match = request.resolver_match
        is_ours = match is None or (match.url_name or "").startswith(f"{self.opts.app_label}_{self.opts.model_name}_")
        return not is_ours and super().has_delete_permission(request, obj)

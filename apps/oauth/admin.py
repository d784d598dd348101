"""The support desk's page: find bindings and remove them. Nothing else can be changed here.

Only users can bind, by proving that they own both accounts.
"""

from collections.abc import Iterable
from typing import Any

from django.contrib import admin, messages
from django.contrib.admin.actions import delete_selected
from django.core.exceptions import PermissionDenied
from django.core.paginator import Paginator
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.utils.decorators import method_decorator
from django.utils.functional import cached_property
from django.utils.translation import gettext_lazy as _
from django.views.decorators.debug import sensitive_post_parameters, sensitive_variables

from .audit import hash_openid
from .binding import unbind
from .models import OAuthQQUser
from .redaction import MAX_REASON, clean_reason, shorten_openid
from .support import MAX_USERS, Found, SearchTimeout, find, mask_owner
from .user_lookup import with_users

SEARCH_SECONDS = 5  # of a scan for a hash: it slows down the logins of this process
STOPPED = "qq_bindings_stopped"  # in the session: where that scan stopped, by the hash
HIDDEN_IN_REPORTS = (sensitive_post_parameters(), sensitive_variables())
SHOWN = ("short_openid", "masked_user", "masked_mobile")
LISTED = 1000  # bindings on all pages: to count ten million takes MariaDB four seconds, and to skip them longer


class NewestOnly(Paginator):  # type: ignore[type-arg]  # Django's cannot be subscripted
    @cached_property
    def count(self) -> int:
        bindings: Any = self.object_list
        return int(bindings[:LISTED].count())


@admin.register(OAuthQQUser)
@method_decorator(HIDDEN_IN_REPORTS, "changelist_view")
@method_decorator(HIDDEN_IN_REPORTS, "delete_view")
class OAuthQQUserAdmin(admin.ModelAdmin):  # type: ignore[type-arg]  # Django's cannot be subscripted
    list_display = (*SHOWN, "create_time")
    fields = readonly_fields = (*list_display, "user_id", "log_hash")
    ordering, sortable_by = ("-pk",), ()
    paginator, show_full_result_count = NewestOnly, False
    actions = ("delete_selected",)
    actions_selection_counter = False  # it comes with a link that selects all bindings of the shop
    delete_confirmation_template = delete_selected_confirmation_template = "admin/oauth/oauthqquser/unbind.html"

    @admin.display(description="openid")
    def short_openid(self, binding: OAuthQQUser) -> str:
        return shorten_openid(binding.openid)

    @admin.display(description=_("用户"))
    def masked_user(self, binding: OAuthQQUser) -> str:
        return mask_owner(binding)[0]

    @admin.display(description=_("手机号"))
    def masked_mobile(self, binding: OAuthQQUser) -> str:
        return mask_owner(binding)[1]

    @admin.display(description=_("审计日志中的 openid"))
    def log_hash(self, binding: OAuthQQUser) -> str:
        return hash_openid(binding.openid)

    def get_queryset(self, request: HttpRequest) -> QuerySet[OAuthQQUser]:
        return with_users(super().get_queryset(request))

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: OAuthQQUser | None = None) -> bool:
        return False

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> Any:
        if "q" in request.POST:
            return self.search(request)
        title = _("找到的绑定") if "id__in" in request.GET else _("最新的绑定，最多 %d 条；更早的请搜索") % LISTED
        return super().changelist_view(request, {"title": title, **(extra_context or {})})

    def search(self, request: HttpRequest) -> HttpResponse:
        """Redirect to a list of what was found. By POST: numbers in an address would end up in access logs."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        text, problem, found = request.POST["q"].strip(), None, Found([], [])
        below = request.session.pop(STOPPED, {}).get(text)
        try:
            found = find(text, seconds=SEARCH_SECONDS, below=below)
        except SearchTimeout as exc:
            request.session[STOPPED] = {text: exc.last_pk}
            problem = _("编号不小于 %s 的绑定里没有。请再搜一次以继续，或改搜日志同一行的 user_id。") % exc.last_pk
        else:
            if len(found.user_ids) >= MAX_USERS:
                problem = _("匹配的账号太多，只查了 %d 个。") % MAX_USERS
            elif not found.bindings:
                problem = _("账号没有绑定 QQ。") if found.user_ids else _("没有找到。")
        if problem:
            self.message_user(request, problem, messages.WARNING)
        ids = ",".join(str(binding.pk) for binding in found.bindings)
        return HttpResponseRedirect(f"{request.path}?id__in={ids or 0}")

    def delete_view(self, request: HttpRequest, object_id: str, extra_context: Any = None) -> Any:
        if request.method == "POST" and not self.get_reason(request):
            return HttpResponseRedirect(request.get_full_path())
        return super().delete_view(request, object_id, extra_context)

    @admin.action(permissions=["delete"], description=_("解除所选的绑定"))
    def delete_selected(self, request: HttpRequest, queryset: QuerySet[OAuthQQUser]) -> Any:
        """Django's action, with a reason. It has the same name in order to replace it."""
        if "post" in request.POST and not self.get_reason(request):
            return None
        response = delete_selected(self, request, queryset)
        return response and self.confirm(response, queryset)

    def render_delete_form(self, request: HttpRequest, context: dict[str, Any]) -> Any:
        return self.confirm(super().render_delete_form(request, context), [context["object"]])

    def confirm(self, response: Any, bindings: Iterable[OAuthQQUser]) -> Any:
        """Add the bindings to Django's page that asks for confirmation."""
        rows = [[getattr(self, name)(binding) for name in SHOWN] + [binding.create_time] for binding in bindings]
        added = {"title": _("解除绑定"), "rows": rows, "max_reason": MAX_REASON}
        response.context_data = {"queryset": (), **response.context_data, **added}
        return response

    def get_reason(self, request: HttpRequest) -> str:
        """Return the reason. If there is none, show an error."""
        reason = clean_reason(request.POST.get("reason", ""))
        if not reason:
            self.message_user(request, _("没有解除：请填写原因。"), messages.ERROR)
        return reason

    def response_delete(self, request: HttpRequest, obj_display: str, obj_id: Any) -> HttpResponse:
        super().response_delete(request, obj_display, obj_id)  # adds the message
        return HttpResponseRedirect("../../")  # the list, which Django shows only to those who may change bindings

    def delete_model(self, request: HttpRequest, obj: OAuthQQUser) -> None:
        self.delete_queryset(request, OAuthQQUser.objects.filter(pk=obj.pk))

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[OAuthQQUser]) -> None:
        unbind(queryset, request.POST["reason"], request=request, staff_id=request.user.pk)

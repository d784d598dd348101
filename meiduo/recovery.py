"""What a password reset by SMS does to QQ logins, of which apps.users knows nothing."""

from django.conf import settings
from django.dispatch import receiver

from apps.oauth.audit import record
from apps.oauth.models import OAuthQQUser
from apps.users.signals import password_was_reset


@receiver(password_was_reset)
def unbind(sender, request, user, **kwargs):
    """Take every QQ off the account: a stranger who was in it may have left his. The owner binds his own again."""
    if settings.RESET_UNBINDS_QQ and OAuthQQUser.objects.filter(user_id=user.pk).delete()[0]:
        record(request, "unbind", user_id=user.pk, reason="password_reset")

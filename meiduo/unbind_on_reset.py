"""Unbind every QQ of an account when its password is reset by SMS. apps.users knows nothing about QQ."""

from django.conf import settings
from django.dispatch import receiver

from apps.oauth import binding
from apps.oauth.models import OAuthQQUser
from apps.users.signals import password_was_reset


@receiver(password_was_reset)
def unbind(sender, request, user, **kwargs):
    """Unbind every QQ: one may be a stranger's who had access to the account. The owner can bind theirs again."""
    if settings.RESET_UNBINDS_QQ:
        binding.unbind(OAuthQQUser.objects.filter(user_id=user.pk), "password_reset", request=request)

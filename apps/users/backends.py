from django.contrib.auth.backends import ModelBackend

from .mobiles import is_mobile
from .models import User


def find_account(name):
    """Return the account of a username or mobile number, or None."""
    return User.objects.filter(**{"mobile" if is_mobile(name) else "username": name}).first()


class MobileBackend(ModelBackend):
    """Log in by username or mobile number; a username never looks like a number, so the two cannot be mixed up."""

    def authenticate(self, request, username=None, password=None, **kwargs):
        if isinstance(username, str) and is_mobile(username):
            # An unknown number goes on as it is: the parent then hashes for nobody, which takes as long.
            username = User.objects.filter(mobile=username).values_list("username", flat=True).first() or username
        return super().authenticate(request, username=username, password=password, **kwargs)

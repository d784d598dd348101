import unicodedata

from django.contrib.auth.backends import ModelBackend

from .hashers import hash_by_the_others
from .mobiles import is_mobile
from .models import User


def find_account(name):
    """Return the account (User) of a username or mobile number (str), or None."""
    return User.objects.filter(**{"mobile" if is_mobile(name) else "username": name}).first()


def get_account_key(account, name=""):
    """Return the key (str) that wrong passwords are counted by: the same one for every name of an account (User).

    Without an account it is made from the name that was typed, so that an unknown name is locked like a known one.
    Accents, case, width and spaces are removed, because a database may find an account without them.
    """
    text = name if account is None else account.mobile or account.username
    letters = (char for char in unicodedata.normalize("NFKD", text) if not unicodedata.combining(char))
    return "".join(letters).casefold().strip()


class MobileBackend(ModelBackend):
    """Log in by username or mobile number. A username never looks like a number, so each name means one account."""

    def authenticate(self, request, username=None, password=None, **kwargs):
        if username is None or password is None:
            return None
        account = find_account(username)
        encoded = "" if account is None else account.password
        if account is None:
            User().set_password(password)  # takes as long as a check
        elif account.check_password(password) and self.user_can_authenticate(account):
            return account
        hash_by_the_others(password, encoded)
        return None

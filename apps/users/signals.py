from django.dispatch import Signal

# `request` and `user`, in the transaction of the new password: the owner has the account back by an SMS code, and
# whoever else was in it is to go.
password_was_reset = Signal()

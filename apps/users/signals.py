from django.dispatch import Signal

# Carries `request` and `user`. Sent inside the transaction that stores the new password: the owner has recovered the
# account by SMS code, and a receiver removes every other way into it.
password_was_reset = Signal()

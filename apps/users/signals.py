from django.dispatch import Signal

# `request` and `user`: the owner has the account back by an SMS code, and whoever was in it is to go. In the transaction
# of the new password.
password_was_reset = Signal()

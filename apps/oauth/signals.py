"""Signals for the shop.

The first two carry `request`, `user` and `response`, which is not sent yet. qq_bound is sent at most once: if the
process dies between the commit and the answer, the repeated form sends only qq_logged_in.
"""

from django.dispatch import Signal

qq_logged_in = Signal()  # every login by QQ, the one that ends a bind too: merge the cart here
qq_bound = Signal()  # an openid was bound to the account; qq_logged_in follows

# A binding was removed, and that is committed: by the admin, by `manage.py qq_bindings`, or by the shop's own call of
# binding.unbind(). Carries `request` (None from a command), `user` (None if the account is gone), `openid` and
# `reason`. A receiver that fails is logged. Not sent when the account itself is deleted: Django's post_delete is.
qq_unbound = Signal()

# Every event of the audit log: `request` (None from a command), `event` (its name) and `fields` (its other fields).
# Sender: None.
qq_audited = Signal()

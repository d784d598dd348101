"""Signals for the shop.

The first two carry `request`, `user` and `response`, which is not sent yet. qq_bound is sent at most once: if the
process dies between the commit and the answer, the repeated form sends only qq_logged_in.
"""

from django.dispatch import Signal

qq_logged_in = Signal()  # every login by QQ, the one that ends a bind too: merge the cart here
qq_bound = Signal()  # an openid was bound to the account; qq_logged_in follows

# Every event of the audit log: `request`, `event` (its name) and `fields` (its other fields). Sender: None.
qq_audited = Signal()

"""Prove a mobile number by the SMS code of a form."""

import secrets
from contextlib import contextmanager
from dataclasses import dataclass

from django.db import Error
from django.utils.translation import gettext_lazy as _
from rest_framework.exceptions import ValidationError

from apps.oauth.database import is_outage
from apps.oauth.errors import CacheUnavailable

from . import sms
from .limits import SMS_CHECK_FAILED


@dataclass(frozen=True)
class Proof:
    """A correct SMS code, valid until it is redeemed. Forms redeem it last, so that a mistake costs no new SMS."""

    code_id: str
    claimant: str

    def redeem(self):
        """Use the code up. Raises ValidationError if another form has used it meanwhile."""
        if not sms.claim_code(self.code_id, self.claimant):
            raise make_sms_code_error()

    @contextmanager
    def refunded_by_outage(self):
        """Give the code back if the block fails because of the database, as in its commit, or of the cache.

        The commit may have been carried out: then the same person can use the code once more.
        """
        try:
            yield
        except (Error, CacheUnavailable) as exc:  # the cache may have stored the claim and answered too late
            if not isinstance(exc, Error) or is_outage(exc):
                sms.release_code(self.code_id, self.claimant)
            raise


def prove_mobile(request, form, claimant=None):
    """Return the Proof of a form (dict) with `mobile` and `sms_code`. The same claimant (str) may redeem a code again.

    A form reveals nothing about an account before this call. Raises ValidationError and RateLimited.
    """
    claimant = claimant or secrets.token_hex(8)
    with SMS_CHECK_FAILED.count_failures(request):
        code_id = sms.find_code(form["mobile"], form["sms_code"], claimant)
        if code_id is None:
            raise make_sms_code_error()
    return Proof(code_id, claimant)


def make_sms_code_error():
    return ValidationError({"sms_code": [_("短信验证码错误或已过期。")]})

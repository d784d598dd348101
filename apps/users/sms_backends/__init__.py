"""SMS back ends for two vendors: `apps.users.sms_backends.tencent.send` and `apps.users.sms_backends.aliyun.send`.

A vendor's SDK builds and signs the call and reads the answer. The call itself is made here, because the SDKs' own HTTP
takes proxies from the environment, follows redirects with the message, has time-outs per read only, and logs numbers,
codes and keys at DEBUG.

A back end imports its SDK when it is imported, which the system checks do at the start: a missing package shows before
a user waits for a code, and no user waits for the import.
"""

import functools
import logging
import re

from django.conf import settings

from apps.oauth.qq.resilience import Deadline
from apps.oauth.qq.transport import ConnectionPool
from apps.users.sms import SMSError

TIMEOUT = 4.0  # seconds for the whole call, with the name look-up and the TLS handshake
MAX_ANSWER = 16 * 1024  # bytes; an answer has less than one KiB

ERROR_CODE = re.compile(r"[A-Za-z][A-Za-z.:_-]{0,99}")  # no digits: it cannot be a number, a code or a key

logger = logging.getLogger(__name__)


def get_api_url(vendors_own):
    """Return the URL of the vendor's API, or of the server that plays it in a test."""
    return settings.SMS_API_URL or vendors_own


def post(url, target, headers, content):
    """POST the content once, straight to the server; return the status and the raw body. Raises TransportError."""
    pool = _get_pool(url)
    try:
        return pool.post(target, {**headers, "Connection": "close"}, content, MAX_ANSWER, Deadline(TIMEOUT))
    finally:
        pool.close()  # messages are too rare for kept connections


@functools.cache  # creating a pool reads the trust store
def _get_pool(url):
    return ConnectionPool(url)


def report_failure(vendor, reason):
    """Log why the vendor has not accepted a message; return the error to raise. The reason must hold no secret."""
    logger.warning("%s has not accepted an SMS: %s", vendor, reason)
    return SMSError(reason)


def clean_error_code(code):
    """Return the vendor's error code, as in LimitExceeded.PhoneNumberDailyLimit."""
    return code if isinstance(code, str) and ERROR_CODE.fullmatch(code) else "the answer cannot be read"

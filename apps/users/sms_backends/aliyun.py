"""Sends SMS codes through Aliyun (Alibaba Cloud): the call SendSms of 2017-05-25.

https://help.aliyun.com/zh/sms/developer-reference/api-dysmsapi-2017-05-25-sendsms
"""

import json
import logging
from datetime import datetime, timezone
from hashlib import sha256
from urllib.parse import urlencode, urlsplit
from uuid import uuid4

from alibabacloud_dysmsapi20170525.client import Client
from alibabacloud_dysmsapi20170525.models import SendSmsRequest
from alibabacloud_tea_openapi.utils import Utils
from alibabacloud_tea_openapi.utils_models import Config
from darabonba.request import DaraRequest
from darabonba.runtime import RuntimeOptions
from django.conf import settings

from apps.oauth.qq.transport import TransportError

from . import clean_error_code, get_api_url, post, report_failure

URL = "https://dysmsapi.aliyuncs.com"
ALGORITHM = "ACS3-HMAC-SHA256"
HASH_OF_NO_BODY = sha256(b"").hexdigest()

# Importing the SDK makes these loggers write to stderr at DEBUG, past the shop's own filter for secrets.
for sdk_logger in map(logging.getLogger, ("alibabacloud-tea", "credentials", "darabonba-core")):
    sdk_logger.handlers.clear()
    sdk_logger.setLevel(logging.NOTSET)


def send(mobile, code, minutes):
    """Send the code in a template whose text has ${code} and ${minutes}. Raises SMSError."""
    keys = {"access_key_id": settings.SMS_ALIYUN_KEY_ID, "access_key_secret": settings.SMS_ALIYUN_KEY_SECRET}
    request = SendSmsRequest(
        phone_numbers=mobile,
        sign_name=settings.SMS_ALIYUN_SIGN,
        template_code=settings.SMS_ALIYUN_TEMPLATE,
        template_param=json.dumps({"code": code, "minutes": str(minutes)}),
    )
    client = BoundedClient(Config(**keys, endpoint=urlsplit(URL).netloc))
    try:
        answer = client.send_sms_with_options(request, RuntimeOptions())
    except TransportError as exc:
        raise report_failure("Aliyun", str(exc)) from None
    except (ValueError, RecursionError) as exc:  # what json.loads raises
        raise report_failure("Aliyun", type(exc).__name__) from None
    # A refusal of the number comes with status 200, one of the call with another.
    result = answer.body and answer.body.code
    if (answer.status_code, result) != (200, "OK"):
        raise report_failure("Aliyun", clean_error_code(result))


class BoundedClient(Client):
    """The SDK's client with our transport."""

    def call_api(self, params, request, runtime):
        """Sign and make a call; return what the SDK's own method returns. Its options for retries have no effect."""
        url = get_api_url(URL)
        signed = DaraRequest()
        signed.method, signed.pathname, signed.query = params.method, params.pathname, request.query
        signed.headers = {
            "host": urlsplit(url).netloc,
            "x-acs-action": params.action,
            "x-acs-version": params.version,
            "x-acs-date": datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "x-acs-signature-nonce": uuid4().hex,
            "x-acs-content-sha256": HASH_OF_NO_BODY,
        }
        keys = settings.SMS_ALIYUN_KEY_ID, settings.SMS_ALIYUN_KEY_SECRET
        authorization = Utils.get_authorization(signed, ALGORITHM, HASH_OF_NO_BODY, *keys)
        headers = {name: value for name, value in signed.headers.items() if name != "host"}
        target = f"{signed.pathname}?{urlencode(signed.query)}"
        status, body = post(url, target, headers | {"Authorization": authorization}, b"")
        return {"statusCode": status, "body": json.loads(body)}

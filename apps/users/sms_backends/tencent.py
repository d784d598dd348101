"""Sends SMS codes through Tencent Cloud: the call SendSms of 2021-01-11.

https://cloud.tencent.com/document/product/382/55981
"""

import logging
from types import SimpleNamespace
from urllib.parse import urlsplit

from django.conf import settings
from tencentcloud.common.credential import Credential
from tencentcloud.common.exception import TencentCloudSDKException
from tencentcloud.common.profile.client_profile import ClientProfile
from tencentcloud.common.profile.http_profile import HttpProfile
from tencentcloud.sms.v20210111.models import SendSmsRequest
from tencentcloud.sms.v20210111.sms_client import SmsClient

from apps.oauth.qq.transport import TransportError

from . import clean_error_code, get_api_url, post, report_failure

URL = "https://sms.tencentcloudapi.com"

# At DEBUG the SDK logs each answer, which has the number. A filter works whatever the logger's level.
logging.getLogger("tencentcloud_sdk_common").addFilter(lambda record: False)


def send(mobile, code, minutes):
    """Send the code in a template whose text has {1} for the code and {2} for its minutes. Raises SMSError."""
    url = get_api_url(URL)
    # No retryer: the SDK's StandardRetryer sends the message again after a time-out.
    client = SmsClient(
        Credential(settings.SMS_TENCENT_SECRET_ID, settings.SMS_TENCENT_SECRET_KEY),
        settings.SMS_TENCENT_REGION,
        ClientProfile(httpProfile=HttpProfile(endpoint=urlsplit(url).netloc)),
    )
    client.request = Transport(url)
    request = SendSmsRequest()
    request.PhoneNumberSet = [f"+86{mobile}"]
    request.SmsSdkAppId = settings.SMS_TENCENT_APP_ID
    request.SignName = settings.SMS_TENCENT_SIGN
    request.TemplateId = settings.SMS_TENCENT_TEMPLATE
    request.TemplateParamSet = [code, str(minutes)]
    try:
        answer = client.SendSms(request)
    except CallFailed as exc:
        raise report_failure("Tencent Cloud", exc.message) from None
    except TencentCloudSDKException as exc:
        raise report_failure("Tencent Cloud", clean_error_code(exc.code)) from None
    # One status per number: a refusal of the only number is an answer like any other.
    results = [status.Code for status in answer.SendStatusSet or ()]
    if results != ["Ok"]:
        raise report_failure("Tencent Cloud", clean_error_code(results[0] if results else None))


class CallFailed(TencentCloudSDKException):
    """The transport's own error, in a class that the SDK lets through."""


class Transport:
    """Takes the place of the SDK's ApiRequest."""

    def __init__(self, url):
        self.url = url

    def send_request(self, request):
        headers = {name: value for name, value in request.header.items() if name != "Host"}
        try:
            status, body = post(self.url, request.uri, headers, request.data.encode())
        except TransportError as exc:
            raise CallFailed(message=str(exc)) from None
        # Errors with any other type, even with a charset, would pass the SDK as an answer without a status.
        return SimpleNamespace(status_code=status, headers={"Content-Type": "application/json"}, content=body)

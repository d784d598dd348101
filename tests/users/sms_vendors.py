"""Servers that play the SMS APIs of Tencent Cloud and Aliyun over real sockets. They verify each signature themselves.

Their answers repeat the number, as the vendors' do.
"""

import hashlib
import hmac
import json
import ssl
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, quote, urlsplit

NUMBER = "13812345678"
SIGN, TEMPLATE, KEY_ID, KEY = "美多商城", "SMS_154950909", "LTAIz8krbsJyKBZQpnWFk", "GuxtxGARNpqcdhjoQYCNw"


class Tencent:
    """SendSms of 2021-01-11 (https://cloud.tencent.com/document/product/382/55981), signed by TC3-HMAC-SHA256."""

    backend = "apps.users.sms_backends.tencent.send"
    settings = {
        "SMS_TENCENT_SECRET_ID": KEY_ID,
        "SMS_TENCENT_SECRET_KEY": KEY,
        "SMS_TENCENT_APP_ID": "1400006666",
        "SMS_TENCENT_SIGN": SIGN,
        "SMS_TENCENT_TEMPLATE": TEMPLATE,
        "SMS_TENCENT_REGION": "ap-beijing",
    }

    def read(self, target, headers, body):
        """Return number, code and minutes of a message, or None if its signature is wrong."""
        stamp = headers["X-TC-Timestamp"]
        date = time.strftime("%Y-%m-%d", time.gmtime(int(stamp)))
        signed = f"content-type:{headers['Content-Type']}\nhost:{headers['Host']}\n"
        request = "\n".join(["POST", target, "", signed, "content-type;host", sha256(body)])
        scope = f"{date}/sms/tc3_request"
        key = mac(mac(mac(f"TC3{KEY}".encode(), date), "sms"), "tc3_request")
        signature = mac(key, f"TC3-HMAC-SHA256\n{stamp}\n{scope}\n{sha256(request.encode())}").hex()
        credential = f"Credential={KEY_ID}/{scope}, SignedHeaders=content-type;host, Signature={signature}"
        if headers["Authorization"] != f"TC3-HMAC-SHA256 {credential}":
            return None
        assert [headers[f"X-TC-{name}"] for name in ("Action", "Version", "Region")] == CALL_OF_TENCENT
        form = json.loads(body)
        (number,), (code, minutes) = form.pop("PhoneNumberSet"), form.pop("TemplateParamSet")
        assert form == {"SmsSdkAppId": "1400006666", "SignName": SIGN, "TemplateId": TEMPLATE}
        return number.removeprefix("+86"), code, minutes

    def result(self, code):
        """The answer to a message, with status 200."""
        status = {"SerialNo": "2028:f825", "PhoneNumber": f"+86{NUMBER}", "Fee": 1, "SessionContext": ""}
        status |= {"Code": code, "Message": f"{code} {NUMBER}", "IsoCode": "CN"}
        return 200, "application/json", json.dumps({"Response": {"SendStatusSet": [status], "RequestId": "a0aa"}})

    def failure(self, code, content_type="application/json"):
        """The answer to a call that is refused as a whole."""
        error = {"Code": code, "Message": f"{code} {NUMBER} {KEY_ID}"}
        return 200, content_type, json.dumps({"Response": {"Error": error, "RequestId": "a0aa"}})

    accepted, refused = "Ok", "LimitExceeded.PhoneNumberDailyLimit"


CALL_OF_TENCENT = ["SendSms", "2021-01-11", "ap-beijing"]


class Aliyun:
    """SendSms of 2017-05-25 (https://help.aliyun.com/zh/sms/developer-reference/api-dysmsapi-2017-05-25-sendsms)."""

    backend = "apps.users.sms_backends.aliyun.send"
    settings = {
        "SMS_ALIYUN_KEY_ID": KEY_ID,
        "SMS_ALIYUN_KEY_SECRET": KEY,
        "SMS_ALIYUN_SIGN": SIGN,
        "SMS_ALIYUN_TEMPLATE": TEMPLATE,
    }

    def read(self, target, headers, body):
        """Return number, code and minutes of a message, or None if its ACS3-HMAC-SHA256 signature is wrong."""
        parts = urlsplit(target)
        query = dict(parse_qsl(parts.query, strict_parsing=True))
        canonical = "&".join(f"{name}={quote(value, safe='~')}" for name, value in sorted(query.items()))
        fields = {name.lower(): value for name, value in headers.items()}
        names = sorted(name for name in fields if name == "host" or name.startswith("x-acs-"))
        signed = "".join(f"{name}:{fields[name]}\n" for name in names)
        request = "\n".join(["POST", parts.path, canonical, signed, ";".join(names), sha256(body)])
        signature = mac(KEY.encode(), f"ACS3-HMAC-SHA256\n{sha256(request.encode())}").hex()
        credential = f"Credential={KEY_ID},SignedHeaders={';'.join(names)},Signature={signature}"
        if headers["Authorization"] != f"ACS3-HMAC-SHA256 {credential}":
            return None
        assert (fields["x-acs-action"], fields["x-acs-version"]) == ("SendSms", "2017-05-25")
        assert fields["x-acs-content-sha256"] == sha256(body)
        number, params = query.pop("PhoneNumbers"), json.loads(query.pop("TemplateParam"))
        assert query == {"SignName": SIGN, "TemplateCode": TEMPLATE}
        return number, params["code"], params["minutes"]

    def result(self, code):
        """The answer to a message, with status 200."""
        answer = {"Code": code, "Message": f"{code} {NUMBER}", "RequestId": "F655", "BizId": "9006"}
        return 200, "application/json;charset=utf-8", json.dumps(answer)

    def failure(self, code, content_type="application/json;charset=utf-8"):
        """The answer to a call that is refused as a whole."""
        answer = {"Code": code, "Message": f"{code} {NUMBER} {KEY_ID}", "RequestId": "F655", "HostId": "dysmsapi"}
        return 400, content_type, json.dumps(answer)

    accepted, refused = "OK", "isv.BUSINESS_LIMIT_CONTROL"


@contextmanager
def serving(vendor, certificate=None):
    """Run the vendor's API. It gets `url`, the `messages` that it accepted, and the `targets` of all requests.

    `answers` are what it answers to the next requests instead of its verdict: status, content type and body.
    """
    vendor.messages, vendor.targets, vendor.answers = [], [], []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            vendor.targets.append(self.path)
            message = vendor.read(self.path, self.headers, body)
            if message:
                vendor.messages.append(message)
            verdict = vendor.result(vendor.accepted) if message else vendor.failure("SignatureDoesNotMatch")
            status, content_type, text = vendor.answers.pop(0) if vendor.answers else verdict
            self.send_response(status)
            self.send_header("Content-Type", content_type)
            self.send_header("Location", "/again")  # for the statuses that redirect
            self.send_header("Content-Length", str(len(text.encode())))
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *args):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            certificate.configure_cert(context)
            server.socket = context.wrap_socket(server.socket, server_side=True)
        vendor.url = f"http{'s' if certificate else ''}://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield vendor
        finally:
            server.shutdown()
            thread.join()


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def mac(key, text):
    return hmac.new(key, text.encode(), hashlib.sha256).digest()

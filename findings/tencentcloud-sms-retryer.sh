#!/bin/bash
# tencentcloud-sdk-python-sms 3.1.153 with tencentcloud-sdk-python-common 3.1.195: a client with StandardRetryer.
#
# The retryer never forgets the first error. If the first request is limited and the second succeeds, it throws the
# success away, sends the message again until max_attempts, and raises the first error. One call can thus send, and
# cost, two messages and still fail. The server below limits the first request and sends a message for each later one.
#
# Seen:
#   max_attempts=2: 2 requests, 1 messages, result: RequestLimitExceeded
#   max_attempts=3: 3 requests, 2 messages, result: RequestLimitExceeded
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
    tencentcloud-sdk-python-sms==3.1.153 tencentcloud-sdk-python-common==3.1.195

cat > "$folder/try.py" <<'PYTHON'
import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

from tencentcloud.common.credential import Credential
from tencentcloud.common.exception import TencentCloudSDKException
from tencentcloud.common.profile.client_profile import ClientProfile
from tencentcloud.common.profile.http_profile import HttpProfile
from tencentcloud.common.retry import StandardRetryer
from tencentcloud.sms.v20210111.models import SendSmsRequest
from tencentcloud.sms.v20210111.sms_client import SmsClient

LIMITED = {"Error": {"Code": "RequestLimitExceeded", "Message": "too many"}, "RequestId": "1"}
SENT = {"SendStatusSet": [{"Code": "Ok"}], "RequestId": "2"}


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        answers.append(SENT if answers else LIMITED)
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(json.dumps({"Response": answers[-1]}).encode())


server = HTTPServer(("127.0.0.1", 0), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
http = HttpProfile(protocol="http", endpoint=f"127.0.0.1:{server.server_port}")
for attempts in 2, 3:
    answers = []
    profile = ClientProfile(None, http, retryer=StandardRetryer(attempts, backoff_fn=lambda _: 0))
    try:
        result = SmsClient(Credential("id", "key"), "", profile).SendSms(SendSmsRequest())
    except TencentCloudSDKException as error:
        result = error.code
    print(f"max_attempts={attempts}: {len(answers)} requests, {answers.count(SENT)} messages, result: {result}")
PYTHON

seen=$(env -u http_proxy -u HTTP_PROXY "$folder/venv/bin/python" "$folder/try.py" 2> "$folder/log")
echo "$seen"
diff <(sed -n 's/^#   //p' "$0") <(echo "$seen")

#!/bin/bash
# tencentcloud-sdk-python-sms 3.1.153 with tencentcloud-sdk-python-common 3.1.195, against a local server that refuses.
#
# The API reports a refusal in the body of a 200, as {"Response": {"Error": …}}. The SDK looks for it only if
# Content-Type is exactly "application/json" or "text/plain". With "; charset=utf-8" behind it, which a proxy or gateway
# may add, the JSON is still read, but SendSms() returns a response, as if nothing had been refused. Only its
# SendStatusSet is None instead of a list.
#
# Seen (the same body each time):
#   application/json: raises AuthFailure
#   application/json; charset=utf-8: returns {"SendStatusSet": null, "RequestId": "1"}
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
from tencentcloud.sms.v20210111.models import SendSmsRequest
from tencentcloud.sms.v20210111.sms_client import SmsClient

REFUSAL = {"Error": {"Code": "AuthFailure", "Message": "no"}, "RequestId": "1"}


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Type", content_type)
        self.end_headers()
        self.wfile.write(json.dumps({"Response": REFUSAL}).encode())


server = HTTPServer(("127.0.0.1", 0), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
profile = ClientProfile(httpProfile=HttpProfile(protocol="http", endpoint=f"127.0.0.1:{server.server_port}"))
for content_type in "application/json", "application/json; charset=utf-8":
    try:
        response = SmsClient(Credential("id", "key"), "", profile).SendSms(SendSmsRequest())
        print(f"{content_type}: returns {response.to_json_string()}")
    except TencentCloudSDKException as error:
        print(f"{content_type}: raises {error.code}")
PYTHON

seen=$(env -u http_proxy -u HTTP_PROXY "$folder/venv/bin/python" "$folder/try.py" 2> "$folder/log")
echo "$seen"
diff <(sed -n 's/^#   //p' "$0") <(echo "$seen")

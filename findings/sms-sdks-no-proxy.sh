#!/bin/bash
# tencentcloud-sdk-python-sms 3.1.153 (with -common 3.1.195) and alibabacloud-dysmsapi20170525 4.6.0 (with
# darabonba-core 1.0.9), where the environment names a proxy and NO_PROXY excepts the endpoint.
#
# Both send through the proxy all the same. Tencent's wants the whole endpoint in NO_PROXY: a parent domain or a host
# without its port does not count. Aliyun's ignores NO_PROXY and its own option no_proxy. requests obeys.
#
# Seen (who gets the request):
#   requests: the endpoint
#   Tencent: the proxy
#   Aliyun: the proxy
#   Aliyun with no_proxy: the proxy
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
    tencentcloud-sdk-python-sms==3.1.153 tencentcloud-sdk-python-common==3.1.195 \
    alibabacloud-dysmsapi20170525==4.6.0 darabonba-core==1.0.9 requests==2.34.2

cat > "$folder/try.py" <<'PYTHON'
import os, threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import requests
from alibabacloud_dysmsapi20170525 import client as aliyun, models as aliyun_models
from alibabacloud_tea_openapi.utils_models import Config
from darabonba.runtime import RuntimeOptions
from tencentcloud.common.credential import Credential
from tencentcloud.common.profile.client_profile import ClientProfile
from tencentcloud.common.profile.http_profile import HttpProfile
from tencentcloud.sms.v20210111 import models, sms_client


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        seen.append("the proxy" if self.path.startswith("http://") else "the endpoint")
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b'{"Code": "OK", "Response": {}}')


seen, server = [], HTTPServer(("127.0.0.1", 0), Handler)  # it plays both
threading.Thread(target=server.serve_forever, daemon=True).start()
host = f"127.0.0.1:{server.server_port}"
os.environ |= {"HTTP_PROXY": f"http://{host}", "NO_PROXY": "127.0.0.1"}
http = ClientProfile(httpProfile=HttpProfile(protocol="http", endpoint=host))
config = Config(access_key_id="id", access_key_secret="key", protocol="HTTP", endpoint=host)
requests.post(f"http://{host}/")
sms_client.SmsClient(Credential("id", "key"), "", http).SendSms(models.SendSmsRequest())
for options in RuntimeOptions(), RuntimeOptions(no_proxy="127.0.0.1"):
    aliyun.Client(config).send_sms_with_options(aliyun_models.SendSmsRequest(), options)
for name, receiver in zip(("requests", "Tencent", "Aliyun", "Aliyun with no_proxy"), seen, strict=True):
    print(f"{name}: {receiver}")
PYTHON

seen=$(env -u http_proxy -u no_proxy "$folder/venv/bin/python" "$folder/try.py" 2> "$folder/log")
echo "$seen"
diff <(sed -n 's/^#   //p' "$0") <(echo "$seen")

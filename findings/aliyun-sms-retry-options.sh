#!/bin/bash
# alibabacloud-dysmsapi20170525 4.6.0 with alibabacloud-tea-openapi 0.4.6 and darabonba-core 1.0.9, against a local
# server that answers 503.
#
# The options of a call, RuntimeOptions, have `autoretry`, `max_attempts` and `retry_options`. All three are accepted
# and do nothing: one request is sent. Only `retry_options` of the client's Config has an effect.
#
# Seen (each asks for three attempts):
#   RuntimeOptions(autoretry, max_attempts): 1 requests, ServerException
#   RuntimeOptions(retry_options): 1 requests, ServerException
#   Config(retry_options): 3 requests, ServerException
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
    alibabacloud-dysmsapi20170525==4.6.0 alibabacloud-tea-openapi==0.4.6 darabonba-core==1.0.9

cat > "$folder/try.py" <<'PYTHON'
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

from alibabacloud_dysmsapi20170525.client import Client
from alibabacloud_dysmsapi20170525.models import SendSmsRequest
from alibabacloud_tea_openapi.exceptions import ServerException
from alibabacloud_tea_openapi.utils_models import Config
from darabonba.policy.retry import RetryOptions
from darabonba.runtime import RuntimeOptions


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        requests.append(self.path)
        self.send_response(503)
        self.end_headers()
        self.wfile.write(b'{"Code": "ServiceUnavailable", "Message": "busy"}')


def send(name, runtime, **options):
    requests.clear()
    config = Config(access_key_id="id", access_key_secret="key", protocol="HTTP", endpoint=endpoint, **options)
    try:
        result = Client(config).send_sms_with_options(SendSmsRequest(), runtime)
    except ServerException as error:
        result = type(error).__name__
    print(f"{name}: {len(requests)} requests, {result}")


requests, server = [], HTTPServer(("127.0.0.1", 0), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
endpoint = f"127.0.0.1:{server.server_port}"
three = RetryOptions({"retryCondition": [{"maxAttempts": 3, "errorCode": ["ServiceUnavailable"]}]})
send("RuntimeOptions(autoretry, max_attempts)", RuntimeOptions(autoretry=True, max_attempts=3))
send("RuntimeOptions(retry_options)", RuntimeOptions(retry_options=three))
send("Config(retry_options)", RuntimeOptions(), retry_options=three)
PYTHON

seen=$(env -u http_proxy -u HTTP_PROXY "$folder/venv/bin/python" "$folder/try.py" 2> "$folder/log")
echo "$seen"
diff <(sed -n 's/^#   //p' "$0") <(echo "$seen")

#!/bin/bash
# WhiteNoise 6.12.0: how it answers conditional requests for a file that has not changed, or has.
#
# If-None-Match counts only if it is the ETag byte for byte. A weak one (W/"…"), which a proxy makes of the ETag when it
# compresses (nginx's gzip does), a list and * all get the whole file instead of 304. If-Range is not read: a client
# that goes on with a download after the file has changed gets 206, and joins the new part to the old one, instead of
# 200.
#
# Seen:
#   If-None-Match: ETAG: 304
#   If-None-Match: W/ETAG: 200
#   If-None-Match: "other", ETAG: 200
#   If-None-Match: *: 200
#   Range: bytes=9-, If-Range: ETAG: 206
#   Range: bytes=9-, If-Range: "other": 206
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check whitenoise==6.12.0

cat > "$folder/try.py" <<'PYTHON'
import pathlib
import sys

from whitenoise import WhiteNoise

pathlib.Path("static").mkdir()
pathlib.Path("static/shop.css").write_text("a { color: red }")
app = WhiteNoise(None, root="static")


def get(headers):
    answer = []
    environ = {f"HTTP_{name.upper().replace('-', '_')}": value for name, value in headers.items()}
    app({"REQUEST_METHOD": "GET", "PATH_INFO": "/shop.css", **environ}, lambda *parts: answer.extend(parts))
    return answer[0][:3], dict(answer[1])  # status, headers


etag = get({})[1]["ETag"]
requests = [{"If-None-Match": value} for value in ("ETAG", "W/ETAG", '"other", ETAG', "*")]
requests += [{"Range": "bytes=9-", "If-Range": value} for value in ("ETAG", '"other"')]
for headers in requests:
    status, _ = get({name: value.replace("ETAG", etag) for name, value in headers.items()})
    print(", ".join(f"{name}: {value}" for name, value in headers.items()) + f": {status}")
PYTHON

script=$(realpath "$0")
seen=$(cd "$folder" && venv/bin/python try.py)
echo "$seen"
diff <(sed -n 's/^#   //p' "$script") <(echo "$seen")

"""Stand-ins for a phone and for eyes on a developer's machine: SMS and image codes become lines of a file."""

import json
import os
from datetime import datetime, timezone

from django.conf import settings


def append_line(path: str, **fields: str) -> None:
    """Append the fields and the UTC time (ISO 8601) as one JSON object to a file that only its owner can read."""
    line = json.dumps({**fields, "time": datetime.now(timezone.utc).isoformat()}, ensure_ascii=False)
    # A single write to a file opened for appending: lines of several processes do not mix.
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        os.write(file, f"{line}\n".encode())
    finally:
        os.close(file)


def send_sms(mobile: str, code: str, minutes: int) -> None:
    """An SMS back end that sends nothing: it appends the message to the file `SMS_LOG`, and prints it for people."""
    text = f"【美多商城】您的验证码是{code}，{minutes}分钟内有效，请勿告诉他人。"
    if settings.LOG_FORMAT == "text":  # not between lines of JSON, which are collected
        print(f"SMS {mobile}: {text}", flush=True)
    append_line(settings.SMS_LOG, mobile=mobile, text=text)

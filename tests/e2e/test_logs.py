"""The log of gunicorn, from its start to its end: one shape, one clock, and the lines of one login belong together."""

import json
import re
import socket
from datetime import datetime, timezone

import pytest

from tests.tools import remote_users
from tests.tools.requirements import requirement

TEXT = re.compile(r"(?P<time>\S+) (?P<level>[A-Z]+) (?P<logger>[\w.]+): (?P<message>\S+)(?P<fields>.*)")


def read_text(line):
    """Return the parts of a line of text, and its fields that have no blanks."""
    parts = TEXT.fullmatch(line).groupdict()
    return parts | dict(re.findall(r" (\w+)=(\S+)", parts["fields"]))


def now():
    return f"{datetime.now(timezone.utc):%Y-%m-%dT%H:%M:%S}"


@requirement("10.4")
@pytest.mark.parametrize(("log_format", "read"), [("json", json.loads), ("text", read_text)])
def test_every_line_has_one_shape_in_utc_and_the_flow_joins_a_login(tmp_path, log_format, read):
    environ = {"DATABASE_URL": "", "CACHE_URL": "", "LOG_FORMAT": log_format, "TZ": "Asia/Shanghai"}
    environ["GUNICORN_CMD_ARGS"] = "--config=python:meiduo.server --access-logfile=-"
    started = now()
    with remote_users.shop_and_qq(tmp_path, **environ) as (shop, qq):
        user = remote_users.RemoteUser([shop], qq)
        assert user.bind(user.fill_in(remote_users.new_mobile())).status == 200
        assert user.redeem_code("made.up.code").status == 400
    (log,) = tmp_path.glob("shop-*.log")
    printed = "SMS 1" if log_format == "text" else "nothing"  # by the developer's back end
    lines = [read(line) for line in log.read_text().splitlines() if not line.startswith(printed)]

    assert {line["logger"] for line in lines} == {"gunicorn.error", "gunicorn.access", "meiduo.audit", "django.request"}
    assert [line["time"] for line in lines if not re.fullmatch(r"\S{10}T\S{8}\.[0-9]{3}Z", line["time"])] == []
    assert {line["host"] for line in lines} == {socket.gethostname()}
    assert started <= min(line["time"] for line in lines) <= max(line["time"] for line in lines) <= now() + "~"
    assert [lines[0]["message"][:8], lines[-1]["message"][:8]] == ["Starting", "Shutting"]
    flow = next(line["flow"] for line in lines if line["message"] == "start")
    steps = [line for line in lines if line.get("flow") == flow]
    assert [step["message"] for step in steps] == ["start", "callback", "bind_token", "bind"]
    assert ["qq_ms" in step for step in steps] == [False, False, True, False]
    for step in steps:
        calls = [line for line in lines if line.get("request_id") == step["request_id"] and line is not step]
        assert [call["logger"] for call in calls] == ["gunicorn.access"]
        assert float(step["duration_ms"]) <= float(calls[0]["duration_ms"])

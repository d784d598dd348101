"""The shop under gunicorn while nobody takes its logs: logins go on, and the loss is reported."""

import fcntl
import json
import os
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.tools import processes
from tests.tools.remote_users import RemoteUser, shop_and_qq

LOGINS = 20
EVENTS = LOGINS * 3  # start, callback and bind_token
ENVIRON = {
    "DATABASE_URL": "",
    "CACHE_URL": "",
    "LOG_FORMAT": "json",
    "GUNICORN_CMD_ARGS": "--config=python:meiduo.server --access-logfile=-",
}


@contextmanager
def user_of_shop(folder, output):
    """A user of a shop that writes its logs to the file `output`."""
    with shop_and_qq(folder, output=output, **ENVIRON) as (shop, qq):
        yield RemoteUser([shop], qq)


def log_in(user):
    return [user.redeem_code(user.arrive()).status for _ in range(LOGINS)]


@pytest.fixture
def pipe(tmp_path):
    """The path of a pipe that holds one page, and its reading end."""
    os.mkfifo(tmp_path / "pipe")
    with open(os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK), "rb", buffering=0) as reader:
        fcntl.fcntl(reader, fcntl.F_SETPIPE_SZ, 4096)
        yield tmp_path / "pipe", reader


class Lines:
    """All lines that the shop has written so far."""

    def __init__(self, reader):
        self.reader, self.lines = reader, []

    def read(self, logger):
        self.lines += map(json.loads, (self.reader.read() or b"").decode().splitlines())
        return [line for line in self.lines if line["logger"] == logger]


def test_pipe_that_nobody_reads_holds_up_no_login_and_the_loss_is_reported(tmp_path, pipe):
    path, reader = pipe
    lines = Lines(reader)
    with user_of_shop(tmp_path, path) as user:
        assert log_in(user) == [200] * LOGINS
        written = len(lines.read("meiduo.audit"))
        user.start()
        report, event = lines.read("meiduo.audit")[written:]

        def gunicorn_reports():  # a call is logged after its answer
            user.start()
            return [line for line in lines.read("gunicorn.access") if "lost" in line]

        processes.wait_until(gunicorn_reports, "gunicorn reports its loss")
    lost = EVENTS - written
    text = f"Lines of this log are lost: {lost}. Its disk was full, or its reader had stalled or ended."
    assert (report["level"], report["message"], report["lost"]) == ("ERROR", text, lost)
    assert event["message"] == "start"


def test_pipe_whose_reader_has_ended_costs_no_login(tmp_path, pipe):
    path, reader = pipe
    with user_of_shop(tmp_path, path) as user:
        reader.close()
        assert log_in(user) == [200] * LOGINS


def test_full_disk_costs_no_login(tmp_path):
    with user_of_shop(tmp_path, Path("/dev/full")) as user:
        assert log_in(user) == [200] * LOGINS

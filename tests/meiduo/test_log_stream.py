"""Logs on stdout and stderr: a line that nobody takes is lost and counted, and blocks no caller."""

import fcntl
import io
import json
import logging
import os
import resource
import signal
import socket
import threading
from unittest.mock import Mock

import pytest

from meiduo import log_stream
from meiduo.log_stream import BoundedHandler
from meiduo.logs import JSONFormatter

REPORT = "Lines of this log are lost: {}. Its disk was full, or its reader had stalled or ended."
LINES = [f"{number:04}{'x' * 1019}" for number in range(200)]  # 1 KiB each, with its end


@pytest.fixture(autouse=True)
def nothing_blocks():
    """End a test whose write blocks. It has less time than LINES would take if each waited."""

    def fail(*args):
        pytest.fail("a write blocks")

    previous = signal.signal(signal.SIGALRM, fail)
    signal.alarm(30)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, previous)


def make_log(stream, formatter=None):
    """Return a logger and its handler on this stream."""
    logger, handler = logging.Logger("meiduo.audit"), BoundedHandler(stream)
    handler.setFormatter(formatter)
    logger.addHandler(handler)
    return logger, handler


@pytest.fixture
def pipe():
    """The two ends of a pipe that holds 8 KiB: one that is read without waiting, and a text stream."""
    read_end, write_end = os.pipe()
    os.set_blocking(read_end, False)
    fcntl.fcntl(write_end, fcntl.F_SETPIPE_SZ, 8192)
    with open(write_end, "w", encoding="utf-8") as stream, open(read_end, "rb", buffering=0) as reader:
        yield reader, stream


@pytest.fixture(params=["own", "inherited"])
def any_pipe(pipe, request, monkeypatch):
    """A pipe that can be opened anew, and one that cannot, as another user's. Yields also how many LINES it takes."""
    if request.param == "inherited":
        monkeypatch.setattr(os, "open", Mock(side_effect=PermissionError))
    return *pipe, 8 if request.param == "own" else 5  # the latter is not ready without a free page


def read_lines(reader):
    return (reader.read() or b"").decode().splitlines()


def test_lines_that_a_full_pipe_does_not_take_are_lost_and_reported(any_pipe):
    reader, stream, fitting = any_pipe
    logger, _ = make_log(stream)
    for line in LINES:
        logger.info(line)
    assert read_lines(reader) == LINES[:fitting]
    logger.info("back")
    assert read_lines(reader) == [REPORT.format(len(LINES) - fitting), "back"]
    logger.info("again")
    assert read_lines(reader) == ["again"]
    assert os.get_blocking(stream.fileno())  # other processes write to it too


def test_pipe_without_room_for_the_report_is_not_back(pipe):
    reader, stream = pipe
    logger, _ = make_log(stream)
    for line in LINES[:9]:
        logger.info(line)
    reader.read(1)  # a page is free only when all of it was read
    logger.info("lost too")
    assert len(read_lines(reader)) == 8
    logger.info("back")
    assert read_lines(reader) == [REPORT.format(2), "back"]


def test_line_that_is_cut_short_counts_and_does_not_run_into_the_next(any_pipe):
    reader, stream, _ = any_pipe
    logger, _ = make_log(stream)
    logger.info("x" * 10_000)
    assert read_lines(reader) == ["x" * 8192]
    logger.info("back")
    assert read_lines(reader) == ["", REPORT.format(1), "back"]


def test_reader_that_is_a_little_slow_gets_every_line(any_pipe, monkeypatch):
    monkeypatch.setattr(log_stream, "MAX_WAIT", 20)  # however slow this machine is
    reader, stream, _ = any_pipe
    os.set_blocking(reader.fileno(), True)
    logger, _ = make_log(stream)
    writer = threading.Thread(target=lambda: [logger.info(line) for line in LINES])
    writer.start()
    received = b""
    while not received.endswith(f"{LINES[-1]}\n".encode()):
        received += reader.read(1024)
    writer.join()
    assert received.decode().splitlines() == LINES


def test_log_in_json_reports_its_loss_in_json(pipe):
    reader, stream = pipe
    logger, handler = make_log(stream, JSONFormatter())
    handler.stream.lost = 7
    logger.info("login")
    report, event = map(json.loads, read_lines(reader))
    assert {**event, "level": "ERROR", "message": REPORT.format(7), "lost": 7} == {**report, "time": event["time"]}
    assert event["message"] == "login"


def test_reader_that_has_ended_and_a_full_disk_raise_nothing(pipe, capsys):
    reader, stream = pipe
    reader.close()
    with open("/dev/full", "w", encoding="utf-8") as full:
        for each in (stream, full):
            logger, handler = make_log(each)
            for _ in range(3):
                logger.info("lost")
            assert handler.stream.lost == 3
    assert capsys.readouterr().err == ""  # logging would print a traceback for each


def test_disk_that_has_room_again_gets_the_report(tmp_path):
    path = tmp_path / "log"
    with path.open("w", encoding="utf-8") as file:
        logger, _ = make_log(file)
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (6, limits[1]))
        try:
            for text in ("one", "two", "three"):
                logger.info(text)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        logger.info("four")
        assert path.read_text().splitlines() == ["one", "tw", REPORT.format(2), "four"]


def test_socket_whose_reader_stalls_blocks_nobody():
    """journald's stdout is one."""
    ours, theirs = socket.socketpair()
    with ours, theirs, ours.makefile("w", encoding="utf-8") as stream:
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        logger, handler = make_log(stream)
        for line in LINES:
            logger.info(line)
        lost = handler.stream.lost
        theirs.setblocking(False)
        assert 0 < lost < len(LINES)
        received = theirs.recv(1_000_000)
        assert len(received) == (len(LINES) - lost) * 1024
        logger.info("back")
        assert theirs.recv(1000).decode().splitlines() == [REPORT.format(lost), "back"]


def test_stream_without_a_file_is_written_to_as_it_is(monkeypatch):
    stream = io.StringIO()
    make_log(stream)[0].info("a line")
    assert stream.getvalue() == "a line\n"
    monkeypatch.setattr("sys.stderr", None)  # a server closed it before Python started
    make_log(None)[0].info("nowhere")


def test_text_that_the_streams_encoding_lacks_is_escaped(pipe):
    reader, stream = pipe
    stream.reconfigure(encoding="ascii")
    make_log(stream)[0].info("车 \ud800")
    assert read_lines(reader) == [r"\u8f66 \ud800"]

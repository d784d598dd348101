"""The demonstration: its pages, and that both its servers end together."""

import os
import signal
import socket
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

from standin.demo import end_with_parent
from tests.tools import processes

# The demo uses SQLite and local memory, even if this run has servers.
INHERITED = {name: value for name, value in os.environ.items() if name not in ("DATABASE_URL", "CACHE_URL")}


@pytest.fixture(scope="module")
def var(tmp_path_factory):
    """The folder of the demo, made and migrated by the first test."""
    return tmp_path_factory.mktemp("demo")


@pytest.fixture
def ports():
    return processes.free_port(), processes.free_port()


@contextmanager
def running_demo(var, ports, **environ):
    """Start the demo in a process group of its own."""
    environ = {**INHERITED, "VAR_DIR": str(var), "PORT": str(ports[0]), "QQ_PORT": str(ports[1]), **environ}
    options = {"cwd": processes.ROOT, "env": environ, "start_new_session": True}
    options["preexec_fn"] = end_with_parent  # also with a test run that is killed
    log = var / f"demo-{ports[0]}.log"
    with processes.running([sys.executable, "-m", "standin.demo"], log, **options) as demo:
        demo.output = lambda: log.read_text(encoding="utf-8")
        yield demo


def status_of(pid):
    """Return the state and the parent of a process from /proc; (None, None) if it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[:2]
    except OSError:
        return None, None


def children_of(parent):
    """Return the ids of all processes below `parent`, with their command lines."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        if status_of(folder.name)[1] == str(parent):
            command = (folder / "cmdline").read_text().split("\0")
            found |= {int(folder.name): command, **children_of(folder.name)}
    return found


def find_children(demo):
    """Return the processes of a demo that is ready: the stand-in, gunicorn and its worker."""
    processes.wait_until(lambda: demo.poll() is not None or "Ctrl-C" in demo.output(), "the demo is ready")
    children = children_of(demo.pid)
    assert len(children) == 3, demo.output()
    return children


def assert_all_ended(pids, ports):
    # In a container an orphan may stay a zombie (Z).
    processes.wait_until(lambda: all(status_of(pid)[0] in (None, "Z") for pid in pids), f"{pids} have ended", 15)
    for port in ports:
        socket.create_server((processes.HOST, port)).close()


def test_demo_serves_both_servers_and_names_its_files(var, ports):
    # Settings of a real application in the caller's environment are ignored.
    with running_demo(var, ports, QQ_CLIENT_ID="101999999", QQ_TIMEOUT="soon", STANDIN_PORT="none") as demo:
        find_children(demo)
        url, visitor = f"http://127.0.0.1:{ports[0]}", processes.Visitor()
        named = (f"{url}/login.html", str(var / "captcha.log"), str(var / "sms.log"))
        assert [name for name in named if name not in demo.output()] == []
        assert f"http://127.0.0.1:{ports[1]}/_standin/phone" in demo.output()
        assert visitor.get(f"{url}/login.html").status == 200
        login = visitor.get(f"{url}/oauth/qq/login/", follow=True)
        assert login.status == 200
        assert login.url.startswith(f"http://127.0.0.1:{ports[1]}/oauth2.0/show?")


@pytest.mark.parametrize("signals", [["SIGINT"], ["SIGINT", "SIGINT"], ["SIGTERM"]])
def test_signals_end_both_servers(var, ports, signals):
    with running_demo(var, ports) as demo:
        children = find_children(demo)
        for name in signals:
            os.killpg(demo.pid, signal.Signals[name])
        assert (demo.wait(15), "Traceback" in demo.output()) == (0, False)
        assert_all_ended(children, ports)


@pytest.mark.parametrize("name", ["standin", "gunicorn"])
def test_demo_ends_when_one_of_its_servers_ends(var, ports, name):
    with running_demo(var, ports) as demo:
        children = find_children(demo)
        os.kill(next(pid for pid, command in children.items() if name in " ".join(command)), signal.SIGKILL)
        assert demo.wait(15) != 0
        assert "has ended by itself" in demo.output()
        assert_all_ended(children, ports)


def test_both_servers_end_with_a_killed_demo(var, ports):
    with running_demo(var, ports) as demo:
        children = find_children(demo)
        demo.kill()
        assert_all_ended(children, ports)


@pytest.mark.parametrize(("name", "place"), [("PORT", 0), ("QQ_PORT", 1)])
def test_unusable_port_is_named(var, ports, name, place):
    with socket.create_server((processes.HOST, ports[place])), running_demo(var, ports) as demo:
        assert demo.wait(30) == 1
        assert f"Port {ports[place]} is in use. Choose another one, for example: make run {name}=" in demo.output()
    for port in ("http", "0", "65536"):
        with running_demo(var, ports, **{name: port}) as demo:
            assert demo.wait(30) == 1
            assert demo.output().endswith(f"\n{name}={port} is not a port: it must be a number from 1 to 65535.\n")

"""The demonstration, started and ended as a person and as a machine would."""

import os
import signal
import socket
import subprocess
import sys
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from standin.demo import end_with_parent
from tests.tools import processes

# It goes by SQLite and local memory whatever this run goes by.
INHERITED = {name: value for name, value in os.environ.items() if name not in ("DATABASE_URL", "CACHE_URL")}


@pytest.fixture(scope="module")
def var(tmp_path_factory):
    """A folder that the demo has made and migrated once."""
    return tmp_path_factory.mktemp("demo")


@pytest.fixture
def ports():
    return processes.free_port(), processes.free_port()


@contextmanager
def running_demo(var, ports, **environ):
    """Start the demo in a process group of its own; kill whatever of it still runs when the block is done."""
    environ = {**INHERITED, "VAR_DIR": str(var), "PORT": str(ports[0]), "QQ_PORT": str(ports[1]), **environ}
    log = (var / "demo.log").open("w+b")
    demo = subprocess.Popen(
        [sys.executable, "-m", "standin.demo"],
        cwd=processes.ROOT,
        env=environ,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        start_new_session=True,
        preexec_fn=end_with_parent,  # nor does it outlive a test run that is killed
    )
    demo.output = lambda: (var / "demo.log").read_text(encoding="utf-8")
    try:
        yield demo
    finally:
        left = {demo.pid: "the demo", **children_of(demo.pid)} if demo.poll() is None else {}
        for pid in left:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        demo.wait()
        log.close()


def status_of(pid):
    """Return the state of a process and the id of its parent, as Linux tells them; none where it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[:2]
    except OSError:
        return None, None


def children_of(parent):
    """Return the ids of the processes below one, with what they run."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        if status_of(folder.name)[1] == str(parent):
            command = (folder / "cmdline").read_text().split("\0")
            found |= {int(folder.name): command, **children_of(folder.name)}
    return found


def wait_until_gone(pids):
    # In a container nobody may collect the exit code of an orphan: it is dead (Z) all the same.
    processes.wait_until(lambda: all(status_of(pid)[0] in (None, "Z") for pid in pids), f"{pids} have ended", 15)


def wait_until_ready(demo):
    processes.wait_until(lambda: demo.poll() is not None or "Ctrl-C" in demo.output(), "the demo is ready")
    assert demo.poll() is None, demo.output()


def is_free(port):
    with socket.create_server((processes.HOST, port)):
        return True


def test_it_serves_the_login_page_and_the_pretend_qq_and_says_where(var, ports):
    # Settings of a real application in the caller's environment must not get in its way.
    with running_demo(var, ports, QQ_CLIENT_ID="101999999", QQ_TIMEOUT="soon", STANDIN_PORT="none") as demo:
        wait_until_ready(demo)
        url = f"http://127.0.0.1:{ports[0]}"
        visitor = processes.Visitor()
        assert f"{url}/login.html" in demo.output()
        for kept in ("captcha.log", "sms.log"):
            assert str(var / kept) in demo.output()
        page = visitor.get(f"{url}/login.html")
        assert (page.status, page.headers["Content-Type"]) == (200, 'text/html; charset="utf-8"')
        login = visitor.get(f"{url}/oauth/qq/login/", follow=True)
        assert login.status == 200
        assert login.url.startswith(f"http://127.0.0.1:{ports[1]}/oauth2.0/show?")


@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_both(var, ports, ending, times):
    with running_demo(var, ports) as demo:
        wait_until_ready(demo)
        children = children_of(demo.pid)
        assert len(children) == 3  # the stand-in, gunicorn and its worker
        for _ in range(times):
            os.killpg(demo.pid, ending)
        assert demo.wait(15) == 0
        assert "Traceback" not in demo.output()
        wait_until_gone(children)
        assert all(map(is_free, ports))


@pytest.mark.parametrize("name", ["standin", "gunicorn"])
def test_where_one_ends_by_itself_the_other_does_not_stay(var, ports, name):
    with running_demo(var, ports) as demo:
        wait_until_ready(demo)
        children = children_of(demo.pid)
        os.kill(next(pid for pid, command in children.items() if name in " ".join(command)), signal.SIGKILL)
        assert demo.wait(15) != 0
        assert "has ended by itself" in demo.output()
        wait_until_gone(children)
        assert all(map(is_free, ports))


def test_both_end_with_a_demo_that_is_killed(var, ports):
    with running_demo(var, ports) as demo:
        wait_until_ready(demo)
        children = children_of(demo.pid)
        demo.kill()
        wait_until_gone(children)


@pytest.mark.parametrize(("name", "place"), [("PORT", 0), ("QQ_PORT", 1)])
def test_a_port_in_use_is_named(var, ports, name, place):
    with socket.create_server((processes.HOST, ports[place])), running_demo(var, ports) as demo:
        assert demo.wait(30) == 1
        assert f"Port {ports[place]} is in use." in demo.output()
        assert f"make run {name}=" in demo.output()
        assert "Traceback" not in demo.output()


@pytest.mark.parametrize("port", ["http", "0", "65536", "-1"])
def test_what_is_no_port_is_named(var, ports, port):
    with running_demo(var, ports, QQ_PORT=port) as demo:
        assert demo.wait(30) == 1
        assert demo.output() == f"QQ_PORT={port} is not a port: it must be a number from 1 to 65535.\n"

"""The demo: `python -m standin.demo` runs the shop and the pretend QQ until Ctrl-C or SIGTERM.

PORT and QQ_PORT choose the ports. The shop gets the rest of the environment, except QQ_… and STANDIN_…: settings of a
real application do not work with a pretend QQ.
"""

import ctypes
import errno
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import ExitStack
from pathlib import Path

from .server import QQ
from .state import APP_ID, APP_SECRET, CLIENT_ID, CLIENT_SECRET, MINI_APP_ID, MINI_APP_SECRET

HOST = "127.0.0.1"
ROOT = Path(__file__).resolve().parent.parent
THREADS = 16
START_TIMEOUT = 60  # seconds; a slow machine right after the installation needs many of them
STOP_TIMEOUT = 5  # seconds
LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None
PR_SET_PDEATHSIG = 1  # linux/prctl.h

HELP = """
美多商城 · QQ 登录演示  Meiduo Mall, QQ login

  打开 Open     {shop}/login.html
  点击 Click    QQ 登录 ▸ 选一个人 choose a person ▸ 填写一次表单 fill in the form once
                再登录一次就会直接进入 the second login needs no form
  图形验证码    {captcha_log}
                the texts of the image codes, for scripts
  短信验证码    {sms_log}, and below
                the SMS codes: no SMS is sent
  QQ 替身       {qq}
                the pretend QQ and the requests it received
  手机、小程序  {qq}/_standin/phone
                a phone app and a mini program
  结束 End      Ctrl-C
"""


def end_with_parent() -> None:
    """Make Linux send SIGTERM to this process when its parent dies, even if the parent was killed."""
    if LIBC is not None:
        LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


class Demo:
    """Two processes that start and stop together."""

    def __init__(self) -> None:
        self.is_stopping = False
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def handle_signal(self, *_: object) -> None:
        self.is_stopping = True  # an exception here could lose a process that is not in self.processes yet

    def start(self, name: str, *arguments: str, environ: dict[str, str]) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [sys.executable, "-m", *arguments],
            cwd=ROOT,
            env=environ,
            stdin=subprocess.DEVNULL,
            # Ctrl-C reaches every process of the session. In a session of their own, these are stopped in order.
            start_new_session=True,
            preexec_fn=end_with_parent,
        )
        self.processes[name] = process
        return process

    def wait_for(self, url: str) -> None:
        """Return when the address answers or the demo is over. Raises TimeoutError."""
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        deadline = time.monotonic() + START_TIMEOUT
        while not self.is_over():
            try:
                opener.open(url, timeout=START_TIMEOUT).close()
                return
            except OSError:
                if time.monotonic() > deadline:
                    raise TimeoutError(f"{url} does not answer") from None
                time.sleep(0.1)

    def is_over(self) -> bool:
        return self.is_stopping or self.find_ended() is not None

    def find_ended(self) -> str | None:
        """Return the name of a process that has ended by itself, if any."""
        return next((name for name, process in self.processes.items() if process.poll() is not None), None)

    def stop_all(self) -> None:
        for process in self.processes.values():
            process.terminate()
        deadline = time.monotonic() + STOP_TIMEOUT
        for process in self.processes.values():
            try:
                process.wait(max(0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def read_port(name: str, default: int) -> int:
    """Return the port from the environment. Exits with a message if it is not a valid port."""
    text = os.environ.get(name, "").strip() or str(default)
    if not text.isascii() or not text.isdigit() or not 0 < int(text) < 65536:
        sys.exit(f"{name}={text} is not a port: it must be a number from 1 to 65535.")
    return int(text)


def require_free(ports: dict[str, int]) -> None:
    """Exit if a port cannot be used, with a message that names it and the variable that chooses another one."""
    with ExitStack() as stack:
        for name, port in ports.items():
            try:
                stack.enter_context(socket.create_server((HOST, port)))
            except OSError as error:
                is_taken = error.errno == errno.EADDRINUSE
                sys.exit(
                    f"Port {port} {'is in use' if is_taken else f'cannot be used ({error})'}. "
                    f"Choose another one, for example: make run {name}={port + 10 if port < 65000 else 8080}"
                )


def make_environ(shop_url: str, qq_url: str) -> dict[str, str]:
    var = Path(os.environ.get("VAR_DIR", "").strip() or ROOT / "var").absolute()
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("QQ_", "STANDIN_"))}
    return environ | {
        "DJANGO_SETTINGS_MODULE": "meiduo.settings",
        "PYTHONUTF8": "1",
        "VAR_DIR": str(var),
        "CAPTCHA_LOG": environ.get("CAPTCHA_LOG") or str(var / "captcha.log"),
        "QQ_API_URL": qq_url,
        "QQ_CLIENT_ID": CLIENT_ID,
        "QQ_CLIENT_SECRET": CLIENT_SECRET,
        "QQ_APP_IDS": f"{APP_ID}={APP_SECRET}",
        "QQ_MINI_API_URL": qq_url,
        "QQ_MINI_APP_ID": MINI_APP_ID,
        "QQ_MINI_APP_SECRET": MINI_APP_SECRET,
        "QQ_PROFILE": "True",
        "QQ_REDIRECT_URI": f"{shop_url}/oauth/qq/callback/",
        "QQ_CALLBACK_PAGE": f"{shop_url}/oauth_callback.html",
        "QQ_MAX_CONCURRENCY": str(THREADS * 3 // 4),  # the other threads serve the pages while QQ hangs
    }


def main() -> None:
    # The help is partly Chinese; the terminal's encoding may not have these characters.
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="replace")  # type: ignore[union-attr]
    port, qq_port = read_port("PORT", 8000), read_port("QQ_PORT", 8001)
    require_free({"PORT": port, "QQ_PORT": qq_port})
    shop_url, qq_url = f"http://{HOST}:{port}", f"http://{HOST}:{qq_port}"
    environ = make_environ(shop_url, qq_url)
    var = Path(environ["VAR_DIR"])
    logs = {"captcha_log": environ["CAPTCHA_LOG"], "sms_log": str(var / "sms.log")}

    var.mkdir(mode=0o700, parents=True, exist_ok=True)
    for log in logs.values():
        Path(log).touch(mode=0o600)  # they can be watched from the start

    demo = Demo()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, demo.handle_signal)
    try:
        migrate = ["django", "migrate", "--verbosity=0", "--skip-checks"]  # the shop runs the checks when it starts
        status = demo.start("The migration", *migrate, environ=environ).wait()
        if demo.is_stopping:
            return
        if status != 0:
            sys.exit("The database could not be migrated.")
        del demo.processes["The migration"]
        # QQ has been seen to refuse a registered address that ends in a slash, so the stand-in takes both spellings.
        callback = environ["QQ_REDIRECT_URI"]
        standin = ["standin", f"--host={HOST}", f"--port={qq_port}"]
        standin += [f"--callback={callback}", f"--callback={callback.rstrip('/')}"]
        demo.start("The stand-in for QQ", *standin, environ=environ)
        gunicorn = ["gunicorn", "meiduo.wsgi", f"--bind={HOST}:{port}", "--no-control-socket"]
        # One process, because its memory is the cache. No access log, because addresses contain codes.
        gunicorn += ["--workers=1", "--worker-class=gthread", f"--threads={THREADS}"]
        gunicorn += ["--graceful-timeout=1", "--log-level=warning"]
        demo.start("The shop", *gunicorn, environ=environ)
        demo.wait_for(f"{qq_url}/_standin/requests")
        if not demo.is_over():
            # The shop takes no avatar of this kind. Those it takes are at QQ's own servers, which nobody calls here.
            QQ(qq_url, CLIENT_ID, CLIENT_SECRET).behave(avatar="qzapp")
        demo.wait_for(f"{shop_url}/login.html")
        if not demo.is_over():
            print(HELP.format(shop=shop_url, qq=qq_url, **logs), flush=True)
        while not demo.is_over():
            time.sleep(0.1)
        ended = None if demo.is_stopping else demo.find_ended()
    finally:
        demo.stop_all()
    if ended:
        sys.exit(f"{ended} has ended by itself, with code {demo.processes[ended].returncode}.")


if __name__ == "__main__":
    main()

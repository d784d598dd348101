"""The demonstration: `python -m standin.demo` runs the shop and the pretend QQ until Ctrl-C or SIGTERM.

PORT and QQ_PORT in the environment choose the ports. The rest of the environment goes to the shop, but its QQ_…
settings are made here: those of a real application have no business with a pretend QQ.
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

from .app import CLIENT_ID, CLIENT_SECRET

HOST = "127.0.0.1"
ROOT = Path(__file__).resolve().parent.parent
THREADS = 16
SECONDS_TO_START = 60  # a slow machine that has just installed everything
SECONDS_TO_END = 5
LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None
PR_SET_PDEATHSIG = 1  # linux/prctl.h

HELP = """
美多商城 · QQ 登录演示  Meiduo Mall, QQ login

  打开 Open     {shop}/login.html
  点击 Click    QQ 登录 ▸ 选一个人 pick a person ▸ 填写一次表单 fill in the form once
                再登录一次就会直接进入 the second time you are in at once
  图形验证码    {captcha_log}
                the answers of image codes, for scripts: people read the picture
  短信验证码    {sms_log}, and here below
                the SMS codes: nothing is really sent
  QQ 替身       {qq}
                the pretend QQ, and what it was asked
  结束 End      Ctrl-C
"""


def end_with_parent() -> None:
    """Have Linux send this process a SIGTERM when its parent is gone, killed without a chance to do it."""
    if LIBC is not None:
        LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


class Demo:
    """Two processes that live and end together."""

    def __init__(self) -> None:
        self.told_to_end = False
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def end(self, *_: object) -> None:
        self.told_to_end = True  # no more than that: an exception could come between a process and its entry

    def start(self, name: str, *arguments: str, environ: dict[str, str]) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [sys.executable, "-m", *arguments],
            cwd=ROOT,
            env=environ,
            stdin=subprocess.DEVNULL,
            # Ctrl-C goes to every process of the terminal: to end in order, these must not get it too.
            start_new_session=True,
            preexec_fn=end_with_parent,
        )
        self.processes[name] = process
        return process

    def wait_for(self, url: str) -> None:
        """Return once the address answers, or there is no more sense in waiting. Raises TimeoutError."""
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        deadline = time.monotonic() + SECONDS_TO_START
        while not self.is_over():
            try:
                opener.open(url, timeout=SECONDS_TO_START).close()
                return
            except OSError:
                if time.monotonic() > deadline:
                    raise TimeoutError(f"{url} does not answer") from None
                time.sleep(0.1)

    def is_over(self) -> bool:
        return self.told_to_end or self.ended_by_itself() is not None

    def ended_by_itself(self) -> str | None:
        return next((name for name, process in self.processes.items() if process.poll() is not None), None)

    def end_all(self) -> None:
        for process in self.processes.values():
            process.terminate()
        deadline = time.monotonic() + SECONDS_TO_END
        for process in self.processes.values():
            try:
                process.wait(max(0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def read_port(name: str, default: int) -> int:
    """Return the port the environment names. Exits, saying why, if it is none."""
    text = os.environ.get(name, "").strip() or str(default)
    if not text.isascii() or not text.isdigit() or not 0 < int(text) < 65536:
        sys.exit(f"{name}={text} is not a port: it must be a number from 1 to 65535.")
    return int(text)


def require_free(ports: dict[str, int]) -> None:
    """Exit, naming the port and the variable that chooses another one, if one cannot be had."""
    with ExitStack() as stack:
        for name, port in ports.items():
            try:
                stack.enter_context(socket.create_server((HOST, port)))
            except OSError as error:
                is_taken = error.errno == errno.EADDRINUSE
                sys.exit(
                    f"Port {port} {'is in use' if is_taken else f'cannot be used ({error})'}. "
                    f"Choose another one, as in: make run {name}={port + 10 if port < 65000 else 8080}"
                )


def main() -> None:
    # The words may be Chinese where the terminal's encoding is not.
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="replace")  # type: ignore[union-attr]
    port, qq_port = read_port("PORT", 8000), read_port("QQ_PORT", 8001)
    require_free({"PORT": port, "QQ_PORT": qq_port})
    shop_url, qq_url = f"http://{HOST}:{port}", f"http://{HOST}:{qq_port}"
    callback = f"{shop_url}/oauth/qq/callback/"
    var = Path(os.environ.get("VAR_DIR", "").strip() or ROOT / "var").absolute()

    environ = {name: value for name, value in os.environ.items() if not name.startswith(("QQ_", "STANDIN_"))}
    environ |= {
        "DJANGO_SETTINGS_MODULE": "meiduo.settings",
        "PYTHONUTF8": "1",
        "VAR_DIR": str(var),
        "CAPTCHA_LOG": environ.get("CAPTCHA_LOG") or str(var / "captcha.log"),
        "QQ_API_URL": qq_url,
        "QQ_CLIENT_ID": CLIENT_ID,
        "QQ_CLIENT_SECRET": CLIENT_SECRET,
        "QQ_REDIRECT_URI": callback,
        "QQ_CALLBACK_PAGE": f"{shop_url}/oauth_callback.html",
        "QQ_MAX_CONNECTIONS": str(THREADS * 3 // 4),  # the rest serves the pages while QQ hangs
    }

    var.mkdir(mode=0o700, parents=True, exist_ok=True)
    for log in (environ["CAPTCHA_LOG"], var / "sms.log"):
        Path(log).touch(mode=0o600)  # so that one can watch them from the start

    demo = Demo()
    for ending in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ending, demo.end)
    try:
        migrate = ["django", "migrate", "--verbosity=0", "--skip-checks"]  # the shop makes the checks when it starts
        status = demo.start("The migration", *migrate, environ=environ).wait()
        if demo.told_to_end:
            return
        if status != 0:
            sys.exit("The database could not be migrated.")
        del demo.processes["The migration"]
        # Two spellings, as one can register with QQ: it has been seen to refuse an address with a final slash.
        standin = ["standin", f"--host={HOST}", f"--port={qq_port}"]
        standin += [f"--callback={callback}", f"--callback={callback.rstrip('/')}"]
        demo.start("The stand-in for QQ", *standin, environ=environ)
        gunicorn = ["gunicorn", "meiduo.wsgi", f"--bind={HOST}:{port}", "--no-control-socket"]
        # One process, as its memory is the cache; no access log, as codes travel in addresses.
        gunicorn += ["--workers=1", "--worker-class=gthread", f"--threads={THREADS}"]
        gunicorn += ["--graceful-timeout=1", "--log-level=warning"]
        demo.start("The shop", *gunicorn, environ=environ)
        demo.wait_for(f"{qq_url}/_standin/requests")
        demo.wait_for(f"{shop_url}/login.html")
        if not demo.is_over():
            names = {"captcha_log": environ["CAPTCHA_LOG"], "sms_log": var / "sms.log"}
            print(HELP.format(shop=shop_url, qq=qq_url, **names), flush=True)
        while not demo.is_over():
            time.sleep(0.1)
        ended = None if demo.told_to_end else demo.ended_by_itself()
    finally:
        demo.end_all()
    if ended:
        sys.exit(f"{ended} has ended by itself, with code {demo.processes[ended].returncode}.")


if __name__ == "__main__":
    main()

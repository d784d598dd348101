"""The command `python -m standin --port 8001`. Ctrl-C or SIGTERM stops it."""

import argparse
import os
import signal
import sys
import threading
from typing import NoReturn

from .server import running
from .state import CALLBACKS, CLIENT_ID, CLIENT_SECRET


def stop(*_: object) -> NoReturn:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # a second Ctrl-C during the shutdown would print a traceback
    sys.exit(0)


def main() -> None:
    env = os.environ.get
    registered = [callback.strip() for callback in env("STANDIN_CALLBACKS", "").split(";") if callback.strip()]
    parser = argparse.ArgumentParser(prog="python -m standin", description="A pretend graph.qq.com, for development.")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (%(default)s)")
    parser.add_argument(
        "--port", type=int, default=env("STANDIN_PORT") or "8001", help="0 = any free port (%(default)s)"
    )
    parser.add_argument(
        "--callback",
        action="append",
        metavar="URL",
        help=f"a registered callback; repeat the option for more ({'; '.join(registered or CALLBACKS)})",
    )
    parser.add_argument("--client-id", default=env("STANDIN_CLIENT_ID") or CLIENT_ID, help="%(default)s")
    parser.add_argument("--client-secret", default=env("STANDIN_CLIENT_SECRET") or CLIENT_SECRET, help="%(default)s")
    options = parser.parse_args()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    try:
        with running(
            callbacks=options.callback or registered or CALLBACKS,
            client_id=options.client_id,
            client_secret=options.client_secret,
            host=options.host,
            port=options.port,
        ) as qq:
            print(f"QQ stand-in listening on {qq.url}", flush=True)
            threading.Event().wait()
    except (OSError, OverflowError) as error:
        sys.exit(f"cannot listen on {options.host}:{options.port}: {error}")


if __name__ == "__main__":
    main()

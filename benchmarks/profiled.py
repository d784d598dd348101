"""Where the CPU time of a login goes, in one process and one thread: prints microseconds a login for each piece.

Run with the shop's settings by the `profile` scenario. What one piece calls of another counts for the other.
"""

import functools
import io
import json
import secrets
import sys
import time
from collections import Counter
from importlib import import_module
from typing import Any
from urllib.parse import parse_qs, urlsplit

from benchmarks.upstream import new_code

PIECES = {
    "Django: the request, the middleware, the answer": ["django.core.handlers.wsgi:WSGIHandler.__call__"],
    "DRF: its view, its request and response": ["apps.oauth.views:QQTokenView.dispatch"],
    "limits by address": ["apps.oauth.throttling:AddressThrottle.allow_request"],
    "the cookie and the sealed code": ["apps.oauth.views:QQTokenView.unseal"],
    "whether to ask QQ, places, deadline": ["apps.oauth.views:identify"],
    "QQ's protocol": ["apps.oauth.qq:OAuthQQ.identify"],
    "HTTPS to QQ": ["apps.oauth.connections:Connections.get"],
    "Redis": ["redis.client:Redis.execute_command", "meiduo.cache:KeptClient.ask"],
    "the look-up: SQL and the health check": [
        "django.db.backends.utils:CursorWrapper.execute",
        "django.db.backends.mysql.base:DatabaseWrapper.is_usable",
    ],
    "the look-up: a user of its row": ["apps.oauth.views:find_user"],
    "the token, signals": ["apps.oauth.views:QQTokenView.login"],
    "the audit event": ["apps.oauth.views:record"],
}

spent: Counter[str] = Counter()  # nanoseconds
inside = [0]  # what was spent in pieces that the running one has called


def time_piece(piece: str, where: str) -> None:
    module, _, path = where.partition(":")
    owner: Any = import_module(module)
    *owners, name = path.split(".")
    for each in owners:
        owner = getattr(owner, each)
    function = getattr(owner, name)

    @functools.wraps(function)
    def timed(*args: Any, **kwargs: Any) -> Any:
        inside.append(0)
        begun = time.thread_time_ns()
        try:
            return function(*args, **kwargs)
        finally:
            took = time.thread_time_ns() - begun
            spent[piece] += took - inside.pop()
            inside[-1] += took

    setattr(owner, name, timed)


def get(path: str, query: str, cookie: str, number: int) -> tuple[dict[str, str], bytes]:
    """Call the shop, each `number` from an address of its own."""
    from meiduo.wsgi import application

    headers: dict[str, str] = {}
    environ = {
        **{"REQUEST_METHOD": "GET", "PATH_INFO": path, "QUERY_STRING": query, "SCRIPT_NAME": ""},
        **{"SERVER_NAME": "127.0.0.1", "SERVER_PORT": "80", "REMOTE_ADDR": "127.0.0.1", "HTTP_COOKIE": cookie},
        "HTTP_X_FORWARDED_FOR": f"198.18.{number // 256}.{number % 256}",
        **{"wsgi.url_scheme": "http", "wsgi.input": io.BytesIO(), "wsgi.errors": sys.stderr},
    }
    answer = application(environ, lambda status, pairs, exc_info=None: headers.update(pairs))
    body = b"".join(answer)
    answer.close()
    return headers, body


def begin_flow(number: int, persons: int) -> tuple[str, str]:
    """Go to QQ and come back; return the sealed code's query, and the cookie."""
    headers, _ = get("/oauth/qq/login/", "next=/", "", number)
    (state,) = parse_qs(urlsplit(headers["Location"]).query)["state"]
    cookie = headers["Set-Cookie"].partition(";")[0]
    code = new_code(1 + secrets.randbelow(persons))
    headers, _ = get("/oauth/qq/callback/", f"code={code}&state={state}", cookie, number)
    return urlsplit(headers["Location"]).query, headers["Set-Cookie"].partition(";")[0]


def run(logins: int, persons: int) -> None:
    for piece, places in PIECES.items():
        for where in places:
            time_piece(piece, where)
    for _ in ("to warm up", "to measure"):
        flows = [begin_flow(number, persons) for number in range(logins)]
        spent.clear()
        begun = time.process_time_ns()
        for number, (query, cookie) in enumerate(flows):
            _, body = get("/oauth/qq/users/", query, cookie, number)
            assert b"user_id" in body, body
        whole = time.process_time_ns() - begun
    print(json.dumps({"whole": whole / logins / 1000, **{name: spent[name] / logins / 1000 for name in PIECES}}))

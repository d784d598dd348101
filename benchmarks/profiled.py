"""Measures where the CPU time of a login goes, in one process and one thread; prints microseconds per login and part.

The `profile` scenario runs it with the shop's settings. Where one part calls another, the time counts for the other.
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

PARTS = {
    "Django: request, middleware, response": ["django.core.handlers.wsgi:WSGIHandler.__call__"],
    "DRF: view, request, response": ["apps.oauth.views.users:QQTokenView.dispatch"],
    "rate limits": ["apps.oauth.ratelimit:RateLimit.hit"],
    "the cookie and the sealed code": ["apps.oauth.views.users:read_sealed_code"],
    "single flight, slot, circuit, deadline": ["apps.oauth.views.users:resolve_identity"],
    "QQ's protocol": ["apps.oauth.qq.client:Exchange.identify"],
    "HTTPS to QQ": ["apps.oauth.qq.transport:ConnectionPool.get"],
    "Redis": ["redis.client:Redis.execute_command"],
    "the look-up: SQL and the health check": [
        "django.db.backends.utils:CursorWrapper.execute",
        "django.db.backends.mysql.base:DatabaseWrapper.is_usable",
    ],
    "the look-up: the user from its row": ["apps.oauth.views.outcome:find_user"],
    "the token, the signals": ["apps.oauth.views.outcome:log_in"],
    "the audit log": ["apps.oauth.audit:record"],
}

spent: Counter[str] = Counter()  # nanoseconds by part
inside = [0]  # a stack: nanoseconds that the running part has spent in parts it called


def time_part(part: str, where: str) -> None:
    """Replace a function, `where` = "module:path", by one that adds its time to the part."""
    module, _, path = where.partition(":")
    owner: Any = import_module(module)
    *owners, name = path.split(".")
    for each in owners:
        owner = getattr(owner, each)
    function = getattr(owner, name)

    @functools.wraps(function)
    def timed(*args: Any, **kwargs: Any) -> Any:
        inside.append(0)
        begin = time.thread_time_ns()
        try:
            return function(*args, **kwargs)
        finally:
            took = time.thread_time_ns() - begin
            spent[part] += took - inside.pop()
            inside[-1] += took

    setattr(owner, name, timed)


def get(path: str, query: str, cookie: str, number: int) -> tuple[dict[str, str], bytes]:
    """Call the shop; each `number` has a client address of its own."""
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
    """Go to QQ and come back; return the query with the sealed code, and the cookie."""
    headers, _ = get("/oauth/qq/login/", "next=/", "", number)
    (state,) = parse_qs(urlsplit(headers["Location"]).query)["state"]
    cookie = headers["Set-Cookie"].partition(";")[0]
    code = new_code(1 + secrets.randbelow(persons))
    headers, _ = get("/oauth/qq/callback/", f"code={code}&state={state}", cookie, number)
    return urlsplit(headers["Location"]).query, headers["Set-Cookie"].partition(";")[0]


def run(logins: int, persons: int) -> None:
    for part, functions in PARTS.items():
        for where in functions:
            time_part(part, where)
    for _ in ("warm up", "measure"):
        flows = [begin_flow(number, persons) for number in range(logins)]
        spent.clear()
        begin = time.process_time_ns()
        for number, (query, cookie) in enumerate(flows):
            _, body = get("/oauth/qq/users/", query, cookie, number)
            assert b"user_id" in body, body
        whole = time.process_time_ns() - begin
    print(json.dumps({"whole": whole / logins / 1000, **{part: spent[part] / logins / 1000 for part in PARTS}}))

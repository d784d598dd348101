"""What the stand-in was told to do differently: the document of PUT /_standin/behaviour, and the faults it may order.

`{"token": {"fault": "slow", "seconds": 3, "times": 1}, "errors": "jsonp"}`: a key that is left out stays as it is,
a fault without `times` lasts until it is changed, and `"token": null` ends it.
"""

import asyncio
import socket
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

ENDPOINTS = ("token", "me", "get_user_info")
# The real answer is made and then spoiled on its way: a code given with these is used up.
ANSWERING = ("slow", "drip", "drip_headers", "cut")
# The call never gets as far as QQ's logic: a code stays good.
NOT_ANSWERING = ("hang", "empty", "html", "502", "redirect", "reset", "huge", "error", "body")

DEFAULTS: dict[str, Any] = {
    **dict.fromkeys(ENDPOINTS),
    "errors": "json",  # the shape of an error where fmt=json was asked for
    "ignore_need_openid": False,
    "unionid": "granted",
    "client_id": None,  # what /me answers; None = the real one
    "expires_in": 5184000,  # seconds a token lives
    "expires_in_number": False,  # a JSON number in place of the usual string
    "charset": False,  # add "; charset=utf-8" to the Content-Type
    "online": True,  # False: authorize refuses with 100011
}  # and "openid", any JSON value, absent = the person's own

GATEWAY_PAGE = b"<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n<body>502 Bad Gateway</body>\r\n</html>\r\n"
HUGE = 1 << 30  # bytes


@dataclass(frozen=True, kw_only=True)
class Fault:
    fault: str
    times: int = 0  # calls it lasts, 0 = until it is changed
    seconds: float | None = None  # slow: the wait (default 3); drip, drip_headers: between two bytes (default 1)
    at: int | None = None  # cut: bytes of the body that arrive, default half of them
    number: int = 0
    body: str = ""
    location: str | None = None

    def used_once(self) -> "Fault | None":
        return None if self.times == 1 else replace(self, times=max(self.times - 1, 0))


def _is_count(value: object) -> bool:
    return type(value) is int and value >= 0


def _is_bool(value: object) -> bool:
    return isinstance(value, bool)


def _is_text(value: object) -> bool:
    return isinstance(value, str)


Rules = Mapping[str, tuple[Callable[[Any], bool], str]]

SETTING_RULES: Rules = {
    **dict.fromkeys(ENDPOINTS, (lambda value: value is None or isinstance(value, dict), "an object or null")),
    "errors": (lambda value: value in ("json", "jsonp"), "json or jsonp"),
    "ignore_need_openid": (_is_bool, "true or false"),
    "unionid": (lambda value: value in ("granted", "no_right"), "granted or no_right"),
    "client_id": (lambda value: value is None or isinstance(value, str), "a string or null"),
    "expires_in": (_is_count, "seconds, a whole number"),
    "expires_in_number": (_is_bool, "true or false"),
    "charset": (_is_bool, "true or false"),
    "online": (_is_bool, "true or false"),
    "openid": (lambda value: True, "anything"),
}
FAULT_RULES: Rules = {
    "fault": (lambda value: str(value) in ANSWERING + NOT_ANSWERING, " ".join(ANSWERING + NOT_ANSWERING)),
    "times": (_is_count, "a whole number, 0 = for ever"),
    "seconds": (lambda value: type(value) in (int, float) and value >= 0, "a number, not below 0"),
    "at": (_is_count, "a number of bytes"),
    "number": (lambda value: type(value) is int, "a whole number"),
    "body": (_is_text, "a string"),
    "location": (_is_text, "a string"),
}
NEEDED_BY = {"error": "number", "body": "body"}


def _check(document: Mapping[str, Any], rules: Rules, where: str) -> None:
    for key, value in document.items():
        if key not in rules:
            raise ValueError(f"{where}{key}: unknown key, known are {' '.join(rules)}")
        is_good, wanted = rules[key]
        if not is_good(value):
            raise ValueError(f"{where}{key}: must be {wanted}")


def _read_fault(endpoint: str, value: Mapping[str, Any] | None) -> Fault | None:
    if not value:
        return None
    _check(value, FAULT_RULES, f"{endpoint}.")
    if "fault" not in value:
        raise ValueError(f"{endpoint}.fault: is missing")
    fault = str(value["fault"])  # 502 may come as a number
    needed = NEEDED_BY.get(fault)
    if needed is not None and needed not in value:
        raise ValueError(f"{endpoint}.{needed}: is missing")
    return Fault(**{**value, "fault": fault})


def read_behaviour(document: object) -> dict[str, Any]:
    """Check a behaviour document, whole; raise ValueError naming what is wrong in it.

    A fault is taken as one piece: a new one replaces all of the old, null or {} ends it.
    """
    if not isinstance(document, dict):
        raise ValueError("the body must be a JSON object")
    _check(document, SETTING_RULES, "")
    return {key: _read_fault(key, value) if key in ENDPOINTS else value for key, value in document.items()}


async def client_left(receive: Receive, seconds: float | None = None) -> bool:
    """Wait so many seconds, None = without end, but no longer than the client does."""

    async def leaving() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    try:
        await asyncio.wait_for(leaving(), seconds)
    except asyncio.TimeoutError:
        return False
    return True


class Spoiled(Response):
    """An answer under a fault. It writes to the connection itself where HTTP would not let it."""

    def __init__(self, fault: Fault, answer: Response) -> None:
        super().__init__(answer.body, answer.status_code)
        self.raw_headers = answer.raw_headers
        self.fault = fault

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        transport: asyncio.Transport = scope["state"]["transport"]
        seconds = self.fault.seconds
        body = bytes(self.body)
        head = b"".join(b"%s: %s\r\n" % header for header in self.raw_headers)
        head = b"HTTP/1.1 200 OK\r\n" + head + b"connection: close\r\n\r\n"

        if self.fault.fault == "slow":
            if not await client_left(receive, 3 if seconds is None else seconds):
                await super().__call__(scope, receive, send)
        elif self.fault.fault == "drip":
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            for byte in body:
                if await client_left(receive, 1 if seconds is None else seconds):
                    return
                await send({"type": "http.response.body", "body": bytes((byte,)), "more_body": True})
            await send({"type": "http.response.body", "body": b""})
        elif self.fault.fault == "drip_headers":
            for byte in head:
                if await client_left(receive, 1 if seconds is None else seconds):
                    return
                transport.write(bytes((byte,)))
            transport.write(body)
            transport.close()
            await client_left(receive)
        elif self.fault.fault == "cut":
            at = len(body) // 2 if self.fault.at is None else self.fault.at
            transport.write(head + body[:at])
            transport.close()
            await client_left(receive)
        elif self.fault.fault == "reset":
            linger_zero = struct.pack("ii", 1, 0)  # closing then sends RST and not FIN
            transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger_zero)
            transport.abort()
            await client_left(receive)
        elif self.fault.fault == "hang":
            await client_left(receive)
        elif self.fault.fault == "huge":
            # No Content-Length: whoever reads has to count for himself.
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/html")]})
            chunk = b" " * 65536
            for _ in range(HUGE // len(chunk)):
                await asyncio.sleep(0)  # other calls want their turn, and the loop must notice a client that left
                if transport.is_closing():
                    return
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
            await send({"type": "http.response.body", "body": b""})

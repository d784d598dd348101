"""Answers sent with a fault: late, byte by byte, cut off, without end, or not at all."""

import asyncio
import socket
import struct

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from .behaviour import Fault

GATEWAY_PAGE = b"<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n<body>502 Bad Gateway</body>\r\n</html>\r\n"
HUGE_BYTES = 1 << 30


async def wait_for_disconnect(receive: Receive, seconds: float | None = None) -> bool:
    """Wait for the given time (None = no limit) or until the client disconnects; return True if it did."""

    async def disconnected() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    try:
        await asyncio.wait_for(disconnected(), seconds)
    except asyncio.TimeoutError:
        return False
    return True


class FaultyResponse(Response):
    """An answer sent with a fault. Where a fault breaks HTTP, it writes to the connection directly."""

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
            if not await wait_for_disconnect(receive, 3 if seconds is None else seconds):
                await super().__call__(scope, receive, send)
        elif self.fault.fault == "drip":
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            for byte in body:
                if await wait_for_disconnect(receive, 1 if seconds is None else seconds):
                    return
                await send({"type": "http.response.body", "body": bytes((byte,)), "more_body": True})
            await send({"type": "http.response.body", "body": b""})
        elif self.fault.fault == "drip_headers":
            for byte in head:
                if await wait_for_disconnect(receive, 1 if seconds is None else seconds):
                    return
                transport.write(bytes((byte,)))
            transport.write(body)
            transport.close()
            await wait_for_disconnect(receive)
        elif self.fault.fault == "cut":
            at = len(body) // 2 if self.fault.at is None else self.fault.at
            transport.write(head + body[:at])
            transport.close()
            await wait_for_disconnect(receive)
        elif self.fault.fault == "reset":
            linger_zero = struct.pack("ii", 1, 0)  # makes the close send RST, not FIN
            transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger_zero)
            transport.abort()
            await wait_for_disconnect(receive)
        elif self.fault.fault == "hang":
            await wait_for_disconnect(receive)
        elif self.fault.fault == "huge":
            # Without Content-Length, only the client's own count can stop the read.
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/html")]})
            chunk = b" " * 65536
            for _ in range(HUGE_BYTES // len(chunk)):
                await asyncio.sleep(0)  # let other calls run, and the loop notice a disconnect
                if transport.is_closing():
                    return
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
            await send({"type": "http.response.body", "body": b""})

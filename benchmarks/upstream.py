"""A fast graph.qq.com for benchmarks. It keeps no state, so it never limits a contestant.

It answers like the stand-in; tests/tools/test_benchmarks.py compares them. The first 8 hex digits of a code are the
number of a person, whose openid is UPPER(MD5(number)), as SQL can compute too. The other 24 digits make it unique.

`python -m benchmarks.upstream --ca-file FILE` writes the certificate of its own authority to the file, then prints its
two ports. The first is QQ, over TLS. The second is plain HTTP and controls it: `GET /` returns the counters, and
`PUT /` takes fields of Behaviour as JSON.
"""

import argparse
import asyncio
import json
import secrets
import socket
import ssl
import struct
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from hashlib import md5
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

CLIENT_ID = "101000001"
CLIENT_SECRET = "not a real key"
GATEWAY_PAGE = b"<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n<body>502 Bad Gateway</body>\r\n</html>\r\n"
# As long as the real answer, with the same names.
USER_INFO = {
    "ret": 0,
    "msg": "",
    "is_lost": 0,
    "nickname": "小企鹅",
    "gender": "男",
    "gender_type": 2,
    "province": "广东",
    "city": "深圳",
    "year": "1990",
    "constellation": "",
    "figureurl": f"http://qzapp.qlogo.cn/qzapp/{CLIENT_ID}/{'0' * 32}/30",
    "figureurl_1": f"http://qzapp.qlogo.cn/qzapp/{CLIENT_ID}/{'0' * 32}/50",
    "figureurl_2": f"http://qzapp.qlogo.cn/qzapp/{CLIENT_ID}/{'0' * 32}/100",
    "figureurl_qq_1": "http://thirdqq.qlogo.cn/g?b=oidb&k=0000000000000000000000&s=40&t=1557635654",
    "figureurl_qq_2": "http://thirdqq.qlogo.cn/g?b=oidb&k=0000000000000000000000&s=100&t=1557635654",
    "figureurl_qq": "http://thirdqq.qlogo.cn/g?b=oidb&k=0000000000000000000000&s=640&t=1557635654",
    "figureurl_type": "1",
    "is_yellow_vip": "0",
    "vip": "0",
    "yellow_vip_level": "0",
    "level": "0",
    "is_yellow_year_vip": "0",
}


@dataclass
class Behaviour:
    delay: float = 0  # seconds before each answer
    failing: str = ""  # "502" or "reset": how each call fails


@dataclass
class Counted:
    token: int = 0
    me: int = 0
    get_user_info: int = 0
    failed: int = 0
    connections: int = 0


def new_code(person: int) -> str:
    return f"{person:08X}{secrets.token_hex(12).upper()}"


def openid_of(person: int) -> str:
    return md5(str(person).encode(), usedforsecurity=False).hexdigest().upper()


def openid_in(code: str) -> str:
    """Return the openid a code or an access_token is for."""
    return openid_of(int(code[:8], 16))


class Connection(asyncio.Protocol):
    """HTTP/1.1 with Content-Length, one call at a time."""

    def __init__(self, answer: Callable[["Connection", str, str, bytes], None]) -> None:
        self.answer = answer
        self.received = b""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.received += data
        head, found, body = self.received.partition(b"\r\n\r\n")
        if not found:
            return
        _, has_length, rest = head.lower().partition(b"\r\ncontent-length:")
        length = int(rest.partition(b"\r\n")[0]) if has_length else 0
        if len(body) < length:
            return
        self.received = b""
        method, target, _ = head.partition(b"\r\n")[0].decode().split(" ")
        self.answer(self, method, target, body)

    def send(self, body: bytes, status: bytes = b"200 OK", content_type: bytes = b"text/html") -> None:
        head = b"HTTP/1.1 %b\r\nContent-Type: %b\r\nCache-Control: no-cache\r\nContent-Length: %d\r\n\r\n"
        self.transport.write(head % (status, content_type, len(body)) + body)

    def reset(self) -> None:
        # Closing then sends RST and not FIN.
        sock = self.transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abort()


class Upstream:
    def __init__(self) -> None:
        self.behaviour = Behaviour()
        self.counted = Counted()
        self.calls = {
            "/oauth2.0/token": ("token", self.token),
            "/oauth2.0/me": ("me", self.me),
            "/user/get_user_info": ("get_user_info", self.get_user_info),
        }

    def connect(self) -> Connection:
        self.counted.connections += 1
        return Connection(self.answer)

    def answer(self, connection: Connection, method: str, target: str, body: bytes) -> None:
        path, _, query = target.partition("?")
        name, call = self.calls[path]
        setattr(self.counted, name, getattr(self.counted, name) + 1)
        if self.behaviour.failing:
            self.counted.failed += 1
            send = connection.reset if self.behaviour.failing == "reset" else lambda: gateway_page(connection)
        else:
            answer = call(dict(parse_qsl(body.decode() if method == "POST" else query))).encode()
            send = lambda: connection.send(answer)  # noqa: E731  called now or after the delay
        if self.behaviour.delay:
            asyncio.get_running_loop().call_later(self.behaviour.delay, send)
        else:
            send()

    def token(self, query: dict[str, str]) -> str:
        answer = {
            "access_token": new_code(int(query["code"][:8], 16)),
            "expires_in": "5184000",
            "refresh_token": secrets.token_hex(16).upper(),
        }
        if query.get("need_openid") == "1":
            answer["openid"] = openid_in(query["code"])
        if query.get("fmt") == "json":
            return json.dumps(answer, separators=(",", ":"))
        return "&".join(f"{name}={value}" for name, value in answer.items())

    def me(self, query: dict[str, str]) -> str:
        answer = {"client_id": CLIENT_ID, "openid": openid_in(query["access_token"])}
        text = json.dumps(answer, separators=(",", ":"))
        return text if query.get("fmt") == "json" else f"callback( {text} );\n"

    def get_user_info(self, query: dict[str, str]) -> str:
        return json.dumps(USER_INFO, ensure_ascii=False, indent=4)

    def control(self, connection: Connection, method: str, target: str, body: bytes) -> None:
        if method == "PUT":
            changes: dict[str, Any] = json.loads(body)
            for name in {field.name for field in fields(Behaviour)} & changes.keys():
                setattr(self.behaviour, name, changes[name])
        connection.send(json.dumps(asdict(self.counted)).encode(), content_type=b"application/json")


def gateway_page(connection: Connection) -> None:
    connection.send(GATEWAY_PAGE, b"502 Bad Gateway")


async def serve(ca_file: Path) -> None:
    import trustme  # here: modules that import only the names above need not install it

    # RSA like QQ: it is cheaper to verify than elliptic curves.
    authority = trustme.CA(key_type=trustme.KeyType.RSA)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1", key_type=trustme.KeyType.RSA).configure_cert(context)
    authority.cert_pem.write_to_path(str(ca_file))

    upstream = Upstream()
    loop = asyncio.get_running_loop()
    qq = await loop.create_server(upstream.connect, "127.0.0.1", 0, ssl=context, backlog=2048)
    control = await loop.create_server(lambda: Connection(upstream.control), "127.0.0.1", 0)
    print(*(server.sockets[0].getsockname()[1] for server in (qq, control)), flush=True)
    await asyncio.gather(qq.serve_forever(), control.serve_forever())


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.upstream", description=__doc__)
    parser.add_argument("--ca-file", type=Path, required=True)
    arguments = parser.parse_args()
    try:
        import uvloop
    except ImportError:  # slower, but fast enough for the test
        asyncio.run(serve(arguments.ca_file))
    else:
        uvloop.run(serve(arguments.ca_file))


if __name__ == "__main__":
    main()

"""The shoppers: a program that calls a server as many of them would, and notes when each call began and ended.

Its first line of input is a Job as JSON. It prepares what is to be prepared, says `ready`, begins at the line `go`,
says `low` when little of what it has prepared is left and `done` when all is used up, and ends at the line `stop` with
one line of JSON: what it noted. Times are those of CLOCK_MONOTONIC, which all processes of a machine share.
"""

import asyncio
import json
import random
import re
import secrets
import ssl
import sys
import time
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote_plus

from benchmarks.upstream import CLIENT_ID, CLIENT_SECRET, new_code

MAX_REPEATS = 5  # as web/callback.js
PREPARING = 32  # at once
PROBES = 10  # a second

HEADER = {
    name: re.compile(rb"\r\n%b: *([^\r\n]*)" % name.encode(), re.IGNORECASE)
    for name in ("Content-Length", "Connection", "Location", "Set-Cookie", "Retry-After")
}


@dataclass(frozen=True)
class Job:
    port: int
    kind: str  # how a login is asked for: "ours", "tutorial", "peer", "qq" for a call to the upstream itself
    persons: int = 50_000  # the numbers of those who log in are 1 to this
    clients: int = 0  # in a closed loop, each calls again as soon as it was answered
    rate: float = 0  # calls a second, at random moments; the number of clients follows
    flows: int = 0  # to prepare; 0: each client makes its flow as it goes
    requests: tuple[str, ...] = ()  # to send in place of logins, each once
    probe: str = ""  # a path to ask for meanwhile, each time on a connection of its own
    ca_file: str = ""  # speak TLS


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    head: bytes
    body: bytes

    def header(self, name: str) -> str:
        found = HEADER[name].search(self.head)
        return found[1].decode() if found else ""


class Connection(asyncio.Protocol):
    """HTTP/1.1, one call after the other, answers with a Content-Length."""

    def __init__(self) -> None:
        self.received = b""
        self.waiting: asyncio.Future[Answer] | None = None
        self.is_open = True

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def call(self, request: bytes) -> "asyncio.Future[Answer]":
        self.waiting = asyncio.get_running_loop().create_future()
        self.transport.write(request)
        return self.waiting

    def data_received(self, data: bytes) -> None:
        self.received += data
        head, found, body = self.received.partition(b"\r\n\r\n")
        if not found:
            return
        length = HEADER["Content-Length"].search(head)
        if length is None:
            return self.connection_lost(ValueError(f"no Content-Length: {head!r}"))
        if len(body) < int(length[1]):
            return
        answer = Answer(int(head[9:12]), head, body)
        if answer.header("Connection").lower() == "close":
            self.is_open = False
            self.transport.close()
        self.received = b""
        waiting, self.waiting = self.waiting, None
        if waiting is not None and not waiting.done():
            waiting.set_result(answer)

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_open = False
        if self.waiting is not None and not self.waiting.done():
            self.waiting.set_exception(ConnectionError(str(exc)))


class Client:
    """A browser: it keeps its connection, and opens another when the server has closed that."""

    def __init__(self, load: "Load") -> None:
        self.load = load
        self.connection: Connection | None = None

    async def call(self, request: bytes) -> Answer:
        if self.connection is not None and self.connection.is_open:
            # Closed in the moment of the call: as a browser does, ask again on a new one.
            with suppress(ConnectionError):
                return await self.connection.call(request)
        self.connection = await self.load.connect()
        return await self.connection.call(request)


@dataclass
class Noted:
    """Each with its begin and end; a status of 0 is a connection that broke."""

    calls: list[tuple[float, float, int]] = field(default_factory=list)
    flows: list[tuple[float, float, int, str]] = field(default_factory=list)  # and tries, and how it ended
    probes: list[tuple[float, float | None, int]] = field(default_factory=list)


class Load:
    def __init__(self, job: Job) -> None:
        self.job = job
        self.noted = Noted()
        self.prepared: deque[bytes] = deque(request.encode() for request in job.requests)
        self.is_low = False
        self.tls = ssl.create_default_context(cafile=job.ca_file) if job.ca_file else None
        asks: dict[str, Callable[[], bytes]] = {
            "tutorial": lambda: get(f"/oauth/qq/users/?code={self.new_code()}"),
            "peer": lambda: post("/oauth/qq/users/", {"provider": "qq", "code": self.new_code()}),
            "qq": lambda: get(
                f"/oauth2.0/token?grant_type=authorization_code&client_id={CLIENT_ID}&client_secret={quote_plus(CLIENT_SECRET)}"
                f"&code={self.new_code()}&redirect_uri=http%3A%2F%2F127.0.0.1%2F&fmt=json&need_openid=1"
            ),
        }
        self.ask = asks.get(job.kind)
        self.makes_no_flows = bool(self.ask or job.flows or job.requests)

    def new_code(self) -> str:
        return new_code(random.randint(1, self.job.persons))

    async def connect(self) -> Connection:
        loop = asyncio.get_running_loop()
        return (await loop.create_connection(Connection, "127.0.0.1", self.job.port, ssl=self.tls))[1]

    # Flows.

    async def prepare(self) -> None:
        async def some(count: int) -> None:
            client = Client(self)
            for _ in range(count):
                self.prepared.append(await self.begin_flow(client))

        share, rest = divmod(self.job.flows, PREPARING)
        await asyncio.gather(*(some(share + (number < rest)) for number in range(PREPARING)))

    async def begin_flow(self, client: Client) -> bytes:
        """Go to QQ and back as a browser does; return the call that the page makes then."""
        address = random_address()
        answer = await client.call(get("/oauth/qq/login/?next=/", address))
        state = parameter("state", answer)
        to_callback = f"/oauth/qq/callback/?code={self.new_code()}&state={state}"
        answer = await client.call(get(to_callback, address, cookie(answer)))
        return get(f"/oauth/qq/users/?code={parameter('code', answer)}", address, cookie(answer))

    async def next_request(self, client: Client) -> bytes | None:
        """Return the next call that is to be measured; None if all that was prepared is used up."""
        if self.ask is not None:
            return self.ask()
        if not self.makes_no_flows:
            return await self.begin_flow(client)
        if len(self.prepared) <= self.job.clients // 10 and not self.is_low:
            self.is_low = True
            say("low")
        return self.prepared.popleft() if self.prepared else None

    async def finish_flow(self, client: Client, begun: float) -> bool:
        """Log one shopper in, as patiently as the page does. False if no flow was left."""
        try:
            request = await self.next_request(client)
        except (OSError, Unexpected) as exc:
            client.connection = None
            self.noted.flows.append((begun, time.monotonic(), 0, str(exc) or type(exc).__name__))
            await asyncio.sleep(1)
            return True
        if request is None:
            return False
        for tries in range(1, MAX_REPEATS + 2):
            # From the moment the call was due, unless the flow had to be made first.
            is_due = tries == 1 and self.makes_no_flows
            answer = await self.note(client, request, begun if is_due else time.monotonic())
            outcome = "ok" if answer.status == 200 else error_of(answer)
            if outcome != "qq_busy":
                break
            if tries <= MAX_REPEATS:
                await asyncio.sleep(int(answer.header("Retry-After") or 1) + 2 * random.random())
        self.noted.flows.append((begun, time.monotonic(), tries, outcome))
        return True

    async def note(self, client: Client, request: bytes, begun: float) -> Answer:
        try:
            answer = await client.call(request)
        except OSError:
            answer = Answer(0, b"", b"")
        self.noted.calls.append((begun, time.monotonic(), answer.status))
        return answer

    # Who calls when.

    async def closed_loops(self) -> None:
        async def one() -> None:
            client = Client(self)
            while await self.finish_flow(client, time.monotonic()):
                pass

        await asyncio.gather(*(one() for _ in range(self.job.clients)))
        say("done")

    async def open_loop(self, tasks: set[asyncio.Task[None]]) -> None:
        idle: list[Client] = []

        async def one(begun: float) -> None:
            client = idle.pop() if idle else Client(self)
            await self.finish_flow(client, begun)
            idle.append(client)

        due = time.monotonic()
        while True:
            due += random.expovariate(self.job.rate)
            await asyncio.sleep(max(0, due - time.monotonic()))
            keep(tasks, one(due))

    async def probing(self, tasks: set[asyncio.Task[None]]) -> None:
        async def one(begun: float, place: int) -> None:
            status = 0
            with suppress(OSError):
                connection = await self.connect()
                status = (await connection.call(get(self.job.probe, random_address()))).status
                connection.transport.close()
            self.noted.probes[place] = begun, time.monotonic(), status

        while True:
            begun = time.monotonic()
            self.noted.probes.append((begun, None, 0))  # should it never be answered
            keep(tasks, one(begun, len(self.noted.probes) - 1))
            await asyncio.sleep(1 / PROBES)

    async def run(self, go: Awaitable[bytes], stop: Callable[[], Awaitable[bytes]]) -> None:
        await self.prepare()
        say("ready")
        await go
        tasks: set[asyncio.Task[None]] = set()
        if self.job.clients:
            keep(tasks, self.closed_loops())
        if self.job.rate:
            keep(tasks, self.open_loop(tasks))
        if self.job.probe:
            keep(tasks, self.probing(tasks))
        await stop()
        for task in list(tasks):
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        for result in results:
            if isinstance(result, Exception):
                raise result
        say(json.dumps(vars(self.noted)))


class Unexpected(Exception):
    """An answer that a flow cannot go on from."""


def keep(tasks: set[asyncio.Task[None]], work: Any) -> None:
    task = asyncio.ensure_future(work)
    tasks.add(task)
    # One that failed stays, to be told of at the end.
    task.add_done_callback(lambda done: None if not done.cancelled() and done.exception() else tasks.discard(done))


def get(target: str, address: str = "", cookie: str = "") -> bytes:
    head = f"GET {target} HTTP/1.1\r\nHost: 127.0.0.1\r\n"
    head += f"X-Forwarded-For: {address}\r\n" if address else ""
    head += f"Cookie: {cookie}\r\n" if cookie else ""
    return f"{head}\r\n".encode()


def post(target: str, fields: dict[str, str], address: str = "", cookie: str = "") -> bytes:
    body = json.dumps(fields).encode()
    head = get(target, address, cookie).replace(b"GET", b"POST", 1).removesuffix(b"\r\n")
    return head + b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body) + body


def parameter(name: str, answer: Answer) -> str:
    if value := parameter_of(name, answer.header("Location")):
        return value
    raise Unexpected(f"status {answer.status} without a {name}: {error_of(answer)}")


def parameter_of(name: str, address: str) -> str:
    found = re.search(rf"[?&]{name}=([^&]+)", address)
    return found[1] if found else ""


def cookie(answer: Answer) -> str:
    return answer.header("Set-Cookie").partition(";")[0]


def error_of(answer: Answer) -> str:
    with suppress(ValueError, TypeError, KeyError):
        return str(json.loads(answer.body)["code"])
    return parameter_of("error", answer.header("Location")) or str(answer.status)


def random_address() -> str:
    """Return an address for documentation and tests (RFC 2544), which nobody has."""
    return f"198.{18 + secrets.randbelow(2)}.{secrets.randbelow(256)}.{secrets.randbelow(256)}"


def say(line: str) -> None:
    print(line, flush=True)


async def main() -> None:
    loop = asyncio.get_running_loop()

    async def line() -> bytes:
        return await loop.run_in_executor(None, sys.stdin.buffer.readline)

    await Load(Job(**json.loads(await line()))).run(line(), line)


if __name__ == "__main__":
    import uvloop

    uvloop.run(main())

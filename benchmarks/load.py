"""The load: a program that calls a server like many users would, and records when each call began and ended.

It reads a Job as JSON from its first line of input, prepares it and prints `ready`. It begins at the line `go`, prints
`low` when little of what it prepared is left and `done` when nothing is. At the line `stop` it prints its records as
one line of JSON and ends. Times are those of CLOCK_MONOTONIC, which all processes of a machine share.
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

MAX_REPEATS = 5  # like web/callback.js
PREPARING = 32  # flows prepared at once
PROBES = 10  # per second

HEADER = {
    name: re.compile(rb"\r\n%b: *([^\r\n]*)" % name.encode(), re.IGNORECASE)
    for name in ("Content-Length", "Connection", "Location", "Set-Cookie", "Retry-After")
}


@dataclass(frozen=True)
class Job:
    port: int
    kind: str  # how to request a login: "ours", "tutorial", "peer"; "qq" calls the upstream itself
    persons: int = 50_000  # persons 1 to this number log in
    clients: int = 0  # a closed loop: each calls again as soon as it has its response
    rate: float = 0  # an open loop: calls per second, at random moments, by as many clients as that needs
    flows: int = 0  # number of flows to prepare; 0: each client starts its flow when it needs it
    requests: tuple[str, ...] = ()  # sent instead of logins, each once
    probe: str = ""  # a path to request meanwhile, each time on a new connection
    ca_file: str = ""  # if given, speak TLS


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    head: bytes
    body: bytes

    def header(self, name: str) -> str:
        found = HEADER[name].search(self.head)
        return found[1].decode() if found else ""


class Connection(asyncio.Protocol):
    """HTTP/1.1, one call at a time, responses with Content-Length."""

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
    """A browser: it keeps its connection and opens a new one once the server has closed it."""

    def __init__(self, load: "Load") -> None:
        self.load = load
        self.connection: Connection | None = None

    async def call(self, request: bytes) -> Answer:
        if self.connection is not None and self.connection.is_open:
            # If the server closes it during the call, a browser repeats the call on a new connection.
            with suppress(ConnectionError):
                return await self.connection.call(request)
        self.connection = await self.load.connect()
        return await self.connection.call(request)


@dataclass
class Records:
    """What happened, each with its begin and end; status 0 is a broken connection."""

    calls: list[tuple[float, float, int]] = field(default_factory=list)  # then status
    flows: list[tuple[float, float, int, str]] = field(default_factory=list)  # then tries, outcome
    probes: list[tuple[float, float | None, int]] = field(default_factory=list)  # then status


class Load:
    def __init__(self, job: Job) -> None:
        self.job = job
        self.records = Records()
        self.prepared: deque[bytes] = deque(request.encode() for request in job.requests)
        self.is_low = False
        self.tls = ssl.create_default_context(cafile=job.ca_file) if job.ca_file else None
        requests: dict[str, Callable[[], bytes]] = {
            "tutorial": lambda: get(f"/oauth/qq/users/?code={self.new_code()}"),
            "peer": lambda: post("/oauth/qq/users/", {"provider": "qq", "code": self.new_code()}),
            "qq": lambda: get(
                f"/oauth2.0/token?grant_type=authorization_code&client_id={CLIENT_ID}&client_secret={quote_plus(CLIENT_SECRET)}"
                f"&code={self.new_code()}&redirect_uri=http%3A%2F%2F127.0.0.1%2F&fmt=json&need_openid=1"
            ),
        }
        self.ask = requests.get(job.kind)  # None: ours, whose logins need a flow
        self.is_prepared = bool(self.ask or job.flows or job.requests)

    def new_code(self) -> str:
        return new_code(random.randint(1, self.job.persons))

    async def connect(self) -> Connection:
        loop = asyncio.get_running_loop()
        return (await loop.create_connection(Connection, "127.0.0.1", self.job.port, ssl=self.tls))[1]

    # Flows

    async def prepare(self) -> None:
        async def begin_flows(count: int) -> None:
            client = Client(self)
            for _ in range(count):
                self.prepared.append(await self.begin_flow(client))

        share, rest = divmod(self.job.flows, PREPARING)
        await asyncio.gather(*(begin_flows(share + (number < rest)) for number in range(PREPARING)))

    async def begin_flow(self, client: Client) -> bytes:
        """Go to QQ and back like a browser; return the call that the page makes next."""
        address = random_address()
        answer = await client.call(get("/oauth/qq/login/?next=/", address))
        state = parameter("state", answer)
        to_callback = f"/oauth/qq/callback/?code={self.new_code()}&state={state}"
        answer = await client.call(get(to_callback, address, cookie(answer)))
        return get(f"/oauth/qq/users/?code={parameter('code', answer)}", address, cookie(answer))

    async def next_request(self, client: Client) -> bytes | None:
        """Return the next call to measure; None if all prepared ones are used up."""
        if self.ask is not None:
            return self.ask()
        if not self.is_prepared:
            return await self.begin_flow(client)
        if len(self.prepared) <= self.job.clients // 10 and not self.is_low:
            self.is_low = True
            say("low")
        return self.prepared.popleft() if self.prepared else None

    async def finish_flow(self, client: Client, begin: float) -> bool:
        """Log one user in, with the waits and tries of the page. Return False if no flow was left."""
        try:
            request = await self.next_request(client)
        except (OSError, Unexpected) as exc:
            client.connection = None
            self.records.flows.append((begin, time.monotonic(), 0, str(exc) or type(exc).__name__))
            await asyncio.sleep(1)
            return True
        if request is None:
            return False
        for tries in range(1, MAX_REPEATS + 2):
            # A prepared call is timed from the moment it was due, even if it is sent late.
            is_due = tries == 1 and self.is_prepared
            answer = await self.call(client, request, begin if is_due else time.monotonic())
            outcome = "ok" if answer.status == 200 else error_of(answer)
            if outcome != "qq_busy":
                break
            if tries <= MAX_REPEATS:
                await asyncio.sleep(int(answer.header("Retry-After") or 1) + 2 * random.random())
        self.records.flows.append((begin, time.monotonic(), tries, outcome))
        return True

    async def call(self, client: Client, request: bytes, begin: float) -> Answer:
        try:
            answer = await client.call(request)
        except OSError:
            answer = Answer(0, b"", b"")
        self.records.calls.append((begin, time.monotonic(), answer.status))
        return answer

    # Loops

    async def run_closed_loops(self) -> None:
        async def loop() -> None:
            client = Client(self)
            while await self.finish_flow(client, time.monotonic()):
                pass

        await asyncio.gather(*(loop() for _ in range(self.job.clients)))
        say("done")

    async def run_open_loop(self, tasks: set[asyncio.Task[None]]) -> None:
        idle: list[Client] = []

        async def log_in(begin: float) -> None:
            client = idle.pop() if idle else Client(self)
            await self.finish_flow(client, begin)
            idle.append(client)

        due = time.monotonic()
        while True:
            due += random.expovariate(self.job.rate)
            await asyncio.sleep(max(0, due - time.monotonic()))
            start(tasks, log_in(due))

    async def run_probes(self, tasks: set[asyncio.Task[None]]) -> None:
        async def probe(begin: float, index: int) -> None:
            status = 0
            with suppress(OSError):
                connection = await self.connect()
                status = (await connection.call(get(self.job.probe, random_address()))).status
                connection.transport.close()
            self.records.probes[index] = begin, time.monotonic(), status

        while True:
            begin = time.monotonic()
            self.records.probes.append((begin, None, 0))  # in case it is never answered
            start(tasks, probe(begin, len(self.records.probes) - 1))
            await asyncio.sleep(1 / PROBES)

    async def run(self, go: Awaitable[bytes], stop: Callable[[], Awaitable[bytes]]) -> None:
        await self.prepare()
        say("ready")
        await go
        tasks: set[asyncio.Task[None]] = set()
        if self.job.clients:
            start(tasks, self.run_closed_loops())
        if self.job.rate:
            start(tasks, self.run_open_loop(tasks))
        if self.job.probe:
            start(tasks, self.run_probes(tasks))
        await stop()
        for task in list(tasks):
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        for result in results:
            if isinstance(result, Exception):
                raise result
        say(json.dumps(vars(self.records)))


class Unexpected(Exception):
    """A response that a flow cannot continue from."""


def start(tasks: set[asyncio.Task[None]], coroutine: Any) -> None:
    task = asyncio.ensure_future(coroutine)
    tasks.add(task)
    # A failed task stays, so that its error is raised at the end.
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
    """Return an address of the range reserved for benchmarks (RFC 2544)."""
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

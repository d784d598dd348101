"""A slow line: a TCP proxy with a round trip time and a bandwidth, which all of its connections share.

`python -m benchmarks.line LISTEN_PORT TARGET_PORT ROUND_TRIP_MS MBIT_PER_SECOND`

Each direction is a queue: bytes leave it at the line's rate and arrive half a round trip later. A new connection costs
one more round trip, its TCP handshake. Packets are neither lost nor limited by a congestion window: that favours large
pages.
"""

import asyncio
import sys

HOST = "127.0.0.1"
CHUNK = 1400  # bytes: like a packet, so that connections share the line fairly


class Direction:
    """One direction of the line."""

    def __init__(self, delay: float, rate: float) -> None:
        self.delay, self.rate = delay, rate
        self.free_at = 0.0

    def send(self, size: int, now: float) -> float:
        """Put bytes on the line; return when they have arrived."""
        self.free_at = max(self.free_at, now) + size / self.rate
        return self.free_at + self.delay


async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, line: Direction, ready_at: float) -> None:
    """Carry the bytes of one connection in one direction."""
    loop = asyncio.get_running_loop()
    arriving: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()

    async def deliver() -> None:
        while True:
            at, data = await arriving.get()
            await asyncio.sleep(at - loop.time())
            if not data:
                break
            writer.write(data)
        writer.close()

    delivery = asyncio.create_task(deliver())
    try:
        while data := await reader.read(CHUNK):
            arriving.put_nowait((line.send(len(data), max(loop.time(), ready_at)), data))
    except ConnectionError:
        pass
    arriving.put_nowait((line.send(0, loop.time()), b""))
    await delivery


async def serve(port: int, target: int, round_trip: float, rate: float) -> None:
    up, down = Direction(round_trip / 2, rate), Direction(round_trip / 2, rate)

    async def connect(client_reader: asyncio.StreamReader, client_writer: asyncio.StreamWriter) -> None:
        ready_at = asyncio.get_running_loop().time() + round_trip  # SYN and its answer
        reader, writer = await asyncio.open_connection(HOST, target)
        await asyncio.gather(pump(client_reader, writer, up, ready_at), pump(reader, client_writer, down, 0))

    server = await asyncio.start_server(connect, HOST, port)
    await server.serve_forever()


if __name__ == "__main__":
    port, target, milliseconds, megabits = sys.argv[1:]
    asyncio.run(serve(int(port), int(target), float(milliseconds) / 1000, float(megabits) * 1_000_000 / 8))

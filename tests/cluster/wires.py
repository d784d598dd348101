"""Wires between an app server and its cache, which a test can cut."""

import asyncio
import threading
from contextlib import contextmanager

from tests.tools.processes import HOST


class Wires:
    """A TCP proxy for each port.

    While they are cut, connections stay open and new ones are accepted, but nothing passes: as if packets were lost on
    the way. What was sent meanwhile arrives afterwards, as TCP would repeat it. Answers that name one of the ports, as
    a Sentinel's do, name its proxy instead.
    """

    def __init__(self, targets):
        self.targets, self.ports, self.servers = targets, {}, []
        self.loop, self.passing = asyncio.new_event_loop(), asyncio.Event()
        self.passing.set()

    def cut(self):
        self.loop.call_soon_threadsafe(self.passing.clear)

    def join(self):
        self.loop.call_soon_threadsafe(self.passing.set)

    async def listen(self):
        for target in self.targets:
            server = await asyncio.start_server(self._make_connector(target), HOST, 0)
            self.servers.append(server)
            self.ports[target] = server.sockets[0].getsockname()[1]

    async def end(self):
        for server in self.servers:
            server.close()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _make_connector(self, target):
        async def connect(reader, writer):
            try:
                far_reader, far_writer = await asyncio.open_connection(HOST, target)
            except OSError:
                writer.close()
            else:
                await asyncio.gather(self._copy(reader, far_writer), self._copy(far_reader, writer))

        return connect

    async def _copy(self, reader, writer):
        try:
            while data := await self._read(reader):
                for target, port in self.ports.items():
                    data = data.replace(b"\r\n%d\r\n" % target, b"\r\n%d\r\n" % port)
                writer.write(data)
                await writer.drain()
        except OSError:
            pass  # one side is gone, so the other is closed too
        finally:
            writer.close()

    async def _read(self, reader):
        data = await reader.read(65536)
        await self.passing.wait()
        return data


@contextmanager
def wires(targets):
    """Run the proxies in a thread while the block runs."""
    made = Wires(targets)
    made.loop.run_until_complete(made.listen())
    thread = threading.Thread(target=made.loop.run_forever, daemon=True)
    thread.start()
    try:
        yield made
    finally:
        made.loop.call_soon_threadsafe(made.loop.stop)
        thread.join()
        made.loop.run_until_complete(made.end())
        made.loop.close()

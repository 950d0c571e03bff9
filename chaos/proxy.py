"""A TCP proxy that does to connections what networks do."""

import asyncio
import socket
import struct
from collections import Counter
from collections.abc import Callable
from contextlib import suppress

Tap = Callable[[bytes], bool]
"""Sees what a client sends; True: this arrives, its answer never does, and the connection is reset."""

_CHUNK = 65_536
_RESET = struct.pack("ii", 1, 0)
_LOST_ANSWER_SECONDS = 0.05


class Proxy:
    """Forwards 127.0.0.1:`port` to `target_port`, in the weather that its attributes make.

    `delay_seconds` holds for each direction. `sliced_bytes`: so many of each chunk go one by one. `silent`:
    what is sent disappears, nobody is told; it ends by a reset of the connections it was done to. `counts`
    tells how often each was really done.
    """

    def __init__(self, target_port: int) -> None:
        self.target_port = target_port
        self.port = 0
        self.delay_seconds = 0.0
        self.sliced_bytes = 0
        self.tap: Tap | None = None
        self.counts: Counter[str] = Counter()
        self.links: set[Link] = set()
        self._loud = asyncio.Event()
        self._loud.set()
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        """Listen, on the same port as before."""
        if self._server is None:
            self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
            self.port = self._server.sockets[0].getsockname()[1]

    def refuse(self) -> None:
        """Refuse new connections until `open`."""
        if self._server:
            self._server.close()
            self._server = None

    def reset(self) -> int:
        """Break every connection with a RST; return how many there were."""
        links = list(self.links)
        for link in links:
            link.reset()
        self.counts["resets"] += len(links)
        return len(links)

    async def orphan(self, seconds: float) -> None:
        """Break every connection for its client only; the server learns of it after `seconds`."""
        links = list(self.links)
        for link in links:
            link.orphan()
        self.counts["orphaned sessions"] += len(links)
        await asyncio.sleep(seconds)
        for link in links:
            link.reset()

    @property
    def silent(self) -> bool:
        return not self._loud.is_set()

    def hush(self) -> None:
        self._loud.clear()

    def speak(self) -> None:
        """End the silence."""
        self._loud.set()
        for link in list(self.links):
            if link.muted:
                link.reset()

    async def loud(self) -> None:
        await self._loud.wait()

    async def close(self) -> None:
        self.refuse()
        self._loud.set()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        self._tasks.add(task)
        self.counts["connections"] += 1
        try:
            with suppress(OSError, asyncio.CancelledError):
                link = Link(
                    self, (reader, writer), await asyncio.open_connection("127.0.0.1", self.target_port)
                )
                self.links.add(link)
                try:
                    await link.run()
                finally:
                    self.links.discard(link)
        finally:
            self._tasks.discard(task)
            writer.transport.abort()


Ends = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Link:
    """One connection through the proxy."""

    def __init__(self, proxy: Proxy, client: Ends, server: Ends) -> None:
        self._proxy = proxy
        self._client, self._server = client, server
        self.muted = False
        self._orphaned = False
        self._answers_lost = False
        for _, writer in (client, server):
            writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    async def run(self) -> None:
        (client_in, client_out), (server_in, server_out) = self._client, self._server
        pumps = [
            asyncio.create_task(self._pump(client_in, server_out, to_server=True)),
            asyncio.create_task(self._pump(server_in, client_out, to_server=False)),
        ]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            # In a silent network the other side does not even learn that this one has gone.
            await self._proxy.loud()
            if self._orphaned:
                await asyncio.wait(pumps)
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
            for writer in (client_out, server_out):
                writer.transport.abort()

    def reset(self) -> None:
        for _, writer in (self._client, self._server):
            _reset(writer)

    def orphan(self) -> None:
        self.muted = self._orphaned = True
        _reset(self._client[1])

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, to_server: bool
    ) -> None:
        under_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(maxsize=256)
        reading = asyncio.create_task(self._read(reader, under_way))
        try:
            await self._arrive(under_way, writer, to_server=to_server)
        finally:
            reading.cancel()

    async def _read(
        self, reader: asyncio.StreamReader, under_way: "asyncio.Queue[tuple[float, bytes]]"
    ) -> None:
        clock = asyncio.get_running_loop().time
        with suppress(OSError):
            while data := await reader.read(_CHUNK):
                await under_way.put((clock() + self._proxy.delay_seconds, data))
        await under_way.put((clock(), b""))

    async def _arrive(
        self,
        under_way: "asyncio.Queue[tuple[float, bytes]]",
        writer: asyncio.StreamWriter,
        *,
        to_server: bool,
    ) -> None:
        clock = asyncio.get_running_loop().time
        with suppress(OSError):
            while (arrival := await under_way.get())[1]:
                due, data = arrival
                if (wait_seconds := due - clock()) > 0:
                    self._proxy.counts["delayed"] += 1
                    await asyncio.sleep(wait_seconds)
                if self._disappears(to_server=to_server):
                    continue
                lost = to_server and self._proxy.tap is not None and self._proxy.tap(data)
                self._answers_lost = self._answers_lost or lost
                await self._write(writer, data)
                if lost:
                    self._proxy.counts["answers lost"] += 1
                    asyncio.get_running_loop().call_later(_LOST_ANSWER_SECONDS, self.reset)

    def _disappears(self, *, to_server: bool) -> bool:
        if self._proxy.silent:
            self.muted = True
            self._proxy.counts["swallowed"] += 1
        return self.muted or (self._answers_lost and not to_server)

    async def _write(self, writer: asyncio.StreamWriter, data: bytes) -> None:
        sliced = self._proxy.sliced_bytes
        for place in range(min(sliced, len(data))):
            writer.write(data[place : place + 1])
            await asyncio.sleep(0)
        if sliced:
            self._proxy.counts["slices"] += min(sliced, len(data))
        writer.write(data[sliced:])
        await writer.drain()


def _reset(writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    writer.transport.abort()

"""An HTTP receiver that does what a test tells it, down to what no HTTP library would do."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ReceivedRequest:
    """`headers` by their names in lower case."""

    path: str
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Reaction:
    """What is done about a request. `hangs`: never answered; `resets`: the connection is reset instead.

    `body_bytes` of the body follow the head, until the sender has gone.
    """

    status: int = 204
    headers: Mapping[str, str] | None = None
    body_bytes: int = 0
    hangs: bool = False
    resets: bool = False


class HostileReceiver:
    """`react` decides about each request; all are kept in `requests`, and `connections` are counted."""

    def __init__(self, port: int, scheme: str) -> None:
        self.port = port
        self.url = f"{scheme}://127.0.0.1:{port}/hooks"
        self.requests: list[ReceivedRequest] = []
        self.connections = 0
        self.body_bytes_taken = 0
        self.react: Callable[[ReceivedRequest], Reaction] = lambda _: Reaction()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            request = await _request(reader)
            self.requests.append(request)
            await self._do(self.react(request), reader, writer)
        except (OSError, asyncio.IncompleteReadError):
            pass  # the sender has gone
        finally:
            writer.close()

    async def _do(
        self, reaction: Reaction, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        if reaction.resets:
            writer.transport.abort()
            return
        if reaction.hangs:
            await reader.read()  # until the sender gives up
            return
        headers = {"content-length": str(reaction.body_bytes), **(reaction.headers or {})}
        lines = [f"HTTP/1.1 {reaction.status} So", *(f"{name}: {value}" for name, value in headers.items())]
        writer.write("\r\n".join([*lines, "", ""]).encode())
        for _ in range(reaction.body_bytes // 65_536):
            writer.write(b"x" * 65_536)
            await writer.drain()
            self.body_bytes_taken += 65_536
        await writer.drain()


@asynccontextmanager
async def hostile_receiver(tls: ssl.SSLContext | None = None) -> AsyncIterator[HostileReceiver]:
    """A receiver on a free port of the loopback interface."""
    receiver: HostileReceiver | None = None

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert receiver
        await receiver.serve(reader, writer)

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls, limit=1 << 20)
    receiver = HostileReceiver(server.sockets[0].getsockname()[1], "https" if tls else "http")
    try:
        yield receiver
    finally:
        server.close()


async def _request(reader: asyncio.StreamReader) -> ReceivedRequest:
    first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    pairs = (line.partition(":") for line in lines if line)
    headers = {name.lower(): value.strip() for name, _, value in pairs}
    body = await reader.readexactly(int(headers.get("content-length", 0)))
    return ReceivedRequest(first.split(" ")[1], headers, body)

"""The proxy does what its weather says, and counts it."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from chaos.proxy import Proxy
from service_kit.testing.eventually import eventually


@pytest.fixture
async def proxy() -> AsyncIterator[Proxy]:
    """In front of a server that answers each line in capitals."""

    async def shout(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            writer.write(line.upper())
        writer.close()

    server = await asyncio.start_server(shout, "127.0.0.1", 0)
    proxy = Proxy(server.sockets[0].getsockname()[1])
    await proxy.open()
    yield proxy
    await proxy.close()
    server.close()
    await server.wait_closed()


class Client:
    def __init__(self, ends: tuple[asyncio.StreamReader, asyncio.StreamWriter]) -> None:
        self._reader, self._writer = ends

    async def ask(self, text: bytes) -> bytes:
        """The answer; empty when the connection broke."""
        try:
            self._writer.write(text + b"\n")
            async with asyncio.timeout(3):
                return await self._reader.readline()
        except ConnectionError:
            return b""

    def close(self) -> None:
        self._writer.transport.abort()


@pytest.fixture
async def client(proxy: Proxy) -> AsyncIterator[Client]:
    client = Client(await asyncio.open_connection("127.0.0.1", proxy.port))
    yield client
    client.close()


async def test_bytes_arrive(client: Client) -> None:
    assert await client.ask(b"hello") == b"HELLO\n"


async def test_slices_arrive_whole(proxy: Proxy, client: Client) -> None:
    proxy.sliced_bytes = 3
    assert await client.ask(b"hello") == b"HELLO\n"
    assert proxy.counts["slices"] == 6


async def test_a_delay_holds_both_ways(proxy: Proxy, client: Client) -> None:
    proxy.delay_seconds = 0.1
    clock = asyncio.get_running_loop().time
    begun = clock()
    assert await client.ask(b"hello") == b"HELLO\n"
    assert clock() - begun >= 0.2
    assert proxy.counts["delayed"] == 2


async def test_what_the_tap_chooses_arrives_and_its_answer_is_lost(proxy: Proxy, client: Client) -> None:
    proxy.tap = lambda data: b"commit" in data
    assert await client.ask(b"hello") == b"HELLO\n"
    assert await client.ask(b"commit") == b""
    assert proxy.counts["answers lost"] == 1


async def test_silence_swallows_and_then_breaks(proxy: Proxy, client: Client) -> None:
    proxy.hush()
    asked = asyncio.create_task(client.ask(b"hello"))
    await eventually(lambda: proxy.counts["swallowed"] == 1)
    assert not asked.done()
    proxy.speak()
    assert await asked == b""


async def test_a_reset_breaks_every_connection(proxy: Proxy, client: Client) -> None:
    assert await client.ask(b"hello") == b"HELLO\n"
    assert proxy.reset() == 1
    assert await client.ask(b"hello") == b""


async def test_refused_until_opened_again_on_the_same_port(proxy: Proxy) -> None:
    port = proxy.port
    proxy.refuse()
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", port)
    await proxy.open()
    client = Client(await asyncio.open_connection("127.0.0.1", port))
    assert await client.ask(b"hello") == b"HELLO\n"
    client.close()


async def test_an_orphaned_server_learns_late_that_its_client_has_gone(proxy: Proxy, client: Client) -> None:
    assert await client.ask(b"hello") == b"HELLO\n"
    orphaned = asyncio.create_task(proxy.orphan(0.2))
    assert await client.ask(b"hello") == b""
    assert len(proxy.links) == 1
    await orphaned
    await eventually(lambda: not proxy.links)

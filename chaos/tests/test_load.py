"""How the load counts what it was not given."""

import asyncio
from contextlib import suppress

from chaos.load import Client, Load
from service_kit.testing.eventually import eventually

_NOBODY = "http://127.0.0.1:1"


async def test_a_request_that_no_instance_answers_is_counted_once() -> None:
    load = Load([_NOBODY, _NOBODY], per_second=1, seed=1)
    task = asyncio.create_task(Client(load, first=0).post("a", "c"))
    await eventually(lambda: load.broken >= 5)
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    assert load.unserved == 1


async def test_a_request_that_the_second_instance_answers_is_none_that_failed() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"}]}")
        writer.write(b"HTTP/1.1 409 Conflict\r\ncontent-length: 0\r\n\r\n")
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        load = Load([f"http://127.0.0.1:{port}", _NOBODY], per_second=1, seed=1)
        client = Client(load, first=0)
        answered = await client.post("a", "c")
        client.close()
        await asyncio.sleep(0)
    assert answered is not None
    assert (answered.status, load.broken, load.unserved) == (409, 1, 0)

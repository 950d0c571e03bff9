"""The load generator against a server that answers at once."""

import asyncio
from array import array
from collections.abc import AsyncIterator
from itertools import pairwise
from pathlib import Path

import msgspec
import pytest

from bench.load.connection import is_whole
from bench.load.load import Load
from bench.load.spec import LoadResult, LoadSpec, order_id, request_template
from order_service.api.schemas import parse_order
from service_kit.testing.eventually import eventually

_CREATED = b"HTTP/1.1 201 Created\r\ncontent-length: 2\r\n\r\n{}"
_REFUSED = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n"


class Server:
    def __init__(self) -> None:
        self.answer = _CREATED
        self.ids: list[str] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                length = int(head.split("content-length: ")[1].split("\r")[0])
                self.ids.append(msgspec.json.decode(await reader.readexactly(length))["order_id"])
                # In two pieces, as it may come over a network.
                writer.write(self.answer[:20])
                await asyncio.sleep(0)
                writer.write(self.answer[20:])
        except asyncio.IncompleteReadError:
            writer.close()


@pytest.fixture
def handler() -> Server:
    return Server()


@pytest.fixture
async def port(handler: Server) -> AsyncIterator[int]:
    server = await asyncio.start_server(handler.serve, "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()


async def test_every_order_is_sent_once_and_counted(port: int, handler: Server) -> None:
    result = await _run(port, connections=4, count=50)
    assert sorted(handler.ids) == [f"o-{number:010d}" for number in range(50)]
    assert result.good == result.good_ever == 50
    assert result.statuses == {"201": 50}
    assert 0 < result.percentiles["p50"] <= result.slowest_seconds


async def test_refusals_are_no_good_answers(port: int, handler: Server) -> None:
    handler.answer = _REFUSED
    result = await _run(port, connections=2, count=10)
    assert (result.good, result.statuses, result.without_retry_after) == (0, {"503": 10}, 10)


async def test_no_more_is_begun_than_was_allowed(port: int, handler: Server) -> None:
    load = Load(LoadSpec(port=port, connections=4, seconds=30, warm_seconds=0, allowance=3))
    running = asyncio.create_task(load.run())
    await eventually(lambda: load.good == 3)
    load.allow(5)
    await eventually(lambda: load.good == 5)
    assert load.begun == 5
    load.stop()
    assert (await running).good_ever == 5


async def test_what_was_allowed_before_the_start_is_begun(port: int, handler: Server) -> None:
    load = Load(LoadSpec(port=port, connections=1, seconds=30, warm_seconds=0, allowance=2, count=2))
    load.allow(2)
    assert (await load.run()).good_ever == 2


async def test_a_rate_is_kept_and_orders_are_due_at_even_times(port: int, tmp_path: Path) -> None:
    times = tmp_path / "times"
    result = await _run(port, connections=4, rate=200.0, count=20, times_file=str(times))
    assert result.good_ever == 20
    due = array("d")
    due.frombytes(times.read_bytes())
    assert [later - earlier for earlier, later in pairwise(due)] == pytest.approx([0.005] * 19, abs=1e-6)


@pytest.mark.parametrize("ids", ["ordered", "random"])
def test_a_request_is_an_order_of_the_announced_length(ids: str) -> None:
    spec = LoadSpec(port=1, connections=1, seconds=1, ids=ids)  # type: ignore[arg-type]
    request = request_template(spec) % order_id(spec, 123).encode()
    head, _, body = request.partition(b"\r\n\r\n")
    assert f"content-length: {len(body)}".encode() in head
    assert parse_order(body).order_id == order_id(spec, 123)


def test_random_ids_do_not_repeat() -> None:
    spec = LoadSpec(port=1, connections=1, seconds=1, ids="random")
    assert len({order_id(spec, number) for number in range(10_000)}) == 10_000


@pytest.mark.parametrize("cut", range(len(_CREATED)))
def test_an_answer_is_whole_at_its_last_byte_only(cut: int) -> None:
    assert not is_whole(_CREATED[:cut])
    assert is_whole(_CREATED)


async def _run(port: int, **fields: object) -> LoadResult:
    return await Load(LoadSpec(port=port, seconds=30, warm_seconds=0, **fields)).run()  # type: ignore[arg-type]

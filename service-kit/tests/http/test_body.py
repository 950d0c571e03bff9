import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress

import httpx
import pytest
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from service_kit.http.body import WHOLE_BODY, body_chunks, read_body
from service_kit.http.protocol import HttpLimits
from service_kit.http.server import HttpServer
from service_kit.observability.metrics import Metrics
from service_kit.testing.eventually import eventually

Serve = Callable[..., Awaitable[HttpServer]]
Raw = Callable[[HttpServer, bytes], Awaitable[bytes]]


async def length(request: Request) -> Response:
    return Response(str(len(await read_body(request, bytes_max=100_000, seconds_max=0.2))))


async def length_of_chunks(request: Request) -> Response:
    chunks = body_chunks(request, bytes_max=100_000, seconds_max=0.2)
    return Response(str(sum([len(chunk) async for chunk in chunks])))


ROUTES = [Route("/", length, methods=["POST"]), Route("/chunks", length_of_chunks, methods=["POST"])]


async def chunks(count: int) -> AsyncIterator[bytes]:
    for _ in range(count):
        yield b"x" * 10_000


async def test_a_body_of_exactly_the_limit_is_read(serve: Serve) -> None:
    server = await serve(ROUTES)

    async with httpx.AsyncClient(base_url=server.url) as client:
        plain = await client.post("/", content=b"x" * 100_000)
        streamed = await client.post("/", content=chunks(10))
        empty = await client.post("/")

    assert [plain.text, streamed.text, empty.text] == ["100000", "100000", "0"]


async def test_a_larger_body_is_refused_whether_announced_or_streamed(serve: Serve) -> None:
    server = await serve(ROUTES)

    async with httpx.AsyncClient(base_url=server.url) as client:
        announced = await client.post("/", content=b"x" * 100_001)
        streamed = await client.post("/", content=chunks(11))

    assert [announced.status_code, streamed.status_code] == [413, 413]
    assert announced.json()["error_type"] == "PayloadTooLarge"
    assert "100000 bytes" in announced.json()["detail"]


async def test_a_body_announced_too_large_is_refused_before_it_is_sent(serve: Serve) -> None:
    server = await serve(ROUTES)
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)

    writer.write(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 100001\r\nexpect: 100-continue\r\n\r\n")

    assert (await reader.readline()).startswith(b"HTTP/1.1 413 ")
    writer.close()


async def test_after_a_refused_body_the_connection_serves_the_next_request(serve: Serve, raw: Raw) -> None:
    server = await serve(ROUTES)
    refused = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 100001\r\n\r\n" + b"x" * 100_001
    good = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok"

    answers = await raw(server, refused + good)

    assert answers.startswith(b"HTTP/1.1 413 ")
    assert answers.endswith(b"\r\n\r\n2")


async def test_after_a_refused_body_the_connection_is_closed_when_nothing_more_comes(
    serve: Serve, raw: Raw
) -> None:
    server = await serve(ROUTES, HttpLimits(dropped_seconds_max=3600, keep_alive_seconds=0.2))
    refused = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 100001\r\n\r\n"
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)

    writer.write(refused)
    assert (await reader.readline()).startswith(b"HTTP/1.1 413 ")
    writer.write(b"x" * 100_001)

    await reader.read()
    writer.close()


async def test_of_a_refused_body_only_so_much_is_read(serve: Serve) -> None:
    server = await serve(
        ROUTES, HttpLimits(dropped_bytes_max=200_000, dropped_seconds_max=3600, keep_alive_seconds=3600)
    )
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)

    writer.write(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 99999999\r\n\r\n")
    assert (await reader.readline()).startswith(b"HTTP/1.1 413 ")
    writer.write(b"x" * 1_000_000)

    with suppress(ConnectionError):
        await reader.read()
    writer.close()


async def test_of_a_refused_body_nothing_is_awaited_for_long(serve: Serve, raw: Raw) -> None:
    server = await serve(ROUTES, HttpLimits(dropped_seconds_max=0.1, keep_alive_seconds=3600))

    answer = await raw(server, b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 99999999\r\n\r\nx")

    assert answer.startswith(b"HTTP/1.1 413 ")


async def test_a_body_that_does_not_come_is_a_problem_408(serve: Serve, raw: Raw) -> None:
    server = await serve(ROUTES)

    answer = await raw(server, b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\nhel")

    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b'"error_type":"RequestTimeout"' in answer


async def test_a_client_that_goes_away_in_its_body_leaves_no_error(serve: Serve, metrics: Metrics) -> None:
    server = await serve(ROUTES)
    _, writer = await asyncio.open_connection("127.0.0.1", server.port)

    writer.write(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\nhel")
    await writer.drain()
    writer.close()

    labels = {"method": "POST", "route": "/", "status": "499"}
    await eventually(
        lambda: metrics.registry.get_sample_value("http_request_duration_seconds_count", labels) == 1
    )


async def test_a_body_may_be_read_piece_by_piece_within_the_same_limits(serve: Serve, raw: Raw) -> None:
    server = await serve(ROUTES)

    async with httpx.AsyncClient(base_url=server.url) as client:
        plain = await client.post("/chunks", content=b"x" * 100_000)
        streamed = await client.post("/chunks", content=chunks(10))
        empty = await client.post("/chunks")
        announced = await client.post("/chunks", content=b"x" * 100_001)
        too_long = await client.post("/chunks", content=chunks(11))
    late = await raw(server, b"POST /chunks HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\nhel")

    assert [plain.text, streamed.text, empty.text] == ["100000", "100000", "0"]
    assert [announced.status_code, too_long.status_code] == [413, 413]
    assert late.startswith(b"HTTP/1.1 408 ")


async def test_of_the_time_for_a_body_only_that_counts_in_which_the_client_lets_us_wait() -> None:
    """In pieces that come at once, however long each is worked on."""
    pieces = iter([b"a", b"b", b"c"])

    async def receive() -> dict[str, object]:
        piece = next(pieces)
        return {"type": "http.request", "body": piece, "more_body": piece != b"c"}

    request = Request({"type": "http", "headers": []}, receive)
    taken: list[bytes] = []
    async for chunk in body_chunks(request, bytes_max=10, seconds_max=0.2):
        await asyncio.sleep(0.15)
        taken.append(chunk)

    assert taken == [b"a", b"b", b"c"]


async def test_a_slow_body_is_a_problem_408_behind_one_that_came_at_once(serve: Serve, raw: Raw) -> None:
    """On one connection, whether it was sent before the first was answered or after."""
    server = await serve(ROUTES)
    fast = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\nok"
    slow = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\nhel"

    pipelined = await raw(server, fast + fast + slow)
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(fast)
    first = await reader.readuntil(b"\r\n\r\n2")
    writer.write(slow)
    second = await reader.read()
    writer.close()

    assert pipelined.count(b"HTTP/1.1 200 ") == 2
    assert pipelined.count(b"HTTP/1.1 408 ") == 1
    assert first.startswith(b"HTTP/1.1 200 ")
    assert second.startswith(b"HTTP/1.1 408 ")


async def test_a_client_that_expects_100_is_told_to_go_on_and_its_body_must_come(
    serve: Serve, raw: Raw
) -> None:
    server = await serve(ROUTES)
    head = b"POST / HTTP/1.1\r\nhost: x\r\nconnection: close\r\nexpect: 100-continue\r\n"
    head += b"content-length: 2\r\n\r\n"

    at_once = await raw(server, head + b"ok")
    never = await raw(server, head)
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(head)
    told = await reader.readuntil(b"\r\n\r\n")
    writer.write(b"ok")
    answer = await reader.read()
    writer.close()

    assert told == b"HTTP/1.1 100 Continue\r\n\r\n"
    assert at_once.startswith(told) and b"HTTP/1.1 200 " in at_once
    assert never.startswith(told) and b"HTTP/1.1 408 " in never
    assert answer.startswith(b"HTTP/1.1 200 ")


async def test_a_body_that_is_there_is_read_without_asking_for_the_time() -> None:
    async def receive() -> dict[str, object]:
        return {"type": "http.request", "body": b"all of it", "more_body": False}

    request = Request({"type": "http", "headers": [], WHOLE_BODY: True}, receive)
    reading = read_body(request)

    with pytest.raises(StopIteration) as ended:  # outside of any task, in which no timer can be made
        reading.send(None)
    assert ended.value.value == b"all of it"


async def test_a_body_that_is_there_and_is_too_large_is_refused(serve: Serve, raw: Raw) -> None:
    server = await serve(ROUTES)
    sent = b"".join(b"%x\r\n%s\r\n" % (40_000, b"x" * 40_000) for _ in range(3)) + b"0\r\n\r\n"

    answer = await raw(
        server,
        b"POST / HTTP/1.1\r\nhost: x\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n" + sent,
    )

    assert answer.startswith(b"HTTP/1.1 413 ")

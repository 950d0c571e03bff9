import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable

import httpx
import pytest
import structlog
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route
from structlog.testing import capture_logs

from service_kit.errors import StartupError
from service_kit.http.application import application
from service_kit.http.protocol import HttpLimits
from service_kit.http.server import HttpServer, http_server
from service_kit.observability.metrics import Metrics
from service_kit.testing.eventually import eventually

Serve = Callable[..., Awaitable[HttpServer]]
Raw = Callable[[HttpServer, bytes], Awaitable[bytes]]


async def hello(request: Request) -> Response:
    return Response(b"hello " + await request.body())


ROUTES = [Route("/", hello, methods=["GET", "POST"])]


@pytest.mark.parametrize(
    "garbage",
    [
        b"garbage\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc",
        b"GET / HTTP/9\r\n\r\n",
        b"GET /\xff HTTP/1.1\r\n\r\n",
        b"GET ? HTTP/1.1\r\n\r\n",
        b"GET http://[::1 HTTP/1.1\r\n\r\n",
        b"CONNECT a:1 HTTP/1.1\r\n\r\n",
        b"BREW / HTTP/1.1\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"POST / HTTP/1.1\r\ncontent-length: -1\r\n\r\n",
        b"POST / HTTP/1.1\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n",
        b"POST / HTTP/1.1\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n",
        b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        b"GET / HTTP/1.1\r\nx: a\x00b\r\n\r\n",
    ],
)
async def test_what_is_no_http_is_a_problem_400(
    serve: Serve, raw: Raw, caplog: pytest.LogCaptureFixture, garbage: bytes
) -> None:
    server = await serve(ROUTES)

    answer = await raw(server, garbage)

    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"application/problem+json" in answer
    assert caplog.records == []


@pytest.mark.parametrize("upgrade", ["h2c", "websocket"])
async def test_an_asked_for_upgrade_is_ignored_and_the_body_read(
    serve: Serve, raw: Raw, upgrade: str
) -> None:
    server = await serve(ROUTES)
    asking = f"connection: upgrade\r\nupgrade: {upgrade}\r\n"
    first = f"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 4\r\n{asking}\r\nonce".encode()
    second = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\nconnection: close\r\n\r\ntwo"

    answers = await raw(server, first + second)

    assert answers.count(b"HTTP/1.1 200 ") == 2
    assert b"hello once" in answers
    assert answers.endswith(b"hello two")


async def test_a_head_that_is_too_large_is_a_problem_431(serve: Serve, raw: Raw) -> None:
    server = await serve(ROUTES, HttpLimits(head_bytes_max=10_000))

    answer = await raw(server, b"GET / HTTP/1.1\r\nx: " + b"a" * 10_000)

    assert answer.startswith(b"HTTP/1.1 431 ")


async def test_a_head_that_does_not_come_is_a_problem_408_on_every_request_of_a_connection(
    serve: Serve, raw: Raw
) -> None:
    server = await serve(ROUTES, HttpLimits(head_seconds_max=0.1))

    first = await raw(server, b"GET / HTTP/1.1\r\nhost:")
    second = await raw(server, b"GET / HTTP/1.1\r\nhost: x\r\n\r\nGET / HTTP/1.1\r\nhost:")

    assert first.startswith(b"HTTP/1.1 408 ")
    assert second.startswith(b"HTTP/1.1 200 ")
    assert b"HTTP/1.1 408 " in second


async def test_a_connection_on_which_nothing_comes_is_closed(serve: Serve, raw: Raw) -> None:
    server = await serve(ROUTES, HttpLimits(head_seconds_max=0.1))

    assert await raw(server, b"") == b""


async def test_a_connection_is_closed_some_time_after_its_last_answer_and_not_within_a_request(
    serve: Serve, raw: Raw
) -> None:
    async def slow(_: Request) -> Response:
        await asyncio.sleep(0.5)
        return Response(b"slow")

    server = await serve([*ROUTES, Route("/slow", slow)], HttpLimits(keep_alive_seconds=0.2))
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    loop = asyncio.get_running_loop()

    writer.write(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
    await reader.readuntil(b"hello ")
    writer.write(b"GET /slow HTTP/1.1\r\nhost: x\r\n\r\n")
    await reader.readuntil(b"\r\n\r\nslow")
    answered_at = loop.time()
    assert await reader.read() == b""
    writer.close()

    assert loop.time() - answered_at > 0.15


async def test_a_taken_port_is_told_in_one_line(serve: Serve) -> None:
    server = await serve(ROUTES)

    with pytest.raises(StartupError) as caught:
        async with http_server(application([], metrics=Metrics()), "127.0.0.1", server.port):
            pass

    assert str(caught.value) == (
        f"cannot listen on 127.0.0.1:{server.port}: the port is taken by another process; "
        "choose another with APP__PORT"
    )
    assert caught.value.exit_code == 1


@pytest.mark.parametrize("host", ["203.0.113.1", "no-such-host.invalid", "a..b"])
async def test_an_address_of_another_machine_is_told_in_one_line(host: str) -> None:
    with pytest.raises(StartupError, match="not an address of this machine; choose another with APP__HOST"):
        async with http_server(application([], metrics=Metrics()), host, 0):
            pass


async def test_it_listens_on_ipv6_too() -> None:
    async with (
        http_server(application(ROUTES, metrics=Metrics()), "::1", 0) as server,
        httpx.AsyncClient(base_url=server.url) as client,
    ):
        assert server.url.startswith("http://[::1]:")
        assert (await client.get("/")).text == "hello "


async def test_draining_answers_what_is_in_flight_and_closes_what_is_idle() -> None:
    asked, may_answer = asyncio.Event(), asyncio.Event()

    async def slow(_: Request) -> Response:
        asked.set()
        await may_answer.wait()
        return Response(b"done")

    app = application([*ROUTES, Route("/slow", slow)], metrics=Metrics())
    async with httpx.AsyncClient() as idle, httpx.AsyncClient() as busy:
        async with http_server(app, "127.0.0.1", 0) as server:
            await idle.get(server.url)
            answer = asyncio.create_task(busy.get(f"{server.url}/slow"))
            await asked.wait()
            draining = asyncio.create_task(server.drain(30))
            await eventually(lambda: refused(server))
            may_answer.set()
            await draining
        assert (await answer).text == "done"
        assert (await answer).headers["connection"] == "close"
        with pytest.raises(httpx.TransportError):
            await idle.get(server.url)


async def test_what_is_not_answered_within_the_grace_time_is_cut_off_without_a_traceback(
    caplog: pytest.LogCaptureFixture,
) -> None:
    asked = asyncio.Event()

    async def endless(_: Request) -> Response:
        asked.set()
        await asyncio.Event().wait()
        return Response()

    app = application([Route("/", endless)], metrics=Metrics())
    async with httpx.AsyncClient() as client:
        with capture_logs() as lines:
            async with http_server(app, "127.0.0.1", 0, grace_seconds=0) as server:
                answer = asyncio.create_task(client.get(server.url))
                await asked.wait()
        with pytest.raises(httpx.TransportError):
            await answer

    assert lines == [{"event": "requests_cut_off", "requests": 1, "connections": 1, "log_level": "warning"}]
    assert caplog.records == []


async def test_requests_inherit_the_log_context_of_their_server() -> None:
    async def service(_: Request) -> Response:
        return Response(structlog.contextvars.get_contextvars()["service"])

    async def served(name: str) -> str:
        structlog.contextvars.bind_contextvars(service=name)
        async with (
            http_server(application([Route("/", service)], metrics=Metrics()), "127.0.0.1", 0) as server,
            httpx.AsyncClient() as client,
        ):
            return (await client.get(server.url)).text

    assert list(await asyncio.gather(served("one"), served("two"))) == ["one", "two"]


def refused(server: HttpServer) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", server.port)) != 0


async def test_who_leaves_an_answer_unread_is_cut_off(serve: Serve) -> None:
    async def endless(_: Request) -> Response:
        async def chunks() -> AsyncIterator[bytes]:
            while True:
                yield b"x" * 65_536
                await asyncio.sleep(0)  # writing waits for the loop's next turn

        return StreamingResponse(chunks())

    server = await serve([Route("/", endless)], limits=HttpLimits(unread_seconds_max=0.2))
    _, writer = await asyncio.open_connection("127.0.0.1", server.port, limit=1024)
    writer.write(b"GET / HTTP/1.1\r\nhost: here\r\n\r\n")
    await eventually(lambda: server._state.connections)
    await eventually(lambda: not server._state.connections)
    writer.close()

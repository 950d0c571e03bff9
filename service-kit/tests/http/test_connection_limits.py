"""How many may be connected, and which pages a browser lets in."""

import asyncio
from collections.abc import Awaitable, Callable

import httpx
import pytest
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from service_kit.http.application import application
from service_kit.http.cors import for_origins
from service_kit.http.protocol import HttpLimits
from service_kit.http.server import HttpServer, http_server
from service_kit.observability.metrics import Metrics

Serve = Callable[..., Awaitable[HttpServer]]


async def hello(_: Request) -> Response:
    return Response(b"hello")


ROUTES = [Route("/", hello, methods=["GET", "POST"])]


@pytest.mark.parametrize("limits", [HttpLimits(connections_max=2), HttpLimits(connections_per_address_max=2)])
async def test_one_connection_too_many_is_refused_until_another_ends(
    serve: Serve, limits: HttpLimits
) -> None:
    server = await serve(ROUTES, limits=limits)
    held = [await asyncio.open_connection("127.0.0.1", server.port) for _ in range(2)]

    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    refused = await reader.read()
    writer.close()

    assert refused.startswith(b"HTTP/1.1 503 ")
    assert b"TooManyConnections" in refused and b"retry-after: 1\r\n" in refused
    for reader, writer in held:
        writer.write(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
        assert (await reader.read()).startswith(b"HTTP/1.1 200 ")
        writer.close()
    async with httpx.AsyncClient(base_url=server.url) as client:
        assert (await client.get("/")).status_code == 200


ASKING = {"origin": "https://shop.example", "access-control-request-method": "POST"}


async def test_a_browser_lets_no_page_in_unless_its_origin_is_named(serve: Serve) -> None:
    server = await serve(ROUTES)
    async with httpx.AsyncClient(base_url=server.url) as client:
        for answer in (await client.options("/", headers=ASKING), await client.get("/", headers=ASKING)):
            assert not [name for name in answer.headers if name.startswith("access-control")]


async def test_a_page_whose_origin_is_named_may_call() -> None:
    app = for_origins(application(ROUTES, metrics=Metrics()), ["https://shop.example"])
    async with (
        http_server(app, "127.0.0.1", 0) as server,
        httpx.AsyncClient(base_url=server.url) as client,
    ):
        asked = await client.options(
            "/", headers=ASKING | {"access-control-request-headers": "authorization"}
        )
        assert asked.status_code == 200
        assert asked.headers["access-control-allow-origin"] == "https://shop.example"
        other = await client.options("/", headers=ASKING | {"origin": "https://evil.example"})
        assert other.status_code == 400
        assert "access-control-allow-origin" not in other.headers
        answered = await client.get("/", headers=ASKING)
        assert "access-control-allow-credentials" not in answered.headers

"""A real server on a free port, and a socket for what no HTTP client would send."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack

import pytest
from starlette.routing import BaseRoute

from service_kit.http.access import Access
from service_kit.http.application import NOBODY, application
from service_kit.http.protocol import DEFAULT_LIMITS, HttpLimits
from service_kit.http.server import HttpServer, http_server
from service_kit.observability.metrics import Metrics

Serve = Callable[..., Awaitable[HttpServer]]
Raw = Callable[[HttpServer, bytes], Awaitable[bytes]]


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
async def serve(metrics: Metrics) -> AsyncIterator[Serve]:
    """`await serve(routes, limits=…)`: a running server, drained at the end of the test."""
    async with AsyncExitStack() as stack:

        async def start(
            routes: Sequence[BaseRoute], limits: HttpLimits = DEFAULT_LIMITS, access: Access = NOBODY
        ) -> HttpServer:
            app = application(routes, metrics=metrics, access=access)
            return await stack.enter_async_context(http_server(app, "127.0.0.1", 0, limits=limits))

        yield start


@pytest.fixture
def raw() -> Raw:
    """Send bytes, and return all bytes that come back until the server closes the connection."""

    async def exchange(server: HttpServer, request: bytes) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        try:
            writer.write(request)
            return await reader.read()
        finally:
            writer.close()

    return exchange

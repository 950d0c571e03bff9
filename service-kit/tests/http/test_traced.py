"""Requests as spans, over real HTTP."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import httpx
import pytest
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import BaseRoute, Route

from service_kit.http.application import application
from service_kit.http.server import HttpServer, http_server
from service_kit.http.traced import Traced, span_of
from service_kit.observability.metrics import Metrics
from service_kit.testing.eventually import eventually
from service_kit.testing.recorded_spans import RecordedSpans

SAMPLED = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
UNSAMPLED = SAMPLED[:-1] + "0"


@pytest.fixture
async def spans() -> AsyncIterator[RecordedSpans]:
    spans = RecordedSpans()
    yield spans
    await spans.ended()


async def own_span(request: Request) -> Response:
    return Response(span_of(request))


async def broken(_: Request) -> Response:
    raise ValueError("a defect")


async def cut_short(_: Request) -> Response:
    async def parts() -> AsyncIterator[bytes]:
        yield b"begun"
        raise ValueError("a late defect")

    return StreamingResponse(parts())


ROUTES = [
    Route("/things/{id}", own_span, methods=["GET", "POST"]),
    Route("/broken", broken),
    Route("/cut-short", cut_short),
    Route("/health", own_span),
]


@asynccontextmanager
async def serving(spans: RecordedSpans, routes: Sequence[BaseRoute] = ROUTES) -> AsyncIterator[HttpServer]:
    app = Traced(application(routes, metrics=Metrics()), spans.tracer)
    async with http_server(app, "127.0.0.1", 0) as server:
        yield server


async def ask(server: HttpServer, method: str, path: str, traceparent: str = SAMPLED) -> str:
    async with httpx.AsyncClient(base_url=server.url, trust_env=False) as client:
        return (await client.request(method, path, headers={"traceparent": traceparent})).text


async def test_a_request_is_a_span_below_the_callers_and_hands_on_its_own(spans: RecordedSpans) -> None:
    async with serving(spans) as server:
        handed_on = await ask(server, "GET", "/things/a%20b?full=1")
    (span,) = await spans.ended()
    assert (span.kind, span.name, span.parent) == ("SERVER", "GET /things/{id}", SAMPLED)
    assert handed_on == span.traceparent
    assert span.attributes == {
        "http.request.method": "GET",
        "http.route": "/things/{id}",
        "http.response.status_code": 200,
        "url.scheme": "http",
        "url.path": "/things/a%20b",
        "url.query": "full=1",
    }


async def test_a_request_that_is_not_sampled_hands_on_that_it_is_not(spans: RecordedSpans) -> None:
    async with serving(spans) as server:
        handed_on = await ask(server, "GET", "/things/a", UNSAMPLED)
    assert handed_on[:36] == UNSAMPLED[:36] and handed_on.endswith("-00")
    assert await spans.ended() == []


async def test_probes_have_no_span(spans: RecordedSpans) -> None:
    async with serving(spans) as server:
        assert await ask(server, "GET", "/health") == ""
    assert await spans.ended() == []


@pytest.mark.parametrize(
    ("method", "path", "name", "status"),
    [
        ("GET", "/nowhere", "GET", 404),
        ("DELETE", "/things/a", "DELETE /things/{id}", 405),
        ("PURGE", "/x", "HTTP", 404),
    ],
)
async def test_names_do_not_grow_with_what_clients_ask_for(
    spans: RecordedSpans, method: str, path: str, name: str, status: int
) -> None:
    async with serving(spans) as server:
        await ask(server, method, path)
    (span,) = await spans.ended()
    assert (span.name, span.attributes["http.response.status_code"], span.failed) == (name, status, False)
    assert span.attributes["http.request.method"] == (method if method != "PURGE" else "_OTHER")


async def test_an_answer_5xx_fails_its_span(spans: RecordedSpans) -> None:
    async with serving(spans) as server:
        await ask(server, "GET", "/broken")
    (span,) = await spans.ended()
    assert span.failed and span.attributes["error.type"] == "500"


async def test_an_answer_that_breaks_off_fails_its_span(spans: RecordedSpans) -> None:
    async with serving(spans) as server:
        with pytest.raises(httpx.RemoteProtocolError):
            await ask(server, "GET", "/cut-short")
    (span,) = await spans.ended()
    assert span.failed and span.attributes["error.type"] == "ValueError"
    assert span.attributes["http.response.status_code"] == 200


async def test_a_client_that_goes_away_leaves_a_span_without_a_status(spans: RecordedSpans) -> None:
    begun = asyncio.Event()

    async def waits_for_the_body(request: Request) -> Response:
        begun.set()
        return Response(await request.body())

    async with serving(spans, [Route("/", waits_for_the_body, methods=["POST"])]) as server:
        _, writer = await asyncio.open_connection("127.0.0.1", server.port)
        head = f"POST / HTTP/1.1\r\nhost: test\r\ntraceparent: {SAMPLED}\r\ncontent-length: 9\r\n\r\n"
        writer.write(head.encode())
        await eventually(begun.is_set)
        writer.close()
    (span,) = await spans.ended()
    assert span.failed and span.attributes["error.type"] == "unanswered"
    assert "http.response.status_code" not in span.attributes

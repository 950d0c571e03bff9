from collections.abc import Awaitable, Callable

import httpx
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from service_kit.http.measured import MEASURED_AS
from service_kit.http.metrics_endpoint import metrics_route
from service_kit.http.server import HttpServer
from service_kit.observability.metrics import Metrics

Serve = Callable[..., Awaitable[HttpServer]]


async def hello(_: Request) -> Response:
    return Response(b"hello")


async def test_requests_are_counted_by_method_route_template_and_status(
    serve: Serve, metrics: Metrics
) -> None:
    server = await serve([Route("/orders/{order_id}", hello), metrics_route(metrics.registry)])

    async with httpx.AsyncClient(base_url=server.url) as client:
        await client.get("/orders/1")
        await client.get("/orders/2")
        await client.request("PROPFIND", "/orders/1")
        await client.get("/anything/else")
        text = (await client.get("/metrics")).text

    counts = [
        line.split(" ")
        for line in text.splitlines()
        if line.startswith("http_request_duration_seconds_count")
    ]
    assert counts == [
        ['http_request_duration_seconds_count{method="GET",route="/orders/{order_id}",status="200"}', "2.0"],
        [
            'http_request_duration_seconds_count{method="OTHER",route="/orders/{order_id}",status="405"}',
            "1.0",
        ],
        ['http_request_duration_seconds_count{method="GET",route="unmatched",status="404"}', "1.0"],
    ]


async def test_metrics_have_the_content_type_that_every_prometheus_reads(
    serve: Serve, metrics: Metrics
) -> None:
    server = await serve([metrics_route(metrics.registry)])

    async with httpx.AsyncClient(base_url=server.url) as client:
        answer = await client.get("/metrics")

    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert "# TYPE outbox_pending gauge" in answer.text


async def test_a_handler_may_have_its_request_counted_apart(serve: Serve, metrics: Metrics) -> None:
    async def waiting(request: Request) -> Response:
        request.scope[MEASURED_AS] = "/orders?wait"
        return Response(b"hello")

    server = await serve([Route("/orders", waiting)])

    async with httpx.AsyncClient(base_url=server.url) as client:
        await client.get("/orders?wait=5")

    labels = {"method": "GET", "route": "/orders?wait", "status": "200"}
    assert metrics.registry.get_sample_value("http_request_duration_seconds_count", labels) == 1

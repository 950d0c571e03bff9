"""`GET /orders/{order_id}/timeline`, with a processor that is there, away, or somebody else."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

import asyncpg
import httpx
import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from order_service.infrastructure import processor as processor_client
from order_service.main import order_service
from order_service.settings import OrderSettings
from service_kit.http.application import application
from service_kit.http.server import http_server
from service_kit.inprocess import InProcessBroker
from service_kit.observability.metrics import Metrics
from service_kit.service import Service
from service_kit.testing.eventually import eventually

KEY = "a-key-of-the-operators"
Answer = Callable[[Request], Awaitable[Response]]
HARD_IDS = ["o 1", "заказ", "a%2Fb", "..", ".", "a?b#c", "🍕" * 255, "timeline"]


@asynccontextmanager
async def processor_answering(answer: Answer) -> AsyncIterator[str]:
    """The URL of an HTTP server that answers so to whatever it is asked."""
    app = application([Route("/{path:path}", answer)], metrics=Metrics())
    async with http_server(app, "127.0.0.1", 0, grace_seconds=0.1) as server:
        yield server.url


@asynccontextmanager
async def service_with(dsn: str, processor_url: str, **settings: Any) -> AsyncIterator[httpx.AsyncClient]:
    given = OrderSettings(
        db_dsn=dsn, port=0, auth="off", shutdown_grace_seconds=5.0, processor_url=processor_url, **settings
    )
    async with (
        InProcessBroker() as broker,
        Service("order-service", order_service(given, broker)) as service,
        httpx.AsyncClient(base_url=service.url, timeout=30) as client,
    ):
        await service.ready()
        yield client


async def create(client: httpx.AsyncClient, order_id: str = "o-1") -> None:
    items = [{"sku": "laptop", "quantity": 1, "price": 1200.5}]
    body = {"order_id": order_id, "customer_id": "c-1", "items": items}
    (await client.post("/orders", json=body)).raise_for_status()


async def timeline(client: httpx.AsyncClient, order_id: str = "o-1") -> Any:
    answer = await client.get(f"/orders/{path_segment(order_id)}/timeline")
    assert answer.status_code == 200, answer.text
    return answer.json()


def path_segment(order_id: str) -> str:
    name = quote(order_id, safe="")
    return name.replace(".", "%2E") if name in (".", "..") else name


async def nothing_known(request: Request) -> Response:
    return JSONResponse({"error_type": "OrderNotFound"}, 404)


async def test_an_order_that_waits_says_for_what(dsn: str) -> None:
    """No queue takes the event: there is no processor-service on this broker."""
    async with processor_answering(nothing_known) as url, service_with(dsn, url, instance="web-1") as client:
        await create(client)
        before = datetime.now(UTC)

        found = await eventually(lambda: _waiting_for_a_queue(client))

    accepted, committed, waiting = found["steps"]
    assert [step["step"] for step in found["steps"]] == ["accepted", "committed", "waiting"]
    assert {step["service"] for step in found["steps"]} == {"order-service"}
    assert (accepted["by"], committed["by"]) == ("web-1", "web-1")
    assert accepted["at"].endswith("Z")
    assert before - timedelta(minutes=1) < datetime.fromisoformat(accepted["at"])
    assert accepted["at"] <= committed["at"] == waiting["at"]
    assert waiting["detail"]["event_type"] == "order.created"
    assert found["order"]["status"] == "pending"
    assert not found["complete"]


async def test_a_cancelled_order_ends_with_who_cancelled_it_and_why(dsn: str) -> None:
    async with processor_answering(nothing_known) as url, service_with(dsn, url, instance="web-1") as client:
        await create(client)
        await client.post("/orders/o-1/cancel", json={"reason": "changed my mind"})

        async def told() -> Any:
            found = await timeline(client)
            return found if found["steps"][-1]["step"] == "confirmed" else None

        found = await eventually(told)

    cancelled, published, confirmed = found["steps"][-3:]
    assert (cancelled["step"], cancelled["by"]) == ("cancelled", "web-1")
    assert cancelled["detail"] == {"cancel_reason": "changed my mind", "version": 2}
    assert cancelled["at"] == found["order"]["updated_at"]
    assert [step["detail"]["event_type"] for step in (published, confirmed)] == ["order.cancelled"] * 2
    assert found["complete"]


async def _waiting_for_a_queue(client: httpx.AsyncClient) -> Any:
    found = await timeline(client)
    words = "order.created in order-service waits in the outbox for: a queue that takes order.created"
    return found if any(problem.startswith(words) for problem in found["problems"]) else None


async def test_the_processors_part_is_asked_for_with_the_key_and_shown(dsn: str) -> None:
    asked: list[tuple[str, str | None]] = []
    step = {
        "step": "decided",
        "at": "2030-01-01T00:00:00Z",
        "by": "p-1",
        "service": "processor-service",
        "detail": {"rule": 1, "sku": "teapot"},
    }

    async def answer(request: Request) -> Response:
        asked.append((request.url.path, request.headers.get("authorization")))
        return JSONResponse({"order_id": "o-1", "steps": [step], "problems": ["a problem"]})

    async with processor_answering(answer) as url, service_with(dsn, url, admin_key=KEY) as client:
        await create(client)
        found = await timeline(client)

    assert step in found["steps"]
    assert "a problem" in found["problems"]
    assert asked == [("/admin/orders/o-1", f"Bearer {KEY}")]


@pytest.mark.parametrize("order_id", HARD_IDS)
async def test_any_order_id_is_asked_for_as_it_is(dsn: str, order_id: str) -> None:
    asked: list[str] = []

    async def answer(request: Request) -> Response:
        asked.append(request.scope["path"])
        return await nothing_known(request)

    async with processor_answering(answer) as url, service_with(dsn, url) as client:
        await create(client, order_id)
        found = await timeline(client, order_id)

    assert found["order"]["order_id"] == order_id
    assert asked == [f"/admin/orders/{order_id}"]


async def closed(_: Request) -> Response:
    return JSONResponse({"error_type": "AdminClosed"}, 403)


async def another_key(_: Request) -> Response:
    return JSONResponse({"error_type": "Unauthorized"}, 401)


async def somebody_else(_: Request) -> Response:
    return Response("<h1>hello</h1>", media_type="text/html")


async def nowhere(_: Request) -> Response:
    return Response("not here", 404)


async def broken(_: Request) -> Response:
    return JSONResponse({"error_type": "InternalServerError"}, 500)


async def elsewhere(_: Request) -> Response:
    return RedirectResponse("http://127.0.0.1:1/")


async def endless(_: Request) -> Response:
    return JSONResponse({"steps": [], "problems": ["x" * 3_000_000]})


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (closed, "its admin API is closed; APP__ADMIN_KEY in both services opens it"),
        (another_key, "it has another APP__ADMIN_KEY"),
        (somebody_else, "what answered at APP__PROCESSOR_URL is no processor-service"),
        (nowhere, "what answered at APP__PROCESSOR_URL is no processor-service"),
        (endless, "what answered at APP__PROCESSOR_URL is no processor-service"),
        (broken, "it answered 500"),
        (elsewhere, "it answered 307"),
    ],
)
async def test_a_processor_that_does_not_tell_is_a_problem_and_the_rest_is_shown(
    dsn: str, answer: Answer, words: str
) -> None:
    async with processor_answering(answer) as url, service_with(dsn, url) as client:
        await create(client)
        found = await timeline(client)

    assert found["problems"][0] == f"the steps of processor-service are missing: {words}"
    assert [step["step"] for step in found["steps"]][:2] == ["accepted", "committed"]


async def test_a_processor_that_is_away_is_a_problem_and_the_rest_is_shown(dsn: str) -> None:
    async with service_with(dsn, "http://127.0.0.1:1") as client:
        await create(client)
        found = await timeline(client)

    assert found["problems"][0] == "the steps of processor-service are missing: it does not answer"


async def test_a_processor_that_hangs_is_not_waited_for(dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def hanging(_: Request) -> Response:
        await asyncio.Event().wait()
        raise AssertionError

    monkeypatch.setattr(processor_client, "SECONDS_MAX", 0.05)
    async with processor_answering(hanging) as url, service_with(dsn, url) as client:
        await create(client)
        found = await timeline(client)

    assert found["problems"][0] == "the steps of processor-service are missing: it does not answer"


async def test_an_order_of_before_the_records_is_shown_as_far_as_it_is_known(
    dsn: str, connection: asyncpg.Connection
) -> None:
    await connection.execute(
        "INSERT INTO orders (order_id, customer_id, items, amount, status, version)"
        " VALUES ('old', 'c-1', '[]', 1, 'done', 2)"
    )
    async with processor_answering(nothing_known) as url, service_with(dsn, url) as client:
        found = await timeline(client, "old")

    assert [(step["step"], step["by"]) for step in found["steps"]] == [("committed", None), ("applied", None)]
    assert found["problems"] == [
        "there is no record of: accepted, published, confirmed, received, decided, answered"
    ]
    assert not found["complete"]


async def test_an_unknown_order_is_a_problem_404(client: httpx.AsyncClient) -> None:
    answer = await client.get("/orders/nobody/timeline")

    assert (answer.status_code, answer.json()["error_type"]) == (404, "OrderNotFound")


async def test_without_a_database_it_is_a_problem_503(broker: InProcessBroker) -> None:
    settings = OrderSettings(
        db_dsn="postgresql://postgres@127.0.0.1:1/none", port=0, auth="off", shutdown_grace_seconds=1.0
    )
    async with (
        Service("order-service", order_service(settings, broker)) as service,
        httpx.AsyncClient(base_url=service.url) as client,
    ):
        answer = await client.get("/orders/o-1/timeline")

    assert (answer.status_code, answer.json()["error_type"]) == (503, "ServiceUnavailable")

"""What operators see and do in order-service: real HTTP to it, and a processor that is played."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import httpx
import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from order_service.main import order_service
from order_service.settings import OrderSettings
from service_kit.http.application import application
from service_kit.http.server import http_server
from service_kit.inprocess import InProcessBroker
from service_kit.message import Message
from service_kit.observability.metrics import Metrics
from service_kit.service import Service
from service_kit.testing.eventually import eventually

KEY = "the-key-of-the-tests"
HEADERS = {"authorization": f"Bearer {KEY}", "x-operator": "Anna"}
ITEMS = [{"sku": "laptop", "quantity": 1, "price": 12.5}]


@asynccontextmanager
async def running(
    dsn: str, broker: InProcessBroker, processor_url: str = "http://127.0.0.1:1"
) -> AsyncIterator[httpx.AsyncClient]:
    settings = OrderSettings(
        db_dsn=dsn, port=0, auth="off", shutdown_grace_seconds=5.0, admin_key=KEY, processor_url=processor_url
    )
    async with Service("order-service", order_service(settings, broker)) as service:
        await service.ready()
        async with httpx.AsyncClient(base_url=service.url, headers=HEADERS, timeout=30) as client:
            yield client


@pytest.fixture
async def operator(dsn: str, broker: InProcessBroker) -> AsyncIterator[httpx.AsyncClient]:
    async with running(dsn, broker) as client:
        yield client


async def submit(client: httpx.AsyncClient, *order_ids: str) -> None:
    for order_id in order_ids:
        body = {"order_id": order_id, "customer_id": "c-1", "items": ITEMS}
        assert (await client.post("/orders", json=body)).status_code == 201


async def answered(broker: InProcessBroker, *results: dict[str, Any] | bytes) -> None:
    """Returns when the service has settled all of them."""
    bodies = [result if isinstance(result, bytes) else json.dumps(result).encode() for result in results]
    await broker.publisher().publish(
        [
            Message(routing_key="order.processed", body=body, message_id=f"m-{n}")
            for n, body in enumerate(bodies)
        ]
    )


def result(order_id: str, status: str = "success") -> dict[str, Any]:
    reason = "no" if status == "failed" else None
    return {"order_id": order_id, "status": status, "fail_reason": reason, "version": 2}


async def get(client: httpx.AsyncClient, path: str, status: int = 200, **params: Any) -> Any:
    answer = await client.get(path, params=params)
    assert answer.status_code == status, answer.text
    return answer.json()


async def post(client: httpx.AsyncClient, path: str, status: int = 200, **body: Any) -> Any:
    answer = await client.post(path, json={"reason": "a test", **body})
    assert answer.status_code == status, answer.text
    return answer.json()


async def test_every_admin_route_is_closed_without_the_key(dsn: str, broker: InProcessBroker) -> None:
    settings = OrderSettings(db_dsn=dsn, port=0, admin_key=KEY)
    async with order_service(settings, broker) as parts:
        routes = [
            route for route in parts.routes if isinstance(route, Route) and route.path.startswith("/admin")
        ]
    asked = [(method, route.path) for route in routes for method in (route.methods or set()) - {"HEAD"}]
    assert {"/admin/flow", "/admin/orders/stuck", "/admin/reconcile"} < {path for _, path in asked}
    assert len(asked) == 22

    async with running(dsn, broker) as client:
        del client.headers["authorization"]
        for method, path in asked:
            answer = await client.request(method, path.replace("{id}", "1"), json={"reason": "x"})
            assert (answer.status_code, answer.json()["error_type"]) == (401, "Unauthorized"), path


# forecasts


async def test_a_forecast_looks_at_the_orders(
    operator: httpx.AsyncClient, broker: InProcessBroker, connection: asyncpg.Connection
) -> None:
    await submit(operator, "pending", "done")
    await answered(broker, result("done"))
    late = {**result("pending"), "version": 1}
    events = [result("pending"), result("done"), result("unknown"), late]
    bodies = [*(json.dumps(event).encode() for event in events), b"not JSON"]
    ids = [await bury(connection, f"k{number}", body) for number, body in enumerate(bodies)]

    answer = await operator.post("/admin/dead-letters/forecast", json={"ids": ids})

    forecast = answer.json()
    assert {example["id"]: (example["forecast"], example["why"]) for example in forecast["examples"][:4]} == {
        ids[0]: ("will_run", "the order is pending"),
        ids[1]: ("already_processed", "the order is done"),
        ids[2]: ("will_fail_again", "there is no such order"),
        ids[3]: ("already_processed", "the order has version 1 already"),
    }
    assert (forecast["will_run"], forecast["already_processed"], forecast["will_fail_again"]) == (1, 2, 2)


async def bury(
    connection: asyncpg.Connection,
    key: str,
    body: bytes,
    subject: str | None = None,
    reason: str = "broken",
) -> int:
    letter_id: int = await connection.fetchval(
        """
        INSERT INTO dead_letter_queue
            (source, event_key, original_event_type, body, failure_reason, attempts, subject)
        VALUES ('consumer', $1, 'order.processed', $2, $3, 1, $4) RETURNING id
        """,
        *(key, body, reason, subject),
    )
    return letter_id


async def test_a_replayed_answer_finishes_its_order_and_a_repeated_one_changes_nothing(
    operator: httpx.AsyncClient, broker: InProcessBroker, connection: asyncpg.Connection
) -> None:
    await submit(operator, "a", "b")
    await answered(broker, result("b"))
    ids = [
        await bury(connection, f"k{order_id}", json.dumps(result(order_id)).encode())
        for order_id in ("a", "b")
    ]

    replay = await post(operator, "/admin/replays", 201, ids=ids, per_second=1000)

    async def is_finished() -> Any:
        found = await get(operator, f"/admin/replays/{replay['id']}")
        return found if found["state"] == "finished" else None

    finished = await eventually(is_finished)
    assert (finished["handled"], finished["skipped"], finished["failed"]) == (1, 1, 0)
    orders = [await get(operator, f"/orders/{order_id}") for order_id in "ab"]
    assert [(order["status"], order["version"]) for order in orders] == [("done", 2), ("done", 2)]


# flow


async def test_the_flow_of_all_instances_is_added_up(
    dsn: str, operator: httpx.AsyncClient, broker: InProcessBroker, connection: asyncpg.Connection
) -> None:
    async with running(dsn, broker) as other:
        await submit(operator, "a", "b")
        await submit(other, "c")
        await answered(broker, result("a"), result("b", "failed"), result("c"))

        async def summed() -> Any:
            samples = (await get(operator, "/admin/flow"))["samples"]
            return {name: sum(sample[name] for sample in samples) for name in ("accepted", "done", "failed")}

        async def is_there() -> bool:
            return bool(await summed() == {"accepted": 3, "done": 2, "failed": 1})

        await eventually(is_there)
        samples = (await get(other, "/admin/flow", seconds=60))["samples"]

    assert any(sample["latency_ms"]["p50"] for sample in samples)
    assert all(0 < sample["seconds"] < 30 for sample in samples)


async def test_samples_of_one_second_are_one_sample(
    operator: httpx.AsyncClient, connection: asyncpg.Connection
) -> None:
    fill = (
        "INSERT INTO flow_samples VALUES (date_trunc('second', now()) - interval '{} s', $1, 1, $2, 3, 4, $3)"
    )
    await connection.execute(fill.format("10.1"), "one", 10, [0, 0, 97])
    await connection.execute(fill.format("10.9"), "other", 20, [0, 0, 0, 0, 0, 0, 3])
    await connection.execute(fill.format("3700"), "old", 7, [])

    flow = await get(operator, "/admin/flow")

    [sample] = flow["samples"]
    assert sample.pop("at") < flow["now"]
    latency = {"p50": 1.4, "p99": 2.8}
    assert sample == {"seconds": 1.0, "accepted": 30, "done": 6, "failed": 8, "latency_ms": latency}


@pytest.mark.parametrize("seconds", ["0", "3601", "many", "1.5"])
async def test_a_bad_time_is_told(operator: httpx.AsyncClient, seconds: str) -> None:
    problem = await get(operator, "/admin/flow", 400, seconds=seconds)

    assert problem["errors"][0]["loc"] == ["query", "seconds"]


# stuck orders


async def reasons(client: httpx.AsyncClient) -> dict[str, str]:
    found = await get(client, "/admin/orders/stuck", older_than_seconds=0)
    assert found["total"] == len(found["orders"])
    return {order["order_id"]: order["why"] for order in found["orders"]}


@asynccontextmanager
async def played_processor(histories: dict[str, Any]) -> AsyncIterator[str]:
    """What processor-service answers about each order; None: it is away."""

    async def history(request: Request) -> JSONResponse:
        steps = histories.get(request.path_params["order_id"])
        if steps is None:
            return JSONResponse({"error_type": "OrderNotFound"}, 404)
        return JSONResponse({"steps": steps, "problems": []})

    app = application([Route("/admin/orders/{order_id}", history)], metrics=Metrics())
    async with http_server(app, "127.0.0.1", 0) as server:
        yield server.url


def step(name: str, **detail: object) -> dict[str, object]:
    return {"step": name, "at": "2026-01-01T00:00:00Z", "service": "processor-service", "detail": detail}


@asynccontextmanager
async def a_queue_that_takes_everything(broker: InProcessBroker) -> AsyncIterator[None]:
    async with broker.subscribe("processor-service.order.created", ["order.created"], prefetch=100) as queue:

        async def take() -> None:
            while True:
                await queue.acknowledge((await queue.receive(100))[-1])

        taking = asyncio.ensure_future(take())
        try:
            yield
        finally:
            taking.cancel()
            await asyncio.wait({taking})


async def published(connection: asyncpg.Connection) -> None:
    async def is_empty() -> bool:
        return not await connection.fetchval("SELECT count(*) FROM outbox")

    await eventually(is_empty)


async def test_an_order_whose_event_nobody_takes_waits_in_the_outbox(operator: httpx.AsyncClient) -> None:
    await submit(operator, "a")

    async def is_closed() -> bool:
        why = (await reasons(operator))["a"]
        return why.startswith("its event waits in the outbox") and "a queue that takes order.created" in why

    await eventually(is_closed)


async def test_an_order_whose_event_fails_to_be_published_says_so(
    operator: httpx.AsyncClient, connection: asyncpg.Connection
) -> None:
    await submit(operator, "a")
    await connection.execute(
        "UPDATE outbox SET attempts = 3, last_error = 'too large', due_at = '2100-01-01T00:00:00Z'"
    )

    assert (await reasons(operator))["a"] == (
        "its event waits in the outbox: another attempt at 2100-01-01 00:00:00 UTC, after: too large"
    )


async def test_each_order_says_what_it_waits_for(
    dsn: str, broker: InProcessBroker, connection: asyncpg.Connection
) -> None:
    retry = {"event_type": "order.created", "due_at": "2100-01-01T00:00:00Z", "reason": "closed until six"}
    letter = {"event_type": "order.created", "id": 7, "reason": "no stock"}
    waiting = {"event_type": "order.processed", "waits_for": "the next turn of a relay"}
    histories = {
        "postponed": [step("received"), step("retry", **retry)],
        "set aside": [step("dead_letter", **letter)],
        "not sent": [step("decided"), step("waiting", **waiting)],
        "answered": [step("received"), step("decided"), step("answered")],
    }
    async with (
        a_queue_that_takes_everything(broker),
        played_processor(histories) as processor_url,
        running(dsn, broker, processor_url) as client,
    ):
        await submit(client, *histories, "in the queue", "letter here", "retry here")
        await published(connection)
        letter_id = await bury(connection, "k1", b"{}", subject="letter here", reason="no version")
        await connection.execute(
            """
            INSERT INTO retry_queue (event_key, event_type, body, attempts, last_error, due_at, subject)
            VALUES ('k2', 'order.processed', '', 1, 'x' || repeat('y', 1000), '2100-01-01T00:00:00Z',
                'retry here')
            """
        )
        found = await reasons(client)
        await post(client, "/admin/consuming/pause", reason="mending")
        while_paused = await reasons(client)

    assert found.pop("retry here").startswith(
        "order.processed is tried again at 2100-01-01 00:00:00 UTC, after: xyy"
    )
    assert found == {
        "postponed": "order.created in processor-service is tried again at 2100-01-01T00:00:00Z, "
        "after: closed until six",
        "set aside": "order.created in processor-service is dead letter 7: no stock",
        "not sent": "order.processed in processor-service waits in the outbox: the next turn of a relay",
        "answered": "it is decided; the answer is on its way",
        "in the queue": "published, and not received by processor-service yet: it waits in its queue, "
        "or was lost",
        "letter here": f"order.processed is dead letter {letter_id}: no version",
    }
    assert while_paused["answered"] == ("it is decided; the answer waits: Anna has paused consuming: mending")


async def test_while_the_processor_is_away_the_rest_is_told(
    operator: httpx.AsyncClient, broker: InProcessBroker, connection: asyncpg.Connection
) -> None:
    async with a_queue_that_takes_everything(broker):
        await submit(operator, *(f"o{number}" for number in range(25)))
        await published(connection)

        found = await reasons(operator)

    assert len(found) == 25
    assert {why.partition(";")[0] for why in found.values()} == {"published, not answered yet"}
    assert all("does not answer" in why for why in found.values())


async def test_only_old_pending_orders_are_stuck_the_oldest_first(
    operator: httpx.AsyncClient, broker: InProcessBroker, connection: asyncpg.Connection
) -> None:
    await submit(operator, "new", "old", "older", "done")
    await answered(broker, result("done"))
    await connection.execute(
        "UPDATE orders SET created_at = now() - interval '1 h' WHERE order_id IN ('old', 'done');"
        "UPDATE orders SET created_at = now() - interval '2 h' WHERE order_id = 'older'"
    )

    found = await get(operator, "/admin/orders/stuck")
    first = await get(operator, "/admin/orders/stuck", limit=1)

    assert [order["order_id"] for order in found["orders"]] == ["older", "old"]
    assert (found["total"], first["total"], len(first["orders"])) == (2, 2, 1)
    assert 7200 <= found["orders"][0]["pending_seconds"] < 7300
    assert found["orders"][0]["since"].endswith("Z")


@pytest.mark.parametrize("params", [{"limit": 0}, {"limit": 201}, {"older_than_seconds": -1}, {"age": 1}])
async def test_a_bad_question_is_told(operator: httpx.AsyncClient, params: dict[str, int]) -> None:
    assert (await get(operator, "/admin/orders/stuck", 400, **params))["error_type"] == "ValidationError"


# reconciling now


async def test_named_orders_are_told_of_again_at_once(
    operator: httpx.AsyncClient, broker: InProcessBroker, connection: asyncpg.Connection
) -> None:
    async with a_queue_that_takes_everything(broker):
        await submit(operator, "a", "b", "done")
        await answered(broker, result("done"))
        await published(connection)

        answer = await post(operator, "/admin/reconcile", order_ids=["a", "done", "unknown"])
        await published(connection)

    assert answer == {"reemitted": 1}
    rows = await connection.fetch("SELECT order_id FROM orders WHERE reemitted_at IS NOT NULL")
    assert [row["order_id"] for row in rows] == ["a"]
    entry = await connection.fetchrow("SELECT * FROM audit_log ORDER BY id DESC LIMIT 1")
    assert entry is not None
    assert (entry["action"], entry["operator"], entry["reason"]) == ("orders.reconcile", "Anna", "a test")
    assert json.loads(entry["details"]) == {"reemitted": 1, "order_ids": ["a"]}


async def test_without_names_the_oldest_are_told_of_again(
    operator: httpx.AsyncClient, broker: InProcessBroker, connection: asyncpg.Connection
) -> None:
    async with a_queue_that_takes_everything(broker):
        await submit(operator, "young", "old", "older")
        await published(connection)
        await connection.execute(
            "UPDATE orders SET created_at = now() - interval '1 min' WHERE order_id LIKE 'old%'"
        )

        assert await post(operator, "/admin/reconcile") == {"reemitted": 2}


async def test_an_event_that_is_still_in_the_outbox_is_not_written_again(
    operator: httpx.AsyncClient, connection: asyncpg.Connection
) -> None:
    await submit(operator, "a")

    assert await post(operator, "/admin/reconcile", order_ids=["a"]) == {"reemitted": 0}
    assert await connection.fetchval("SELECT count(*) FROM outbox") == 1


async def test_asking_twice_at_once_tells_once(
    operator: httpx.AsyncClient, broker: InProcessBroker, connection: asyncpg.Connection
) -> None:
    async with a_queue_that_takes_everything(broker):
        await submit(operator, *(f"o{number}" for number in range(20)))
        await published(connection)
    names = [f"o{number}" for number in range(20)]

    answers = await asyncio.gather(
        *(post(operator, "/admin/reconcile", order_ids=some) for some in (names, names[::-1], names))
    )

    assert sum(answer["reemitted"] for answer in answers) == 20
    assert await connection.fetchval("SELECT count(*) FROM outbox") == 20


@pytest.mark.parametrize(
    ("body", "loc"),
    [
        ({"reason": ""}, ["body", "reason"]),
        ({"order_ids": []}, ["body", "order_ids"]),
        ({"order_ids": [""]}, ["body", "order_ids", 0]),
        ({"order_ids": ["a\x00"]}, ["body", "order_ids", 0]),
        ({"order_ids": ["a", "x" * 256]}, ["body", "order_ids", 1]),
        ({"order_ids": ["a"] * 10_001}, ["body", "order_ids"]),
        ({"order_ids": "a"}, ["body", "order_ids"]),
        ({"order_ids": None}, ["body", "order_ids"]),
    ],
)
async def test_a_bad_request_to_reconcile_is_told(
    operator: httpx.AsyncClient, body: dict[str, object], loc: list[object]
) -> None:
    problem = await post(operator, "/admin/reconcile", 400, **body)

    assert problem["errors"][0]["loc"] == loc

"""`POST /orders/{order_id}/cancel`, and what comes after it."""

import asyncio
import json
from collections import Counter
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import jsonschema
import pytest

from service_kit.inprocess import InProcessBroker
from service_kit.message import Message
from service_kit.testing.eventually import eventually

TRACE = "0af7651916cd43dd8448eb211c80319c"
SUBSCRIBER = "somebody.order.cancelled"


async def post(client: httpx.AsyncClient, order_id: str = "o-1") -> dict[str, Any]:
    items = [{"sku": "laptop", "quantity": 1, "price": 12.5}]
    body = {"order_id": order_id, "customer_id": "c-1", "items": items}
    response = await client.post("/orders", json=body)
    assert response.status_code == 201
    order: dict[str, Any] = response.json()
    return order


async def decide(broker: InProcessBroker, *order_ids: str, version: int = 2, status: str = "success") -> None:
    """Returns when the service has settled all of them."""
    reason = "late" if status == "failed" else None
    await broker.publisher().publish(
        [
            Message(
                routing_key="order.processed",
                body=json.dumps(
                    {"order_id": order_id, "status": status, "fail_reason": reason, "version": version}
                ).encode(),
                message_id=f"m-{order_id}",
            )
            for order_id in order_ids
        ]
    )


async def told_of(client: httpx.AsyncClient, cancellations: int) -> bool:
    """Whether so many events have gone out, and no more."""
    metrics = (await client.get("/metrics")).text
    return f'events_published_total{{event_type="order.cancelled"}} {cancellations}.0' in metrics


async def test_a_pending_order_is_cancelled(
    client: httpx.AsyncClient, connection: asyncpg.Connection
) -> None:
    pending = await post(client)

    response = await client.post("/orders/o-1/cancel", json={"reason": "changed my mind"})

    order = response.json()
    assert (response.status_code, response.headers["content-type"]) == (200, "application/json")
    assert "idempotent-replayed" not in response.headers
    assert order == pending | {
        "status": "cancelled",
        "version": 2,
        "cancel_reason": "changed my mind",
        "updated_at": order["updated_at"],
    }
    assert order["updated_at"] > pending["updated_at"]
    assert (await client.get("/orders/o-1")).json() == order
    assert (await post(client)) == order


@pytest.mark.parametrize("body", [b"", b"{}", b'{"reason":null}', b" {} "])
async def test_a_reason_may_be_left_out(client: httpx.AsyncClient, body: bytes) -> None:
    await post(client)

    response = await client.post("/orders/o-1/cancel", content=body)

    assert (response.status_code, response.json()["cancel_reason"]) == (200, None)


async def test_the_event_goes_out_as_the_contract_says(
    client: httpx.AsyncClient, broker: InProcessBroker, contracts_folder: Path
) -> None:
    await post(client)
    async with broker.subscribe(SUBSCRIBER, ["order.cancelled"], prefetch=10) as subscription:
        headers = {"traceparent": f"00-{TRACE}-b7ad6b7169203331-01"}
        await client.post("/orders/o-1/cancel", json={"reason": "changed my mind"}, headers=headers)
        [delivery] = await subscription.receive(10)
        await subscription.acknowledge(delivery)

    event = json.loads(delivery.body)
    assert event == {"order_id": "o-1", "customer_id": "c-1", "reason": "changed my mind", "version": 2}
    schema = json.loads((contracts_folder / "messages" / "order.cancelled.sent.schema.json").read_text())
    jsonschema.Draft202012Validator(schema).validate(event)
    assert TRACE in str(delivery.headers["traceparent"])


async def test_an_event_that_nobody_reads_leaves_the_outbox_all_the_same(
    client: httpx.AsyncClient, broker: InProcessBroker, connection: asyncpg.Connection
) -> None:
    async with broker.subscribe("processor-service.order.created", ["order.created"], prefetch=10) as reader:
        await post(client)
        await reader.acknowledge((await reader.receive(10))[-1])
        await client.post("/orders/o-1/cancel")

        async def outbox_is_empty() -> bool:
            return not await connection.fetchval("SELECT count(*) FROM outbox")

        await eventually(outbox_is_empty)
        await post(client, "o-2")
        [delivery] = await reader.receive(10)

    assert json.loads(delivery.body)["order_id"] == "o-2"


async def test_cancelling_again_changes_nothing_and_is_answered_alike(client: httpx.AsyncClient) -> None:
    await post(client)
    first = await client.post("/orders/o-1/cancel", json={"reason": "one"})

    again = await client.post("/orders/o-1/cancel", json={"reason": "another"})

    assert (again.status_code, again.content) == (200, first.content)
    assert again.headers["idempotent-replayed"] == "true"
    await eventually(lambda: told_of(client, 1))


@pytest.mark.parametrize("status", ["success", "failed"])
async def test_a_decided_order_is_not_cancelled(
    client: httpx.AsyncClient, broker: InProcessBroker, status: str
) -> None:
    await post(client)
    await decide(broker, "o-1", status=status)
    decided = await client.get("/orders/o-1")

    response = await client.post("/orders/o-1/cancel")

    problem = response.json()
    assert (response.status_code, problem["error_type"]) == (409, "OrderNotCancellable")
    assert (problem["order_status"], problem["order_version"]) == (decided.json()["status"], 2)
    assert problem["order_status"] in problem["detail"]
    assert (await client.get("/orders/o-1")).content == decided.content


async def test_an_order_that_does_not_exist_is_a_404(client: httpx.AsyncClient) -> None:
    response = await client.post("/orders/o-1/cancel")

    assert (response.status_code, response.json()["error_type"]) == (404, "OrderNotFound")
    assert response.json()["instance"] == "/orders/o-1/cancel"


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"[]",
        b'"why"',
        b'{"reason":1}',
        b'{"reason":""}',
        b'{"reason":"a\\nb"}',
        b'{"reason":"a\\u0000"}',
        b'{"reason":"\\ud800"}',
        b'{"reason":"why","force":true}',
        b'{"reason":"' + b"x" * 256 + b'"}',
        b"\xff",
        b"[" * 10_000,
    ],
)
async def test_a_body_that_cannot_be_meant_is_a_400_and_cancels_nothing(
    client: httpx.AsyncClient, body: bytes
) -> None:
    await post(client)

    response = await client.post("/orders/o-1/cancel", content=body)

    assert (response.status_code, response.json()["error_type"]) == (400, "ValidationError"), response.text
    assert response.json()["errors"]
    assert (await client.get("/orders/o-1")).json()["status"] == "pending"


async def test_a_body_that_is_too_large_is_a_413(client: httpx.AsyncClient) -> None:
    await post(client)

    assert (await client.post("/orders/o-1/cancel", content=b" " * 20_000)).status_code == 413


@pytest.mark.parametrize("version", [2, 3])
async def test_a_decision_that_comes_later_changes_nothing_and_is_settled(
    client: httpx.AsyncClient, broker: InProcessBroker, connection: asyncpg.Connection, version: int
) -> None:
    await post(client)
    cancelled = await client.post("/orders/o-1/cancel")

    await decide(broker, "o-1", version=version)

    assert (await client.get("/orders/o-1")).content == cancelled.content
    for table in ("retry_queue", "dead_letter_queue"):
        assert await connection.fetchval(f"SELECT count(*) FROM {table}") == 0


async def test_cancelled_orders_are_counted_once(client: httpx.AsyncClient) -> None:
    await post(client)
    for _ in range(3):
        await client.post("/orders/o-1/cancel")

    lines = (await client.get("/metrics")).text.splitlines()

    assert "orders_cancelled_total 1.0" in lines
    assert 'orders_processed_total{status="done"} 0.0' in lines


async def test_of_two_hundred_cancellations_and_as_many_decisions_one_of_each_pair_wins(
    client: httpx.AsyncClient, broker: InProcessBroker, connection: asyncpg.Connection
) -> None:
    order_ids = [f"o-{number:03}" for number in range(200)]
    await asyncio.gather(*(post(client, order_id) for order_id in order_ids))

    async def cancel(order_id: str) -> httpx.Response:
        return await client.post(f"/orders/{order_id}/cancel")

    deciding = [asyncio.create_task(decide(broker, *order_ids[start::10])) for start in range(10)]
    answers = await asyncio.gather(*(cancel(order_id) for order_id in order_ids))
    await asyncio.gather(*deciding)

    rows = await connection.fetch("SELECT order_id, status, version FROM orders")
    stored = {row["order_id"]: row["status"] for row in rows}
    assert {row["version"] for row in rows} == {2}
    for order_id, answer in zip(order_ids, answers, strict=True):
        expected = {"cancelled": 200, "done": 409}[stored[order_id]]
        assert answer.status_code == expected
        assert answer.json().get("order_status", "cancelled") == stored[order_id]
    cancelled = Counter(stored.values())["cancelled"]
    assert f"orders_cancelled_total {cancelled}.0" in (await client.get("/metrics")).text
    await eventually(lambda: told_of(client, cancelled))
    assert await connection.fetchval("SELECT count(*) FROM dead_letter_queue") == 0


async def test_of_two_hundred_cancellations_of_one_order_one_cancels(client: httpx.AsyncClient) -> None:
    await post(client)

    answers = await asyncio.gather(*(client.post("/orders/o-1/cancel") for _ in range(200)))

    assert {(answer.status_code, answer.content) for answer in answers} == {(200, answers[0].content)}
    assert sum("idempotent-replayed" not in answer.headers for answer in answers) == 1

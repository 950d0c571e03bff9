"""Orders between POST and their final status: what the broker brings, and what it is given."""

import json
from typing import Any

import asyncpg
import httpx
import jsonschema
import pytest

from service_kit.inprocess import InProcessBroker
from service_kit.message import Message
from service_kit.testing.eventually import eventually

ITEMS = [{"sku": "laptop", "quantity": 1, "price": 12.5}]


async def post(client: httpx.AsyncClient, order_id: str, **headers: str) -> None:
    body = {"order_id": order_id, "customer_id": "c-1", "items": ITEMS}
    assert (await client.post("/orders", json=body, headers=headers)).status_code == 201


async def publish(broker: InProcessBroker, *bodies: bytes | dict[str, Any]) -> None:
    """Returns when the service has settled all of them."""
    await broker.publisher().publish(
        [
            Message(
                routing_key="order.processed",
                body=body if isinstance(body, bytes) else json.dumps(body).encode(),
                message_id=f"m-{number}",
                headers={"x-sender": "test"},
            )
            for number, body in enumerate(bodies)
        ]
    )


def result(
    order_id: str, version: int = 2, status: str = "success", fail_reason: str | None = None
) -> dict[str, Any]:
    return {"order_id": order_id, "status": status, "fail_reason": fail_reason, "version": version}


async def test_the_event_goes_out_as_the_contract_says(
    client: httpx.AsyncClient,
    broker: InProcessBroker,
    connection: asyncpg.Connection,
    order_created_schema: dict[str, Any],
) -> None:
    trace = "0af7651916cd43dd8448eb211c80319c"
    async with broker.subscribe(
        "processor-service.order.created", ["order.created"], prefetch=10
    ) as subscription:
        await post(client, "o-1", traceparent=f"00-{trace}-b7ad6b7169203331-01")
        [delivery] = await subscription.receive(10)
        await subscription.acknowledge(delivery)
        body = json.loads(delivery.body)

        assert body == {"order_id": "o-1", "customer_id": "c-1", "items": ITEMS, "amount": 12.5, "version": 1}
        jsonschema.Draft202012Validator(order_created_schema).validate(body)
        assert delivery.message_id
        assert trace in str(delivery.headers["traceparent"])

        async def outbox_is_empty() -> bool:
            return not await connection.fetchval("SELECT count(*) FROM outbox")

        await eventually(outbox_is_empty)


async def test_a_result_is_seen_by_the_customer(client: httpx.AsyncClient, broker: InProcessBroker) -> None:
    await post(client, "a")
    await post(client, "b")

    await publish(broker, result("a"), result("b", status="failed", fail_reason="Too fatty food"))

    a, b = (await client.get("/orders/a")).json(), (await client.get("/orders/b")).json()
    assert (a["status"], a["version"], a["fail_reason"]) == ("done", 2, None)
    assert (b["status"], b["version"], b["fail_reason"]) == ("failed", 2, "Too fatty food")


async def test_of_several_results_for_one_order_the_first_counts(
    client: httpx.AsyncClient, broker: InProcessBroker
) -> None:
    await post(client, "a")

    await publish(broker, result("a", version=1), result("a"), result("a"), result("a", 3, "failed", "late"))

    order = (await client.get("/orders/a")).json()
    assert (order["status"], order["version"], order["fail_reason"]) == ("done", 2, None)


async def test_one_message_may_carry_many_results(client: httpx.AsyncClient, broker: InProcessBroker) -> None:
    await post(client, "a")
    await post(client, "b")

    await publish(broker, json.dumps([result("a"), result("b")]).encode())

    assert [(await client.get(f"/orders/{order_id}")).json()["status"] for order_id in "ab"] == [
        "done",
        "done",
    ]


@pytest.mark.parametrize(
    "poison", [b"not JSON", b"\x00\xff", b"{}", b'{"order_id": "a\\u0000", "version": 2}']
)
async def test_poison_is_set_aside_with_its_bytes_and_harms_no_neighbour(
    client: httpx.AsyncClient, broker: InProcessBroker, connection: asyncpg.Connection, poison: bytes
) -> None:
    await post(client, "a")
    await post(client, "b")

    await publish(broker, result("a"), poison, result("b"))

    assert [(await client.get(f"/orders/{order_id}")).json()["status"] for order_id in "ab"] == [
        "done",
        "done",
    ]
    letter = await connection.fetchrow(
        "SELECT original_event_type, body, failure_reason, headers::text FROM dead_letter_queue"
    )
    assert letter is not None
    assert (letter["original_event_type"], letter["body"]) == ("order.processed", poison)
    assert letter["failure_reason"]
    assert json.loads(letter["headers"]) == {"x-sender": "test"}


async def test_a_result_that_comes_before_its_order_is_applied_once_the_order_is_there(
    client: httpx.AsyncClient, broker: InProcessBroker, connection: asyncpg.Connection
) -> None:
    await publish(broker, result("early"))
    assert await connection.fetchval("SELECT event_key FROM retry_queue") == "order.processed:early:2"

    await post(client, "early")
    await connection.execute("UPDATE retry_queue SET due_at = now()")

    async def is_done() -> bool:
        return bool((await client.get("/orders/early")).json()["status"] == "done")

    await eventually(is_done)
    assert await connection.fetchval("SELECT count(*) FROM dead_letter_queue") == 0

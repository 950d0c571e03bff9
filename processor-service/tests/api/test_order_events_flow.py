"""From `order.created` to `order.processed`, with the whole service between."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from random import Random
from typing import Any

import asyncpg
import jsonschema
import pytest

from processor_service.main import configured_policy, processor_service
from processor_service.settings import ProcessorSettings
from service_kit.broker import Subscription
from service_kit.inprocess import InProcessBroker
from service_kit.message import Delivery, Message
from service_kit.service import Service
from service_kit.testing.eventually import eventually

TRACE_ID = "0af7651916cd43dd8448eb211c80319c"


@pytest.fixture
async def answers(broker: InProcessBroker) -> AsyncIterator[Subscription]:
    queue = broker.subscribe("order-service.order.processed", ["order.processed"], prefetch=100)
    async with queue as subscription:
        yield subscription


async def publish(broker: InProcessBroker, *bodies: str | bytes) -> None:
    """Returns when the service has settled all of them."""
    messages = [
        Message(
            routing_key="order.created",
            body=body if isinstance(body, bytes) else body.encode(),
            message_id="",
            headers={"traceparent": f"00-{TRACE_ID}-b7ad6b7169203331-01"},
        )
        for body in bodies
    ]
    await broker.publisher().publish(messages)


async def receive(answers: Subscription, count: int) -> list[Delivery]:
    received: list[Delivery] = []
    while len(received) < count:
        received += await answers.receive(100)
        await answers.acknowledge(received[-1])
    return received


def results(deliveries: list[Delivery]) -> dict[str, dict[str, Any]]:
    decoded = [json.loads(delivery.body) for delivery in deliveries]
    return {body["order_id"]: body for body in decoded}


async def test_an_order_written_by_hand_is_processed(
    service: Service, broker: InProcessBroker, answers: Subscription, contracts_folder: Path
) -> None:
    await publish(broker, '{"order_id": "o-1", "items": ["laptop", "mouse"]}')

    [answer] = await receive(answers, 1)

    body = json.loads(answer.body)
    assert body == {"order_id": "o-1", "status": "success", "fail_reason": None, "version": 2}
    schema = (contracts_folder / "messages" / "order.processed.sent.schema.json").read_text(encoding="utf-8")
    jsonschema.Draft202012Validator(json.loads(schema)).validate(body)
    assert answer.routing_key == "order.processed"
    assert answer.message_id
    assert TRACE_ID in str(answer.headers["traceparent"])


async def test_orders_are_decided_by_the_built_in_rules(
    service: Service, broker: InProcessBroker, answers: Subscription
) -> None:
    batch = [{"order_id": sku, "items": [{"sku": sku}]} for sku in ("laptop", "teapot", "potato")]

    await publish(broker, json.dumps(batch))

    reasons = {id: body["fail_reason"] for id, body in results(await receive(answers, 3)).items()}
    assert reasons == {"laptop": None, "teapot": "Pineapple/teapot embargo", "potato": "Too fatty food"}


async def test_a_duplicate_is_answered_with_the_same_decision(
    service: Service, broker: InProcessBroker, answers: Subscription, connection: asyncpg.Connection
) -> None:
    for _ in range(3):
        await publish(broker, '{"order_id": "o-1", "items": ["potato"], "version": 7}')

    deliveries = await receive(answers, 3)

    bodies = {delivery.body for delivery in deliveries}
    assert len(bodies) == 1
    assert json.loads(bodies.pop())["version"] == 8
    assert await connection.fetchval("SELECT count(*) FROM processing_states") == 1


@pytest.mark.parametrize(
    "poison", [b"not JSON", b"\x00\xff", b"{}", b'{"order_id": "o", "items": [{"sku": 1}]}']
)
async def test_poison_is_set_aside_with_its_bytes_and_harms_no_neighbour(
    service: Service,
    broker: InProcessBroker,
    answers: Subscription,
    connection: asyncpg.Connection,
    poison: bytes,
) -> None:
    await publish(broker, '{"order_id": "a", "items": ["x"]}', poison, '{"order_id": "b", "items": ["x"]}')

    assert results(await receive(answers, 2)).keys() == {"a", "b"}
    letter = await connection.fetchrow(
        "SELECT original_event_type, body, failure_reason FROM dead_letter_queue"
    )
    assert letter is not None
    assert (letter["original_event_type"], letter["body"]) == ("order.created", poison)
    assert letter["failure_reason"]


async def test_an_order_that_a_policy_puts_off_delays_no_neighbour_and_is_decided_later(
    dsn: str,
    broker: InProcessBroker,
    answers: Subscription,
    connection: asyncpg.Connection,
    policy_module: str,
) -> None:
    settings = ProcessorSettings(db_dsn=dsn, port=0, auth="off", policy=f"{policy_module}:decide")
    policy = configured_policy(settings, Random())
    async with Service("processor-service", processor_service(settings, broker, policy)) as service:
        await service.ready()
        await publish(broker, '{"order_id": "moody", "items": ["x"]}', '{"order_id": "good", "items": ["x"]}')

        assert results(await receive(answers, 1)).keys() == {"good"}
        waiting = await connection.fetchrow("SELECT event_key, attempts, last_error FROM retry_queue")
        assert waiting is not None
        assert tuple(waiting) == ("order.created:moody:1", 1, "the bank sleeps")

        await connection.execute("UPDATE retry_queue SET due_at = now()")
        assert results(await receive(answers, 1))["moody"]["fail_reason"] == "Too expensive"

        kept = await connection.fetchrow(
            "SELECT status, attempt_count, last_error FROM processing_states WHERE order_id = 'moody'"
        )
        assert kept is not None
        assert tuple(kept) == ("failed", 2, "Too expensive")

        async def nothing_waits() -> bool:
            return not await connection.fetchval("SELECT count(*) FROM retry_queue")

        await eventually(nothing_waits)


@pytest.fixture
def policy_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unique_name: str) -> str:
    """A policy that puts the order `moody` off once, for an hour."""
    name = unique_name.replace("-", "_")
    (tmp_path / f"{name}.py").write_text(
        """
from processor_service.policy import Decision, Order, RetryLater, approve, reject

seen = set()

async def decide(order: Order) -> Decision:
    if order.order_id != "moody":
        return approve()
    if order.order_id in seen:
        return reject("Too expensive")
    seen.add(order.order_id)
    raise RetryLater("the bank sleeps", delay_seconds=3600)
"""
    )
    monkeypatch.syspath_prepend(tmp_path)
    return name

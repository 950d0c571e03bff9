"""What operators see and do in processor-service beyond one order and the rules."""

import json
from collections.abc import AsyncIterator
from random import Random
from typing import Any

import asyncpg
import httpx
import pytest
from starlette.routing import Route

from processor_service.main import configured_policy, processor_service
from processor_service.settings import ProcessorSettings
from service_kit.inprocess import InProcessBroker
from service_kit.message import Message
from service_kit.service import Service
from service_kit.testing.eventually import eventually

KEY = "a-key-of-the-operators"
HEADERS = {"authorization": f"Bearer {KEY}", "x-operator": "anna"}


def settings(dsn: str) -> ProcessorSettings:
    return ProcessorSettings(db_dsn=dsn, port=0, shutdown_grace_seconds=5.0, admin_key=KEY)


@pytest.fixture
async def operator(dsn: str, broker: InProcessBroker) -> AsyncIterator[httpx.AsyncClient]:
    policy = configured_policy(settings(dsn), Random(1))
    async with (
        Service("processor-service", processor_service(settings(dsn), broker, policy)) as service,
        httpx.AsyncClient(base_url=service.url, timeout=30, headers=HEADERS) as client,
    ):
        await service.ready()
        yield client


def created(order_id: str, version: int = 1) -> bytes:
    return json.dumps({"order_id": order_id, "items": ["laptop"], "version": version}).encode()


async def decided(broker: InProcessBroker, *bodies: bytes) -> None:
    await broker.publisher().publish(
        [Message(routing_key="order.created", body=body, message_id=str(n)) for n, body in enumerate(bodies)]
    )


async def bury(connection: asyncpg.Connection, *bodies: bytes) -> list[int]:
    sql = """
        INSERT INTO dead_letter_queue (source, event_key, original_event_type, body, failure_reason, attempts)
        VALUES ('consumer', $1, 'order.created', $2, 'broken', 10) RETURNING id
    """
    return [await connection.fetchval(sql, f"key {number}", body) for number, body in enumerate(bodies)]


async def test_every_admin_route_is_closed_without_the_key(
    dsn: str, broker: InProcessBroker, operator: httpx.AsyncClient
) -> None:
    policy = configured_policy(settings(dsn), Random(1))
    async with processor_service(settings(dsn), broker, policy) as parts:
        routes = [route for route in parts.routes if isinstance(route, Route)]
    asked = [
        (method, route.path)
        for route in routes
        for method in (route.methods or set()) - {"HEAD"}
        if route.path.startswith("/admin")
    ]
    assert len(asked) == 24

    del operator.headers["authorization"]
    for method, path in asked:
        answer = await operator.request(method, path.replace("{id}", "1"), json={"reason": "x"})
        assert (answer.status_code, answer.json()["error_type"]) == (401, "Unauthorized"), path


async def test_a_forecast_looks_at_what_was_decided(
    operator: httpx.AsyncClient, broker: InProcessBroker, connection: asyncpg.Connection
) -> None:
    async with broker.subscribe("answers", ["order.processed"], prefetch=10):
        await decided(broker, created("known"), created("newer", 3))
        ids = await bury(
            connection, created("new"), created("known"), created("newer", 2), b"{}", created("known", 2)
        )

        answer = await operator.post("/admin/dead-letters/forecast", json={"ids": ids})

    forecast = answer.json()
    told = {example["id"]: (example["forecast"], example["why"]) for example in forecast["examples"]}
    assert [told[letter] for letter in ids] == [
        ("will_run", "the order has not been decided"),
        ("already_processed", "it was decided; the decision is sent again"),
        ("already_processed", "version 3 was decided already"),
        ("will_fail_again", "Object missing required field `order_id`"),
        ("will_run", "the order has not been decided"),
    ]


async def test_after_a_mended_cause_a_replay_decides_and_answers(
    operator: httpx.AsyncClient, broker: InProcessBroker, connection: asyncpg.Connection
) -> None:
    async with broker.subscribe("answers", ["order.processed"], prefetch=10) as answers:
        await bury(connection, created("a"), created("b"))
        body: dict[str, Any] = {
            "filter": {"event_type": "order.created"},
            "reason": "mended",
            "per_second": 1000,
        }
        replay = (await operator.post("/admin/replays", json=body)).json()
        told: set[str] = set()
        while len(told) < 2:
            deliveries = await answers.receive(10)
            told |= {json.loads(delivery.body)["order_id"] for delivery in deliveries}
            await answers.acknowledge(deliveries[-1])

        async def is_finished() -> bool:
            found = (await operator.get(f"/admin/replays/{replay['id']}")).json()
            return (found["state"], found["handled"]) == ("finished", 2)

        await eventually(is_finished)
    assert told == {"a", "b"}
    assert await connection.fetchval("SELECT count(*) FROM dead_letter_queue") == 0

"""`POST /orders?wait=5` and `Prefer: wait=5`: answered when the order is final, or when the time is over."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import httpx
import pytest

from order_service.main import order_service
from order_service.settings import OrderSettings
from service_kit.inprocess import InProcessBroker
from service_kit.message import Message
from service_kit.service import Service
from service_kit.testing.eventually import eventually

LONG = 30


def body(order_id: str = "o-1") -> dict[str, Any]:
    items = [{"sku": "laptop", "quantity": 1, "price": 5}]
    return {"order_id": order_id, "customer_id": "c-1", "items": items}


async def decide(broker: InProcessBroker, *order_ids: str, fail_reason: str | None = None) -> None:
    await broker.publisher().publish(
        [
            Message(
                routing_key="order.processed",
                body=json.dumps(
                    {
                        "order_id": order_id,
                        "status": "failed" if fail_reason else "success",
                        "fail_reason": fail_reason,
                        "version": 2,
                    }
                ).encode(),
                message_id=f"m-{order_id}",
            )
            for order_id in order_ids
        ]
    )


async def stored(client: httpx.AsyncClient, order_id: str) -> None:
    async def is_stored() -> bool:
        return (await client.get(f"/orders/{order_id}")).status_code == 200

    await eventually(is_stored)


@pytest.fixture
async def another(dsn: str) -> AsyncIterator[httpx.AsyncClient]:
    """Another instance on the same database, with a broker of its own: nothing but the database tells it."""
    async with InProcessBroker() as broker:
        settings = OrderSettings(db_dsn=dsn, port=0, auth="off", shutdown_grace_seconds=5.0)
        async with Service("order-service", order_service(settings, broker)) as service:
            await service.ready()
            async with httpx.AsyncClient(base_url=service.url, timeout=60) as client:
                yield client


@pytest.mark.parametrize("asked", ["query", "header"])
async def test_the_answer_comes_when_the_order_is_final(
    client: httpx.AsyncClient, broker: InProcessBroker, asked: str
) -> None:
    path, headers = (
        (f"/orders?wait={LONG}", {}) if asked == "query" else ("/orders", {"Prefer": f"wait={LONG}"})
    )
    waiting = asyncio.create_task(client.post(path, json=body(), headers=headers))
    await stored(client, "o-1")

    await decide(broker, "o-1", fail_reason="Too fatty food")

    response = await waiting
    assert response.status_code == 201
    assert response.json() == (await client.get("/orders/o-1")).json()
    order = response.json()
    assert (order["status"], order["version"], order["fail_reason"]) == ("failed", 2, "Too fatty food")
    assert response.headers["location"] == "/orders/o-1"
    assert response.headers.get("preference-applied") == (None if asked == "query" else f"wait={LONG}")


async def test_the_answer_comes_after_the_seconds_with_the_order_as_it_is(client: httpx.AsyncClient) -> None:
    response = await client.post("/orders?wait=1", json=body())

    assert (response.status_code, response.json()["status"]) == (201, "pending")


async def test_an_order_that_became_final_in_another_instance_is_seen_too(
    client: httpx.AsyncClient, another: httpx.AsyncClient, broker: InProcessBroker
) -> None:
    waiting = asyncio.create_task(another.post(f"/orders?wait={LONG}", json=body()))
    await stored(client, "o-1")

    await decide(broker, "o-1")

    assert (await waiting).json()["status"] == "done"


async def test_an_order_that_is_cancelled_is_final_too(client: httpx.AsyncClient) -> None:
    waiting = asyncio.create_task(client.post(f"/orders?wait={LONG}", json=body()))
    await stored(client, "o-1")

    await client.post("/orders/o-1/cancel")

    assert (await waiting).json()["status"] == "cancelled"


async def test_the_same_order_again_waits_too_and_is_answered_at_once_when_it_is_final(
    client: httpx.AsyncClient, broker: InProcessBroker
) -> None:
    await client.post("/orders", json=body())
    waiting = asyncio.create_task(client.post(f"/orders?wait={LONG}", json=body()))
    await decide(broker, "o-1")

    for response in (await waiting, await client.post(f"/orders?wait={LONG}", json=body())):
        assert (response.status_code, response.json()["status"]) == (201, "done")
        assert response.headers["idempotent-replayed"] == "true"


async def test_a_conflict_is_answered_at_once(client: httpx.AsyncClient) -> None:
    await client.post("/orders", json=body())

    response = await client.post(f"/orders?wait={LONG}", json=body() | {"customer_id": "c-2"})

    assert (response.status_code, response.json()["error_type"]) == (409, "OrderConflict")


async def test_a_bad_order_is_answered_at_once(client: httpx.AsyncClient) -> None:
    assert (await client.post(f"/orders?wait={LONG}", json={})).status_code == 400


@pytest.mark.parametrize("query", ["wait=31", "wait=x", "wait=-1", "wait=1&wait=2", "waits=1"])
async def test_a_wait_that_cannot_be_meant_is_refused_and_nothing_is_stored(
    client: httpx.AsyncClient, query: str
) -> None:
    response = await client.post(f"/orders?{query}", json=body())

    assert (response.status_code, response.json()["error_type"]) == (400, "ValidationError")
    assert (await client.get("/orders/o-1")).status_code == 404


async def test_a_preference_that_cannot_be_read_is_ignored(client: httpx.AsyncClient) -> None:
    response = await client.post("/orders", json=body(), headers={"Prefer": "wait=soon, respond-async"})

    assert (response.status_code, response.json()["status"]) == (201, "pending")
    assert "preference-applied" not in response.headers


async def test_many_may_wait_and_each_gets_its_own_end(
    service: Service, broker: InProcessBroker, connection: asyncpg.Connection
) -> None:
    order_ids = [f"o-{number}" for number in range(200)]
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(base_url=service.url, timeout=60, limits=limits) as client:
        waiting = [
            asyncio.create_task(client.post(f"/orders?wait={LONG}", json=body(order_id)))
            for order_id in order_ids
        ]

        async def all_are_stored() -> bool:
            return bool(await connection.fetchval("SELECT count(*) FROM orders") == 200)

        await eventually(all_are_stored)
        await decide(broker, *order_ids)
        answers = [response.json() for response in await asyncio.gather(*waiting)]

    assert [answer["order_id"] for answer in answers] == order_ids
    assert {(answer["status"], answer["version"]) for answer in answers} == {("done", 2)}


async def test_who_waits_is_counted_apart(client: httpx.AsyncClient) -> None:
    await client.post("/orders?wait=1", json=body())

    lines = (await client.get("/metrics")).text.splitlines()

    count = 'http_request_duration_seconds_count{method="POST",route="/orders?wait",status="201"} 1.0'
    assert count in lines


async def test_a_drain_answers_those_who_wait(dsn: str, broker: InProcessBroker) -> None:
    settings = OrderSettings(db_dsn=dsn, port=0, auth="off", shutdown_grace_seconds=3600.0)
    async with (
        Service("order-service", order_service(settings, broker)) as service,
        httpx.AsyncClient(base_url=service.url, timeout=60) as client,
    ):
        await service.ready()
        waiting = asyncio.create_task(client.post(f"/orders?wait={LONG}", json=body()))
        await stored(client, "o-1")
        service.stop()
        response = await waiting

    assert (response.status_code, response.json()["status"]) == (201, "pending")

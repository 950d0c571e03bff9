"""JSON that is nested without end: refused, and it harms nobody."""

import json
from collections.abc import AsyncIterator

import asyncpg
import httpx
import pytest

from order_service.main import order_service
from order_service.settings import OrderSettings
from service_kit.inprocess import InProcessBroker
from service_kit.message import Message
from service_kit.service import Service
from service_kit.testing.eventually import eventually

DEPTH = 100_000
DEEP = {
    "arrays": b"[" * DEPTH + b"]" * DEPTH,
    "objects": b'{"a":' * DEPTH + b"1" + b"}" * DEPTH,
    "arrays without end": b"[" * DEPTH,
}
ADMIN = {"authorization": "Bearer the-key-of-the-tests", "x-operator": "Anna"}


@pytest.fixture
async def client(dsn: str, broker: InProcessBroker) -> AsyncIterator[httpx.AsyncClient]:
    settings = OrderSettings(
        db_dsn=dsn, port=0, auth="off", shutdown_grace_seconds=5.0, admin_key="the-key-of-the-tests"
    )
    async with (
        Service("order-service", order_service(settings, broker)) as service,
        httpx.AsyncClient(base_url=service.url, timeout=30) as client,
    ):
        await service.ready()
        yield client


def order_with(deep: bytes, field: bytes) -> bytes:
    return b'{"order_id":"o-1","customer_id":"c-1","items":[],"' + field + b'":' + deep + b"}"


@pytest.mark.parametrize("kind", DEEP)
@pytest.mark.parametrize(
    ("path", "field"),
    [
        ("/orders", None),
        ("/orders", b"price"),
        ("/orders", b"order_id"),
        ("/admin/keys", None),
        ("/admin/keys", b"roles"),
        ("/admin/keys", b"unknown"),
    ],
)
async def test_a_deep_body_is_refused(
    client: httpx.AsyncClient, kind: str, path: str, field: bytes | None
) -> None:
    body = DEEP[kind] if field is None else order_with(DEEP[kind], field)

    answer = await client.post(path, content=body, headers=ADMIN)

    assert (answer.status_code, answer.json()["error_type"]) == (400, "ValidationError")
    assert len(answer.content) < 2_000
    assert "recursion" not in answer.text  # a word of Python's, and not of the client's
    assert (await client.get("/health")).status_code == 200


async def test_a_deep_reason_to_cancel_is_refused(client: httpx.AsyncClient) -> None:
    deep = b"[" * 1_500 + b"]" * 1_500
    for body, status in ((deep, 400), (b'{"reason":' + deep + b"}", 400), (DEEP["arrays"], 413)):
        assert (await client.post("/orders/o-1/cancel", content=body)).status_code == status


async def test_a_deep_price_is_refused(client: httpx.AsyncClient) -> None:
    for deep in DEEP.values():
        item = b'{"sku":"laptop","quantity":1,"price":' + deep + b"}"
        body = b'{"order_id":"o-1","customer_id":"c-1","items":[' + item + b"]}"
        assert (await client.post("/orders", content=body)).status_code == 400


@pytest.mark.parametrize("kind", DEEP)
async def test_a_deep_order_of_a_bulk_is_refused_and_no_other(client: httpx.AsyncClient, kind: str) -> None:
    good = b'{"order_id":"o-2","customer_id":"c-1","items":[{"sku":"laptop","quantity":1,"price":5}]}'

    answer = await client.post("/orders/bulk", content=good + b"\n" + DEEP[kind] + b"\n")

    assert answer.status_code == 207
    assert [json.loads(line)["status"] for line in answer.text.splitlines()] == [201, 400]


@pytest.mark.parametrize("kind", DEEP)
async def test_a_deep_array_of_orders_is_refused(client: httpx.AsyncClient, kind: str) -> None:
    answer = await client.post("/orders/bulk", content=b"[" + DEEP[kind] + b"]")

    assert answer.status_code in (207, 400)
    assert b'"error_type":"ValidationError"' in answer.content


@pytest.mark.parametrize("field", [None, b"added_later", b"order_id", b"status"])
async def test_deep_events_are_set_aside(
    client: httpx.AsyncClient, broker: InProcessBroker, connection: asyncpg.Connection, field: bytes | None
) -> None:
    bodies = [deep if field is None else order_with(deep, field) for deep in DEEP.values()]

    for number, body in enumerate(bodies):
        message = Message(routing_key="order.processed", body=body, message_id=f"m-{number}")
        await broker.publisher().publish([message])

    async def count() -> bool:
        return bool(await connection.fetchval("SELECT count(*) = $1 FROM dead_letter_queue", len(bodies)))

    await eventually(count)
    assert (await client.get("/health")).status_code == 200

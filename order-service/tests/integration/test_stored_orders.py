"""What stands in the database: columns, types, exact amounts, and events as the contract says."""

import json
from decimal import Decimal
from typing import Any

import asyncpg
import jsonschema
import pytest

from order_service.api.schemas import encode_order
from order_service.application.ports import CreateOrder
from order_service.domain.order import Item, Order, new_order
from order_service.infrastructure.intake import PostgresIntake
from order_service.infrastructure.metrics import OrderMetrics
from order_service.infrastructure.unit_of_work import OrderUnitOfWork
from service_kit.lifecycle import Wakeup
from service_kit.postgres.database import Database

TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

COLUMNS = {
    "orders": {
        "order_id": "text",
        "customer_id": "text",
        "items": "jsonb",
        "amount": "numeric",
        "status": "text",
        "version": "bigint",
        "fail_reason": "text",
        "cancel_reason": "text",
        "created_at": "timestamp with time zone",
        "updated_at": "timestamp with time zone",
    },
    "outbox": {
        "id": "bigint",
        "event_type": "text",
        "payload": "jsonb",
        "created_at": "timestamp with time zone",
    },
    "processed_inbox": {"event_key": "text", "processed_at": "timestamp with time zone"},
    "dead_letter_queue": {
        "id": "bigint",
        "original_event_type": "text",
        "payload": "jsonb",
        "body": "bytea",
        "failure_reason": "text",
        "moved_to_dlq_at": "timestamp with time zone",
    },
}

HARD_AMOUNTS = [
    "0.0001",
    "0.1",
    "1200",
    "999999999999.9999",
    "1000000000000",
    "123456789012.3456",
    "900719925474.9931",
]


def an_order(*prices: str) -> Order:
    return new_order("o-1", "c-1", [Item(sku="🍕", quantity=3, price=Decimal(price)) for price in prices])


async def store(database: Database, order: Order) -> None:
    intake = PostgresIntake(database, Wakeup(), OrderMetrics())
    created = await intake.insert_new([CreateOrder(order=order, traceparent=TRACEPARENT)])
    assert created.keys() == {order.order_id}


@pytest.mark.parametrize("table", COLUMNS)
async def test_a_table_has_the_columns_that_its_users_query(
    connection: asyncpg.Connection, table: str
) -> None:
    records = await connection.fetch(
        "SELECT column_name, data_type FROM information_schema.columns WHERE table_name = $1", table
    )
    types = {record["column_name"]: record["data_type"] for record in records}

    assert COLUMNS[table].items() <= types.items()


async def test_a_new_order_is_one_row_that_tells_everything(
    database: Database, connection: asyncpg.Connection
) -> None:
    await store(database, an_order("12.50", "0.1"))

    record = await connection.fetchrow(
        "SELECT order_id, customer_id, items::text, amount, status, version, fail_reason FROM orders"
    )

    assert record is not None
    assert dict(record) == {
        "order_id": "o-1",
        "customer_id": "c-1",
        "items": '[{"sku": "🍕", "price": 12.5, "quantity": 3}, {"sku": "🍕", "price": 0.1, "quantity": 3}]',
        "amount": Decimal("37.8"),
        "status": "pending",
        "version": 1,
        "fail_reason": None,
    }


async def test_an_order_is_read_back_as_it_was_written(database: Database) -> None:
    order = an_order("30000")
    await store(database, order)

    found = await PostgresIntake(database, Wakeup(), OrderMetrics()).find([order.order_id])

    assert found == {order.order_id: order}
    stored = found[order.order_id]
    assert stored.created_at
    assert encode_order(stored) == encode_order(order.stored_at(stored.created_at))


async def test_amounts_are_exact_in_every_place_where_they_are_stored(
    database: Database, connection: asyncpg.Connection
) -> None:
    order = an_order(*HARD_AMOUNTS)
    await store(database, order)

    record = await connection.fetchrow(
        "SELECT amount::text, items::text, payload ->> 'amount' AS sent, payload ->> 'items' AS sent_items"
        " FROM orders, outbox"
    )

    assert record is not None
    assert record["amount"] == record["sent"] == str(order.total_amount)
    for items in (record["items"], record["sent_items"]):
        assert [item["price"] for item in json.loads(items, parse_float=str, parse_int=str)] == HARD_AMOUNTS


async def test_the_row_of_the_event_holds_type_body_and_trace(
    database: Database, connection: asyncpg.Connection
) -> None:
    await store(database, an_order("1"))

    record = await connection.fetchrow("SELECT event_type, payload::text, traceparent, attempts FROM outbox")

    assert record is not None
    assert (record["event_type"], record["traceparent"], record["attempts"]) == (
        "order.created",
        TRACEPARENT,
        0,
    )
    assert json.loads(record["payload"]) == {
        "order_id": "o-1",
        "customer_id": "c-1",
        "items": [{"sku": "🍕", "quantity": 3, "price": 1}],
        "amount": 3,
        "version": 1,
    }


async def test_an_event_that_is_told_again_is_the_same_as_the_first(
    database: Database, connection: asyncpg.Connection
) -> None:
    order = an_order(*HARD_AMOUNTS)
    await store(database, order)
    uow = OrderUnitOfWork(database, Wakeup())

    async with uow:
        await uow.outbox.add([CreateOrder(order=order, traceparent=TRACEPARENT)])
        await uow.commit()

    assert await connection.fetchval("SELECT count(DISTINCT (event_type, payload)) FROM outbox") == 1
    assert await connection.fetchval("SELECT count(DISTINCT message_id) FROM outbox") == 2


async def test_the_event_validates_against_its_schema(
    database: Database, connection: asyncpg.Connection, order_created_schema: dict[str, Any]
) -> None:
    await store(database, an_order(*HARD_AMOUNTS))

    payload = json.loads(await connection.fetchval("SELECT payload::text FROM outbox"), parse_float=Decimal)

    jsonschema.Draft202012Validator(order_created_schema).validate(payload)


@pytest.mark.parametrize(
    "change",
    [
        "status = 'success'",
        "status = 'done', fail_reason = 'why'",
        "fail_reason = 'why'",
        "cancel_reason = 'why'",
        "amount = NULL",
        "version = NULL",
    ],
)
async def test_the_database_itself_refuses_an_order_that_cannot_be(
    database: Database, connection: asyncpg.Connection, change: str
) -> None:
    await store(database, an_order("1"))

    with pytest.raises(asyncpg.IntegrityConstraintViolationError):
        await connection.execute(f"UPDATE orders SET {change}")

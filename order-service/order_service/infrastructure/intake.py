"""Orders by single statements: the two that every request runs."""

import asyncio
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime

from order_service.application.ports import CreateOrder
from order_service.domain.order import Order, OrderId
from order_service.infrastructure.events import encode_items, order_created
from order_service.infrastructure.metrics import OrderMetrics
from order_service.infrastructure.rows import COLUMNS, to_order
from service_kit import failpoints
from service_kit.lifecycle import Wakeup
from service_kit.postgres.database import Database

# One statement, so one round trip and one commit for a whole batch. An order that exists is skipped, and its
# event with it; one that a concurrent transaction is inserting is waited for. Sorted, so that two batches
# with common ids wait for each other instead of deadlocking. `IS TRUE` makes a hashed subplan of what would
# otherwise be a join, and compare each order with each: our sessions have no hash joins.
INSERT_NEW = """
WITH input AS (
    SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::numeric[], $5::text[], $6::text[],
                         $7::float8[])
        AS command (order_id, customer_id, items, amount, payload, traceparent, accepted_seconds_ago)
), created AS (
    INSERT INTO orders (order_id, customer_id, items, amount, accepted_at, accepted_by)
    SELECT order_id, customer_id, items::jsonb, amount,
           now() - accepted_seconds_ago * interval '1 s', $8::text
    FROM input ORDER BY order_id COLLATE "C"
    ON CONFLICT (order_id) DO NOTHING
    RETURNING order_id, created_at
), emitted AS (
    INSERT INTO outbox (event_type, payload, traceparent)
    SELECT 'order.created', payload::jsonb, traceparent
    FROM input WHERE (order_id IN (SELECT order_id FROM created)) IS TRUE
), logged AS (
    INSERT INTO order_log (type, order_id, version) SELECT 'order.created', order_id, 1 FROM created
)
SELECT order_id, created_at FROM created
"""

FIND = f"SELECT {COLUMNS} FROM orders WHERE order_id = ANY ($1::text[])"


class PostgresIntake:
    """Implements OrderIntake; `wakeup` tells the relay of this process, `instance`, of new events."""

    def __init__(
        self, database: Database, wakeup: Wakeup, metrics: OrderMetrics, *, instance: str | None = None
    ) -> None:
        self._instance = instance
        self._database = database
        self._wakeup = wakeup
        self._metrics = metrics

    async def insert_new(self, commands: Sequence[CreateOrder]) -> Mapping[OrderId, datetime]:
        orders = [command.order for command in commands]
        items = [encode_items(order.items) for order in orders]
        events = [order_created(command, encoded) for command, encoded in zip(commands, items, strict=True)]
        async with self._database.connection() as connection:
            now = asyncio.get_running_loop().time()
            created = await connection.fetch(
                INSERT_NEW,
                [order.order_id for order in orders],
                [order.customer_id for order in orders],
                [encoded.decode() for encoded in items],
                [order.total_amount for order in orders],
                [event.payload.decode() for event in events],
                [event.traceparent for event in events],
                [_seconds_ago(command.accepted_at, now) for command in commands],
                self._instance,
            )
        failpoints.passed("intake.committed")
        if created:
            self._wakeup.notify()
            self._metrics.count_created(len(created))
        return {record["order_id"]: record["created_at"] for record in created}

    async def find(self, order_ids: Collection[OrderId]) -> Mapping[OrderId, Order]:
        async with self._database.connection() as connection:
            records = await connection.fetch(FIND, list(order_ids))
        return {record["order_id"]: to_order(record) for record in records}


def _seconds_ago(moment: float | None, now: float) -> float | None:
    """Handed over as an age, so that all times of an order are by the database's clock."""
    return None if moment is None else now - moment

"""The reconciler by hand: an operator has pending orders told of again, without waiting for their time."""

from collections.abc import Callable, Sequence
from random import Random

from order_service.application.ports import CreateOrder
from order_service.infrastructure.rows import COLUMNS, to_order
from order_service.infrastructure.unit_of_work import PostgresOrderOutbox
from service_kit.lifecycle import Wakeup
from service_kit.observability.trace_context import continued_trace
from service_kit.postgres.audit import Cause, write_audit
from service_kit.postgres.database import Connection, Database, Record

ORDERS_MAX = 10_000
YOUNG_SECONDS = 10.0
"""Younger orders are on their way: they are told of again only if they are named."""

# Neither the first event nor one that was sent again may still be in the outbox: a second helps nobody.
_TAKE = f"""
UPDATE orders SET reemitted_at = now()
WHERE order_id = ANY (ARRAY(
    SELECT order_id FROM orders
    WHERE {{which}}
      AND greatest(created_at, reemitted_at)
          < coalesce((SELECT created_at FROM outbox ORDER BY id LIMIT 1), 'infinity')
    ORDER BY created_at LIMIT {ORDERS_MAX}
    FOR UPDATE SKIP LOCKED
))
RETURNING {COLUMNS}
"""

# Found by their ids, as in APPLY: never by reading all that are pending.
TAKE_NAMED = _TAKE.format(which="order_id = ANY ($1::text[]) AND status || '' = 'pending'")

TAKE_OLDEST = _TAKE.format(which="status = 'pending' AND created_at <= now() - $1 * interval '1 s'")


class ReconcileNow:
    """`wakeup` tells the relay of this process of the events, `on_reemitted` of how many orders they are."""

    def __init__(
        self, database: Database, wakeup: Wakeup, random: Random, *, on_reemitted: Callable[[int], None]
    ) -> None:
        self._database = database
        self._wakeup = wakeup
        self._random = random
        self._on_reemitted = on_reemitted

    async def __call__(self, order_ids: Sequence[str] | None, cause: Cause) -> int:
        """Tell again of those of `order_ids` that are pending, or (None) of the oldest; return how many."""
        async with self._database.transaction() as connection:
            orders = [to_order(record) for record in await _taken(connection, order_ids)]
            commands = [
                CreateOrder(order=order, traceparent=continued_trace(None, self._random)) for order in orders
            ]
            await PostgresOrderOutbox(connection).add(commands)
            if orders:
                details = {"reemitted": len(orders), "order_ids": [order.order_id for order in orders[:100]]}
                await write_audit(connection, cause, "orders.reconcile", "orders", details)
        self._wakeup.notify()
        self._on_reemitted(len(orders))
        return len(orders)


async def _taken(connection: Connection, order_ids: Sequence[str] | None) -> Sequence[Record]:
    if order_ids is None:
        return await connection.fetch(TAKE_OLDEST, YOUNG_SECONDS)
    return await connection.fetch(TAKE_NAMED, list(order_ids))

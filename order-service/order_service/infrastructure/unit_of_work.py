"""A transaction over orders and outbox."""

from collections.abc import Sequence

from order_service.application.ports import CreateOrder
from order_service.domain.order import Order, OrderId, OrderSummary
from order_service.infrastructure.events import order_cancelled, order_created
from order_service.infrastructure.rows import COLUMNS, SUMMARY_COLUMNS, to_order, to_summary
from service_kit.lifecycle import Wakeup
from service_kit.outbox import OutboxEvent
from service_kit.postgres.database import Connection, Database
from service_kit.postgres.outbox import add_to_outbox
from service_kit.postgres.unit_of_work import PostgresUnitOfWork

# The same guard as in APPLY of `results.py`: of the two the second waits for the first, and moves nothing.
# now() is when our transaction began, which may be before that of the order did.
CANCEL = f"""
WITH cancelled AS (
    UPDATE orders
    SET status = 'cancelled', cancel_reason = $2, version = version + 1,
        updated_at = greatest(now(), created_at), applied_by = $3
    WHERE order_id = $1 AND status || '' = 'pending'
    RETURNING {SUMMARY_COLUMNS}
), logged AS (
    INSERT INTO order_log (type, order_id, version, reason)
    SELECT 'order.cancelled', order_id, version, cancel_reason FROM cancelled
)
SELECT * FROM cancelled
"""

# Orders younger than the oldest waiting event may have theirs still in the outbox: those are not overdue but
# waiting for the broker, and a second event would only add to its load.
TAKE_OVERDUE = f"""
UPDATE orders SET reemitted_at = now()
WHERE order_id = ANY (ARRAY(
    SELECT order_id FROM orders
    WHERE status = 'pending'
      AND created_at <= now() - $2 * interval '1 s'
      AND created_at < coalesce((SELECT created_at FROM outbox ORDER BY id LIMIT 1), 'infinity')
      AND (reemitted_at IS NULL OR now() - reemitted_at >= least(reemitted_at - created_at, interval '1 h'))
    ORDER BY created_at
    LIMIT $1
    FOR UPDATE SKIP LOCKED
))
RETURNING {COLUMNS}
"""


class OrderUnitOfWork(PostgresUnitOfWork):
    """Implements UnitOfWork; `wakeup` tells the relay of this process, `instance`, of commits with events."""

    orders: "PostgresOrders"
    outbox: "PostgresOrderOutbox"

    def __init__(self, database: Database, wakeup: Wakeup, *, instance: str | None = None) -> None:
        super().__init__(database)
        self._wakeup = wakeup
        self._instance = instance

    def begin(self, connection: Connection) -> None:
        self.orders = PostgresOrders(connection, self._instance)
        self.outbox = PostgresOrderOutbox(connection)

    async def commit(self) -> None:
        await super().commit()
        if self.outbox.written:
            self._wakeup.notify()


class PostgresOrders:
    """Implements Orders on a running transaction."""

    def __init__(self, connection: Connection, instance: str | None) -> None:
        self._connection = connection
        self._instance = instance

    async def cancel(self, order_id: OrderId, reason: str | None) -> OrderSummary | None:
        record = await self._connection.fetchrow(CANCEL, order_id, reason, self._instance)
        return to_summary(record) if record else None

    async def take_overdue(self, limit: int, *, after_seconds: float) -> Sequence[Order]:
        return [
            to_order(record) for record in await self._connection.fetch(TAKE_OVERDUE, limit, after_seconds)
        ]


class PostgresOrderOutbox:
    """Implements Outbox on a running transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.written = False

    async def add(self, commands: Sequence[CreateOrder]) -> None:
        if commands:
            await self._write([order_created(command) for command in commands])

    async def add_cancelled(self, order: OrderSummary, traceparent: str) -> None:
        await self._write([order_cancelled(order, traceparent)])

    async def _write(self, events: Sequence[OutboxEvent]) -> None:
        await add_to_outbox(self._connection, events)
        self.written = True

"""The orders that were decided, from the newest back."""

from collections.abc import Sequence

from processor_service.application.ports import PastOrder
from service_kit.postgres.database import Database, Record

_COLUMNS = "order_id, decided_at, fail_reason, rule, event"

NEWEST = f"""
SELECT {_COLUMNS} FROM processing_states WHERE event IS NOT NULL
ORDER BY decided_at DESC, order_id DESC LIMIT $1
"""

# Orders of one batch were decided at one moment, so that the id has to tell them apart.
BEFORE = f"""
SELECT {_COLUMNS} FROM processing_states
WHERE event IS NOT NULL AND decided_at <= $2 AND (decided_at, order_id) < ($2, $3)
ORDER BY decided_at DESC, order_id DESC LIMIT $1
"""


class PostgresPastOrders:
    """Implements PastOrders. Orders decided before their events were kept are not among them."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def before(self, last: PastOrder | None, limit: int) -> Sequence[PastOrder]:
        async with self._database.connection() as connection:
            if last is None:
                records = await connection.fetch(NEWEST, limit)
            else:
                records = await connection.fetch(BEFORE, limit, last.decided_at, last.order_id)
        return [_past_order(record) for record in records]


def _past_order(record: Record) -> PastOrder:
    return PastOrder(
        order_id=record["order_id"],
        decided_at=record["decided_at"],
        fail_reason=record["fail_reason"],
        rule=record["rule"],
        event=record["event"],
    )

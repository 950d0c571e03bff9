"""Results by a single statement: what every batch of `order.processed` runs."""

from collections.abc import Sequence

from order_service.application.ports import Effect, Finished, ProcessedOrder
from order_service.domain.order import Status
from service_kit import failpoints
from service_kit.postgres.database import Database

# One statement, so one round trip and one commit for a whole batch. What it waits for, it waits for before it
# moves anything: for the orders and then for the keys, both sorted, so that concurrent batches wait for each
# other instead of deadlocking.
#
# All parts see the snapshot of the beginning. What others committed while we waited, the UPDATE finds out: it
# looks at a row that was changed as it is now, and asks its conditions again. So the guard stands here and
# not in Python: only a pending order moves, and only to a newer version.
#
# Whether a key or an order is among others is asked by IN where that becomes a lookup by hash. A join would
# compare each with each: our sessions have no other (`PLANS_BY_INDEX`). Hence MATERIALIZED: so it stays a
# column, which is asked once, and is no condition of the UPDATE.
#
# The `|| ''` keeps the planner from the index of pending orders: if few were pending at the last ANALYZE it
# would read the whole of it for each result, and the more orders wait, the slower they would be finished.
APPLY = """
WITH known AS (
    SELECT result.*
    FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::bigint[])
        AS result (event_key, order_id, status, fail_reason, version)
    JOIN orders ON orders.order_id = result.order_id
    ORDER BY orders.order_id FOR NO KEY UPDATE OF orders
), accepted AS (
    INSERT INTO processed_inbox (event_key) SELECT event_key FROM known ORDER BY event_key
    ON CONFLICT (event_key) DO NOTHING
    RETURNING event_key
), result AS MATERIALIZED (
    SELECT *, event_key IN (SELECT event_key FROM accepted) AS is_new FROM known
), finished AS (
    UPDATE orders
    SET status = result.status, fail_reason = result.fail_reason, version = result.version,
        updated_at = now(), applied_by = $6
    FROM result
    WHERE orders.order_id = result.order_id AND result.is_new
      AND orders.status || '' = 'pending' AND orders.version < result.version
    RETURNING orders.order_id, orders.status, orders.version, orders.fail_reason,
        extract(epoch FROM clock_timestamp() - orders.created_at)::float8 AS seconds
), logged AS (
    INSERT INTO order_log (type, order_id, version, reason)
    SELECT 'order.' || status, order_id, version, fail_reason FROM finished
)
SELECT order_id, status, seconds FROM finished
UNION ALL
SELECT order_id, NULL, NULL FROM unnest($2::text[]) AS result (order_id)
WHERE order_id NOT IN (SELECT order_id FROM known)
"""


class PostgresResults:
    """Implements OrderResults; `instance` is the process that applies them."""

    def __init__(self, database: Database, *, instance: str | None = None) -> None:
        self._database = database
        self._instance = instance

    async def apply(self, results: Sequence[ProcessedOrder]) -> Effect:
        async with self._database.connection() as connection:
            records = await connection.fetch(
                APPLY,
                [result.key for result in results],
                [result.order_id for result in results],
                [result.status for result in results],
                [result.fail_reason for result in results],
                [result.version for result in results],
                self._instance,
            )
        failpoints.passed("results.committed")
        return Effect(
            finished=[
                Finished(
                    order_id=record["order_id"], status=Status(record["status"]), seconds=record["seconds"]
                )
                for record in records
                if record["status"] is not None
            ],
            unknown={record["order_id"] for record in records if record["status"] is None},
        )

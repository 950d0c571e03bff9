"""Stored orders, to be shown: each statement touches about as many rows as it returns."""

from collections.abc import Collection, Mapping, Sequence
from functools import cache

from order_service.application.ports import Place, Span
from order_service.domain.order import OrderId, OrderSummary, Status
from order_service.infrastructure.rows import SUMMARY_COLUMNS, to_summary
from service_kit.postgres.database import Database

PAGE_ROWS_MAX = 101
"""The largest page, and one more to see whether there are others."""

SUMMARIES = f"SELECT {SUMMARY_COLUMNS} FROM orders WHERE order_id = ANY ($1::text[])"

# The `|| ''` keeps the planner from the index of final orders, as in APPLY.
FINAL = f"{SUMMARIES} AND status || '' <> 'pending'"

PLACE = "SELECT created_at, order_id FROM orders WHERE order_id = $1"


# Whatever the last ANALYZE has seen, an index gives a page's rows in their order. Where it had seen few, a
# plan that reads all of them and sorts would look as good, and would be kept when there are a million. A sort
# that cannot be spared is only priced beyond measure, and what costs so much would be compiled.
IN_ORDER_OF_INDEX = "SET LOCAL enable_bitmapscan = off; SET LOCAL enable_sort = off; SET LOCAL jit = off"


class PostgresReader:
    """Implements OrderReader."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def summaries(self, order_ids: Collection[OrderId]) -> Mapping[OrderId, OrderSummary]:
        async with self._database.connection() as connection:
            records = await connection.fetch(SUMMARIES, list(order_ids))
        return {record["order_id"]: to_summary(record) for record in records}

    async def final(self, order_ids: Collection[OrderId]) -> Sequence[OrderSummary]:
        async with self._database.connection() as connection:
            return [to_summary(record) for record in await connection.fetch(FINAL, list(order_ids))]

    async def place(self, order_id: OrderId) -> Place | None:
        async with self._database.connection() as connection:
            record = await connection.fetchrow(PLACE, order_id)
        return Place(*record) if record else None

    async def newest(self, span: Span, limit: int) -> Sequence[OrderSummary]:
        return await self._page(span, limit, newest_first=True)

    async def oldest(self, span: Span, limit: int) -> Sequence[OrderSummary]:
        return await self._page(span, limit, newest_first=False)

    async def _page(self, span: Span, limit: int, *, newest_first: bool) -> Sequence[OrderSummary]:
        of_customer = span.customer_id is not None
        sql = page(span.status, of_customer=of_customer, newest_first=newest_first)
        arguments = [*span.above, *span.below, limit, *([span.customer_id] if of_customer else [])]
        async with self._database.transaction() as connection:
            await connection.execute(IN_ORDER_OF_INDEX)
            return [to_summary(record) for record in await connection.fetch(sql, *arguments)]


@cache
def page(status: Status | None, *, of_customer: bool, newest_first: bool) -> str:
    """The statement of a page: $1, $2 and $3, $4 are the places that it lies between, $5 its rows, $6 whose.

    Every index of orders begins with, or is of, one status. So a page of one status is read from one place of
    an index on, and a page of all is merged from one such piece of each.
    """
    order = "ORDER BY created_at DESC, order_id DESC" if newest_first else "ORDER BY created_at, order_id"
    if status:
        return f"{_piece(status, of_customer, order)} LIMIT $5"
    final = " UNION ALL ".join(
        f"({_piece(each, of_customer, order)} LIMIT {PAGE_ROWS_MAX})"
        for each in Status
        if each is not Status.PENDING
    )
    # The index still holds orders that were pending, until a vacuum: hundreds of thousands after a busy hour.
    # Only those within the page's final orders are looked at, of which there are no more than of these.
    reach, unbounded = (">=", "-infinity") if newest_first else ("<=", "infinity")
    pending = _piece(Status.PENDING, of_customer, f"AND created_at {reach} (SELECT at FROM reach) {order}")
    return f"""
        WITH final AS MATERIALIZED (
            SELECT * FROM ({final}) AS pieces {order} LIMIT $5
        ), reach AS (
            SELECT coalesce((SELECT created_at FROM final {order} OFFSET $5 - 1), '{unbounded}') AS at
        ), pending AS (
            {pending} LIMIT {PAGE_ROWS_MAX}
        )
        SELECT * FROM (TABLE final UNION ALL TABLE pending) AS page {order} LIMIT $5
    """


def _piece(status: Status, of_customer: bool, rest: str) -> str:
    whose = f"status = '{status}'"
    if of_customer:
        # Behind a SELECT the status is unknown to the planner, so that the customer's index alone fits. With
        # that of a status it would look through the orders of all others, as many as there are.
        whose = f"""customer_id COLLATE "C" = $6 AND status = (SELECT text '{status}')"""
    # Two comparisons of rows bound it and nothing else: of several bounds on one side PostgreSQL may begin to
    # read at the wider one.
    return f"""
        SELECT {SUMMARY_COLUMNS} FROM orders
        WHERE {whose} AND (created_at, order_id) > ($1, $2) AND (created_at, order_id) < ($3, $4) {rest}
    """

"""Orders by the hundred thousand, as the services would have left them, in one statement a table."""

from bench.load.spec import AMOUNT, ITEMS
from bench.servers import connected
from bench.stage import Stage

_TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"
_EVENT = (
    f"""'{{"order_id": "' || id || '", "customer_id": "customer-17", "items": {ITEMS}, """
    f""""amount": {AMOUNT}, "version": 1}}'"""
)
# Sorted before those that the load sends (`ordered`), or spread among them (`random`).
_IDS = {
    "ordered": "'0-' || lpad(number::text, 12, '0')",
    "random": "substr(md5(number::text), 1, 16) || '-0'",
}


def _numbers(ids: str) -> str:
    return f"(SELECT {_IDS[ids]} AS id FROM generate_series($1::bigint + 1, $2::bigint) AS number) AS made"


async def queue(staged: Stage, orders: int) -> None:
    """Pending orders whose events wait in the outbox."""
    async with connected(staged.orders_dsn) as connection:
        made = _numbers("ordered")
        async with connection.transaction():
            await connection.execute(
                "INSERT INTO orders (order_id, customer_id, items, amount) "
                f"SELECT id, 'customer-17', '{ITEMS}', {AMOUNT} FROM {made}",
                0,
                orders,
            )
            await connection.execute(
                "INSERT INTO outbox (event_type, payload, traceparent) "
                f"SELECT 'order.created', ({_EVENT})::jsonb, '{_TRACE}' FROM {made}",
                0,
                orders,
            )
        await connection.execute("VACUUM ANALYZE")


async def history(staged: Stage, begin: int, end: int, *, ids: str = "ordered") -> None:
    """Final orders numbered `begin` + 1 to `end` in every table that remembers them."""
    made = _numbers(ids)
    async with connected(staged.orders_dsn) as connection:
        await connection.execute(
            "INSERT INTO orders (order_id, customer_id, items, amount, status, version) "
            f"SELECT id, 'customer-17', '{ITEMS}', {AMOUNT}, 'done', 2 FROM {made}",
            begin,
            end,
        )
        await connection.execute(
            f"INSERT INTO processed_inbox (event_key) SELECT 'order.processed:' || id || ':2' FROM {made}",
            begin,
            end,
        )
        await connection.execute("VACUUM ANALYZE")
    async with connected(staged.processor_dsn) as connection:
        await connection.execute(
            "INSERT INTO processing_states (order_id, version, status, attempt_count) "
            f"SELECT id, 1, 'done', 1 FROM {made}",
            begin,
            end,
        )
        await connection.execute(
            f"INSERT INTO processed_inbox (event_key) SELECT 'order.created:' || id || ':1' FROM {made}",
            begin,
            end,
        )
        await connection.execute("VACUUM ANALYZE")

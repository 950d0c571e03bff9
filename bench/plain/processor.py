"""The plain processor-service: `python -m bench.plain.processor` with DSN, URL, EXCHANGE and POLL_SECONDS."""

import asyncio
import json
import os

import aio_pika
import asyncpg

from bench.plain.outbox import queue, relay


async def main() -> None:
    environment = os.environ
    url, exchange = environment["URL"], environment["EXCHANGE"]
    async with (
        asyncpg.create_pool(environment["DSN"], min_size=2, max_size=10) as pool,
        await aio_pika.connect(url) as connection,
    ):
        created = await queue(connection, exchange, "order.created")
        async with asyncio.TaskGroup() as group:
            group.create_task(relay(pool, url, exchange, float(environment["POLL_SECONDS"])))
            group.create_task(_consume(pool, created))


async def _consume(pool: asyncpg.Pool, created: aio_pika.abc.AbstractQueue) -> None:
    async with created.iterator() as messages:
        async for message in messages:
            order = json.loads(message.body)
            async with pool.acquire() as connection, connection.transaction():
                fresh = await connection.fetchval(
                    "INSERT INTO processed_inbox VALUES ($1) ON CONFLICT DO NOTHING RETURNING true",
                    f"order.created:{order['order_id']}:{order['version']}",
                )
                if fresh:
                    await _decide(connection, order["order_id"], order["version"])
            await message.ack()


async def _decide(
    connection: "asyncpg.pool.PoolConnectionProxy[asyncpg.Record]", order_id: str, version: int
) -> None:
    await connection.execute(
        "INSERT INTO processing_states (order_id, version, status) VALUES ($1, $2, 'done')", order_id, version
    )
    answer = {"order_id": order_id, "status": "success", "fail_reason": None, "version": version + 1}
    await connection.execute(
        "INSERT INTO outbox (event_type, payload) VALUES ('order.processed', $1::jsonb)", json.dumps(answer)
    )


if __name__ == "__main__":
    asyncio.run(main())

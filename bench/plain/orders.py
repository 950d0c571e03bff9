"""The plain order-service: `python -m bench.plain.orders` with DSN, URL, EXCHANGE, PORT and POLL_SECONDS."""

import asyncio
import json
import os

import aio_pika
import asyncpg
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from bench.plain.outbox import queue, relay


async def main() -> None:
    environment = os.environ
    url, exchange = environment["URL"], environment["EXCHANGE"]
    async with (
        asyncpg.create_pool(environment["DSN"], min_size=2, max_size=10) as pool,
        await aio_pika.connect(url) as connection,
    ):
        results = await queue(connection, exchange, "order.processed")
        config = uvicorn.Config(_application(pool), port=int(environment["PORT"]), log_level="warning")
        async with asyncio.TaskGroup() as group:
            group.create_task(relay(pool, url, exchange, float(environment["POLL_SECONDS"])))
            group.create_task(_consume(pool, results))
            group.create_task(uvicorn.Server(config).serve())


def _application(pool: asyncpg.Pool) -> Starlette:
    async def post_order(request: Request) -> JSONResponse:
        order = await request.json()
        async with pool.acquire() as connection, connection.transaction():
            await connection.execute(
                "INSERT INTO orders (order_id, customer_id, items) VALUES ($1, $2, $3::jsonb)",
                order["order_id"],
                order["customer_id"],
                json.dumps(order["items"]),
            )
            await connection.execute(
                "INSERT INTO outbox (event_type, payload) VALUES ('order.created', $1::jsonb)",
                json.dumps(order | {"version": 1}),
            )
        return JSONResponse({"order_id": order["order_id"], "status": "pending", "version": 1}, 201)

    async def health(_: Request) -> JSONResponse:
        return JSONResponse({"status": "ok"})

    return Starlette(routes=[Route("/orders", post_order, methods=["POST"]), Route("/ready", health)])


async def _consume(pool: asyncpg.Pool, results: aio_pika.abc.AbstractQueue) -> None:
    async with results.iterator() as messages:
        async for message in messages:
            result = json.loads(message.body)
            async with pool.acquire() as connection, connection.transaction():
                fresh = await connection.fetchval(
                    "INSERT INTO processed_inbox VALUES ($1) ON CONFLICT DO NOTHING RETURNING true",
                    f"order.processed:{result['order_id']}:{result['version']}",
                )
                if fresh:
                    await connection.execute(
                        "UPDATE orders SET status = $2, version = $3 WHERE order_id = $1 AND version < $3",
                        result["order_id"],
                        "done" if result["status"] == "success" else "failed",
                        result["version"],
                    )
            await message.ack()


if __name__ == "__main__":
    asyncio.run(main())

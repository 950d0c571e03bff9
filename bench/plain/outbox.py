"""The plain relay: look each `poll_seconds`, publish row by row, a connection for each."""

import asyncio

import aio_pika
import asyncpg


async def relay(pool: asyncpg.Pool, url: str, exchange_name: str, poll_seconds: float) -> None:
    while True:
        rows = await pool.fetch(
            "SELECT id, event_type, payload::text AS payload FROM outbox "
            "WHERE published_at IS NULL ORDER BY id"
        )
        for row in rows:
            await _publish(url, exchange_name, row["event_type"], row["payload"].encode())
            await pool.execute("UPDATE outbox SET published_at = now() WHERE id = $1", row["id"])
        await asyncio.sleep(poll_seconds)


async def _publish(url: str, exchange_name: str, routing_key: str, body: bytes) -> None:
    async with await aio_pika.connect(url) as connection:
        channel = await connection.channel()
        exchange = await channel.get_exchange(exchange_name, ensure=False)
        message = aio_pika.Message(body, delivery_mode=aio_pika.DeliveryMode.PERSISTENT)
        await exchange.publish(message, routing_key)


async def queue(
    connection: aio_pika.abc.AbstractConnection, exchange_name: str, routing_key: str
) -> aio_pika.abc.AbstractQueue:
    channel = await connection.channel()
    await channel.set_qos(prefetch_count=10)
    exchange = await channel.declare_exchange(exchange_name, aio_pika.ExchangeType.TOPIC, durable=True)
    declared = await channel.declare_queue(f"{exchange_name}-{routing_key}", durable=True)
    await declared.bind(exchange, routing_key)
    return declared

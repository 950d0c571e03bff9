"""The usual use of aio-pika: robust connections, a topic exchange, a durable queue, one message at a time."""

import json
from collections.abc import Awaitable, Callable
from typing import Any

import aio_pika

_PREFETCH_MESSAGES = 10


async def publish(url: str, exchange_name: str, routing_key: str, payload: Any) -> None:
    """Persistent and confirmed. Raises DeliveryError when no queue takes it."""
    connection = await aio_pika.connect_robust(url)
    async with connection:
        channel = await connection.channel(on_return_raises=True)
        exchange = await _exchange(channel, exchange_name)
        message = aio_pika.Message(
            json.dumps(payload).encode(),
            content_type="application/json",
            delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
        )
        await exchange.publish(message, routing_key)


async def consume(
    url: str, exchange_name: str, routing_key: str, handle: Callable[[Any], Awaitable[None]]
) -> None:
    """Without end. What `handle` raises returns the message to the queue."""
    connection = await aio_pika.connect_robust(url)
    async with connection:
        channel = await connection.channel()
        await channel.set_qos(prefetch_count=_PREFETCH_MESSAGES)
        queue = await channel.declare_queue(f"{exchange_name}-{routing_key}", durable=True)
        await queue.bind(await _exchange(channel, exchange_name), routing_key)
        async with queue.iterator() as messages:
            async for message in messages:
                async with message.process(requeue=True):
                    await handle(json.loads(message.body))


async def _exchange(channel: aio_pika.abc.AbstractChannel, name: str) -> aio_pika.abc.AbstractExchange:
    return await channel.declare_exchange(name, aio_pika.ExchangeType.TOPIC, durable=True)

"""An independent client of the broker: sees each `order.processed`, and can send what the services do not."""

import asyncio
import logging
from collections.abc import Coroutine
from dataclasses import dataclass
from itertools import cycle
from typing import Any

import aio_pika
from aio_pika.abc import AbstractChannel, AbstractIncomingMessage

EXCHANGE = "orders"
QUEUE = "chaos.bystander"
_LOST = (TimeoutError, *aio_pika.exceptions.CONNECTION_EXCEPTIONS)
_PAUSE_SECONDS = 0.3


@dataclass(frozen=True, slots=True)
class Seen:
    """A message of the exchange, by its bytes."""

    message_id: str | None
    body: bytes


class Bystander:
    """Connected directly, not through a proxy; connects again for ever, to each of `urls` in turn."""

    def __init__(self, *urls: str, queue_type: str = "classic") -> None:
        self.seen: list[Seen] = []
        self._urls = cycle(urls)
        self._arguments = {"x-queue-type": "quorum"} if queue_type == "quorum" else {}
        self._listening: asyncio.Task[None] | None = None
        self._connected = asyncio.Event()
        # What is done to the broker is done to us too, and is no news.
        for name in ("aiormq", "aio_pika"):
            logging.getLogger(name).setLevel(logging.CRITICAL)

    async def start(self) -> None:
        self._listening = asyncio.create_task(self._listen())
        async with asyncio.timeout(30):
            await self._connected.wait()

    async def close(self) -> None:
        if self._listening:
            self._listening.cancel()
            await asyncio.gather(self._listening, return_exceptions=True)

    async def publish_all(self, messages: list[tuple[str, bytes, str | None]]) -> None:
        """Return when each is confirmed, and has found a queue; sent again, with the same id, until then."""
        waiting = list(messages)
        while waiting:
            if not await _came_to_its_end(self._publish(waiting)):
                await asyncio.sleep(_PAUSE_SECONDS)

    async def _publish(self, waiting: list[tuple[str, bytes, str | None]]) -> None:
        async with asyncio.timeout(10), await aio_pika.connect(next(self._urls), timeout=5) as connection:
            channel = await connection.channel(on_return_raises=True)
            exchange = await channel.get_exchange(EXCHANGE, ensure=False)
            while waiting:
                key, body, message_id = waiting[0]
                message = aio_pika.Message(
                    body,
                    content_type="application/json",
                    delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
                    message_id=message_id,
                )
                await exchange.publish(message, key)
                waiting.pop(0)

    async def _listen(self) -> None:
        while True:
            await _came_to_its_end(self._listen_until_lost())
            await asyncio.sleep(_PAUSE_SECONDS)

    async def _listen_until_lost(self) -> None:
        lost = asyncio.Event()
        async with await aio_pika.connect(next(self._urls), timeout=5) as connection:
            channel = await connection.channel()
            for either in (connection, channel):
                either.close_callbacks.add(lambda *_: lost.set())
            await self._consume(channel)
            await lost.wait()

    async def _consume(self, channel: AbstractChannel) -> None:
        await channel.set_qos(prefetch_count=500)
        await channel.declare_exchange(EXCHANGE, aio_pika.ExchangeType.TOPIC, durable=True)
        queue = await channel.declare_queue(QUEUE, durable=True, arguments={**self._arguments})
        await queue.bind(EXCHANGE, "order.processed")
        await queue.consume(self._note)
        self._connected.set()

    async def _note(self, message: AbstractIncomingMessage) -> None:
        self.seen.append(Seen(message.message_id, message.body))
        await message.ack()


async def _came_to_its_end(attempt: Coroutine[Any, Any, None]) -> bool:
    """False when the broker was lost meanwhile."""
    task = asyncio.current_task()
    assert task
    try:
        await attempt
    except _LOST:
        return False
    except asyncio.CancelledError:  # the library cancels whoever awaits what a lost connection owes
        if task.cancelling():
            raise
        return False
    return True

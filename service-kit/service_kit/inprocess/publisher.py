"""Publishing into the queues of this process."""

import asyncio
from collections.abc import Mapping, Sequence

from service_kit.broker import PublishOutcome
from service_kit.errors import BrokerUnavailable, MessageRejected
from service_kit.inprocess.queue import Batch, Entry, Queue
from service_kit.message import Message


class InProcessPublisher:
    """The `Publisher` port. May be used by several tasks at once; no task or lock per message."""

    def __init__(self, queues: Mapping[str, Queue]) -> None:
        self._queues = queues
        self._batches: set[Batch] = set()
        self._opened = asyncio.Event()

    @property
    def is_open(self) -> bool:
        return self._opened.is_set()

    async def ready(self) -> None:
        await self._opened.wait()

    async def publish(self, messages: Sequence[Message]) -> Sequence[PublishOutcome]:
        """As the port says. Cancelled, the messages may still be delivered."""
        for message in messages:
            _require_carriable(message)
        await self._room(messages)
        batch = Batch(asyncio.get_running_loop().create_future())
        outcomes = self._route(messages, batch)
        if batch.unacknowledged:
            await self._settled(batch)
        return outcomes

    def open(self) -> None:
        self._opened.set()

    def close(self) -> None:
        self._opened.clear()
        for batch in self._batches:
            if not batch.settled.done():
                batch.settled.set_exception(_closed())
                # Its publisher may be cancelled before it looks.
                batch.settled.exception()
        for queue in self._queues.values():
            queue.wake()

    async def _room(self, messages: Sequence[Message]) -> None:
        routing_keys = {message.routing_key for message in messages}
        while True:
            if not self.is_open:
                raise _closed()
            bound = (queue for queue in self._queues.values() if queue.routing_keys & routing_keys)
            full = next((queue for queue in bound if queue.full), None)
            if full is None:
                return
            await full.changed()

    def _route(self, messages: Sequence[Message], batch: Batch) -> list[PublishOutcome]:
        bound = {message.routing_key: self._bound(message.routing_key) for message in messages}
        for message in messages:
            for queue in bound[message.routing_key]:
                queue.append(Entry(message, batch))
                batch.unacknowledged += 1
        for queue in {queue for queues in bound.values() for queue in queues}:
            queue.wake()
        return [
            PublishOutcome.CONFIRMED if bound[message.routing_key] else PublishOutcome.UNROUTABLE
            for message in messages
        ]

    def _bound(self, routing_key: str) -> tuple[Queue, ...]:
        return tuple(queue for queue in self._queues.values() if routing_key in queue.routing_keys)

    async def _settled(self, batch: Batch) -> None:
        self._batches.add(batch)
        try:
            await batch.settled
        finally:
            self._batches.discard(batch)


def _require_carriable(message: Message) -> None:
    """The limits of AMQP, so that what passes here passes everywhere."""
    for text in (message.message_id, message.routing_key, *message.headers):
        try:
            if len(text.encode()) > 255:
                raise MessageRejected("a message id, routing key or header name is longer than 255 bytes")
        except UnicodeEncodeError as error:
            raise MessageRejected(f"a message id, routing key or header is no Unicode: {error}") from error


def _closed() -> BrokerUnavailable:
    return BrokerUnavailable("the in-process broker is closed")

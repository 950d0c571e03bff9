"""The `Broker` port on the model: what a simulated process publishes and consumes through."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

from service_kit.broker import PublishOutcome
from service_kit.errors import BrokerUnavailable, MessageRejected
from service_kit.message import Delivery, Message
from simulation.broker.queue import Batch, Connection, Entry
from simulation.broker.server import BrokerServer
from simulation.loop import OWNER, Owner


class _Link:
    """A connection that comes back whenever it was lost, until it is closed."""

    def __init__(self, server: BrokerServer, owner: Owner | None) -> None:
        self.owner = owner
        self.connection: Connection | None = None
        self._server = server
        self._closed = False

    def open(self) -> None:
        if self._closed or self.connection or (self.owner is not None and not self.owner.alive):
            return
        self.connection = self._server.connect(self)
        if self.connection:
            self.opened(self.connection)
        else:
            self._server.loop.later(self._server.faults.reconnection(), self.open)

    def close(self) -> None:
        self._closed = True
        if self.connection:
            self._server.close(self.connection)

    def lost(self, reason: str) -> None:
        self.connection = None
        self.ended(reason)
        self._server.loop.later(self._server.faults.reconnection(), self.open)

    def opened(self, connection: Connection) -> None: ...

    def ended(self, reason: str) -> None: ...

    def delivered(self, connection: Connection, tag: int, entry: Entry) -> None: ...

    def blocked_changed(self) -> None: ...


class ModelPublisher(_Link):
    """Implements Publisher."""

    def __init__(self, server: BrokerServer, owner: Owner | None) -> None:
        super().__init__(server, owner)
        self._usable = asyncio.Event()
        self._pending: list[Batch] = []

    async def ready(self) -> None:
        await self._usable.wait()

    async def publish(self, messages: Sequence[Message]) -> Sequence[PublishOutcome]:
        for message in messages:
            _require_carriable(message)
        if not messages:
            return []
        if self.connection is None or not self._usable.is_set():
            raise BrokerUnavailable("the broker is not connected, or blocks publishing")
        answer: asyncio.Future[Any] = self._server.loop.create_future()
        batch = Batch(self.connection, messages, answer)
        self._pending.append(batch)
        self._server.send(batch)
        try:
            outcomes: Sequence[PublishOutcome] = await answer
        finally:
            if batch in self._pending:
                self._pending.remove(batch)
        return outcomes

    def opened(self, connection: Connection) -> None:
        self.blocked_changed()

    def ended(self, reason: str) -> None:
        self._usable.clear()
        pending, self._pending = self._pending, []
        for batch in pending:
            batch.fail(BrokerUnavailable(reason))

    def blocked_changed(self) -> None:
        if self._server.blocked or self.connection is None:
            self._usable.clear()
        else:
            self._usable.set()


class ModelSubscription(_Link):
    """Implements Subscription. Tags are counted on over all connections: above `_stale` they are fresh."""

    def __init__(
        self,
        server: BrokerServer,
        owner: Owner | None,
        queue: str,
        routing_keys: Sequence[str],
        prefetch: int,
    ) -> None:
        super().__init__(server, owner)
        self._queue = queue
        self._routing_keys = routing_keys
        self._prefetch = prefetch
        self._buffer: deque[Delivery] = deque()
        self._arrival: asyncio.Future[None] | None = None
        self._loss: str | None = None
        self._paused = False
        self._seen = self._stale = self._received = self._acknowledged = 0

    async def receive(self, limit: int) -> Sequence[Delivery]:
        if limit < 1:
            raise ValueError("limit must be at least 1")
        while True:
            if self._loss is not None:
                loss = self._loss
                if not self._closed:
                    self._loss = None
                raise BrokerUnavailable(loss)
            if self._buffer:
                taken = [self._buffer.popleft() for _ in range(min(limit, len(self._buffer)))]
                self._received = taken[-1].tag
                return taken
            self._arrival = self._server.loop.create_future()
            try:
                await self._arrival
            finally:
                self._arrival = None

    async def acknowledge(self, up_to: Delivery) -> None:
        if up_to.tag > self._received:
            raise ValueError("a delivery was acknowledged that this subscription never returned")
        if self.connection is None or up_to.tag <= self._stale:
            raise BrokerUnavailable("the connection that delivered it is gone")
        if up_to.tag > self._acknowledged:
            self._acknowledged = up_to.tag
            self._server.acknowledge(self.connection, up_to.tag - self._stale)

    def waiting(self) -> int | None:
        queue = self.connection.queue if self.connection else None
        return None if queue is None else len(queue.waiting) + len(self._buffer)

    def pause(self) -> None:
        self._paused = True
        if self.connection:
            self._server.close(self.connection)

    def resume(self) -> None:
        self._paused = False
        if self.connection and self.connection.queue is None:
            self._consume(self.connection)

    def close(self) -> None:
        super().close()
        self._loss = "the subscription is closed"
        self._wake()

    def opened(self, connection: Connection) -> None:
        self._stale = self._seen
        if not self._paused:
            self._consume(connection)

    def _consume(self, connection: Connection) -> None:
        self._server.consume(connection, self._queue, self._routing_keys, self._prefetch)

    def ended(self, reason: str) -> None:
        if not self._paused:
            self._loss = reason
        self._stale = self._seen
        self._buffer.clear()
        self._wake()

    def delivered(self, connection: Connection, tag: int, entry: Entry) -> None:
        if connection is not self.connection:
            return
        self._seen = self._stale + tag
        message = entry.message
        self._buffer.append(
            Delivery(
                tag=self._seen,
                routing_key=message.routing_key,
                body=message.body,
                message_id=message.message_id,
                headers=dict(message.headers),
                redelivered=entry.redelivered,
            )
        )
        self._wake()

    def _wake(self) -> None:
        if self._arrival is not None and not self._arrival.done():
            self._arrival.set_result(None)


class ModelBroker:
    """Implements Broker, for one process."""

    def __init__(self, server: BrokerServer) -> None:
        self._server = server
        self._owner = OWNER.get()
        self._publisher = ModelPublisher(server, self._owner)
        self._subscriptions: list[ModelSubscription] = []
        self._closed = False

    async def __aenter__(self) -> "ModelBroker":
        self._publisher.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._closed = True
        self._publisher.close()
        for subscription in self._subscriptions:
            subscription.close()

    def publisher(self) -> ModelPublisher:
        return self._publisher

    def subscribe(
        self, queue: str, routing_keys: Sequence[str], *, prefetch: int
    ) -> AbstractAsyncContextManager[ModelSubscription]:
        if not queue or not 1 <= prefetch <= 65_535:
            raise ValueError("a queue needs a name, and prefetch must be from 1 to 65535")
        return self._subscribed(queue, routing_keys, prefetch)

    def problem(self) -> str | None:
        if self._closed or self._publisher.connection is None:
            return "the model broker is not connected"
        return "the model broker blocks publishing" if self._server.blocked else None

    @asynccontextmanager
    async def _subscribed(
        self, queue: str, routing_keys: Sequence[str], prefetch: int
    ) -> AsyncIterator[ModelSubscription]:
        subscription = ModelSubscription(self._server, self._owner, queue, routing_keys, prefetch)
        self._subscriptions.append(subscription)
        subscription.open()
        try:
            yield subscription
        finally:
            self._subscriptions.remove(subscription)
            subscription.close()


def _require_carriable(message: Message) -> None:
    """The limits of AMQP."""
    for text in (message.message_id, message.routing_key, *message.headers):
        if len(text.encode()) > 255:
            raise MessageRejected("a message id, routing key or header name is longer than 255 bytes")

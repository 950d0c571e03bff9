"""Consuming one queue on a connection of its own."""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence

from pamqp import commands

from service_kit.errors import BrokerUnavailable
from service_kit.message import Delivery
from service_kit.rabbitmq.connection import Connection, HotEvent
from service_kit.rabbitmq.publish_frames import ack_frame
from service_kit.rabbitmq.topology import Topology

BUFFERED_BYTES_MAX = 64 * 1024 * 1024
"""Reading pauses above this many bytes of bodies not yet received by the caller, and resumes at half."""


class RabbitSubscription:
    """The `Subscription` port over RabbitMQ.

    After a loss `receive` raises BrokerUnavailable once, also when the connection has returned meanwhile:
    everything received before is stale and comes again.
    """

    def __init__(
        self,
        topology: Topology,
        *,
        prefetch: int,
        topology_interval_seconds: float,
        buffered_bytes_max: int = BUFFERED_BYTES_MAX,
    ) -> None:
        if not 1 <= prefetch <= 65_535:
            raise ValueError("prefetch must be from 1 to 65535")
        self._topology = topology
        self._prefetch = prefetch
        self._topology_interval_seconds = topology_interval_seconds
        self._buffered_bytes_max = buffered_bytes_max
        self._connection: Connection | None = None
        self._buffer: deque[Delivery] = deque()
        self._buffered_bytes = 0
        self._arrival: asyncio.Future[None] | None = None
        self._loss: str | None = None
        self._closed = False
        self._declared = False
        self._paused = False
        self._switched: asyncio.Future[None] | None = None
        # Tags are counted on over all connections: above _stale_up_to they are of the present one.
        self._seen_tag = self._stale_up_to = self._received_tag = self._acknowledged_tag = 0

    # the port

    async def receive(self, limit: int) -> Sequence[Delivery]:
        if limit < 1:
            raise ValueError("limit must be at least 1")
        while True:
            self._raise_loss()
            if self._buffer:
                return self._taken(limit)
            await self._something()

    async def acknowledge(self, up_to: Delivery) -> None:
        tag = up_to.tag
        if tag > self._received_tag:
            raise ValueError("a delivery was acknowledged that this subscription never returned")
        connection = self._connection
        if connection is None or connection.ended.done() or tag <= self._stale_up_to:
            raise BrokerUnavailable("the connection that delivered it is gone: it will be delivered again")
        if tag > self._acknowledged_tag:
            self._acknowledged_tag = tag
            connection.write(ack_frame(tag - self._stale_up_to))

    def waiting(self) -> int | None:
        """The queue is asked whenever it is declared again; what is buffered here counts too."""
        there = self._topology.waiting
        return None if there is None or not self._declared else there + len(self._buffer)

    def pause(self) -> None:
        """By ending the connection that consumes, and opening one that does not.

        Whatever RabbitMQ has sent, also what is still on its way, is then in the queue again, and there is
        nothing that its consumer timeout could be about.
        """
        if not self._paused:
            self._paused = True
            self._forget()
            self._switch()

    def resume(self) -> None:
        if self._paused:
            self._paused = False
            self._switch()

    # deliveries

    def _raise_loss(self) -> None:
        if self._loss is not None:
            reason = self._loss
            if not self._closed:
                self._loss = None
            raise BrokerUnavailable(reason)

    def _taken(self, limit: int) -> list[Delivery]:
        buffer = self._buffer
        taken = [buffer.popleft() for _ in range(min(limit, len(buffer)))]
        self._received_tag = taken[-1].tag
        self._buffered_bytes -= sum(len(delivery.body) for delivery in taken)
        if self._connection is not None and self._buffered_bytes <= self._buffered_bytes_max // 2:
            self._connection.resume_reading()
        return taken

    async def _something(self) -> None:
        self._arrival = asyncio.get_running_loop().create_future()
        try:
            await self._arrival
        finally:
            self._arrival = None

    def _wake(self) -> None:
        if self._arrival is not None and not self._arrival.done():
            self._arrival.set_result(None)

    def _on_event(self, event: HotEvent) -> None:
        if type(event) is not Delivery or self._connection is None:
            return
        self._buffer.append(event)
        self._seen_tag = event.tag
        self._buffered_bytes += len(event.body)
        if self._buffered_bytes > self._buffered_bytes_max:
            self._connection.pause_reading()
        self._wake()

    # the session

    def new_connection(self) -> Connection:
        return Connection(self._on_event, tag_base=self._seen_tag)

    async def serve(self, connection: Connection, on_ready: Callable[[], None]) -> None:
        """Returns when it is paused while it consumes: what is next begins on a new connection."""
        await self._topology.declare(connection)
        self._declared = True
        while self._paused:
            on_ready()
            await self._keep(connection, self._next_switch())
        paused = self._next_switch()
        await self._consume(connection)
        on_ready()
        await self._keep(connection, paused)
        self._declared = False
        self._forget()

    async def _consume(self, connection: Connection) -> None:
        qos = commands.Basic.Qos(prefetch_count=self._prefetch)
        await connection.call(qos, commands.Basic.QosOk)
        # Deliveries may come together with the answer.
        self._connection, self._stale_up_to = connection, self._seen_tag
        consume = commands.Basic.Consume(queue=self._topology.queue or "")
        await connection.call(consume, commands.Basic.ConsumeOk)

    async def _keep(self, connection: Connection, until: "asyncio.Future[None]") -> None:
        await self._topology.keep(connection, self._topology_interval_seconds, until=until)

    def _next_switch(self) -> "asyncio.Future[None]":
        """Done at the next `pause` or `resume` that changes something."""
        self._switched = asyncio.get_running_loop().create_future()
        return self._switched

    def _switch(self) -> None:
        if self._switched is not None and not self._switched.done():
            self._switched.set_result(None)

    def lost(self, reason: str) -> None:
        self._declared = False
        if self._connection is not None:
            self._loss = reason
        self._forget()
        self._wake()

    def _forget(self) -> None:
        """What came is stale, whether it was received or not: it comes again."""
        if self._connection is not None:
            self._connection = None
            self._stale_up_to = self._seen_tag
        self._buffer.clear()
        self._buffered_bytes = 0

    def close(self, reason: str) -> None:
        """From now on every `receive` raises BrokerUnavailable."""
        self._closed, self._loss = True, reason
        self._wake()

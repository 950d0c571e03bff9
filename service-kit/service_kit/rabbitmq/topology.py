"""What each side declares: the exchange, and a reader its own queue and bindings. Declaring again heals."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import structlog
from pamqp import base, commands

from service_kit.rabbitmq.connection import Connection
from service_kit.rabbitmq.faults import ChannelClosed
from service_kit.rabbitmq.publish_frames import CHANNEL, method_frame

QueueType = Literal["classic", "quorum"]
_Kind = Literal["exchange", "queue"]
_REFUSED, _EXISTS_OTHERWISE = 403, 406

log = structlog.stdlib.get_logger()


@dataclass(slots=True, kw_only=True)
class Topology:
    """An exchange and, for a reader, a queue bound to it.

    What exists with other properties, or may not be declared by us, is used as it is, with one warning for
    all topologies that share `warned`. `waiting`: messages that were in the queue at its last declaration.
    """

    exchange: str
    queue: str | None = None
    queue_type: QueueType = "classic"
    routing_keys: Sequence[str] = ()
    warned: set[str] = field(default_factory=set)
    waiting: int | None = None
    _as_they_are: set[_Kind] = field(default_factory=set)

    def __post_init__(self) -> None:
        """Raises ValueError for names that RabbitMQ cannot have."""
        try:
            for method in (self._exchange(passive=False), self._queue(passive=False), *self._bindings()):
                method_frame(method, CHANNEL)
        except (ValueError, TypeError) as error:
            raise ValueError(f"an exchange, queue or routing key has an impossible name: {error}") from None

    async def declare(self, connection: Connection) -> None:
        """Declare everything on a fresh channel, opened by this call. Raises BrokerUnavailable."""
        self._as_they_are.clear()
        await connection.open_channel()
        await self._declare("exchange", connection, self._assert_exchange)
        if self.queue is not None:
            await self._declare("queue", connection, self._assert_queue)
            await self._bind(connection)

    async def reassert(self, connection: Connection) -> None:
        """Declare everything again on the live channel, which closes if something is now otherwise."""
        await self._assert_exchange(connection)
        if self.queue is not None:
            await self._assert_queue(connection)
            await self._bind(connection)

    async def keep(
        self,
        connection: Connection,
        interval_seconds: float,
        *,
        until: "asyncio.Future[None] | None" = None,
    ) -> None:
        """Declare everything again each `interval_seconds`, until channel or connection end: raises why.

        Returns once `until` is done.
        """
        endings: set[asyncio.Future[Any]] = {connection.channel_ended, connection.ended}
        if until is not None:
            endings.add(until)
        while until is None or not until.done():
            await asyncio.wait(endings, timeout=interval_seconds, return_when=asyncio.FIRST_COMPLETED)
            if connection.channel_ended.done():
                raise connection.channel_ended.result()
            if connection.ended.done():
                raise connection.ended.result()
            if not connection.stalled and not (until is not None and until.done()):
                await self.reassert(connection)

    async def _declare(
        self, kind: _Kind, connection: Connection, assert_it: Callable[[Connection], Awaitable[None]]
    ) -> None:
        try:
            await assert_it(connection)
        except ChannelClosed as closed:
            if closed.code not in (_REFUSED, _EXISTS_OTHERWISE):
                raise
            await connection.open_channel()
            self._as_they_are.add(kind)
            await self._assert_passively(closed, assert_it, connection)
            self._warn(kind, closed)

    async def _assert_passively(
        self,
        refused: ChannelClosed,
        assert_it: Callable[[Connection], Awaitable[None]],
        connection: Connection,
    ) -> None:
        try:
            await assert_it(connection)
        except ChannelClosed:
            # "Not found" would hide why we may not declare it.
            raise refused from None

    def _warn(self, kind: _Kind, closed: ChannelClosed) -> None:
        name = self.exchange if kind == "exchange" else self.queue
        if f"{kind} {name}" not in self.warned:
            self.warned.add(f"{kind} {name}")
            log.warning("broker_topology_used_as_it_is", kind=kind, name=name, reason=str(closed))

    async def _assert_exchange(self, connection: Connection) -> None:
        passive = "exchange" in self._as_they_are
        await connection.call(self._exchange(passive=passive), commands.Exchange.DeclareOk)

    async def _assert_queue(self, connection: Connection) -> None:
        passive = "queue" in self._as_they_are
        declared = await connection.call(self._queue(passive=passive), commands.Queue.DeclareOk)
        self.waiting = declared.message_count

    async def _bind(self, connection: Connection) -> None:
        for binding in self._bindings():
            await connection.call(binding, commands.Queue.BindOk)

    def _exchange(self, *, passive: bool) -> base.Frame:
        return commands.Exchange.Declare(
            exchange=self.exchange, exchange_type="topic", passive=passive, durable=True
        )

    def _queue(self, *, passive: bool) -> base.Frame:
        arguments = {"x-queue-type": "quorum"} if self.queue_type == "quorum" else {}
        return commands.Queue.Declare(
            queue=self.queue or "", passive=passive, durable=True, arguments=dict(arguments)
        )

    def _bindings(self) -> list[base.Frame]:
        return [
            commands.Queue.Bind(queue=self.queue or "", exchange=self.exchange, routing_key=key)
            for key in self.routing_keys
        ]

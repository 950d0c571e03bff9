"""Publishing with pipelined confirms on a connection of its own."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import cast

from pamqp import commands

from service_kit import failpoints
from service_kit.broker import PublishOutcome
from service_kit.errors import BrokerUnavailable, MessageRejected
from service_kit.message import Message
from service_kit.rabbitmq.confirms import Batch, Confirms
from service_kit.rabbitmq.connection import Connection, HotEvent
from service_kit.rabbitmq.faults import ChannelClosed, ConnectionLost
from service_kit.rabbitmq.frame_parser import Confirmed, Returned
from service_kit.rabbitmq.publish_frames import publish_frames
from service_kit.rabbitmq.topology import Topology

# A channel remembers the leader that a quorum queue had when it first published to it. When that one is dead,
# RabbitMQ 3.10 refuses everything on this channel until the dead node is back, whoever leads by now.
_REFUSED_SECONDS_MAX = 1.0


class RabbitPublisher:
    """The `Publisher` port over RabbitMQ. May be used by several tasks at once.

    `publish` fails at once, rather than wait, while there is no connection: `ready` is for waiting. A batch
    is held in memory twice while it is sent, so bound it in bytes.
    """

    def __init__(
        self, topology: Topology, *, confirm_timeout_seconds: float, topology_interval_seconds: float
    ) -> None:
        self._topology = topology
        self._confirm_timeout_seconds = confirm_timeout_seconds
        self._topology_interval_seconds = topology_interval_seconds
        self._connection: Connection | None = None
        self._confirms = Confirms()
        self._usable = asyncio.Event()
        self._one_at_a_time = False
        self._refused_since: float | None = None
        self._turn = asyncio.Lock()

    # the port

    async def ready(self) -> None:
        """Wait until connected and not blocked by an alarm of the broker."""
        await self._usable.wait()

    async def publish(self, messages: Sequence[Message]) -> Sequence[PublishOutcome]:
        """As the port says; silence is `confirm_timeout_seconds` without a confirm or a byte taken.

        Cancelled, or failed by BrokerUnavailable, the messages may still be published.
        """
        if not messages:
            return []
        async with self._alone_if_suspicious():
            batch = await self._sent(messages)
            failpoints.passed("publisher.sent")
            try:
                await self._settled(batch)
            finally:
                batch.settled.cancel()
        outcomes = cast(list[PublishOutcome], batch.outcomes)
        self._leave_if_only_refused(outcomes)
        return outcomes

    def problem(self) -> str | None:
        """Why RabbitMQ blocks publishing now, or None."""
        blocked = self._connection.blocked_because if self._connection else None
        return f"RabbitMQ blocks publishing: {blocked}" if blocked else None

    # one batch

    async def _sent(self, messages: Sequence[Message]) -> Batch:
        connection = self._usable_connection()
        data = publish_frames(self._topology.exchange, messages, connection.frame_max)
        try:
            async with asyncio.timeout(self._confirm_timeout_seconds):
                await connection.writable()
        except TimeoutError:
            raise BrokerUnavailable("RabbitMQ does not take what was sent before") from None
        # The wait may have outlasted the connection. From here to the write nothing may wait: the tag
        # that a message gets is its place in the stream.
        connection = self._usable_connection()
        batch = self._confirms.expect(messages)
        connection.write(data)
        return batch

    def _usable_connection(self) -> Connection:
        connection = self._connection
        if connection is None or connection.channel_ended.done() or not self._usable.is_set():
            raise BrokerUnavailable(self.problem() or "RabbitMQ is not connected")
        return connection

    async def _settled(self, batch: Batch) -> None:
        while not batch.settled.done():
            before = self._progress()
            await asyncio.wait({batch.settled}, timeout=self._confirm_timeout_seconds)
            if not batch.settled.done() and self._progress() == before:
                raise self._silent()
        batch.settled.result()

    def _leave_if_only_refused(self, outcomes: Sequence[PublishOutcome]) -> None:
        """Connect anew when nothing but refusals came for a second; another refusal begins another second."""
        now = asyncio.get_running_loop().time()
        if any(outcome is not PublishOutcome.REFUSED for outcome in outcomes):
            self._refused_since = None
        elif self._refused_since is None:
            self._refused_since = now
        elif now - self._refused_since >= _REFUSED_SECONDS_MAX and self._connection is not None:
            self._refused_since = None
            self._connection.abort(ConnectionLost("RabbitMQ refuses everything on this connection"))

    def _progress(self) -> tuple[int, int]:
        return self._confirms.count, self._connection.unsent_bytes() if self._connection else 0

    def _silent(self) -> BrokerUnavailable:
        text = f"RabbitMQ confirmed nothing for {self._confirm_timeout_seconds:g} s"
        # A blocked connection is kept: it is the one that will be told when the alarm is over.
        if self._connection is not None and self._connection.blocked_because is None:
            self._connection.abort(ConnectionLost(text))
        return BrokerUnavailable(self.problem() or text)

    @asynccontextmanager
    async def _alone_if_suspicious(self) -> AsyncIterator[None]:
        if not self._one_at_a_time:
            yield
            return
        async with self._turn:
            yield

    # the session

    def new_connection(self) -> Connection:
        return Connection(self._on_event)

    async def serve(self, connection: Connection, on_ready: Callable[[], None]) -> None:
        await self._open(connection)
        on_ready()
        while True:
            try:
                await self._topology.keep(connection, self._topology_interval_seconds)
            except ChannelClosed as closed:
                self._usable.clear()
                if not closed.blames_a_message:
                    raise
                await self._reopen(connection, closed)

    def lost(self, reason: str) -> None:
        self._usable.clear()
        self._connection = None
        self._confirms.fail(BrokerUnavailable(reason))

    async def _open(self, connection: Connection) -> None:
        await self._topology.declare(connection)
        await connection.call(commands.Confirm.Select(), commands.Confirm.SelectOk)
        self._confirms = Confirms()
        self._connection = connection
        connection.on_blocked_changed = self._blocked_changed
        self._blocked_changed()

    async def _reopen(self, connection: Connection, closed: ChannelClosed) -> None:
        confirms = self._confirms
        # First open, then tell: whoever is told can go on publishing at once.
        try:
            await self._open(connection)
        finally:
            self._tell_rejected(confirms, closed)

    def _tell_rejected(self, confirms: Confirms, closed: ChannelClosed) -> None:
        found = len(confirms.pending()) == 1
        # With several batches under way the guilty one is unknown, and none may be blamed; from now on they
        # go one by one until it stands alone.
        confirms.fail((MessageRejected if found else BrokerUnavailable)(str(closed)))
        self._one_at_a_time = not found

    def _blocked_changed(self) -> None:
        if self.problem() is None:
            self._usable.set()
        else:
            self._usable.clear()

    def _on_event(self, event: HotEvent) -> None:
        if type(event) is Confirmed:
            self._confirms.confirmed(event)
        elif type(event) is Returned:
            self._confirms.returned(event)

"""One TCP or TLS connection to RabbitMQ with one channel, until it ends.

It carries bytes and asks rare questions; what publishes and what consumes give it their meaning.
"""

import asyncio
from collections.abc import Callable
from typing import TypeVar, cast

from pamqp import base, commands

from service_kit.message import Delivery
from service_kit.rabbitmq.faults import ChannelClosed, ClosedByBroker, ConnectionLost, ProtocolError
from service_kit.rabbitmq.frame_parser import Confirmed, FrameParser, Method, Returned
from service_kit.rabbitmq.publish_frames import CHANNEL, FRAME_MAX, HEARTBEAT, method_frame

Answer = TypeVar("Answer", bound=base.Frame)
HotEvent = Delivery | Confirmed | Returned

ANSWER_TIMEOUT_SECONDS = 15.0
_CLOSE_TIMEOUT_SECONDS = 3.0


class Connection(asyncio.Protocol):
    """Every fault ends in `ended`, whose result is the reason; nothing is raised out of a callback."""

    def __init__(self, on_event: Callable[[HotEvent], None], tag_base: int = 0) -> None:
        loop = asyncio.get_running_loop()
        self.ended: asyncio.Future[ConnectionLost] = loop.create_future()
        self.channel_ended: asyncio.Future[ChannelClosed] = loop.create_future()
        self.blocked_because: str | None = None
        self.on_blocked_changed: Callable[[], None] = _nothing
        self.frame_max = FRAME_MAX
        self._loop = loop
        self._on_event = on_event
        self._parser = FrameParser(tag_base)
        self._transport: asyncio.Transport | None = None
        self._answer: asyncio.Future[base.Frame] | None = None
        self._writable = asyncio.Event()
        self._reading_paused = False
        self._heartbeat_seconds = 0.0
        self._last_received = self._last_beat = loop.time()
        self._beat_timer: asyncio.TimerHandle | None = None

    # asking

    async def call(self, method: base.Frame | None, answer: type[Answer], channel: int = CHANNEL) -> Answer:
        """Send `method` and wait for its `answer`; one call at a time.

        Raises ChannelClosed or ConnectionLost, the latter also when nothing came within 15 s.
        """
        if self.ended.done():
            raise self.ended.result()
        asked: asyncio.Future[base.Frame] = self._loop.create_future()
        self._answer = asked
        if method is not None:
            self.write(method_frame(method, channel))
        received = await self._answered(asked)
        if not isinstance(received, answer):
            raise self.abort(ProtocolError(f"RabbitMQ answered {received.name} instead of {answer.name}"))
        return received

    async def _answered(self, answer: "asyncio.Future[base.Frame]") -> base.Frame:
        while True:
            done, _ = await asyncio.wait({answer}, timeout=ANSWER_TIMEOUT_SECONDS)
            if done:
                return answer.result()
            # While we do not read, the answer may well be waiting behind deliveries; while RabbitMQ has us
            # blocked, it does not read the question.
            if not self.stalled:
                raise self.abort(ConnectionLost(f"RabbitMQ gave no answer for {ANSWER_TIMEOUT_SECONDS:g} s"))

    async def open_channel(self) -> None:
        self.channel_ended = self._loop.create_future()
        await self.call(commands.Channel.Open(), commands.Channel.OpenOk)

    # bytes

    def write(self, data: bytes) -> None:
        """Hand `data` to the system; silently nothing once the connection has ended."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    async def writable(self) -> None:
        """Wait until the peer keeps up with what was written; returns also when the connection has ended."""
        await self._writable.wait()

    @property
    def stalled(self) -> bool:
        """Whether no answer can be expected: we do not read now, or RabbitMQ does not."""
        return self._reading_paused or self.blocked_because is not None

    def unsent_bytes(self) -> int:
        return self._transport.get_write_buffer_size() if self._transport is not None else 0

    def pause_reading(self) -> None:
        if self._transport is not None and not self._reading_paused and not self.ended.done():
            self._reading_paused = True
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        if self._transport is not None and self._reading_paused and not self.ended.done():
            self._reading_paused = False
            self._last_received = self._loop.time()
            self._transport.resume_reading()

    # ending

    async def close(self) -> None:
        """Take leave politely within 3 s, else abruptly. Safe at any time and twice."""
        if not self.ended.done():
            self.resume_reading()
            self.write(method_frame(commands.Connection.Close(200, "", 0, 0), 0))
            await asyncio.wait({self.ended}, timeout=_CLOSE_TIMEOUT_SECONDS)
        self.abort(ConnectionLost("the connection was closed on our side"))

    def abort(self, reason: ConnectionLost) -> ConnectionLost:
        """End the connection at once; returns the reason that holds, which may be an earlier one."""
        self._end(reason)
        if self._transport is not None:
            self._transport.abort()
        return self.ended.result()

    def _end(self, reason: ConnectionLost) -> None:
        if self.ended.done():
            return
        self.ended.set_result(reason)
        self._fail_answer(reason)
        self._writable.set()
        if self._beat_timer is not None:
            self._beat_timer.cancel()

    def _fail_answer(self, reason: ChannelClosed | ConnectionLost) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(reason)
            # Who asked may be cancelled before it looks.
            self._answer.exception()
        self._answer = None

    # heartbeats

    def start_heartbeats(self, seconds: float) -> None:
        """Send one every half interval; end the connection after two without a byte received."""
        self._heartbeat_seconds = seconds
        if seconds:
            self._last_received = self._last_beat = self._loop.time()
            self._beat_timer = self._loop.call_later(seconds / 2, self._beat)

    def _beat(self) -> None:
        now, interval = self._loop.time(), self._heartbeat_seconds
        # Own stall (suspended, starved): bytes of the peer may lie unread, so its silence proves nothing.
        stalled = now - self._last_beat > interval
        self._last_beat = now
        if stalled or self._reading_paused:
            self._last_received = now
        elif now - self._last_received > 2 * interval:
            self.abort(ConnectionLost(f"RabbitMQ was silent for {2 * interval:g} s (missed heartbeats)"))
            return
        if self._writable.is_set():
            self.write(HEARTBEAT)
        self._beat_timer = self._loop.call_later(interval / 2, self._beat)

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._writable.set()

    def data_received(self, data: bytes) -> None:
        if self.ended.done():
            return
        self._last_received = self._loop.time()
        try:
            for event in self._parser.feed(data):
                if type(event) is Method:
                    self._on_method(event)
                else:
                    self._on_event(cast(HotEvent, event))
        except ProtocolError as error:
            self.abort(error)

    def eof_received(self) -> None:
        self._end(ConnectionLost("RabbitMQ closed the connection"))

    def connection_lost(self, exc: Exception | None) -> None:
        self._end(ConnectionLost(f"the connection to RabbitMQ was lost: {exc or 'closed by the peer'}"))

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    # rare methods

    def _on_method(self, event: Method) -> None:
        method = event.frame
        if isinstance(method, commands.Connection.Close):
            self._on_connection_close(method)
        elif isinstance(method, commands.Connection.CloseOk):
            self._end(ConnectionLost("the connection was closed on our side"))
        elif isinstance(method, commands.Channel.Close):
            self._on_channel_close(method)
        elif isinstance(method, commands.Connection.Blocked):
            self._set_blocked(method.reason or "no reason given")
        elif isinstance(method, commands.Connection.Unblocked):
            self._set_blocked(None)
        elif isinstance(method, commands.Basic.Cancel):
            self.abort(ConnectionLost("RabbitMQ cancelled the consumer: its queue was deleted or moved"))
        elif isinstance(method, commands.Channel.Flow):
            self.write(method_frame(commands.Channel.FlowOk(method.active), CHANNEL))
        else:
            self._on_answer(method)

    def _on_answer(self, method: base.Frame) -> None:
        # Without a waiting call it answers one that was cancelled.
        answer, self._answer = self._answer, None
        if answer is not None and not answer.done():
            answer.set_result(method)

    def _on_connection_close(self, method: commands.Connection.Close) -> None:
        self.write(method_frame(commands.Connection.CloseOk(), 0))
        self._end(ClosedByBroker(method.reply_code or 0, method.reply_text))
        if self._transport is not None:
            self._transport.close()

    def _on_channel_close(self, method: commands.Channel.Close) -> None:
        self.write(method_frame(commands.Channel.CloseOk(), CHANNEL))
        blamed = (method.class_id or 0, method.method_id or 0)
        closed = ChannelClosed(method.reply_code or 0, method.reply_text, blamed)
        if not self.channel_ended.done():
            self.channel_ended.set_result(closed)
        self._fail_answer(closed)

    def _set_blocked(self, reason: str | None) -> None:
        self.blocked_because = reason
        self.on_blocked_changed()


def _nothing() -> None:
    pass

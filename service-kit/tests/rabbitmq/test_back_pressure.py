"""Who is slow holds up who is fast, in both directions."""

import asyncio
from collections.abc import Callable
from typing import cast

import pytest
from pamqp import commands, frame, header
from pamqp.body import ContentBody
from pamqp.frame import FrameTypes

from service_kit.errors import BrokerUnavailable
from service_kit.rabbitmq.connection import Connection
from service_kit.rabbitmq.faults import ConnectionLost
from service_kit.rabbitmq.frame_parser import Method
from service_kit.rabbitmq.subscription import RabbitSubscription
from service_kit.rabbitmq.topology import Topology
from service_kit.testing.eventually import eventually


class Wire:
    """A transport that answers every question at once and remembers what was asked of it."""

    def __init__(self) -> None:
        self.reading = True
        self.aborted = False
        self.asked: list[str] = []
        self.answer: Callable[[bytes], None] = lambda _: None

    def write(self, data: bytes) -> None:
        _, _, asked = frame.unmarshal(data)
        self.asked.append(asked.name)
        answers: dict[str, FrameTypes] = {
            "Channel.Open": commands.Channel.OpenOk(),
            "Exchange.Declare": commands.Exchange.DeclareOk(),
            "Queue.Declare": commands.Queue.DeclareOk("queue", 0, 0),
            "Queue.Bind": commands.Queue.BindOk(),
            "Basic.Qos": commands.Basic.QosOk(),
            "Basic.Consume": commands.Basic.ConsumeOk("consumer"),
        }
        if asked.name in answers:
            self.answer(frame.marshal(answers[asked.name], 1))

    def pause_reading(self) -> None:
        assert self.reading
        self.reading = False

    def resume_reading(self) -> None:
        assert not self.reading
        self.reading = True

    def is_closing(self) -> bool:
        return self.aborted

    def abort(self) -> None:
        self.aborted = True


def delivery(tag: int, size: int) -> bytes:
    frames: list[FrameTypes] = [
        commands.Basic.Deliver("consumer", tag, False, "orders", "key"),
        header.ContentHeader(0, size),
        ContentBody(b"x" * size),
    ]
    return b"".join(frame.marshal(each, 1) for each in frames)


async def consuming(
    buffered_bytes_max: int,
) -> tuple[Wire, Connection, RabbitSubscription, asyncio.Task[None]]:
    subscription = RabbitSubscription(
        Topology(exchange="orders", queue="queue", routing_keys=["key"]),
        prefetch=100,
        topology_interval_seconds=0.01,
        buffered_bytes_max=buffered_bytes_max,
    )
    wire, connection = Wire(), subscription.new_connection()
    wire.answer = connection.data_received
    connection.connection_made(cast(asyncio.Transport, wire))
    ready = asyncio.Event()
    serving = asyncio.create_task(subscription.serve(connection, ready.set))
    await ready.wait()
    return wire, connection, subscription, serving


async def end(connection: Connection, serving: asyncio.Task[None]) -> None:
    connection.abort(ConnectionLost("the test is over"))
    with pytest.raises(BrokerUnavailable, match="test is over"):
        await serving


async def test_reading_pauses_above_the_high_water_mark_and_resumes_at_half() -> None:
    wire, connection, subscription, serving = await consuming(buffered_bytes_max=1_000)
    for tag in (1, 2):
        connection.data_received(delivery(tag, 500))
    assert wire.reading
    connection.data_received(delivery(3, 1) + delivery(4, 500))
    assert not wire.reading
    await subscription.receive(2)
    assert not wire.reading
    await subscription.receive(2)
    assert wire.reading
    await end(connection, serving)


async def test_no_answer_is_asked_for_while_reading_is_paused() -> None:
    wire, connection, subscription, serving = await consuming(buffered_bytes_max=1)
    await nothing_asked_after(wire, serving, lambda: connection.data_received(delivery(1, 10)))
    await subscription.receive(1)
    await asked_again(wire)
    await end(connection, serving)


async def test_no_answer_is_asked_for_while_blocked() -> None:
    wire, connection, _, serving = await consuming(buffered_bytes_max=1)
    blocked = frame.marshal(commands.Connection.Blocked("low on memory"), 0)
    await nothing_asked_after(wire, serving, lambda: connection.data_received(blocked))
    connection.data_received(frame.marshal(commands.Connection.Unblocked(), 0))
    await asked_again(wire)
    await end(connection, serving)


async def nothing_asked_after(wire: Wire, serving: asyncio.Task[None], event: Callable[[], None]) -> None:
    await asked_again(wire)
    event()
    asked = len(wire.asked)
    for _ in range(5):
        await asyncio.wait({serving}, timeout=0.02)
    # The round that was under way may have ended.
    assert len(wire.asked) - asked <= 3


async def asked_again(wire: Wire) -> None:
    asked = len(wire.asked)
    await eventually(lambda: len(wire.asked) > asked + 3)


async def test_writing_waits_for_the_peer_and_for_nobody_when_it_is_gone() -> None:
    connection = Connection(lambda _: None)
    connection.connection_made(cast(asyncio.Transport, Wire()))
    connection.pause_writing()
    writable = asyncio.ensure_future(connection.writable())
    await asyncio.wait({writable}, timeout=0.01)
    assert not writable.done()
    connection.resume_writing()
    await writable
    connection.pause_writing()
    writable = asyncio.ensure_future(connection.writable())
    connection.connection_lost(None)
    await writable


async def test_the_parser_tells_methods_from_messages() -> None:
    seen: list[object] = []
    connection = Connection(seen.append)
    wire = Wire()
    connection.connection_made(cast(asyncio.Transport, wire))
    connection.data_received(frame.marshal(commands.Channel.Flow(False), 1) + delivery(1, 3))
    assert len(seen) == 1
    assert not isinstance(seen[0], Method)
    assert wire.asked == ["Channel.FlowOk"]

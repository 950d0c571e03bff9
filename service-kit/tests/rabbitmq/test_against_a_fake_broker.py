"""What a real RabbitMQ does only when it is ill, said by a peer that we script."""

import asyncio
import gc
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
from pamqp import base, commands, frame, header
from pamqp.body import ContentBody
from pamqp.frame import FrameTypes
from structlog.testing import capture_logs

from service_kit.broker import PublishOutcome
from service_kit.errors import BrokerUnavailable, MessageRejected
from service_kit.message import Message
from service_kit.rabbitmq import RabbitBroker
from service_kit.testing.broker_conformance import batch, received, within_deadline
from service_kit.testing.eventually import eventually

CONFIRMED, REFUSED, UNROUTABLE = PublishOutcome.CONFIRMED, PublishOutcome.REFUSED, PublishOutcome.UNROUTABLE


class FakeBroker:
    """Lets anyone in and agrees to everything, but confirms nothing; a test replaces what it is about."""

    def __init__(self) -> None:
        self.answers: dict[str, base.Frame | bytes | None] = {
            "Connection.StartOk": commands.Connection.Tune(2047, 131_072, 60),
            "Connection.Open": commands.Connection.OpenOk(),
            "Connection.Close": commands.Connection.CloseOk(),
            "Channel.Open": commands.Channel.OpenOk(),
            "Exchange.Declare": commands.Exchange.DeclareOk(),
            "Confirm.Select": commands.Confirm.SelectOk(),
            "Queue.Declare": commands.Queue.DeclareOk("queue", 0, 0),
            "Queue.Bind": commands.Queue.BindOk(),
            "Basic.Qos": commands.Basic.QosOk(),
            "Basic.Consume": commands.Basic.ConsumeOk("consumer"),
        }
        self.greeting: base.Frame | bytes = commands.Connection.Start(mechanisms="AMQPLAIN PLAIN")
        self.seen: Counter[str] = Counter()
        self.published: list[Message] = []
        self.body_frames: list[int] = []
        self.on_message: Callable[[], None] = lambda: None
        self.writer: asyncio.StreamWriter | None = None
        self.reading = asyncio.Event()
        self.reading.set()
        self.port = 0
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def connections(self) -> int:
        return self.seen["Connection.Open"]

    def say(self, what: FrameTypes | bytes, writer: asyncio.StreamWriter | None = None) -> None:
        """To `writer`, else to whoever connected last."""
        writer = writer or self.writer
        assert writer is not None
        if not isinstance(what, bytes):
            about_connection = isinstance(what, base.Frame) and what.name.startswith("Connection.")
            what = frame.marshal(what, 0 if about_connection else 1)
        if not writer.is_closing():
            writer.write(what)

    def hang_up(self) -> None:
        assert self.writer is not None
        self.writer.close()

    @asynccontextmanager
    async def running(self) -> AsyncIterator["FakeBroker"]:
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.writer = writer
        try:
            await reader.readexactly(8)
            self.say(self.greeting, writer)
            while True:
                await self.reading.wait()
                await self._frame(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.transport.abort()

    async def _frame(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        start = await reader.readexactly(7)
        rest = await reader.readexactly(int.from_bytes(start[3:7], "big") + 1)
        _, _, value = frame.unmarshal(start + rest)
        self.seen[value.name] += 1
        if isinstance(value, commands.Basic.Publish):
            self._message = Message(routing_key=value.routing_key, body=b"", message_id="")
        elif isinstance(value, header.ContentHeader):
            message_id = value.properties.message_id or ""
            self._message = Message(routing_key=self._message.routing_key, body=b"", message_id=message_id)
            self._missing = value.body_size
            self._complete()
        elif isinstance(value, ContentBody):
            self._missing -= len(value.value or b"")
            self.body_frames.append(len(value.value or b""))
            self._complete()
        elif (answer := self.answers.get(value.name)) is not None:
            self.say(answer, writer)

    def _complete(self) -> None:
        if not self._missing:
            self.published.append(self._message)
            self.on_message()

    def confirm(self) -> None:
        """As `on_message`: confirm each message as it comes."""
        self.say(commands.Basic.Ack(len(self.published), False))

    def after(self, count: int, *events: FrameTypes | bytes) -> None:
        """Say `events` when the message number `count` has come."""

        def on_message() -> None:
            if len(self.published) == count:
                for event in events:
                    self.say(event)

        self.on_message = on_message


@pytest.fixture
async def fake() -> AsyncIterator[FakeBroker]:
    async with FakeBroker().running() as fake:
        yield fake


@asynccontextmanager
async def connecting(
    fake: FakeBroker,
    *,
    confirm_timeout_seconds: float = 30.0,
    heartbeat_seconds: int = 30,
) -> AsyncIterator[RabbitBroker]:
    async with RabbitBroker(
        f"amqp://user:S3CRET@127.0.0.1:{fake.port}/shop",
        exchange="orders",
        confirm_timeout_seconds=confirm_timeout_seconds,
        heartbeat_seconds=heartbeat_seconds,
    ) as broker:
        yield broker


@asynccontextmanager
async def connected(
    fake: FakeBroker, *, confirm_timeout_seconds: float = 30.0
) -> AsyncIterator[RabbitBroker]:
    async with connecting(fake, confirm_timeout_seconds=confirm_timeout_seconds) as broker:
        await within_deadline(broker.publisher().ready())
        yield broker


async def problem_with(broker: RabbitBroker, text: str) -> None:
    await eventually(lambda: text in (broker.problem() or ""))


# the handshake


@pytest.mark.parametrize(
    ("method", "answer", "words"),
    [
        (
            "Connection.StartOk",
            commands.Connection.Close(403, "ACCESS_REFUSED - Login was refused", 0, 0),
            "login of user 'user' refused: ACCESS_REFUSED",
        ),
        (
            "Connection.Open",
            commands.Connection.Close(530, "NOT_ALLOWED - vhost shop not found", 10, 40),
            "virtual host 'shop' cannot be used: NOT_ALLOWED - vhost shop not found",
        ),
        (
            "Exchange.Declare",
            commands.Channel.Close(403, "ACCESS_REFUSED - no permission", 40, 10),
            "403 ACCESS_REFUSED - no permission",
        ),
        (
            "Confirm.Select",
            commands.Connection.Close(541, "INTERNAL_ERROR", 0, 0),
            "RabbitMQ closed the connection: 541 INTERNAL_ERROR",
        ),
        ("Connection.Open", commands.Connection.Tune(), "Connection.Tune instead of Connection.OpenOk"),
        ("Connection.Open", b"HTTP/1.1 400 Bad Request\r\n\r\n", "does not speak AMQP"),
    ],
)
async def test_what_goes_wrong_is_told_in_clear_words_and_tried_again(
    fake: FakeBroker, method: str, answer: base.Frame | bytes, words: str
) -> None:
    agreed, fake.answers[method] = fake.answers[method], answer
    with capture_logs() as logs:
        async with connecting(fake) as broker:
            await problem_with(broker, words)
            await eventually(lambda: fake.seen["Connection.StartOk"] >= 3)
            with pytest.raises(BrokerUnavailable):
                await broker.publisher().publish(batch("key", 1))
            fake.answers[method] = agreed
            await within_deadline(broker.publisher().ready())
            assert broker.problem() is None
    # The answer may come right between being refused to declare and finding the exchange there.
    events = [log["event"] for log in logs if log["event"] != "broker_topology_used_as_it_is"]
    assert events == ["broker_unreachable", "broker_connected"]
    assert "S3CRET" not in str(logs)


async def test_a_peer_that_hangs_up_during_the_login_is_told(fake: FakeBroker) -> None:
    fake.answers["Connection.StartOk"] = b""
    fake.greeting = commands.Connection.Start(mechanisms="PLAIN")
    async with connecting(fake) as broker:
        await eventually(lambda: fake.seen["Connection.StartOk"])
        fake.hang_up()
        await problem_with(broker, "hung up during the login of user 'user'")


@pytest.mark.parametrize(
    ("greeting", "words"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "does not speak AMQP"),
        (b"AMQP\x00\x01\x00\x00", "does not speak AMQP 0-9-1"),
        (b"\x15\x03\x03\x00\x02\x02\x46", "does not speak AMQP"),
        (commands.Connection.Start(mechanisms="EXTERNAL"), "no PLAIN login"),
    ],
)
async def test_a_peer_that_is_no_broker_for_us_is_told(
    fake: FakeBroker, greeting: base.Frame | bytes, words: str
) -> None:
    fake.greeting = greeting
    async with connecting(fake) as broker:
        await problem_with(broker, words)


async def test_a_smaller_frame_is_agreed_and_kept(fake: FakeBroker) -> None:
    fake.answers["Connection.StartOk"] = commands.Connection.Tune(10, 4_096, 0)
    fake.on_message = fake.confirm
    async with connected(fake) as broker:
        message = Message(routing_key="key", body=b"x" * 10_000, message_id="1")
        assert await within_deadline(broker.publisher().publish([message])) == [CONFIRMED]
        assert fake.body_frames == [4_088, 4_088, 1_824]
        too_much = Message(routing_key="key", body=b"", message_id="1", headers={"h": "x" * 4_096})
        with pytest.raises(MessageRejected, match="headers"):
            await broker.publisher().publish([too_much])


# confirms


async def test_refusals_and_returns_are_told_apart(fake: FakeBroker) -> None:
    returned: list[FrameTypes] = [
        commands.Basic.Return(312, "NO_ROUTE", "orders", "key"),
        header.ContentHeader(0, 1, commands.Basic.Properties(message_id="2")),
        ContentBody(b"2"),
    ]
    fake.after(
        5, *returned, commands.Basic.Nack(2, False), commands.Basic.Nack(4), commands.Basic.Ack(5, True)
    )
    async with connected(fake) as broker:
        outcomes = await within_deadline(broker.publisher().publish(batch("key", 5)))
        assert outcomes == [CONFIRMED, REFUSED, UNROUTABLE, REFUSED, CONFIRMED]


async def test_a_connection_on_which_all_is_refused_is_left(fake: FakeBroker) -> None:
    """As RabbitMQ 3.10 does where a quorum queue's leader died before the channel first published to it."""
    refused = 0

    def answer() -> None:
        nonlocal refused
        if fake.connections == 1:
            refused += 1
            fake.say(commands.Basic.Nack(refused, False))
        else:
            fake.say(commands.Basic.Ack(len(fake.published) - refused, False))

    fake.on_message = answer
    async with connected(fake) as broker:
        publisher = broker.publisher()

        async def is_confirmed() -> bool:
            await publisher.ready()
            try:
                return list(await publisher.publish(batch("key", 1))) == [CONFIRMED]
            except BrokerUnavailable:
                return False

        await eventually(is_confirmed)
        assert refused > 1
        assert fake.connections == 2


async def test_silence_ends_a_publish_and_the_connection(fake: FakeBroker) -> None:
    async with connected(fake, confirm_timeout_seconds=0.5) as broker:
        with pytest.raises(BrokerUnavailable, match="confirmed nothing"):
            await within_deadline(broker.publisher().publish(batch("key", 1)))
        await eventually(lambda: fake.connections == 2)
        await within_deadline(broker.publisher().ready())
        fake.on_message = lambda: fake.say(commands.Basic.Ack(1, False))
        assert await within_deadline(broker.publisher().publish(batch("key", 1))) == [CONFIRMED]


async def test_a_peer_that_does_not_read_ends_a_publish(fake: FakeBroker) -> None:
    async with connected(fake, confirm_timeout_seconds=0.2) as broker:
        fake.reading.clear()
        large = Message(routing_key="key", body=b"x" * 30_000_000, message_id="1")
        first = asyncio.ensure_future(broker.publisher().publish([large]))
        await asyncio.sleep(0)
        with pytest.raises(BrokerUnavailable):
            await within_deadline(broker.publisher().publish(batch("key", 1)))
        with pytest.raises(BrokerUnavailable):
            await within_deadline(first)
        fake.reading.set()


async def test_a_publish_waits_while_the_peer_is_slow_and_can_be_cancelled_unsent(fake: FakeBroker) -> None:
    fake.on_message = fake.confirm
    async with connected(fake) as broker:
        fake.reading.clear()
        large = Message(routing_key="key", body=b"x" * 30_000_000, message_id="large")
        first = asyncio.ensure_future(broker.publisher().publish([large]))
        await asyncio.sleep(0)
        second = asyncio.ensure_future(broker.publisher().publish(batch("key", 1)))
        for _ in range(5):
            await asyncio.sleep(0)
        second.cancel()
        fake.reading.set()
        assert await within_deadline(first) == [CONFIRMED]
        third = Message(routing_key="key", body=b"", message_id="third")
        assert await within_deadline(broker.publisher().publish([third])) == [CONFIRMED]
        assert [message.message_id for message in fake.published] == ["large", "third"]


async def test_a_lost_connection_ends_every_publish_under_way(fake: FakeBroker) -> None:
    async with connected(fake) as broker:
        publishes = [asyncio.ensure_future(broker.publisher().publish(batch("key", 2))) for _ in range(3)]
        await eventually(lambda: len(fake.published) == 6)
        fake.say(commands.Basic.Ack(2, True))
        fake.say(commands.Connection.Close(320, "CONNECTION_FORCED - node is going down", 0, 0))
        assert await within_deadline(publishes[0]) == [CONFIRMED] * 2
        for publish in publishes[1:]:
            with pytest.raises(BrokerUnavailable, match="CONNECTION_FORCED"):
                await within_deadline(publish)


# a channel closed because of a message


@pytest.mark.parametrize(("code", "method"), [(406, 40), (311, 40)])
async def test_a_batch_that_closes_the_channel_is_rejected_and_the_next_goes_on(
    fake: FakeBroker, code: int, method: int
) -> None:
    fake.after(3, commands.Basic.Ack(1), commands.Channel.Close(code, "too large", 60, method))
    async with connected(fake) as broker:
        with pytest.raises(MessageRejected, match=f"{code} too large"):
            await within_deadline(broker.publisher().publish(batch("key", 3)))
        fake.on_message = lambda: fake.say(commands.Basic.Ack(1))
        assert await within_deadline(broker.publisher().publish(batch("key", 1))) == [CONFIRMED]
        assert fake.connections == 1


async def test_of_several_batches_none_is_blamed_until_it_stands_alone(fake: FakeBroker) -> None:
    def on_message() -> None:
        if fake.published[-1].message_id == "bad":
            fake.say(commands.Channel.Close(406, "bad", 60, 40))
        else:
            # As RabbitMQ does, later than the channel closes over what came right behind.
            asyncio.get_running_loop().call_later(0.05, confirm_unless_closed, len(fake.published))

    def confirm_unless_closed(number: int) -> None:
        if len(fake.published) == number:
            fake.say(commands.Basic.Ack(1, True))

    fake.on_message = on_message
    good, bad = batch("key", 1), [Message(routing_key="key", body=b"", message_id="bad")]
    async with connected(fake) as broker:
        publisher = broker.publisher()
        for expected in (BrokerUnavailable, MessageRejected):
            together = await within_deadline(
                asyncio.gather(publisher.publish(good), publisher.publish(bad), return_exceptions=True)
            )
            assert isinstance(together[1], expected)
        assert together[0] == [CONFIRMED]


async def test_a_rejection_is_told_even_when_the_channel_cannot_be_reopened(fake: FakeBroker) -> None:
    fake.after(1, commands.Channel.Close(406, "bad", 60, 40))
    async with connected(fake) as broker:
        fake.answers["Channel.Open"] = commands.Connection.Close(320, "CONNECTION_FORCED", 0, 0)
        with pytest.raises(MessageRejected):
            await within_deadline(broker.publisher().publish(batch("key", 1)))
        await problem_with(broker, "CONNECTION_FORCED")


@pytest.mark.parametrize(
    "closed", [commands.Channel.Close(404, "gone", 60, 40), commands.Channel.Close(406, "x", 40, 10)]
)
async def test_any_other_closing_is_an_outage(fake: FakeBroker, closed: base.Frame) -> None:
    fake.after(1, closed)
    async with connected(fake) as broker:
        with pytest.raises(BrokerUnavailable, match="closed the channel"):
            await within_deadline(broker.publisher().publish(batch("key", 1)))
        await eventually(lambda: fake.connections == 2)
        await within_deadline(broker.publisher().ready())


# connection.blocked


async def test_a_blocked_publisher_is_not_ready_and_says_why(fake: FakeBroker) -> None:
    async with connected(fake) as broker:
        fake.say(commands.Connection.Blocked("low on memory"))
        await problem_with(broker, "RabbitMQ blocks publishing: low on memory")
        ready = asyncio.ensure_future(broker.publisher().ready())
        with pytest.raises(BrokerUnavailable, match="low on memory"):
            await broker.publisher().publish(batch("key", 1))
        assert not ready.done()
        fake.say(commands.Connection.Unblocked())
        await within_deadline(ready)
        assert broker.problem() is None


async def test_a_publish_under_way_waits_while_blocked(fake: FakeBroker) -> None:
    async with connected(fake) as broker:
        publish = asyncio.ensure_future(broker.publisher().publish(batch("key", 2)))
        await eventually(lambda: len(fake.published) == 2)
        fake.say(commands.Connection.Blocked("low on disk"))
        await problem_with(broker, "low on disk")
        assert not publish.done()
        fake.say(commands.Connection.Unblocked())
        fake.say(commands.Basic.Ack(2, True))
        assert await within_deadline(publish) == [CONFIRMED] * 2


async def test_silence_while_blocked_keeps_the_connection_that_will_be_unblocked(fake: FakeBroker) -> None:
    async with connected(fake, confirm_timeout_seconds=1.0) as broker:
        publish = asyncio.ensure_future(broker.publisher().publish(batch("key", 2)))
        await eventually(lambda: len(fake.published) == 2)
        fake.say(commands.Connection.Blocked("low on disk"))
        with pytest.raises(BrokerUnavailable, match="low on disk"):
            await within_deadline(publish)
        fake.say(commands.Connection.Unblocked())
        await within_deadline(broker.publisher().ready())
        # The confirms of the batch given up come late, before those of the next.
        fake.after(3, commands.Basic.Ack(2, True), commands.Basic.Nack(3))
        assert await within_deadline(broker.publisher().publish(batch("key", 1))) == [REFUSED]
        assert fake.connections == 1


# heartbeats


async def test_a_silent_peer_is_given_up_and_heartbeats_are_sent(fake: FakeBroker) -> None:
    fake.answers["Connection.StartOk"] = commands.Connection.Tune(0, 0, 1)
    async with connecting(fake, heartbeat_seconds=30) as broker:
        await problem_with(broker, "missed heartbeats")
        assert fake.seen["Heartbeat"] >= 2
        await within_deadline(broker.publisher().ready())


async def test_heartbeats_alone_keep_a_connection(fake: FakeBroker) -> None:
    fake.answers["Connection.StartOk"] = commands.Connection.Tune(0, 0, 0)
    fake.answers["Heartbeat"] = b"\x08\x00\x00\x00\x00\x00\x00\xce"
    async with connecting(fake, heartbeat_seconds=1) as broker:
        await eventually(lambda: fake.seen["Heartbeat"] >= 8)
        assert fake.connections == 1
        assert broker.problem() is None


# garbage


async def test_garbage_in_the_midst_is_a_loss_and_nothing_else(fake: FakeBroker) -> None:
    with capture_logs() as logs:
        async with connected(fake) as broker:
            publish = asyncio.ensure_future(broker.publisher().publish(batch("key", 1)))
            await eventually(lambda: fake.published)
            fake.say(b"\x00garbage")
            with pytest.raises(BrokerUnavailable, match="does not speak AMQP"):
                await within_deadline(publish)
            await within_deadline(broker.publisher().ready())
    assert [log["event"] for log in logs] == ["broker_connected", "broker_lost", "broker_connected"]


# consuming


def delivery(tag: int, body: bytes) -> list[FrameTypes | bytes]:
    return [
        commands.Basic.Deliver("consumer", tag, False, "orders", "key"),
        header.ContentHeader(0, len(body)),
        ContentBody(body),
    ]


async def test_a_loss_is_told_once_and_what_came_before_is_stale(fake: FakeBroker) -> None:
    async with connected(fake) as broker, broker.subscribe("queue", ["key"], prefetch=10) as subscription:
        await eventually(lambda: broker.problem() is None)
        for number in (1, 2, 3):
            for each in delivery(number, b"%d" % number):
                fake.say(each)
        (first,) = await received(subscription, 1)
        assert (first.body, first.message_id) == (b"1", None)
        fake.say(commands.Basic.Cancel("consumer", True))
        await eventually(lambda: fake.seen["Basic.Consume"] == 2)
        for each in delivery(1, b"1 again"):
            fake.say(each)
        with pytest.raises(BrokerUnavailable, match="cancelled the consumer"):
            await within_deadline(subscription.receive(10))
        (again,) = await received(subscription, 1)
        assert again.body == b"1 again"
        with pytest.raises(BrokerUnavailable):
            await subscription.acknowledge(first)
        assert fake.seen["Basic.Ack"] == 0
        await subscription.acknowledge(again)
        await eventually(lambda: fake.seen["Basic.Ack"] == 1)


async def test_a_loss_is_told_before_a_farewell_that_nobody_answers(fake: FakeBroker) -> None:
    fake.answers["Connection.Close"] = None
    fake.after(1, commands.Channel.Close(404, "gone", 60, 40))
    async with connected(fake) as broker:
        publish = asyncio.ensure_future(broker.publisher().publish(batch("key", 1)))
        await eventually(lambda: fake.seen["Connection.Close"])
        assert publish.done()
        assert "404 gone" in (broker.problem() or "")
        with pytest.raises(BrokerUnavailable, match="404 gone"):
            await publish
        fake.hang_up()


async def test_leaving_during_the_handshake_leaves_nothing_behind(
    fake: FakeBroker, caplog: pytest.LogCaptureFixture
) -> None:
    fake.answers["Connection.Open"] = None
    async with connecting(fake):
        await eventually(lambda: fake.connections == 1)
    gc.collect()
    assert [record.message for record in caplog.records] == []


async def test_leaving_a_peer_that_no_longer_answers_is_bounded(fake: FakeBroker) -> None:
    fake.answers["Connection.Close"] = None
    async with connected(fake):
        pass
    assert fake.seen["Connection.Close"] == 1

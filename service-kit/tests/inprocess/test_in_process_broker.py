"""What is particular to the broker without a server."""

import asyncio

import pytest

from service_kit.broker import PublishOutcome
from service_kit.errors import BrokerUnavailable
from service_kit.inprocess import InProcessBroker
from service_kit.message import Message
from service_kit.testing.broker_conformance import acknowledged, batch, publishing, received, within_deadline

CONFIRMED = PublishOutcome.CONFIRMED


async def test_a_publish_is_confirmed_only_when_every_reader_has_acknowledged() -> None:
    async with (
        InProcessBroker() as broker,
        broker.subscribe("one", ["key"], prefetch=10) as one,
        broker.subscribe("two", ["key"], prefetch=10) as two,
        publishing(broker, batch("key", 2)) as outcomes,
    ):
        await acknowledged(one, 2)
        (first,) = await received(two, 1)
        await two.acknowledge(first)
        await turns()
        assert not outcomes.done()
        await acknowledged(two, 1)
        assert await within_deadline(outcomes) == [CONFIRMED] * 2


async def test_closing_the_broker_leaves_every_open_publish_unknown() -> None:
    broker = InProcessBroker()
    async with broker, broker.subscribe("queue", ["key"], prefetch=10) as subscription:
        outcomes = asyncio.ensure_future(broker.publisher().publish(batch("key", 2)))
        deliveries = await received(subscription, 2)
        await subscription.acknowledge(deliveries[0])
    with pytest.raises(BrokerUnavailable):
        await within_deadline(outcomes)


async def test_a_cancelled_publish_is_delivered_all_the_same() -> None:
    async with InProcessBroker() as broker, broker.subscribe("queue", ["key"], prefetch=10) as subscription:
        async with publishing(broker, batch("key", 3)):
            await turns()
        assert len(await acknowledged(subscription, 3)) == 3


async def test_a_full_queue_lets_publishers_wait_until_there_is_room() -> None:
    large = [Message(routing_key="key", body=b"x" * 600_000, message_id=str(number)) for number in range(3)]
    async with (
        InProcessBroker(capacity_bytes=1_000_000) as broker,
        broker.subscribe("queue", ["key"], prefetch=10) as subscription,
        publishing(broker, large[:2]) as first,
        publishing(broker, large[2:]) as second,
    ):
        deliveries = await received(subscription, 2)
        next_one = asyncio.ensure_future(subscription.receive(1))
        await turns()
        assert not next_one.done()
        # Other routes are not held up.
        assert await broker.publisher().publish(batch("elsewhere", 1)) == [PublishOutcome.UNROUTABLE]
        await subscription.acknowledge(deliveries[0])
        (third,) = await within_deadline(next_one)
        await subscription.acknowledge(third)
        assert await within_deadline(first) == [CONFIRMED] * 2
        assert await within_deadline(second) == [CONFIRMED]


async def test_closing_the_broker_ends_publishers_that_wait_for_room() -> None:
    broker = InProcessBroker(capacity_bytes=1)
    async with broker, broker.subscribe("queue", ["key"], prefetch=10):
        publishes = [asyncio.ensure_future(broker.publisher().publish(batch("key", 1))) for _ in range(3)]
        await turns()
    for publish in publishes:
        with pytest.raises(BrokerUnavailable):
            await within_deadline(publish)


async def test_what_is_handed_back_keeps_its_place() -> None:
    async with InProcessBroker() as broker:
        async with broker.subscribe("queue", ["key"], prefetch=2) as subscription:
            publish = asyncio.ensure_future(broker.publisher().publish(batch("key", 4)))
            await received(subscription, 2)
        async with broker.subscribe("queue", ["key"], prefetch=10) as subscription:
            deliveries = await acknowledged(subscription, 4)
            assert await within_deadline(publish) == [CONFIRMED] * 4
    assert [delivery.body for delivery in deliveries] == [b"0", b"1", b"2", b"3"]
    assert [delivery.redelivered for delivery in deliveries] == [True, True, False, False]


async def test_a_broker_not_yet_opened_is_not_ready() -> None:
    broker = InProcessBroker()
    assert broker.problem() is not None
    ready = asyncio.ensure_future(broker.publisher().ready())
    await turns()
    assert not ready.done()
    async with broker:
        await within_deadline(ready)


async def turns() -> None:
    """Let every task that can go on do so."""
    for _ in range(20):
        await asyncio.sleep(0)

"""What every adapter of the broker port does: one suite that all of them pass.

A subclass names itself `Test…` and gives two fixtures: `broker`, opened and left by it, and `name`, a prefix
that no other test uses. The queues `{name}.a` and `{name}.b` are the suite's; the subclass deletes them.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TypeVar

import pytest

from service_kit.broker import Broker, Publisher, PublishOutcome, Subscription
from service_kit.errors import BrokerUnavailable, MessageRejected
from service_kit.message import Delivery, Message
from service_kit.testing.eventually import eventually

T = TypeVar("T")

DEADLINE_SECONDS = 30.0
CONFIRMED, UNROUTABLE = PublishOutcome.CONFIRMED, PublishOutcome.UNROUTABLE


class BrokerConformance:
    """Inherit, supply `broker` and `name`, and every promise of the port is tested."""

    # publishing

    async def test_a_published_message_arrives_as_it_was(self, broker: Broker, name: str) -> None:
        message = Message(
            routing_key=f"{name}.über",
            body=bytes(range(256)),
            message_id="order.created:ö:1",
            headers={"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "ключ": "値"},
        )
        async with (
            subscribed(broker, f"{name}.a", [message.routing_key]) as subscription,
            publishing(broker, [message]) as outcomes,
        ):
            (delivery,) = await received(subscription, 1)
            await subscription.acknowledge(delivery)
            assert await within_deadline(outcomes) == [CONFIRMED]
        assert delivery.body == message.body
        assert delivery.routing_key == message.routing_key
        assert delivery.message_id == message.message_id
        assert delivery.headers == message.headers
        assert not delivery.redelivered
        assert delivery.attempt == 1

    async def test_what_waits_in_the_queue_is_known_to_a_new_subscription(
        self, broker: Broker, name: str
    ) -> None:
        async with publishing_to(broker, name, batch(name, 7)):
            await asyncio.sleep(0.1)  # to be confirmed, where that does not wait for a reader
            async with subscribed(broker, f"{name}.a", [name], prefetch=2) as subscription:
                await eventually(lambda: (subscription.waiting() or 0) >= 5)
                for _ in range(7):
                    await acknowledged(subscription, 1)

    async def test_a_message_without_a_queue_is_unroutable(self, broker: Broker, name: str) -> None:
        assert await publish(broker, batch(f"{name}.nowhere", 3)) == [UNROUTABLE] * 3

    async def test_each_message_of_a_mixed_batch_has_its_own_outcome(self, broker: Broker, name: str) -> None:
        here, nowhere = batch(f"{name}.here", 3), batch(f"{name}.nowhere", 3)
        mixed = [message for pair in zip(here, nowhere, strict=True) for message in pair]
        async with (
            subscribed(broker, f"{name}.a", [f"{name}.here"]) as subscription,
            publishing(broker, mixed) as outcomes,
        ):
            await acknowledged(subscription, 3)
            assert await within_deadline(outcomes) == [CONFIRMED, UNROUTABLE] * 3

    async def test_an_empty_batch_has_no_outcomes(self, broker: Broker) -> None:
        assert list(await publish(broker, [])) == []

    async def test_messages_arrive_in_the_order_of_publishing(self, broker: Broker, name: str) -> None:
        async with subscribed(broker, f"{name}.a", [name]) as subscription:
            for start in (0, 50, 100):
                messages = batch(name, 50, start=start)
                async with publishing(broker, messages) as outcomes:
                    deliveries = await acknowledged(subscription, 50)
                    await within_deadline(outcomes)
                assert [delivery.body for delivery in deliveries] == [message.body for message in messages]

    async def test_a_batch_of_a_thousand_is_confirmed_and_complete(self, broker: Broker, name: str) -> None:
        messages = batch(name, 1_000)
        async with (
            subscribed(broker, f"{name}.a", [name]) as subscription,
            publishing(broker, messages) as outcomes,
        ):
            deliveries = await acknowledged(subscription, 1_000)
            assert await within_deadline(outcomes) == [CONFIRMED] * 1_000
        assert [delivery.message_id for delivery in deliveries] == [each.message_id for each in messages]

    async def test_several_tasks_may_publish_at_once(self, broker: Broker, name: str) -> None:
        async with subscribed(broker, f"{name}.a", [name]) as subscription:
            batches = [batch(name, 20, start=start) for start in range(0, 100, 20)]
            tasks = [asyncio.ensure_future(broker.publisher().publish(each)) for each in batches]
            deliveries = await acknowledged(subscription, 100)
            assert await within_deadline(asyncio.gather(*tasks)) == [[CONFIRMED] * 20] * 5
        assert sorted(each.body for each in deliveries) == sorted(
            message.body for each in batches for message in each
        )

    async def test_a_cancelled_publish_leaves_the_publisher_usable(self, broker: Broker, name: str) -> None:
        async with subscribed(broker, f"{name}.a", [name]) as subscription:
            publish_task = asyncio.ensure_future(broker.publisher().publish(batch(name, 5)))
            await asyncio.sleep(0)
            publish_task.cancel()
            await asyncio.wait({publish_task})
            last = Message(routing_key=name, body=b"last", message_id="last")
            async with publishing(broker, [last]) as outcomes:
                await acknowledged_until(subscription, b"last")
                assert await within_deadline(outcomes) == [CONFIRMED]

    @pytest.mark.parametrize("size", [0, 1, 1_572_864], ids=["empty", "one byte", "1.5 MiB"])
    async def test_a_body_of_any_size_arrives_whole(self, broker: Broker, name: str, size: int) -> None:
        body = (bytes(range(256)) * (size // 256 + 1))[:size]
        messages = [Message(routing_key=name, body=body, message_id=str(number)) for number in range(3)]
        async with (
            subscribed(broker, f"{name}.a", [name]) as subscription,
            publishing(broker, messages) as outcomes,
        ):
            deliveries = await acknowledged(subscription, 3)
            await within_deadline(outcomes)
        assert [delivery.body for delivery in deliveries] == [body] * 3

    @pytest.mark.parametrize("field", ["message_id", "routing_key", "headers"])
    async def test_names_above_255_bytes_are_rejected(self, broker: Broker, name: str, field: str) -> None:
        long = "ö" * 128
        odd = Message(
            routing_key=long if field == "routing_key" else name,
            body=b"{}",
            message_id=long if field == "message_id" else "1",
            headers={long: "value"} if field == "headers" else {},
        )
        with pytest.raises(MessageRejected):
            await publish(broker, [odd])
        assert await publish(broker, batch(name, 1)) == [UNROUTABLE]

    async def test_there_is_one_publisher(self, broker: Broker) -> None:
        assert broker.publisher() is broker.publisher()

    # routing

    async def test_two_queues_each_get_a_copy(self, broker: Broker, name: str) -> None:
        messages = batch(name, 5)
        async with (
            subscribed(broker, f"{name}.a", [name]) as one,
            subscribed(broker, f"{name}.b", [name]) as two,
            publishing(broker, messages) as outcomes,
        ):
            for subscription in (one, two):
                deliveries = await acknowledged(subscription, 5)
                assert [each.body for each in deliveries] == [each.body for each in messages]
            assert await within_deadline(outcomes) == [CONFIRMED] * 5

    async def test_a_queue_gets_each_of_its_routing_keys_only(self, broker: Broker, name: str) -> None:
        keys = [f"{name}.one", f"{name}.other", f"{name}.two"]
        messages = [Message(routing_key=key, body=key.encode(), message_id=key) for key in keys]
        async with (
            subscribed(broker, f"{name}.a", [keys[0], keys[2]]) as subscription,
            publishing(broker, messages) as outcomes,
        ):
            deliveries = await acknowledged(subscription, 2)
            assert await within_deadline(outcomes) == [CONFIRMED, UNROUTABLE, CONFIRMED]
        assert [delivery.routing_key for delivery in deliveries] == [keys[0], keys[2]]

    async def test_subscriptions_of_one_queue_share_its_messages(self, broker: Broker, name: str) -> None:
        async with (
            subscribed(broker, f"{name}.a", [name], prefetch=1) as one,
            subscribed(broker, f"{name}.a", [name], prefetch=1) as two,
            publishing(broker, batch(name, 2)) as outcomes,
        ):
            first, second = await received(one, 1), await received(two, 1)
            assert {first[0].body, second[0].body} == {b"0", b"1"}
            await one.acknowledge(first[0])
            await two.acknowledge(second[0])
            assert await within_deadline(outcomes) == [CONFIRMED] * 2

    async def test_a_queue_keeps_its_messages_while_nobody_reads_it(self, broker: Broker, name: str) -> None:
        async with subscribed(broker, f"{name}.a", [name]):
            pass
        async with (
            publishing(broker, batch(name, 3)) as outcomes,
            subscribed(broker, f"{name}.a", [name]) as subscription,
        ):
            deliveries = await acknowledged(subscription, 3)
            assert await within_deadline(outcomes) == [CONFIRMED] * 3
        assert [delivery.body for delivery in deliveries] == [b"0", b"1", b"2"]

    # receiving and acknowledging

    async def test_receive_returns_what_is_there_up_to_the_limit(self, broker: Broker, name: str) -> None:
        async with (
            subscribed(broker, f"{name}.a", [name]) as subscription,
            publishing(broker, batch(name, 10)),
        ):
            seen: list[Delivery] = []
            while len(seen) < 10:
                some = await within_deadline(subscription.receive(3))
                assert 1 <= len(some) <= 3
                seen += some
            await subscription.acknowledge(seen[-1])
        assert [delivery.body for delivery in seen] == [b"%d" % number for number in range(10)]

    async def test_an_acknowledgement_covers_everything_before_it(self, broker: Broker, name: str) -> None:
        async with publishing_to(broker, name, batch(name, 10)):
            async with subscribed(broker, f"{name}.a", [name]) as subscription:
                deliveries = await received(subscription, 10)
                await subscription.acknowledge(deliveries[6])
            async with subscribed(broker, f"{name}.a", [name]) as subscription:
                again = await acknowledged(subscription, 3)
        assert [delivery.body for delivery in again] == [b"7", b"8", b"9"]
        assert all(delivery.redelivered for delivery in again)

    async def test_acknowledging_again_changes_nothing(self, broker: Broker, name: str) -> None:
        async with (
            subscribed(broker, f"{name}.a", [name]) as subscription,
            publishing(broker, batch(name, 4)),
        ):
            deliveries = await received(subscription, 4)
            await subscription.acknowledge(deliveries[2])
            await subscription.acknowledge(deliveries[2])
            await subscription.acknowledge(deliveries[0])
            await subscription.acknowledge(deliveries[3])
            async with publishing(broker, batch(name, 1, start=4)):
                assert [delivery.body for delivery in await acknowledged(subscription, 1)] == [b"4"]

    async def test_what_was_not_acknowledged_comes_again(self, broker: Broker, name: str) -> None:
        async with publishing_to(broker, name, batch(name, 5)):
            async with subscribed(broker, f"{name}.a", [name]) as subscription:
                first = await received(subscription, 5)
                assert not any(delivery.redelivered for delivery in first)
            async with subscribed(broker, f"{name}.a", [name]) as subscription:
                again = await acknowledged(subscription, 5)
        assert [delivery.body for delivery in again] == [delivery.body for delivery in first]
        assert all(delivery.redelivered for delivery in again)

    async def test_a_stale_delivery_cannot_be_acknowledged(self, broker: Broker, name: str) -> None:
        async with publishing_to(broker, name, batch(name, 1)):
            async with subscribed(broker, f"{name}.a", [name]) as subscription:
                (delivery,) = await received(subscription, 1)
            with pytest.raises(BrokerUnavailable):
                await subscription.acknowledge(delivery)
            with pytest.raises(BrokerUnavailable):
                await subscription.receive(1)

    async def test_no_more_than_the_prefetch_is_held_unacknowledged(self, broker: Broker, name: str) -> None:
        async with (
            subscribed(broker, f"{name}.a", [name], prefetch=3) as subscription,
            subscribed(broker, f"{name}.b", [f"{name}.later"]) as witness,
            publishing(broker, batch(name, 5)),
        ):
            held = await received(subscription, 3)
            fourth = asyncio.ensure_future(subscription.receive(10))
            # A whole round trip later it would have been here.
            async with publishing(broker, batch(f"{name}.later", 1)):
                await acknowledged(witness, 1)
            assert not fourth.done()
            await subscription.acknowledge(held[0])
            (freed,) = await within_deadline(fourth)
            assert freed.body == b"3"

    async def test_a_cancelled_receive_loses_nothing(self, broker: Broker, name: str) -> None:
        async with subscribed(broker, f"{name}.a", [name]) as subscription:
            seen: list[Delivery] = []
            async with publishing(broker, batch(name, 100)):
                while len(seen) < 100:
                    attempt = asyncio.ensure_future(subscription.receive(1))
                    for _ in range(len(seen) % 4):
                        await asyncio.sleep(0)
                    attempt.cancel()
                    await asyncio.wait({attempt})
                    seen += await received(subscription, 1) if attempt.cancelled() else attempt.result()
                await subscription.acknowledge(seen[-1])
        assert [delivery.body for delivery in seen] == [b"%d" % number for number in range(100)]

    async def test_impossible_limits_are_refused(self, broker: Broker, name: str) -> None:
        for prefetch in (0, 65_536):
            with pytest.raises(ValueError, match="prefetch"):
                broker.subscribe(f"{name}.a", [name], prefetch=prefetch)
        async with subscribed(broker, f"{name}.a", [name]) as subscription:
            with pytest.raises(ValueError, match="limit"):
                await subscription.receive(0)
            foreign = Delivery(tag=77, routing_key=name, body=b"")
            with pytest.raises(ValueError, match="never returned"):
                await subscription.acknowledge(foreign)

    # pausing

    async def test_a_paused_subscription_hands_back_what_it_has_and_takes_nothing(
        self, broker: Broker, name: str
    ) -> None:
        async with (
            subscribed(broker, f"{name}.a", [name], prefetch=10) as paused,
            publishing(broker, batch(name, 20)),
        ):
            await received(paused, 3)  # of these, and of what it holds besides, none was acknowledged

            paused.pause()
            paused.pause()
            waiting = asyncio.ensure_future(paused.receive(20))

            async with subscribed(broker, f"{name}.a", [name], prefetch=100) as other:
                deliveries = await acknowledged(other, 20)
            assert {delivery.body for delivery in deliveries} == {b"%d" % number for number in range(20)}
            assert not waiting.done()
            waiting.cancel()
            await asyncio.wait({waiting})

    async def test_a_resumed_subscription_takes_up_where_it_was(self, broker: Broker, name: str) -> None:
        async with (
            subscribed(broker, f"{name}.a", [name]) as subscription,
            publishing(broker, batch(name, 5)) as outcomes,
        ):
            before = await received(subscription, 5)
            subscription.pause()
            with pytest.raises(BrokerUnavailable):
                await subscription.acknowledge(before[-1])

            subscription.resume()
            subscription.resume()

            again = await acknowledged(subscription, 5)
            assert [delivery.body for delivery in again] == [delivery.body for delivery in before]
            assert await within_deadline(outcomes) == [CONFIRMED] * 5

    async def test_a_subscription_may_be_paused_and_resumed_again_and_again(
        self, broker: Broker, name: str
    ) -> None:
        async with (
            broker.subscribe(f"{name}.a", [name], prefetch=10) as subscription,
            publishing_to(broker, name, batch(name, 6)),
        ):
            seen: set[bytes] = set()
            while len(seen) < 6:
                subscription.pause()
                if len(seen) % 2:
                    await asyncio.sleep(0)
                subscription.resume()
                (delivery,) = await within_deadline(subscription.receive(1))
                await subscription.acknowledge(delivery)
                seen.add(delivery.body)

    # the broker

    async def test_an_open_broker_is_ready_and_has_no_problem(self, broker: Broker) -> None:
        await within_deadline(broker.publisher().ready())
        assert broker.problem() is None

    async def test_a_closed_broker_says_so(self, broker: Broker, name: str) -> None:
        assert isinstance(broker, AbstractAsyncContextManager)
        async with subscribed(broker, f"{name}.a", [name]) as subscription:
            waiting = asyncio.ensure_future(subscription.receive(1))
            await asyncio.sleep(0)
            await broker.__aexit__(None, None, None)
            with pytest.raises(BrokerUnavailable):
                await within_deadline(waiting)
        assert broker.problem() is not None
        with pytest.raises(BrokerUnavailable):
            await broker.publisher().publish(batch(name, 1))


def batch(routing_key: str, count: int, *, start: int = 0) -> list[Message]:
    """Messages whose body and id are their number."""
    return [
        Message(routing_key=routing_key, body=b"%d" % number, message_id=str(number))
        for number in range(start, start + count)
    ]


async def within_deadline(waiting: Awaitable[T]) -> T:
    """What `waiting` returns: a deadline for a broken adapter, never a measurement."""
    async with asyncio.timeout(DEADLINE_SECONDS):
        return await waiting


async def publish(broker: Broker, messages: Sequence[Message]) -> Sequence[PublishOutcome]:
    publisher: Publisher = broker.publisher()
    await within_deadline(publisher.ready())
    return await within_deadline(publisher.publish(messages))


@asynccontextmanager
async def publishing(
    broker: Broker, messages: Sequence[Message]
) -> AsyncIterator["asyncio.Future[Sequence[PublishOutcome]]"]:
    """Publish in the background: an adapter may confirm only what is acknowledged."""
    await within_deadline(broker.publisher().ready())
    outcomes = asyncio.ensure_future(broker.publisher().publish(messages))
    try:
        yield outcomes
    finally:
        outcomes.cancel()
        await asyncio.wait({outcomes})


@asynccontextmanager
async def publishing_to(
    broker: Broker, name: str, messages: Sequence[Message]
) -> AsyncIterator["asyncio.Future[Sequence[PublishOutcome]]"]:
    """Publish to the queue `{name}.a`, which nobody reads yet."""
    async with subscribed(broker, f"{name}.a", [name]):
        pass
    async with publishing(broker, messages) as outcomes:
        yield outcomes


@asynccontextmanager
async def subscribed(
    broker: Broker, queue: str, routing_keys: Sequence[str], *, prefetch: int = 1_000
) -> AsyncIterator[Subscription]:
    """A subscription whose queue is declared and bound."""
    async with broker.subscribe(queue, routing_keys, prefetch=prefetch) as subscription:
        await eventually(lambda: broker.problem() is None)
        yield subscription


async def received(subscription: Subscription, count: int) -> list[Delivery]:
    """Exactly `count` deliveries, not acknowledged."""
    deliveries: list[Delivery] = []
    while len(deliveries) < count:
        deliveries += await within_deadline(subscription.receive(count - len(deliveries)))
    return deliveries


async def acknowledged(subscription: Subscription, count: int) -> list[Delivery]:
    """Exactly `count` deliveries, acknowledged together."""
    deliveries = await received(subscription, count)
    await subscription.acknowledge(deliveries[-1])
    return deliveries


async def acknowledged_until(subscription: Subscription, body: bytes) -> None:
    """Receive and acknowledge until a delivery with `body` came."""
    while True:
        (delivery,) = await received(subscription, 1)
        await subscription.acknowledge(delivery)
        if delivery.body == body:
            return

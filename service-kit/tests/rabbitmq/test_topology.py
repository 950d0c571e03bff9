"""What exists otherwise, and what an operator deletes while we are connected. On a real RabbitMQ."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import aio_pika
import pytest
from aio_pika.abc import AbstractChannel
from pamqp.common import FieldTable
from structlog.testing import capture_logs
from structlog.typing import EventDict

from service_kit.broker import PublishOutcome
from service_kit.errors import BrokerUnavailable, MessageRejected
from service_kit.message import Message
from service_kit.rabbitmq import RabbitBroker
from service_kit.rabbitmq.topology import QueueType
from service_kit.testing.broker_conformance import acknowledged, batch, publish, subscribed, within_deadline
from service_kit.testing.eventually import eventually
from service_kit.testing.rabbitmq_server import forget

Open = Callable[..., AbstractAsyncContextManager[RabbitBroker]]


@pytest.fixture
async def channel(rabbitmq_url: str) -> AsyncIterator[AbstractChannel]:
    async with await aio_pika.connect(rabbitmq_url) as connection, connection.channel() as channel:
        yield channel


@pytest.fixture
async def opened(rabbitmq_url: str, unique_name: str) -> AsyncIterator[Open]:
    @asynccontextmanager
    async def opened(
        queue_type: QueueType = "classic", topology_interval_seconds: float = 30.0
    ) -> AsyncIterator[RabbitBroker]:
        async with RabbitBroker(
            rabbitmq_url,
            exchange=unique_name,
            queue_type=queue_type,
            topology_interval_seconds=topology_interval_seconds,
        ) as broker:
            await within_deadline(broker.publisher().ready())
            yield broker

    yield opened
    await forget(rabbitmq_url, queues=[unique_name], exchanges=[unique_name])


def warnings(logs: list[EventDict]) -> list[object]:
    return [(log["event"], log.get("kind")) for log in logs if log["log_level"] == "warning"]


@pytest.mark.parametrize("queue_type", ["classic", "quorum"])
async def test_a_queue_that_exists_otherwise_is_used_as_it_is_with_one_warning(
    opened: Open, channel: AbstractChannel, unique_name: str, queue_type: QueueType
) -> None:
    await channel.declare_queue(unique_name, durable=True, arguments={"x-max-length": 1000})
    with capture_logs() as logs:
        async with (
            opened(queue_type, topology_interval_seconds=0.05) as broker,
            subscribed(broker, unique_name, ["key"]) as subscription,
        ):
            assert await publish(broker, batch("key", 1)) == [PublishOutcome.CONFIRMED]
            await acknowledged(subscription, 1)
            # Declaring again does not close the channel either.
            queue = await channel.get_queue(unique_name)
            await queue.unbind(unique_name, "key")
            await eventually(lambda: routed(broker))
            await acknowledged(subscription, 1)
    assert warnings(logs) == [("broker_topology_used_as_it_is", "queue")]


@pytest.mark.parametrize("queue_type", ["classic", "quorum"])
async def test_a_queue_is_declared_as_it_was_asked_for(
    opened: Open, channel: AbstractChannel, unique_name: str, queue_type: QueueType
) -> None:
    arguments: FieldTable | None = {"x-queue-type": "quorum"} if queue_type == "quorum" else None
    with capture_logs() as logs:
        async with opened(queue_type) as broker, subscribed(broker, unique_name, ["key"]):
            # RabbitMQ refuses to declare what exists with other arguments.
            await channel.declare_queue(unique_name, durable=True, arguments=arguments)
            await channel.declare_exchange(unique_name, aio_pika.ExchangeType.TOPIC, durable=True)
    assert warnings(logs) == []


async def test_an_exchange_that_exists_otherwise_is_used_as_it_is(
    opened: Open, channel: AbstractChannel, unique_name: str
) -> None:
    await channel.declare_exchange(unique_name, aio_pika.ExchangeType.DIRECT, durable=False)
    with capture_logs() as logs:
        async with (
            opened(topology_interval_seconds=0.05) as broker,
            subscribed(broker, unique_name, ["key"]) as subscription,
        ):
            assert await publish(broker, batch("key", 1)) == [PublishOutcome.CONFIRMED]
            await acknowledged(subscription, 1)
    assert warnings(logs) == [("broker_topology_used_as_it_is", "exchange")]


async def routed(broker: RabbitBroker) -> bool:
    await broker.publisher().ready()
    try:
        return await broker.publisher().publish(batch("key", 1)) == [PublishOutcome.CONFIRMED]
    except BrokerUnavailable:
        return False


async def test_a_lost_binding_is_made_again(opened: Open, channel: AbstractChannel, unique_name: str) -> None:
    async with (
        opened(topology_interval_seconds=0.05) as broker,
        subscribed(broker, unique_name, ["key"]) as subscription,
    ):
        queue = await channel.get_queue(unique_name)
        await queue.unbind(unique_name, "key")
        await eventually(lambda: routed(broker))
        (delivery,) = await acknowledged(subscription, 1)
        assert delivery.tag == 1


async def test_a_deleted_queue_is_declared_again(
    opened: Open, channel: AbstractChannel, unique_name: str
) -> None:
    async with opened() as broker, subscribed(broker, unique_name, ["key"]) as subscription:
        await channel.queue_delete(unique_name)
        with pytest.raises(BrokerUnavailable, match="queue was deleted"):
            await within_deadline(subscription.receive(1))
        await eventually(lambda: routed(broker))
        await acknowledged(subscription, 1)
        # A delivery may be quicker than the news that its subscription is connected.
        await eventually(lambda: broker.problem() is None)


async def test_a_deleted_exchange_is_declared_again(
    opened: Open, channel: AbstractChannel, unique_name: str
) -> None:
    async with (
        opened(topology_interval_seconds=0.05) as broker,
        subscribed(broker, unique_name, ["key"]) as subscription,
    ):
        await channel.exchange_delete(unique_name)
        await eventually(lambda: routed(broker))
        await acknowledged(subscription, 1)


async def test_publishing_to_a_deleted_exchange_is_an_outage_that_heals(
    opened: Open, channel: AbstractChannel, unique_name: str
) -> None:
    async with opened() as broker:
        await channel.exchange_delete(unique_name)
        with pytest.raises(BrokerUnavailable, match="no exchange"):
            await within_deadline(broker.publisher().publish(batch("key", 3)))
        assert await publish(broker, batch("key", 1)) == [PublishOutcome.UNROUTABLE]


async def test_a_message_that_rabbitmq_refuses_is_rejected_and_the_next_goes_on(opened: Open) -> None:
    async with opened() as broker:
        refused = Message(routing_key="key", body=b"", message_id="1", headers={"CC": "must be a list"})
        with capture_logs() as logs:
            for _ in range(3):
                with pytest.raises(MessageRejected, match="406"):
                    await within_deadline(broker.publisher().publish([refused]))
                # At once, without waiting to be ready.
                outcomes = await within_deadline(broker.publisher().publish(batch("key", 1)))
                assert outcomes == [PublishOutcome.UNROUTABLE]
        assert logs == []

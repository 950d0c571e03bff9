"""aio-pika on the other side: an independent client must understand us, and we it."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from decimal import Decimal

import aio_pika
import pytest
from aio_pika.abc import AbstractChannel, DeliveryMode

from service_kit.broker import PublishOutcome
from service_kit.message import Message
from service_kit.rabbitmq import RabbitBroker
from service_kit.testing.broker_conformance import acknowledged, batch, received, subscribed, within_deadline
from service_kit.testing.rabbitmq_server import forget


@pytest.fixture
async def channel(rabbitmq_url: str) -> AsyncIterator[AbstractChannel]:
    async with await aio_pika.connect(rabbitmq_url) as connection, connection.channel() as channel:
        yield channel


@pytest.fixture
async def broker(rabbitmq_url: str, unique_name: str) -> AsyncIterator[RabbitBroker]:
    async with RabbitBroker(rabbitmq_url, exchange=unique_name) as broker:
        await within_deadline(broker.publisher().ready())
        yield broker
    await forget(rabbitmq_url, queues=[unique_name], exchanges=[unique_name])


@pytest.mark.parametrize("size", [0, 2, 131_064, 131_065, 1_500_000])
async def test_aio_pika_reads_what_we_publish(
    broker: RabbitBroker, channel: AbstractChannel, unique_name: str, size: int
) -> None:
    queue = await channel.declare_queue(unique_name, durable=True)
    await queue.bind(unique_name, "order.*")
    message = Message(
        routing_key="order.created",
        body=b"x" * size,
        message_id="order.created:1:1",
        headers={"traceparent": "00-1-2-01", "name": "ünïcode"},
    )
    assert await within_deadline(broker.publisher().publish([message])) == [PublishOutcome.CONFIRMED]
    read = await queue.get(timeout=10)
    assert read is not None
    await read.ack()
    assert read.body == message.body
    assert read.routing_key == message.routing_key
    assert read.exchange == unique_name
    assert read.message_id == message.message_id
    assert read.headers == message.headers
    assert read.content_type == "application/json"
    assert read.delivery_mode == DeliveryMode.PERSISTENT


async def publish_foreign(channel: AbstractChannel, exchange: str, *messages: aio_pika.Message) -> None:
    foreign = await channel.get_exchange(exchange)
    for message in messages:
        await foreign.publish(message, routing_key="order.created")


async def test_we_read_headers_of_every_type(
    broker: RabbitBroker, channel: AbstractChannel, unique_name: str
) -> None:
    moment = datetime(2026, 3, 1, 12, 30, tzinfo=UTC)
    headers: aio_pika.abc.HeadersType = {
        "text": "ünïcode",
        "empty": "",
        "true": True,
        "false": False,
        "none": None,
        "small": -1,
        "large": 2**62,
        "float": 0.5,
        "decimal": Decimal("12.5"),
        "moment": moment,
        "bytes": bytearray(b"\x00\xff"),
        "list": [1, "two", [3.5, None], {"four": 5}],
        "table": {"a": {"b": {"c": [True]}}},
    }
    async with subscribed(broker, unique_name, ["order.created"]) as subscription:
        await publish_foreign(channel, unique_name, aio_pika.Message(b"{}", headers=headers))
        (delivery,) = await acknowledged(subscription, 1)
    assert delivery.headers == headers


async def test_we_read_messages_with_every_property_and_with_few(
    broker: RabbitBroker, channel: AbstractChannel, unique_name: str
) -> None:
    full = aio_pika.Message(
        b"full",
        headers={"traceparent": "00-1-2-01"},
        content_type="text/plain",
        content_encoding="utf-8",
        delivery_mode=DeliveryMode.NOT_PERSISTENT,
        priority=3,
        correlation_id="correlation",
        reply_to="nobody",
        expiration=60,
        message_id="the id",
        timestamp=datetime(2026, 1, 1, tzinfo=UTC),
        type="type",
        user_id="guest",
        app_id="app",
    )
    async with subscribed(broker, unique_name, ["order.created"]) as subscription:
        await publish_foreign(channel, unique_name, full, aio_pika.Message(b""))
        first, second = await acknowledged(subscription, 2)
    assert (first.body, first.message_id, first.headers) == (b"full", "the id", {"traceparent": "00-1-2-01"})
    assert (second.body, second.headers) == (b"", {})


async def test_we_read_bodies_of_many_frames_between_small_ones(
    broker: RabbitBroker, channel: AbstractChannel, unique_name: str
) -> None:
    bodies = [b"small", bytes(range(256)) * 8_192, b"", b"x" * 131_064, b"x" * 131_065, b"last"]
    async with subscribed(broker, unique_name, ["order.created"]) as subscription:
        await publish_foreign(channel, unique_name, *[aio_pika.Message(body) for body in bodies])
        deliveries = await acknowledged(subscription, len(bodies))
    assert [delivery.body for delivery in deliveries] == bodies


async def test_what_we_hand_back_aio_pika_receives_redelivered(
    broker: RabbitBroker, channel: AbstractChannel, unique_name: str
) -> None:
    async with subscribed(broker, unique_name, ["order.created"]) as subscription:
        assert set(await broker.publisher().publish(batch("order.created", 3))) == {PublishOutcome.CONFIRMED}
        deliveries = await received(subscription, 3)
        await subscription.acknowledge(deliveries[0])
    queue = await channel.get_queue(unique_name)
    bodies = []
    async with queue.iterator() as messages:
        async with asyncio.timeout(20):
            async for message in messages:
                await message.ack()
                assert message.redelivered
                bodies.append(message.body)
                if len(bodies) == 2:
                    break
    assert bodies == [b"1", b"2"]


async def test_two_clients_declare_the_same_topology(
    broker: RabbitBroker, channel: AbstractChannel, unique_name: str
) -> None:
    async with subscribed(broker, unique_name, ["order.created"]):
        await channel.declare_exchange(unique_name, aio_pika.ExchangeType.TOPIC, durable=True)
        queue = await channel.declare_queue(unique_name, durable=True)
        await queue.bind(unique_name, "order.created")
        assert queue.declaration_result.consumer_count == 1

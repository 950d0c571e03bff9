"""Queues and bindings that disappear under the services."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import Random

import aio_pika
from aio_pika.abc import AbstractChannel

from chaos.bystander import EXCHANGE
from chaos.faults.fault import Fault
from chaos.setup import Setup
from chaos.stage import ORDER_QUEUE, PROCESSOR_QUEUE, Stage

_LOSES = Setup(loses_messages=True)


@asynccontextmanager
async def _channel(stage: Stage) -> AsyncIterator[AbstractChannel]:
    async with await aio_pika.connect(stage.rabbitmq.url) as connection:
        yield await connection.channel()


async def deleted(stage: Stage, random: Random) -> None:
    async with _channel(stage) as channel:
        for queue in random.sample([ORDER_QUEUE, PROCESSOR_QUEUE], random.choice([1, 2])):
            await channel.queue_delete(queue)
            stage.evidence["queues deleted"] += 1


async def purged(stage: Stage, random: Random) -> None:
    """While the readers of the queue are cut off, so that there is something in it."""
    queue, side = random.choice([(ORDER_QUEUE, "orders"), (PROCESSOR_QUEUE, "processor")])
    readers = stage.brokers[side]
    readers.refuse()
    readers.reset()
    try:
        await asyncio.sleep(1.5)
        async with _channel(stage) as channel:
            found = await (await channel.declare_queue(queue, passive=True)).purge()
            stage.evidence["messages purged"] += found.message_count or 0
    finally:
        await readers.open()


async def unbound(stage: Stage, random: Random) -> None:
    """`order.created` alone: it comes back to its publisher, since nobody else listens to it."""
    async with _channel(stage) as channel:
        queue = await channel.declare_queue(PROCESSOR_QUEUE, passive=True)
        await queue.unbind(EXCHANGE, "order.created")
        stage.evidence["bindings removed"] += 1


async def unbound_answers(stage: Stage, random: Random) -> None:
    """`order.processed`: the bystander hears it, so the publisher is not told that order-service does not."""
    async with _channel(stage) as channel:
        queue = await channel.declare_queue(ORDER_QUEUE, passive=True)
        await queue.unbind(EXCHANGE, "order.processed")
        await asyncio.sleep(random.uniform(0.5, 2))
        await queue.bind(EXCHANGE, "order.processed")
        stage.evidence["bindings removed"] += 1


FAULTS = [
    Fault(
        name="queue-deleted",
        story="one or both queues deleted, with what was in them",
        inject=deleted,
        bites=("queues deleted", "broker_lost", "pending_orders_reemitted"),
        setup=_LOSES,
    ),
    Fault(
        name="queue-purged",
        story="a queue emptied while its readers are cut off",
        inject=purged,
        bites=("messages purged", "pending_orders_reemitted"),
        setup=_LOSES,
    ),
    Fault(
        name="queue-unbound",
        story="the binding of `order.created` removed: RabbitMQ returns the events, the relay keeps them",
        inject=unbound,
        bites=("bindings removed", "route_closed"),
    ),
    Fault(
        name="answers-unbound",
        story="the binding of `order.processed` removed, another reader has one: events confirmed and lost",
        inject=unbound_answers,
        bites=("bindings removed", "pending_orders_reemitted"),
        setup=_LOSES,
    ),
]

"""What a message costs the client: our RabbitMQ adapter beside aio-pika.

    .venv/bin/python bench/broker_client.py [--messages 50000] [--batch 500] [--url amqp://…]

Prints messages per second and microseconds of this process's CPU per message, for publishing (persistent,
mandatory, confirmed) and for consuming (acknowledged with `multiple`, 200 at a time), of 300-byte bodies.
"""

import argparse
import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import aio_pika
import structlog
import uvloop

from service_kit.message import Message
from service_kit.rabbitmq import RabbitBroker
from service_kit.testing.eventually import eventually
from service_kit.testing.rabbitmq_server import forget

BODY = b'{"order_id": "' + b"x" * 284 + b'"}'
HEADERS = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}
ACKNOWLEDGE_EVERY = 200


@dataclass(frozen=True)
class Plan:
    url: str
    messages: int
    batch: int
    name: str

    def batches(self) -> Iterable[range]:
        return (range(start, start + self.batch) for start in range(0, self.messages, self.batch))


class Measured:
    """Wall time and CPU of this process between entering and leaving."""

    def __init__(self, plan: Plan, what: str) -> None:
        self._count, self._what = plan.messages, what

    def __enter__(self) -> None:
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    def __exit__(self, *_: object) -> None:
        wall, cpu = time.perf_counter() - self._wall, time.process_time() - self._cpu
        rate, cost = self._count / wall, cpu / self._count * 1e6
        print(f"{self._what:<22} {rate:>9,.0f} messages/s {cost:>7.1f} µs of client CPU each")


async def ours(plan: Plan) -> None:
    async with RabbitBroker(plan.url, exchange=plan.name) as broker:
        async with broker.subscribe(plan.name, ["key"], prefetch=1_000):
            await eventually(lambda: broker.problem() is None)
        publisher = broker.publisher()
        with Measured(plan, "our adapter, publish"):
            for numbers in plan.batches():
                messages = [
                    Message(
                        routing_key="key", body=BODY, message_id=f"order.created:{number}:1", headers=HEADERS
                    )
                    for number in numbers
                ]
                await publisher.publish(messages)
        async with broker.subscribe(plan.name, ["key"], prefetch=1_000) as subscription:
            left = plan.messages
            with Measured(plan, "our adapter, consume"):
                while left:
                    deliveries = await subscription.receive(ACKNOWLEDGE_EVERY)
                    await subscription.acknowledge(deliveries[-1])
                    left -= len(deliveries)


@asynccontextmanager
async def aio_pika_channel(plan: Plan) -> AsyncIterator[aio_pika.abc.AbstractChannel]:
    async with await aio_pika.connect(plan.url) as connection, connection.channel() as channel:
        yield channel


async def aio_pika_publish(plan: Plan) -> None:
    async with aio_pika_channel(plan) as channel:
        exchange = await channel.declare_exchange(plan.name, aio_pika.ExchangeType.TOPIC, durable=True)
        with Measured(plan, "aio-pika, publish"):
            for numbers in plan.batches():
                await asyncio.gather(*[exchange.publish(foreign(number), "key") for number in numbers])


def foreign(number: int) -> aio_pika.Message:
    return aio_pika.Message(
        BODY,
        message_id=f"order.created:{number}:1",
        headers=dict(HEADERS),
        content_type="application/json",
        delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
    )


async def aio_pika_consume(plan: Plan) -> None:
    async with aio_pika_channel(plan) as channel:
        await channel.set_qos(prefetch_count=1_000)
        queue = await channel.get_queue(plan.name)
        finished, seen = asyncio.Event(), 0

        async def consume(message: aio_pika.abc.AbstractIncomingMessage) -> None:
            nonlocal seen
            seen += 1
            if seen % ACKNOWLEDGE_EVERY == 0 or seen == plan.messages:
                await message.ack(multiple=True)
            if seen == plan.messages:
                finished.set()

        with Measured(plan, "aio-pika, consume"):
            await queue.consume(consume)
            await finished.wait()


async def measure(plan: Plan) -> None:
    try:
        await ours(plan)
        await aio_pika_publish(plan)
        await aio_pika_consume(plan)
    finally:
        await forget(plan.url, queues=[plan.name], exchanges=[plan.name])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--url", default="amqp://guest:guest@127.0.0.1:5672/")
    parser.add_argument("--messages", type=int, default=50_000, help="a multiple of the batch")
    parser.add_argument("--batch", type=int, default=500)
    arguments = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(40))
    uvloop.run(
        measure(Plan(arguments.url, arguments.messages, arguments.batch, f"bench-{uuid.uuid4().hex[:12]}"))
    )


if __name__ == "__main__":
    main()

"""`python -m bench.yardsticks.broker_process URL EXCHANGE MESSAGES`: both at once, then apart."""

import asyncio
import sys
import time
from collections.abc import Coroutine

import msgspec
import uvloop

from service_kit.message import Message
from service_kit.rabbitmq import RabbitBroker
from service_kit.rabbitmq.publisher import RabbitPublisher
from service_kit.rabbitmq.subscription import RabbitSubscription

_BATCH = 500
_BODY = b'{"order_id":"s-0000000000","customer_id":"customer-17","items":[' + b" " * 170 + b'],"version":1}'


async def main(url: str, exchange: str, messages: int) -> None:
    figures = {}
    async with (
        RabbitBroker(url, exchange=exchange) as broker,
        broker.subscribe(f"{exchange}-queue", ["loop"], prefetch=1000) as subscription,
    ):
        publisher = broker.publisher()
        await publisher.ready()
        await asyncio.sleep(0.5)  # the queue is declared by the subscription's own connection
        figures["both"] = await _measured(
            messages, _publish(publisher, messages), _consume(subscription, messages)
        )
    async with RabbitBroker(url, exchange=exchange) as broker:
        publisher = broker.publisher()
        await publisher.ready()
        figures["publish"] = await _measured(messages, _publish(publisher, messages))
    async with (
        RabbitBroker(url, exchange=exchange) as broker,
        broker.subscribe(f"{exchange}-queue", ["loop"], prefetch=1000) as subscription,
    ):
        figures["consume"] = await _measured(messages, _consume(subscription, messages))
    print(msgspec.json.encode(figures).decode())  # after what is logged


async def _measured(messages: int, *work: Coroutine[object, object, None]) -> dict[str, float]:
    cpu, clock = time.process_time(), time.perf_counter()
    await asyncio.gather(*work)
    return {
        "rate": messages / (time.perf_counter() - clock),
        "client_us": 1e6 * (time.process_time() - cpu) / messages,
    }


async def _publish(publisher: RabbitPublisher, messages: int) -> None:
    headers = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"}
    for begin in range(0, messages, _BATCH):
        await publisher.publish(
            [
                Message(routing_key="loop", body=_BODY, message_id=f"m-{number}", headers=headers)
                for number in range(begin, begin + _BATCH)
            ]
        )


async def _consume(subscription: RabbitSubscription, messages: int) -> None:
    left = messages
    while left > 0:
        deliveries = await subscription.receive(_BATCH)
        await subscription.acknowledge(deliveries[-1])
        left -= len(deliveries)


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))

"""Orders flow from POST to their final state, each once."""

import os
from collections.abc import AsyncIterator
from typing import Any

import aio_pika
import pytest
from aio_pika.abc import AbstractIncomingMessage, AbstractQueue

from acceptance.deployment import Deployment
from acceptance.http_client import HttpConnection
from acceptance.load import order_body, post_all
from service_kit.testing.eventually import eventually

ORDERS = int(os.environ.get("ACCEPTANCE_ORDERS", "10000"))


@pytest.mark.parametrize(("instances", "events_per_message"), [(1, 1), (2, 1), (1, 100)])
async def test_ten_thousand_orders_become_final_each_exactly_once(
    deployed: Deployment, instances: int, events_per_message: int
) -> None:
    packing: dict[str, Any] = {"APP__EVENTS_PER_MESSAGE": str(events_per_message)}
    order_services = [await deployed.start_order_service(**packing) for _ in range(instances)]
    for _ in range(instances):
        await deployed.start_processor_service(**packing)

    urls = [service.url for service in order_services]
    answers = await post_all(
        urls, (order_body(f"order-{number}") for number in range(ORDERS)), connections=64
    )
    await deployed.settled(seconds=90)

    assert [answer.status for answer in answers] == [201] * ORDERS
    final = await deployed.order_rows("SELECT status, version, count(*) FROM orders GROUP BY status, version")
    assert [tuple(row) for row in final] == [("done", 2, ORDERS)]
    states = "SELECT status, version, attempt_count, count(*) FROM processing_states GROUP BY 1, 2, 3"
    assert [tuple(row) for row in await deployed.processor_rows(states)] == [("done", 1, 1, ORDERS)]
    for rows in (deployed.order_rows, deployed.processor_rows):
        assert (await rows("SELECT count(*) FROM processed_inbox"))[0][0] == ORDERS
        assert (await rows("SELECT count(*) FROM dead_letter_queue"))[0][0] == 0


async def test_nothing_is_processed_twice_as_an_independent_subscriber_counts(
    deployed: Deployment, rabbitmq_url: str
) -> None:
    order_service = await deployed.start_order_service()
    await deployed.start_processor_service()
    async with await aio_pika.connect(rabbitmq_url) as connection:
        channel = await connection.channel()
        queue = await channel.declare_queue(exclusive=True)
        await queue.bind(await channel.get_exchange(deployed.name), "order.*")

        await post_all([order_service.url], (order_body(f"order-{number}") for number in range(500)))
        await deployed.settled()

        bodies = [message.body async for message in _drained(queue, 1000)]
    assert len(bodies) == len(set(bodies)) == 1000


async def test_two_hundred_concurrent_posts_of_one_order_make_one_order(deployed: Deployment) -> None:
    services = [await deployed.start_order_service() for _ in range(2)]

    answers = await post_all(
        [service.url for service in services], [order_body("one")] * 200, connections=200
    )

    assert {(answer.status, answer.body) for answer in answers} == {(201, answers[0].body)}
    assert sum("idempotent-replayed" not in answer.headers for answer in answers) == 1
    assert (await deployed.order_rows("SELECT count(*) FROM orders"))[0][0] == 1
    assert (await deployed.order_rows("SELECT count(*) FROM outbox"))[0][0] == 1


async def test_of_two_hundred_concurrent_posts_with_differing_content_one_wins(deployed: Deployment) -> None:
    service = await deployed.start_order_service()
    bodies = [order_body("one", customer_id=f"customer-{number}") for number in range(200)]

    answers = await post_all([service.url], bodies, connections=200)

    assert sorted(answer.status for answer in answers) == [201] + [409] * 199
    winner = next(answer.json() for answer in answers if answer.status == 201)
    stored = await deployed.order_rows("SELECT customer_id FROM orders")
    assert [row["customer_id"] for row in stored] == [winner["customer_id"]]


async def test_the_samples_of_the_readme_end_as_it_says(deployed: Deployment) -> None:
    service = await deployed.start_order_service()
    await deployed.start_processor_service()
    connection = HttpConnection(service.url)

    await connection.request("POST", "/orders", order_body("good"))
    await connection.request("POST", "/orders", order_body("embargo", sku="teapot"))
    await connection.request("POST", "/orders", order_body("fat", sku="potato"))
    await deployed.settled()

    async def outcome(order_id: str) -> tuple[str, int, str | None]:
        order = (await connection.request("GET", f"/orders/{order_id}")).json()
        return order["status"], order["version"], order["fail_reason"]

    assert await outcome("good") == ("done", 2, None)
    assert await outcome("embargo") == ("failed", 2, "Pineapple/teapot embargo")
    assert await outcome("fat") == ("failed", 2, "Too fatty food")
    connection.close()


async def test_the_metrics_count_what_flowed(deployed: Deployment) -> None:
    service = await deployed.start_order_service()
    await deployed.start_processor_service()
    await post_all([service.url], (order_body(f"order-{number}") for number in range(20)), connections=4)
    await deployed.settled()
    connection = HttpConnection(service.url)

    async def final_metrics() -> str | None:
        text = (await connection.request("GET", "/metrics")).body.decode()
        return text if 'orders_processed_total{status="done"} 20.0' in text else None

    text = await eventually(final_metrics)
    assert "orders_created_total 20.0" in text
    assert 'events_published_total{event_type="order.created"} 20.0' in text
    assert "order_processing_seconds_count 20.0" in text
    connection.close()


async def _drained(queue: AbstractQueue, count: int) -> AsyncIterator[AbstractIncomingMessage]:
    for _ in range(count):
        yield await eventually(lambda: queue.get(no_ack=True, fail=False))

"""`/health`, `/ready` and `/metrics`."""

import asyncio
from typing import Any

import asyncpg
import httpx
from prometheus_client.parser import text_string_to_metric_families
from structlog.testing import capture_logs

from order_service.main import order_service
from order_service.settings import OrderSettings
from service_kit.broker import Subscription
from service_kit.inprocess import InProcessBroker
from service_kit.message import Message
from service_kit.service import Service
from service_kit.testing.eventually import eventually

SECRET_ID = "an-id-that-no-label-may-hold"


def body(order_id: str) -> dict[str, Any]:
    return {
        "order_id": order_id,
        "customer_id": "c-1",
        "items": [{"sku": "laptop", "quantity": 1, "price": 5}],
    }


async def samples(client: httpx.AsyncClient) -> dict[str, float]:
    """Every sample as `name{label=value,…}`."""
    response = await client.get("/metrics")
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/plain; version=0.0.4")
    families = text_string_to_metric_families(response.text)
    found = [sample for family in families for sample in family.samples]
    return {f"{one.name}{{{labels(one.labels)}}}": one.value for one in found}


def labels(given: dict[str, str]) -> str:
    return ",".join(f"{name}={value}" for name, value in sorted(given.items()))


async def test_health_names_the_service(client: httpx.AsyncClient) -> None:
    response = await client.get("/health")

    assert response.status_code == 200
    assert response.json() == {"service": "order-service", "status": "ok"}


async def test_ready_has_an_entry_for_each_dependency(client: httpx.AsyncClient) -> None:
    response = await client.get("/ready")

    assert response.status_code == 200
    checks = response.json()["checks"]
    assert checks.keys() == {"database", "broker", "relay", "migrations"}
    assert all(check["ok"] for check in checks.values())


async def test_every_metric_is_there_from_the_beginning(client: httpx.AsyncClient) -> None:
    await client.get("/health")

    seen = await samples(client)

    assert {
        "orders_created_total{}",
        "events_failed_total{}",
        "events_moved_to_dlq_total{}",
        "outbox_pending{}",
        "outbox_oldest_created_timestamp_seconds{}",
        "order_processing_seconds_count{}",
        "order_processing_seconds_sum{}",
        "consumer_batch_size_count{}",
        "http_request_duration_seconds_count{method=GET,route=/health,status=200}",
    } <= seen.keys()
    assert seen["orders_created_total{}"] == 0


async def test_the_metrics_follow_an_order_to_its_end(
    client: httpx.AsyncClient, broker: InProcessBroker
) -> None:
    async with broker.subscribe(
        "processor-service.order.created", ["order.created"], prefetch=10
    ) as subscription:
        reader = asyncio.create_task(acknowledge_everything(subscription))
        for order_id in ("a", "a", "b"):
            await client.post("/orders", json=body(order_id))
        await eventually(lambda: two_events_are_published(client))
        reader.cancel()
    results = [
        Message(
            routing_key="order.processed",
            body=f'{{"order_id": "{order_id}", "status": "{status}", "version": 2}}'.encode(),
            message_id=order_id,
        )
        for order_id, status in [("a", "success"), ("b", "failed"), ("b", "failed")]
    ]

    await broker.publisher().publish(results)

    seen = await samples(client)
    assert seen["orders_created_total{}"] == 2
    assert seen["orders_processed_total{status=done}"] == 1
    assert seen["orders_processed_total{status=failed}"] == 1
    assert seen["order_processing_seconds_count{}"] == 2
    assert seen["consumer_batch_size_sum{}"] == 3
    assert seen["http_request_duration_seconds_count{method=POST,route=/orders,status=201}"] == 3


async def acknowledge_everything(subscription: Subscription) -> None:
    while True:
        deliveries = await subscription.receive(10)
        await subscription.acknowledge(deliveries[-1])


async def two_events_are_published(client: httpx.AsyncClient) -> bool:
    return (await samples(client)).get("events_published_total{event_type=order.created}") == 2


async def test_the_backlog_is_measured(
    dsn: str, connection: asyncpg.Connection, broker: InProcessBroker
) -> None:
    """What waits already when the service starts, and is stopped by no queue."""
    await connection.execute("INSERT INTO outbox (event_type, payload) VALUES ('order.created', '{}')")
    settings = OrderSettings(db_dsn=dsn, port=0, auth="off")
    async with (
        Service("order-service", order_service(settings, broker)) as service,
        httpx.AsyncClient(base_url=service.url) as client,
    ):

        async def backlog_is_seen() -> bool:
            seen = await samples(client)
            return seen["outbox_pending{}"] == 1 and seen["outbox_oldest_created_timestamp_seconds{}"] > 1.7e9

        await eventually(backlog_is_seen)


async def test_dead_letters_and_failed_events_are_counted(
    client: httpx.AsyncClient, broker: InProcessBroker
) -> None:
    unknown = b'{"order_id": "unknown", "status": "success", "version": 2}'
    bodies = [b"poison", unknown]

    await broker.publisher().publish(
        [Message(routing_key="order.processed", body=body, message_id="m") for body in bodies]
    )

    seen = await samples(client)
    assert seen["events_moved_to_dlq_total{}"] == 1
    assert seen["events_failed_total{}"] == 2


async def test_parts_are_measured_whenever_somebody_looks(client: httpx.AsyncClient) -> None:
    await client.get("/orders/unknown")

    seen = await samples(client)

    assert seen["broker_connected{}"] == 1
    assert seen["database_connections_max{}"] == 8
    assert 0 < seen["database_connections{state=idle}"] + seen["database_connections{state=used}"] <= 8
    assert seen["intake_waiting{}"] == 0
    assert seen["orders_reemitted_total{}"] == 0
    assert seen["background_service_failures_total{background_service=reconciler,kind=defect}"] == 0


async def test_no_order_costs_a_line_of_the_log(client: httpx.AsyncClient, broker: InProcessBroker) -> None:
    with capture_logs() as lines:
        for number in range(20):
            await client.post("/orders", json=body(f"o-{number}"))
            await client.get(f"/orders/o-{number}")
        results = [
            Message(
                routing_key="order.processed",
                body=f'{{"order_id": "o-{number}", "status": "success", "version": 2}}'.encode(),
                message_id=f"m-{number}",
            )
            for number in range(20)
        ]
        await broker.publisher().publish(results)

    # The route of a broker without a reader, which is no line about an order.
    assert [line for line in lines if line["event"] != "route_closed"] == []


async def test_no_id_is_ever_a_label(client: httpx.AsyncClient, broker: InProcessBroker) -> None:
    await client.post("/orders", json=body(SECRET_ID) | {"customer_id": SECRET_ID})
    await client.post("/orders", json=body(SECRET_ID) | {"customer_id": "another"})
    await client.get(f"/orders/{SECRET_ID}")
    await client.get(f"/orders/{SECRET_ID}-2")
    await client.get(f"/{SECRET_ID}")
    await client.request("DELETE", f"/orders/{SECRET_ID}")
    result = f'{{"order_id": "{SECRET_ID}", "status": "failed", "fail_reason": "{SECRET_ID}", "version": 2}}'
    await broker.publisher().publish(
        [Message(routing_key="order.processed", body=result.encode(), message_id=SECRET_ID)]
    )

    assert SECRET_ID not in (await client.get("/metrics")).text

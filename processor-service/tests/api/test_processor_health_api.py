"""`/health`, `/ready` and `/metrics` of processor-service."""

import asyncio
from pathlib import Path
from random import Random
from typing import Any

import httpx
import jsonschema
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from processor_service.main import configured_policy, processor_service
from processor_service.settings import ProcessorSettings
from service_kit.broker import Subscription
from service_kit.inprocess import InProcessBroker
from service_kit.message import Message
from service_kit.service import Service
from service_kit.testing.eventually import eventually

NOBODY_LISTENS = "postgresql://postgres@127.0.0.1:1/none"
SECRET_ID = "an-id-that-no-label-may-hold"


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


async def test_health_names_the_service(processor: httpx.AsyncClient) -> None:
    response = await processor.get("/health")

    assert (response.status_code, response.json()) == (200, {"service": "processor-service", "status": "ok"})


async def test_ready_has_an_entry_for_each_dependency(processor: httpx.AsyncClient) -> None:
    response = await processor.get("/ready")

    assert response.status_code == 200
    checks = response.json()["checks"]
    assert checks.keys() == {"database", "broker", "relay", "migrations"}
    assert all(check["ok"] for check in checks.values())


async def test_without_a_database_it_lives_but_is_not_ready(broker: InProcessBroker) -> None:
    settings = ProcessorSettings(db_dsn=NOBODY_LISTENS, port=0, shutdown_grace_seconds=1.0)
    policy = configured_policy(settings, Random())
    async with (
        Service("processor-service", processor_service(settings, broker, policy)) as service,
        httpx.AsyncClient(base_url=service.url) as client,
    ):
        health, ready, metrics = [await client.get(path) for path in ("/health", "/ready", "/metrics")]

    assert (health.status_code, ready.status_code, metrics.status_code) == (200, 503, 200)
    checks = ready.json()["checks"]
    assert {name for name, check in checks.items() if not check["ok"]} == {"database", "relay", "migrations"}


async def test_there_are_no_orders_here(processor: httpx.AsyncClient) -> None:
    response = await processor.get("/orders/o-1")

    assert response.status_code == 404
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json()["error_type"] == "NotFound"


async def test_every_metric_is_there_from_the_beginning(processor: httpx.AsyncClient) -> None:
    await processor.get("/health")

    seen = await samples(processor)

    assert {
        "events_failed_total{}",
        "events_moved_to_dlq_total{}",
        "outbox_pending{}",
        "outbox_oldest_created_timestamp_seconds{}",
        "consumer_batch_size_count{}",
        "http_request_duration_seconds_count{method=GET,route=/health,status=200}",
    } <= seen.keys()


async def test_the_metrics_tell_what_became_of_events(
    processor: httpx.AsyncClient, broker: InProcessBroker
) -> None:
    bodies = [b'{"order_id": "a", "items": ["laptop"]}'] * 2 + [b"poison"]
    messages = [Message(routing_key="order.created", body=body, message_id="m") for body in bodies]
    async with broker.subscribe(
        "order-service.order.processed", ["order.processed"], prefetch=10
    ) as subscription:
        reader = asyncio.create_task(acknowledge_everything(subscription))
        await broker.publisher().publish(messages)
        seen = await eventually(lambda: samples_with_two_answers(processor))
        reader.cancel()

    assert seen["orders_decided_total{outcome=decided}"] == 1
    assert seen["orders_decided_total{outcome=repeated}"] == 1
    assert seen["events_moved_to_dlq_total{}"] == seen["events_failed_total{}"] == 1
    assert seen["consumer_batch_size_sum{}"] == 3


async def acknowledge_everything(subscription: Subscription) -> None:
    while True:
        deliveries = await subscription.receive(10)
        await subscription.acknowledge(deliveries[-1])


async def samples_with_two_answers(processor: httpx.AsyncClient) -> dict[str, float] | None:
    seen = await samples(processor)
    return seen if seen.get("events_published_total{event_type=order.processed}") == 2 else None


async def test_no_id_is_ever_a_label(processor: httpx.AsyncClient, broker: InProcessBroker) -> None:
    body = f'{{"order_id": "{SECRET_ID}", "items": ["{SECRET_ID}"]}}'.encode()
    await broker.publisher().publish([Message(routing_key="order.created", body=body, message_id=SECRET_ID)])
    await processor.get(f"/orders/{SECRET_ID}")

    assert SECRET_ID not in (await processor.get("/metrics")).text


async def test_every_answer_fits_the_openapi_document(
    processor: httpx.AsyncClient, contracts_folder: Path
) -> None:
    text = (contracts_folder / "openapi-processor-service.yaml").read_text(encoding="utf-8")
    document: dict[str, Any] = yaml.safe_load(text)
    for path, component in [("/health", "Health"), ("/ready", "Readiness"), ("/nothing", "Problem")]:
        schema = {"$ref": f"#/components/schemas/{component}", "components": document["components"]}
        jsonschema.Draft202012Validator(schema).validate((await processor.get(path)).json())


@pytest.mark.parametrize("method", ["POST", "DELETE", "OPTIONS"])
async def test_a_method_that_a_path_does_not_know_is_a_405(processor: httpx.AsyncClient, method: str) -> None:
    response = await processor.request(method, "/health")

    assert (response.status_code, response.headers["allow"]) == (405, "GET, HEAD")

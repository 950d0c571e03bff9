"""What operators do, on real processes and a real RabbitMQ: replays through crashes and outages; pauses."""

import json
import signal
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aio_pika
import asyncpg
import httpx
import pytest

from acceptance.deployment import Deployment, deployment
from acceptance.processes import ServiceProcess
from acceptance.proxy import TcpProxy
from service_kit.testing.eventually import eventually
from service_kit.testing.postgres_server import PostgresServer

KEY = "the-key-of-the-tests"
SETTINGS: dict[str, Any] = {"APP__ADMIN_KEY": KEY}
HEADERS = {"authorization": f"Bearer {KEY}", "x-operator": "Anna"}


@asynccontextmanager
async def operator(service: ServiceProcess) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=service.url, headers=HEADERS, timeout=60) as client:
        yield client


async def post(client: httpx.AsyncClient, path: str, status: int = 200, **body: Any) -> Any:
    answer = await client.post(path, json={"reason": "a test", **body})
    assert answer.status_code == status, answer.text
    return answer.json()


async def bury(dsn: str, source: str, event_type: str, bodies: Sequence[dict[str, Any]]) -> None:
    """Dead letters, each of its own key; those of the outbox with message ids as it gives them."""
    connection = await asyncpg.connect(dsn)
    for body in bodies:
        message_id, text = str(uuid.uuid4()), json.dumps(body)
        own_key = f"{event_type}:{body['order_id']}:{body['version']}"
        key = f"outbox:{message_id}" if source == "outbox" else own_key
        await connection.execute(
            """
            INSERT INTO dead_letter_queue
                (source, event_key, original_event_type, payload, body, message_id, failure_reason, attempts)
            VALUES ($1, $2, $3, $4::text::jsonb, convert_to($4::text, 'UTF8'), $5, 'broken', 10)
            """,
            *(source, key, event_type, text, message_id),
        )
    await connection.close()


async def ended(client: httpx.AsyncClient, replay_id: int) -> dict[str, Any]:
    async def is_finished() -> dict[str, Any] | None:
        replay: dict[str, Any] = (await client.get(f"/admin/replays/{replay_id}")).json()
        return replay if replay["state"] == "finished" else None

    return await eventually(is_finished, within_seconds=60)


def created(order_id: str) -> dict[str, Any]:
    return {"order_id": order_id, "customer_id": "c", "items": [{"sku": "a", "quantity": 1}], "version": 1}


@pytest.mark.parametrize(
    "failpoint", ["replay.uncommitted:3", "replay.handed_over:1", "replay.handed_over:3"]
)
async def test_a_replay_that_was_killed_in_the_middle_is_finished_by_another_instance(
    deployed: Deployment, failpoint: str
) -> None:
    orders = [f"order-{number}" for number in range(150)]
    await bury(deployed.processor_dsn, "consumer", "order.created", [created(order) for order in orders])
    first = await deployed.start_processor_service(**SETTINGS, FAILPOINT=failpoint)
    async with operator(first) as client:
        with suppress(httpx.TransportError):  # it may die before it has answered
            await post(client, "/admin/replays", 201, filter={}, per_second=1000)
    assert await first.wait() == -signal.SIGKILL
    [replay] = await deployed.processor_rows("SELECT id FROM replays")
    [left] = await deployed.processor_rows("SELECT count(*) FROM dead_letter_queue")
    assert 0 < left[0] <= 150

    second = await deployed.start_processor_service(**SETTINGS)
    # The leases of the one that died run out: that of the replay, and those of the retries in its hands.
    await deployed.processor_rows("UPDATE replays SET due_at = now() WHERE state = 'running'")
    await deployed.processor_rows("UPDATE retry_queue SET due_at = now()")
    async with operator(second) as client:
        finished = await ended(client, replay["id"])

    assert (finished["handled"] + finished["skipped"], finished["failed"], finished["remaining"]) == (
        150,
        0,
        0,
    )
    states = await deployed.processor_rows("SELECT order_id, attempt_count FROM processing_states")
    assert {state["order_id"] for state in states} == set(orders)
    [left] = await deployed.processor_rows("SELECT count(*) FROM dead_letter_queue")
    [waiting] = await deployed.processor_rows("SELECT count(*) FROM retry_queue")
    assert (left[0], waiting[0]) == (0, 0)


async def test_while_the_broker_is_down_answers_are_replayed_and_our_own_events_wait(
    postgres_server: PostgresServer, rabbitmq_url: str, unique_name: str, tmp_path: Path
) -> None:
    target = urlsplit(rabbitmq_url)
    async with TcpProxy(target.hostname or "localhost", target.port or 5672) as proxy:
        login = f"{target.username}:{target.password}@127.0.0.1:{proxy.port}"
        through_proxy = target._replace(netloc=login).geturl()
        async with deployment(
            postgres_server, through_proxy, unique_name, tmp_path, cleanup_url=rabbitmq_url
        ) as deployed:
            service = await deployed.start_order_service(**SETTINGS)
            async with operator(service) as client:
                items = [{"sku": "a", "quantity": 1, "price": 1}]
                for order_id in ("answered", "not-sent"):
                    order = {"order_id": order_id, "customer_id": "c", "items": items}
                    assert (await client.post("/orders", json=order)).status_code == 201
                await deployed.order_rows("DELETE FROM outbox")
                answer = {"order_id": "answered", "status": "success", "fail_reason": None, "version": 2}
                await bury(deployed.order_dsn, "consumer", "order.processed", [answer])
                await bury(deployed.order_dsn, "outbox", "order.created", [created("not-sent")])
                await proxy.cut()

                both = await post(client, "/admin/replays", 201, filter={}, per_second=1000)

                async def is_done() -> bool:
                    return bool((await client.get("/orders/answered")).json()["status"] == "done")

                await eventually(is_done)

                async def only_ours_wait() -> bool:
                    replay = (await client.get(f"/admin/replays/{both['id']}")).json()
                    return (replay["state"], replay["handled"], replay["in_flight"]) == ("running", 1, 1)

                await eventually(only_ours_wait)
                await proxy.restore()
                await deployed.start_processor_service(**SETTINGS)
                finished = await ended(client, both["id"])
            await deployed.settled()

    assert (finished["handled"], finished["failed"]) == (2, 0)


async def test_a_pause_leaves_everything_in_the_queue_and_nothing_with_a_consumer(
    deployed: Deployment, rabbitmq_url: str
) -> None:
    """So that RabbitMQ's consumer timeout, which closes channels that acknowledge too late, has no aim."""
    orders = await deployed.start_order_service(**SETTINGS)
    processors = [await deployed.start_processor_service(**SETTINGS) for _ in range(2)]

    async def in_queue() -> tuple[int, int]:
        async with await aio_pika.connect(rabbitmq_url) as connection, connection.channel() as channel:
            queue = await channel.declare_queue(deployed.processor_queue, passive=True)
            result = queue.declaration_result
            return result.message_count or 0, result.consumer_count or 0

    async def submit(*numbers: int) -> None:
        for number in numbers:
            order = {"order_id": f"o{number}", "customer_id": "c"}
            order |= {"items": [{"sku": "a", "quantity": 1, "price": 1}]}  # type: ignore[dict-item]
            assert (await client.post("/orders", json=order)).status_code == 201

    async with operator(orders) as client, operator(processors[0]) as processor:
        await submit(0, 1)
        await deployed.settled()
        await post(processor, "/admin/consuming/pause", reason="the policy is broken")

        async def nobody_consumes() -> bool:
            return (await in_queue())[1] == 0

        await eventually(nobody_consumes)
        await submit(*range(2, 20))

        async def all_are_there() -> bool:
            return await in_queue() == (18, 0)

        await eventually(all_are_there)
        assert [await process.is_ready() for process in processors] == [True, True]
        assert (await deployed.processor_rows("SELECT count(*) FROM processing_states"))[0][0] == 2
        processors[1].kill()
        await processors[1].wait()
        await processors[1].start()

        await post(processor, "/admin/consuming/resume", reason="mended")
        await deployed.settled()

    states = await deployed.processor_rows("SELECT count(*) FROM processing_states WHERE attempt_count = 1")
    assert states[0][0] == 20

"""Data that the first version left behind, in whatever state, is taken over by the present one."""

import json
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest

from acceptance.deployment import Deployment, Schemas, deployment
from acceptance.http_client import request
from acceptance.processes import COMMANDS, plain_environment
from acceptance.test_commands import run
from order_service.main import MIGRATIONS as ORDER_MIGRATIONS
from processor_service.main import MIGRATIONS as PROCESSOR_MIGRATIONS
from service_kit.testing.eventually import eventually
from service_kit.testing.postgres_server import Migrate, PostgresServer

ROOT = Path(__file__).parent.parent
TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"
ITEMS = json.dumps([{"sku": "mouse", "quantity": 2, "price": 25.5}])

# Each order is named after the place where its way had ended when the first version was stopped.
PENDING = (
    "in the outbox",
    "in the outbox, rejected once",
    "set aside by the relay",
    "lost by the broker",
    "waiting for a retry",
    "set aside by the processor",
    "decided, the answer in the outbox",
    "decided, the answer lost",
    "answered, waiting for a retry",
    "answered, set aside",
)
FINAL = {"done before": ("done", 2, None), "failed before": ("failed", 2, "Too fatty food")}
LONG_AGO = frozenset({"lost by the broker", "decided, the answer lost"})
"""The reconciler's: all others are too young for it, and have to be found where they wait."""

ORDER = """
INSERT INTO orders (order_id, customer_id, items, amount, status, version, fail_reason, created_at)
VALUES ($1, 'customer-1', $2::jsonb, 51, $3, $4, $5, now() - $6 * interval '1 h')
"""
OUTBOX = "INSERT INTO outbox (event_type, payload, traceparent, attempts) VALUES ($1, $2::jsonb, $3, $4)"
INBOX = "INSERT INTO processed_inbox (event_key) VALUES ($1)"
RETRY = """
INSERT INTO retry_queue (event_key, event_type, body, message_id, headers, attempts, last_error, due_at)
VALUES ($1, $2, convert_to($3, 'UTF8'), 'a-message', $4::jsonb, 3, 'it was a bad day', now())
"""
DEAD = """
INSERT INTO dead_letter_queue
    (event_key, original_event_type, payload, body, message_id, headers, failure_reason, attempts, source)
VALUES ($1, $2, $3::text::jsonb, convert_to($3::text, 'UTF8'), gen_random_uuid()::text, $4::jsonb, 'gave up',
        10, $5)
"""
STATE = """
INSERT INTO processing_states (order_id, version, status, fail_reason, attempt_count)
VALUES ($1, 1, $2, $3, 1)
"""
HEADERS = json.dumps({"traceparent": TRACEPARENT})


def _upgraded_to(revision: str, folder: str) -> Migrate:
    """By the command, as it was then."""

    def migrate(dsn: str) -> None:
        environment = plain_environment() | {"APP__DB_DSN": dsn}
        command = [sys.executable, "-m", "alembic", "upgrade", revision]
        subprocess.run(command, cwd=ROOT / folder, env=environment, check=True, capture_output=True)

    return migrate


FIRST = Schemas(
    name="the first",
    order=_upgraded_to("order_0001", "order-service"),
    processor=_upgraded_to("processor_0001", "processor-service"),
)


@pytest.fixture
async def left_behind(
    postgres_server: PostgresServer, rabbitmq_url: str, unique_name: str, tmp_path: Path
) -> AsyncIterator[Deployment]:
    """Databases of the first version, with orders in every state."""
    async with deployment(postgres_server, rabbitmq_url, unique_name, tmp_path, schemas=FIRST) as deployed:
        await _fill_orders(deployed.order_dsn)
        await _fill_processor(deployed.processor_dsn)
        yield deployed


async def test_everything_that_the_first_version_left_behind_becomes_final(left_behind: Deployment) -> None:
    await left_behind.start_processor_service()
    service = await left_behind.start_order_service(APP__RECONCILE_AFTER_SECONDS="1800")
    await _replay_everything("order-service", left_behind.order_dsn, letters=2)
    await _replay_everything("processor-service", left_behind.processor_dsn, letters=1)

    await left_behind.settled()

    outcomes = {order_id: await _outcome(service.url, order_id) for order_id in (*PENDING, *FINAL)}
    assert outcomes == dict.fromkeys(PENDING, ("done", 2, None)) | FINAL
    states = await left_behind.processor_rows("SELECT order_id FROM processing_states WHERE version = 1")
    # Nobody was told of the answered ones again: their results were found.
    answered = {order_id for order_id in PENDING if order_id.startswith("answered")}
    assert {row["order_id"] for row in states} == {*PENDING, *FINAL} - answered
    await eventually(lambda: _nothing_waits(left_behind))


async def test_both_databases_are_brought_to_the_newest_schema(left_behind: Deployment) -> None:
    await left_behind.start_processor_service()
    await left_behind.start_order_service()
    revision = "SELECT version_num FROM alembic_version"
    [[order]] = await left_behind.order_rows(revision)
    [[processor]] = await left_behind.processor_rows(revision)
    assert order == await ORDER_MIGRATIONS.upgrade(left_behind.order_dsn)
    assert processor == await PROCESSOR_MIGRATIONS.upgrade(left_behind.processor_dsn)


async def _replay_everything(command: str, dsn: str, *, letters: int) -> None:
    arguments = ("dead-letters", "replay", "--all")
    replayed = await run(COMMANDS / command, *arguments, settings={"APP__DB_DSN": dsn})
    assert (replayed.code, replayed.output.strip(), replayed.errors) == (0, f"{letters} replayed", [])


async def _nothing_waits(deployed: Deployment) -> bool:
    waiting = "SELECT 1 FROM retry_queue UNION ALL SELECT 1 FROM dead_letter_queue"
    return not (await deployed.order_rows(waiting) or await deployed.processor_rows(waiting))


async def _outcome(url: str, order_id: str) -> tuple[str, int, str | None]:
    order = (await request("GET", f"{url}/orders/{order_id.replace(' ', '%20')}")).json()
    return order["status"], order["version"], order["fail_reason"]


async def _fill_orders(dsn: str) -> None:
    connection = await asyncpg.connect(dsn)
    for order_id in PENDING:
        await connection.execute(ORDER, order_id, ITEMS, "pending", 1, None, 1 if order_id in LONG_AGO else 0)
    for order_id, outcome in FINAL.items():
        await connection.execute(ORDER, order_id, ITEMS, *outcome, 1)
        await connection.execute(INBOX, f"order.processed:{order_id}:2")
    for order_id, traceparent, attempts in (
        ("in the outbox", TRACEPARENT, 0),
        ("in the outbox, rejected once", None, 1),
    ):
        await connection.execute(OUTBOX, "order.created", _created(order_id), traceparent, attempts)
    letter = "outbox:a-message", "order.created", _created("set aside by the relay"), HEADERS
    await connection.execute(DEAD, *letter, "outbox")
    await connection.execute(RETRY, *_failed_result("answered, waiting for a retry"))
    await connection.execute(DEAD, *_failed_result("answered, set aside"), "consumer")
    await connection.close()


async def _fill_processor(dsn: str) -> None:
    connection = await asyncpg.connect(dsn)
    decided = {order_id: ("done", None) for order_id in PENDING if order_id.startswith("decided")}
    before = {order_id: (status, fail_reason) for order_id, (status, _, fail_reason) in FINAL.items()}
    for order_id, outcome in (decided | before).items():
        await connection.execute(STATE, order_id, *outcome)
        await connection.execute(INBOX, f"order.created:{order_id}:1")
    answer = _processed("decided, the answer in the outbox")
    await connection.execute(OUTBOX, "order.processed", answer, TRACEPARENT, 0)
    await connection.execute(RETRY, *_failed_order("waiting for a retry"))
    await connection.execute(DEAD, *_failed_order("set aside by the processor"), "consumer")
    await connection.close()


def _failed_order(order_id: str) -> tuple[str, str, str, str]:
    return f"order.created:{order_id}:1", "order.created", _created(order_id), HEADERS


def _failed_result(order_id: str) -> tuple[str, str, str, str]:
    return f"order.processed:{order_id}:2", "order.processed", _processed(order_id), HEADERS


def _created(order_id: str) -> str:
    body = {"order_id": order_id, "customer_id": "customer-1", "amount": 51, "version": 1}
    return json.dumps(body | {"items": json.loads(ITEMS)})


def _processed(order_id: str) -> str:
    return json.dumps({"order_id": order_id, "status": "success", "fail_reason": None, "version": 2})

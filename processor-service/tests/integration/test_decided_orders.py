"""States, keys and answers on real PostgreSQL: the guards stand in SQL."""

import asyncio
import json
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from random import Random
from typing import Any

import asyncpg
import jsonschema
import pytest

from processor_service.application.ports import Answer, OrderToProcess, ProcessingState
from processor_service.application.process_orders import Processed, process_orders
from processor_service.domain.decision import Decision, approve, reject
from processor_service.domain.order import Item, Order, OrderId
from processor_service.domain.rules import Ruleset
from processor_service.infrastructure.policies import RulesetPolicy
from processor_service.infrastructure.unit_of_work import (
    PostgresDecidedOrders,
    ProcessingUnitOfWork,
    order_processed,
)
from service_kit.lifecycle import Wakeup
from service_kit.postgres.database import Database
from service_kit.testing.eventually import eventually

APPROVED = approve()
TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
TRACEPARENT = f"00-{TRACE_ID}-b7ad6b7169203331-01"
HARD_TEXTS = ["заказ", "🍕" * 255, "'; DROP TABLE outbox; --", 'a\\b"c', "{a,b}", "NULL", " "]
WAITERS = """
SELECT count(*) FROM pg_locks
WHERE NOT granted AND pid IN (SELECT pid FROM pg_stat_activity WHERE datname = current_database())
"""


def state(
    order_id: str = "o-1",
    version: int = 1,
    decision: Decision = APPROVED,
    attempt_count: int = 1,
    last_error: str | None = None,
) -> ProcessingState:
    return ProcessingState(
        order_id=OrderId(order_id),
        version=version,
        decision=decision,
        attempt_count=attempt_count,
        last_error=last_error,
    )


def received(order_id: str, *skus: str, version: int = 1) -> OrderToProcess:
    items = tuple(Item(sku=sku) for sku in skus)
    return OrderToProcess(
        key=f"order.created:{order_id}:{version}",
        order=Order(order_id=OrderId(order_id), customer_id=None, items=items, amount=None, version=version),
        attempt=1,
        last_error=None,
        traceparent=TRACEPARENT,
        event=b"{}",
        received_at=0.0,
    )


def unit_of_work(database: Database) -> ProcessingUnitOfWork:
    return ProcessingUnitOfWork(database, Wakeup(), Random(1))


@pytest.fixture
def uow(database: Database) -> ProcessingUnitOfWork:
    return unit_of_work(database)


async def save(uow: ProcessingUnitOfWork, *states: ProcessingState) -> set[OrderId]:
    async with uow:
        saved = await uow.states.save(states)
        await uow.commit()
    return saved


async def find(database: Database, *order_ids: str) -> dict[str, ProcessingState]:
    states = await PostgresDecidedOrders(database).find([OrderId(order_id) for order_id in order_ids])
    return {str(order_id): state for order_id, state in states.items()}


async def process(database: Database, *items: OrderToProcess) -> list[Any]:
    policy = RulesetPolicy(Ruleset(), Random(1))
    return await process_orders(items, policy, PostgresDecidedOrders(database), unit_of_work(database))


async def answers(connection: asyncpg.Connection) -> list[dict[str, Any]]:
    return [
        json.loads(record["body"])
        for record in await connection.fetch("SELECT payload::text AS body FROM outbox")
    ]


async def test_states_are_found_as_they_were_saved(uow: ProcessingUnitOfWork, database: Database) -> None:
    done, failed = state("a", 3, attempt_count=2, last_error="slept"), state("b", decision=reject("why"))

    assert await save(uow, done, failed) == {"a", "b"}
    assert await find(database, "a", "b", "c") == {"a": done, "b": failed}
    assert await find(database) == {}


async def test_a_state_is_a_row_that_its_users_can_query(
    uow: ProcessingUnitOfWork, connection: asyncpg.Connection
) -> None:
    await save(
        uow,
        state("a", 3, attempt_count=2, last_error="slept"),
        state("b", decision=reject("why"), last_error="why"),
    )

    records = await connection.fetch(
        "SELECT order_id, version, status, attempt_count, last_error FROM processing_states ORDER BY order_id"
    )

    assert [tuple(record) for record in records] == [
        ("a", 3, "done", 2, "slept"),
        ("b", 1, "failed", 1, "why"),
    ]


HOW = "received_at, decided_by, rule, sku, ruleset_version, event"


async def test_how_an_order_was_decided_is_stored_with_the_decision(
    database: Database, connection: asyncpg.Connection
) -> None:
    item = replace(
        received("a", "laptop", "potato"),
        event=b'{"order_id": "a"}',
        received_at=asyncio.get_running_loop().time() - 60,
    )
    policy = RulesetPolicy(Ruleset(), Random(1))
    uow = ProcessingUnitOfWork(database, Wakeup(), Random(1), instance="p-1")

    await process_orders([item], policy, PostgresDecidedOrders(database), uow)

    row = await connection.fetchrow(f"SELECT {HOW}, decided_at - received_at AS took FROM processing_states")
    assert row is not None
    assert (row["decided_by"], row["rule"], row["sku"]) == ("p-1", 2, "potato")
    assert (row["ruleset_version"], row["event"]) == (Ruleset().version, b'{"order_id": "a"}')
    assert timedelta(seconds=60) <= row["took"] < timedelta(seconds=600)


async def test_a_newer_decision_replaces_how_it_was_decided_too(
    uow: ProcessingUnitOfWork, connection: asyncpg.Connection
) -> None:
    first = Decision("why", rule=1, sku="a", ruleset_version="v1")
    await save(uow, replace(state(version=1, decision=first), event=b"1", received_at=0.0))

    await save(uow, replace(state(version=2), event=b"2"))

    row = await connection.fetchrow(f"SELECT {HOW} FROM processing_states")
    assert row is not None and tuple(row) == (None, None, None, None, None, b"2")


@pytest.mark.parametrize("version", [1, 2, 3])
async def test_a_version_that_is_not_newer_changes_nothing(
    uow: ProcessingUnitOfWork, database: Database, version: int
) -> None:
    stored = state(version=3, decision=reject("first"))
    await save(uow, stored)

    assert await save(uow, state(version=version)) == set()
    assert await find(database, "o-1") == {"o-1": stored}


async def test_a_newer_version_replaces_everything(uow: ProcessingUnitOfWork, database: Database) -> None:
    await save(uow, state(version=1, decision=reject("first"), attempt_count=5, last_error="first"))

    assert await save(uow, state(version=2)) == {"o-1"}
    assert await find(database, "o-1") == {"o-1": state(version=2)}


async def test_nothing_to_save_is_nothing_saved(uow: ProcessingUnitOfWork) -> None:
    assert await save(uow) == set()


@pytest.mark.parametrize("text", HARD_TEXTS)
async def test_any_text_is_stored_as_it_is(uow: ProcessingUnitOfWork, database: Database, text: str) -> None:
    kept = state(text, decision=reject(text), last_error=text)

    await save(uow, kept)

    assert await find(database, text) == {text: kept}


async def test_leaving_without_commit_rolls_everything_back(
    uow: ProcessingUnitOfWork, database: Database, connection: asyncpg.Connection
) -> None:
    async with uow:
        await uow.inbox.accept(["order.created:o-1:1"])
        await uow.states.save([state()])
        await uow.outbox.add([Answer(state(), None)])

    assert await find(database, "o-1") == {}
    assert (
        await connection.fetchval(
            "SELECT (SELECT count(*) FROM outbox) + (SELECT count(*) FROM processed_inbox)"
        )
        == 0
    )


async def test_an_order_is_decided_stored_and_answered_at_once(
    database: Database, connection: asyncpg.Connection
) -> None:
    outcomes = await process(database, received("a", "laptop"), received("b", "teapot", version=4))

    assert outcomes == [Processed.DECIDED, Processed.DECIDED]
    assert await answers(connection) == [
        {"order_id": "a", "status": "success", "fail_reason": None, "version": 2},
        {"order_id": "b", "status": "failed", "fail_reason": "Pineapple/teapot embargo", "version": 5},
    ]


async def test_a_duplicate_is_answered_with_the_same_bytes_as_a_new_message(
    database: Database, connection: asyncpg.Connection
) -> None:
    await process(database, received("a", "teapot"))

    assert await process(database, received("a", "laptop")) == [Processed.REPEATED]

    assert await connection.fetchval("SELECT count(*) FROM outbox") == 2
    assert await connection.fetchval("SELECT count(DISTINCT (event_type, payload)) FROM outbox") == 1
    assert await connection.fetchval("SELECT count(DISTINCT message_id) FROM outbox") == 2


async def test_a_concurrent_duplicate_waits_for_the_first_and_then_changes_nothing(
    uow: ProcessingUnitOfWork, database: Database, connection: asyncpg.Connection
) -> None:
    async def somebody_waits() -> bool:
        return bool(await connection.fetchval(WAITERS))

    async with uow:
        await uow.inbox.accept([received("a").key])
        await uow.states.save([state("a", decision=reject("first"))])
        second = asyncio.create_task(process(database, received("a", "laptop")))
        await eventually(somebody_waits)
        await uow.commit()

    assert await second == [Processed.IGNORED]
    assert await find(database, "a") == {"a": state("a", decision=reject("first"))}
    assert await answers(connection) == []


async def test_overlapping_batches_in_opposite_order_do_not_deadlock(
    database: Database, connection: asyncpg.Connection
) -> None:
    """A third party holds the order in the middle until both batches have got as far as they can."""

    async def waiting(count: int) -> bool:
        return bool(await connection.fetchval(WAITERS) == count)

    states = [state(order_id) for order_id in "abc"]
    third = unit_of_work(database)
    async with third:
        await third.states.save([state("b")])
        upwards = asyncio.create_task(save(unit_of_work(database), *states))
        await eventually(lambda: waiting(1))
        downwards = asyncio.create_task(save(unit_of_work(database), *reversed(states)))
        await eventually(lambda: waiting(2))

    assert sorted([*await upwards, *await downwards]) == ["a", "b", "c"]


async def test_many_concurrent_duplicates_are_decided_once(
    database: Database, connection: asyncpg.Connection
) -> None:
    items = [received(f"o-{number:02}", "laptop") for number in range(50)]

    batches = await asyncio.gather(
        process(database, *items), process(database, *reversed(items)), process(database, *items)
    )

    assert [outcome for batch in batches for outcome in batch].count(Processed.DECIDED) == 50
    assert (
        await connection.fetchval(
            "SELECT count(*) FROM processing_states WHERE version = 1 AND status = 'done'"
        )
        == 50
    )
    assert await connection.fetchval("SELECT count(DISTINCT payload) FROM outbox") == 50


async def test_the_answer_continues_the_trace_of_the_question(
    uow: ProcessingUnitOfWork, connection: asyncpg.Connection
) -> None:
    async with uow:
        await uow.outbox.add(
            [Answer(state("a"), TRACEPARENT), Answer(state("b"), None), Answer(state("c"), "nonsense")]
        )
        await uow.commit()

    records = await connection.fetch("SELECT event_type, traceparent FROM outbox ORDER BY id")

    assert {record["event_type"] for record in records} == {"order.processed"}
    first, second, third = (record["traceparent"] for record in records)
    assert first.startswith(f"00-{TRACE_ID}-") and first != TRACEPARENT
    assert second.startswith("00-") and third.startswith("00-") and second != third


async def test_only_a_commit_that_wrote_answers_wakes_the_relay(database: Database) -> None:
    woken: list[str] = []

    class RecordingWakeup(Wakeup):
        def notify(self) -> None:
            woken.append("relay")

    uow = ProcessingUnitOfWork(database, RecordingWakeup(), Random(1))
    await save(uow, state("a"))
    assert woken == []

    async with uow:
        await uow.outbox.add([Answer(state("a"), None)])
        await uow.commit()
    assert woken == ["relay"]


@pytest.mark.parametrize("decision", [APPROVED, reject("Too fatty food 🍟")], ids=["success", "failure"])
def test_the_body_of_the_answer_validates_against_its_schema(
    contracts_folder: Path, decision: Decision
) -> None:
    text = (contracts_folder / "messages" / "order.processed.sent.schema.json").read_text(encoding="utf-8")

    body = json.loads(order_processed(state(decision=decision)))

    jsonschema.Draft202012Validator(json.loads(text)).validate(body)

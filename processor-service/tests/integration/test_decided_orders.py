"""States, keys and answers on real PostgreSQL: the guards stand in SQL."""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from itertools import count
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
from processor_service.infrastructure.decided_orders import (
    RECORD,
    PostgresDecidedOrders,
    order_processed,
)
from processor_service.infrastructure.policies import RulesetPolicy
from service_kit.lifecycle import Wakeup
from service_kit.postgres.database import PLANS_BY_INDEX, Database
from service_kit.testing.shared_postgres import SharedPostgres
from service_kit.testing.transactions_conformance import OnConnection, begun, started

APPROVED = approve()
TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
TRACEPARENT = f"00-{TRACE_ID}-b7ad6b7169203331-01"
HARD_TEXTS = ["заказ", "🍕" * 255, "'; DROP TABLE outbox; --", 'a\\b"c', "{a,b}", "NULL", " "]


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


def orders_in(database: Database) -> PostgresDecidedOrders:
    return PostgresDecidedOrders(database, Wakeup(), Random(1))


@pytest.fixture
def shared(database: Database, connection: asyncpg.Connection) -> SharedPostgres:
    return SharedPostgres(database, connection)


async def record(database: Database, keys: Sequence[str], *states: ProcessingState) -> set[OrderId]:
    decided = {key: Answer(state, None) for key, state in zip(keys, states, strict=True)}
    return await orders_in(database).record(decided, [])


_numbers = count()


async def save(database: Database, *states: ProcessingState) -> set[OrderId]:
    """Each by an event of its own, so that the states alone matter."""
    return await record(database, [f"event-{next(_numbers)}" for _ in states], *states)


async def find(database: Database, *order_ids: str) -> dict[str, ProcessingState]:
    states = await orders_in(database).find([OrderId(order_id) for order_id in order_ids])
    return {str(order_id): state for order_id, state in states.items()}


async def process(database: Database, *items: OrderToProcess) -> list[Any]:
    return await process_orders(items, RulesetPolicy(Ruleset(), Random(1)), orders_in(database))


async def answers(connection: asyncpg.Connection) -> list[dict[str, Any]]:
    return [
        json.loads(record["body"])
        for record in await connection.fetch("SELECT payload::text AS body FROM outbox")
    ]


async def test_states_are_found_as_they_were_saved(database: Database) -> None:
    done, failed = state("a", 3, attempt_count=2, last_error="slept"), state("b", decision=reject("why"))

    assert await save(database, done, failed) == {"a", "b"}
    assert await find(database, "a", "b", "c") == {"a": done, "b": failed}
    assert await find(database) == {}


async def test_a_state_is_a_row_that_its_users_can_query(
    database: Database, connection: asyncpg.Connection
) -> None:
    await save(
        database,
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
    orders = PostgresDecidedOrders(database, Wakeup(), Random(1), instance="p-1")

    await process_orders([item], RulesetPolicy(Ruleset(), Random(1)), orders)

    row = await connection.fetchrow(f"SELECT {HOW}, decided_at - received_at AS took FROM processing_states")
    assert row is not None
    assert (row["decided_by"], row["rule"], row["sku"]) == ("p-1", 2, "potato")
    assert (row["ruleset_version"], row["event"]) == (Ruleset().version, b'{"order_id": "a"}')
    assert timedelta(seconds=60) <= row["took"] < timedelta(seconds=600)


async def test_a_newer_decision_replaces_how_it_was_decided_too(
    database: Database, connection: asyncpg.Connection
) -> None:
    first = Decision("why", rule=1, sku="a", ruleset_version="v1")
    await save(database, replace(state(version=1, decision=first), event=b"1", received_at=0.0))

    await save(database, replace(state(version=2), event=b"2"))

    row = await connection.fetchrow(f"SELECT {HOW} FROM processing_states")
    assert row is not None and tuple(row) == (None, None, None, None, None, b"2")


@pytest.mark.parametrize("version", [1, 2, 3])
async def test_a_version_that_is_not_newer_changes_nothing(database: Database, version: int) -> None:
    stored = state(version=3, decision=reject("first"))
    await save(database, stored)

    assert await save(database, state(version=version)) == set()
    assert await find(database, "o-1") == {"o-1": stored}


async def test_a_newer_version_replaces_everything(database: Database) -> None:
    await save(database, state(version=1, decision=reject("first"), attempt_count=5, last_error="first"))

    assert await save(database, state(version=2)) == {"o-1"}
    assert await find(database, "o-1") == {"o-1": state(version=2)}


async def test_nothing_to_save_is_nothing_saved(database: Database) -> None:
    assert await save(database) == set()


@pytest.mark.parametrize("text", HARD_TEXTS)
async def test_any_text_is_stored_as_it_is(database: Database, text: str) -> None:
    kept = state(text, decision=reject(text), last_error=text)

    await save(database, kept)

    assert await find(database, text) == {text: kept}


async def test_what_cannot_be_stored_takes_the_whole_batch_with_it(
    database: Database, connection: asyncpg.Connection
) -> None:
    too_long = state("b" + Random(0).randbytes(5000).hex())
    with pytest.raises(asyncpg.ProgramLimitExceededError):
        await record(database, ["k", "l"], state("a"), too_long)

    assert await find(database, "a") == {}
    assert await answers(connection) == []
    assert await record(database, ["k"], state("a")) == {"a"}


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
    shared: SharedPostgres, database: Database, connection: asyncpg.Connection
) -> None:
    first = state("a", decision=reject("first"))
    async with begun(shared) as session:
        await record(OnConnection(session.connection), [received("a").key], first)
        second = await started(shared, process(database, received("a", "laptop")))
        await session.commit()

    assert await second == [Processed.IGNORED]
    assert await find(database, "a") == {"a": first}
    assert [answer["fail_reason"] for answer in await answers(connection)] == ["first"]


async def test_overlapping_batches_in_opposite_order_do_not_deadlock(
    shared: SharedPostgres, database: Database
) -> None:
    """A third party holds the order in the middle until both batches have got as far as they can."""
    states = [state(order_id) for order_id in "abc"]
    async with begun(shared) as third:
        await save(OnConnection(third.connection), state("b"))
        upwards = await started(shared, save(database, *states))
        downwards = await started(shared, save(database, *reversed(states)))

    assert sorted([*await upwards, *await downwards]) == ["a", "b", "c"]


async def test_all_keys_are_taken_before_the_first_state(
    shared: SharedPostgres, database: Database, connection: asyncpg.Connection
) -> None:
    """Who waits for a key holds no state, whatever the order of the two: so there is no deadlock."""
    async with begun(shared) as third:
        await record(OnConnection(third.connection), ["z"], state("c"))
        waiting = await started(shared, record(database, ["a", "z"], state("a"), state("b")))
        assert await save(database, state("a", 7)) == {"a"}

    assert await waiting == {"b"}


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
    database: Database, connection: asyncpg.Connection
) -> None:
    decided = {"1": Answer(state("a"), TRACEPARENT), "2": Answer(state("b"), None)}
    await orders_in(database).record(decided, [Answer(state("c"), "nonsense")])

    records = await connection.fetch("SELECT event_type, traceparent FROM outbox ORDER BY id")

    assert {record["event_type"] for record in records} == {"order.processed"}
    first, second, third = (record["traceparent"] for record in records)
    assert first.startswith(f"00-{TRACE_ID}-") and first != TRACEPARENT
    assert second.startswith("00-") and third.startswith("00-") and second != third


async def test_only_a_commit_that_wrote_answers_wakes_the_relay(
    database: Database, connection: asyncpg.Connection
) -> None:
    woken: list[int] = []

    class RecordingWakeup(Wakeup):
        def notify(self) -> None:
            woken.append(1)

    orders = PostgresDecidedOrders(database, RecordingWakeup(), Random(1))
    answer = Answer(state("a"), None)
    await orders.record({"k": answer}, [])
    assert len(woken) == 1
    await orders.record({"k": answer, "l": answer}, [])
    assert len(woken) == 1
    await orders.record({}, [answer])
    assert len(woken) == 2
    assert len(await answers(connection)) == 2


@pytest.mark.parametrize("plans", ["force_generic_plan", "force_custom_plan"])
async def test_no_order_of_a_batch_is_compared_with_every_other(dsn: str, plans: str) -> None:
    """Joins that hash are off in our sessions, and a nested loop would be quadratic in the batch."""
    session = await asyncpg.connect(dsn, server_settings=PLANS_BY_INDEX | {"plan_cache_mode": plans})
    await session.execute(f"PREPARE record AS {RECORD}")
    given = "'{k}', '{a}', '{1}', '{done}', '{NULL}', '{1}', '{NULL}', '{NULL}', '{NULL}', '{NULL}', '{NULL}'"
    explain = f"EXPLAIN EXECUTE record ({given}, '{{NULL}}', 'p', '{{\"{{}}\"}}', '{{NULL}}')"
    plan = "\n".join(row[0] for row in await session.fetch(explain))
    await session.close()

    assert plan.count("hashed SubPlan") == 2 and "Nested Loop" not in plan and "Join" not in plan, plan


@pytest.mark.parametrize("decision", [APPROVED, reject("Too fatty food 🍟")], ids=["success", "failure"])
def test_the_body_of_the_answer_validates_against_its_schema(
    contracts_folder: Path, decision: Decision
) -> None:
    text = (contracts_folder / "messages" / "order.processed.sent.schema.json").read_text(encoding="utf-8")

    body = json.loads(order_processed(state(decision=decision)))

    jsonschema.Draft202012Validator(json.loads(text)).validate(body)

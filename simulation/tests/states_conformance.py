"""What processor-service's statements do in every database under them, alone and against each other.

A subclass names itself `Test…` and gives the fixture `shared`.
"""

import asyncio
from collections.abc import Sequence
from itertools import count
from random import Random
from typing import Any

import asyncpg
import msgspec
import pytest

from processor_service.application.ports import Answer, OrderToProcess, ProcessingState
from processor_service.application.process_orders import Processed, process_orders
from processor_service.domain.decision import Decision, approve, reject
from processor_service.domain.order import Item, Order, OrderId
from processor_service.domain.rules import Ruleset
from processor_service.infrastructure.decided_orders import PostgresDecidedOrders
from processor_service.infrastructure.policies import RulesetPolicy
from service_kit.lifecycle import Wakeup
from service_kit.postgres.database import Database
from service_kit.postgres.outbox import PostgresOutbox
from service_kit.testing.transactions_conformance import OnConnection, Session, SharedDatabase, begun, started

HARD_TEXTS = ["заказ", "🍕" * 255, "'; DROP TABLE outbox; --", 'a\\b"c', "{a,b}", "NULL", " "]
APPROVED = approve()


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
        traceparent=None,
        event=b"{}",
        received_at=0.0,
    )


class StatesConformance:
    # states

    async def test_states_are_found_as_they_were_saved(self, shared: SharedDatabase) -> None:
        done = state("a", 3, attempt_count=2, last_error="slept")
        failed = state("b", decision=reject("why"))
        assert await save(shared, done, failed) == {"a", "b"}
        assert await find(shared, "a", "b", "c") == {"a": done, "b": failed}
        assert await find(shared) == {}

    @pytest.mark.parametrize("text", HARD_TEXTS)
    async def test_any_text_is_stored_as_it_is(self, shared: SharedDatabase, text: str) -> None:
        kept = state(text, decision=reject(text), last_error=text)
        assert await save(shared, kept) == {text}
        assert await find(shared, text) == {text: kept}

    @pytest.mark.parametrize("version", [1, 2, 3])
    async def test_a_version_that_is_not_newer_changes_nothing(
        self, shared: SharedDatabase, version: int
    ) -> None:
        first = state(version=3, decision=reject("first"))
        await save(shared, first)
        assert await save(shared, state(version=version)) == set()
        assert await find(shared, "o-1") == {"o-1": first}

    async def test_a_newer_version_replaces_everything(self, shared: SharedDatabase) -> None:
        await save(shared, state(version=1, decision=reject("first"), attempt_count=5, last_error="first"))
        assert await save(shared, state(version=2)) == {"o-1"}
        assert await find(shared, "o-1") == {"o-1": state(version=2)}

    async def test_an_order_cannot_be_decided_twice_in_one_statement_and_then_nothing_happens(
        self, shared: SharedDatabase
    ) -> None:
        keys = ["a", "b", "a again"]
        with pytest.raises(asyncpg.CardinalityViolationError):
            await record(shared, keys, state("a"), state("b"), state("a", 2))
        assert (await find(shared, "a", "b"), await answers(shared)) == ({}, [])
        assert await record(shared, keys, *[state(order_id) for order_id in "abc"]) == {"a", "b", "c"}

    async def test_a_state_that_is_not_newer_is_not_saved_and_so_is_no_second_time(
        self, shared: SharedDatabase
    ) -> None:
        await save(shared, state("a", 1))
        assert await save(shared, state("a", 1), state("a", 2)) == {"a"}
        assert await find(shared, "a") == {"a": state("a", 2)}

    async def test_leaving_without_commit_rolls_everything_back(self, shared: SharedDatabase) -> None:
        async with begun(shared) as first:
            assert await record(first, ["k"], state("a")) == {"a"}
            assert await find(shared, "a") == {}
        assert (await find(shared, "a"), await answers(shared)) == ({}, [])
        assert await record(shared, ["k"], state("a")) == {"a"}

    @pytest.mark.parametrize("mine", [1, 2])
    async def test_a_state_waits_for_a_new_one_and_looks_at_its_version(
        self, shared: SharedDatabase, mine: int
    ) -> None:
        async with begun(shared) as first:
            await save(first, state(version=1, decision=reject("first")))
            second = await started(shared, save(shared, state(version=mine)))
            await first.commit()
        assert await second == ({"o-1"} if mine == 2 else set())
        assert (await find(shared, "o-1"))["o-1"].decision == (APPROVED if mine == 2 else reject("first"))
        assert len(await answers(shared)) == mine

    async def test_a_state_waits_for_a_newer_one_and_looks_again_at_the_version(
        self, shared: SharedDatabase
    ) -> None:
        await save(shared, state(version=1))
        async with begun(shared) as first:
            await save(first, state(version=3))
            second = await started(shared, save(shared, state(version=2)))
            await first.commit()
        assert await second == set()
        assert await find(shared, "o-1") == {"o-1": state(version=3)}
        assert [answer["version"] for answer in await answers(shared)] == [2, 4]

    @pytest.mark.parametrize("before", [0, 1])
    async def test_a_state_that_waited_is_saved_after_a_rollback(
        self, shared: SharedDatabase, before: int
    ) -> None:
        if before:
            await save(shared, state(version=before))
        async with begun(shared) as first:
            await save(first, state(version=3))
            second = await started(shared, save(shared, state(version=2)))
        assert await second == {"o-1"}
        assert await find(shared, "o-1") == {"o-1": state(version=2)}

    async def test_a_state_that_was_not_replaced_is_locked_all_the_same(self, shared: SharedDatabase) -> None:
        await save(shared, state(version=2))
        async with begun(shared) as first:
            assert await save(first, state(version=1)) == set()
            newer = await started(shared, save(shared, state(version=3)))
            await first.commit()
        assert await newer == {"o-1"}

    @pytest.mark.parametrize("keys", [("ka", "kb", "kc"), None], ids=["of the same events", "of others"])
    async def test_overlapping_batches_in_opposite_order_do_not_deadlock(
        self, shared: SharedDatabase, keys: Sequence[str] | None
    ) -> None:
        """A third party holds the order in the middle until both batches have got as far as they can."""
        up, down, held = (keys or events(3) for _ in range(3))
        states = [state(order_id) for order_id in "abc"]
        async with begun(shared) as third:
            await record(third, [held[1]], states[1])
            upwards = await started(shared, record(shared, up, *states))
            downwards = await started(shared, record(shared, down[::-1], *states[::-1]))
        assert sorted([*await upwards, *await downwards]) == ["a", "b", "c"]
        assert sorted(answer["order_id"] for answer in await answers(shared)) == ["a", "b", "c"]

    # the whole of a statement

    async def test_an_event_that_has_had_its_effect_has_no_second_one(self, shared: SharedDatabase) -> None:
        await record(shared, ["k"], state("a"))
        assert await record(shared, ["k", "l"], state("a", 2), state("b")) == {"b"}
        assert await find(shared, "a", "b") == {"a": state("a"), "b": state("b")}
        assert [answer["order_id"] for answer in await answers(shared)] == ["a", "b"]

    async def test_an_event_whose_state_is_not_newer_has_had_its_effect(self, shared: SharedDatabase) -> None:
        await save(shared, state(version=2))
        assert await record(shared, ["k"], state(version=1)) == set()
        assert await record(shared, ["k"], state(version=3)) == set()

    async def test_what_was_stored_is_answered_in_order_and_what_is_repeated_after_it(
        self, shared: SharedDatabase
    ) -> None:
        await save(shared, state("b", 2), state("z"))
        repeated = [Answer(state("z", decision=reject("why")), None), Answer(state("b", 7), None)]
        assert await save(shared, state("c"), state("b"), state("a"), again=repeated) == {"a", "c"}
        assert await save(shared, again=repeated[:1]) == set()
        told = [(answer["order_id"], answer["version"]) for answer in await answers(shared)]
        assert told == [("b", 3), ("z", 2), ("c", 2), ("a", 2), ("z", 2), ("b", 8), ("z", 2)]

    @pytest.mark.parametrize("how", ["state", "event"])
    async def test_what_is_stored_while_a_statement_waits_is_looked_at_all_the_same(
        self, shared: SharedDatabase, how: str
    ) -> None:
        """It is newer than the snapshot of the statement, whose first row a third party holds."""
        version = 1 if how == "event" else 3
        meanwhile = state("b", version, decision=reject("meanwhile"))
        async with begun(shared) as third:
            await record(third, ["event of a"], state("a"))
            second = await started(
                shared, record(shared, ["event of a", "event of b"], state("a"), state("b", 2))
            )
            await record(shared, ["event of b" if how == "event" else "another event"], meanwhile)
        assert await second == {"a"}
        assert await find(shared, "a", "b") == {"a": state("a"), "b": meanwhile}
        told = [(answer["order_id"], answer["version"]) for answer in await answers(shared)]
        assert told == [("b", version + 1), ("a", 2)]

    # decisions

    async def test_an_order_is_decided_stored_and_answered_at_once(self, shared: SharedDatabase) -> None:
        outcomes = await process(shared, received("a", "laptop"), received("b", "teapot", version=4))
        assert outcomes == [Processed.DECIDED, Processed.DECIDED]
        assert await answers(shared) == [
            {"order_id": "a", "status": "success", "fail_reason": None, "version": 2},
            {"order_id": "b", "status": "failed", "fail_reason": "Pineapple/teapot embargo", "version": 5},
        ]

    async def test_a_duplicate_is_answered_with_the_same_content(self, shared: SharedDatabase) -> None:
        await process(shared, received("a", "teapot"))
        assert await process(shared, received("a", "laptop")) == [Processed.REPEATED]
        first, second = await answers(shared)
        assert first == second

    async def test_a_concurrent_duplicate_waits_for_the_first_and_then_changes_nothing(
        self, shared: SharedDatabase
    ) -> None:
        first = state("a", decision=reject("first"))
        async with begun(shared) as session:
            await record(session, [received("a").key], first)
            second = await started(shared, process(shared, received("a", "laptop")))
            await session.commit()
        assert await second == [Processed.IGNORED]
        assert await find(shared, "a") == {"a": first}
        assert [answer["fail_reason"] for answer in await answers(shared)] == ["first"]

    async def test_a_concurrent_duplicate_decides_when_the_first_is_rolled_back(
        self, shared: SharedDatabase
    ) -> None:
        async with begun(shared) as session:
            await record(session, [received("a").key], state("a", decision=reject("first")))
            second = await started(shared, process(shared, received("a", "laptop")))
        assert await second == [Processed.DECIDED]
        assert await find(shared, "a") == {"a": state("a")}
        assert [answer["fail_reason"] for answer in await answers(shared)] == [None]

    async def test_many_concurrent_duplicates_are_decided_once(self, shared: SharedDatabase) -> None:
        items = [received(f"o-{number:02}", "laptop") for number in range(30)]
        batches = await asyncio.gather(
            process(shared, *items), process(shared, *reversed(items)), process(shared, *items)
        )
        outcomes = [outcome for batch in batches for outcome in batch]
        assert outcomes.count(Processed.DECIDED) == 30
        told = await answers(shared)
        assert len({answer["order_id"] for answer in told}) == 30
        assert len(told) == 30 + outcomes.count(Processed.REPEATED)


_numbers = count()


def events(number: int) -> list[str]:
    """The keys of so many events that nobody has heard of."""
    return [f"event-{next(_numbers):06}" for _ in range(number)]


def orders_in(where: SharedDatabase | Session) -> PostgresDecidedOrders:
    database: Database = where.database if not isinstance(where, Session) else OnConnection(where.connection)
    return PostgresDecidedOrders(database, Wakeup(), Random(1))


async def record(
    where: SharedDatabase | Session,
    keys: Sequence[str],
    *states: ProcessingState,
    again: Sequence[Answer] = (),
) -> set[OrderId]:
    answers = [Answer(state, None) for state in states]
    return await orders_in(where).record(dict(zip(keys, answers, strict=True)), again)


async def save(
    where: SharedDatabase | Session, *states: ProcessingState, again: Sequence[Answer] = ()
) -> set[OrderId]:
    """Each by an event of its own, so that the states alone matter."""
    return await record(where, events(len(states)), *states, again=again)


async def find(shared: SharedDatabase, *order_ids: str) -> dict[str, ProcessingState]:
    states = await orders_in(shared).find([OrderId(order_id) for order_id in order_ids])
    return {str(order_id): state for order_id, state in states.items()}


async def process(shared: SharedDatabase, *items: OrderToProcess) -> list[Any]:
    return await process_orders(items, RulesetPolicy(Ruleset(), Random(1)), orders_in(shared))


async def answers(shared: SharedDatabase) -> list[dict[str, Any]]:
    async with PostgresOutbox(shared.database, random=Random(0)).claim(1000) as claim:
        return [msgspec.json.decode(row.payload) for row in claim.rows]

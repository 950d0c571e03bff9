"""What processor-service's statements do in every database under them, alone and against each other.

A subclass names itself `Test…` and gives the fixture `shared`.
"""

import asyncio
from random import Random
from typing import Any

import asyncpg
import msgspec
import pytest

from processor_service.application.ports import OrderToProcess, ProcessingState
from processor_service.application.process_orders import Processed, process_orders
from processor_service.domain.decision import Decision, approve, reject
from processor_service.domain.order import Item, Order, OrderId
from processor_service.domain.rules import Ruleset
from processor_service.infrastructure.policies import RulesetPolicy
from processor_service.infrastructure.unit_of_work import PostgresDecidedOrders, ProcessingUnitOfWork
from service_kit.lifecycle import Wakeup
from service_kit.postgres.outbox import PostgresOutbox
from service_kit.testing.transactions_conformance import SharedDatabase, started

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

    async def test_a_state_cannot_be_saved_twice_in_one_statement(self, shared: SharedDatabase) -> None:
        with pytest.raises(asyncpg.CardinalityViolationError):
            await save(shared, state("a"), state("b"), state("a", 2))
        assert await find(shared, "a", "b") == {}

    async def test_a_state_that_is_not_newer_is_not_saved_and_so_is_no_second_time(
        self, shared: SharedDatabase
    ) -> None:
        await save(shared, state("a", 1))
        assert await save(shared, state("a", 1), state("a", 2)) == {"a"}
        assert await find(shared, "a") == {"a": state("a", 2)}

    async def test_leaving_without_commit_rolls_everything_back(self, shared: SharedDatabase) -> None:
        async with uow_of(shared) as uow:
            assert await uow.states.save([state("a")]) == {"a"}
            assert await uow.inbox.accept(["k"]) == {"k"}
            assert await find(shared, "a") == {}
        assert await find(shared, "a") == {}
        async with uow_of(shared) as uow:
            assert await uow.inbox.accept(["k"]) == {"k"}

    @pytest.mark.parametrize("mine", [1, 2])
    async def test_a_state_waits_for_a_new_one_and_looks_at_its_version(
        self, shared: SharedDatabase, mine: int
    ) -> None:
        async with uow_of(shared) as uow:
            await uow.states.save([state(version=1, decision=reject("first"))])
            second = await started(shared, save(shared, state(version=mine)))
            await uow.commit()
        assert await second == ({"o-1"} if mine == 2 else set())
        assert (await find(shared, "o-1"))["o-1"].decision == (APPROVED if mine == 2 else reject("first"))

    async def test_a_state_waits_for_a_newer_one_and_looks_again_at_the_version(
        self, shared: SharedDatabase
    ) -> None:
        await save(shared, state(version=1))
        async with uow_of(shared) as uow:
            await uow.states.save([state(version=3)])
            second = await started(shared, save(shared, state(version=2)))
            await uow.commit()
        assert await second == set()
        assert await find(shared, "o-1") == {"o-1": state(version=3)}

    @pytest.mark.parametrize("before", [0, 1])
    async def test_a_state_that_waited_is_saved_after_a_rollback(
        self, shared: SharedDatabase, before: int
    ) -> None:
        if before:
            await save(shared, state(version=before))
        async with uow_of(shared) as uow:
            await uow.states.save([state(version=3)])
            second = await started(shared, save(shared, state(version=2)))
        assert await second == {"o-1"}
        assert await find(shared, "o-1") == {"o-1": state(version=2)}

    async def test_a_state_that_was_not_replaced_is_locked_all_the_same(self, shared: SharedDatabase) -> None:
        await save(shared, state(version=2))
        async with uow_of(shared) as uow:
            assert await uow.states.save([state(version=1)]) == set()
            newer = await started(shared, save(shared, state(version=3)))
            await uow.commit()
        assert await newer == {"o-1"}

    async def test_overlapping_batches_in_opposite_order_do_not_deadlock(
        self, shared: SharedDatabase
    ) -> None:
        """A third party holds the order in the middle until both batches have got as far as they can."""
        states = [state(order_id) for order_id in "abc"]
        async with uow_of(shared) as third:
            await third.states.save([state("b")])
            upwards = await started(shared, save(shared, *states))
            downwards = await started(shared, save(shared, *reversed(states)))
        assert sorted([*await upwards, *await downwards]) == ["a", "b", "c"]

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
        async with uow_of(shared) as uow:
            await uow.inbox.accept([received("a").key])
            await uow.states.save([first])
            second = await started(shared, process(shared, received("a", "laptop")))
            await uow.commit()
        assert await second == [Processed.IGNORED]
        assert await find(shared, "a") == {"a": first}
        assert await answers(shared) == []

    async def test_a_concurrent_duplicate_decides_when_the_first_is_rolled_back(
        self, shared: SharedDatabase
    ) -> None:
        async with uow_of(shared) as uow:
            await uow.inbox.accept([received("a").key])
            await uow.states.save([state("a", decision=reject("first"))])
            second = await started(shared, process(shared, received("a", "laptop")))
        assert await second == [Processed.DECIDED]
        assert await find(shared, "a") == {"a": state("a")}

    async def test_many_concurrent_duplicates_are_decided_once(self, shared: SharedDatabase) -> None:
        items = [received(f"o-{number:02}", "laptop") for number in range(30)]
        batches = await asyncio.gather(
            process(shared, *items), process(shared, *reversed(items)), process(shared, *items)
        )
        assert [outcome for batch in batches for outcome in batch].count(Processed.DECIDED) == 30
        assert len({answer["order_id"] for answer in await answers(shared)}) == 30


def uow_of(shared: SharedDatabase) -> ProcessingUnitOfWork:
    return ProcessingUnitOfWork(shared.database, Wakeup(), Random(1))


async def save(shared: SharedDatabase, *states: ProcessingState) -> set[OrderId]:
    async with uow_of(shared) as uow:
        saved = await uow.states.save(states)
        await uow.commit()
    return saved


async def find(shared: SharedDatabase, *order_ids: str) -> dict[str, ProcessingState]:
    states = await PostgresDecidedOrders(shared.database).find([OrderId(order_id) for order_id in order_ids])
    return {str(order_id): state for order_id, state in states.items()}


async def process(shared: SharedDatabase, *items: OrderToProcess) -> list[Any]:
    policy = RulesetPolicy(Ruleset(), Random(1))
    return await process_orders(items, policy, PostgresDecidedOrders(shared.database), uow_of(shared))


async def answers(shared: SharedDatabase) -> list[dict[str, Any]]:
    async with PostgresOutbox(shared.database, random=Random(0)).claim(1000) as claim:
        return [msgspec.json.decode(row.payload) for row in claim.rows]

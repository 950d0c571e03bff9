"""What order-service's statements do in every database under them, alone and against each other.

A subclass names itself `Test…` and gives the fixture `shared`.
"""

import asyncio
from collections.abc import Iterable, Sequence
from decimal import Decimal
from random import Random
from typing import Protocol

import asyncpg
import msgspec
import pytest

from order_service.application.apply_processed import Applied, apply_processed
from order_service.application.cancel_order import Cancellation, CancelOutcome, cancel_order
from order_service.application.create_orders import Creation, create_orders
from order_service.application.ports import CreateOrder, Finished, ProcessedOrder
from order_service.domain.order import Item, Order, OrderId, Status, new_order
from order_service.infrastructure.intake import PostgresIntake
from order_service.infrastructure.metrics import OrderMetrics
from order_service.infrastructure.reader import PostgresReader
from order_service.infrastructure.reconciler import Reconciler
from order_service.infrastructure.results import PostgresResults
from order_service.infrastructure.unit_of_work import OrderUnitOfWork
from service_kit.errors import DatabaseUnavailable
from service_kit.lifecycle import Wakeup
from service_kit.outbox import OutboxRow
from service_kit.postgres.database import Connection, Database
from service_kit.postgres.outbox import PostgresOutbox
from service_kit.testing.transactions_conformance import OnConnection, SharedDatabase, begun, started

MINUTE = 60.0
HARD_TEXTS = ["заказ", "🍕" * 255, "'; DROP TABLE orders; --", 'a\\b"c', "{a,b}", "NULL", " ", "\u2028"]
HARD_AMOUNTS = ["0.0001", "12.50", "1200", "90000", "999999999999.9999", "900719925474.9931"]


class SharedOrders(SharedDatabase, Protocol):
    async def pass_time(self, seconds: float) -> None:
        """Move everything that is stored into the past, or the clock on."""

    async def logged(self) -> list[tuple[str, str, int, str | None]]:
        """The log of changes: type, order, version and reason of each."""
        ...


def an_order(order_id: str = "a", sku: str = "laptop", price: str = "1") -> Order:
    return new_order(order_id, "c-1", [Item(sku=sku, quantity=2, price=Decimal(price))])


def commands(*orders: Order) -> list[CreateOrder]:
    return [CreateOrder(order=order, traceparent="trace") for order in orders]


def result(order_id: str = "a", version: int = 2, fail_reason: str | None = None) -> ProcessedOrder:
    return ProcessedOrder(
        key=f"order.processed:{order_id}:{version}",
        order_id=OrderId(order_id),
        status=Status.FAILED if fail_reason else Status.DONE,
        fail_reason=fail_reason,
        version=version,
    )


def intake_of(database: Database) -> PostgresIntake:
    return PostgresIntake(database, Wakeup(), OrderMetrics())


def uow_of(shared: SharedOrders) -> OrderUnitOfWork:
    return OrderUnitOfWork(shared.database, Wakeup())


def results_of(shared: SharedOrders) -> PostgresResults:
    return PostgresResults(shared.database)


class OrdersConformance:
    # creating

    async def test_new_orders_are_stored_with_one_event_each(self, shared: SharedOrders) -> None:
        orders = [an_order("b"), an_order("a", price="0.1")]
        assert await create(shared, *orders) == {"a", "b"}
        assert await find(shared, "a", "b", "c") == {"b": orders[0], "a": orders[1]}
        assert await told_of(shared) == ["a", "b"]

    async def test_a_new_order_is_shown_with_the_time_of_its_creation(self, shared: SharedOrders) -> None:
        intake, reader = intake_of(shared.database), PostgresReader(shared.database)
        created = await intake.insert_new(commands(an_order("a"), an_order("b")))
        found, shown = await intake.find([OrderId("a")]), await reader.summaries([OrderId("a"), OrderId("c")])
        assert len(set(created.values())) == 1
        assert shown.keys() == {"a"}
        for order in (found[OrderId("a")], shown[OrderId("a")]):
            assert (order.created_at, order.updated_at) == (created[OrderId("a")], created[OrderId("a")])

    async def test_an_order_that_exists_is_skipped_and_its_event_with_it(self, shared: SharedOrders) -> None:
        await create(shared, an_order("a"))
        assert await create(shared, an_order("a", sku="teapot"), an_order("b")) == {"b"}
        assert await find(shared, "a") == {"a": an_order("a")}
        assert await told_of(shared) == ["a", "b"]

    @pytest.mark.parametrize("text", HARD_TEXTS)
    async def test_any_allowed_text_is_stored_as_it_is(self, shared: SharedOrders, text: str) -> None:
        order = new_order(text, text, [Item(sku=text, quantity=1, price=Decimal(1))])
        await create(shared, order)
        assert await find(shared, text) == {text: order}
        assert await told_of(shared) == [text]

    async def test_amounts_are_exact(self, shared: SharedOrders) -> None:
        items = [Item(sku="s", quantity=3, price=Decimal(price)) for price in HARD_AMOUNTS]
        orders = [new_order("all", "c", items), *(an_order(price, price=price) for price in HARD_AMOUNTS)]
        await create(shared, *orders)
        found = await find(shared, *(order.order_id for order in orders))
        assert [str(found[order.order_id].total_amount) for order in orders] == [
            str(order.total_amount) for order in orders
        ]
        assert found == {order.order_id: order for order in orders}

    async def test_a_new_order_is_seen_by_others_after_its_commit(self, shared: SharedOrders) -> None:
        async with begun(shared) as one:
            here = intake_of(OnConnection(one.connection))
            await here.insert_new(commands(an_order("a")))
            assert [*await here.find([OrderId("a")])] == ["a"]
            assert await find(shared, "a") == {}
            unknown = await apply_processed([result("a")], results_of(shared))
            assert unknown.outcomes == [Applied.UNKNOWN_ORDER]
            await one.commit()
        assert [*await find(shared, "a")] == ["a"]

    async def test_a_duplicate_waits_for_the_first_and_adds_nothing_after_its_commit(
        self, shared: SharedOrders
    ) -> None:
        async with begun(shared) as one:
            await insert(one.connection, an_order("a", sku="teapot"))
            duplicate = await started(shared, create(shared, an_order("a"), an_order("b")))
            await one.commit()
            assert await duplicate == {"b"}
        assert (await find(shared, "a"))["a"].items[0].sku == "teapot"
        assert await told_of(shared) == ["a", "b"]

    async def test_a_duplicate_waits_for_the_first_and_creates_the_order_after_its_rollback(
        self, shared: SharedOrders
    ) -> None:
        async with begun(shared) as one:
            await insert(one.connection, an_order("a", sku="teapot"))
            duplicate = await started(shared, create(shared, an_order("a")))
            await one.rollback()
            assert await duplicate == {"a"}
        assert await find(shared, "a") == {"a": an_order("a")}
        assert await told_of(shared) == ["a"]

    async def test_a_duplicate_creates_the_order_when_the_connection_of_the_first_is_lost(
        self, shared: SharedOrders
    ) -> None:
        async with begun(shared) as one:
            await insert(one.connection, an_order("a"))
            duplicate = await started(shared, create(shared, an_order("a")))
            await shared.lose(one.connection)
            one.abandon()
            assert await duplicate == {"a"}
        assert await told_of(shared) == ["a"]

    async def test_an_order_that_is_only_locked_is_a_duplicate_at_once(self, shared: SharedOrders) -> None:
        await create(shared, an_order("a"))
        async with begun(shared) as one:
            await lock(one.connection, "a")
            assert await create(shared, an_order("a")) == set()

    async def test_an_order_that_is_being_changed_is_a_duplicate_after_the_change(
        self, shared: SharedOrders
    ) -> None:
        await create(shared, an_order("a"))
        async with begun(shared) as one:
            await finish_on(one.connection, result("a"))
            duplicate = await started(shared, create(shared, an_order("a")))
            await one.commit()
            assert await duplicate == set()

    async def test_overlapping_batches_in_opposite_order_do_not_deadlock(self, shared: SharedOrders) -> None:
        """A third party holds the id in the middle until both batches have got as far as they can."""
        orders = [an_order(order_id) for order_id in "abc"]
        async with begun(shared) as third:
            await insert(third.connection, an_order("b"))
            upwards = await started(shared, create(shared, *orders))
            downwards = await started(shared, create(shared, *reversed(orders)))
            await third.rollback()
            assert sorted([*await upwards, *await downwards]) == ["a", "b", "c"]
        assert await told_of(shared) == ["a", "b", "c"]

    async def test_of_many_concurrent_contents_one_wins_and_all_others_conflict_with_it(
        self, shared: SharedOrders
    ) -> None:
        intake = intake_of(shared.database)
        batches = [commands(an_order("a", price=str(number + 1))) for number in range(20)]
        outcomes = [
            outcome
            for [outcome] in await asyncio.gather(*(create_orders(batch, intake) for batch in batches))
        ]
        creations = [outcome.creation for outcome in outcomes]
        assert (creations.count(Creation.CREATED), creations.count(Creation.CONFLICT)) == (1, 19)
        assert len({outcome.order.total_amount for outcome in outcomes}) == 1
        assert await told_of(shared) == ["a"]

    # results

    async def test_a_result_moves_its_order(self, shared: SharedOrders) -> None:
        await create(shared, an_order("a"), an_order("b"))
        applied = await apply_processed([result("a"), result("b", fail_reason="🍟")], results_of(shared))
        assert applied.outcomes == [Applied.APPLIED, Applied.APPLIED]
        assert await stored(shared, "a") == (Status.DONE, 2, None)
        assert await stored(shared, "b") == (Status.FAILED, 2, "🍟")

    async def test_the_time_to_the_final_status_is_by_the_clock(self, shared: SharedOrders) -> None:
        """And not by the beginning of the transaction, which may have waited."""
        await create(shared, an_order("a"))
        async with begun(shared) as one:
            await shared.pass_time(3600)
            [finished] = await finish_on(one.connection, result("a"))
        assert 3600 <= finished.seconds < 7200

    @pytest.mark.parametrize("version", [0, 1])
    async def test_a_version_that_is_not_newer_changes_nothing(
        self, shared: SharedOrders, version: int
    ) -> None:
        await create(shared, an_order("a"))
        assert await finish(shared, result(version=version)) == []
        assert await stored(shared, "a") == (Status.PENDING, 1, None)

    @pytest.mark.parametrize("reason", [None, "why"])
    async def test_a_final_order_stays_final_whatever_version_comes(
        self, shared: SharedOrders, reason: str | None
    ) -> None:
        await create(shared, an_order("a"))
        await finish(shared, result(fail_reason=reason))
        before = await stored(shared, "a")
        assert await finish(shared, result(version=9, fail_reason="late")) == []
        assert await stored(shared, "a") == before

    async def test_a_duplicate_changes_nothing_even_when_its_key_was_forgotten(
        self, shared: SharedOrders
    ) -> None:
        await create(shared, an_order("a"))
        await apply_processed([result()], results_of(shared))
        assert (await apply_processed([result()], results_of(shared))).outcomes == [Applied.IGNORED]
        async with begun(shared) as session:
            await session.forget_all()
            await session.commit()
        again = await apply_processed([result(fail_reason="again")], results_of(shared))
        assert again.outcomes == [Applied.IGNORED]
        assert await stored(shared, "a") == (Status.DONE, 2, None)

    async def test_a_result_of_an_unknown_order_keeps_its_key_free(self, shared: SharedOrders) -> None:
        await create(shared, an_order("a"))
        applied = await apply_processed([result("later"), result("a")], results_of(shared))
        assert applied.outcomes == [Applied.UNKNOWN_ORDER, Applied.APPLIED]
        await create(shared, an_order("later"))
        assert (await apply_processed([result("later")], results_of(shared))).outcomes == [Applied.APPLIED]

    async def test_leaving_without_commit_rolls_everything_back(self, shared: SharedOrders) -> None:
        await create(shared, an_order("a"))
        async with begun(shared) as one:
            assert len(await finish_on(one.connection, result())) == 1
        async with uow_of(shared) as uow:
            await uow.outbox.add(commands(an_order("a")))
        assert await stored(shared, "a") == (Status.PENDING, 1, None)
        assert await told_of(shared) == ["a"]
        assert (await apply_processed([result()], results_of(shared))).outcomes == [Applied.APPLIED]

    async def test_a_result_that_cannot_be_is_refused_by_the_database_itself(
        self, shared: SharedOrders
    ) -> None:
        await create(shared, an_order("a"))
        done_because = ProcessedOrder(
            key="k", order_id=OrderId("a"), status=Status.DONE, fail_reason="why", version=2
        )
        with pytest.raises(asyncpg.CheckViolationError):
            await finish(shared, done_because)
        assert await stored(shared, "a") == (Status.PENDING, 1, None)

    async def test_a_concurrent_duplicate_waits_for_the_first_and_then_changes_nothing(
        self, shared: SharedOrders
    ) -> None:
        await create(shared, an_order("a"))
        async with begun(shared) as one:
            await finish_on(one.connection, result())
            second = await started(shared, apply_processed([result()], results_of(shared)))
            await one.commit()
        assert (await second).outcomes == [Applied.IGNORED]
        assert await stored(shared, "a") == (Status.DONE, 2, None)

    async def test_a_key_that_another_is_accepting_is_waited_for_and_changes_nothing_after_its_commit(
        self, shared: SharedOrders
    ) -> None:
        await create(shared, an_order("a"), an_order("b"))
        async with begun(shared) as one:
            await one.accept(result("a").key)
            second = await started(shared, apply_processed([result("b"), result("a")], results_of(shared)))
            await one.commit()
        assert (await second).outcomes == [Applied.APPLIED, Applied.IGNORED]
        assert await stored(shared, "a") == (Status.PENDING, 1, None)

    async def test_a_key_that_another_is_accepting_is_waited_for_and_applied_after_its_rollback(
        self, shared: SharedOrders
    ) -> None:
        await create(shared, an_order("a"))
        async with begun(shared) as one:
            await one.accept(result().key)
            second = await started(shared, apply_processed([result()], results_of(shared)))
            await one.rollback()
            assert (await second).outcomes == [Applied.APPLIED]
        assert await stored(shared, "a") == (Status.DONE, 2, None)

    async def test_a_result_that_waited_looks_again_at_the_version(self, shared: SharedOrders) -> None:
        """Past lock and inbox, to the condition of the UPDATE."""
        await create(shared, an_order("a"))
        async with begun(shared) as one:
            await finish_on(one.connection, result(version=3, fail_reason="newer"))
            older = await started(shared, finish(shared, result(version=2)))
            await one.commit()
        assert await older == []
        assert await stored(shared, "a") == (Status.FAILED, 3, "newer")

    async def test_a_result_that_waited_is_applied_after_a_rollback(self, shared: SharedOrders) -> None:
        await create(shared, an_order("a"))
        async with begun(shared) as one:
            await finish_on(one.connection, result(version=3, fail_reason="newer"))
            older = await started(shared, finish(shared, result(version=2)))
        assert [order.order_id for order in await older] == ["a"]
        assert await stored(shared, "a") == (Status.DONE, 2, None)

    async def test_a_result_that_waited_is_applied_to_an_order_that_is_still_pending(
        self, shared: SharedOrders
    ) -> None:
        await pending_orders(shared, "a")
        async with uow_of(shared) as uow:
            assert await uow.orders.take_overdue(1, after_seconds=0)
            waiter = await started(shared, finish(shared, result()))
            await uow.commit()
        assert [order.order_id for order in await waiter] == ["a"]

    async def test_orders_locked_in_opposite_order_end_in_one_deadlock_and_the_other_goes_through(
        self, shared: SharedOrders
    ) -> None:
        await create(shared, an_order("a"), an_order("b"))
        both_hold_one = asyncio.Barrier(2)

        async def lock_and_finish(first: str, second: str) -> None:
            async with begun(shared) as session:
                await lock(session.connection, first)
                await both_hold_one.wait()
                await lock(session.connection, second)
                await finish_on(session.connection, result(first), result(second))
                await session.commit()

        outcomes = await asyncio.gather(
            lock_and_finish("a", "b"), lock_and_finish("b", "a"), return_exceptions=True
        )
        (victim,) = (outcome for outcome in outcomes if outcome is not None)
        assert isinstance(victim, DatabaseUnavailable)
        assert isinstance(victim.__cause__, asyncpg.DeadlockDetectedError)
        assert await stored(shared, "a") == await stored(shared, "b") == (Status.DONE, 2, None)

    async def test_overlapping_batches_of_results_in_opposite_order_do_not_deadlock(
        self, shared: SharedOrders
    ) -> None:
        """A third party holds the order in the middle until both have got as far as they can."""
        await create(shared, *(an_order(order_id) for order_id in "abc"))
        of_version_2 = [result(order_id) for order_id in "abc"]
        of_version_3 = [result(order_id, version=3) for order_id in "cba"]
        async with begun(shared) as third:
            await lock(third.connection, "b")
            upwards = await started(shared, finish(shared, *of_version_2))
            downwards = await started(shared, finish(shared, *of_version_3))
            await third.commit()
        both = [*await upwards, *await downwards]
        assert sorted(order.order_id for order in both) == ["a", "b", "c"]

    async def test_two_processes_apply_each_of_many_duplicates_once(self, shared: SharedOrders) -> None:
        order_ids = [f"o-{number:02}" for number in range(60)]
        await create(shared, *map(an_order, order_ids))
        results = [result(order_id) for order_id in order_ids]
        both = await asyncio.gather(
            apply_processed(results, results_of(shared)), apply_processed(results[::-1], results_of(shared))
        )
        assert sorted(order.order_id for applied in both for order in applied.finished) == order_ids

    # cancelling

    async def test_a_pending_order_is_cancelled_with_its_event_and_a_newer_version(
        self, shared: SharedOrders
    ) -> None:
        await pending_orders(shared, "a", "b")
        outcome = await cancel(shared, "a")
        assert outcome and outcome.cancellation is Cancellation.CANCELLED
        assert (outcome.order.status, outcome.order.version) == (Status.CANCELLED, 2)
        assert outcome.order.cancel_reason == "changed my mind"
        assert await PostgresReader(shared.database).summaries([OrderId("a")]) == {"a": outcome.order}
        [event] = await events(shared)
        assert (event.event_type, event.traceparent) == ("order.cancelled", "trace")
        assert msgspec.json.decode(event.payload) == {
            "order_id": "a",
            "customer_id": "c-1",
            "reason": "changed my mind",
            "version": 2,
        }
        assert await stored(shared, "b") == (Status.PENDING, 1, None)

    async def test_cancelling_again_changes_nothing(self, shared: SharedOrders) -> None:
        await create(shared, an_order("a"))
        first = await cancel(shared, "a")
        again = await cancel(shared, "a", "another reason")
        assert first and again
        assert (again.cancellation, again.order) == (Cancellation.REPEATED, first.order)
        assert await told_of(shared) == ["a", "a"]

    async def test_an_order_that_does_not_exist_is_not_cancelled(self, shared: SharedOrders) -> None:
        assert await cancel(shared, "a") is None
        assert await told_of(shared) == []

    @pytest.mark.parametrize("reason", [None, "why"])
    async def test_a_decided_order_is_not_cancelled(self, shared: SharedOrders, reason: str | None) -> None:
        await create(shared, an_order("a"))
        await finish(shared, result(fail_reason=reason))
        before = await stored(shared, "a")
        outcome = await cancel(shared, "a")
        assert outcome and outcome.cancellation is Cancellation.TOO_LATE
        assert (outcome.order.status, outcome.order.version, outcome.order.fail_reason) == before
        assert await stored(shared, "a") == before
        assert await told_of(shared) == ["a"]

    @pytest.mark.parametrize("version", [2, 9])
    async def test_a_result_that_comes_after_the_cancellation_changes_nothing_and_is_handled(
        self, shared: SharedOrders, version: int
    ) -> None:
        await create(shared, an_order("a"))
        await cancel(shared, "a")
        late = result(version=version, fail_reason="late")
        assert (await apply_processed([late], results_of(shared))).outcomes == [Applied.IGNORED]
        assert await stored(shared, "a") == (Status.CANCELLED, 2, None)

    async def test_a_cancelled_order_is_never_overdue(self, shared: SharedOrders) -> None:
        await orders_of_10_20_and_30_minutes(shared)
        await cancel(shared, "20 min")
        await events(shared, published=True)
        assert await take_overdue(shared) == ["10 min", "30 min"]

    async def test_cancelling_waits_for_a_decision_in_flight_and_comes_too_late(
        self, shared: SharedOrders
    ) -> None:
        await create(shared, an_order("a"))
        async with begun(shared) as one:
            await finish_on(one.connection, result())
            cancelling = await started(shared, cancel(shared, "a"))
            await one.commit()
        outcome = await cancelling
        assert outcome and outcome.cancellation is Cancellation.TOO_LATE
        assert outcome.order.status is Status.DONE
        assert await told_of(shared) == ["a"]

    async def test_cancelling_wins_over_a_decision_that_is_rolled_back(self, shared: SharedOrders) -> None:
        await create(shared, an_order("a"))
        async with begun(shared) as one:
            await finish_on(one.connection, result())
            cancelling = await started(shared, cancel(shared, "a"))
        outcome = await cancelling
        assert outcome and outcome.cancellation is Cancellation.CANCELLED
        assert await stored(shared, "a") == (Status.CANCELLED, 2, None)

    async def test_a_decision_waits_for_a_cancellation_in_flight_and_changes_nothing(
        self, shared: SharedOrders
    ) -> None:
        await create(shared, an_order("a"))
        async with uow_of(shared) as uow:
            assert await uow.orders.cancel(OrderId("a"), None)
            deciding = await started(shared, apply_processed([result(version=9)], results_of(shared)))
            await uow.commit()
        assert (await deciding).outcomes == [Applied.IGNORED]
        assert await stored(shared, "a") == (Status.CANCELLED, 2, None)

    async def test_a_cancellation_that_is_rolled_back_leaves_nothing(self, shared: SharedOrders) -> None:
        await pending_orders(shared, "a")
        async with uow_of(shared) as uow:
            cancelled = await uow.orders.cancel(OrderId("a"), None)
            assert cancelled
            await uow.outbox.add_cancelled(cancelled, "trace")
        assert await stored(shared, "a") == (Status.PENDING, 1, None)
        assert await told_of(shared) == []

    async def test_of_many_who_cancel_one_order_one_does(self, shared: SharedOrders) -> None:
        await pending_orders(shared, "a")
        outcomes = await asyncio.gather(*(cancel(shared, "a") for _ in range(20)))
        cancellations = [outcome.cancellation for outcome in outcomes if outcome]
        assert cancellations.count(Cancellation.CANCELLED) == 1
        assert cancellations.count(Cancellation.REPEATED) == 19
        assert await told_of(shared) == ["a"]

    # the log of changes

    async def test_each_change_of_an_order_is_logged_once(self, shared: SharedOrders) -> None:
        await create(shared, *map(an_order, "abcd"))
        await create(shared, an_order("a"), an_order("e"))
        await finish(shared, result("a"), result("b", fail_reason="why"))
        await finish(shared, result("a", version=3), result("b"))
        await cancel(shared, "c")
        await cancel(shared, "c", "again")
        await cancel(shared, "d", None)
        assert sorted(await shared.logged()) == [
            ("order.cancelled", "c", 2, "changed my mind"),
            ("order.cancelled", "d", 2, None),
            *(("order.created", order_id, 1, None) for order_id in "abcde"),
            ("order.done", "a", 2, None),
            ("order.failed", "b", 2, "why"),
        ]

    async def test_a_change_that_is_rolled_back_is_not_logged(self, shared: SharedOrders) -> None:
        await create(shared, an_order("a"))
        async with begun(shared) as one:
            await insert(one.connection, an_order("b"))
            await one.rollback()
        async with begun(shared) as one:
            await finish_on(one.connection, result())
        async with uow_of(shared) as uow:
            await uow.orders.cancel(OrderId("a"), None)
        assert await shared.logged() == [("order.created", "a", 1, None)]

    # orders that are told of again

    async def test_pending_orders_of_an_age_are_overdue_the_oldest_first(self, shared: SharedOrders) -> None:
        await orders_of_10_20_and_30_minutes(shared)
        assert await take_overdue(shared, after_seconds=15 * MINUTE) == ["20 min", "30 min"]

    async def test_the_oldest_are_taken_first_and_not_again_at_once(self, shared: SharedOrders) -> None:
        await orders_of_10_20_and_30_minutes(shared)
        assert await take_overdue(shared, limit=2) == ["20 min", "30 min"]
        assert await take_overdue(shared, limit=2) == ["10 min"]
        assert await take_overdue(shared) == []

    async def test_a_final_order_is_never_overdue(self, shared: SharedOrders) -> None:
        await orders_of_10_20_and_30_minutes(shared)
        await finish(shared, result("10 min"), result("20 min", fail_reason="why"))
        assert await take_overdue(shared) == ["30 min"]

    async def test_an_order_whose_event_may_still_wait_in_the_outbox_is_not_overdue(
        self, shared: SharedOrders
    ) -> None:
        await pending_orders(shared, "told of")
        await shared.pass_time(5 * MINUTE)
        await create(shared, an_order("waits"))
        await shared.pass_time(5 * MINUTE)
        await create(shared, an_order("waits behind it"))
        await shared.pass_time(5 * MINUTE)
        assert await take_overdue(shared) == ["told of"]

    async def test_an_order_that_was_taken_is_due_again_once_its_age_has_doubled(
        self, shared: SharedOrders
    ) -> None:
        await orders_of_10_20_and_30_minutes(shared)
        assert await take_overdue(shared) == ["10 min", "20 min", "30 min"]
        await shared.pass_time(8 * MINUTE)
        assert await take_overdue(shared) == []
        await shared.pass_time(8 * MINUTE)
        assert await take_overdue(shared) == ["10 min"]
        await shared.pass_time(8 * MINUTE)
        assert await take_overdue(shared) == ["20 min"]

    async def test_a_very_old_order_is_due_again_after_an_hour(self, shared: SharedOrders) -> None:
        await pending_orders(shared, "a")
        await shared.pass_time(9 * 86_400)
        assert await take_overdue(shared) == ["a"]
        await shared.pass_time(59 * MINUTE)
        assert await take_overdue(shared) == []
        await shared.pass_time(2 * MINUTE)
        assert await take_overdue(shared) == ["a"]

    async def test_an_order_that_is_being_changed_is_skipped_and_not_waited_for(
        self, shared: SharedOrders
    ) -> None:
        await orders_of_10_20_and_30_minutes(shared)
        async with begun(shared) as one:
            await lock(one.connection, "20 min")
            await finish_on(one.connection, result("30 min"))
            assert await take_overdue(shared) == ["10 min"]
        assert await take_overdue(shared) == ["20 min", "30 min"]

    async def test_two_reconcilers_at_once_take_each_order_once(self, shared: SharedOrders) -> None:
        await orders_of_10_20_and_30_minutes(shared)
        async with uow_of(shared) as one, uow_of(shared) as two:
            first = await one.orders.take_overdue(2, after_seconds=MINUTE)
            second = await two.orders.take_overdue(2, after_seconds=MINUTE)
            await one.commit()
            await two.commit()
        assert sorted(order.order_id for order in first) == ["20 min", "30 min"]
        assert [order.order_id for order in second] == ["10 min"]

    async def test_the_reconciler_writes_the_events_of_overdue_orders_again(
        self, shared: SharedOrders
    ) -> None:
        await orders_of_10_20_and_30_minutes(shared)
        reconciler = Reconciler(
            uow_of(shared), after_seconds=MINUTE, interval_seconds=1e-3, batch_orders=2, random=Random(7)
        )
        await reconciler.run_once()
        assert await told_of(shared) == ["20 min", "30 min"]
        assert len({row.traceparent for row in await events(shared)}) == 2


async def insert(connection: Connection, order: Order) -> None:
    new = await intake_of(OnConnection(connection)).insert_new(commands(order))
    assert new.keys() == {order.order_id}


async def create(shared: SharedOrders, *orders: Order) -> set[OrderId]:
    return set(await intake_of(shared.database).insert_new(commands(*orders)))


async def cancel(
    shared: SharedOrders, order_id: str, reason: str | None = "changed my mind"
) -> CancelOutcome | None:
    reader = PostgresReader(shared.database)
    return await cancel_order(OrderId(order_id), reason, "trace", uow_of(shared), reader)


async def find(shared: SharedOrders, *order_ids: str) -> dict[str, Order]:
    found = await intake_of(shared.database).find([OrderId(order_id) for order_id in order_ids])
    return {str(order_id): order for order_id, order in found.items()}


async def stored(shared: SharedOrders, order_id: str) -> tuple[Status, int, str | None]:
    order = (await find(shared, order_id))[order_id]
    return order.status, order.version, order.fail_reason


async def finish(shared: SharedOrders, *results: ProcessedOrder) -> Sequence[Finished]:
    return (await results_of(shared).apply(results)).finished


async def finish_on(connection: Connection, *results: ProcessedOrder) -> Sequence[Finished]:
    """In the transaction of `connection`."""
    return (await PostgresResults(OnConnection(connection)).apply(results)).finished


async def lock(connection: Connection, order_id: str) -> None:
    """By a result that is too old to change anything."""
    assert await finish_on(connection, result(order_id, version=0)) == []


async def take_overdue(
    shared: SharedOrders, limit: int = 10, *, after_seconds: float = MINUTE
) -> Iterable[str]:
    async with uow_of(shared) as uow:
        overdue = await uow.orders.take_overdue(limit, after_seconds=after_seconds)
        await uow.commit()
    return sorted(order.order_id for order in overdue)


async def events(shared: SharedOrders, *, published: bool = False) -> list[OutboxRow]:
    """All events of the outbox, which stay there unless they are `published`."""
    async with PostgresOutbox(shared.database, random=Random(0)).claim(1000) as claim:
        if published:
            await claim.settle(published=[row.id for row in claim.rows], rejected={})
        return [*claim.rows]


async def told_of(shared: SharedOrders) -> list[str]:
    return sorted(msgspec.json.decode(row.payload)["order_id"] for row in await events(shared))


async def pending_orders(shared: SharedOrders, *order_ids: str) -> None:
    """Whose events are published."""
    await create(shared, *map(an_order, order_ids))
    await events(shared, published=True)


async def orders_of_10_20_and_30_minutes(shared: SharedOrders) -> None:
    for order_id in ("30 min", "20 min", "10 min"):
        await pending_orders(shared, order_id)
        await shared.pass_time(10 * MINUTE)

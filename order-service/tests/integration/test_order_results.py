"""Applying results on real PostgreSQL: the guards stand in SQL."""

import asyncio
from collections.abc import Iterable
from decimal import Decimal
from typing import cast

import asyncpg
import pytest

from order_service.application.apply_processed import Applied, apply_processed
from order_service.application.ports import CreateOrder, ProcessedOrder
from order_service.domain.order import Item, OrderId, Status, new_order
from order_service.infrastructure.intake import PostgresIntake
from order_service.infrastructure.metrics import OrderMetrics
from order_service.infrastructure.results import APPLY, PostgresResults
from order_service.infrastructure.unit_of_work import CANCEL
from service_kit.lifecycle import Wakeup
from service_kit.postgres.database import Connection, Database
from service_kit.testing.eventually import eventually
from service_kit.testing.transactions_conformance import OnConnection

WAITERS = """
SELECT count(*) FROM pg_locks JOIN pg_database ON pg_database.datname = current_database()
WHERE NOT granted AND pid IN (SELECT pid FROM pg_stat_activity WHERE datname = current_database())
"""


def result(order_id: str = "o-1", version: int = 2, fail_reason: str | None = None) -> ProcessedOrder:
    return ProcessedOrder(
        key=f"order.processed:{order_id}:{version}",
        order_id=OrderId(order_id),
        status=Status.FAILED if fail_reason else Status.DONE,
        fail_reason=fail_reason,
        version=version,
    )


async def pending_orders(database: Database, order_ids: Iterable[str]) -> None:
    items = [Item(sku="laptop", quantity=1, price=Decimal(1))]
    orders = [new_order(order_id, "c-1", items) for order_id in order_ids]
    commands = [CreateOrder(order=order, traceparent="trace") for order in orders]
    await PostgresIntake(database, Wakeup(), OrderMetrics()).insert_new(commands)


@pytest.fixture
async def results(database: Database) -> PostgresResults:
    """And a pending order `o-1`."""
    await pending_orders(database, ["o-1"])
    return PostgresResults(database)


async def stored(connection: asyncpg.Connection, order_id: str = "o-1") -> tuple[str, int, str | None]:
    record = await connection.fetchrow(
        "SELECT status, version, fail_reason FROM orders WHERE order_id = $1", order_id
    )
    assert record is not None
    return record["status"], record["version"], record["fail_reason"]


def within(connection: asyncpg.Connection) -> PostgresResults:
    return PostgresResults(OnConnection(cast(Connection, connection)))


async def waits(connection: asyncpg.Connection) -> bool:
    return bool(await connection.fetchval(WAITERS))


async def test_a_success_makes_the_order_done(
    results: PostgresResults, connection: asyncpg.Connection
) -> None:
    applied = await apply_processed([result()], results)

    assert applied.outcomes == [Applied.APPLIED]
    assert await stored(connection) == ("done", 2, None)
    [finished] = applied.finished
    assert (finished.order_id, finished.status) == ("o-1", Status.DONE)
    assert finished.seconds >= 0


async def test_who_applied_a_result_is_stored(database: Database, connection: asyncpg.Connection) -> None:
    await pending_orders(database, ["o-1"])

    await apply_processed([result()], PostgresResults(database, instance="web-2"))

    assert await connection.fetchval("SELECT applied_by FROM orders") == "web-2"


async def test_a_failure_keeps_its_reason(results: PostgresResults, connection: asyncpg.Connection) -> None:
    await apply_processed([result(fail_reason="Too fatty food 🍟")], results)

    assert await stored(connection) == ("failed", 2, "Too fatty food 🍟")


async def test_the_time_to_the_final_status_counts_from_the_creation(
    results: PostgresResults, connection: asyncpg.Connection
) -> None:
    await connection.execute("UPDATE orders SET created_at = now() - interval '1 h'")

    [finished] = (await results.apply([result()])).finished

    assert 3_600 <= finished.seconds < 7_200


@pytest.mark.parametrize("version", [1, 2, 3])
async def test_a_version_that_is_not_newer_changes_nothing(
    results: PostgresResults, connection: asyncpg.Connection, version: int
) -> None:
    await connection.execute("UPDATE orders SET version = 3")

    assert (await results.apply([result(version=version)])).finished == []
    assert await stored(connection) == ("pending", 3, None)


@pytest.mark.parametrize("status", ["done", "failed"])
async def test_a_final_order_stays_final_whatever_version_comes(
    results: PostgresResults, connection: asyncpg.Connection, status: str
) -> None:
    await connection.execute("UPDATE orders SET version = 2, status = $1", status)

    late = result(version=9, fail_reason="late")
    assert (await results.apply([late])).finished == []
    assert await stored(connection) == (status, 2, None)


async def test_a_duplicate_result_changes_nothing(
    results: PostgresResults, connection: asyncpg.Connection
) -> None:
    await apply_processed([result()], results)
    before = await connection.fetch("TABLE orders")

    assert (await apply_processed([result()], results)).outcomes == [Applied.IGNORED]
    assert await connection.fetch("TABLE orders") == before


async def test_a_duplicate_changes_nothing_even_when_its_key_was_forgotten(
    results: PostgresResults, connection: asyncpg.Connection
) -> None:
    await apply_processed([result()], results)
    await connection.execute("DELETE FROM processed_inbox")

    assert (await apply_processed([result(fail_reason="again")], results)).outcomes == [Applied.IGNORED]
    assert await stored(connection) == ("done", 2, None)


async def test_a_result_of_an_unknown_order_keeps_its_key_free(
    results: PostgresResults, database: Database, connection: asyncpg.Connection
) -> None:
    assert (await apply_processed([result("later"), result()], results)).outcomes == [
        Applied.UNKNOWN_ORDER,
        Applied.APPLIED,
    ]
    assert [record[0] for record in await connection.fetch("SELECT event_key FROM processed_inbox")] == [
        result().key
    ]

    await pending_orders(database, ["later"])

    assert (await apply_processed([result("later")], results)).outcomes == [Applied.APPLIED]


async def test_a_batch_that_fails_changes_nothing_at_all(own_dsn: str) -> None:
    async with Database(own_dsn, application_name="order-service-tests") as database:
        await pending_orders(database, ["a", "refused"])
        results = PostgresResults(database)
        async with database.connection() as session:
            await session.execute("ALTER TABLE order_log ADD CHECK (version = 1 OR order_id <> 'refused')")

            with pytest.raises(asyncpg.CheckViolationError):
                await results.apply([result("a"), result("refused")])

            assert await session.fetchval("SELECT count(*) FROM orders WHERE status <> 'pending'") == 0
            assert await session.fetchval("SELECT count(*) FROM processed_inbox") == 0
            assert await session.fetchval("SELECT count(*) FROM order_log WHERE version > 1") == 0

        assert (await apply_processed([result("a")], results)).outcomes == [Applied.APPLIED]


async def test_a_concurrent_duplicate_waits_for_the_first_and_then_changes_nothing(
    results: PostgresResults, connection: asyncpg.Connection
) -> None:
    transaction = connection.transaction()
    await transaction.start()
    await within(connection).apply([result()])
    second = asyncio.create_task(apply_processed([result()], results))
    await eventually(lambda: waits(connection))

    await transaction.commit()

    assert (await second).outcomes == [Applied.IGNORED]
    assert await stored(connection) == ("done", 2, None)


async def test_a_result_that_waited_for_a_change_is_applied_to_an_order_that_is_still_pending(
    results: PostgresResults, connection: asyncpg.Connection
) -> None:
    """The row that was locked is not the one of the snapshot any more: the UPDATE has to find the newer."""
    transaction = connection.transaction()
    await transaction.start()
    await connection.execute("UPDATE orders SET reemitted_at = now()")
    waiter = asyncio.create_task(apply_processed([result()], results))
    await eventually(lambda: waits(connection))

    await transaction.commit()

    assert (await waiter).outcomes == [Applied.APPLIED]
    assert await stored(connection) == ("done", 2, None)


async def test_a_result_that_waited_for_a_cancellation_changes_nothing_and_is_handled(
    results: PostgresResults, connection: asyncpg.Connection
) -> None:
    transaction = connection.transaction()
    await transaction.start()
    await connection.fetchrow(CANCEL, "o-1", None, None)
    waiter = asyncio.create_task(apply_processed([result(version=9)], results))
    await eventually(lambda: waits(connection))

    await transaction.commit()

    assert (await waiter).outcomes == [Applied.IGNORED]
    assert await stored(connection) == ("cancelled", 2, None)


async def test_a_result_waits_for_nobody_who_is_only_inserting_its_order(
    database: Database, connection: asyncpg.Connection
) -> None:
    transaction = connection.transaction()
    await transaction.start()
    await connection.execute(
        "INSERT INTO orders (order_id, customer_id, items, amount) VALUES ('o-1', 'c-1', '[]', 1)"
    )
    results = PostgresResults(database)
    assert (await apply_processed([result()], results)).outcomes == [Applied.UNKNOWN_ORDER]

    await transaction.commit()

    assert (await apply_processed([result()], results)).outcomes == [Applied.APPLIED]


async def test_two_processes_apply_each_of_many_duplicates_once_and_without_deadlock(
    database: Database, connection: asyncpg.Connection
) -> None:
    order_ids = [f"o-{number:03}" for number in range(300)]
    await pending_orders(database, order_ids)
    results = [result(order_id) for order_id in order_ids]

    both = await asyncio.gather(
        apply_processed(results, PostgresResults(database)),
        apply_processed(results[::-1], PostgresResults(database)),
    )

    assert sorted(order.order_id for applied in both for order in applied.finished) == order_ids
    assert (
        await connection.fetchval("SELECT count(*) FROM orders WHERE status = 'done' AND version = 2") == 300
    )


async def test_orders_are_finished_by_their_ids_however_few_were_pending_at_the_last_analyze(
    results: PostgresResults, database: Database, connection: asyncpg.Connection
) -> None:
    """By the index of pending orders each result would be compared with all that wait."""
    await connection.execute(
        "INSERT INTO orders (order_id, customer_id, items, amount, status, version) "
        "SELECT 'old-' || number, 'c-1', '[]', 1, 'done', 2 FROM generate_series(1, 2000) AS number"
    )
    await connection.execute("VACUUM ANALYZE orders")

    plan = await plan_of_apply(database)

    assert "orders_pkey" in plan and "orders_pending" not in plan, plan


async def test_results_are_not_compared_with_each_other(database: Database) -> None:
    """Each is looked up in an index, or by hash: a batch of twice the size takes twice the time."""
    plan = await plan_of_apply(database)

    loops, lookups = plan.count("Nested Loop"), plan.count("Index Scan using orders_pkey")
    assert (loops, lookups, plan.count("(hashed SubPlan")) == (2, 2, 2), plan
    assert " Join" not in plan and "Seq Scan" not in plan, plan


async def plan_of_apply(database: Database) -> str:
    async with database.connection() as session:
        await session.execute(f"PREPARE apply (text[], text[], text[], text[], bigint[], text) AS {APPLY}")
        explained = await session.fetch(
            "EXPLAIN (VERBOSE) EXECUTE apply ('{k}', '{o-1}', '{done}', '{NULL}', '{2}', 'p')"
        )
        await session.execute("DEALLOCATE apply")
    return "\n".join(record[0] for record in explained)


async def test_a_cancellation_that_began_before_the_order_is_not_older_than_it(
    database: Database, connection: asyncpg.Connection
) -> None:
    async with connection.transaction():
        await connection.execute("SELECT now()")
        await pending_orders(database, ["o-1"])
        cancelled = await connection.fetchrow(CANCEL, "o-1", None, None)

    assert cancelled and cancelled["updated_at"] == cancelled["created_at"]

"""Which orders the reconciler finds, on real PostgreSQL. Ages are set in the database, nothing waits."""

from decimal import Decimal
from random import Random

import asyncpg
import pytest

from order_service.application.ports import CreateOrder
from order_service.domain.order import Item, new_order
from order_service.infrastructure.intake import PostgresIntake
from order_service.infrastructure.metrics import OrderMetrics
from order_service.infrastructure.reconciler import Reconciler
from order_service.infrastructure.unit_of_work import OrderUnitOfWork
from service_kit.lifecycle import Wakeup
from service_kit.postgres.database import Database

AFTER_SECONDS = 300.0


@pytest.fixture
async def uow(database: Database) -> OrderUnitOfWork:
    """And three orders that were created 10, 20 and 30 minutes ago, their events published."""
    items = [Item(sku="laptop", quantity=1, price=Decimal("0.1"))]
    orders = [new_order(order_id, "c-1", items) for order_id in ("10 min", "20 min", "30 min")]
    commands = [CreateOrder(order=order, traceparent="trace") for order in orders]
    await PostgresIntake(database, Wakeup(), OrderMetrics()).insert_new(commands)
    async with database.connection() as connection:
        await connection.execute("UPDATE orders SET created_at = now() - order_id::interval")
        await connection.execute("DELETE FROM outbox")
    return OrderUnitOfWork(database, Wakeup())


async def take_overdue(
    uow: OrderUnitOfWork, limit: int = 10, after_seconds: float = AFTER_SECONDS
) -> list[str]:
    async with uow:
        overdue = await uow.orders.take_overdue(limit, after_seconds=after_seconds)
        await uow.commit()
    return sorted(order.order_id for order in overdue)


async def test_pending_orders_of_that_age_are_overdue(uow: OrderUnitOfWork) -> None:
    assert await take_overdue(uow, after_seconds=15 * 60) == ["20 min", "30 min"]


async def test_the_oldest_are_taken_first(uow: OrderUnitOfWork) -> None:
    assert await take_overdue(uow, limit=2) == ["20 min", "30 min"]
    assert await take_overdue(uow, limit=2) == ["10 min"]


@pytest.mark.parametrize("status", ["done", "failed"])
async def test_a_final_order_is_never_overdue(
    uow: OrderUnitOfWork, connection: asyncpg.Connection, status: str
) -> None:
    await connection.execute("UPDATE orders SET status = $1 WHERE order_id = '20 min'", status)

    assert await take_overdue(uow) == ["10 min", "30 min"]


async def test_an_order_whose_event_may_still_wait_in_the_outbox_is_not_overdue(
    uow: OrderUnitOfWork, connection: asyncpg.Connection
) -> None:
    """The oldest waiting event is 25 minutes old: events of younger orders may wait behind it."""
    await connection.execute("""
        INSERT INTO outbox (event_type, payload, created_at)
        VALUES ('order.created', '{}', now() - interval '25 min'), ('order.created', '{}', now())
    """)

    assert await take_overdue(uow) == ["30 min"]


async def test_an_order_that_was_taken_is_due_again_once_its_age_has_doubled(
    uow: OrderUnitOfWork, connection: asyncpg.Connection
) -> None:
    """All were told of again 12 minutes ago, at ages of 8, 18 and −2 minutes."""
    await connection.execute(
        "UPDATE orders SET reemitted_at = now() - interval '12 min' WHERE order_id <> '10 min'"
    )

    assert await take_overdue(uow) == ["10 min", "20 min"]


async def test_an_order_that_was_just_taken_is_not_taken_again(uow: OrderUnitOfWork) -> None:
    assert await take_overdue(uow) == ["10 min", "20 min", "30 min"]
    assert await take_overdue(uow) == []


async def test_a_very_old_order_is_due_again_after_an_hour(
    uow: OrderUnitOfWork, connection: asyncpg.Connection
) -> None:
    await connection.execute("UPDATE orders SET created_at = now() - interval '9 days'")
    await connection.execute(
        "UPDATE orders SET reemitted_at = now() - interval '61 min' WHERE order_id = '10 min'"
    )
    await connection.execute(
        "UPDATE orders SET reemitted_at = now() - interval '59 min' WHERE order_id = '20 min'"
    )

    assert await take_overdue(uow) == ["10 min", "30 min"]


async def test_an_order_that_is_being_changed_is_skipped_and_not_waited_for(
    uow: OrderUnitOfWork, connection: asyncpg.Connection
) -> None:
    async with connection.transaction():
        await connection.execute("SELECT FROM orders WHERE order_id = '20 min' FOR UPDATE")

        assert await take_overdue(uow) == ["10 min", "30 min"]


async def test_two_reconcilers_at_once_take_each_order_once(uow: OrderUnitOfWork, database: Database) -> None:
    other = OrderUnitOfWork(database, Wakeup())
    async with uow, other:
        first = await uow.orders.take_overdue(2, after_seconds=AFTER_SECONDS)
        second = await other.orders.take_overdue(2, after_seconds=AFTER_SECONDS)
        await uow.commit()
        await other.commit()

    assert sorted(order.order_id for order in [*first, *second]) == ["10 min", "20 min", "30 min"]


async def test_the_reconciler_writes_the_events_of_overdue_orders_again(
    uow: OrderUnitOfWork, connection: asyncpg.Connection
) -> None:
    counted: list[int] = []
    reconciler = Reconciler(
        uow,
        after_seconds=AFTER_SECONDS,
        interval_seconds=1e-3,
        batch_orders=2,
        random=Random(7),
        on_reemitted=counted.append,
    )

    await reconciler.run_once()

    assert counted == [2]
    records = await connection.fetch(
        "SELECT event_type, payload ->> 'order_id' AS order_id, payload ->> 'version' AS version, traceparent"
        " FROM outbox"
    )
    assert sorted((record["event_type"], record["order_id"], record["version"]) for record in records) == [
        ("order.created", "20 min", "1"),
        ("order.created", "30 min", "1"),
    ]
    assert len({record["traceparent"] for record in records}) == 2

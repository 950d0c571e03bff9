"""The statement that creates orders, on real PostgreSQL."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import asyncpg
import pytest

from order_service.application.create_orders import CreateOutcome, Creation, create_orders
from order_service.application.ports import CreateOrder
from order_service.domain.order import Item, Order, OrderId, new_order
from order_service.infrastructure.intake import PostgresIntake
from order_service.infrastructure.metrics import OrderMetrics
from service_kit.lifecycle import Wakeup
from service_kit.postgres.database import Database
from service_kit.testing.eventually import eventually

A = OrderId("a")
EVENTS_BY_ORDER = "SELECT payload ->> 'order_id' AS order_id, count(*) AS events FROM outbox GROUP BY 1"

WAITERS = """
SELECT count(*) FROM pg_locks JOIN pg_locks AS held USING (pid)
WHERE NOT pg_locks.granted AND held.relation = 'orders'::regclass
  AND held.database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""


def an_order(order_id: str, sku: str = "laptop", price: str = "1") -> Order:
    return new_order(order_id, "c-1", [Item(sku=sku, quantity=2, price=Decimal(price))])


def commands(*orders: Order) -> list[CreateOrder]:
    return [
        CreateOrder(order=order, traceparent=f"00-{number:032x}-{1:016x}-01")
        for number, order in enumerate(orders, 1)
    ]


@pytest.fixture
def intake(database: Database) -> PostgresIntake:
    return PostgresIntake(database, Wakeup(), OrderMetrics())


async def create(intake: PostgresIntake, *orders: Order) -> Sequence[CreateOutcome]:
    return await create_orders(commands(*orders), intake)


async def events(connection: asyncpg.Connection) -> dict[str, int]:
    return {record["order_id"]: record["events"] for record in await connection.fetch(EVENTS_BY_ORDER)}


async def waiting(connection: asyncpg.Connection, count: int) -> bool:
    """Whether so many others wait; `pg_stat_activity` would stand still within our transaction."""
    return bool(await connection.fetchval(WAITERS) == count)


async def test_new_orders_are_stored_with_one_event_each(
    intake: PostgresIntake, connection: asyncpg.Connection
) -> None:
    orders = [an_order("b"), an_order("a", price="0.1")]

    assert (await intake.insert_new(commands(*orders))).keys() == {"a", "b"}
    assert await intake.find([OrderId("a"), OrderId("b"), OrderId("c")]) == {"b": orders[0], "a": orders[1]}
    assert await events(connection) == {"a": 1, "b": 1}


async def test_who_accepted_an_order_and_when_is_stored_with_it(
    database: Database, connection: asyncpg.Connection
) -> None:
    intake = PostgresIntake(database, Wakeup(), OrderMetrics(), instance="web-1")
    accepted_at = asyncio.get_running_loop().time() - 60
    [told] = commands(an_order("a"))

    await intake.insert_new([replace(told, accepted_at=accepted_at), *commands(an_order("b"))])

    rows = await connection.fetch(
        "SELECT accepted_by, created_at - accepted_at AS waited FROM orders ORDER BY order_id"
    )
    assert [row["accepted_by"] for row in rows] == ["web-1", "web-1"]
    assert timedelta(seconds=60) <= rows[0]["waited"] < timedelta(seconds=600)
    assert rows[1]["waited"] is None


async def test_an_order_that_exists_is_skipped_and_its_event_with_it(
    intake: PostgresIntake, connection: asyncpg.Connection
) -> None:
    await intake.insert_new(commands(an_order("a")))

    assert (await intake.insert_new(commands(an_order("a", sku="teapot"), an_order("b")))).keys() == {"b"}
    assert (await intake.find([A]))[A] == an_order("a")
    assert await events(connection) == {"a": 1, "b": 1}


async def test_a_stored_order_is_replayed_and_other_content_is_a_conflict(intake: PostgresIntake) -> None:
    await create(intake, an_order("a", price="12.5"))

    same, other = await create(intake, an_order("a", price="12.50"), an_order("a", price="12.51"))

    assert same == CreateOutcome(Creation.REPLAYED, an_order("a", price="12.5"))
    assert other == CreateOutcome(Creation.CONFLICT, an_order("a", price="12.5"))


async def test_a_duplicate_waits_for_the_first_and_adds_nothing_when_that_commits(
    intake: PostgresIntake, connection: asyncpg.Connection
) -> None:
    transaction = connection.transaction()
    await transaction.start()
    await connection.execute(
        "INSERT INTO orders (order_id, customer_id, items, amount) VALUES ('a', 'c-2', '[]', 0)"
    )
    duplicate = asyncio.create_task(intake.insert_new(commands(an_order("a"), an_order("b"))))
    await eventually(lambda: waiting(connection, 1))

    await transaction.commit()

    assert (await duplicate).keys() == {"b"}
    assert (await intake.find([A]))[A].customer_id == "c-2"
    assert await events(connection) == {"b": 1}


async def test_a_duplicate_creates_the_order_when_the_first_rolls_back(
    intake: PostgresIntake, connection: asyncpg.Connection
) -> None:
    transaction = connection.transaction()
    await transaction.start()
    await connection.execute(
        "INSERT INTO orders (order_id, customer_id, items, amount) VALUES ('a', 'c-2', '[]', 0)"
    )
    duplicate = asyncio.create_task(intake.insert_new(commands(an_order("a"))))
    await eventually(lambda: waiting(connection, 1))

    await transaction.rollback()

    assert (await duplicate).keys() == {"a"}
    assert await events(connection) == {"a": 1}


async def test_many_concurrent_duplicates_make_one_order_and_one_event(
    intake: PostgresIntake, connection: asyncpg.Connection
) -> None:
    outcomes = await asyncio.gather(*(create(intake, an_order("a")) for _ in range(50)))

    creations = [outcome.creation for [outcome] in outcomes]
    assert (creations.count(Creation.CREATED), creations.count(Creation.REPLAYED)) == (1, 49)
    assert await connection.fetchval("SELECT count(*) FROM orders") == 1
    assert await events(connection) == {"a": 1}


async def test_of_many_concurrent_contents_one_wins_and_all_others_conflict_with_it(
    intake: PostgresIntake, connection: asyncpg.Connection
) -> None:
    outcomes = await asyncio.gather(*(create(intake, an_order("a", price=str(n + 1))) for n in range(50)))

    [winner] = [outcome.order for [outcome] in outcomes if outcome.creation is Creation.CREATED]
    losers = [outcome for [outcome] in outcomes if outcome.creation is Creation.CONFLICT]
    assert len(losers) == 49
    assert {str(loser.order.total_amount) for loser in losers} == {str(winner.total_amount)}
    assert await connection.fetchval("SELECT payload ->> 'amount' FROM outbox") == str(winner.total_amount)


async def test_overlapping_batches_in_opposite_order_do_not_deadlock(
    intake: PostgresIntake, connection: asyncpg.Connection
) -> None:
    """A third party holds the id in the middle until both batches have got as far as they can."""
    orders = [an_order(order_id) for order_id in "abc"]
    transaction = connection.transaction()
    await transaction.start()
    await connection.execute(
        "INSERT INTO orders (order_id, customer_id, items, amount) VALUES ('b', 'c-2', '[]', 0)"
    )
    upwards = asyncio.create_task(intake.insert_new(commands(*orders)))
    await eventually(lambda: waiting(connection, 1))
    downwards = asyncio.create_task(intake.insert_new(commands(*reversed(orders))))
    await eventually(lambda: waiting(connection, 2))

    await transaction.rollback()

    assert sorted([*await upwards, *await downwards]) == ["a", "b", "c"]
    assert await events(connection) == {"a": 1, "b": 1, "c": 1}


async def test_a_batch_is_stored_as_a_whole_or_not_at_all(own_dsn: str) -> None:
    async with Database(own_dsn, application_name="order-service-tests") as database:
        intake = PostgresIntake(database, Wakeup(), OrderMetrics())
        async with database.connection() as connection:
            await connection.execute("ALTER TABLE outbox ADD CHECK (payload ->> 'order_id' <> 'refused')")

        with pytest.raises(asyncpg.CheckViolationError):
            await intake.insert_new(commands(an_order("a"), an_order("refused")))

        assert await intake.find([OrderId("a"), OrderId("refused")]) == {}


@pytest.mark.parametrize(
    "text", ["заказ", "🍕" * 255, "'; DROP TABLE orders; --", 'a\\b"c', "{a,b}", "NULL", " ", "\u2028"]
)
async def test_any_allowed_text_is_stored_as_it_is(
    intake: PostgresIntake, connection: asyncpg.Connection, text: str
) -> None:
    order = new_order(text, text, [Item(sku=text, quantity=1, price=Decimal(1))])

    await intake.insert_new(commands(order))

    assert await intake.find([order.order_id]) == {text: order}
    assert await events(connection) == {text: 1}


async def test_only_a_commit_that_created_something_wakes_the_relay(database: Database) -> None:
    woken: list[str] = []

    class RecordingWakeup(Wakeup):
        def notify(self) -> None:
            woken.append("relay")

    intake = PostgresIntake(database, RecordingWakeup(), OrderMetrics())

    await intake.insert_new(commands(an_order("a")))
    assert woken == ["relay"]
    await intake.insert_new(commands(an_order("a")))
    assert woken == ["relay"]

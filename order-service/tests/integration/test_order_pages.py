"""Pages of the list on real PostgreSQL: right for whatever is asked, and in bounded work."""

import itertools
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

import asyncpg
import pytest

from order_service.application.ports import Place, Span
from order_service.domain.order import OrderId, OrderSummary, Status
from order_service.infrastructure.reader import (
    FINAL,
    IN_ORDER_OF_INDEX,
    PAGE_ROWS_MAX,
    PostgresReader,
    page,
)
from order_service.infrastructure.reconcile_now import TAKE_NAMED
from order_service.infrastructure.unit_of_work import CANCEL
from service_kit.postgres.database import PLANS_BY_INDEX, Database

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)
FIRST, LAST = Place(datetime(1, 1, 1, tzinfo=UTC), ""), Place(datetime(9999, 12, 31, tzinfo=UTC), "")

# Ten orders an instant; the newest are pending, as in a pause of the processors; one customer left long ago.
MANY = """
INSERT INTO orders (order_id, customer_id, items, amount, status, created_at)
SELECT lpad(n::text, 6, '0'), CASE WHEN n <= 5000 THEN 'c-left' ELSE 'c-' || n % 3 END, '[]', 1,
       CASE WHEN n > 15000 THEN 'pending' WHEN n % 1000 = 0 THEN 'failed' WHEN n % 997 = 0 THEN 'cancelled'
            ELSE 'done' END,
       timestamptz '2026-11-24 12:00Z' + n / 10 * interval '1 s'
FROM generate_series(1, 20000) AS n
ON CONFLICT DO NOTHING
"""
ROWS = 20_000
IN_ORDER_OF_SESSION = IN_ORDER_OF_INDEX.replace("LOCAL ", "")


async def fill(connection: asyncpg.Connection, random: Random) -> list[Place]:
    """A hundred orders with few times, customers and statuses; their places, oldest first."""
    order_ids = [f"o-{number:02}" for number in range(100)] + ["я", "🍕", "A", "a", "Z"]
    rows = [
        (
            order_id,
            f"c-{random.randrange(3)}",
            random.choice([*Status]),
            NOON + timedelta(seconds=random.randrange(20)),
        )
        for order_id in order_ids
    ]
    await connection.executemany(
        "INSERT INTO orders (order_id, customer_id, items, amount, status, created_at)"
        " VALUES ($1, $2, '[]', 1, $3, $4)",
        rows,
    )
    return sorted(Place(row[3], row[0]) for row in rows)


def spans(places: list[Place], random: Random) -> Iterator[Span]:
    bounds = [
        FIRST,
        LAST,
        *random.sample(places, 5),
        *(Place(place.created_at, "") for place in places[::40]),
    ]
    for above, below in itertools.product(bounds, bounds):
        for customer_id in (None, "c-1", "nobody"):
            yield Span(
                above=above, below=below, customer_id=customer_id, status=random.choice([None, *Status])
            )


def fits(order: OrderSummary, span: Span) -> bool:
    assert order.created_at
    return (
        span.above < Place(order.created_at, order.order_id) < span.below
        and span.customer_id in (None, order.customer_id)
        and span.status in (None, order.status)
    )


@pytest.mark.parametrize("seed", range(3))
async def test_a_page_is_what_it_would_be_if_all_orders_were_read(
    database: Database, connection: asyncpg.Connection, seed: int
) -> None:
    random, reader = Random(seed), PostgresReader(database)
    places = await fill(connection, random)
    found = await reader.summaries([OrderId(place.order_id) for place in places])
    orders = [found[OrderId(place.order_id)] for place in places]

    for span in spans(places, random):
        wanted = [order for order in orders if fits(order, span)]
        limit = random.choice([1, 5, 21, 101])
        assert await reader.oldest(span, limit) == wanted[:limit], span
        assert await reader.newest(span, limit) == wanted[::-1][:limit], span


async def test_where_an_order_stands(database: Database, connection: asyncpg.Connection) -> None:
    places = await fill(connection, Random(1))
    reader = PostgresReader(database)

    assert await reader.place(OrderId("я")) == next(place for place in places if place.order_id == "я")
    assert await reader.place(OrderId("nothing")) is None


async def test_final_orders_are_told_from_pending_ones(
    database: Database, connection: asyncpg.Connection
) -> None:
    places = await fill(connection, Random(1))
    order_ids = [OrderId(place.order_id) for place in places]
    reader = PostgresReader(database)

    final = {order.order_id for order in await reader.final([*order_ids, OrderId("nothing")])}

    found = await reader.summaries(order_ids)
    assert final == {id for id, order in found.items() if order.status is not Status.PENDING}


@pytest.mark.parametrize("plans", ["force_generic_plan", "force_custom_plan"])
@pytest.mark.parametrize("analyzed", ["before", "after"])
async def test_the_work_of_a_page_does_not_grow_with_the_number_of_orders(
    own_dsn: str, plans: str, analyzed: str
) -> None:
    """Also when the newest orders are none of those asked for, and when the planner knows of few orders."""
    middle = Place(NOON + timedelta(seconds=ROWS // 20), "010000")
    kinds = [*itertools.product((None, *Status), (None, "c-1", "c-left", "nobody"), (True, False))]
    session = await asyncpg.connect(own_dsn, server_settings=PLANS_BY_INDEX | {"plan_cache_mode": plans})
    await session.execute("ALTER TABLE orders SET (autovacuum_enabled = off)")
    await session.execute(f"{MANY.replace(str(ROWS), '100')}; ANALYZE orders; {IN_ORDER_OF_SESSION}")
    for number, (status, customer_id, newest_first) in enumerate(kinds):
        sql = page(status, of_customer=customer_id is not None, newest_first=newest_first)
        await session.execute(f"PREPARE page_{number} AS {sql}")
        await explained(session, number, FIRST, LAST, customer_id)
    await session.execute(MANY)
    if analyzed == "after":
        await session.execute("ANALYZE orders")

    for number, kind in enumerate(kinds):
        for above, below in ((FIRST, LAST), (FIRST, middle), (middle, LAST)):
            plan = await explained(session, number, above, below, kind[1])
            assert rows_read(plan) <= 6 * PAGE_ROWS_MAX, (kind, above, below, plan)
    await session.close()


async def explained(
    session: asyncpg.Connection, number: int, above: Place, below: Place, customer_id: str | None
) -> dict[str, Any]:
    given = [*above, *below, PAGE_ROWS_MAX, *([customer_id] if customer_id else [])]
    literals = ", ".join(f"'{each}'" for each in given)
    explain = f"EXPLAIN (ANALYZE, FORMAT JSON) EXECUTE page_{number}({literals})"
    explained: dict[str, Any] = json.loads(await session.fetchval(explain))[0]
    assert "JIT" not in explained, "compiling takes longer than any page"
    plan: dict[str, Any] = explained["Plan"]
    return plan


def rows_read(node: dict[str, Any]) -> int:
    """From tables and indexes, also those that a filter removed."""
    own = 0
    if "Relation Name" in node:
        own = (node["Actual Rows"] + node.get("Rows Removed by Filter", 0)) * node["Actual Loops"]
    return int(own) + sum(rows_read(child) for child in node.get("Plans", ()))


@pytest.mark.parametrize(
    ("sql", "given"), [(FINAL, "'{o-1}'"), (CANCEL, "'o-1', NULL, NULL"), (TAKE_NAMED, "'{o-1}'")]
)
@pytest.mark.parametrize("all_are", ["pending", "done"])
async def test_orders_are_found_by_their_ids_whatever_the_planner_thinks_of_their_statuses(
    own_dsn: str, sql: str, given: str, all_are: str
) -> None:
    settings = PLANS_BY_INDEX | {"plan_cache_mode": "force_generic_plan"}
    session = await asyncpg.connect(own_dsn, server_settings=settings)
    await session.execute(MANY)
    await session.execute(f"UPDATE orders SET status = '{all_are}'")
    await session.execute("VACUUM ANALYZE orders")

    await session.execute(f"PREPARE statement AS {sql}")
    plan = "\n".join(row[0] for row in await session.fetch(f"EXPLAIN EXECUTE statement({given})"))
    await session.close()

    assert "orders_pkey" in plan and "orders_final" not in plan and "orders_pending" not in plan, plan


async def test_orders_that_were_pending_until_just_now_cost_nothing(
    database: Database, connection: asyncpg.Connection
) -> None:
    """Their entries stay in the index until a vacuum: nobody looks at those beyond the page."""
    await connection.execute("VACUUM orders")  # what earlier tests deleted lies in the indexes, too
    await connection.execute(MANY)
    await connection.execute("UPDATE orders SET status = 'done' WHERE status = 'pending'")
    for of_customer, newest_first in itertools.product((False, True), (True, False)):
        sql = page(None, of_customer=of_customer, newest_first=newest_first)
        arguments = [*FIRST, *LAST, 21, *(["c-1"] if of_customer else [])]
        async with database.transaction() as session:
            await session.execute(IN_ORDER_OF_INDEX)
            plan = await session.fetchval(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {sql}", *arguments)
        top = json.loads(plan)[0]["Plan"]
        assert top["Shared Hit Blocks"] + top["Shared Read Blocks"] < 400

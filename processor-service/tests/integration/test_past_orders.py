"""Past orders come newest first, page by page, and a ruleset is rehearsed on ten thousand of them."""

from random import Random

import asyncpg
import msgspec

from processor_service.application.ports import OrderToProcess, PastOrder
from processor_service.application.process_orders import process_orders
from processor_service.application.rehearse import rehearse
from processor_service.consumers.order_created import order_of
from processor_service.domain.order import Item, Order, OrderId
from processor_service.domain.rules import Rule, Ruleset
from processor_service.infrastructure.decided_orders import PostgresDecidedOrders
from processor_service.infrastructure.past_orders import BEFORE, NEWEST, PostgresPastOrders
from processor_service.infrastructure.policies import RulesetPolicy
from service_kit.lifecycle import Wakeup
from service_kit.postgres.database import Database

SKUS = ("laptop", "teapot", "potato", "piano", "mouse")
EVERYTHING = "SELECT md5(string_agg(s::text, ',' ORDER BY order_id)) FROM processing_states s"


def received(order_id: str, sku: str) -> OrderToProcess:
    event = msgspec.json.encode({"order_id": order_id, "items": [{"sku": sku, "quantity": 1, "price": 1.5}]})
    return OrderToProcess(
        key=f"order.created:{order_id}:1",
        order=Order(
            order_id=OrderId(order_id), customer_id=None, items=(Item(sku=sku),), amount=None, version=1
        ),
        attempt=1,
        last_error=None,
        traceparent=None,
        event=event,
        received_at=0.0,
    )


async def decide(database: Database, *items: OrderToProcess) -> None:
    """In one transaction, so all at one moment."""
    orders = PostgresDecidedOrders(database, Wakeup(), Random(1))
    await process_orders(items, RulesetPolicy(Ruleset(), Random(1)), orders)


async def all_pages(past: PostgresPastOrders, limit: int) -> list[PastOrder]:
    found: list[PastOrder] = []
    while page := await past.before(found[-1] if found else None, limit):
        found += page
    return found


async def test_the_newest_come_first_and_each_once_also_those_of_one_moment(database: Database) -> None:
    for batch in range(3):
        await decide(database, *(received(f"o-{batch}{number}", "laptop") for number in range(5)))

    found = await all_pages(PostgresPastOrders(database), 4)

    assert [order.order_id for order in found] == [
        f"o-{batch}{number}" for batch in (2, 1, 0) for number in (4, 3, 2, 1, 0)
    ]


async def test_what_was_decided_on_is_there_with_what_was_decided(database: Database) -> None:
    item = received("o-1", "teapot")
    await decide(database, item)

    [order] = await PostgresPastOrders(database).before(None, 10)

    assert (order.fail_reason, order.rule) == ("Pineapple/teapot embargo", 1)
    assert order.event == item.event
    assert [item.sku for item in order_of(order.event).items] == ["teapot"]


async def test_orders_of_before_events_were_kept_are_left_out(
    database: Database, connection: asyncpg.Connection
) -> None:
    await connection.execute(
        "INSERT INTO processing_states (order_id, version, status, attempt_count)"
        " VALUES ('old', 1, 'done', 1)"
    )

    assert await PostgresPastOrders(database).before(None, 10) == []


async def test_a_page_is_found_by_the_index(database: Database) -> None:
    await decide(database, received("o-1", "laptop"))
    statements = {
        f"PREPARE page (bigint) AS {NEWEST}": "EXECUTE page (500)",
        f"PREPARE page (bigint, timestamptz, text) AS {BEFORE}": "EXECUTE page (500, now(), 'o-1')",
    }

    async with database.connection() as connection:
        for prepare, execute in statements.items():
            await connection.execute(prepare)
            plan = [row[0] for row in await connection.fetch(f"EXPLAIN {execute}")]
            await connection.execute("DEALLOCATE page")
            assert any("processing_states_decided_at" in line for line in plan), plan


async def test_a_ruleset_is_rehearsed_on_ten_thousand_orders_and_nothing_is_written(
    database: Database, connection: asyncpg.Connection
) -> None:
    for start in range(0, 10_000, 500):
        numbers = range(start, start + 500)
        await decide(database, *(received(f"o-{number:05}", SKUS[number % 5]) for number in numbers))
    before = await connection.fetchval(EVERYTHING)
    new = Ruleset(
        [
            Rule(skus=frozenset({"piano"}), fail_reason="Too heavy"),
            Rule(skus=frozenset({"potato"}), fail_reason="Too fatty food"),
        ]
    )

    rehearsal = await rehearse(new, PostgresPastOrders(database), last=10_000, read=order_of)

    assert (rehearsal.orders, rehearsal.unchanged, rehearsal.changed) == (10_000, 6_000, 4_000)
    assert {names: change.count for names, change in rehearsal.changes.items()} == {
        ("done", "failed: Too heavy"): 2_000,
        ("failed: Pineapple/teapot embargo", "done"): 2_000,
    }
    newest = rehearsal.changes["done", "failed: Too heavy"].examples[0]
    assert (newest.order_id, newest.rule, newest.sku) == ("o-09998", 1, "piano")
    assert await connection.fetchval(EVERYTHING) == before

"""The log of orders' changes on PostgreSQL: its readers skip nothing, whatever order commits come in."""

import asyncio
from collections.abc import AsyncIterator
from decimal import Decimal

import asyncpg
import pytest

from order_service.application.ports import CreateOrder
from order_service.domain.event import EventType, OrderEvent
from order_service.domain.order import Item, OrderId, Status, new_order
from order_service.infrastructure.intake import PostgresIntake
from order_service.infrastructure.metrics import OrderMetrics
from order_service.infrastructure.order_log import READ_ROWS_MAX, PostgresOrderLog
from order_service.infrastructure.order_log_cleaner import OrderLogCleaner
from order_service.infrastructure.unit_of_work import OrderUnitOfWork
from service_kit.lifecycle import Wakeup
from service_kit.postgres.database import Database
from service_kit.testing.eventually import eventually

WRITE = "INSERT INTO order_log (type, order_id, version) VALUES ('order.created', $1, 1) RETURNING position"


@pytest.fixture
async def other(dsn: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(dsn)
    yield connection
    connection.terminate()


@pytest.fixture
def log(database: Database) -> PostgresOrderLog:
    return PostgresOrderLog(database)


async def create(database: Database, *order_ids: str) -> None:
    items = [Item(sku="laptop", quantity=1, price=Decimal("9.5"))]
    orders = [new_order(order_id, f"customer of {order_id}", items) for order_id in order_ids]
    commands = [CreateOrder(order=order, traceparent="trace") for order in orders]
    await PostgresIntake(database, Wakeup(), OrderMetrics()).insert_new(commands)


async def events(log: PostgresOrderLog, after: int = 0) -> list[OrderEvent]:
    position, _ = await log.advance()
    found: list[OrderEvent] = []
    while after < position:
        page = await log.read(after, position)
        found += page.events
        after = page.position
    return found


async def complete_up_to(log: PostgresOrderLog, position: int) -> None:
    """Returns when it is: transactions in other databases of the server are waited for as well."""
    async with asyncio.timeout(30):
        while (await log.advance())[0] < position:
            await asyncio.sleep(0.01)


async def test_each_change_is_told_with_the_order_as_it_was_then(
    log: PostgresOrderLog, database: Database
) -> None:
    await create(database, "a", "b")
    async with OrderUnitOfWork(database, Wakeup()) as uow:
        cancelled = await uow.orders.cancel(OrderId("b"), "changed my mind")
        await uow.commit()

    created, _, last = await events(log)

    assert (created.type, created.order.status, created.order.version) == (EventType.CREATED, "pending", 1)
    assert created.order.total_amount == Decimal("9.5")
    assert (last.type, last.order, last.order.updated_at) == (
        EventType.CANCELLED,
        cancelled,
        cancelled and cancelled.updated_at,
    )
    assert last.order.status is Status.CANCELLED


async def test_a_transaction_that_commits_late_is_not_skipped(
    log: PostgresOrderLog, database: Database, connection: asyncpg.Connection
) -> None:
    """Its position was given before one that has been committed, and seen, already."""
    late = connection.transaction()
    await late.start()
    await connection.execute(WRITE, "late")
    await create(database, "early")
    assert await events(log) == []

    await late.commit()

    await create(database, "last")
    await complete_up_to(log, 3)
    found = await events(log)
    assert [event.position for event in found] == [2, 3]  # of the first there is no order, only its entry
    assert await log.advance() == (3, False)


async def test_a_transaction_that_began_after_the_one_that_is_seen_is_waited_for(
    log: PostgresOrderLog, database: Database, connection: asyncpg.Connection, other: asyncpg.Connection
) -> None:
    early, late = connection.transaction(), other.transaction()
    for transaction, its_connection in ((early, connection), (late, other)):
        await transaction.start()
        await its_connection.execute("SELECT pg_current_xact_id()")
    await other.execute(WRITE, "first position")
    await connection.execute(WRITE, "second position")
    await early.commit()
    for _ in range(5):
        assert await log.advance() == (0, False)
    await late.commit()
    await complete_up_to(log, 2)


async def test_a_transaction_that_is_rolled_back_holds_nobody_up(
    log: PostgresOrderLog, database: Database, connection: asyncpg.Connection
) -> None:
    late = connection.transaction()
    await late.start()
    await connection.execute(WRITE, "never")
    await create(database, "a")
    assert await events(log) == []
    await late.rollback()
    await complete_up_to(log, 2)
    assert [event.order.order_id for event in await events(log)] == ["a"]


async def test_a_transaction_that_writes_no_change_holds_nobody_up(
    log: PostgresOrderLog, database: Database, connection: asyncpg.Connection
) -> None:
    async with connection.transaction():
        await connection.execute("UPDATE consuming SET reason = 'a write that goes on for hours'")
        await create(database, "a")
        assert [event.order.order_id for event in await events(log)] == ["a"]


async def test_what_one_process_has_found_out_another_goes_on_from(
    log: PostgresOrderLog, database: Database, connection: asyncpg.Connection
) -> None:
    """Also when nobody could say any more why a position is missing."""
    await create(database, "a")
    await connection.execute("SELECT nextval(pg_get_serial_sequence('order_log', 'position'))")
    await create(database, "b")
    await complete_up_to(log, 3)
    async with connection.transaction():
        await connection.execute("UPDATE consuming SET reason = 'a write that goes on for hours'")
        assert await PostgresOrderLog(database).advance() == (3, False)


SLOW_WRITES = """
CREATE FUNCTION wait_between_position_and_row() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN PERFORM pg_sleep(CASE NEW.order_id WHEN 'slow' THEN 1 ELSE 0 END); RETURN NEW; END $$;
CREATE TRIGGER wait BEFORE INSERT ON order_log FOR EACH ROW EXECUTE FUNCTION wait_between_position_and_row()
"""
POSITION_TAKEN = "SELECT is_called FROM order_log_position_seq"


async def test_a_writer_that_has_a_position_and_no_row_yet_is_waited_for(own_dsn: str) -> None:
    async with Database(own_dsn, application_name="test") as database:
        log = PostgresOrderLog(database)
        async with database.connection() as connection:
            await connection.execute(SLOW_WRITES)
            slow = asyncio.create_task(create(database, "slow"))
            while not await connection.fetchval(POSITION_TAKEN):
                await asyncio.sleep(0.001)
        await create(database, "fast")
        seen, after = list[str](), 0
        while not seen or not slow.done():
            found = await events(log, after)
            seen += [event.order.order_id for event in found]
            after = max([after, *(event.position for event in found)])
        await slow
        seen += [event.order.order_id for event in await events(log, after)]

    assert seen == ["slow", "fast"]


async def test_many_writers_and_readers_at_once_lose_nothing_and_repeat_nothing(
    database: Database, dsn: str
) -> None:
    """Transactions that commit, or do not, in an order of their own, while two processes read."""
    written: set[int] = set()
    writing = True

    async def write(number: int) -> None:
        connection = await asyncpg.connect(dsn)
        for turn in range(40):
            transaction = connection.transaction()
            await transaction.start()
            await connection.execute("SELECT pg_current_xact_id()")  # the product has written an order by now
            positions = [await connection.fetchval(WRITE, f"{number}") for _ in range(1 + turn % 3)]
            await asyncio.sleep(0.001 * ((number * 7 + turn * 5) % 4))
            if (number + turn) % 5:
                await transaction.commit()
                written.update(positions)
            else:
                await transaction.rollback()
        await connection.close()

    async def read() -> list[int]:
        log, seen, after = PostgresOrderLog(database), list[int](), 0
        while True:
            last_turn = not writing
            position, _ = await log.advance()
            async with database.connection() as connection:
                rows = await connection.fetch(
                    "SELECT position FROM order_log WHERE position > $1 AND position <= $2 ORDER BY 1",
                    after,
                    position,
                )
            seen += [row["position"] for row in rows]
            after = position
            if last_turn and len(seen) >= len(written):
                return seen

    readers = [asyncio.create_task(read()) for _ in range(2)]
    await asyncio.gather(*(write(number) for number in range(5)))
    writing = False
    for reader in readers:
        assert await asyncio.wait_for(reader, 20) == sorted(written)


async def test_the_log_is_read_in_pages(log: PostgresOrderLog, database: Database) -> None:
    await create(database, *(f"o-{number}" for number in range(2 * READ_ROWS_MAX + 1)))
    position, _ = await log.advance()
    page = await log.read(0, position)
    assert (len(page.events), page.position) == (READ_ROWS_MAX, READ_ROWS_MAX)
    assert len(await events(log)) == 2 * READ_ROWS_MAX + 1


async def test_old_changes_are_forgotten_unless_they_may_still_be_read(
    log: PostgresOrderLog, database: Database, connection: asyncpg.Connection
) -> None:
    await create(database, "a", "b")
    await log.advance()
    await create(database, "c", "not yet complete")
    await connection.execute("UPDATE order_log SET at = at - interval '8 days' WHERE position <> 2")
    cleaner = OrderLogCleaner(database, retention_days=7)
    cleaner.stop()
    await cleaner.run_once()
    assert await log.kept() == (1, 2)
    await log.advance()
    await cleaner.run_once()
    assert await log.kept() == (4, 4)

    async def is_left() -> bool:
        return [event.position for event in await events(log)] == [2]

    assert await eventually(is_left)

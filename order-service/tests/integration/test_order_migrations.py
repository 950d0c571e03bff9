"""The migrations, by the service itself and by `alembic` as its users call it."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest

from order_service.main import MIGRATIONS
from service_kit.errors import DatabaseUnavailable
from service_kit.testing.eventually import eventually

SERVICE_FOLDER = Path(__file__).parents[2]
TABLES = "SELECT table_name FROM information_schema.tables WHERE table_schema = 'public' ORDER BY 1"


async def alembic(dsn: str, *arguments: str) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "alembic",
        *arguments,
        cwd=SERVICE_FOLDER,
        env={**os.environ, "APP__DB_DSN": dsn},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    assert process.returncode == 0, output.decode()


async def tables(dsn: str) -> list[str]:
    connection = await asyncpg.connect(dsn)
    try:
        return [record["table_name"] for record in await connection.fetch(TABLES)]
    finally:
        await connection.close()


async def test_alembic_migrates_down_to_nothing_and_up_again(own_dsn: str) -> None:
    before = await tables(own_dsn)
    assert {"orders", "outbox", "processed_inbox", "dead_letter_queue"} < set(before)

    await alembic(own_dsn, "downgrade", "base")
    assert await tables(own_dsn) == ["alembic_version"]

    await alembic(own_dsn.replace("postgresql://", "postgresql+asyncpg://"), "upgrade", "head")
    assert await tables(own_dsn) == before


async def test_migrating_again_changes_nothing_also_while_the_tables_are_in_use(
    dsn: str, connection: asyncpg.Connection
) -> None:
    await connection.execute(
        "INSERT INTO orders (order_id, customer_id, items, amount) VALUES ('o-1', 'c', '[]', 1)"
    )

    async with connection.transaction():
        await connection.execute("UPDATE orders SET amount = 2")
        await alembic(dsn, "upgrade", "head")

    assert await connection.fetchval("SELECT amount FROM orders") == 2


async def test_several_that_migrate_an_empty_database_at_once_agree(own_dsn: str) -> None:
    before = await tables(own_dsn)
    await alembic(own_dsn, "downgrade", "base")

    await asyncio.gather(*(MIGRATIONS.upgrade(own_dsn) for _ in range(3)))

    assert await tables(own_dsn) == before


VALID = """
SELECT indexrelid::regclass::text AS name, indisvalid AS valid
FROM pg_index WHERE indrelid = 'orders'::regclass ORDER BY 1
"""
BUILDS = "SELECT count(*) FROM pg_stat_progress_create_index WHERE relid = 'orders'::regclass"
SESSIONS = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
INDEXES = ["orders_final", "orders_of_customer", "orders_pending", "orders_pkey"]
INSERT = "INSERT INTO orders (order_id, customer_id, items, amount) VALUES ($1, 'c', '[]', 1)"


@pytest.fixture
async def before_it(own_dsn: str) -> AsyncIterator[asyncpg.Connection]:
    """A database as the revision before left it, with two orders, and a connection to it."""
    await alembic(own_dsn, "downgrade", "order_0004-1")
    connection = await asyncpg.connect(own_dsn)
    for order_id in ("o-1", "o-2"):
        await connection.execute(INSERT, order_id)
    yield connection
    connection.terminate()


async def is_building(connection: asyncpg.Connection) -> bool:
    return bool(await connection.fetchval(BUILDS))


async def indexes(connection: asyncpg.Connection) -> list[str]:
    records = await connection.fetch(VALID)
    assert all(record["valid"] for record in records)
    return [record["name"] for record in records]


async def test_an_index_that_a_broken_attempt_left_is_built_anew(
    own_dsn: str, before_it: asyncpg.Connection
) -> None:
    with pytest.raises(asyncpg.UniqueViolationError):
        await before_it.execute("CREATE UNIQUE INDEX CONCURRENTLY orders_final ON orders (status)")
    assert {record["valid"] for record in await before_it.fetch(VALID)} == {True, False}

    await MIGRATIONS.upgrade(own_dsn)

    assert await indexes(before_it) == INDEXES


async def test_a_migration_that_broke_off_before_its_end_runs_again(
    own_dsn: str, before_it: asyncpg.Connection
) -> None:
    before = await before_it.fetchval("SELECT version_num FROM alembic_version")
    await MIGRATIONS.upgrade(own_dsn)
    # Of later revisions each is one transaction: nothing of them is there.
    await before_it.execute(
        "DROP TABLE order_log, order_log_head, webhook_cursor, webhook_deliveries, webhook_endpoints"
    )
    await before_it.execute("UPDATE alembic_version SET version_num = $1", before)

    await MIGRATIONS.upgrade(own_dsn)

    assert await indexes(before_it) == INDEXES


async def test_orders_are_written_while_the_indexes_are_built(
    own_dsn: str, before_it: asyncpg.Connection
) -> None:
    """The build waits for a transaction that began before it, and nobody waits for the build."""
    other = await asyncpg.connect(own_dsn)
    transaction = other.transaction()
    await transaction.start()
    await other.execute(INSERT, "in a transaction")
    upgrading = asyncio.create_task(MIGRATIONS.upgrade(own_dsn))
    # The lock for the new columns is not to be had meanwhile: it is given up, and nobody queues up behind it.
    with pytest.raises(DatabaseUnavailable, match="lock timeout"):
        await upgrading
    await before_it.execute(INSERT, "after a lock that was not to be had")
    await transaction.commit()

    transaction = other.transaction(isolation="repeatable_read")
    await transaction.start()
    await other.fetch("SELECT 1")
    upgrading = asyncio.create_task(MIGRATIONS.upgrade(own_dsn))
    await eventually(lambda: is_building(before_it))
    await before_it.execute(INSERT, "while it is built")
    assert await before_it.execute("UPDATE orders SET status = 'done'") == "UPDATE 5"
    await transaction.commit()
    await upgrading
    await other.close()

    assert await indexes(before_it) == INDEXES
    assert await before_it.fetchval("SELECT count(*) FROM orders WHERE status = 'done'") == 5


async def test_several_may_migrate_while_an_index_is_built(
    own_dsn: str, before_it: asyncpg.Connection
) -> None:
    """Those who wait for their turn are nothing that the build would have to wait for."""
    other = await asyncpg.connect(own_dsn)
    transaction = other.transaction(isolation="repeatable_read")
    await transaction.start()
    await other.fetch("SELECT 1")
    ours = asyncio.create_task(MIGRATIONS.upgrade(own_dsn))
    await eventually(lambda: is_building(before_it))
    theirs = asyncio.create_task(alembic(own_dsn, "upgrade", "head"))

    async def another_waits() -> bool:
        return bool(await before_it.fetchval(SESSIONS) == 4)

    await eventually(another_waits)
    await transaction.commit()
    await asyncio.gather(ours, theirs)
    await other.close()

    assert await indexes(before_it) == INDEXES


async def test_a_cancelled_order_survives_the_way_back_as_a_failed_one(
    own_dsn: str, before_it: asyncpg.Connection
) -> None:
    await MIGRATIONS.upgrade(own_dsn)
    cancel = "UPDATE orders SET status = 'cancelled', cancel_reason = $1, version = 2 WHERE order_id = $2"
    await before_it.execute(cancel, "changed my mind", "o-1")
    await before_it.execute(cancel, None, "o-2")

    await alembic(own_dsn, "downgrade", "order_0004-1")

    rows = await before_it.fetch("SELECT order_id, status, fail_reason FROM orders ORDER BY 1")
    assert [tuple(row) for row in rows] == [
        ("o-1", "failed", "changed my mind"),
        ("o-2", "failed", "cancelled"),
    ]

"""The migrations, by the service itself and by `alembic` as its users call it."""

import asyncio
import os
import sys
from pathlib import Path

import asyncpg

from order_service.main import MIGRATIONS

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
